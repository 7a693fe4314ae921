package authz_test

import (
	"net/http"
	"net/url"
	"strconv"
	"testing"
	"time"

	"github.com/cargokey/authz/authz"
	"github.com/cargokey/authz/dpopbind"
	"github.com/cargokey/authz/dpopbind/prooftest"
)

const dpopKeysEndpoint = issuer + "/oauth/dpop-keys"

// enrol enrols a key as an operator does; the zero time is never.
func (w *world) enrol(c registered, key *dpopbind.Key, ends time.Time) {
	w.t.Helper()
	event := operatorEvent(authz.AuditDPoPKeyEnrolled)
	k := authz.DPoPKey{JKT: key.JKT(), EnrolledAt: event.At, EnrolledBy: event.Actor, EndsAt: ends}
	if err := w.owner.EnrolKey(w.t.Context(), c.ID, k, event); err != nil {
		w.t.Fatal(err)
	}
}

// endorsement makes one that is good, and a secret.
func (i *instance) endorsement(c registered, by, next *dpopbind.Key) string {
	i.w.t.Helper()
	text, err := by.Endorse(issuer, c.ID, next.JKT(), i.now())
	if err != nil {
		i.w.t.Fatal(err)
	}
	i.w.secret(text)
	return text
}

// enrolRequest asks to enrol next by an endorsement, with a new proof of next.
func (i *instance) enrolRequest(c registered, next *dpopbind.Key, endorsement string, pairs ...string) *http.Request {
	i.w.t.Helper()
	r := i.post("/oauth/dpop-keys", c, with(url.Values{"endorsement": {endorsement}}, pairs...))
	proof, err := next.Proof(http.MethodPost, dpopKeysEndpoint, i.now(), dpopbind.ProofOptions{})
	if err != nil {
		i.w.t.Fatal(err)
	}
	i.w.secret(proof)
	r.Header.Set("DPoP", proof)
	return r
}

func (i *instance) refusesKey(c registered, key *dpopbind.Key) {
	i.w.t.Helper()
	a := i.do(i.tokenRequest(c, key, clientCredentials))
	if a.status != http.StatusBadRequest || a.string("error") != "unauthorized_client" {
		i.w.t.Errorf("token: %d %s", a.status, a.body)
	}
	checkErrorForm(i.w.t.(*testing.T), a)
}

func TestStolenSecretYieldsNothingForAClientWithEnrolledKeys(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.named = true
	i, own := w.instance(), newKey(t)
	bearer := []authz.Grant{{Resource: rates, Scopes: []string{"rate:read"}}} // admits bearer tokens
	for _, policy := range []authz.DPoPKeyPolicy{authz.EnrolledKey, authz.FirstUseKey} {
		c := w.client(authz.Client{ID: "svc-" + string(policy), DPoPKeys: policy, Grants: bearer})
		if policy == authz.EnrolledKey {
			i.refusesKey(c, own) // it has none yet
			w.enrol(c, own, time.Time{})
		}
		i.token(c, own)
		for range 3 {
			i.refusesKey(c, newKey(t)) // with the secret, and any other key
		}
		if a := i.do(i.tokenRequest(c, nil, clientCredentials)); a.status != http.StatusBadRequest || a.string("error") != "invalid_dpop_proof" {
			t.Errorf("%s, without DPoP: %d %s", policy, a.status, a.body)
		}
		i.token(c, own)
	}
	// It is told once a second for each key, and counted.
	thief, c := newKey(t), w.client(authz.Client{ID: "robbed", DPoPKeys: authz.EnrolledKey})
	for range 5 {
		i.refusesKey(c, thief)
	}
	i.flush()
	where := `from authz.audit_events where kind = 'dpop_key.refused' and client_id = '` + c.ID + `'`
	if n := w.count("select count(*)::int " + where); n != 1 {
		t.Errorf("%d events", n)
	}
	if n := w.count("select count(*)::int " + where + ` and jkt = '` + thief.JKT() + `' and actor = 'client:robbed'
		and request_id is not null and remote_addr = '127.0.0.1' and detail->>'times' = '5'`); n != 1 {
		t.Error("the event says something else")
	}
	if got := i.metric(`authz_unenrolled_dpop_keys_total{client_id="robbed"}`); got != 5 {
		t.Errorf("%v are counted", got)
	}
}

func TestKeyOfAClientWithNoPolicyIsItsOwnAffair(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i, c := w.instance(), w.client(authz.Client{})
	for range 3 {
		i.token(c, newKey(t))
	}
}

