package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"github.com/cargokey/authz/authz"
	"github.com/cargokey/authz/jwks"
	"github.com/cargokey/authz/storage/postgres"
)

func (p *program) keyDestroy() *cobra.Command {
	return &cobra.Command{
		Use: "destroy KID", Short: "Destroy, in the HSM, a signing key that is over", Args: oneArgument,
		Long: `Destroy the private key of a signing key in the HSM, for good. The key must be removed
or revoked: one that is in the JWKS is needed by each server that starts. Nothing else
destroys keys that were in use: what is over stays in the HSM until it is told to go.
Needs AUTHZ_PKCS11_MODULE, AUTHZ_PKCS11_TOKEN and AUTHZ_PKCS11_PIN.`,
		Example: "  authz key destroy 4cVJxNKJnJQTbWTqWnyTZC2QrWnP4mVHh1p0cPpqTQw",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := readConfig()
			if err != nil {
				return err
			}
			return p.operate(cmd.Context(), func(ctx context.Context, s *postgres.Store) error {
				if err := c.destroyKey(ctx, s, args[0]); err != nil {
					return about("signing key", args[0], err)
				}
				return p.print(map[string]string{"destroyed": args[0]}, func(w io.Writer) { fmt.Fprintln(w, "destroyed", args[0]) })
			})
		},
	}
}

func (c *config) destroyKey(ctx context.Context, s *postgres.Store, kid string) error {
	stored, timeline, err := signingKeys(ctx, s)
	if err != nil {
		return err
	}
	n := slices.IndexFunc(stored, func(k jwks.SealedKey) bool { return k.KID == kid })
	switch {
	case n < 0:
		return authz.ErrNotFound
	case !stored[n].Held():
		return errors.New("is sealed in the database, and in no HSM")
	case timeline.Listed(stored[n].Info, now()):
		return fmt.Errorf("is %s; revoke it, or wait until it is removed", timeline.State(stored[n].Info, now()))
	}
	h, err := c.openHSM()
	if err != nil {
		return err
	}
	if h == nil {
		return errors.New("is in " + stored[n].SealedBy + ": set AUTHZ_PKCS11_MODULE, AUTHZ_PKCS11_TOKEN and AUTHZ_PKCS11_PIN")
	}
	defer h.Close()
	// Before it is done: what is destroyed is not to be found out otherwise.
	event := operatorEvent(authz.AuditKeyDestroyed)
	event.Detail = map[string]any{"kid": kid, "sealed_by": stored[n].SealedBy}
	if err := s.RecordEvents(ctx, []authz.AuditEvent{event}); err != nil {
		return err
	}
	return h.Destroy(kid)
}
