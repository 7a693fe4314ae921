package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/cargokey/authz/authz"
	"github.com/cargokey/authz/jwks"
	"github.com/cargokey/authz/storage/postgres"
)

func (p *program) keyRetire() *cobra.Command {
	var last bool
	c := &cobra.Command{
		Use: "retire KID", Short: "Have a signing key sign no more", Args: oneArgument,
		Long: `Have a signing key sign no more. What it has signed stays good, and the key stays
published for as long as that lives. The next key takes over at once, if one is
published, though who checks signatures may not have read it yet; else it is
refused. --last retires it all the same, once no server
(AUTHZ_SIGNING_ALG) and no resource signs by its algorithm: a server that still does
makes another key at once.`,
		Example: "  authz key retire 4cVJxNKJnJQTbWTqWnyTZC2QrWnP4mVHh1p0cPpqTQw",
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.operate(cmd.Context(), func(ctx context.Context, s *postgres.Store) error {
				v, err := retireKey(ctx, s, args[0], last)
				if err != nil {
					return about("signing key", args[0], err)
				}
				return p.print(v, v.text)
			})
		},
	}
	c.Flags().BoolVar(&last, "last", false, "though no other key of its algorithm takes over")
	return c
}

// retiredKey is what "authz key retire" has done.
type retiredKey struct {
	KID string `json:"retired"`
	// SignsNow is the key that has taken over from it.
	SignsNow string `json:"signs_now,omitempty"`
	// Due is when that one would have signed; none: it was due.
	Due *time.Time `json:"was_due,omitempty"`

	published time.Duration
}

func (v retiredKey) text(w io.Writer) {
	fmt.Fprintln(w, "retired", v.KID)
	if v.SignsNow != "" {
		fmt.Fprintf(w, "%s signs from now on\n", v.SignsNow)
	}
	if v.Due != nil {
		fmt.Fprintf(w, "it came into the JWKS %s ago, and was to sign from %s on: who checks signatures with a JWKS from before does not know it, and refuses its tokens until it reads the JWKS again\n",
			v.published.Round(time.Second), v.Due.Format(time.RFC3339))
	}
}

// retireKey retires a key, and tells who signs in its place.
func retireKey(ctx context.Context, s *postgres.Store, kid string, last bool) (retiredKey, error) {
	_, before, err := signingKeys(ctx, s)
	if err != nil {
		return retiredKey{}, err
	}
	event := operatorEvent(authz.AuditKeyRetired)
	event.Detail = map[string]any{"kid": kid}
	err = s.RetireSigningKey(ctx, kid, last, event)
	switch {
	case errors.Is(err, authz.ErrOnlySigner) && last:
		return retiredKey{}, fmt.Errorf("%w, and a resource has chosen it: see authz resource list", err)
	case errors.Is(err, authz.ErrOnlySigner):
		return retiredKey{}, fmt.Errorf("%w: make one (authz key rotate), or give --last where no server and no resource signs by it any more", err)
	case err != nil:
		return retiredKey{}, err
	}
	_, after, err := signingKeys(ctx, s)
	if err != nil {
		return retiredKey{}, fmt.Errorf("it is retired; reading who signs in its place: %w", err)
	}
	return whoTookOver(kid, before, after, event.At), nil
}

// whoTookOver compares who signed before a key was retired with who signs after.
func whoTookOver(kid string, before, after jwks.Timeline, at time.Time) retiredKey {
	v := retiredKey{KID: kid}
	for _, k := range before.Keys() {
		if signer, ok := before.Signer(k.Algorithm, at); k.KID != kid || !ok || signer.KID != kid {
			continue
		}
		next, ok := after.Signer(k.Algorithm, at)
		if !ok || next.KID == kid {
			break
		}
		v.SignsNow = next.KID
		if at.Before(next.SignsFrom) {
			v.Due, v.published = new(next.SignsFrom.UTC()), at.Sub(next.CreatedAt)
		}
	}
	return v
}
