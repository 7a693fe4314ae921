package authz_test

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cargokey/authz/authz"
	"github.com/cargokey/authz/dpopbind"
)

func (i *instance) proofFor(key *dpopbind.Key, method, url, token string) string {
	i.w.t.Helper()
	return i.callProof(key, method, url, token, dpopbind.ProofOptions{})
}

// withCallNonce is a good call whose proof has a nonce.
func (i *instance) withCallNonce(gateway registered, token string, key *dpopbind.Key, nonce string) call {
	i.w.t.Helper()
	c := i.goodCall(gateway, token, key)
	c.proofs = []string{i.callProof(key, c.method, c.url, token, dpopbind.ProofOptions{Nonce: nonce})}
	return c
}

func TestNonceIsAskedForWhereServerResourceOrClientNeedsIt(t *testing.T) {
	t.Parallel()
	for name, needs := range map[string]struct {
		server           bool
		resource, client bool
	}{
		"the server": {server: true}, "the resource": {resource: true}, "the client": {client: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.update(labels, func(r *authz.Resource) { r.RequireNonce = needs.resource })
			i := w.instance(func(c *authz.Config) { c.RequireNonce = needs.server })
			gateway, key := w.gateway(), newKey(t)
			client := w.client(authz.Client{RequireNonce: needs.client})
			token := w.recordedToken(client, labels, key.JKT())
			for _, nonce := range []string{"", "x"} {
				i.refusedAs(i.withCallNonce(gateway, token, key, nonce), 401, "use_dpop_nonce")
			}
			nonce := i.refusedAs(i.goodCall(gateway, token, key), 401, "use_dpop_nonce").header.Get("DPoP-Nonce")
			c := i.withCallNonce(gateway, token, key, nonce)
			if next := i.passes(c).header.Get("DPoP-Nonce"); next != "" {
				t.Errorf("a fresh nonce is replaced by %q", next)
			}
			i.refusedAs(c, 401, "invalid_dpop_proof")
			i.advance(dpopbind.DefaultNonceStep)
			if next := i.passes(i.withCallNonce(gateway, token, key, nonce)).header.Get("DPoP-Nonce"); next == "" || next == nonce {
				t.Errorf("an aging nonce is replaced by %q", next)
			}
			i.advance(dpopbind.DefaultNonceStep)
			i.refusedAs(i.withCallNonce(gateway, token, key, nonce), 401, "use_dpop_nonce")
		})
	}
}

func TestBearerTokenPassesOnlyWhereTheResourceAdmitsIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i := w.instance()
	gateway := w.client(authz.Client{ID: "rates-gateway", Introspects: []string{rates}})
	client := w.client(authz.Client{AllowBearer: true, Grants: []authz.Grant{{Resource: rates, Scopes: []string{"rate:read"}}}})
	key := newKey(t)
	token := i.do(i.tokenRequest(client, nil, clientCredentials)).string("access_token")
	bound := i.token(client, key).string("access_token")
	c := call{gateway: gateway, method: "GET", url: ratesURL + "/quotes", token: token, scheme: "Bearer", options: "scope=rate:read"}
	for range 2 { // there is nothing to spend
		a := i.passes(c)
		if _, has := a.header["X-Auth-Jkt"]; has || a.header.Get("X-Auth-Client-Id") != client.ID {
			t.Errorf("%v", a.header)
		}
	}
	for name, row := range map[string]struct {
		edit   func(*call)
		status int
		code   string
		scheme string // in whose challenge the error is
	}{
		"a bound token": {func(c *call) { c.token = bound }, 401, "invalid_token", "Bearer"},
		"a bound token, proof": {func(c *call) {
			c.token = bound
			c.proofs = []string{i.proofFor(key, c.method, c.url, bound)}
		}, 401, "invalid_request", "Bearer"},
		"a proof beside it": {func(c *call) { c.proofs = []string{i.proofFor(key, c.method, c.url, token)} }, 401, "invalid_request", "Bearer"},
		"the DPoP scheme":   {func(c *call) { c.scheme = "DPoP"; c.proofs = []string{i.proofFor(key, c.method, c.url, token)} }, 401, "invalid_token", "DPoP"},
		"unknown":           {func(c *call) { c.token += "x" }, 401, "invalid_token", "Bearer"},
		"too little scope":  {func(c *call) { c.options = "scope=shared" }, 403, "insufficient_scope", "Bearer"},
	} {
		bad := c
		row.edit(&bad)
		a := i.refusedAs(bad, row.status, row.code)
		found := ""
		for _, challenge := range a.header["Www-Authenticate"] {
			if strings.Contains(challenge, `error="`+row.code+`"`) {
				found += strings.Fields(challenge)[0]
			}
		}
		if len(a.header["Www-Authenticate"]) != 2 || found != row.scheme {
			t.Errorf("%s: the error is in the challenge of %q: %q", name, found, a.header["Www-Authenticate"])
		}
	}
	good := call{gateway: gateway, method: "GET", url: c.url, token: bound, proofs: []string{i.proofFor(key, "GET", c.url, bound)}}
	i.passes(good)
	w.update(rates, func(r *authz.Resource) { r.AllowBearer = false })
	i.refusedAs(c, 401, "invalid_token")
}

