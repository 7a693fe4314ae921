package authz_test

import (
	"bytes"
	"net/http"
	"testing"
	"time"

	"github.com/cargokey/authz/authz"
	"github.com/cargokey/authz/dpopbind"
)

// withNonce sends a request for a token with a proof of its own nonce.
func (i *instance) withNonce(c registered, key *dpopbind.Key, nonce string) answer {
	i.w.t.Helper()
	proof, err := key.Proof(http.MethodPost, tokenEndpoint, i.now(), dpopbind.ProofOptions{Nonce: nonce})
	if err != nil {
		i.w.t.Fatal(err)
	}
	return i.withProof(c, proof)
}

func (i *instance) withProof(c registered, proof string) answer {
	i.w.t.Helper()
	r := i.post("/oauth/token", c, clientCredentials)
	r.Header.Set("DPoP", proof)
	return i.do(r)
}

// challenged holds RFC 9449 §8: 400, use_dpop_nonce, and the nonce to use.
func challenged(t *testing.T, a answer) string {
	t.Helper()
	nonce := a.header.Get("DPoP-Nonce")
	if a.status != http.StatusBadRequest || a.string("error") != "use_dpop_nonce" || nonce == "" {
		t.Fatalf("%d %s %v", a.status, a.body, a.header)
	}
	checkErrorForm(t, a)
	return nonce
}

func requireNonce(c *authz.Config) { c.RequireNonce = true }

func TestClientIsChallengedForANonceOnceAndNeverAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	one, two := w.instance(requireNonce), w.instance(requireNonce)
	client, key := w.client(authz.Client{}), newKey(t)
	nonce := challenged(t, one.withNonce(client, key, ""))
	// A client that takes over each nonce it is given, for an hour of requests
	// at both instances.
	renewed := 0
	for n := range 60 {
		i := []*instance{one, two}[n%2]
		a := i.withNonce(client, key, nonce)
		if a.status != http.StatusOK {
			t.Fatalf("after %d minutes: %d %s", n, a.status, a.body)
		}
		if next := a.header.Get("DPoP-Nonce"); next != "" {
			nonce = next
			renewed++
		}
		one.advance(time.Minute)
		two.advance(time.Minute)
	}
	if renewed < 15 || renewed > 45 {
		t.Errorf("renewed %d times in an hour", renewed)
	}
}

func TestMissingNonceSpendsNothingAndComesBeforeTheClient(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i, client, key := w.instance(requireNonce), w.client(authz.Client{}), newKey(t)
	// Before anything is spent, and before anyone is looked up.
	challenged(t, i.withNonce(registered{client.Client, "azs_wrong"}, key, ""))
	challenged(t, i.withNonce(client, key, ""))
	if n := w.count("select count(*) from authz.spent_proofs"); n != 0 {
		t.Errorf("%d proofs are spent", n)
	}
	// The same proof is good where no nonce is asked for.
	proof := i.proof(key)
	challenged(t, i.withProof(client, proof))
	if a := w.instance().withProof(client, proof); a.status != http.StatusOK {
		t.Errorf("%d %s", a.status, a.body)
	}
}

func TestBadNonceIsChallengedLikeNone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i, client, key := w.instance(requireNonce), w.client(authz.Client{}), newKey(t)
	stranger := w.instance(requireNonce, func(c *authz.Config) {
		c.NonceSecrets = [][]byte{bytes.Repeat([]byte{7}, dpopbind.MinNonceSecret)}
	})
	nonce := challenged(t, i.withNonce(client, key, ""))
	foreign := challenged(t, stranger.withNonce(client, key, ""))
	for name, bad := range map[string]string{
		"of another server": foreign, "made up": "made-up", "cut short": nonce[:len(nonce)-1], "longer": nonce + "A",
	} {
		if got := challenged(t, i.withNonce(client, key, bad)); got != nonce {
			t.Errorf("%s: challenged with %s, want %s", name, got, nonce)
		}
	}
	i.advance(10 * time.Minute)
	if fresh := challenged(t, i.withNonce(client, key, nonce)); fresh == nonce {
		t.Error("the nonce of ten minutes ago is handed out again")
	}
}

func TestNonceCanBeAskedOfOneClient(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i, key := w.instance(), newKey(t)
	free, held := w.client(authz.Client{ID: "free"}), w.client(authz.Client{ID: "held", RequireNonce: true})
	if a := i.withNonce(free, key, ""); a.status != http.StatusOK || a.header.Get("DPoP-Nonce") != "" {
		t.Errorf("a client that needs none: %d %s %v", a.status, a.body, a.header)
	}
	proof := i.proof(key)
	nonce := challenged(t, i.withProof(held, proof))
	if a := i.withNonce(held, key, nonce); a.status != http.StatusOK {
		t.Errorf("%d %s", a.status, a.body)
	}
	if a := i.withProof(free, proof); a.status != http.StatusOK {
		t.Errorf("the challenge has spent the proof: %d %s", a.status, a.body)
	}
	// Who the client is, is not told to a stranger.
	if a := i.withNonce(registered{held.Client, "azs_wrong"}, key, ""); a.string("error") != "invalid_client" {
		t.Errorf("%d %s", a.status, a.body)
	}
}

// The secret changes as the documents say, at two instances that are never
// restarted at the same time, and a client that does as it is told is not
// refused once after its first challenge.
func TestNonceSecretRotatesWithoutARefusedRequest(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	client, key := w.client(authz.Client{}), newKey(t)
	before, after := bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 32)
	with := func(secrets ...[]byte) *instance {
		return w.instance(requireNonce, func(c *authz.Config) { c.NonceSecrets = secrets })
	}
	one, two := with(before), with(before)
	nonce := challenged(t, one.withNonce(client, key, ""))
	both := func(step string) {
		t.Helper()
		for range 4 { // long enough for old nonces to be replaced
			for _, i := range []*instance{one, two} {
				a := i.withNonce(client, key, nonce)
				if a.status != http.StatusOK {
					t.Fatalf("%s: %d %s", step, a.status, a.body)
				}
				if next := a.header.Get("DPoP-Nonce"); next != "" {
					nonce = next
				}
			}
			for _, i := range []*instance{one, two} {
				i.advance(time.Minute)
			}
		}
	}
	replace := func(i **instance, secrets ...[]byte) {
		offset := (*i).offset.Load()
		*i = with(secrets...)
		(*i).offset.Store(offset)
		(*i).advance(0)
	}
	both("before")
	for _, step := range []struct {
		name    string
		secrets [][]byte
	}{{"the new one last", [][]byte{before, after}}, {"the new one first", [][]byte{after, before}}, {"the new one alone", [][]byte{after}}} {
		replace(&one, step.secrets...)
		both(step.name + ", at one instance")
		replace(&two, step.secrets...)
		both(step.name)
	}
}
