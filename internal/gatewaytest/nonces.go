package gatewaytest

import (
	"net/http"
	"testing"
	"time"

	"github.com/cargokey/authz/dpopbind"
)

// testNonces demands the server's nonce of every proof (RFC 9449 §9), which the
// caller learns through the gateway.
func testNonces(t *testing.T, s *site) {
	h := s.issue(s.service, resource)
	s.refuses(refusal{"a proof without the nonce", func(s *site) call { return s.good(h, makeLabel) }, unauthorized("use_dpop_nonce")})
	challenged := s.good(h, makeLabel).send(t, s.listen)
	s.behind.take()
	withNonce := func(s *site, nonce string) answer {
		return s.passes(h.bearing(makeLabel, h.proof(s.t, "POST", s.base()+"/labels", nonce)), h.client)
	}
	withNonce(s, challenged.oneNonce(t))

	// RFC 9449 §8.2: while the old one is still good, the new one comes along.
	before, err := dpopbind.NewNonces(dpopbind.NonceConfig{
		Secrets: [][]byte{[]byte(sealingKey)},
		Now:     func() time.Time { return time.Now().Add(-dpopbind.DefaultNonceStep) },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Run("the next one comes with an answer", func(t *testing.T) {
		s, want := s.in(t), Want{}
		if s.gateway.Amend != nil {
			s.gateway.Amend("the next nonce comes with an answer", &want)
		}
		if want.Skip != "" {
			t.Skip(want.Skip)
		}
		withNonce(s, withNonce(s, before.Current()).oneNonce(t))
	})

	// A client that knows RFC 9449 finds its way.
	caller := &http.Client{Transport: s.client(s.service, resource, newKey(t)), Timeout: patience}
	for range 2 {
		response, err := caller.Get(s.base() + "/labels/none")
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if reached := s.behind.take(); len(reached) != 1 || response.StatusCode != http.StatusNotFound {
			t.Errorf("a dpopbind.Client is answered %d, after %d requests to the API", response.StatusCode, len(reached))
		}
	}
}

func (a answer) oneNonce(t testing.TB) string {
	t.Helper()
	nonces := a.header.Values("DPoP-Nonce")
	if len(nonces) != 1 || nonces[0] == "" {
		t.Fatalf("the answer %d has the nonces %q", a.status, nonces)
	}
	return nonces[0]
}
