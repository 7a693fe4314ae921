package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/cargokey/authz/dpopbind"
)

const (
	resource = "https://labels.carrier.test"
	baseURL  = "https://labels.example"
)

// world is the API over HTTP, an issuer of tokens, and a client's key.
type world struct {
	t       *testing.T
	api     *httptest.Server
	issuer  string
	private *ecdsa.PrivateKey // the issuer's
	key     *dpopbind.Key
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// newWorld starts an API; edit changes its configuration, jwks being where the keys are.
func newWorld(t *testing.T, edit func(c *config, jwks string)) *world {
	private := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	public := jose.JSONWebKey{Key: private.Public(), KeyID: "k", Algorithm: "ES256", Use: "sig"}
	mux := http.NewServeMux()
	as := httptest.NewServer(mux)
	t.Cleanup(as.Close)
	mux.HandleFunc("/.well-known/oauth-authorization-server", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":"%s/jwks"}`, as.URL, as.URL)
	})
	mux.HandleFunc("/jwks", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{public}})
	})
	c := config{issuer: as.URL, resource: resource, baseURL: baseURL}
	if edit != nil {
		edit(&c, as.URL+"/jwks")
	}
	api := httptest.NewServer(must(newAPI(c, slog.New(slog.DiscardHandler))))
	t.Cleanup(api.Close)
	return &world{t: t, api: api, issuer: c.issuer, private: private, key: must(dpopbind.GenerateKey())}
}

// sign makes a JWT of the issuer's.
func (w *world) sign(typ jose.ContentType, claims map[string]any) string {
	signer := must(jose.NewSigner(
		jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: w.private, KeyID: "k"}},
		(&jose.SignerOptions{}).WithType(typ)))
	return must(must(signer.Sign(must(json.Marshal(claims)))).CompactSerialize())
}

func (w *world) token(client, scope string) string {
	now := time.Now().Unix()
	return w.sign("at+jwt", map[string]any{
		"iss": w.issuer, "aud": resource, "sub": client, "client_id": client, "scope": scope, "jti": rand.Text(),
		"iat": now, "exp": now + 60, "cnf": map[string]string{"jkt": w.key.JKT()},
	})
}

// assertion is what the authorization server says of a request at the gateway.
func (w *world) assertion(client, scope, method, path string) string {
	now := time.Now().Unix()
	return w.sign("gateway-assertion+jwt", map[string]any{
		"iss": w.issuer, "aud": resource, "sub": client, "client_id": client, "scope": scope, "token_jti": rand.Text(),
		"cnf": map[string]string{"jkt": w.key.JKT()}, "htm": method, "htu": baseURL + path,
		"iat": now, "exp": now + 30, "jti": rand.Text(),
	})
}

// send sends a request with a proof; the scheme is "" for no credentials.
func (w *world) send(method, path, body, scheme, token string) (int, string) {
	w.t.Helper()
	req := must(http.NewRequest(method, w.api.URL+path, bytes.NewReader([]byte(body))))
	if scheme != "" {
		req.Header.Set("Authorization", scheme+" "+token)
		req.Header.Set("DPoP", must(w.key.Proof(method, baseURL+path, time.Now(), dpopbind.ProofOptions{AccessToken: token})))
	}
	return w.do(req)
}

// forward sends what a gateway sends on, with an assertion, "" for none.
func (w *world) forward(method, path, body, assertion string) (int, string) {
	w.t.Helper()
	req := must(http.NewRequest(method, w.api.URL+path, strings.NewReader(body)))
	if assertion != "" {
		req.Header.Set("X-Auth-Assertion", assertion)
	}
	return w.do(req)
}

func (w *world) do(req *http.Request) (int, string) {
	res := must(w.api.Client().Do(req))
	defer func() { _ = res.Body.Close() }()
	return res.StatusCode, string(must(io.ReadAll(res.Body)))
}

func TestAClientMakesALabelAndReadsItsOwnOnly(t *testing.T) {
	w := newWorld(t, nil)
	token := w.token("svc", "label:create label:read")
	status, body := w.send("POST", "/labels", `{"carrier":"acme","recipient":"Ada","created_by":"mallory"}`, "DPoP", token)
	var made label
	if err := json.Unmarshal([]byte(body), &made); err != nil || status != http.StatusCreated {
		t.Fatal(status, body, err)
	}
	if made.CreatedBy != "svc" {
		t.Errorf("created by %q", made.CreatedBy)
	}
	if status, body := w.send("GET", "/labels/"+made.ID, "", "DPoP", token); status != http.StatusOK || !strings.Contains(body, made.ID) {
		t.Error(status, body)
	}
	if status, _ := w.send("GET", "/labels/"+made.ID, "", "DPoP", w.token("other", "label:read")); status != http.StatusNotFound {
		t.Errorf("another client: %d", status)
	}
	if status, _ := w.send("POST", "/labels", `{}`, "DPoP", token); status != http.StatusBadRequest {
		t.Errorf("a label of nothing: %d", status)
	}
}

