package gatewaytest

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cargokey/authz/dpopbind"
)

// forgedMark is in forged values, so that they are known where they arrive.
const forgedMark = "forged"

// forgery makes the check look at another request than the one that is sent: the
// thief has a proof for that other one.
type forgery struct {
	name        string
	header      []field
	method, url string // what the proof is for; a url that begins with "/" is below the base URL
}

// forgeries say of POST /labels that it is something else, as far as each header
// alone and all of them together can.
func (s *site) forgeries() []forgery {
	const other = "/labels/forged"
	full := s.base() + other
	host := "forged.test"
	list := []forgery{
		{"X-Forwarded-Method", []field{{"X-Forwarded-Method", "GET"}}, "GET", "/labels"},
		{"X-Forwarded-Proto", []field{{"X-Forwarded-Proto", "https"}}, "POST", "https" + strings.TrimPrefix(s.base(), "http") + "/labels"},
		{"X-Forwarded-Host", []field{{"X-Forwarded-Host", host}}, "POST", "http://" + host + "/labels"},
		{"X-Forwarded-Uri", []field{{"X-Forwarded-Uri", other}}, "POST", other},
		{"X-Original-Method", []field{{"X-Original-Method", "GET"}}, "GET", "/labels"},
		{"X-Original-URL", []field{{"X-Original-URL", full}}, "POST", other},
		{"X-Original-Method and -URL", []field{{"X-Original-Method", "GET"}, {"X-Original-URL", full}}, "GET", other},
		{"Forwarded", []field{{"Forwarded", "for=1.2.3.4;host=" + host + ";proto=https"}}, "POST", "https://" + host + "/labels"},
		{"Host", []field{{"Host", host}}, "POST", "http://" + host + "/labels"},
		{"X-Gateway-Parameters", []field{{"X-Gateway-Parameters", "scope=label:read"}}, "POST", other},
		{"X-Gateway-Authorization", []field{{"X-Gateway-Authorization", "Basic " + forgedMark}}, "POST", other},
	}
	for _, name := range append([]string{
		"X-Rewrite-URL", "X-Forwarded-Path", "X-Forwarded-Prefix", "X-Original-Uri", "X-Envoy-Original-Path", "X-Envoy-Original-Url",
		"X-Forwarded-Url",
	}, s.gateway.Forged...) {
		list = append(list,
			forgery{name, []field{{name, other}}, "POST", other},
			forgery{name + ", a URL", []field{{name, full}}, "POST", other})
	}
	for _, name := range append([]string{"X-HTTP-Method-Override", "X-Method-Override"}, s.gateway.Forged...) {
		list = append(list, forgery{name + ", a method", []field{{name, "GET"}}, "GET", "/labels"})
	}
	forwarded := forgery{"all of X-Forwarded", []field{
		{"X-Forwarded-Method", "GET"}, {"X-Forwarded-Proto", "http"}, {"X-Forwarded-Host", s.listen}, {"X-Forwarded-Uri", other},
	}, "GET", other}
	lower, under, all := forwarded, forwarded, forwarded
	lower.name, under.name, all.name = "all of X-Forwarded in lower case", "all of X-Forwarded with underscores", "all together"
	lower.header, under.header, all.header = nil, nil, slices.Clone(forwarded.header)
	for _, f := range forwarded.header {
		lower.header = append(lower.header, field{strings.ToLower(f.name), f.value})
		under.header = append(under.header, field{strings.ReplaceAll(f.name, "-", "_"), f.value})
	}
	for _, f := range list {
		for _, h := range f.header {
			if !slices.ContainsFunc(all.header, func(have field) bool { return have.name == h.name }) && h.name != "Host" {
				all.header = append(all.header, h)
			}
		}
	}
	return append(list, forwarded, lower, under, all)
}

// testForgedRequests: whatever a client says of its request, the one that it
// sends is checked.
func testForgedRequests(t *testing.T, s *site) {
	h := s.issue(s.service, resource)
	for _, f := range s.forgeries() {
		t.Run(f.name, func(t *testing.T) {
			s := s.in(t)
			url := f.url
			if strings.HasPrefix(url, "/") {
				url = s.base() + url
			}
			forged := makeLabel.with(f.header...)
			a := h.bearing(forged, h.proof(t, f.method, url, "")).send(t, s.listen)
			if reached := s.behind.take(); len(reached) != 0 || a.status < 400 {
				t.Errorf("with a proof for %s %s, POST /labels is answered %d and asks the API %d times", f.method, url, a.status, len(reached))
			}
			s.refusesOrPasses(s.good(h, forged), h.client)
		})
	}
	// What the gateway demands is not for the client to say.
	t.Run("X-Gateway-Parameters of a client with too little scope", func(t *testing.T) {
		s.in(t).refuses(refusal{"too little scope, forged", func(s *site) call {
			return s.good(s.issue(s.reader, resource), makeLabel).with(field{"X-Gateway-Parameters", "scope=label:read"})
		}, Want{Statuses: []int{403}, Error: "insufficient_scope", Scope: "label:create"}})
	})
}

