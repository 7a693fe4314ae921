package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/cargokey/authz/authz"
	"github.com/cargokey/authz/storage/postgres"
)

func (p *program) clientUpdate() *cobra.Command {
	var policy string
	var keys keyFlags
	var certificate tlsFlags
	c := &cobra.Command{
		Use: "update ID", Args: oneArgument,
		Short: "Change what a client authenticates by, or which keys it may have tokens for",
		Long: `Change one of three things; it holds for the next token on. Tokens that there are live
on: authz token revoke --client ends them.

--dpop-keys: which DPoP keys it may have tokens for: any that it proves; those that are
enrolled; or, first-use, those and the first that it proves.

--jwks or --jwks-uri: the public keys that it authenticates by. To rotate one, register
the old and the new together, and the new alone once the client signs with it.

--tls-san-dns and the like, --certificate-bound: the name in its certificate, where it
authenticates by tls_client_auth, and whether its tokens are bound to its certificate.
A certificate with the name before is refused from then on.`,
		Example: `  authz client update label-service --dpop-keys enrolled
  authz client update rate-service --jwks rate-service.public.jwks
  authz client update tracking --tls-san-dns tracking-2.example.com --certificate-bound`,
		RunE: func(cmd *cobra.Command, args []string) error {
			switch changed := cmd.Flags().Changed; {
			case changed("dpop-keys"):
				return p.replacePolicy(cmd.Context(), args[0], authz.DPoPKeyPolicy(policy))
			case changed("jwks"), changed("jwks-uri"):
				return p.replaceKeys(cmd.Context(), args[0], keys)
			default:
				return p.replaceCertificate(cmd, args[0], certificate)
			}
		},
	}
	c.Flags().StringVar(&policy, "dpop-keys", "", "any, enrolled or first-use")
	complete(c, "dpop-keys", authz.DPoPKeyPolicies())
	keys.flags(c)
	certificate.flags(c)
	c.MarkFlagsOneRequired(append([]string{"dpop-keys", "jwks", "jwks-uri"}, certificateFlags...)...)
	for _, flag := range append([]string{"jwks", "jwks-uri"}, certificateFlags...) {
		c.MarkFlagsMutuallyExclusive("dpop-keys", flag)
	}
	for _, flag := range certificateFlags {
		c.MarkFlagsMutuallyExclusive("jwks", flag)
		c.MarkFlagsMutuallyExclusive("jwks-uri", flag)
	}
	return c
}

func (p *program) replacePolicy(ctx context.Context, id string, policy authz.DPoPKeyPolicy) error {
	if err := policy.Validate(); err != nil {
		return fmt.Errorf("--dpop-keys: %w", err)
	}
	return p.operate(ctx, func(ctx context.Context, s *postgres.Store) error {
		event := operatorEvent(authz.AuditClientUpdated)
		event.Detail = map[string]any{"dpop_keys": policy}
		if err := s.SetDPoPKeyPolicy(ctx, id, policy, event); err != nil {
			return about("client", id, err)
		}
		return p.print(map[string]any{"client_id": id, "dpop_keys": policy}, func(w io.Writer) {
			fmt.Fprintf(w, "updated %s: DPoP keys %s\n", id, policy)
		})
	})
}

// replaceCertificate is "authz client update" with any of certificateFlags.
func (p *program) replaceCertificate(cmd *cobra.Command, id string, f tlsFlags) error {
	return p.operate(cmd.Context(), func(ctx context.Context, s *postgres.Store) error {
		c, err := s.Client(ctx, id, now())
		if err != nil {
			return about("client", id, err)
		}
		from, before := c.CertificateTerms(), viewTLS(c)
		if err := c.ReplaceCertificateTerms(f.change(cmd, from)); err != nil {
			return err
		}
		event := operatorEvent(authz.AuditClientUpdated)
		event.Detail = map[string]any{"from": before, "to": viewTLS(c)}
		if err := s.SetClientCertificate(ctx, id, from, c.CertificateTerms(), event); err != nil {
			return about("client", id, err)
		}
		v := viewClient(c)
		if err := p.print(v, func(w io.Writer) {
			fmt.Fprintf(w, "updated %s\ntokens         %s\n", id, tokensOf(v))
			v.tlsView.text(w)
		}); err != nil {
			return err
		}
		p.warnUnbindable(c)
		return nil
	})
}
