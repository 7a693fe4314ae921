package gatewaytest

import (
	"net/http"
	"slices"
	"testing"
	"time"
)

const label = `{"carrier": "acme", "recipient": "Ada"}`

var (
	makeLabel = call{method: "POST", target: "/labels", body: label}
	readLabel = call{method: "GET", target: "/labels/none"}
)

// refusal is a call that must not get through.
type refusal struct {
	name string
	call func(s *site) call
	want Want
}

func unauthorized(code string) Want { return Want{Statuses: []int{401}, Error: code} }

// refusals are what a client may get wrong, and what a thief has.
var refusals = []refusal{
	{"no credentials", func(*site) call { return makeLabel }, unauthorized("-")},
	{"no credentials, OPTIONS", func(*site) call { return call{method: "OPTIONS", target: "/labels"} }, unauthorized("-")},
	{"a stolen token without a proof", func(s *site) call {
		return makeLabel.with(field{"Authorization", "DPoP " + s.issue(s.service, resource).token})
	}, unauthorized("invalid_dpop_proof")},
	{"a stolen token with another key's proof", func(s *site) call {
		h := s.issue(s.service, resource)
		h.key = newKey(s.t)
		return s.good(h, makeLabel)
	}, unauthorized("invalid_token")},
	{"a replayed proof", func(s *site) call {
		c := s.good(s.issue(s.service, resource), makeLabel)
		if a := c.send(s.t, s.listen); a.status != http.StatusCreated || len(s.behind.take()) != 1 {
			s.t.Errorf("the first time, it is answered %d %s", a.status, a.body)
		}
		return c
	}, unauthorized("invalid_dpop_proof")},
	{"a proof for another URL", func(s *site) call { return s.proven("POST", s.base()+"/labels/other", makeLabel) }, unauthorized("invalid_dpop_proof")},
	{"a proof for another host", func(s *site) call { return s.proven("POST", "http://other.test/labels", makeLabel) }, unauthorized("invalid_dpop_proof")},
	{"a proof for another method", func(s *site) call { return s.proven("GET", s.base()+"/labels", makeLabel) }, unauthorized("invalid_dpop_proof")},
	{"a proof with another token's ath", func(s *site) call {
		h, other := s.issue(s.service, resource), s.issue(s.service, resource)
		other.key = h.key
		return h.bearing(makeLabel, other.proof(s.t, "POST", s.base()+"/labels", ""))
	}, unauthorized("invalid_dpop_proof")},
	{"a bound token by the Bearer scheme", func(s *site) call {
		return makeLabel.with(field{"Authorization", "Bearer " + s.issue(s.service, resource).token})
	}, unauthorized("invalid_token")},
	{"a bound token by the Bearer scheme, with its proof", func(s *site) call {
		h := s.issue(s.service, resource)
		return makeLabel.with(field{"Authorization", "Bearer " + h.token}, field{"DPoP", h.proof(s.t, "POST", s.base()+"/labels", "")})
	}, unauthorized("invalid_token")},
	{"an expired token", func(s *site) call {
		s.run("resource", "update", resource, "--ttl", "1s")
		h := s.issue(s.service, resource)
		s.run("resource", "update", resource, "--ttl", "5m")
		time.Sleep(1500 * time.Millisecond)
		return s.good(h, makeLabel)
	}, unauthorized("invalid_token")},
	{"a token revoked a moment ago", func(s *site) call {
		h := s.issue(s.service, resource)
		s.revoke(s.service, h.token)
		return s.good(h, makeLabel)
	}, unauthorized("invalid_token")},
	{"a client disabled a moment ago", func(s *site) call {
		h := s.issue(s.leaving, resource)
		s.run("client", "disable", s.leaving.id)
		return s.good(h, makeLabel)
	}, unauthorized("invalid_token")},
	{"too little scope", func(s *site) call { return s.good(s.issue(s.reader, resource), makeLabel) },
		Want{Statuses: []int{403}, Error: "insufficient_scope", Scope: "label:create"}},
	{"a token for another resource", func(s *site) call { return s.good(s.issue(s.service, otherResource), makeLabel) }, unauthorized("invalid_token")},
	{"no token at all", func(s *site) call { return makeLabel.with(field{"Authorization", "DPoP e30.e30.e30"}) }, unauthorized("invalid_dpop_proof")},
	{"two DPoP headers", func(s *site) call {
		h := s.issue(s.service, resource)
		return s.good(h, makeLabel).with(field{"DPoP", h.proof(s.t, "POST", s.base()+"/labels", "")})
	}, Want{Statuses: []int{400, 401}, Error: "invalid_dpop_proof"}},
	{"two DPoP headers, the good one last", func(s *site) call {
		h := s.issue(s.service, resource)
		good := s.good(h, makeLabel)
		slices.Reverse(good.header)
		good.header = slices.Insert(good.header, 0, field{"DPoP", "e30.e30.e30"})
		return good
	}, Want{Statuses: []int{400, 401}, Error: "invalid_dpop_proof"}},
	{"two Authorization headers", func(s *site) call {
		return s.good(s.issue(s.service, resource), makeLabel).with(field{"Authorization", "Basic bWFsbG9yeTpzZWNyZXQ="})
	}, Want{Statuses: []int{400, 401}, Error: "invalid_request"}},
	{"two Authorization headers, the good one last", func(s *site) call {
		good := s.good(s.issue(s.service, resource), makeLabel)
		good.header = slices.Insert(good.header, 0, field{"Authorization", "DPoP e30.e30.e30"})
		return good
	}, Want{Statuses: []int{400, 401}, Error: "invalid_request"}},
	{"the token in the query", func(s *site) call {
		c := readLabel
		c.target += "?access_token=" + s.issue(s.service, resource).token
		return c
	}, unauthorized("invalid_request")},
	{"the token in the query and in the header", func(s *site) call {
		h, c := s.issue(s.service, resource), readLabel
		c.target += "?access_token=" + h.token
		return s.good(h, c)
	}, unauthorized("invalid_request")},
}

