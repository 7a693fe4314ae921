package storetest

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cargokey/authz/authz"
	"github.com/cargokey/authz/jwks"
)

func signingKeys() []property {
	return []property{
		{"FirstKeyOfAnAlgorithmIsStoredOnce", firstKey},
		{"OfManyFirstKeysOneIsStored", firstKeyAtOnce},
		{"FirstKeyIsMadeNowAndSignsSoon", firstKeyByTheClock},
		{"ServerMakesOneKeyADayWhateverItsClock", keyADay},
		{"KeyIsOfBoundedSize", oversizedKey},
		{"FirstKeyIsStoredAgainOnceAllHaveEnded", firstKeyAgain},
		{"NextKeyIsStoredOnlyWhenItIsDue", nextKey},
		{"OfManyNextKeysByClocksApartOneIsStored", nextKeyAtOnce},
		{"OperatorsKeyIsStoredIfNothingHasChanged", operatorsKey},
		{"RevokedKeyIsRevokedByItsSuccessorsStep", replacedKey},
		{"KeyRetiresIfAnotherCouldTakeOver", retiredKey},
		{"RevokedKeyStaysAsItIs", revokedSigningKey},
		{"KeysAreSealedAnewAllOrNone", resealedKeys},
		{"KeyIsRecordedOrNot", recordedKey},
		{"AlgorithmOfAResourceComesWithItsGrants", resourceAlgorithm},
	}
}

// sealedKey signs from a minute after now on.
func (w *world) sealedKey(kid string) jwks.SealedKey {
	return w.keyFrom(kid, jwks.ES256, w.now, w.now.Add(time.Minute))
}

func (w *world) keyFrom(kid string, a jwks.Algorithm, createdAt, signsFrom time.Time) jwks.SealedKey {
	return jwks.SealedKey{
		Info:      jwks.Info{KID: kid, Algorithm: a, CreatedAt: createdAt, SignsFrom: signsFrom},
		PublicJWK: []byte(`{"kty": "EC"}`), Sealed: []byte{0, 1, 2, 255}, SealedBy: "one",
	}
}

// keys are read by all alike.
func (w *world) keys(t *testing.T) []jwks.SealedKey {
	t.Helper()
	keys, err := w.Operator.SigningKeys(t.Context())
	must(t, err)
	for _, s := range w.Servers {
		seen, err := s.SigningKeys(t.Context())
		must(t, err)
		same(t, keys, seen)
	}
	return keys
}

func (w *world) kids(t *testing.T) (kids []string) {
	t.Helper()
	for _, k := range w.keys(t) {
		kids = append(kids, k.KID)
	}
	return kids
}

// month is a key that has signed for a month.
func (w *world) month(kid string) jwks.SealedKey {
	from := w.now.Add(-30 * 24 * time.Hour)
	return w.keyFrom(kid, jwks.ES256, from, from)
}

func (w *world) addKey(t *testing.T, k jwks.SealedKey, after string) {
	t.Helper()
	must(t, w.Operator.AddSigningKey(t.Context(), k, after, w.event(authz.AuditKeyCreated)))
}

func firstKey(t *testing.T, w *world) {
	w.populate(t)
	ctx := t.Context()
	same(t, []jwks.SealedKey{}, w.keys(t))
	e := authz.NewAuditEvent(w.now, authz.AuditKeyCreated, authz.ActorServer)
	w.writes(t, func() error { return w.Servers[0].AddFirstSigningKey(ctx, w.sealedKey("a"), e) }, e)
	late := authz.NewAuditEvent(w.now, authz.AuditKeyCreated, authz.ActorServer)
	w.writes(t, func() error { return w.Servers[1].AddFirstSigningKey(ctx, w.sealedKey("b"), late) })
	same(t, []jwks.SealedKey{w.sealedKey("a")}, w.keys(t))
	// Each algorithm has its own.
	first := []jwks.SealedKey{w.sealedKey("a")}
	for i, a := range []jwks.Algorithm{jwks.EdDSA, jwks.PS256, jwks.RS256} {
		k := w.keyFrom(string(a), a, w.now, w.now.Add(time.Duration(i+2)*time.Minute))
		e := authz.NewAuditEvent(w.now, authz.AuditKeyCreated, authz.ActorServer)
		w.writes(t, func() error { return w.Servers[1].AddFirstSigningKey(ctx, k, e) }, e)
		first = append(first, k)
	}
	same(t, first, w.keys(t))
}