func TestAssertionTellsTheAPIWhoCalledWhat(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i := w.instance()
	gateway, client, key := w.gateway(), w.client(authz.Client{}), newKey(t)
	token := i.token(client, key, "scope", "label:create")
	c := i.goodCall(gateway, token.string("access_token"), key)
	c.url += "?q=1"
	c.options = "assertion=true"
	a := i.passes(c)
	assertion := a.header.Get("X-Auth-Assertion")
	parts := strings.Split(assertion, ".")
	if len(parts) != 3 {
		t.Fatalf("the assertion is %q", assertion)
	}
	if h := header(t, assertion); h["typ"] != "gateway-assertion+jwt" || h["alg"] != "ES256" || h["kid"] == "" {
		t.Errorf("its header is %v", h)
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	var claims map[string]any
	if err := json.Unmarshal(payload, &claims); err != nil {
		t.Fatal(err)
	}
	iat, _ := claims["iat"].(float64)
	if age := float64(time.Now().Unix()) - iat; age < 0 || age > 10 {
		t.Errorf("its iat is %v", claims["iat"])
	}
	if claims["jti"] == claims["token_jti"] || claims["jti"] == "" {
		t.Errorf("its jti is %v", claims["jti"])
	}
	delete(claims, "jti")
	want := map[string]any{
		"iss": issuer, "aud": labels, "sub": client.ID, "client_id": client.ID, "scope": "label:create",
		"cnf": map[string]any{"jkt": key.JKT()}, "token_jti": a.header.Get("X-Auth-Token-Id"),
		"htm": "POST", "htu": createLabel, "iat": iat, "exp": iat + 30,
	}
	if diff := cmp.Diff(want, claims); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	// The same keys sign it as sign tokens, and yet it is none.
	if i.active(gateway, assertion) {
		t.Error("an assertion is active as a token")
	}
	i.refusedAs(i.goodCall(gateway, assertion, key), 401, "invalid_token")
}

// The middleware for what is behind a gateway takes what the server makes.
func TestAssertionIsTakenByTheAPIBehind(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i := w.instance()
	gateway, client, key := w.gateway(), w.client(authz.Client{}), newKey(t)
	api, err := dpopbind.NewGatewayMiddleware(dpopbind.GatewayMiddlewareConfig{
		Issuer: issuer, JWKSURI: i.url + "/.well-known/jwks.json", Resource: labels, BaseURLs: []string{labelsURL},
	})
	if err != nil {
		t.Fatal(err)
	}
	var caller dpopbind.Caller
	handler := api.Require("label:create")(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		caller, _ = dpopbind.CallerFrom(r.Context())
	}))
	token := i.token(client, key).string("access_token")
	c := i.goodCall(gateway, token, key)
	c.options = "assertion=true&scope=label:create"
	a := i.passes(c)
	for _, row := range []struct {
		method, path string
		status       int
	}{{"POST", "/labels", 200}, {"POST", "/labels/7", 403}, {"GET", "/labels", 403}} {
		if got := serve(t, handler, row.method, row.path, a.header.Get("X-Auth-Assertion")); got != row.status {
			t.Errorf("%s %s: %d, want %d", row.method, row.path, got, row.status)
		}
	}
	if got := serve(t, handler, "POST", "/labels", token); got != 403 {
		t.Errorf("an access token for an assertion: %d", got)
	}
	if caller.ClientID != client.ID || caller.JKT != key.JKT() || caller.TokenID != a.header.Get("X-Auth-Token-Id") {
		t.Errorf("the caller is %+v", caller)
	}
}

// serve gives a handler a call that came through a gateway, and returns the
// status that it answers with.
func serve(t *testing.T, h http.Handler, method, path, assertion string) int {
	t.Helper()
	server := httptest.NewServer(h)
	defer server.Close()
	r, err := http.NewRequestWithContext(t.Context(), method, server.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Auth-Assertion", assertion)
	response, err := httpClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	return response.StatusCode
}
