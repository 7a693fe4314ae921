package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/cargokey/authz/authz"
	"github.com/cargokey/authz/storage/postgres"
)

// tokenView is a token as the commands print it. The token itself is not known.
type tokenView struct {
	JTI        string     `json:"jti"`
	ClientID   string     `json:"client_id"`
	Resource   string     `json:"resource"`
	Scope      string     `json:"scope"`
	JKT        string     `json:"jkt,omitempty"`
	Credential string     `json:"credential,omitempty"` // what the client authenticated by; none: from before it was kept
	KID        string     `json:"kid,omitempty"`        // by which signing key; none: opaque, or from before it was kept
	IssuedAt   time.Time  `json:"issued_at"`
	ExpiresAt  time.Time  `json:"expires_at"`
	RevokedAt  *time.Time `json:"revoked_at,omitempty"`
	Active     bool       `json:"active"`
}

func viewToken(t *authz.Token) tokenView {
	v := tokenView{
		JTI: t.JTI.String(), ClientID: t.ClientID, Resource: t.Resource, Scope: t.Scope, JKT: t.JKT,
		Credential: t.Credential, KID: t.KID,
		IssuedAt: t.IssuedAt, ExpiresAt: t.ExpiresAt, Active: t.RevokedAt.IsZero() && !t.Ended,
	}
	if !t.RevokedAt.IsZero() {
		v.RevokedAt = &t.RevokedAt
	}
	return v
}

func (p *program) tokenCommand() *cobra.Command {
	return group("token", "Revoke and list tokens", "  authz token list --client label-service",
		p.tokenRevoke(), p.tokenList())
}

func (p *program) tokenList() *cobra.Command {
	var clientID string
	var limit int
	c := &cobra.Command{
		Use: "list --client ID", Short: "List a client's tokens that have not expired", Args: cobra.NoArgs,
		Long: `List a client's tokens that have not expired. CREDENTIAL is what the client authenticated
by, as "authz client secrets" names it; SIGNED BY is a key of "authz key list", and "-"
for an opaque token.`,
		Example: "  authz token list --client label-service --json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if limit < 1 || limit > 10_000 {
				return fmt.Errorf("--limit is %d; it may be 1 to 10000", limit)
			}
			return p.operate(cmd.Context(), func(ctx context.Context, s *postgres.Store) error {
				if _, err := s.Client(ctx, clientID, now()); err != nil {
					return about("client", clientID, err)
				}
				tokens, err := s.Tokens(ctx, clientID, now(), limit)
				if err != nil {
					return err
				}
				views := []tokenView{}
				for _, t := range tokens {
					views = append(views, viewToken(t))
				}
				return p.print(views, func(w io.Writer) { tokenTable(w, views) })
			})
		},
	}
	c.Flags().StringVar(&clientID, "client", "", "the client's ID")
	c.Flags().IntVar(&limit, "limit", 100, "how many at most, the latest first")
	if err := c.MarkFlagRequired("client"); err != nil {
		panic(err) // a flag that is not there: a mistake of this program
	}
	return c
}

func tokenTable(w io.Writer, views []tokenView) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "JTI\tRESOURCE\tSCOPE\tBOUND TO\tCREDENTIAL\tSIGNED BY\tEXPIRES\tSTATE")
	for _, v := range views {
		bound, state := v.JKT, "live"
		if bound == "" {
			bound = "(bearer)"
		}
		switch {
		case v.RevokedAt != nil:
			state = "revoked"
		case !v.Active:
			state = "ended (with its client, resource or key: disabled, deleted or revoked)"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", v.JTI, v.Resource, v.Scope, bound,
			cmp.Or(v.Credential, "-"), cmp.Or(v.KID, "-"), v.ExpiresAt.Format(time.RFC3339), state)
	}
	t.Flush()
}