func firstKeyByTheClock(t *testing.T, w *world) {
	w.populate(t)
	for name, k := range map[string]jwks.SealedKey{
		"by a clock three hours ahead":  w.keyFrom("n", jwks.ES256, w.now.Add(3*time.Hour), w.now.Add(3*time.Hour)),
		"by a clock three hours behind": w.keyFrom("n", jwks.ES256, w.now.Add(-3*time.Hour), w.now.Add(-3*time.Hour)),
		"signing in years":              w.keyFrom("n", jwks.ES256, w.now, w.now.Add(20000*time.Hour)),
		"signing after an hour":         w.keyFrom("n", jwks.ES256, w.now, w.now.Add(time.Hour+time.Second)),
	} {
		t.Log(name)
		w.writes(t, func() error {
			return w.Servers[0].AddFirstSigningKey(t.Context(), k, w.event(authz.AuditKeyCreated))
		})
	}
	same(t, []jwks.SealedKey{}, w.keys(t))
}

// Whatever times a server tells within the bounds, it makes a key a day and no
// more, and none unseen.
func keyADay(t *testing.T, w *world) {
	w.populate(t)
	w.addKey(t, w.month("a"), "")
	after, added := "a", 0
	for _, lie := range []time.Duration{-119 * time.Minute, 0, 119 * time.Minute} {
		at := w.now.Add(lie)
		for n, signs := range []time.Duration{3 * time.Hour, 24 * time.Hour, 720 * time.Hour} {
			kid := string(rune('b' + added))
			if w.addNext(t, w.Servers[n%2], w.keyFrom(kid, jwks.ES256, at, at.Add(signs)), after) {
				after = kid
				added++
			}
		}
	}
	if added != 1 {
		t.Errorf("%d keys in a moment", added)
	}
}

func oversizedKey(t *testing.T, w *world) {
	w.populate(t)
	for name, change := range map[string]func(*jwks.SealedKey){
		"sealed part": func(k *jwks.SealedKey) { k.Sealed = make([]byte, 16385) },
		"public part": func(k *jwks.SealedKey) { k.PublicJWK = fmt.Appendf(nil, `{"kty": "%016384d"}`, 0) },
		"name":        func(k *jwks.SealedKey) { k.KID = strings.Repeat("k", 129) },
		"sealed by":   func(k *jwks.SealedKey) { k.SealedBy = strings.Repeat("s", 257) },
	} {
		t.Log(name)
		k := w.sealedKey("a")
		change(&k)
		w.refuses(t, nil, func() error {
			return w.Servers[0].AddFirstSigningKey(t.Context(), k, w.event(authz.AuditKeyCreated))
		})
	}
}

func firstKeyAtOnce(t *testing.T, w *world) {
	w.populate(t)
	before := len(w.Events(t))
	same(t, []int{16}, atOnce(t, 16, func(ctx context.Context, i int) error {
		e := authz.NewAuditEvent(w.now, authz.AuditKeyCreated, authz.ActorServer)
		return w.Servers[i%2].AddFirstSigningKey(ctx, w.sealedKey(string(rune('a'+i))), e)
	}))
	if keys, events := w.keys(t), len(w.Events(t))-before; len(keys) != 1 || events != 1 {
		t.Errorf("%d keys, %d events; want one each", len(keys), events)
	}
}

func firstKeyAgain(t *testing.T, w *world) {
	w.populate(t)
	ctx := t.Context()
	add := func(kid string) {
		t.Helper()
		must(t, w.Servers[0].AddFirstSigningKey(ctx, w.sealedKey(kid), w.event(authz.AuditKeyCreated)))
	}
	add("a")
	must(t, w.Operator.RevokeSigningKey(ctx, "a", w.event(authz.AuditKeyRevoked)))
	add("b")
	add("c")
	same(t, []string{"a", "b"}, w.kids(t))
	must(t, w.Operator.RetireSigningKey(ctx, "b", true, w.event(authz.AuditKeyRetired)))
	add("d")
	same(t, []string{"a", "b", "d"}, w.kids(t))
}

