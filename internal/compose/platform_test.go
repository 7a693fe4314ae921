//go:build compose || integration

package compose

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/cargokey/authz/dpopbind"
)

// The URLs are the same inside and outside of the platform.
const (
	issuer   = "http://localhost:8080"
	gateway  = "http://localhost:8090"
	resource = "https://labels.carrier.test"
	parcel   = `{"carrier": "acme", "recipient": "Ada"}`
)

// operator runs an operator's command and returns its answer.
type operator func(t *testing.T, args ...string) map[string]any

// answer is what came back: the status, and the error of the challenge or else of
// the body.
type answer struct {
	status       int
	code, reason string
	header       http.Header
	body         map[string]any
}

func (a answer) String() string { return fmt.Sprintf("%d %s %q", a.status, a.code, a.reason) }

func (a answer) text(member string) string {
	value, _ := a.body[member].(string)
	return value
}

// direct opens a connection for each request, so that a balancer's choice of an
// instance is made for each.
var direct = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 20 * time.Second}

func do(t *testing.T, method, to, body string, header http.Header) answer {
	t.Helper()
	a, err := try(t.Context(), method, to, body, header)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

var challengeParameter = regexp.MustCompile(`(error|error_description)="([^"]*)"`)

// try is do for goroutines.
func try(ctx context.Context, method, to, body string, header http.Header) (answer, error) {
	r, err := http.NewRequestWithContext(ctx, method, to, strings.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	for name, values := range header {
		r.Header[name] = values
	}
	response, err := direct.Do(r)
	if err != nil {
		return answer{}, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return answer{}, err
	}
	a := answer{status: response.StatusCode, header: response.Header}
	_ = json.Unmarshal(text, &a.body) // nginx's own pages are no JSON
	for _, m := range challengeParameter.FindAllStringSubmatch(strings.Join(response.Header.Values("WWW-Authenticate"), ", "), -1) {
		if m[1] == "error" {
			a.code = m[2]
		} else {
			a.reason = m[2]
		}
	}
	a.code, a.reason = cmp.Or(a.code, a.text("error")), cmp.Or(a.reason, a.text("error_description"))
	return a, nil
}

// holder is a client, its key, and the token it has.
type holder struct {
	id, secret string
	key        *dpopbind.Key
	token      string
}

// newHolder registers a client, until the test ends.
func newHolder(t *testing.T, operate operator, flags ...string) *holder {
	t.Helper()
	key, err := dpopbind.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	h := &holder{id: "svc-" + strings.ToLower(rand.Text()[:8]), key: key}
	h.secret, _ = operate(t, append([]string{"client", "create", h.id}, flags...)...)["client_secret"].(string)
	if h.secret == "" {
		t.Fatal("no secret")
	}
	t.Cleanup(func() { operate(t, "client", "delete", h.id) })
	return h
}

func granted(scopes string) []string { return []string{"--grant", resource + "=" + scopes} }

// post sends a form to an endpoint of the server, with HTTP Basic.
func (h *holder) post(t *testing.T, to string, form url.Values, proofs ...string) answer {
	t.Helper()
	return do(t, http.MethodPost, to, form.Encode(), h.formHeader(proofs...))
}

func (h *holder) formHeader(proofs ...string) http.Header {
	r := http.Request{Header: http.Header{"Content-Type": {"application/x-www-form-urlencoded"}, "Dpop": proofs}}
	r.SetBasicAuth(h.id, h.secret)
	return r.Header
}

func (h *holder) tokenProof(t *testing.T) string {
	t.Helper()
	return h.makeProof(t, http.MethodPost, issuer+"/oauth/token", "")
}

func (h *holder) makeProof(t *testing.T, method, to, token string) string {
	t.Helper()
	proof, err := h.key.Proof(method, to, time.Now(), dpopbind.ProofOptions{AccessToken: token})
	if err != nil {
		t.Fatal(err)
	}
	return proof
}

var credentials = url.Values{"grant_type": {"client_credentials"}}

// issue gets a token at an instance or at the balancer.
func (h *holder) issue(t *testing.T, at string) {
	t.Helper()
	a := h.post(t, at+"/oauth/token", credentials, h.tokenProof(t))
	if a.status != http.StatusOK || a.text("token_type") != "DPoP" {
		t.Fatalf("a token at %s: %v", at, a)
	}
	h.token = a.text("access_token")
}

// bearing are the headers of a call with the token and proofs.
func (h *holder) bearing(scheme string, proofs ...string) http.Header {
	return http.Header{"Authorization": {scheme + " " + h.token}, "Dpop": proofs}
}

// call makes a good call through the gateway.
func (h *holder) call(t *testing.T, method, path, body string) answer {
	t.Helper()
	return do(t, method, gateway+path, body, h.bearing("DPoP", h.makeProof(t, method, gateway+path, h.token)))
}

// refusal is a call that the gateway must not let through.
type refusal struct {
	name   string
	header http.Header
	status int
	code   string
}

// refusals are what a thief of the token, or a client with a bug, can send as
// POST /labels.
func (h *holder) refusals(t *testing.T) []refusal {
	t.Helper()
	const to = gateway + "/labels"
	thief := holder{token: h.token}
	var err error
	if thief.key, err = dpopbind.GenerateKey(); err != nil {
		t.Fatal(err)
	}
	good := func() string { return h.makeProof(t, http.MethodPost, to, h.token) }
	spent := good()
	if a := do(t, http.MethodPost, to, parcel, h.bearing("DPoP", spent)); a.status != http.StatusCreated {
		t.Fatalf("a label: %v", a)
	}
	other := h.makeProof(t, http.MethodGet, to+"/1", h.token)
	with := func(header http.Header, pairs ...string) http.Header {
		for i := 0; i < len(pairs); i += 2 {
			header.Set(pairs[i], pairs[i+1])
		}
		return header
	}
	return []refusal{
		{"no credentials", nil, 401, ""},
		{"no proof", h.bearing("DPoP"), 401, "invalid_dpop_proof"},
		{"another key's proof", h.bearing("DPoP", thief.makeProof(t, http.MethodPost, to, h.token)), 401, "invalid_token"},
		{"a spent proof", h.bearing("DPoP", spent), 401, "invalid_dpop_proof"},
		{"a proof for another request", h.bearing("DPoP", other), 401, "invalid_dpop_proof"},
		{"a proof for another method", h.bearing("DPoP", h.makeProof(t, http.MethodGet, to, h.token)), 401, "invalid_dpop_proof"},
		{"a proof for the API behind", h.bearing("DPoP", h.makeProof(t, http.MethodPost, "http://carrier-api:8090/labels", h.token)), 401, "invalid_dpop_proof"},
		{"a proof without the token's hash", h.bearing("DPoP", h.makeProof(t, http.MethodPost, to, "")), 401, "invalid_dpop_proof"},
		{"two proofs", h.bearing("DPoP", good(), good()), 401, "invalid_dpop_proof"},
		{"as a bearer token", h.bearing("Bearer"), 401, "invalid_token"},
		{"as a bearer token with a good proof", h.bearing("Bearer", good()), 401, "invalid_token"},
		{"forged X-Forwarded headers", with(h.bearing("DPoP", other), "X-Forwarded-Method", "GET", "X-Forwarded-Uri", "/labels/1"), 401, "invalid_dpop_proof"},
		{"forged X-Original headers", with(h.bearing("DPoP", other), "X-Original-Method", "GET", "X-Original-URL", to+"/1"), 401, "invalid_dpop_proof"},
		{"forged X-Auth headers", with(http.Header{}, "X-Auth-Client-Id", h.id, "X-Auth-Scope", "label:create", "X-Auth-Assertion", "e30.e30.e30"), 401, ""},
		{"an altered token", (&holder{key: h.key, token: h.token + "A"}).bearing("DPoP", h.makeProof(t, http.MethodPost, to, h.token+"A")), 401, "invalid_token"},
	}
}

// checkRefusals sends them, and a good call at the end: none of it does the
// token's owner harm.
func checkRefusals(t *testing.T, h *holder) {
	t.Helper()
	for _, row := range h.refusals(t) {
		a := do(t, http.MethodPost, gateway+"/labels", parcel, row.header)
		if a.status != row.status || a.code != row.code {
			t.Errorf("%s: %v, want %d %s", row.name, a, row.status, row.code)
		}
		if !strings.HasPrefix(a.header.Get("WWW-Authenticate"), `DPoP realm="`+resource+`"`) {
			t.Errorf("%s: the challenge is %q", row.name, a.header.Values("WWW-Authenticate"))
		}
	}
	if a := h.call(t, http.MethodPost, "/labels", parcel); a.status != http.StatusCreated || a.text("created_by") != h.id {
		t.Errorf("a good call: %v", a)
	}
}
