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
	t      *testing.T
	api    *httptest.Server
	issuer string
	signer jose.Signer
	key    *dpopbind.Key
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func newWorld(t *testing.T) *world {
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
	handler := must(newAPI(config{issuer: as.URL, resource: resource, baseURL: baseURL}, slog.New(slog.DiscardHandler)))
	api := httptest.NewServer(handler)
	t.Cleanup(api.Close)
	signer := must(jose.NewSigner(
		jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: private, KeyID: "k"}},
		(&jose.SignerOptions{}).WithType("at+jwt")))
	return &world{t: t, api: api, issuer: as.URL, signer: signer, key: must(dpopbind.GenerateKey())}
}

func (w *world) token(client, scope string) string {
	now := time.Now().Unix()
	claims := must(json.Marshal(map[string]any{
		"iss": w.issuer, "aud": resource, "sub": client, "client_id": client, "scope": scope, "jti": rand.Text(),
		"iat": now, "exp": now + 60, "cnf": map[string]string{"jkt": w.key.JKT()},
	}))
	return must(must(w.signer.Sign(claims)).CompactSerialize())
}

// send sends a request with a proof; the scheme is "" for no credentials.
func (w *world) send(method, path, body, scheme, token string) (int, string) {
	w.t.Helper()
	req := must(http.NewRequest(method, w.api.URL+path, bytes.NewReader([]byte(body))))
	if scheme != "" {
		req.Header.Set("Authorization", scheme+" "+token)
		req.Header.Set("DPoP", must(w.key.Proof(method, baseURL+path, time.Now(), dpopbind.ProofOptions{AccessToken: token})))
	}
	res := must(w.api.Client().Do(req))
	defer func() { _ = res.Body.Close() }()
	return res.StatusCode, string(must(io.ReadAll(res.Body)))
}

func TestAClientMakesALabelAndReadsItsOwnOnly(t *testing.T) {
	w := newWorld(t)
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
	w := newWorld(t)
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
