package authz_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/cargokey/authz/authz"
	"github.com/cargokey/authz/dpopbind"
	"github.com/cargokey/authz/jwks"
)

const (
	testRotation = 30 * 24 * time.Hour
	testAhead    = 3 * time.Hour
)

func rotating(c *authz.Config) { c.KeyRotation, c.KeyPublishAhead = testRotation, testAhead }

// olderKey stores a key that has signed since then, as an operator's.
func (w *world) olderKey(from time.Time, after string) jwks.SealedKey {
	w.t.Helper()
	from = from.UTC().Truncate(time.Microsecond)
	sealed, event, err := authz.MakeSigningKey(w.sealer, jwks.ES256, from, from, authz.ActorOperator("test"))
	if err != nil {
		w.t.Fatal(err)
	}
	event.At = time.Now().UTC().Truncate(time.Microsecond) // there are partitions of now
	if err := w.owner.AddSigningKey(w.t.Context(), sealed, after, event); err != nil {
		w.t.Fatal(err)
	}
	return sealed
}

// replaceKey is "authz key rotate --now".
func (w *world) replaceKey(old string) jwks.SealedKey {
	w.t.Helper()
	now := time.Now().UTC().Truncate(time.Microsecond)
	sealed, event, err := authz.MakeSigningKey(w.sealer, jwks.ES256, now, now, authz.ActorOperator("test"))
	if err != nil {
		w.t.Fatal(err)
	}
	revoked := operatorEvent(authz.AuditKeyRevoked)
	if err := w.owner.AddSigningKey(w.t.Context(), sealed, old, event, authz.KeyRevocation{KID: old, Event: revoked}); err != nil {
		w.t.Fatal(err)
	}
	return sealed
}

func (i *instance) lookAfterKeys() {
	i.w.t.Helper()
	if err := i.server.LookAfterKeys(i.w.t.Context()); err != nil {
		i.w.t.Error(err)
	}
}

// jwksNow is the JWKS of the instance.
func (i *instance) jwksNow() (set jose.JSONWebKeySet) {
	i.w.t.Helper()
	if err := json.Unmarshal([]byte(i.get("/.well-known/jwks.json").body), &set); err != nil {
		i.w.t.Fatal(err)
	}
	return set
}

// verifies checks a token by a JWKS alone, and names its key.
func verifies(token string, set jose.JSONWebKeySet) (kid string, err error) {
	signed, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.ES256, jose.EdDSA, jose.PS256, jose.RS256})
	if err != nil {
		return "", err
	}
	kid = signed.Signatures[0].Protected.KeyID
	_, err = signed.Verify(set)
	return kid, err
}

func TestManyInstancesWithClocksApartMakeOneNextKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	// Due in half an hour, by the true clock: by some, and not by others.
	w.olderKey(time.Now().Add(testAhead-testRotation+30*time.Minute), "")
	var instances []*instance
	for _, offset := range []time.Duration{-time.Hour, 0, time.Hour, -20 * time.Minute, 0, 59 * time.Minute} {
		i := w.instance(rotating)
		i.offset.Store(int64(offset))
		instances = append(instances, i)
	}
	if keys := w.count(`select count(*) from authz.signing_keys`); keys != 1 {
		t.Fatalf("%d keys before any is due", keys)
	}
	var wg sync.WaitGroup
	for range 3 {
		for _, i := range instances {
			wg.Go(func() { i.lookAfterKeys() })
		}
	}
	wg.Wait()
	if keys := w.count(`select count(*) from authz.signing_keys`); keys != 2 {
		t.Errorf("%d keys", keys)
	}
	for _, i := range instances {
		i.lookAfterKeys() // some looked before there was a second one
		if n := len(i.jwksNow().Keys); n != 2 {
			t.Errorf("an instance publishes %d keys", n)
		}
	}
}

