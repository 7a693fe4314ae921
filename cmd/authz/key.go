package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/cargokey/authz/authz"
	"github.com/cargokey/authz/jwks"
	"github.com/cargokey/authz/storage/postgres"
)

// keyView is a signing key as the commands print it.
type keyView struct {
	KID        string         `json:"kid"`
	Algorithm  jwks.Algorithm `json:"alg"`
	State      jwks.State     `json:"state"`
	CreatedAt  time.Time      `json:"created_at"`
	SignsFrom  *time.Time     `json:"signs_from,omitempty"`  // none: it was ended before it signed
	SignsUntil *time.Time     `json:"signs_until,omitempty"` // none: until another takes over
	RetiredAt  *time.Time     `json:"retired_at,omitempty"`
	RevokedAt  *time.Time     `json:"revoked_at,omitempty"`
	SealedBy   string         `json:"sealed_by"`
}

func (p *program) keyCommand() *cobra.Command {
	return group("key", "List, rotate and revoke the server's signing keys", "  authz key list",
		p.keyList(), p.keyRotate(), p.keyRetire(), p.keyRevoke(), p.keyReseal(), p.keyDestroy())
}

// signingKeys are all keys and their timeline.
func signingKeys(ctx context.Context, s *postgres.Store) ([]jwks.SealedKey, jwks.Timeline, error) {
	stored, err := s.SigningKeys(ctx)
	if err != nil {
		return nil, jwks.Timeline{}, err
	}
	var infos []jwks.Info
	for _, k := range stored {
		infos = append(infos, k.Info)
	}
	return stored, jwks.NewTimeline(infos), nil
}

func viewKeys(stored []jwks.SealedKey, timeline jwks.Timeline, now time.Time) []keyView {
	moment := func(t time.Time) *time.Time {
		if t.IsZero() {
			return nil
		}
		return new(t.UTC())
	}
	views := []keyView{}
	for _, k := range stored {
		from, signs := timeline.Began(k.Info)
		until := timeline.SignsUntil(k.Info)
		if !k.RevokedAt.IsZero() && (until.IsZero() || k.RevokedAt.Before(until)) {
			until = k.RevokedAt
		}
		if !signs {
			from, until = time.Time{}, time.Time{}
		}
		state := timeline.State(k.Info, now)
		// Where those before it were ended, it signs though its time is to come.
		if signer, ok := timeline.Signer(k.Algorithm, now); ok && signer.KID == k.KID {
			state = jwks.Signing
		}
		views = append(views, keyView{
			KID: k.KID, Algorithm: k.Algorithm, State: state,
			CreatedAt: k.CreatedAt.UTC(), SignsFrom: moment(from), SignsUntil: moment(until),
			RetiredAt: moment(k.RetiredAt), RevokedAt: moment(k.RevokedAt), SealedBy: k.SealedBy,
		})
	}
	return views
}

func (p *program) keyList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the signing keys, in the order that they sign in", Args: cobra.NoArgs,
		Long: `List the signing keys and where each is in its life: published (in the JWKS, not yet
signing), signing, retired (in the JWKS for as long as what it signed lives), removed,
or revoked. One that was called off before it signed anything is retired too, and
signs from never. SEALED BY says where the private key is: sealed in the database, by
the key encryption key of this digest, or in the HSM of this pkcs11: URI.`,
		Example: "  authz key list --json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.operate(cmd.Context(), func(ctx context.Context, s *postgres.Store) error {
				stored, timeline, err := signingKeys(ctx, s)
				if err != nil {
					return err
				}
				views := viewKeys(stored, timeline, now())
				return p.print(views, func(w io.Writer) { keyTable(w, views) })
			})
		},
	}
}

func keyTable(w io.Writer, views []keyView) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "KID\tALG\tSTATE\tSIGNS FROM\tSIGNS UNTIL\tSEALED BY")
	for _, v := range views {
		from, until := "never", "-"
		if v.SignsFrom != nil {
			from = v.SignsFrom.Format(time.RFC3339)
		}
		if v.SignsUntil != nil {
			until = v.SignsUntil.Format(time.RFC3339)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", v.KID, v.Algorithm, v.State, from, until, v.SealedBy)
	}
	t.Flush()
}

// revocation is an operator's revocation of a signing key.
func revocation(kid, reason string) authz.KeyRevocation {
	event := operatorEvent(authz.AuditKeyRevoked)
	event.Detail = map[string]any{"kid": kid}
	if reason != "" {
		event.Detail["reason"] = reason
	}
	return authz.KeyRevocation{KID: kid, Event: event}
}

