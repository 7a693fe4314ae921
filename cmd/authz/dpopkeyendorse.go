package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/cargokey/authz/dpopbind"
)

// endorsedKey is what has become of two keys.
type endorsedKey struct {
	ClientID   string     `json:"client_id"`
	JKT        string     `json:"jkt"`
	EndorsedBy string     `json:"endorsed_by"`
	ByEndsAt   *time.Time `json:"endorsed_by_ends_at,omitempty"` // by this machine's clock
}

func (p *program) dpopKeyEndorse() *cobra.Command {
	var r tokenRequest
	var successor string
	var endsIn time.Duration
	c := &cobra.Command{
		Use: "endorse", Short: "Be a client: have its enrolled DPoP key vouch for a new one", Args: cobra.NoArgs,
		Long: `Have the enrolled key in --key vouch for the one in --new, which the server then enrols:
a client that is held to enrolled keys changes its key without an operator. The old key
ends when --expires-in has passed, at once with 0s; without it, it stays.`,
		Example: `  authz dpop-key new next.jwk
  authz dpop-key endorse --issuer https://auth.example.com --client-id label-service \
    --client-secret @/run/secrets/label-service --key label-service.jwk --new next.jwk --expires-in 24h`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if r.clientSecret, err = p.argument(r.clientSecret); err != nil {
				return err
			}
			if !cmd.Flags().Changed("expires-in") {
				endsIn = dpopbind.KeyStays
			} else if endsIn < 0 || endsIn%time.Second != 0 {
				return errors.New("--expires-in: whole seconds, 0s or more")
			}
			return p.endorse(cmd.Context(), r, successor, endsIn)
		},
	}
	r.credentialFlags(c)
	c.Flags().StringVar(&r.keyFile, "key", "", "the DPoP key that is enrolled, a private JWK")
	c.Flags().StringVar(&successor, "new", "", "the one to enrol, a private JWK: authz dpop-key new makes it")
	c.Flags().DurationVar(&endsIn, "expires-in", 0, "when the old key ends, from now: 0s to 2160h; without it, it stays")
	for _, name := range []string{"key", "new"} {
		completeFiles(c, name)
		if err := c.MarkFlagRequired(name); err != nil {
			panic(err) // a flag that is not there: a mistake of this program
		}
	}
	return c
}

func (p *program) endorse(ctx context.Context, r tokenRequest, file string, endsIn time.Duration) error {
	cfg, err := r.credentials(dpopbind.ClientConfig{})
	if err != nil {
		return err
	}
	if cfg.Key, err = readKey(r.keyFile); err != nil {
		return fmt.Errorf("--key: %w", err)
	}
	successor, err := readKey(file)
	if err != nil {
		return fmt.Errorf("--new: %w", err)
	}
	client, err := dpopbind.NewClient(cfg)
	if err != nil {
		return refusal(err)
	}
	v := endorsedKey{ClientID: r.clientID, JKT: successor.JKT(), EndorsedBy: cfg.Key.JKT()}
	until := "which stays"
	if endsIn >= 0 {
		v.ByEndsAt = new(now().Add(endsIn).Truncate(time.Second))
		until = "which ends at " + v.ByEndsAt.Format(time.RFC3339) + " at the latest"
	}
	if err := client.EndorseKey(ctx, successor, endsIn); err != nil {
		return refusal(err)
	}
	return p.print(v, func(w io.Writer) {
		fmt.Fprintf(w, "enrolled %s for %s\nendorsed by %s, %s\n", v.JKT, v.ClientID, v.EndorsedBy, until)
	})
}
