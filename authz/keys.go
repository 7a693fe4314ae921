package authz

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/cargokey/authz/jwks"
)

// keysAge is how often an instance looks for keys that another one has made.
const keysAge = 30 * time.Second

// jwksMaxAge is how long, in seconds, others may keep the JWKS.
const jwksMaxAge = "300"

// keyring is the server's signing keys: the last set that was read whole.
type keyring struct {
	store  Store
	sealer *jwks.Sealer
	now    func() time.Time
	set    atomic.Pointer[jwks.Set]
}

func (k *keyring) current() *jwks.Set { return k.set.Load() }

// load reads the keys. Where one cannot be opened it fails and the set stays
// as it was.
func (k *keyring) load(ctx context.Context) error {
	stored, err := k.store.SigningKeys(ctx)
	if err != nil {
		return fmt.Errorf("reading the signing keys: %w", err)
	}
	keys := make([]*jwks.Key, 0, len(stored))
	for _, sealed := range stored {
		key, err := k.sealer.Open(sealed)
		if err != nil {
			return fmt.Errorf("opening the signing keys: %w", err)
		}
		keys = append(keys, key)
	}
	set, err := jwks.NewSet(keys)
	if err != nil {
		return fmt.Errorf("reading the signing keys: %w", err)
	}
	k.set.Store(set)
	return nil
}

// ensureFirst makes the first signing key where there is none. Several
// instances that start at once end up with one key.
func (k *keyring) ensureFirst(ctx context.Context) error {
	stored, err := k.store.SigningKeys(ctx)
	if err != nil {
		return fmt.Errorf("reading the signing keys: %w", err)
	}
	if len(stored) > 0 {
		return nil
	}
	now := k.now()
	key, err := jwks.Generate(now, now)
	if err != nil {
		return err
	}
	sealed, err := k.sealer.Seal(key)
	if err != nil {
		return err
	}
	event := NewAuditEvent(now, AuditKeyCreated, ActorServer)
	event.Detail = map[string]any{"kid": sealed.KID, "alg": sealed.Algorithm}
	if err := k.store.AddFirstSigningKey(ctx, sealed, event); err != nil {
		return fmt.Errorf("storing the first signing key: %w", err)
	}
	return nil
}

// jwks answers GET /.well-known/jwks.json (RFC 7517 §5), public keys only.
func (s *Server) jwks(w http.ResponseWriter, r *http.Request, _ *event) error {
	if err := readOnly(w, r); err != nil {
		return err
	}
	set := s.keys.current()
	if set == nil {
		return errUnavailable("publishing the keys", errors.New("no keys are loaded"))
	}
	document, etag := set.Published()
	h := w.Header()
	h.Set("Cache-Control", "public, max-age="+jwksMaxAge)
	h.Set("ETag", etag)
	if matchesETag(r.Header.Values("If-None-Match"), etag) {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	h.Set("Content-Type", "application/jwk-set+json") // RFC 7517 §8.5.1
	w.Write(document)
	return nil
}

// matchesETag is RFC 9110 §13.1.2, by weak comparison.
func matchesETag(headers []string, etag string) bool {
	for _, header := range headers {
		for candidate := range strings.SplitSeq(header, ",") {
			candidate = strings.TrimPrefix(strings.TrimSpace(candidate), "W/")
			if candidate == etag || candidate == "*" {
				return true
			}
		}
	}
	return false
}