func TestDatabasesClockHoldsBackAKeyByAWrongClock(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.olderKey(time.Now().Add(testAhead-testRotation+24*time.Hour), "")
	i := w.instance(rotating)
	i.lookAfterKeys()
	i.offset.Store(int64(47 * time.Hour))
	if err := i.server.LookAfterKeys(t.Context()); err == nil || !strings.Contains(err.Error(), "clock") {
		t.Errorf("%v", err)
	}
	if keys := w.count(`select count(*) from authz.signing_keys`); keys != 1 {
		t.Errorf("%d keys", keys)
	}
	// It starts all the same: there is a key that signs.
	w.instance(rotating, func(c *authz.Config) { c.Now = func() time.Time { return time.Now().Add(47 * time.Hour) } })
}

// Two instances, eight minutes apart, live through half a day of a rotation in
// steps of five minutes, under load. A verifier of signatures has the JWKS of the
// step before, from the other instance.
func TestRotationUnderLoadFailsNoRequest(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	client, gateway := w.client(authz.Client{}), w.gateway()
	old := w.olderKey(time.Now().Add(testAhead-testRotation+20*time.Minute), "")
	instances := [2]*instance{w.instance(rotating), w.instance(rotating)}
	instances[0].advance(-4 * time.Minute)
	instances[1].advance(4 * time.Minute)

	const step = 5 * time.Minute
	var (
		clock   sync.RWMutex // held for a request, so that its proof is not from another step
		cached  [2]jose.JSONWebKeySet
		byKID   sync.Map
		served  atomic.Int64
		stopped atomic.Bool
		wg      sync.WaitGroup
	)
	for n, i := range instances {
		cached[n] = i.jwksNow()
	}
	for n := range 4 {
		wg.Go(func() {
			key := newKey(t)
			for !stopped.Load() {
				clock.RLock()
				kid, err := oneRequest(instances[n%2], instances[(n+1)%2], client, gateway, key, cached[(n+1)%2])
				clock.RUnlock()
				if err != nil {
					t.Error(err)
					return
				}
				byKID.Store(kid, true)
				served.Add(1)
			}
		})
	}
	published := map[int]bool{}
	for range int((testAhead + jwks.LongestLife + jwks.ClockMargin + time.Hour) / step) {
		for until := served.Load() + 6; served.Load() < until && !t.Failed(); {
			time.Sleep(time.Millisecond)
		}
		clock.Lock()
		for n, i := range instances {
			cached[n] = i.jwksNow()
			published[len(cached[n].Keys)] = true
		}
		for _, i := range instances {
			i.advance(step)
			i.lookAfterKeys()
		}
		clock.Unlock()
	}
	stopped.Store(true)
	wg.Wait()

	keys := w.keyInfos()
	if len(keys) != 2 || keys[0].KID != old.KID {
		t.Fatalf("%d keys", len(keys))
	}
	for _, k := range keys {
		if _, signed := byKID.Load(k.KID); !signed {
			t.Errorf("%s has signed nothing", k.KID)
		}
	}
	for _, i := range instances { // the first one is over
		if set := i.jwksNow(); len(set.Keys) != 1 || set.Keys[0].KeyID != keys[1].KID {
			t.Errorf("%d keys are published in the end", len(set.Keys))
		}
	}
	if !published[1] || !published[2] {
		t.Errorf("numbers of published keys: %v", published)
	}
	t.Logf("%d tokens", served.Load())
}

// oneRequest gets a token, and has it verified by its signature and found active
// at the other instance.
func oneRequest(at, other *instance, client, gateway registered, key *dpopbind.Key, set jose.JSONWebKeySet) (kid string, err error) {
	a, err := at.try(at.tokenRequest(client, key, clientCredentials))
	if err != nil || a.status != http.StatusOK {
		return "", fmt.Errorf("at %s: %d %s %w", at.now(), a.status, a.body, err)
	}
	token := a.string("access_token")
	if kid, err = verifies(token, set); err != nil {
		return "", fmt.Errorf("at %s: signed by %s: %w", at.now(), kid, err)
	}
	found, err := other.try(other.post("/oauth/introspect", gateway, with(nil, "token", token)))
	if err != nil || found.json["active"] != true {
		return "", fmt.Errorf("at %s: introspected: %d %s %w", other.now(), found.status, found.body, err)
	}
	return kid, nil
}

