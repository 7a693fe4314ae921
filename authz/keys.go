package authz

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cargokey/authz/jwks"
)

const (
	// keysAge is how often an instance looks for keys that were made or ended
	// elsewhere.
	keysAge = 5 * time.Second
	// listedAge is how old what the JWKS says may be: a flood of requests for it
	// is not one on the database.
	listedAge = time.Second
	// listingTimeout bounds how long a request for the JWKS waits for it.
	listingTimeout = time.Second
)

// jwksMaxAge is how long, in seconds, others may keep the JWKS.
const jwksMaxAge = "300"

// keyring is the server's signing keys, as they were read last.
type keyring struct {
	store     Store
	holders   keyHolders
	now       func() time.Time
	algorithm jwks.Algorithm // of all that no resource has chosen for
	profile   Profile
	rotation  time.Duration // 0: off
	ahead     time.Duration // from a key's making to its signing
	metrics   *Metrics
	read      atomic.Pointer[keysRead]
	inUse     atomic.Pointer[[]jwks.Algorithm] // as they were read last
	probe     keyProbe

	mu     sync.Mutex // held while keys are read or made
	opened map[string]openedKey
}

// keysRead is what was read, and when. It is not changed.
type keysRead struct {
	set *jwks.Set
	at  time.Time
}

// openedKey is a key and what it was opened from.
type openedKey struct {
	sealed []byte
	key    *jwks.Key
}

// current is nil until keys were read for the first time.
func (k *keyring) current() *jwks.Set {
	if read := k.read.Load(); read != nil {
		return read.set
	}
	return nil
}

// sign makes a token of a type by the algorithm, "" for the default, and names
// the key. Where there is none, it is made: the last one was revoked, or a
// resource has just chosen another algorithm.
func (k *keyring) sign(ctx context.Context, now time.Time, a jwks.Algorithm, typ string, payload []byte) (token, kid string, err error) {
	if a == "" {
		a = k.algorithm
	}
	set := k.current()
	token, kid, err = set.Sign(now, a, typ, payload)
	if err == nil {
		return token, kid, nil
	}
	if !errors.Is(err, jwks.ErrNoSigner) {
		return "", "", errUnavailable("signing", err) // a device that is away
	}
	if err := k.renew(ctx, func(now *jwks.Set) bool { return now == set }); err != nil {
		return "", "", errUnavailable("making a signing key", err)
	}
	if token, kid, err = k.current().Sign(now, a, typ, payload); err != nil {
		return "", "", errUnavailable("signing", err)
	}
	return token, kid, nil
}

// look reads the keys, and makes those that are due.
func (k *keyring) look(ctx context.Context) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.lookLocked(ctx)
}

func (k *keyring) lookLocked(ctx context.Context) error {
	unopened := k.load(ctx)
	made, err := k.makeDue(ctx)
	if made {
		unopened = k.load(ctx)
	}
	k.measure()
	return errors.Join(unopened, err, k.gaps())
}

// gaps tells which keys that sign, or are to, this instance does not have. It
// tells so from the moment that it sees them, hours before their time.
func (k *keyring) gaps() error {
	set := k.current()
	if set == nil {
		return nil // which load tells
	}
	var gaps []error
	for _, a := range k.algorithmsInUse() {
		if at, ok := set.Gap(a, k.now()); ok {
			gaps = append(gaps, fmt.Errorf("from %s on this instance does not have the key that signs by %s", at.UTC().Format(time.RFC3339), a))
		}
	}
	k.metrics.keys.gaps.Set(float64(len(gaps)))
	return errors.Join(gaps...)
}

// lacks tells whether other instances sign with a key that this one does not have:
// it does not publish it either.
func (k *keyring) lacks() bool {
	set := k.current()
	return slices.ContainsFunc(k.algorithmsInUse(), func(a jwks.Algorithm) bool { return set.Lacks(a, k.now()) })
}

func (k *keyring) algorithmsInUse() []jwks.Algorithm {
	if read := k.inUse.Load(); read != nil {
		return *read
	}
	return []jwks.Algorithm{k.algorithm}
}

// renew is look for a request that found the keys stale. Of several at once one
// looks.
func (k *keyring) renew(ctx context.Context, stale func(*jwks.Set) bool) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !stale(k.current()) {
		return nil
	}
	return k.lookLocked(ctx)
}

