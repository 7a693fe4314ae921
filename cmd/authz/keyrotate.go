package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cargokey/authz/authz"
	"github.com/cargokey/authz/jwks"
	"github.com/cargokey/authz/storage/postgres"
)

// rotated is what a rotation has done.
type rotated struct {
	KID       string         `json:"kid"`
	Algorithm jwks.Algorithm `json:"alg"`
	SignsFrom time.Time      `json:"signs_from"`
	Revoked   []string       `json:"revoked"`
}

func (v rotated) text(w io.Writer) {
	fmt.Fprintf(w, "made %s, which signs by %s from %s on\n", v.KID, v.Algorithm, v.SignsFrom.Format(time.RFC3339))
	for _, kid := range v.Revoked {
		fmt.Fprintf(w, "revoked %s: what it signed is inactive\n", kid)
	}
}

func (p *program) keyRotate() *cobra.Command {
	var alg signingAlg
	var atOnce, newSealingKey bool
	c := &cobra.Command{
		Use: "rotate", Short: "Make the next signing key", Args: cobra.NoArgs,
		Long: `Make the next signing key of an algorithm. It is published now and signs once
AUTHZ_KEY_PUBLISH_AHEAD has passed, so that nobody sees a token by a key that is not
known yet. Needs AUTHZ_KEY_ENCRYPTION_KEY, or AUTHZ_PKCS11_MODULE and what belongs to
it, as the servers have them: what is sealed with another key, no server opens, and
so a sealing key that has sealed none of the keys in force is refused.

--now is for a key that may be in other hands: the new one signs at once, and all
others of the algorithm that are published are revoked. What they have signed is
inactive at introspection and at gateway checks when the command returns; who checks
signatures alone believes it until it reads the JWKS again.`,
		Example: "  authz key rotate\n  authz key rotate --alg EdDSA --now",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := readConfig()
			if err != nil {
				return err
			}
			if err := c.validateKeyRotation(); err != nil {
				return err
			}
			maker, end, err := c.keyMaker()
			if err != nil {
				return err
			}
			defer end()
			r := rotation{
				maker: maker, toSeal: c.Pkcs11NewKeys == newKeysSealed,
				algorithm: jwks.Algorithm(c.SigningAlg), ahead: c.KeyPublishAhead, atOnce: atOnce, newSealingKey: newSealingKey,
			}
			if alg != "" {
				r.algorithm = jwks.Algorithm(alg)
			}
			return p.operate(cmd.Context(), func(ctx context.Context, s *postgres.Store) error {
				done, err := r.run(ctx, s)
				if err != nil {
					return err
				}
				return p.print(done, done.text)
			})
		},
	}
	c.Flags().Var(&alg, "alg", "the algorithm: ES256, EdDSA, PS256 or RS256 (default AUTHZ_SIGNING_ALG)")
	c.Flags().BoolVar(&atOnce, "now", false, "have it sign at once, and revoke those before it")
	c.Flags().BoolVar(&newSealingKey, "new-sealing-key", false, "seal it with a key that has sealed none of those in force: every server must have that key already")
	return c
}

// Type is pflag's.
func (signingAlg) Type() string { return "algorithm" }

// String is pflag's.
func (a signingAlg) String() string { return string(a) }

// rotation is what "authz key rotate" is to do.
type rotation struct {
	maker         authz.KeyHolder
	toSeal        bool // also where the key before is in an HSM
	algorithm     jwks.Algorithm
	ahead         time.Duration
	atOnce        bool
	newSealingKey bool
}

func (r rotation) run(ctx context.Context, s *postgres.Store) (rotated, error) {
	stored, timeline, err := signingKeys(ctx, s)
	if err != nil {
		return rotated{}, err
	}
	at := now()
	newest, there := timeline.Newest(r.algorithm)
	signsFrom := at.Add(r.ahead)
	switch {
	case r.atOnce || !there:
		signsFrom = at
	case timeline.State(newest, at) == jwks.Published:
		return rotated{}, fmt.Errorf("key %s is published already, and signs from %s on; where keys are in other hands, give --now",
			newest.KID, newest.SignsFrom.UTC().Format(time.RFC3339))
	}
	if err := r.staysInHSM(stored, newest); err != nil {
		return rotated{}, err
	}
	if err := r.staysSealed(stored, timeline, at); err != nil {
		return rotated{}, err
	}
	typed := operatorEvent(authz.AuditKeyCreated)
	sealed, event, err := authz.MakeSigningKey(r.maker, r.algorithm, at, signsFrom, typed.Actor)
	if err != nil {
		return rotated{}, err
	}
	event.RemoteAddr = typed.RemoteAddr
	done := rotated{sealed.KID, r.algorithm, signsFrom, []string{}}
	var revocations []authz.KeyRevocation
	for _, k := range stored {
		if r.atOnce && k.Algorithm == r.algorithm && timeline.Listed(k.Info, at) {
			done.Revoked = append(done.Revoked, k.KID)
			revocations = append(revocations, revocation(k.KID, "replaced at once by "+sealed.KID))
		}
	}
	err = s.AddSigningKey(ctx, sealed, newest.KID, event, revocations...)
	if err != nil && sealed.Held() {
		err = errors.Join(err, authz.DiscardUnrecorded(ctx, s, r.maker, sealed))
	}
	if err != nil {
		return rotated{}, about("signing keys by", string(r.algorithm), err)
	}
	return done, nil
}

// staysInHSM keeps an operator who has not set the servers' variables from taking
// the keys out of the HSM unawares.
func (r rotation) staysInHSM(stored []jwks.SealedKey, newest jwks.Info) error {
	if _, sealed := r.maker.(*jwks.Sealer); !sealed || r.toSeal {
		return nil
	}
	for _, k := range stored {
		if k.KID == newest.KID && k.Held() {
			return fmt.Errorf("key %s is in %s, and the next one would not be: set AUTHZ_PKCS11_MODULE, AUTHZ_PKCS11_TOKEN and AUTHZ_PKCS11_PIN, or AUTHZ_PKCS11_NEW_KEYS=sealed",
				k.KID, k.SealedBy)
		}
	}
	return nil
}

// staysSealed keeps an operator from sealing a key with what the servers do not
// have: none would open it, and with --now none would have another one to sign by.
func (r rotation) staysSealed(stored []jwks.SealedKey, timeline jwks.Timeline, at time.Time) error {
	sealer, ok := r.maker.(*jwks.Sealer)
	if !ok || r.newSealingKey {
		return nil
	}
	var others []string
	for _, k := range stored {
		switch {
		case k.Held() || !timeline.Listed(k.Info, at):
			continue
		case k.SealedBy == sealer.ID():
			return nil
		case !slices.Contains(others, k.SealedBy):
			others = append(others, k.SealedBy)
		}
	}
	if len(others) == 0 {
		return nil
	}
	return fmt.Errorf("AUTHZ_KEY_ENCRYPTION_KEY is %s, and the signing keys in force are sealed by %s: give it as the servers have it; to change it, see authz key reseal; where every server has this one already, give --new-sealing-key",
		sealer.ID(), strings.Join(others, ", "))
}
