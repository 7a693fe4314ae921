package authz_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cargokey/authz/authz"
	"github.com/cargokey/authz/jwks"
)

const introspectionJWT = "application/token-introspection+jwt"

// introspectSigned introspects with the answer as a JWT, and returns its claims
// once its signature, its type and what RFC 9701 §5 wants of it are checked.
func (i *instance) introspectSigned(gateway registered, token string) (claims map[string]any, signed string) {
	i.w.t.Helper()
	r := i.post("/oauth/introspect", gateway, url.Values{"token": {token}})
	r.Header.Set("Accept", introspectionJWT)
	before := i.now().Unix()
	a := i.do(r)
	if a.status != http.StatusOK {
		i.w.t.Fatalf("introspect: %d %s", a.status, a.body)
	}
	i.w.secret(a.body)
	for name, want := range map[string]string{"Content-Type": introspectionJWT, "Cache-Control": "no-store", "Pragma": "no-cache", "Vary": "Accept"} {
		if got := a.header.Values(name); len(got) != 1 || got[0] != want {
			i.w.t.Errorf("%s: %q", name, got)
		}
	}
	payload, err := i.w.keySet().Verify(a.body, jwks.TypeIntrospection)
	if err != nil {
		i.w.t.Fatalf("%v: %s", err, a.body)
	}
	if err := json.Unmarshal(payload, &claims); err != nil {
		i.w.t.Fatal(err)
	}
	if iat, _ := claims["iat"].(float64); int64(iat) < before || int64(iat) > i.now().Unix() {
		i.w.t.Errorf("iat is %v", claims["iat"])
	}
	delete(claims, "iat")
	if claims["iss"] != issuer || claims["aud"] != gateway.ID {
		i.w.t.Errorf("from %v, for %v", claims["iss"], claims["aud"])
	}
	return claims, a.body
}

