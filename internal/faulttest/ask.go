package faulttest

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/cargokey/authz/dpopbind"
)

const (
	pathToken      = "/oauth/token"
	pathIntrospect = "/oauth/introspect"
	pathRevoke     = "/oauth/revoke"
	pathVerify     = "/gateway/verify"

	callMethod = http.MethodPost

	assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
)

// answer is a server's; status 0 is none.
type answer struct {
	status int
	fields map[string]any
}

func (a answer) text(name string) string { s, _ := a.fields[name].(string); return s }

// send sends a request, and complains of an answer that no fault excuses. Each is
// a POST: Go sends others again by itself where a connection breaks.
func (w *World) send(address, path string, header http.Header, form url.Values) answer {
	begun := time.Now()
	a, err := w.exchange(address, path, header, form)
	took := time.Since(begun)
	w.mu.Lock()
	w.answers[a.status]++
	w.slowest = max(w.slowest, took)
	w.mu.Unlock()
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		w.complain("%s is not answered within %s", path, Bound)
	case err != nil && !w.CutOff:
		w.complain("%s: %v", path, err)
	case a.status >= 500 && a.status != http.StatusServiceUnavailable:
		w.complain("%s is answered with %d %v", path, a.status, a.fields)
	}
	return a
}

func (w *World) exchange(address, path string, header http.Header, form url.Values) (answer, error) {
	r, err := http.NewRequestWithContext(w.t.Context(), http.MethodPost, "http://"+address+path, strings.NewReader(form.Encode()))
	if err != nil {
		return answer{}, err
	}
	r.Header = header
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	response, err := w.http.Do(r)
	if err != nil {
		return answer{}, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil { // an answer that breaks off is none: the client has no token
		return answer{}, err
	}
	a := answer{status: response.StatusCode, fields: map[string]any{}}
	if len(body) > 0 && json.Unmarshal(body, &a.fields) != nil {
		w.complain("%s is answered with %d and no JSON: %q", path, a.status, body)
	}
	if a.status == http.StatusServiceUnavailable &&
		(response.Header.Get("Retry-After") == "" || a.text("error") != "temporarily_unavailable") {
		w.complain("%s is answered with 503, %v and Retry-After %q", path, a.fields, response.Header.Get("Retry-After"))
	}
	return a, nil
}

// authenticate adds what a client is known by, and returns the assertion if there
// is one.
func (w *World) authenticate(c *Client, header http.Header, form url.Values) string {
	if c.Own == nil {
		r := http.Request{Header: header}
		r.SetBasicAuth(c.ID, c.Secret)
		return ""
	}
	assertion, err := c.Own.ClientAssertion(w.Issuer, c.ID, time.Now())
	if err != nil {
		w.complain("making an assertion: %v", err)
	}
	form.Set("client_assertion_type", assertionType)
	form.Set("client_assertion", assertion)
	return assertion
}

// prove makes a proof, and returns the name that it is spent by.
func (w *World) prove(key *dpopbind.Key, token string) (proof string, name [32]byte) {
	method, uri := http.MethodPost, w.Issuer+pathToken
	if token != "" {
		method, uri = callMethod, w.CallURL
	}
	proof, err := key.Proof(method, uri, time.Now(), dpopbind.ProofOptions{AccessToken: token})
	if err != nil {
		w.complain("making a proof: %v", err)
		return "", name
	}
	var checked *dpopbind.Proof
	if token == "" {
		checked, err = w.checker.Check(proof, w.toToken)
	} else {
		checked, err = w.checker.CheckWithToken(proof, w.toCall, token)
	}
	if err != nil {
		w.complain("reading a proof: %v", err)
		return "", name
	}
	return proof, checked.SpendKey()
}

// sendTry sends what a try has. An assertion in another's place is for replays.
func (w *World) sendTry(at Instance, y *try) answer {
	if y.call {
		u, _ := url.Parse(w.CallURL) // New has read it
		header := http.Header{}
		r := http.Request{Header: header}
		r.SetBasicAuth(w.Gateway.ID, w.Gateway.Secret)
		header.Set("X-Gateway-Authorization", header.Get("Authorization"))
		header.Set("Authorization", "DPoP "+y.token)
		header.Set("DPoP", y.proof)
		for name, value := range map[string]string{"Method": callMethod, "Proto": u.Scheme, "Host": u.Host, "Uri": u.RequestURI()} {
			header.Set("X-Forwarded-"+name, value)
		}
		return w.send(at.Internal, pathVerify, header, nil)
	}
	header, form := http.Header{"Dpop": {y.proof}}, url.Values{"grant_type": {"client_credentials"}, "resource": {w.Resource}}
	if y.assertion == "" {
		y.assertion = w.authenticate(y.client, header, form)
	} else {
		form.Set("client_assertion_type", assertionType)
		form.Set("client_assertion", y.assertion)
	}
	return w.send(at.Public, pathToken, header, form)
}