// trusts tells of a set in which a key, which is revoked, is not.
func trusts(kid string) func(*jwks.Set) bool {
	return func(s *jwks.Set) bool { return s.Trusts(kid) }
}

// load reads the keys. One that cannot be opened is reported: an instance that lacks
// its sealing key goes on with those that it has, for as long as that is safe.
func (k *keyring) load(ctx context.Context) error {
	now := k.now()
	stored, err := k.store.SigningKeys(ctx)
	if err != nil {
		return fmt.Errorf("reading the signing keys: %w", err)
	}
	timeline := timelineOf(stored)
	var (
		keys     []*jwks.Key
		others   []jwks.Info
		unopened []error
		opened   = map[string]openedKey{}
	)
	for _, sealed := range stored {
		if !timeline.Listed(sealed.Info, now) {
			others = append(others, sealed.Info)
			continue
		}
		o, err := k.open(sealed)
		if err != nil {
			unopened = append(unopened, err)
		}
		if o.key == nil {
			others = append(others, sealed.Info)
			continue
		}
		keys = append(keys, o.key.Ending(sealed.Info))
		opened[sealed.KID] = o
	}
	k.opened = opened
	k.metrics.keys.unopened.Set(float64(len(unopened)))
	set, err := jwks.NewSet(keys, others...)
	if err != nil {
		return errors.Join(append(unopened, fmt.Errorf("reading the signing keys: %w", err))...)
	}
	k.read.Store(&keysRead{set, now})
	if len(unopened) > 0 {
		return fmt.Errorf("opening the signing keys: %w", errors.Join(unopened...))
	}
	return nil
}

// open opens a key, once for as long as it stays as it is stored. Where what is
// stored does not open, and the key is open already, it stays so.
func (k *keyring) open(sealed jwks.SealedKey) (openedKey, error) {
	before := k.opened[sealed.KID]
	if before.key != nil && bytes.Equal(before.sealed, sealed.Sealed) {
		return before, nil
	}
	key, err := k.holders.open(sealed)
	if err != nil {
		return before, err
	}
	return openedKey{sealed.Sealed, key}, nil
}

// start is look for a server that begins: it refuses where the key that signs
// now does not open, and tells what else does not.
func (k *keyring) start(ctx context.Context) (unopened error, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	_, due := k.makeDue(ctx)
	if due != nil && !errors.Is(due, errDatabaseClock) { // which upkeep goes on telling
		return nil, due
	}
	unopened = k.load(ctx)
	set := k.current()
	if set == nil {
		return nil, errors.Join(due, unopened)
	}
	k.measure()
	stored, err := k.store.SigningKeys(ctx)
	if err != nil {
		return nil, fmt.Errorf("reading the signing keys: %w", err)
	}
	if signer, ok := timelineOf(stored).Signer(k.algorithm, k.now()); !ok || k.opened[signer.KID].key == nil {
		return nil, errors.Join(due, unopened, fmt.Errorf("%w: %s", jwks.ErrNoSigner, k.algorithm))
	}
	return unopened, nil
}

func timelineOf(stored []jwks.SealedKey) jwks.Timeline {
	var infos []jwks.Info
	for _, sealed := range stored {
		infos = append(infos, sealed.Info)
	}
	return jwks.NewTimeline(infos)
}

// listed is the set that the JWKS is made of: a key that was revoked a second ago
// is not in it. While it cannot be read anew it is the last one.
func (k *keyring) listed(ctx context.Context) *jwks.Set {
	last := k.read.Load()
	if last != nil {
		age := k.now().Sub(last.at)
		if age >= 0 && age < listedAge || !k.mu.TryLock() {
			return last.set
		}
	} else {
		k.mu.Lock()
	}
	defer k.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, listingTimeout)
	defer cancel()
	k.load(ctx) // look tells of what fails
	return k.current()
}

// jwks answers GET /.well-known/jwks.json (RFC 7517 §5), public keys only.
func (s *Server) jwks(w http.ResponseWriter, r *http.Request, _ *event) error {
	if err := readOnly(w, r); err != nil {
		return err
	}
	set := s.keys.listed(r.Context())
	if set == nil {
		return errUnavailable("publishing the keys", errors.New("no keys are loaded"))
	}
	document, etag := set.Published(s.now())
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
