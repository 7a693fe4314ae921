package gatewaytest

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// passes checks that a call gets through as it is, for that client.
func (s *site) passes(c call, client string) answer {
	s.t.Helper()
	a := c.send(s.t, s.listen)
	reached := s.behind.take()
	if len(reached) != 1 {
		s.t.Fatalf("%d requests reach the API; the answer is %d %q %s\n%s", len(reached), a.status, a.header.Values("WWW-Authenticate"), a.body, &s.front.printed)
	}
	if reached[0].method != c.method || reached[0].target != c.target {
		s.t.Errorf("the API is asked %s %s, want %s %s", reached[0].method, reached[0].target, c.method, c.target)
	}
	reached[0].checkVouched(s.t, client)
	for _, name := range vouched {
		if told := a.header.Values(name); len(told) != 0 {
			s.t.Errorf("the caller is told %s: %q", name, told)
		}
	}
	for _, name := range []string{"Authorization", "DPoP"} {
		if told := reached[0].header.Values(name); len(told) != 0 {
			s.t.Errorf("the API gets %s, which is for the gateway", name)
		}
	}
	basic := At{Client: s.asGateway.id, Secret: s.asGateway.secret}.BasicCredentials()
	for name, values := range reached[0].header {
		for _, value := range values {
			if strings.Contains(value, s.asGateway.secret) || strings.Contains(value, basic) {
				s.t.Errorf("the API gets the gateway's secret, in %s", name)
			}
		}
	}
	return a
}

// testGoodCalls is what a gateway is for.
func testGoodCalls(t *testing.T, s *site) {
	for _, c := range []credentials{s.service, s.leaving} {
		h := s.issue(c, resource)
		body := strings.Replace(label, "Ada", strings.Repeat("Ada ", 10_000), 1) // more than a gateway's buffer
		a := s.passes(s.good(h, call{method: "POST", target: "/labels", body: body}), c.id)
		var made struct {
			ID, Recipient string
			By            string `json:"created_by"`
		}
		if err := json.Unmarshal([]byte(a.body), &made); err != nil || a.status != http.StatusCreated {
			t.Fatalf("making a label is answered %d %s", a.status, a.body)
		}
		if made.By != c.id || len(made.Recipient) != 40_000 {
			t.Errorf("the label is %s's, for %d letters", made.By, len(made.Recipient))
		}
		got := s.passes(s.good(h, call{method: "GET", target: "/labels/" + made.ID + "?a=b&c=%20d"}), c.id)
		if got.status != http.StatusOK || !strings.Contains(got.body, made.ID) {
			t.Errorf("reading it is answered %d %s", got.status, got.body)
		}
	}
	reader := s.issue(s.reader, resource)
	if a := s.passes(s.good(reader, readLabel), s.reader.id); a.status != http.StatusNotFound {
		t.Errorf("a label that there is not is answered %d %s", a.status, a.body)
	}
}

// revoke is RFC 7009, by the client itself.
func (s *site) revoke(c credentials, token string) {
	s.t.Helper()
	response := s.post(c, "/oauth/revoke", url.Values{"token": {token}})
	_ = response.Body.Close()
	if response.StatusCode != http.StatusOK {
		s.t.Fatalf("revoking is answered %s", response.Status)
	}
}