func (p *program) keyRevoke() *cobra.Command {
	var reason string
	c := &cobra.Command{
		Use: "revoke KID --reason TEXT", Short: "Make all that a signing key has signed inactive, at once", Args: oneArgument,
		Long: `Revoke a signing key: it signs no more, leaves the JWKS, and its tokens are inactive on
every instance. Where no other key of its algorithm takes over, the servers make one
that signs at once; "authz key rotate --now" does both in one step.`,
		Example: "  authz key revoke 4cVJxNKJnJQTbWTqWnyTZC2QrWnP4mVHh1p0cPpqTQw --reason 'incident 17'",
		RunE: func(cmd *cobra.Command, args []string) error {
			if strings.TrimSpace(reason) == "" {
				return fmt.Errorf("--reason is empty; say why, for those who read the audit trail")
			}
			return p.operate(cmd.Context(), func(ctx context.Context, s *postgres.Store) error {
				r := revocation(args[0], reason)
				if err := s.RevokeSigningKey(ctx, r.KID, r.Event); err != nil {
					return about("signing key", args[0], err)
				}
				return p.print(map[string]string{"revoked": args[0]}, func(w io.Writer) { fmt.Fprintln(w, "revoked", args[0]) })
			})
		},
	}
	c.Flags().StringVar(&reason, "reason", "", "why, for the audit trail")
	if err := c.MarkFlagRequired("reason"); err != nil {
		panic(err) // a flag that is not there: a mistake of this program
	}
	return c
}

// resealed is what "authz key reseal" has done.
type resealed struct {
	SealedBy string   `json:"sealed_by"`
	Resealed []string `json:"resealed"`
	Left     []string `json:"left"` // over, and sealed with a key that is not here
}

func (v resealed) text(w io.Writer) {
	fmt.Fprintf(w, "sealed by %s: %d signing keys anew\n", v.SealedBy, len(v.Resealed))
	for _, kid := range v.Left {
		fmt.Fprintf(w, "left %s, which is over, and does not open\n", kid)
	}
}

func (p *program) keyReseal() *cobra.Command {
	return &cobra.Command{
		Use: "reseal", Short: "Seal all signing keys with the first key encryption key", Args: cobra.NoArgs,
		Long: `Seal all signing keys, but for those in an HSM, with the first key of
AUTHZ_KEY_ENCRYPTION_KEY. Give the new key first and the old one after it, here and to
every server, before; take the old one away after. Either all keys are sealed anew or
none is.`,
		Example: "  AUTHZ_KEY_ENCRYPTION_KEY=NEW,OLD authz key reseal",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := readConfig()
			if err != nil {
				return err
			}
			sealer, err := c.sealer()
			if err != nil {
				return err
			}
			return p.operate(cmd.Context(), func(ctx context.Context, s *postgres.Store) error {
				done, err := reseal(ctx, s, sealer)
				if err != nil {
					return err
				}
				return p.print(done, done.text)
			})
		},
	}
}

func reseal(ctx context.Context, s *postgres.Store, sealer *jwks.Sealer) (resealed, error) {
	stored, timeline, err := signingKeys(ctx, s)
	if err != nil {
		return resealed{}, err
	}
	done := resealed{sealer.ID(), []string{}, []string{}}
	var anew []jwks.SealedKey
	for _, k := range stored {
		if k.Held() || k.SealedBy == sealer.ID() {
			continue
		}
		key, err := sealer.Open(k)
		if err != nil && timeline.Listed(k.Info, now()) {
			return resealed{}, fmt.Errorf("AUTHZ_KEY_ENCRYPTION_KEY does not open every signing key: %w", err)
		}
		if err != nil {
			done.Left = append(done.Left, k.KID)
			continue
		}
		sealed, err := sealer.Seal(key)
		if err != nil {
			return resealed{}, err
		}
		anew, done.Resealed = append(anew, sealed), append(done.Resealed, k.KID)
	}
	if len(anew) == 0 {
		return done, nil
	}
	event := operatorEvent(authz.AuditKeysResealed)
	event.Detail = map[string]any{"kids": slices.Clone(done.Resealed), "sealed_by": sealer.ID()}
	return done, s.ResealSigningKeys(ctx, anew, event)
}