// keySet is all keys of the server, as it holds them itself.
func (w *world) keySet() *jwks.Set {
	w.t.Helper()
	stored, err := w.owner.SigningKeys(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	var keys []*jwks.Key
	for _, sealed := range stored {
		key, err := w.sealer.Open(sealed)
		if err != nil {
			w.t.Fatal(err)
		}
		keys = append(keys, key)
	}
	set, err := jwks.NewSet(keys)
	if err != nil {
		w.t.Fatal(err)
	}
	return set
}

func TestSignedAnswerHoldsWhatTheJSONAnswerHolds(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i, gateway, key := w.instance(), w.gateway(), newKey(t)
	ratesGateway := w.client(authz.Client{ID: "rates-gateway", Introspects: []string{rates}})
	bearer := w.client(authz.Client{ID: "rate-service", AllowBearer: true, Grants: []authz.Grant{{Resource: rates, Scopes: []string{"rate:read"}}}})
	opaque := w.client(authz.Client{ID: "opaque-service", TokenFormat: authz.FormatOpaque,
		Grants: []authz.Grant{{Resource: labels, Scopes: []string{"CXS"}}}})
	unbound := i.do(i.tokenRequest(bearer, nil, clientCredentials)).string("access_token")
	for _, c := range []struct {
		name    string
		gateway registered
		token   string
		members int
	}{
		{"bound", gateway, i.token(w.client(authz.Client{}), key).string("access_token"), 12},
		{"opaque", gateway, i.token(opaque, key).string("access_token"), 12},
		{"bearer", ratesGateway, unbound, 11},
		{"inactive", gateway, unbound, 1},
	} {
		plain := i.introspect(c.gateway, c.token)
		if len(plain.json) != c.members || plain.header.Get("Vary") != "Accept" {
			t.Errorf("%s: %s %v", c.name, plain.body, plain.header)
		}
		claims, signed := i.introspectSigned(c.gateway, c.token)
		want := map[string]any{"iss": issuer, "aud": c.gateway.ID, "token_introspection": plain.json}
		if diff := cmp.Diff(want, claims); diff != "" { // nothing more: RFC 9701 §8.1, no sub and no exp
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
		if diff := cmp.Diff(map[string]any{"typ": "token-introspection+jwt", "alg": "ES256", "kid": i.kid()}, header(t, signed)); diff != "" {
			t.Errorf("%s: header (-want +got):\n%s", c.name, diff)
		}
	}
}

func (i *instance) kid() any {
	keys := i.get("/.well-known/jwks.json").json["keys"].([]any)
	return keys[len(keys)-1].(map[string]any)["kid"]
}

// An answer about a token is no token, and a token no answer, whoever signed
// them both.
func TestSignedAnswerAndTokenAreNotTakenForEachOther(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i, client, gateway, key := w.instance(), w.client(authz.Client{}), w.gateway(), newKey(t)
	token := i.token(client, key).string("access_token")
	_, signed := i.introspectSigned(gateway, token)
	set := w.keySet()
	for _, c := range []struct {
		name, token, typ string
		good             bool
	}{
		{"the token as a token", token, jwks.TypeAccessToken, true},
		{"the answer as an answer", signed, jwks.TypeIntrospection, true},
		{"the token as an answer", token, jwks.TypeIntrospection, false},
		{"the answer as a token", signed, jwks.TypeAccessToken, false},
		{"the answer as a gateway's assertion", signed, jwks.TypeGatewayAssertion, false},
		{"the token as a gateway's assertion", token, jwks.TypeGatewayAssertion, false},
	} {
		if _, err := set.Verify(c.token, c.typ); (err == nil) != c.good {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if i.active(gateway, signed) {
		t.Error("the answer is an active token")
	}
}

// Whatever makes a token inactive, a caller sees the same: byte by byte as JSON,
// claim by claim as a JWT.
func TestInactiveHasOneAnswerInBothForms(t *testing.T) {
	t.Parallel()
	w, elsewhere := newWorld(t), newWorld(t)
	i, client, gateway, key := w.instance(), w.client(authz.Client{}), w.gateway(), newKey(t)
	ratesGateway := w.client(authz.Client{ID: "rates-gateway", Introspects: []string{rates}})
	disabled := w.client(authz.Client{ID: "disabled-service"})
	deleted := w.client(authz.Client{ID: "deleted-service"})
	get := func(c registered) string { return i.token(c, key).string("access_token") }

	token, revoked, ofDisabled, ofDeleted := get(client), get(client), get(disabled), get(deleted)
	if a := i.do(i.post("/oauth/revoke", client, url.Values{"token": {revoked}})); a.status != http.StatusOK {
		t.Fatal(a.status, a.body)
	}
	if err := w.owner.SetClientDisabled(t.Context(), disabled.ID, true, operatorEvent(authz.AuditClientDisabled)); err != nil {
		t.Fatal(err)
	}
	if err := w.owner.DeleteClient(t.Context(), deleted.ID, operatorEvent(authz.AuditClientDeleted)); err != nil {
		t.Fatal(err)
	}
	later := w.instance()
	later.advance(2 * time.Hour) // what the first one issued has expired
	foreign := elsewhere.instance().token(elsewhere.client(authz.Client{}), key).string("access_token")
	w.secret(foreign)

	type seen struct {
		status int
		header http.Header
		body   string
	}
	var first *seen
	for _, c := range []struct {
		name   string
		at     *instance
		caller registered
		token  string
	}{
		{"unknown", i, gateway, "nonsense"},
		{"of another server", i, gateway, foreign},
		{"altered", i, gateway, token[:len(token)-1] + "_"},
		{"expired", later, gateway, token},
		{"revoked", i, gateway, revoked},
		{"of a disabled client", i, gateway, ofDisabled},
		{"of a deleted client", i, gateway, ofDeleted},
		{"of a resource that the caller does not front", i, ratesGateway, token},
		{"by the client that it was issued to", i, client, token},
	} {
		a := c.at.introspect(c.caller, c.token)
		for _, own := range []string{"X-Request-Id", "Date"} {
			a.header.Del(own)
		}
		if got := (&seen{a.status, a.header, a.body}); first == nil {
			first = got
		} else if diff := cmp.Diff(first, got, cmp.AllowUnexported(seen{})); diff != "" {
			t.Errorf("%s: (-unknown +got):\n%s", c.name, diff)
		}
		if a.body != `{"active":false}` {
			t.Errorf("%s: %s", c.name, a.body)
		}
		claims, signed := c.at.introspectSigned(c.caller, c.token)
		want := map[string]any{"iss": issuer, "aud": c.caller.ID, "token_introspection": map[string]any{"active": false}}
		if diff := cmp.Diff(want, claims); diff != "" {
			t.Errorf("%s: (-want +got):\n%s", c.name, diff)
		}
		if !slices.Equal([]string{"alg", "kid", "typ"}, sorted(header(t, signed))) {
			t.Errorf("%s: header %v", c.name, header(t, signed))
		}
	}
	if !i.active(gateway, token) {
		t.Error("the token itself is inactive")
	}
}

func sorted(m map[string]any) []string {
	var names []string
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func TestFormOfTheAnswerFollowsAccept(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i, gateway := w.instance(), w.gateway()
	for _, c := range []struct {
		name   string
		accept []string
		want   string
	}{
		{"none", nil, "application/json"},
		{"JSON", []string{"application/json"}, "application/json"},
		{"anything", []string{"*/*"}, "application/json"},
		{"named", []string{introspectionJWT}, introspectionJWT},
		{"in the second header", []string{"text/html;q=0.2", introspectionJWT + ";q=0.1"}, introspectionJWT},
		{"less than JSON", []string{"application/json", introspectionJWT + ";q=0.1"}, "application/json"},
		{"what nobody has", []string{"text/html"}, "application/json"},
		{"malformed", []string{introspectionJWT + ";q=x"}, "application/json"},
	} {
		r := i.post("/oauth/introspect", gateway, url.Values{"token": {"x"}})
		r.Header["Accept"] = c.accept
		if a := i.do(r); a.status != http.StatusOK || a.header.Get("Content-Type") != c.want {
			t.Errorf("%s: %d %v", c.name, a.status, a.header)
		}
	}
	// An error is JSON in any case (RFC 6749 §5.2).
	for status, r := range map[int]*http.Request{
		http.StatusUnauthorized: i.post("/oauth/introspect", registered{}, url.Values{"token": {"x"}}),
		http.StatusBadRequest:   i.post("/oauth/introspect", gateway, url.Values{}),
	} {
		r.Header.Set("Accept", introspectionJWT)
		a := i.do(r)
		if a.status != status || !strings.HasPrefix(a.header.Get("Content-Type"), "application/json") || a.header.Get("Vary") != "Accept" {
			t.Errorf("%d: %d %v", status, a.status, a.header)
		}
		checkErrorForm(t, a)
	}
}

func TestSignedAnswerIsByTheKeyThatSignsNow(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	gateway := w.gateway()
	_, before := w.instance().introspectSigned(gateway, "x")
	w.addSigningKey(time.Now())
	after := w.instance()
	_, signed := after.introspectSigned(gateway, "x")
	if header(t, before)["kid"] == header(t, signed)["kid"] || header(t, signed)["kid"] != after.kid() {
		t.Errorf("%v, then %v", header(t, before), header(t, signed))
	}
}
