package authz_test

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/cargokey/authz/authz"
	"github.com/cargokey/authz/dpopbind"
	"github.com/cargokey/authz/jwks"
)

// overlap is how long what is replaced stays good beside its successor.
const overlap = 2 * time.Hour

// rotationKind is something that changes hands.
type rotationKind struct {
	name  string
	every time.Duration
	// once does the n-th rotation, from its first step to its last. Nil: the servers
	// do it by themselves.
	once func(r *rotatingWorld, n int) error
}

// rotationKinds are all there are.
func rotationKinds() []rotationKind {
	return []rotationKind{
		{"signing key, by schedule", authz.MinKeyRotation, nil},
		{"signing key, by hand", 6 * time.Hour, (*rotatingWorld).rotateSigningKey},
		{"a resource's algorithm", 10 * time.Hour, (*rotatingWorld).changeAlgorithm},
		{"sealing key", 20 * time.Hour, (*rotatingWorld).rotateSealingKey},
		{"nonce secret", 24 * time.Hour, (*rotatingWorld).rotateNonceSecret},
		{"client secret", 4 * time.Hour, func(r *rotatingWorld, n int) error { return r.rotateSecret(r.bySecret[n%len(r.bySecret)], n) }},
		{"gateway's secret", 9 * time.Hour, func(r *rotatingWorld, n int) error { return r.rotateSecret(r.gateway, n) }},
		{"client's key, as registered", 7 * time.Hour, func(r *rotatingWorld, n int) error { return r.rotateKeys(r.others.byKey, n) }},
		{"client's key, at its jwks_uri", 8 * time.Hour, func(r *rotatingWorld, n int) error { return r.rotateKeys(r.others.byURI, n) }},
		{"client's certificate, by itself", 8 * time.Hour, func(r *rotatingWorld, n int) error { return r.rotateKeys(r.others.bySelfSigned, n) }},
		{"client's certificate, by an authority", 9 * time.Hour, (*rotatingWorld).rotateCertificate},
		{"DPoP key", 4 * time.Hour, func(r *rotatingWorld, n int) error { return r.rotateDPoPKey(r.enrolled[n%len(r.enrolled)], n) }},
	}
}

// event is of an operator, at the world's time.
func (r *rotatingWorld) event(kind authz.AuditKind) authz.AuditEvent {
	return authz.NewAuditEvent(r.clock.Now().UTC().Truncate(time.Microsecond), kind, authz.ActorOperator("test"))
}

// byHand is the algorithm whose keys an operator rotates; all others rotate by
// schedule.
const byHand = jwks.EdDSA

// rotateSigningKey is "authz key rotate". Every other time the one before is retired
// ten minutes later: then the next one need not wait for its time.
func (r *rotatingWorld) rotateSigningKey(n int) error {
	r.operator.Lock()
	event := r.event(authz.AuditKeyCreated)
	before, ok := jwks.NewTimeline(r.keyInfos()).Newest(byHand)
	if !ok {
		r.operator.Unlock()
		return fmt.Errorf("there is no key by %s", byHand)
	}
	sealed, event, err := authz.MakeSigningKey(newSealer(r.t, r.config.sealing...), byHand, event.At, event.At.Add(authz.MinKeyPublishAhead), event.Actor)
	if err == nil {
		err = r.owner.AddSigningKey(r.t.Context(), sealed, before.KID, event)
	}
	r.operator.Unlock()
	if err != nil || n%2 == 0 {
		return err
	}
	if !r.clock.wait(r.ctx, 10*time.Minute) {
		return nil
	}
	return r.owner.RetireSigningKey(r.t.Context(), before.KID, false, r.event(authz.AuditKeyRetired))
}

// changeAlgorithm is "authz resource update --signing-alg", between algorithms that
// have keys already.
func (r *rotatingWorld) changeAlgorithm(n int) error {
	resource, err := r.owner.Resource(r.t.Context(), changing)
	if err != nil {
		return err
	}
	resource.SigningAlg = []jwks.Algorithm{byHand, ""}[n%2]
	event := r.event(authz.AuditResourceUpdated)
	resource.UpdatedAt = event.At
	return r.owner.UpdateResource(r.t.Context(), resource, event)
}

// rollOut restarts all instances with the operator's settings, one after the other.
func (r *rotatingWorld) rollOut() {
	for n := range r.nodes {
		if r.ctx.Err() == nil {
			r.restart(n)
		}
	}
}