// refusesOrPasses checks that a call whose sender may make it, but which is odd,
// is either refused or answered as if it were not.
func (s *site) refusesOrPasses(c call, client string) {
	s.t.Helper()
	a := c.send(s.t, s.listen)
	reached := s.behind.take()
	switch {
	case len(reached) == 0 && a.status >= 400:
	case len(reached) == 1 && a.status < 400:
		if reached[0].method != c.method || reached[0].target != c.target {
			s.t.Errorf("the API is asked %s %s", reached[0].method, reached[0].target)
		}
		reached[0].checkVouched(s.t, client)
	default:
		s.t.Errorf("%d requests reach the API, and the answer is %d %s", len(reached), a.status, a.body)
	}
}

// testForgedIdentity: what the API is told of the caller is authz's word.
func testForgedIdentity(t *testing.T, s *site) {
	h := s.issue(s.service, resource)
	var all []field
	for _, name := range vouched {
		for _, spelling := range []string{name, http.CanonicalHeaderKey(name), strings.ReplaceAll(name, "-", "_"), strings.Replace(name, "x-auth", "X_Auth", 1)} {
			all = append(all, field{spelling, forgedMark + "." + forgedMark + "." + forgedMark})
		}
	}
	for _, f := range all {
		t.Run(f.name, func(t *testing.T) { s.in(t).passesForged(h, f) })
	}
	t.Run("all together", func(t *testing.T) { s.in(t).passesForged(h, all...) })
	t.Run("without credentials", func(t *testing.T) {
		s.in(t).refuses(refusal{"forged identity", func(*site) call { return makeLabel.with(all...) }, unauthorized("-")})
	})
	// RFC 9110 §7.6.1 lets a client name headers that are not to be handed on:
	// not those that the gateway has set.
	for _, name := range append(slices.Clone(vouched), "Authorization", "DPoP", "X-Forwarded-Method", "X-Forwarded-Proto",
		"X-Forwarded-Host", "X-Forwarded-Uri", "X-Gateway-Authorization", "X-Gateway-Parameters") {
		t.Run("Connection: "+name, func(t *testing.T) {
			s := s.in(t)
			a := s.good(h, makeLabel).with(field{"Connection", "close, " + name}).send(t, s.listen)
			for _, r := range s.behind.take() {
				if a.status < 400 {
					r.checkVouched(t, h.client)
				}
			}
		})
	}
}

func (s *site) passesForged(h holder, forged ...field) {
	s.t.Helper()
	c := s.good(h, makeLabel).with(forged...)
	want := Want{}
	if s.gateway.Amend != nil {
		s.gateway.Amend("forged "+forged[0].name, &want)
	}
	if want.Skip != "" {
		s.t.Skip(want.Skip)
	}
	s.refusesOrPasses(c, h.client)
}

// oddTargets could be read as other paths than they are.
var oddTargets = []string{
	"/labels/../labels/none", "/labels/./none", "/labels/none/..", "/labels/none/../../labels/none",
	"/labels/%2e%2e/labels/none", "/labels/.%2E/labels/none", "/labels/%2e/none",
	"/labels%2Fnone", "/labels/no%2Fne", "/labels/no%2fne", "/labels/..%2flabels/none", "/labels/%252e%252e/labels",
	"//labels/none", "/labels//none", "///labels///none", "/labels/none/", "/labels/none//",
	"/labels/no%6ee", "/Labels/none", "/labels/none;v=1", "/labels/none?x=/../y", "/labels/none?", "/labels/none?a;b",
	"/labels/none%3Fa=b", "/labels/none%23a", "/labels/none%00", "/labels/none%0d%0aX-Auth-Client-Id:%20forged",
	"/labels/none%5c..%5cx", `/labels/none\..\x`, "/labels/n%C3%B6ne", "/labels/none%zz", "/labels/none#a", "*", "http://forged.test/labels/none",
}

// testOddTargets: what the API is asked is what was proven.
func testOddTargets(t *testing.T, s *site) {
	h := s.issue(s.service, resource)
	for _, target := range oddTargets {
		t.Run(target, func(t *testing.T) {
			s := s.in(t)
			odd := call{method: "GET", target: target}
			for _, proven := range []string{s.base() + target, s.base() + "/labels/none", s.base() + "/labels", target} {
				proof, err := h.key.Proof("GET", proven, time.Now(), dpopbind.ProofOptions{AccessToken: h.token})
				if err != nil {
					continue // not even a proof can be made
				}
				a := h.bearing(odd, proof).send(t, s.listen)
				for _, r := range s.behind.take() {
					if !isProven(s.base(), r.target, proven) {
						t.Errorf("with a proof for %s, the API is asked GET %s", proven, r.target)
					}
					if a.status < 400 || a.status == http.StatusNotFound {
						r.checkVouched(t, h.client)
					}
				}
				if a.status < 300 {
					t.Errorf("with a proof for %s, the answer is %d %s", proven, a.status, a.body)
				}
			}
		})
	}
}

// isProven tells whether the target of a request to the API is the proven one,
// byte for byte or in another spelling of the same (RFC 3986 §6.2.2). Dot
// segments are none: what reads them may stand behind what does not.
func isProven(base, target, proven string) bool {
	if base+target == proven {
		return true
	}
	path, _, _ := strings.Cut(target, "?")
	for segment := range strings.SplitSeq(strings.ReplaceAll(strings.ToLower(path), "%2e", "."), "/") {
		if segment == "." || segment == ".." {
			return false
		}
	}
	got, err := dpopbind.NormalizeURL(base + path)
	want, err2 := dpopbind.NormalizeURL(proven)
	return err == nil && err2 == nil && got == want
}