// addNext tells whether it was added, and holds that its event was then.
func (w *world) addNext(t *testing.T, s authz.Store, k jwks.SealedKey, after string) (added bool) {
	t.Helper()
	e := authz.NewAuditEvent(w.now, authz.AuditKeyCreated, authz.ActorServer)
	before := len(w.Events(t))
	added, err := s.AddNextSigningKey(t.Context(), k, after, e)
	must(t, err)
	if events := len(w.Events(t)) - before; added != (events == 1) {
		t.Errorf("added: %t, with %d events", added, events)
	}
	return added
}

func nextKey(t *testing.T, w *world) {
	w.populate(t)
	const ahead = 24 * time.Hour
	if w.addNext(t, w.Servers[0], w.keyFrom("n", jwks.ES256, w.now, w.now.Add(ahead)), "") {
		t.Error("added where there is none before it")
	}
	w.addKey(t, w.month("a"), "")
	for name, c := range map[string]struct {
		key   jwks.SealedKey
		after string
	}{
		"after another":                  {w.keyFrom("n", jwks.ES256, w.now, w.now.Add(ahead)), "x"},
		"after none":                     {w.keyFrom("n", jwks.ES256, w.now, w.now.Add(ahead)), ""},
		"of another algorithm":           {w.keyFrom("n", jwks.EdDSA, w.now, w.now.Add(ahead)), "a"},
		"signing at once":                {w.keyFrom("n", jwks.ES256, w.now, w.now), "a"},
		"signing in less than three":     {w.keyFrom("n", jwks.ES256, w.now, w.now.Add(3*time.Hour-time.Second)), "a"},
		"signing in more than a month":   {w.keyFrom("n", jwks.ES256, w.now, w.now.Add(720*time.Hour+time.Second)), "a"},
		"by a clock three hours ahead":   {w.keyFrom("n", jwks.ES256, w.now.Add(3*time.Hour), w.now.Add(ahead)), "a"},
		"by a clock three hours behind":  {w.keyFrom("n", jwks.ES256, w.now.Add(-3*time.Hour), w.now.Add(ahead)), "a"},
		"signing within ninety minutes":  {w.keyFrom("n", jwks.ES256, w.now.Add(-119*time.Minute), w.now.Add(80*time.Minute)), "a"},
		"by a clock from before the key": {w.keyFrom("n", jwks.ES256, w.month("a").SignsFrom.Add(-time.Hour), w.now.Add(ahead)), "a"},
	} {
		if w.addNext(t, w.Servers[0], c.key, c.after) {
			t.Errorf("%s: it was added", name)
		}
	}
	same(t, []string{"a"}, w.kids(t))
	next := w.keyFrom("n", jwks.ES256, w.now, w.now.Add(3*time.Hour))
	if !w.addNext(t, w.Servers[0], next, "a") {
		t.Error("it was not added when it was due")
	}
	// None while one has yet to sign, whichever is named.
	for _, after := range []string{"a", "n"} {
		if w.addNext(t, w.Servers[1], w.keyFrom("m", jwks.ES256, w.now, w.now.Add(2*ahead)), after) {
			t.Errorf("a second one was added after %s", after)
		}
	}
	same(t, []jwks.SealedKey{w.month("a"), next}, w.keys(t))
	// One that never will does not count.
	must(t, w.Operator.RevokeSigningKey(t.Context(), "n", w.event(authz.AuditKeyRevoked)))
	if !w.addNext(t, w.Servers[1], w.keyFrom("m", jwks.ES256, w.now, w.now.Add(ahead)), "a") {
		t.Error("it was not added after the next one was revoked")
	}
}

func nextKeyAtOnce(t *testing.T, w *world) {
	w.populate(t)
	w.addKey(t, w.month("a"), "")
	before := len(w.Events(t))
	clocks := []time.Duration{-time.Hour, 0, time.Hour}
	same(t, []int{16}, atOnce(t, 16, func(ctx context.Context, i int) error {
		at := w.now.Add(clocks[i%3])
		e := authz.NewAuditEvent(at, authz.AuditKeyCreated, authz.ActorServer)
		_, err := w.Servers[i%2].AddNextSigningKey(ctx, w.keyFrom(string(rune('b'+i)), jwks.ES256, at, at.Add(24*time.Hour)), "a", e)
		return err
	}))
	if keys, events := w.keys(t), len(w.Events(t))-before; len(keys) != 2 || events != 1 {
		t.Errorf("%d keys, %d events; want one more each", len(keys), events)
	}
}