// rotateSealingKey is what docs/operations.md says, step by step.
func (r *rotatingWorld) rotateSealingKey(int) error {
	r.operator.Lock()
	defer r.operator.Unlock()
	before, next := r.config.sealing[0], randomSealingKey()
	r.config.sealing = [][]byte{before, next}
	r.rollOut()
	r.config.sealing = [][]byte{next, before}
	r.rollOut()
	r.reseal(newSealer(r.t, next, before))
	r.clock.wait(r.ctx, 5*time.Minute)
	r.config.sealing = [][]byte{next}
	r.rollOut()
	return nil
}

// rotateNonceSecret is what docs/operations.md says of it.
func (r *rotatingWorld) rotateNonceSecret(int) error {
	r.operator.Lock()
	defer r.operator.Unlock()
	before, next := r.config.nonces[0], randomSealingKey()
	r.config.nonces = [][]byte{before, next}
	r.rollOut()
	r.config.nonces = [][]byte{next, before}
	r.rollOut()
	r.clock.wait(r.ctx, 5*time.Minute)
	r.config.nonces = [][]byte{next}
	r.rollOut()
	return nil
}

// rotateSecret is "authz client rotate-secret". The service takes the new one at once
// or towards the end of the overlap.
func (r *rotatingWorld) rotateSecret(s *service, n int) error {
	c, _ := s.now()
	secret, event := authz.NewSecret(), r.event(authz.AuditSecretRotated)
	r.secret(secret.Reveal())
	if err := r.owner.RotateSecret(r.t.Context(), c.ID, secret.Digest(), event.At.Add(overlap), event); err != nil {
		return err
	}
	time.Sleep(150 * time.Millisecond) // for so long an instance may not know a gateway's
	if !r.clock.waitUntil(r.ctx, r.lateOrSoon(event.At, n)) {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.client.secret = secret.Reveal()
	return nil
}

// lateOrSoon is when the new one is taken into use: early in the overlap, or late.
func (r *rotatingWorld) lateOrSoon(from time.Time, n int) time.Time {
	return from.Add([]time.Duration{0, overlap / 2}[n%2])
}

// rotateDPoPKey has a service vouch for its next key, over HTTP.
func (r *rotatingWorld) rotateDPoPKey(s *service, n int) error {
	c, old := s.now()
	next, err := dpopbind.GenerateKey()
	if err != nil {
		return err
	}
	if !r.may(1) {
		return nil
	}
	release := r.clock.hold() // an endorsement lives for a minute
	at := r.clock.Now()
	endorsement, err := old.Endorse(issuer, c.ID, next.JKT(), at)
	if err != nil {
		release()
		return err
	}
	r.secret(endorsement)
	_, ok := r.succeed(n%2, "endorsement", func(i *instance) *http.Request {
		q := i.post("/oauth/dpop-keys", c, url.Values{
			"endorsement": {endorsement}, "expires_in": {strconv.Itoa(int(overlap / time.Second))},
		})
		q.Header.Set("DPoP", r.proof(next, http.MethodPost, dpopKeysEndpoint, dpopbind.ProofOptions{}))
		return q
	})
	release()
	if !ok || !r.clock.waitUntil(r.ctx, r.lateOrSoon(at, n)) {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.key = next
	return nil
}

// turn does one kind of rotation after the other of its time, until the end, and
// tells how many.
func (r *rotatingWorld) turn(kind rotationKind, end time.Time) (done int) {
	start := r.clock.Now()
	for n := 0; ; n++ {
		next := start.Add(kind.every/2 + time.Duration(n)*kind.every)
		if !next.Before(end) || !r.clock.waitUntil(r.ctx, next) {
			return n
		}
		if err := kind.once(r, n); err != nil {
			r.fail(fmt.Errorf("at %s: rotating the %s: %w", r.clock.Now(), kind.name, err))
			return n
		}
	}
}

// tookOver is how many keys the servers have made that signed after others.
func (r *rotatingWorld) tookOver() (n int) {
	infos := r.keyInfos()
	first := map[jwks.Algorithm]bool{}
	slices.SortFunc(infos, func(a, b jwks.Info) int { return a.SignsFrom.Compare(b.SignsFrom) })
	for _, k := range infos {
		if first[k.Algorithm] && k.Algorithm != byHand && k.SignsFrom.Before(r.clock.Now()) {
			n++
		}
		first[k.Algorithm] = true
	}
	return n
}
