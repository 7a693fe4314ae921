package main

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/cargokey/authz/authz"
	"github.com/cargokey/authz/storage/postgres"
)

// How long the secrets of before stay in force beside a new one.
const (
	defaultOverlap = 24 * time.Hour
	maxOverlap     = 90 * 24 * time.Hour
)

// rotatedView is a secret just made.
type rotatedView struct {
	ID          string    `json:"client_id"`
	Secret      string    `json:"client_secret"`
	Name        string    `json:"credential"`
	OthersEndAt time.Time `json:"others_end_at"`

	atOnce bool
}

func (v rotatedView) text(w io.Writer) {
	fmt.Fprintf(w, "client_id      %s\nclient_secret  %s   (shown this once; it is not stored)\ncredential     %s\nothers end     %s\n",
		v.ID, v.Secret, v.Name, v.OthersEndAt.Format(time.RFC3339))
	if v.atOnce {
		fmt.Fprintf(w, "\nTokens that were got with the secrets of before live on until they expire. To end them now:\n  authz token revoke --client %s --reason 'a secret was stolen'\n", shellQuote(v.ID))
	}
}

func (p *program) clientRotateSecret() *cobra.Command {
	var overlap time.Duration
	var atOnce bool
	c := &cobra.Command{
		Use: "rotate-secret ID", Short: "Give a client a new secret; the ones before end after an overlap, or now", Args: oneArgument,
		Long: `Give a client a new secret, which is in force at once and printed this once. The
secrets it had stay in force for the overlap, so that no request fails while the
client changes over; one that ends earlier still does.

With --now, for a secret that was stolen, they end at once, on every instance,
whatever its clock. Tokens that were got with them stay as they are: see
authz token revoke --client.`,
		Example: `  authz client rotate-secret label-service --overlap 2h
  authz client rotate-secret label-service --now`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if !atOnce && (overlap < time.Second || overlap > maxOverlap) {
				return fmt.Errorf("--overlap is %s; it may be 1s to %s; --now ends the other secrets at once", overlap, maxOverlap)
			}
			return p.operate(cmd.Context(), func(ctx context.Context, s *postgres.Store) error {
				secret, event := authz.NewSecret(), operatorEvent(authz.AuditSecretRotated)
				v := rotatedView{ID: args[0], Secret: secret.Reveal(), Name: secret.Digest().Name(), OthersEndAt: event.At, atOnce: atOnce}
				var end time.Time
				if !atOnce {
					end = event.At.Add(overlap)
					v.OthersEndAt = end
				}
				event.Detail = map[string]any{"credential": v.Name, "others_end_at": v.OthersEndAt, "now": atOnce}
				if err := s.RotateSecret(ctx, args[0], secret.Digest(), end, event); err != nil {
					return about("client", args[0], err)
				}
				return p.print(v, v.text)
			})
		},
	}
	c.Flags().DurationVar(&overlap, "overlap", defaultOverlap, "how long the secrets of before stay in force, such as 30m or 24h")
	c.Flags().BoolVar(&atOnce, "now", false, "end the secrets of before at once, on every instance")
	c.MarkFlagsMutuallyExclusive("overlap", "now")
	return c
}

// secretView is a secret as it is listed: all but itself.
type secretView struct {
	Name      string     `json:"credential"`
	CreatedAt time.Time  `json:"created_at"`
	EndsAt    *time.Time `json:"ends_at,omitempty"`
	State     string     `json:"state"` // in force, ending, ended
}

func viewSecret(s authz.ClientSecret, now time.Time) secretView {
	v := secretView{Name: s.Digest.Name(), CreatedAt: s.CreatedAt, State: "in force"}
	if s.EndsAt.IsZero() {
		return v
	}
	v.EndsAt, v.State = &s.EndsAt, "ending"
	if !s.InForce(now) {
		v.State = "ended"
	}
	return v
}

func (p *program) clientSecrets() *cobra.Command {
	return &cobra.Command{
		Use: "secrets ID", Short: "List a client's secrets by name, with those that ended in the last 90 days", Args: oneArgument,
		Long: `List a client's secrets, the latest first, by name: the beginning of the secret's
SHA-256 digest, which is what the log and the audit trail call it.`,
		Example: "  authz client secrets label-service",
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.operate(cmd.Context(), func(ctx context.Context, s *postgres.Store) error {
				secrets, err := s.ClientSecrets(ctx, args[0])
				if err != nil {
					return about("client", args[0], err)
				}
				views := []secretView{}
				for _, secret := range secrets {
					views = append(views, viewSecret(secret, now()))
				}
				return p.print(views, func(w io.Writer) { secretTable(w, views) })
			})
		},
	}
}

func secretTable(w io.Writer, views []secretView) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "CREDENTIAL\tCREATED\tENDS\tSTATE")
	for _, v := range views {
		ends := "-"
		if v.EndsAt != nil {
			ends = v.EndsAt.Format(time.RFC3339)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", v.Name, v.CreatedAt.Format(time.RFC3339), ends, v.State)
	}
	t.Flush()
}
