package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cargokey/authz/authz"
	"github.com/cargokey/authz/storage/postgres"
)

// revocationFlags say which tokens to revoke where it is not a single one.
type revocationFlags struct {
	client, jkt, resource, signingKey string
	reason                            string
}

func (p *program) tokenRevoke() *cobra.Command {
	var f revocationFlags
	c := &cobra.Command{
		Use: "revoke [TOKEN_OR_JTI]", Short: "Make tokens inactive, on every instance at once", Args: cobra.MaximumNArgs(1),
		Long: `Make tokens inactive, on every instance at once, for good: one by the token itself
or by its jti ("-" reads it from standard input, which keeps it out of the shell's
history and the list of processes); or all of a client, of a resource, of a DPoP key
or of a signing key, however many there are.

A client and a resource stay registered, and get new tokens. A key that is revoked
never gets any again. What takes many tokens away wants a --reason, for those who
read the audit trail.`,
		Example: `  authz token revoke 0193b0c4-5a4e-7c3a-8f6e-2d1f0a9b8c7d
  authz token revoke --client label-service --reason "secret in a build log"
  authz token revoke --jkt 0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I --reason "laptop stolen"`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.validate(args); err != nil {
				return err
			}
			if len(args) == 0 {
				return p.revokeMany(cmd.Context(), f)
			}
			text, err := p.argument(args[0])
			if err != nil {
				return err
			}
			return p.operate(cmd.Context(), func(ctx context.Context, s *postgres.Store) error {
				t, err := revokeToken(ctx, s, text, f.event(authz.AuditTokenRevoked))
				if err != nil {
					// What was given may be a token: it is not repeated.
					return about("a token that has not expired", "with this value or jti", err)
				}
				v := viewToken(t)
				return p.print(v, func(w io.Writer) { fmt.Fprintf(w, "revoked %s of client %s\n", v.JTI, v.ClientID) })
			})
		},
	}
	c.Flags().StringVar(&f.client, "client", "", "ID: all tokens of this client")
	c.Flags().StringVar(&f.jkt, "jkt", "", "THUMBPRINT: all tokens that are bound to this DPoP key, whoever's they are; and the key itself")
	c.Flags().StringVar(&f.resource, "resource", "", "URI: all tokens for this resource")
	c.Flags().StringVar(&f.signingKey, "signing-key", "", "KID: all tokens that this key of the server has signed; and the key itself")
	c.Flags().StringVar(&f.reason, "reason", "", "why, for the audit trail; needed for all but a single token")
	return c
}

func (f *revocationFlags) validate(args []string) error {
	given := len(args)
	for _, target := range []string{f.client, f.jkt, f.resource, f.signingKey} {
		if target != "" {
			given++
		}
	}
	switch {
	case given != 1:
		return errors.New("say what to revoke by one of: a token or its jti, --client, --jkt, --resource, --signing-key")
	case f.jkt != "" && !authz.ValidJKT(f.jkt):
		return notAThumbprint(f.jkt)
	case len(args) == 0 || f.reason != "":
		return validReason(f.reason)
	}
	return nil
}

func (f *revocationFlags) event(kind authz.AuditKind) authz.AuditEvent {
	e := operatorEvent(kind)
	if f.reason != "" {
		e.Detail = map[string]any{"reason": f.reason}
	}
	return e
}

func revokeToken(ctx context.Context, s *postgres.Store, text string, event authz.AuditEvent) (*authz.Token, error) {
	if jti, err := authz.ParseJTI(text); err == nil {
		return s.RevokeTokenByJTI(ctx, jti, event)
	}
	return s.RevokeToken(ctx, authz.DigestOf(text), authz.Caller{}, event)
}

// revokeMany revokes what carries one name.
func (p *program) revokeMany(ctx context.Context, f revocationFlags) error {
	return p.operate(ctx, func(ctx context.Context, s *postgres.Store) error {
		var what, name string
		var err error
		switch {
		case f.client != "":
			what, name = "client", f.client
			err = s.RevokeClientTokens(ctx, f.client, f.event(authz.AuditClientRevoked))
		case f.resource != "":
			what, name = "resource", f.resource
			err = s.RevokeResourceTokens(ctx, f.resource, f.event(authz.AuditResourceRevoked))
		case f.jkt != "":
			what, name = "jkt", f.jkt
			err = s.RevokeDPoPKey(ctx, f.jkt, f.event(authz.AuditDPoPKeyRevoked))
		default:
			what, name = "signing_key", f.signingKey
			err = s.RevokeSigningKey(ctx, f.signingKey, revocation(f.signingKey, f.reason).Event)
		}
		if err != nil {
			return about(strings.ReplaceAll(what, "_", " "), name, err)
		}
		return p.print(map[string]string{"revoked": what, what: name}, func(w io.Writer) {
			fmt.Fprintf(w, "revoked all tokens of %s %s\n", strings.ReplaceAll(what, "_", " "), name)
			if f.jkt != "" {
				fmt.Fprintln(w, "and the key itself, for good: no client gets a token for it any more, and none can enrol it; its clients need another key")
			}
		})
	})
}