func TestOldAndNewKeyOverlapAndThenTheOldOneEnds(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i, other := w.instance(), w.instance()
	c := w.client(authz.Client{DPoPKeys: authz.FirstUseKey})
	old, next := newKey(t), newKey(t)
	i.token(c, old)
	i.refusesKey(c, next)
	a := i.do(i.enrolRequest(c, next, i.endorsement(c, old, next), "expires_in", "600"))
	if a.status != http.StatusOK || a.body != `{"jkt":"`+next.JKT()+`","endorsed_by":"`+old.JKT()+`"}` || a.header.Get("Cache-Control") != "no-store" {
		t.Fatalf("%d %v %s", a.status, a.header, a.body)
	}
	other.token(c, old)
	other.token(c, next)
	other.advance(11 * time.Minute)
	other.refusesKey(c, old)
	other.token(c, next)
	// It goes on without an operator, and without an end of the old key.
	third := newKey(t)
	if a := i.do(i.enrolRequest(c, third, i.endorsement(c, next, third))); a.status != http.StatusOK {
		t.Fatal(a.status, a.body)
	}
	other.token(c, next)
	other.token(c, third)
	if a := i.do(i.enrolRequest(c, third, i.endorsement(c, next, third), "expires_in", "0")); a.status != http.StatusOK {
		t.Fatal(a.status, a.body)
	}
	other.refusesKey(c, next)
}

func TestBadEndorsementsEnrolNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i := w.instance()
	c := w.client(authz.Client{DPoPKeys: authz.EnrolledKey})
	others := w.client(authz.Client{ID: "other-service", DPoPKeys: authz.EnrolledKey})
	free := w.client(authz.Client{ID: "free-service"})
	old, next, theirs, ended, revoked := newKey(t), newKey(t), newKey(t), newKey(t), newKey(t)
	w.enrol(c, old, time.Time{})
	w.enrol(c, revoked, time.Time{})
	w.enrol(c, ended, i.now().Add(time.Millisecond))
	w.enrol(others, theirs, time.Time{})
	w.revokeKey(revoked.JKT())
	draft := func() *prooftest.Draft {
		return prooftest.New(i.now(), http.MethodPost, dpopKeysEndpoint).Without("htm").Without("htu").
			Header("typ", `"dpop-key-endorsement+jwt"`).Claim("iss", `"`+c.ID+`"`).Claim("aud", `"`+issuer+`"`).
			Claim("jkt", `"`+next.JKT()+`"`).Claim("exp", unixIn(i, time.Minute))
	}
	other := newKey(t)
	spent := i.endorsement(c, old, other)
	if a := i.do(i.enrolRequest(c, other, spent)); a.status != http.StatusOK {
		t.Fatal(a.status, a.body)
	}
	before := len(w.keysOf(t, c))
	for _, row := range []struct {
		name   string
		make   func() *http.Request
		status int
		code   string
	}{
		{"none", func() *http.Request { return i.enrolRequest(c, next, "") }, 400, "invalid_request"},
		{"nonsense", func() *http.Request { return i.enrolRequest(c, next, "a.b.c") }, 400, "invalid_endorsement"},
		{"by another client's key", func() *http.Request { return i.enrolRequest(c, next, i.endorsement(c, theirs, next)) }, 400, "invalid_endorsement"},
		{"by a key that is not enrolled", func() *http.Request { return i.enrolRequest(c, next, i.endorsement(c, newKey(t), next)) }, 400, "invalid_endorsement"},
		{"by a key that has ended", func() *http.Request { return i.enrolRequest(c, next, i.endorsement(c, ended, next)) }, 400, "invalid_endorsement"},
		{"by a revoked key", func() *http.Request { return i.enrolRequest(c, next, i.endorsement(c, revoked, next)) }, 400, "invalid_endorsement"},
		{"by the new key for itself", func() *http.Request { return i.enrolRequest(c, next, i.endorsement(c, next, next)) }, 400, "invalid_endorsement"},
		{"of a revoked key", func() *http.Request { return i.enrolRequest(c, revoked, i.endorsement(c, old, revoked)) }, 400, "unauthorized_client"},
		{"of a key that has ended", func() *http.Request { return i.enrolRequest(c, ended, i.endorsement(c, old, ended)) }, 400, "unauthorized_client"},
		{"for another client", func() *http.Request { return i.enrolRequest(c, next, i.endorsement(others, old, next)) }, 400, "invalid_endorsement"},
		{"for another key than the proven one", func() *http.Request { return i.enrolRequest(c, next, i.endorsement(c, old, newKey(t))) }, 400, "invalid_endorsement"},
		{"a client whose keys are not enrolled", func() *http.Request { return i.enrolRequest(free, next, i.endorsement(free, old, next)) }, 400, "invalid_endorsement"},
		{"expired", func() *http.Request {
			return i.enrolRequest(c, next, draft().Claim("iat", unixIn(i, -2*time.Minute)).Claim("exp", unixIn(i, -time.Minute)).String())
		}, 400, "invalid_endorsement"},
		{"too long a life", func() *http.Request {
			return i.enrolRequest(c, next, draft().Claim("exp", unixIn(i, 6*time.Minute)).String())
		}, 400, "invalid_endorsement"},
		{"wrong aud", func() *http.Request {
			return i.enrolRequest(c, next, draft().Claim("aud", `"https://other.test"`).String())
		}, 400, "invalid_endorsement"},
		{"wrong typ", func() *http.Request { return i.enrolRequest(c, next, draft().Header("typ", `"dpop+jwt"`).String()) }, 400, "invalid_endorsement"},
		{"wrong jkt", func() *http.Request { return i.enrolRequest(c, next, draft().Claim("jkt", `"x"`).String()) }, 400, "invalid_endorsement"},
		{"forged", func() *http.Request {
			return i.enrolRequest(c, next, draft().Signature(func(string) []byte { return make([]byte, 64) }).String())
		}, 400, "invalid_endorsement"},
		{"beside an unproven new key", func() *http.Request {
			r := i.enrolRequest(c, next, i.endorsement(c, old, next))
			r.Header.Del("DPoP")
			return r
		}, 400, "invalid_dpop_proof"},
		{"beside a proof for the token endpoint", func() *http.Request {
			r := i.enrolRequest(c, next, i.endorsement(c, old, next))
			r.Header.Set("DPoP", i.proof(next))
			return r
		}, 400, "invalid_dpop_proof"},
		{"beside a forged proof", func() *http.Request {
			r := i.enrolRequest(c, next, i.endorsement(c, old, next))
			r.Header.Set("DPoP", prooftest.New(i.now(), http.MethodPost, dpopKeysEndpoint).Signature(func(string) []byte { return make([]byte, 64) }).String())
			return r
		}, 400, "invalid_dpop_proof"},
		{"beside a proof by the old key", func() *http.Request { return i.enrolRequest(c, old, i.endorsement(c, old, next)) }, 400, "invalid_endorsement"},
		{"without the secret", func() *http.Request { return i.enrolRequest(registered{}, next, i.endorsement(c, old, next)) }, 401, "invalid_client"},
		{"with a wrong secret", func() *http.Request {
			return i.enrolRequest(registered{c.Client, "azs_x"}, next, i.endorsement(c, old, next))
		}, 401, "invalid_client"},
		{"a negative overlap", func() *http.Request {
			return i.enrolRequest(c, next, i.endorsement(c, old, next), "expires_in", "-1")
		}, 400, "invalid_request"},
		{"too long an overlap", func() *http.Request {
			return i.enrolRequest(c, next, i.endorsement(c, old, next), "expires_in", "7776001")
		}, 400, "invalid_request"},
		{"used before", func() *http.Request { return i.enrolRequest(c, other, spent) }, 400, "invalid_dpop_proof"},
	} {
		t.Run(row.name, func(t *testing.T) {
			a := i.do(row.make())
			if a.status != row.status || a.string("error") != row.code {
				t.Errorf("%d %s", a.status, a.body)
			}
			checkErrorForm(t, a)
			if n := len(w.keysOf(t, c)); n != before {
				t.Errorf("%d keys are enrolled, %d were", n, before)
			}
		})
	}
	i.refusesKey(c, next)
	i.token(c, old)
}