func operatorsKey(t *testing.T, w *world) {
	w.populate(t)
	ctx := t.Context()
	e := w.event(authz.AuditKeyCreated)
	w.writes(t, func() error { return w.Operator.AddSigningKey(ctx, w.month("a"), "", e) }, e)
	for _, after := range []string{"", "x"} {
		w.refuses(t, authz.ErrChanged, func() error {
			return w.Operator.AddSigningKey(ctx, w.sealedKey("b"), after, w.event(authz.AuditKeyCreated))
		})
	}
	// Of two operators at once one succeeds.
	same(t, []int{1, 7}, atOnce(t, 8, func(ctx context.Context, i int) error {
		return w.Operator.AddSigningKey(ctx, w.sealedKey(string(rune('b'+i))), "a", w.event(authz.AuditKeyCreated))
	}, authz.ErrChanged))
	// A server cannot.
	w.refuses(t, nil, func() error {
		return w.Servers[0].AddSigningKey(ctx, w.sealedKey("z"), w.kids(t)[1], w.event(authz.AuditKeyCreated))
	})
}

func replacedKey(t *testing.T, w *world) {
	w.populate(t)
	ctx := t.Context()
	w.addKey(t, w.month("a"), "")
	made, revoked := w.event(authz.AuditKeyCreated), w.event(authz.AuditKeyRevoked)
	w.refuses(t, authz.ErrNotFound, func() error {
		return w.Operator.AddSigningKey(ctx, w.sealedKey("b"), "a", made, authz.KeyRevocation{KID: "a", Event: revoked}, authz.KeyRevocation{KID: "x", Event: w.event(authz.AuditKeyRevoked)})
	})
	must(t, w.Operator.AddSigningKey(ctx, w.sealedKey("b"), "a", made, authz.KeyRevocation{KID: "a", Event: revoked}))
	a := w.month("a")
	a.RevokedAt = w.now
	same(t, []jwks.SealedKey{a, w.sealedKey("b")}, w.keys(t))
	seen := map[authz.JTI]bool{}
	for _, e := range w.Events(t) {
		seen[e.ID] = true
	}
	if !seen[made.ID] || !seen[revoked.ID] {
		t.Error("an event is missing")
	}
}

func retiredKey(t *testing.T, w *world) {
	w.populate(t)
	ctx := t.Context()
	retire := func(kid string, last bool) error {
		return w.Operator.RetireSigningKey(ctx, kid, last, w.event(authz.AuditKeyRetired))
	}
	w.refuses(t, authz.ErrNotFound, func() error { return retire("a", false) })
	old := w.keyFrom("o", jwks.ES256, w.now.Add(-time.Hour*2000), w.now.Add(-time.Hour*2000))
	w.addKey(t, old, "")
	w.addKey(t, w.month("a"), "o")
	w.refuses(t, authz.ErrOnlySigner, func() error { return retire("a", false) }) // the other was superseded
	must(t, retire("o", false))
	w.addKey(t, w.sealedKey("b"), "a")
	e := w.event(authz.AuditKeyRetired)
	w.writes(t, func() error { return w.Operator.RetireSigningKey(ctx, "a", false, e) }, e)
	w.refuses(t, authz.ErrOnlySigner, func() error { return retire("b", false) })
	// One that has yet to sign is called off while another signs.
	w.addKey(t, w.keyFrom("c", jwks.ES256, w.now, w.now.Add(time.Hour)), "b")
	must(t, retire("c", false))
	// Nobody says of a resource's algorithm that nothing uses it.
	r := w.registered(t, labels)
	r.SigningAlg = jwks.ES256
	must(t, w.Operator.UpdateResource(ctx, r, w.event(authz.AuditResourceUpdated)))
	w.refuses(t, authz.ErrOnlySigner, func() error { return retire("b", true) })
	r = w.registered(t, labels)
	r.SigningAlg = ""
	must(t, w.Operator.UpdateResource(ctx, r, w.event(authz.AuditResourceUpdated)))
	must(t, retire("b", true))
	for _, k := range w.keys(t) {
		if !k.RetiredAt.Equal(w.now) || !k.RevokedAt.IsZero() {
			t.Errorf("%s: %+v", k.KID, k.Info)
		}
	}
	w.refuses(t, nil, func() error {
		return w.Servers[0].RetireSigningKey(ctx, "b", true, w.event(authz.AuditKeyRetired))
	})
}

