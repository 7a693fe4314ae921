package gatewaytest

import (
	"net/http"
	"testing"
)

// Test puts the gateway in front of an API and tries every case.
func Test(t *testing.T, g Gateway) {
	g.requireProgram(t)
	s := newSite(t, g)
	s.startAPI()
	at := s.at(s.behind.address)
	s.startGateway(at)

	t.Run("good calls pass", func(t *testing.T) { testGoodCalls(t, s.in(t)) })
	t.Run("refused", func(t *testing.T) { testRefusals(t, s) })
	t.Run("forged requests", func(t *testing.T) { testForgedRequests(t, s) })
	t.Run("forged identity", func(t *testing.T) { testForgedIdentity(t, s) })
	t.Run("odd targets", func(t *testing.T) { testOddTargets(t, s) })
	t.Run("bearer tokens", func(t *testing.T) { testBearerTokens(t, s.in(t)) })

	s.serve("AUTHZ_DPOP_NONCE=required")
	t.Run("nonces", func(t *testing.T) { testNonces(t, s.in(t)) })
	s.serve()
	t.Run("after the server was restarted, good calls pass", func(t *testing.T) {
		s.in(t).passes(s.good(s.issue(s.service, resource), makeLabel), s.service.id)
	})

	h := s.issue(s.service, resource)
	s.serving.freeze(t)
	t.Run("the server hangs", func(t *testing.T) { s.in(t).failsClosed(s.good(h, makeLabel)) })
	s.serving.thaw(t)
	s.serving.kill()
	t.Run("the server is dead", func(t *testing.T) { s.in(t).failsClosed(s.good(h, makeLabel), readLabel) })
	s.serve()

	s.startGateway(s.asAnother(s.at(s.behind.address)))
	t.Run("the gateway's secret is wrong, or its socket or certificate another's", func(t *testing.T) {
		s.in(t).failsClosed(s.good(s.issue(s.service, resource), makeLabel), makeLabel)
	})
	for what, prepare := range g.Broken {
		at := s.at(s.behind.address)
		s.startCommand(at, prepare(t, at))
		t.Run(what, func(t *testing.T) { s.in(t).failsClosed(s.good(s.issue(s.service, resource), makeLabel)) })
	}
}

// failsClosed checks that calls are refused and do not reach the API, where the
// check cannot be made.
func (s *site) failsClosed(calls ...call) {
	s.t.Helper()
	for _, c := range calls {
		a := c.send(s.t, s.listen)
		if reached := s.behind.take(); len(reached) != 0 {
			s.t.Errorf("%s %s reaches the API", c.method, c.target)
		}
		if a.status < 500 && a.status != http.StatusForbidden {
			s.t.Errorf("%s %s is answered %d %s", c.method, c.target, a.status, a.body)
		}
	}
}