// proven is a call with a good token and a proof for a request that may be
// another one.
func (s *site) proven(method, url string, c call) call {
	s.t.Helper()
	h := s.issue(s.service, resource)
	return h.bearing(c, h.proof(s.t, method, url, ""))
}

func testRefusals(t *testing.T, s *site) {
	for _, r := range refusals {
		t.Run(r.name, func(t *testing.T) { s.in(t).refuses(r) })
	}
}

// in is the site for a subtest.
func (s *site) in(t testing.TB) *site {
	sub := *s
	sub.t = t
	return &sub
}

// refuses checks that a call is answered as it must, and does not reach the API.
func (s *site) refuses(r refusal) {
	s.t.Helper()
	want := r.want
	if s.gateway.Amend != nil {
		s.gateway.Amend(r.name, &want)
	}
	if want.Skip != "" {
		s.t.Skip(want.Skip)
	}
	a := r.call(s).send(s.t, s.listen)
	if reached := s.behind.take(); len(reached) != 0 {
		s.t.Errorf("it reaches the API, which is asked %s %s", reached[0].method, reached[0].target)
	}
	if !slices.Contains(want.Statuses, a.status) {
		s.t.Errorf("status %d, want %v: %q %s", a.status, want.Statuses, a.header.Values("WWW-Authenticate"), a.body)
	}
	code, scope := a.challenge(s.t)
	if code == "" && a.status != http.StatusUnauthorized && a.status != http.StatusForbidden {
		return // the gateway itself refuses
	}
	if code != want.Error || scope != want.Scope {
		s.t.Errorf("challenge %q, want error %q and scope %q", a.header.Values("WWW-Authenticate"), want.Error, want.Scope)
	}
}