// A key that was taken back and vouches for another one is what a thief of it would
// have it do: it is told once a second, and counted.
func TestEndorsementByAKeyThatHasNoSayIsToldAndCounted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.named = true
	i := w.instance()
	for name, end := range map[string]func(c registered, key *dpopbind.Key) error{
		"removed": func(c registered, key *dpopbind.Key) error {
			return w.owner.RemoveKey(t.Context(), c.ID, key.JKT(), operatorEvent(authz.AuditDPoPKeyRemoved))
		},
		"revoked": func(_ registered, key *dpopbind.Key) error {
			return w.owner.RevokeDPoPKey(t.Context(), key.JKT(), operatorEvent(authz.AuditDPoPKeyRevoked))
		},
		"unknown": func(registered, *dpopbind.Key) error { return nil },
	} {
		c, old, next := w.client(authz.Client{ID: "robbed-" + name, DPoPKeys: authz.EnrolledKey}), newKey(t), newKey(t)
		if name != "unknown" {
			w.enrol(c, old, time.Time{})
		}
		if err := end(c, old); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if a := i.do(i.enrolRequest(c, next, i.endorsement(c, old, next))); a.string("error") != "invalid_endorsement" {
				t.Errorf("%s: %d %s", name, a.status, a.body)
			}
		}
		i.flush()
		if n := w.count(`select count(*)::int from authz.audit_events where kind = 'dpop_key.endorsement_refused' and client_id = '` + c.ID + `'
			and jkt = '` + old.JKT() + `' and actor = 'client:` + c.ID + `' and request_id is not null and remote_addr = '127.0.0.1'
			and detail->>'times' = '3' and detail->>'for' = '` + next.JKT() + `'`); n != 1 {
			t.Errorf("%s: %d events", name, n)
		}
		if got := i.metric(`authz_endorsements_refused_total{client_id="` + c.ID + `"}`); got != 3 {
			t.Errorf("%s: %v are counted", name, got)
		}
	}
}

// unixIn is a claim of the instance's time and more.
func unixIn(i *instance, d time.Duration) string { return strconv.FormatInt(i.now().Add(d).Unix(), 10) }

func (w *world) keysOf(t *testing.T, c registered) []authz.DPoPKey {
	t.Helper()
	keys, err := w.owner.DPoPKeys(t.Context(), c.ID)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

func (w *world) revokeKey(jkt string) {
	w.t.Helper()
	if err := w.owner.RevokeDPoPKey(w.t.Context(), jkt, operatorEvent(authz.AuditDPoPKeyRevoked)); err != nil {
		w.t.Fatal(err)
	}
}

func TestNonceIsAskedOfTheProofOfANewKeyToo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i, old, next := w.instance(), newKey(t), newKey(t)
	c := w.client(authz.Client{DPoPKeys: authz.EnrolledKey, RequireNonce: true})
	w.enrol(c, old, time.Time{})
	endorsement := i.endorsement(c, old, next)
	a := i.do(i.enrolRequest(c, next, endorsement))
	if a.status != http.StatusBadRequest || a.string("error") != "use_dpop_nonce" || a.header.Get("DPoP-Nonce") == "" {
		t.Fatal(a.status, a.header, a.body)
	}
	proof, err := next.Proof(http.MethodPost, dpopKeysEndpoint, i.now(), dpopbind.ProofOptions{Nonce: a.header.Get("DPoP-Nonce")})
	if err != nil {
		t.Fatal(err)
	}
	w.secret(proof)
	r := i.enrolRequest(c, next, endorsement) // which was not spent
	r.Header.Set("DPoP", proof)
	if a := i.do(r); a.status != http.StatusOK {
		t.Error(a.status, a.body)
	}
}

// Whatever many tokens are revoked by, they are inactive at once on every
// instance, at introspection and at the gateway check, and others are as before.
func TestRevokedTokensAreInactiveEverywhereAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	gateway := w.client(authz.Client{ID: "edge-gateway", Introspects: []string{labels}})
	for name, revoke := range map[string]func(c registered, key *dpopbind.Key) error{
		"client": func(c registered, _ *dpopbind.Key) error {
			return w.owner.RevokeClientTokens(ctx, c.ID, operatorEvent(authz.AuditClientRevoked))
		},
		"jkt": func(_ registered, key *dpopbind.Key) error {
			return w.owner.RevokeDPoPKey(ctx, key.JKT(), operatorEvent(authz.AuditDPoPKeyRevoked))
		},
	} {
		one, two := w.instance(), w.instance()
		c, kept := w.client(authz.Client{ID: name + "-gone"}), w.client(authz.Client{ID: name + "-kept"})
		key, other := newKey(t), newKey(t)
		gone, left := one.token(c, key).string("access_token"), two.token(kept, other).string("access_token")
		for _, i := range []*instance{one, two} {
			i.passesSoon(func() call { return i.goodCall(gateway, gone, key) })
			i.passesSoon(func() call { return i.goodCall(gateway, left, other) })
		}
		if err := revoke(c, key); err != nil {
			t.Fatal(err)
		}
		for _, i := range []*instance{one, two} {
			if i.active(gateway, gone) || !i.active(gateway, left) {
				t.Errorf("%s: introspection", name)
			}
			i.refusedAs(i.goodCall(gateway, gone, key), http.StatusUnauthorized, "invalid_token")
			i.passes(i.goodCall(gateway, left, other))
		}
		if name == "jkt" {
			one.refusesKey(c, key)
			two.refusesKey(kept, key)
		}
		two.token(c, other) // the client stays enabled
	}
}