func revokedSigningKey(t *testing.T, w *world) {
	w.populate(t)
	ctx := t.Context()
	w.addKey(t, w.month("a"), "")
	e := w.event(authz.AuditKeyRevoked)
	w.writes(t, func() error { return w.Operator.RevokeSigningKey(ctx, "a", e) }, e)
	want := w.month("a")
	want.RevokedAt = w.now
	same(t, []jwks.SealedKey{want}, w.keys(t))
	must(t, w.Operator.RevokeSigningKey(ctx, "a", w.eventAt(authz.AuditKeyRevoked, w.now.Add(time.Minute))))
	must(t, w.Operator.RetireSigningKey(ctx, "a", true, w.event(authz.AuditKeyRetired)))
	if got := w.keys(t)[0]; !got.RevokedAt.Equal(w.now) {
		t.Errorf("revoked again, it is revoked at %s", got.RevokedAt)
	}
	w.refuses(t, authz.ErrNotFound, func() error {
		return w.Operator.RevokeSigningKey(ctx, "x", w.event(authz.AuditKeyRevoked))
	})
	w.refuses(t, nil, func() error { return w.Servers[0].RevokeSigningKey(ctx, "a", w.event(authz.AuditKeyRevoked)) })
}

func recordedKey(t *testing.T, w *world) {
	w.populate(t)
	ctx := t.Context()
	w.addKey(t, w.month("a"), "")
	must(t, w.Operator.RevokeSigningKey(ctx, "a", w.event(authz.AuditKeyRevoked)))
	w.addKey(t, w.sealedKey("b"), "")
	for _, s := range []authz.Store{w.Operator, w.Servers[0], w.Servers[1]} {
		for kid, want := range map[string]bool{"a": true, "b": true, "c": false, "": false} {
			recorded, err := s.SigningKeyRecorded(ctx, kid)
			must(t, err)
			same(t, want, recorded)
		}
	}
}

func resealedKeys(t *testing.T, w *world) {
	w.populate(t)
	ctx := t.Context()
	w.addKey(t, w.month("a"), "")
	w.addKey(t, w.sealedKey("b"), "a")
	a, b := w.month("a"), w.sealedKey("b")
	a.Sealed, a.SealedBy = []byte{7}, "two"
	b.Sealed, b.SealedBy = []byte{8}, "two"
	w.refuses(t, authz.ErrNotFound, func() error {
		return w.Operator.ResealSigningKeys(ctx, []jwks.SealedKey{a, w.sealedKey("x"), b}, w.event(authz.AuditKeysResealed))
	})
	e := w.event(authz.AuditKeysResealed)
	w.writes(t, func() error { return w.Operator.ResealSigningKeys(ctx, []jwks.SealedKey{a, b}, e) }, e)
	same(t, []jwks.SealedKey{a, b}, w.keys(t))
	w.refuses(t, nil, func() error {
		return w.Servers[0].ResealSigningKeys(ctx, []jwks.SealedKey{a}, w.event(authz.AuditKeysResealed))
	})
}

func resourceAlgorithm(t *testing.T, w *world) {
	w.populate(t)
	ctx := t.Context()
	fresh := w.resource("https://fresh.example.com")
	fresh.SigningAlg = jwks.PS256
	must(t, w.Operator.CreateResource(ctx, fresh, w.event(authz.AuditResourceCreated)))
	same(t, fresh, w.registered(t, fresh.URI))
	for _, a := range append(jwks.Algorithms(), "") {
		r := w.registered(t, labels)
		r.SigningAlg = a
		must(t, w.Operator.UpdateResource(ctx, r, w.event(authz.AuditResourceUpdated)))
		same(t, a, w.registered(t, labels).SigningAlg)
		c, err := w.Servers[0].Client(ctx, shop, w.now)
		must(t, err)
		same(t, a, c.Grants[0].SigningAlg)
	}
	r := w.registered(t, labels)
	r.SigningAlg = "HS256"
	w.refuses(t, nil, func() error { return w.Operator.UpdateResource(ctx, r, w.event(authz.AuditResourceUpdated)) })
}
