package gatewaytest

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// testBearerTokens: where a resource admits them, authz has no key to name, and
// the API is told of none.
func testBearerTokens(t *testing.T, s *site) {
	s.run("resource", "update", resource, "--allow-bearer")
	c := s.register("label-bearer", "--allow-bearer", "--grant", resource+"=label:create")
	token := s.bearerToken(c)
	forged := makeLabel.with(field{"Authorization", "Bearer " + token})
	for _, name := range vouched {
		forged = forged.with(field{name, forgedMark})
	}
	a := forged.send(t, s.listen)
	// A call that is refused is refused for a moment longer than it need be.
	for end := time.Now().Add(5 * time.Second); a.status == http.StatusUnauthorized && time.Now().Before(end); {
		time.Sleep(100 * time.Millisecond)
		a = forged.send(t, s.listen)
	}
	reached := s.behind.take()
	if len(reached) != 1 || a.status != http.StatusCreated {
		t.Fatalf("it is answered %d %s, after %d requests to the API", a.status, a.body, len(reached))
	}
	reached[0].checkVouched(t, c.id, "x-auth-jkt")

	s.refuses(refusal{"a bound token by the Bearer scheme, where others are bearer tokens", func(s *site) call {
		return makeLabel.with(field{"Authorization", "Bearer " + s.issue(s.service, resource).token})
	}, unauthorized("-")}) // the error is in the challenge for Bearer
	s.refuses(refusal{"a bearer token by the DPoP scheme, with a proof", func(s *site) call {
		h := holder{c.id, token, newKey(s.t)}
		return s.good(h, makeLabel)
	}, unauthorized("invalid_token")})
	s.run("resource", "update", resource, "--allow-bearer=false")
	s.refuses(refusal{"a bearer token, where they were admitted a moment ago", func(*site) call {
		return makeLabel.with(field{"Authorization", "Bearer " + token})
	}, unauthorized("invalid_token")})
}

// bearerToken asks for one, without a proof (RFC 6749 §4.4).
func (s *site) bearerToken(c credentials) string {
	s.t.Helper()
	form := url.Values{"grant_type": {"client_credentials"}, "resource": {resource}}
	response := s.post(c, "/oauth/token", form)
	defer func() { _ = response.Body.Close() }()
	var made struct {
		Token string `json:"access_token"`
		Type  string `json:"token_type"`
	}
	if err := json.NewDecoder(response.Body).Decode(&made); err != nil || !strings.EqualFold(made.Type, "bearer") {
		s.t.Fatalf("asking for a bearer token is answered %s: %v, of type %q", response.Status, err, made.Type)
	}
	return made.Token
}

// post sends a form as a client.
func (s *site) post(c credentials, path string, form url.Values) *http.Response {
	s.t.Helper()
	request, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, s.issuer+path, strings.NewReader(form.Encode()))
	if err != nil {
		s.t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.SetBasicAuth(c.id, c.secret)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		s.t.Fatal(err)
	}
	return response
}