func (w *world) keyInfos() (infos []jwks.Info) {
	w.t.Helper()
	stored, err := w.owner.SigningKeys(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	for _, k := range stored {
		infos = append(infos, k.Info)
	}
	return infos
}

func TestReplacedKeysTokensAreInactiveAtOnceOnEveryInstance(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	client, gateway, key := w.client(authz.Client{}), w.gateway(), newKey(t)
	one, two := w.instance(), w.instance()
	opaque := w.client(authz.Client{ID: "opaque-service", TokenFormat: authz.FormatOpaque})
	untouched := one.token(opaque, key).string("access_token")
	old := one.token(client, key).string("access_token")
	for _, i := range []*instance{one, two} {
		i.passes(i.goodCall(gateway, old, key))
		if !i.active(gateway, old) {
			t.Fatal("the token is inactive before")
		}
	}
	fresh := w.replaceKey(w.keyInfos()[0].KID)
	for _, i := range []*instance{one, two} { // neither has looked at the keys since
		if i.active(gateway, old) {
			t.Error("introspection finds it active")
		}
		i.refusedAs(i.goodCall(gateway, old, key), http.StatusUnauthorized, "invalid_token")
		if !i.active(gateway, untouched) {
			t.Error("an opaque token, which no key has signed, is inactive")
		}
		token := i.token(client, key).string("access_token")
		if got := header(t, token)["kid"]; got != fresh.KID {
			t.Errorf("signed by %v, want %s", got, fresh.KID)
		}
		i.passes(i.goodCall(gateway, token, key))
		time.Sleep(1100 * time.Millisecond) // for so long the JWKS may be the one before
		if set := i.jwksNow(); len(set.Keys) != 1 || set.Keys[0].KeyID != fresh.KID {
			t.Errorf("%d keys are published", len(set.Keys))
		}
	}
}

func TestReplacementUnderLoadFailsNoRequest(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	client := w.client(authz.Client{})
	instances := [2]*instance{w.instance(), w.instance()}
	var wg sync.WaitGroup
	var stopped atomic.Bool
	var served [4]atomic.Int64
	for n := range served {
		wg.Go(func() {
			i, key := instances[n%2], newKey(t)
			for !stopped.Load() {
				if a, err := i.try(i.tokenRequest(client, key, clientCredentials)); err != nil || a.status != http.StatusOK {
					t.Errorf("%d %s %v", a.status, a.body, err)
					return
				}
				served[n].Add(1)
			}
		})
	}
	// A request that was under way at the last replacement has ended by the next.
	wait := func() {
		for n := range served {
			for until := served[n].Load() + 3; served[n].Load() < until && !t.Failed(); {
				time.Sleep(time.Millisecond)
			}
		}
	}
	last := w.keyInfos()[0].KID
	for range 5 {
		wait()
		last = w.replaceKey(last).KID
	}
	wait()
	// And one that nothing replaces: the instances make another.
	if err := w.owner.RevokeSigningKey(t.Context(), last, operatorEvent(authz.AuditKeyRevoked)); err != nil {
		t.Fatal(err)
	}
	wait()
	stopped.Store(true)
	wg.Wait()
	for line := range strings.Lines(w.logs.String()) {
		if strings.Contains(line, `"status":503`) || strings.Contains(line, `"ERROR"`) {
			t.Log(line)
		}
	}
	if n := len(w.keyInfos()); n != 7 {
		t.Errorf("%d keys, want 7", n)
	}
	if alive := w.count(`select count(*) from authz.signing_keys where revoked_at is null`); alive != 1 {
		t.Errorf("%d keys are not revoked", alive)
	}
}

func TestResourceChoosesTheAlgorithmOfItsTokens(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	grants := []authz.Grant{{Resource: labels, Scopes: []string{"label:read"}}, {Resource: rates, Scopes: []string{"rate:read"}}}
	client, gateway, key := w.client(authz.Client{Grants: grants}), w.gateway(), newKey(t)
	i := w.instance(func(c *authz.Config) { c.SigningAlgorithm = jwks.EdDSA })
	alg := func(resource string) any {
		t.Helper()
		token := i.token(client, key, "resource", resource).string("access_token")
		if _, err := verifies(token, i.jwksNow()); err != nil {
			t.Error(err)
		}
		return header(t, token)["alg"]
	}
	if alg(rates) != "EdDSA" {
		t.Error("the default is not used")
	}
	choose := func(a jwks.Algorithm) {
		t.Helper()
		r, err := w.owner.Resource(t.Context(), rates)
		if err != nil {
			t.Fatal(err)
		}
		r.SigningAlg, r.UpdatedAt = a, time.Now().UTC().Truncate(time.Microsecond)
		if err := errors.Join(r.Validate(), w.owner.UpdateResource(t.Context(), r, operatorEvent(authz.AuditResourceUpdated))); err != nil {
			t.Fatal(err)
		}
	}
	choose(jwks.ES256)
	if alg(rates) != "ES256" || alg(labels) != "EdDSA" { // at once, whether or not there was a key for it
		t.Error("the resource's choice is not followed")
	}
	i.lookAfterKeys()
	if n := len(i.jwksNow().Keys); n != 2 {
		t.Errorf("%d keys are published, want one of each", n)
	}
	choose("")
	if alg(rates) != "EdDSA" {
		t.Error("the default is not used again")
	}
	// What is for gateways is by the default.
	if _, signed := i.introspectSigned(gateway, "x"); header(t, signed)["alg"] != "EdDSA" {
		t.Error("an introspection is by another algorithm")
	}
	metadata := i.get("/.well-known/oauth-authorization-server")
	if got := fmt.Sprint(metadata.json["introspection_signing_alg_values_supported"]); got != "[EdDSA]" {
		t.Errorf("metadata says %s", got)
	}
	if err := (&authz.Resource{URI: rates, Scopes: []string{"a"}, SigningAlg: "HS256"}).Validate(); err == nil {
		t.Error("a resource may choose HS256")
	}
}

func TestRotationOutsideItsBoundsIsRefused(t *testing.T) {
	for _, c := range []struct {
		rotation, ahead time.Duration
		good            bool
	}{
		{authz.DefaultKeyRotation, authz.DefaultKeyPublishAhead, true},
		{0, authz.DefaultKeyPublishAhead, true},
		{24 * time.Hour, 3 * time.Hour, true},
		{24 * time.Hour, 12 * time.Hour, true},
		{24 * time.Hour, 12*time.Hour + 1, false},
		{24*time.Hour - 1, 3 * time.Hour, false},
		{-time.Hour, 3 * time.Hour, false},
		{authz.DefaultKeyRotation, 3*time.Hour - 1, false},
		{0, 3*time.Hour - 1, false},
		{0, -time.Hour, false},
		{100 * 24 * time.Hour, 720*time.Hour + 1, false},
	} {
		if err := authz.ValidateKeyRotation(c.rotation, c.ahead); (err == nil) != c.good {
			t.Errorf("%s, %s ahead: %v", c.rotation, c.ahead, err)
		}
	}
	w := newWorld(t)
	for name, change := range map[string]func(*authz.Config){
		"rotation": func(c *authz.Config) { c.KeyRotation = time.Hour },
		"alg":      func(c *authz.Config) { c.SigningAlgorithm = "HS256" },
	} {
		config := w.config(&instance{store: w.owner}, w.sealer)
		change(&config)
		if _, err := authz.New(context.WithoutCancel(t.Context()), config); err == nil {
			t.Errorf("%s: it starts", name)
		}
	}
}