func TestEachRouteNeedsItsScopeAndABoundToken(t *testing.T) {
	w := newWorld(t, nil)
	for _, row := range []struct {
		method, path, scheme, scope string
		status                      int
	}{
		{"POST", "/labels", "DPoP", "label:read", http.StatusForbidden},
		{"GET", "/labels/1", "DPoP", "label:create", http.StatusForbidden},
		{"GET", "/labels/1", "DPoP", "label:read", http.StatusNotFound},
		{"GET", "/labels/1", "Bearer", "label:read", http.StatusUnauthorized},
		{"POST", "/labels", "Bearer", "label:create", http.StatusUnauthorized},
		{"POST", "/labels", "", "", http.StatusUnauthorized},
		{"GET", "/labels/1", "", "", http.StatusUnauthorized},
		{"GET", "/healthz", "", "", http.StatusOK},
		{"GET", "/.well-known/oauth-protected-resource", "", "", http.StatusOK},
	} {
		if status, body := w.send(row.method, row.path, "", row.scheme, w.token("svc", row.scope)); status != row.status {
			t.Errorf("%s %s by %q with %q: %d %s", row.method, row.path, row.scheme, row.scope, status, body)
		}
	}
	if _, body := w.send("GET", "/.well-known/oauth-protected-resource", "", "", ""); !strings.Contains(body, `"label:create",`) {
		t.Error(body)
	}
}

func behindGateway(c *config, _ string) { c.behindGateway = true }

func TestBehindAGatewayTheCallerIsTheAssertions(t *testing.T) {
	w := newWorld(t, behindGateway)
	const body = `{"carrier":"acme","recipient":"Ada","created_by":"mallory"}`
	create := w.assertion("svc", "label:create label:read", "POST", "/labels")
	status, answer := w.forward("POST", "/labels", body, create)
	var made label
	if err := json.Unmarshal([]byte(answer), &made); err != nil || status != http.StatusCreated {
		t.Fatal(status, answer, err)
	}
	if made.CreatedBy != "svc" {
		t.Errorf("created by %q", made.CreatedBy)
	}
	path := "/labels/" + made.ID
	for _, row := range []struct {
		name, method, path, assertion string
		status                        int
	}{
		{"its own label", "GET", path, w.assertion("svc", "label:read", "GET", path), http.StatusOK},
		{"another client's", "GET", path, w.assertion("other", "label:read", "GET", path), http.StatusNotFound},
		{"without the scope", "GET", path, w.assertion("svc", "label:create", "GET", path), http.StatusForbidden},
		{"of another label", "GET", path, w.assertion("svc", "label:read", "GET", "/labels/1"), http.StatusForbidden},
		{"spent", "POST", "/labels", create, http.StatusForbidden},
		{"none", "GET", path, "", http.StatusForbidden},
		{"an access token", "GET", path, w.token("svc", "label:read"), http.StatusForbidden},
		{"health needs none", "GET", "/healthz", "", http.StatusOK},
		{"the gateway has the metadata", "GET", "/.well-known/oauth-protected-resource", "", http.StatusNotFound},
	} {
		if status, answer := w.forward(row.method, row.path, body, row.assertion); status != row.status {
			t.Errorf("%s: %d %s", row.name, status, answer)
		}
	}
	// A token and its proof, good as they are, were to be shown at the gateway.
	if status, answer := w.send("GET", path, "", "DPoP", w.token("svc", "label:read")); status != http.StatusForbidden {
		t.Error(status, answer)
	}
}

func TestAnAssertionOpensNothingWhereProofsAreChecked(t *testing.T) {
	w := newWorld(t, nil)
	if status, answer := w.forward("GET", "/labels/1", "", w.assertion("svc", "label:read", "GET", "/labels/1")); status != http.StatusUnauthorized {
		t.Error(status, answer)
	}
}

func TestKeysCanBeElsewhereThanAtTheIssuer(t *testing.T) {
	// At such an issuer nobody answers, as in a compose network.
	elsewhere := func(c *config, jwks string) { c.issuer, c.jwksURI = "http://localhost:1", jwks }
	w := newWorld(t, elsewhere)
	if status, answer := w.send("GET", "/labels/1", "", "DPoP", w.token("svc", "label:read")); status != http.StatusNotFound {
		t.Error(status, answer)
	}
	w = newWorld(t, func(c *config, jwks string) { behindGateway(c, jwks); elsewhere(c, jwks) })
	if status, answer := w.forward("GET", "/labels/1", "", w.assertion("svc", "label:read", "GET", "/labels/1")); status != http.StatusNotFound {
		t.Error(status, answer)
	}
}

func TestAnUnsafeConfigurationIsRefused(t *testing.T) {
	good := config{issuer: "https://as.example", resource: resource, baseURL: baseURL}
	for name, spoil := range map[string]func(c *config){
		"keys by http of an issuer by https":              func(c *config) { c.jwksURI = "http://authz:8080/jwks" },
		"keys by http of an issuer on another host":       func(c *config) { c.issuer, c.jwksURI = "http://as.example", "http://authz:8080/jwks" },
		"a nonce behind a gateway, which checks no proof": func(c *config) { c.behindGateway, c.requireNonce = true, true },
	} {
		for _, behind := range []bool{false, true} {
			c := good
			c.behindGateway = behind
			spoil(&c)
			if _, err := newAPI(c, slog.New(slog.DiscardHandler)); err == nil {
				t.Errorf("%s, behind a gateway %v: accepted", name, behind)
			}
		}
	}
}
