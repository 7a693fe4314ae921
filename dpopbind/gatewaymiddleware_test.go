package dpopbind_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cargokey/authz/dpopbind"
)

const assertionHeader = "X-Auth-Assertion"

// innerAPI is a resource server behind a gateway, with its issuer.
type innerAPI struct {
	http.Handler
	as    *issuer
	clock *clock
	log   *logBuffer
	jkt   string
	calls int // that reached the handler
}

// newInnerAPI serves /labels for label:read; edit changes the configuration.
func newInnerAPI(t testing.TB, edit func(*dpopbind.GatewayMiddlewareConfig)) *innerAPI {
	t.Helper()
	a := &innerAPI{as: newIssuer(t), clock: newClock(), log: &logBuffer{}, jkt: must(dpopbind.GenerateKey()).JKT()}
	cfg := dpopbind.GatewayMiddlewareConfig{
		Issuer: a.as.URL, Resource: apiResource, BaseURLs: []string{apiBase}, Now: a.clock.now,
		Log: slog.New(slog.NewTextHandler(a.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	if edit != nil {
		edit(&cfg)
	}
	mw, err := dpopbind.NewGatewayMiddleware(cfg)
	if err != nil {
		t.Fatal(err)
	}
	echo := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.calls++
		caller, ok := dpopbind.CallerFrom(r.Context())
		if !ok {
			t.Error("the handler has no caller")
		}
		_ = json.NewEncoder(w).Encode(caller)
	})
	mux := http.NewServeMux()
	mux.Handle("/labels", mw.Require("label:read")(echo))
	mux.Handle("/admin", mw.Require("label:read", "admin")(echo))
	mux.Handle("/", mw.Require()(echo))
	a.Handler = mux
	return a
}

// assertion is a good one for GET /labels.
func (a *innerAPI) assertion() *jwt {
	at := a.clock.now().Unix()
	return &jwt{
		key:    a.as.key,
		header: [][2]string{{"typ", `"gateway-assertion+jwt"`}, {"alg", `"ES256"`}, {"kid", `"` + a.as.key.kid + `"`}},
		claims: [][2]string{
			{"iss", `"` + a.as.URL + `"`}, {"aud", `"` + apiResource + `"`}, {"sub", `"svc"`}, {"client_id", `"svc"`},
			{"scope", `"label:read label:create"`}, {"cnf", `{"jkt":"` + a.jkt + `"}`}, {"token_jti", `"t-1"`},
			{"htm", `"GET"`}, {"htu", `"` + apiURL + `"`},
			{"iat", fmt.Sprint(at)}, {"exp", fmt.Sprint(at + 30)}, {"jti", `"a-1"`},
		},
	}
}

// send sends a request with assertions to a path, which may have a query.
func (a *innerAPI) send(t testing.TB, method, path string, assertions ...string) answer {
	t.Helper()
	r := httptest.NewRequest(method, path, nil)
	for _, value := range assertions {
		r.Header.Add(assertionHeader, value)
	}
	return a.serve(t, r)
}

func (a *innerAPI) serve(t testing.TB, r *http.Request) answer {
	t.Helper()
	w := httptest.NewRecorder()
	a.ServeHTTP(w, r)
	got := answer{status: w.Code, header: w.Header(), challenges: w.Header().Values("WWW-Authenticate")}
	if w.Code == http.StatusOK {
		if err := json.Unmarshal(w.Body.Bytes(), &got.caller); err != nil {
			t.Error(err)
		}
		return got
	}
	var e struct {
		Error       string `json:"error"`
		Description string `json:"error_description"`
	}
	if err := json.Unmarshal(w.Body.Bytes(), &e); err != nil {
		t.Errorf("status %d: %v: %s", w.Code, err, w.Body)
	}
	got.code, got.description = e.Error, e.Description
	if c := w.Header().Get("Cache-Control"); c != "no-store" || got.description == "" {
		t.Errorf("%d with Cache-Control %q and the description %q", w.Code, c, got.description)
	}
	if challenged := len(got.challenges) > 0; challenged != (got.code == "insufficient_scope") {
		t.Errorf("%s with the challenges %q", got.code, got.challenges)
	}
	return got
}

func TestTheHandlerBehindAGatewayLearnsTheCaller(t *testing.T) {
	a := newInnerAPI(t, nil)
	got := a.send(t, "GET", "/labels?id=7", a.assertion().String())
	got.expect(t, http.StatusOK, "")
	want := dpopbind.Caller{
		ClientID: "svc", Subject: "svc", Scopes: []string{"label:read", "label:create"},
		JKT: a.jkt, TokenID: "t-1", Expires: now.Add(30 * time.Second),
	}
	if diff := cmp.Diff(want, got.caller); diff != "" {
		t.Error(diff)
	}
	got = a.send(t, "GET", "/labels", a.assertion().claim("cnf", "").String())
	if got.expect(t, http.StatusOK, ""); got.caller.JKT != "" || got.caller.X5T != "" {
		t.Errorf("a bearer token's caller is %+v", got.caller)
	}
	const thumbprint = "A4DtL2JmUMhAsvJj5tKyn64SqzmuXbMrJa0n761y5v0" // RFC 8705 §3.1's own
	got = a.send(t, "GET", "/labels", a.assertion().claim("cnf", `{"x5t#S256":"`+thumbprint+`"}`).String())
	if got.expect(t, http.StatusOK, ""); got.caller.JKT != "" || got.caller.X5T != thumbprint {
		t.Errorf("a certificate's caller is %+v", got.caller)
	}
}

func TestEachAssertionIsJudgedAsItSays(t *testing.T) {
	a := newInnerAPI(t, nil)
	good := a.assertion
	claim := func(name, value string) string { return good().claim(name, value).String() }
	head := func(name, value string) string { return good().head(name, value).String() }
	part := func(f func(h, p, s string) string) string {
		p := strings.Split(good().String(), ".")
		return f(p[0], p[1], p[2])
	}
	other := newIssuerKey("k1")
	const cnf = "cnf must have jkt or x5t#S256, and nothing else"
	type row struct{ name, assertion, refused string }
	rows := []row{
		{"good", good().String(), ""},
		{"of a bearer token", claim("cnf", ""), ""},
		{"of a token that is bound to a certificate", claim("cnf", `{"x5t#S256":"`+a.jkt+`"}`), ""},
		{"of a client that is not the subject", claim("sub", `"user"`), ""},
		{"issued ahead, within the skew", good().claim("iat", seconds(15)).claim("exp", seconds(45)).String(), ""},
		{"expired, within the skew", good().claim("iat", seconds(-44)).claim("exp", seconds(-14)).String(), ""},
		{"of 60 s", claim("exp", seconds(60)), ""},
		{"with claims and header members of others", good().claim("x", `{"y":[1]}`).head("jku", `"https://evil.example"`).String(), ""},

		{"an access token", a.as.token(a.jkt).String(), "typ must be gateway-assertion+jwt"},
		{"an access token with the claims of an assertion", head("typ", `"at+jwt"`), "typ must be"},
		{"typ missing", head("typ", ""), "typ must be"},
		{"typ JWT", head("typ", `"JWT"`), "typ must be"},
		{"typ in capitals", head("typ", `"Gateway-Assertion+JWT"`), "typ must be"},
		{"typ with application/", head("typ", `"application/gateway-assertion+jwt"`), "typ must be"},
		{"typ of a proof", head("typ", `"dpop+jwt"`), "typ must be"},
		{"typ a list", head("typ", `["gateway-assertion+jwt"]`), "typ must be"},
		{"crit empty", head("crit", "[]"), "critical header"},
		{"crit with a known name", head("crit", `["exp"]`), "critical header"},
		{"b64 false", head("b64", "false"), "critical header"},
		{"alg none", unsigned(good(), "none"), "algorithm that is not accepted"},
		{"alg HS256 with the public key as secret", hmacSigned(good(), a.as.key.jwk()), "algorithm that is not accepted"},
		{"alg missing", head("alg", ""), "algorithm that is not accepted"},
		{"alg a number", head("alg", "1"), "algorithm that is not accepted"},
		{"alg of another key type", head("alg", `"RS256"`), "does not publish"},
		{"kid missing", head("kid", ""), "kid must be a string"},
		{"kid empty", head("kid", `""`), "kid must be a string"},
		{"kid a number", head("kid", "1"), "kid must be a string"},
		{"kid unknown", head("kid", `"k2"`), "does not publish"},
		{"signed by another key of this kid", signedBy(good(), other), "signature does not verify"},
		{"signed by a key in its own header", signedBy(good().head("jwk", other.jwk()), other), "signature does not verify"},
		{"no signature", part(func(h, p, _ string) string { return h + "." + p + "." }), "signature does not verify"},
		{"a short signature", part(func(h, p, s string) string { return h + "." + p + "." + s[:84] }), "signature does not verify"},
		{"the claims of another", part(func(h, _, s string) string {
			return h + "." + strings.Split(claim("client_id", `"admin"`), ".")[1] + "." + s
		}), "signature does not verify"},

		{"empty", "", "compact serialization"},
		{"two segments", part(func(h, p, _ string) string { return h + "." + p }), "compact serialization"},
		{"four segments", part(func(h, p, s string) string { return h + "." + p + "." + s + ".x" }), "compact serialization"},
		{"two joined by a comma", part(func(h, p, s string) string { return h + "." + p + "." + s + ", x" }), "canonical base64url"},
		{"by a scheme", "DPoP " + good().String(), "canonical base64url"},
		{"padding", part(func(h, p, s string) string { return h + "." + p + "." + s + "==" }), "canonical base64url"},
		{"stray bits in the signature", part(func(h, p, s string) string { return h + "." + p + "." + s[:85] + "B" }), "canonical base64url"},
		{"too long", claim("pad", `"`+strings.Repeat("a", 8000)+`"`), "too long"},
		{"not JSON", part(func(h, _, s string) string { return h + ".AAAA." + s }), "malformed or ambiguous"},
		{"an array", part(func(h, _, s string) string { return h + ".W10." + s }), "malformed or ambiguous"},
		{"alg twice", twice(good(), "alg", `"none"`), "malformed or ambiguous"},
		{"a claim twice", also(good(), "client_id", `"admin"`), "malformed or ambiguous"},
		{"a claim in another case", also(good(), "Client_ID", `"admin"`), "malformed or ambiguous"},
		{"cnf.jkt twice", claim("cnf", `{"jkt":"x","jkt":"`+a.jkt+`"}`), "malformed or ambiguous"},

		{"iss of another", claim("iss", `"https://evil.example"`), "another issuer"},
		{"iss with a slash", claim("iss", `"`+a.as.URL+`/"`), "another issuer"},
		{"aud of another", claim("aud", `"https://other.example"`), "another resource"},
		{"aud with a slash", claim("aud", `"`+apiResource+`/"`), "another resource"},
		{"aud a list of one", claim("aud", `["`+apiResource+`"]`), "another resource"},
		{"htm of another method", claim("htm", `"POST"`), "another method"},
		{"htm in lower case", claim("htm", `"get"`), "another method"},
		{"htm empty", claim("htm", `""`), "another method"},
		{"htu of another path", claim("htu", `"`+apiBase+`/admin"`), "another URL"},
		{"htu with a slash", claim("htu", `"`+apiURL+`/"`), "another URL"},
		{"htu with a query", claim("htu", `"`+apiURL+`?id=7"`), "another URL"},
		{"htu of the API's own address", claim("htu", `"http://example.com/labels"`), "another URL"},
		{"htu by http", claim("htu", `"`+strings.Replace(apiURL, "https", "http", 1)+`"`), "another URL"},
		{"htu of a path only", claim("htu", `"/labels"`), "another URL"},
		{"htu not normalised", claim("htu", `"`+strings.Replace(apiURL, "api.example", "API.example:443", 1)+`"`), "another URL"},

		{"expired, at the skew", good().claim("iat", seconds(-45)).claim("exp", seconds(-15)).String(), "has expired"},
		{"long expired", claim("exp", "0"), "has expired"},
		{"issued in the future", good().claim("iat", seconds(16)).claim("exp", seconds(46)).String(), "issued in the future"},
		{"of 61 s", claim("exp", seconds(61)), "at most 60 s"},
		{"of an hour, issued long ago", good().claim("iat", seconds(-3000)).claim("exp", seconds(600)).String(), "at most 60 s"},
		{"expired when it was issued", good().claim("iat", seconds(0)).claim("exp", seconds(0)).String(), "at most 60 s"},
		{"exp beyond all times", claim("exp", "1e300"), "exp must be a time"},
		{"nbf in the future", claim("nbf", seconds(16)), "not valid yet"},
		{"scope with two spaces", claim("scope", `"label:read  x"`), "scope is malformed"},
		{"cnf empty", claim("cnf", "{}"), cnf},
		{"cnf a string", claim("cnf", `"`+a.jkt+`"`), cnf},
		{"cnf null", claim("cnf", "null"), cnf},
		{"cnf of a short thumbprint", claim("cnf", `{"jkt":"`+a.jkt[:42]+`"}`), cnf},
		{"cnf of both", claim("cnf", `{"jkt":"`+a.jkt+`","x5t#S256":"`+a.jkt+`"}`), cnf},
		{"cnf of another kind", claim("cnf", `{"kid":"`+a.jkt+`"}`), cnf},
		{"cnf of a certificate, and of another kind", claim("cnf", `{"x5t#S256":"`+a.jkt+`","kid":"k"}`), cnf},
		{"cnf of a certificate, short", claim("cnf", `{"x5t#S256":"`+a.jkt[:42]+`"}`), cnf},
		{"cnf of a certificate, padded", claim("cnf", `{"x5t#S256":"`+a.jkt+`="}`), cnf},
		{"cnf of a certificate, a number", claim("cnf", `{"x5t#S256":1}`), cnf},
	}
	for name, refused := range map[string]string{
		"iss": "another issuer", "aud": "another resource", "htm": "another method", "htu": "another URL",
		"iat": "iat must be a time", "exp": "exp must be a time", "scope": "scope must be a string",
		"client_id": "client_id must be a string", "sub": "sub must be a string",
		"token_jti": "token_jti must be a string", "jti": "jti must be a string",
	} {
		rows = append(rows, row{name + " missing", claim(name, ""), refused})
		// The right value in a list is of the wrong type too.
		value := ""
		for _, c := range good().claims {
			if c[0] == name {
				value = c[1]
			}
		}
		for _, wrong := range []string{"null", "true", "{}", "[" + value + "]"} {
			rows = append(rows, row{name + " " + wrong, claim(name, wrong), refused})
		}
	}
	for _, name := range []string{"client_id", "sub", "token_jti", "jti"} {
		rows = append(rows, row{name + " empty", claim(name, `""`), name + " must be a string"},
			row{name + " too long", claim(name, `"`+strings.Repeat("s", 2049)+`"`), name + " must be a string"})
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			before := a.calls
			got := a.send(t, "GET", "/labels", row.assertion)
			if row.refused == "" {
				got.expect(t, http.StatusOK, "")
				return
			}
			got.expect(t, http.StatusForbidden, "invalid_gateway_assertion")
			if !strings.Contains(got.description, row.refused) || !strings.Contains(got.description, "through its gateway") {
				t.Errorf("the description is %q, want %q", got.description, row.refused)
			}
			if a.calls != before {
				t.Error("the request reached the handler")
			}
		})
	}
}

func TestARequestHasExactlyOneAssertion(t *testing.T) {
	a := newInnerAPI(t, nil)
	good := a.assertion().String()
	a.send(t, "GET", "/labels").expect(t, http.StatusForbidden, "invalid_gateway_assertion")
	a.send(t, "GET", "/labels", good, good).expect(t, http.StatusForbidden, "invalid_gateway_assertion")
	a.send(t, "GET", "/labels", good, "").expect(t, http.StatusForbidden, "invalid_gateway_assertion")
	// Neither a token and its proof nor a name in a header stand for one.
	r := httptest.NewRequest("GET", "/labels", nil)
	r.Header.Set("Authorization", "DPoP "+a.as.token(a.jkt).String())
	r.Header.Set("X-Auth-Client-Id", "svc")
	r.Header.Set("X-Auth-Scope", "label:read")
	a.serve(t, r).expect(t, http.StatusForbidden, "invalid_gateway_assertion")
	if a.calls != 0 {
		t.Errorf("%d requests reached the handler", a.calls)
	}
}

func TestAnAssertionOpensItsOwnRequestOnly(t *testing.T) {
	a := newInnerAPI(t, nil)
	assertion := a.assertion().claim("scope", `"label:read admin"`).String()
	for _, row := range []struct {
		method, target string
		status         int
		code           string
	}{
		{"GET", "/labels", http.StatusOK, ""},
		{"GET", "/labels?id=8", http.StatusOK, ""},
		{"GET", "/%6cabels", http.StatusOK, ""},
		{"HEAD", "/labels", http.StatusForbidden, "invalid_gateway_assertion"},
		{"POST", "/labels", http.StatusForbidden, "invalid_gateway_assertion"},
		{"GET", "/labels/", http.StatusForbidden, "invalid_gateway_assertion"},
		{"GET", "/labels%2F", http.StatusForbidden, "invalid_gateway_assertion"},
		{"GET", "/admin", http.StatusForbidden, "invalid_gateway_assertion"},
		{"GET", "/", http.StatusForbidden, "invalid_gateway_assertion"},
		{"GET", "/admin/%2e%2e/labels", http.StatusBadRequest, "invalid_request"},
	} {
		got := a.send(t, row.method, row.target, assertion)
		if got.status != row.status || got.code != row.code {
			t.Errorf("%s %s: got %d %s (%s)", row.method, row.target, got.status, got.code, got.description)
		}
	}
}

func TestTheURLBehindAGatewayIsNotTheHostHeaders(t *testing.T) {
	a := newInnerAPI(t, nil)
	r := httptest.NewRequest("GET", "http://evil.example/labels", nil)
	r.Header.Set(assertionHeader, a.assertion().claim("htu", `"http://evil.example/labels"`).String())
	r.Header.Set("X-Forwarded-Host", "evil.example")
	r.Header.Set("X-Forwarded-Proto", "http")
	a.serve(t, r).expect(t, http.StatusForbidden, "invalid_gateway_assertion")
}

func TestScopesAreHeldBehindAGateway(t *testing.T) {
	a := newInnerAPI(t, nil)
	got := a.send(t, "GET", "/labels", a.assertion().claim("scope", `"label:create"`).String())
	got.expect(t, http.StatusForbidden, "insufficient_scope")
	want := []string{`DPoP realm="https://labels.example", error="insufficient_scope", ` +
		`error_description="The access token lacks a scope; this request needs: label:read", scope="label:read"`}
	if diff := cmp.Diff(want, got.challenges); diff != "" {
		t.Error(diff)
	}
	admin := a.assertion().claim("htu", `"`+apiBase+`/admin"`)
	got = a.send(t, "GET", "/admin", admin.claim("cnf", "").String())
	got.expect(t, http.StatusForbidden, "insufficient_scope")
	if !strings.HasPrefix(strings.Join(got.challenges, ""), "Bearer ") || !strings.Contains(got.challenges[0], `scope="label:read admin"`) {
		t.Errorf("a bearer token's challenges are %q", got.challenges)
	}
	a.send(t, "GET", "/admin", admin.claim("scope", `"admin label:read"`).String()).expect(t, http.StatusOK, "")
	a.send(t, "GET", "/x", a.assertion().claim("htu", `"`+apiBase+`/x"`).claim("scope", `""`).String()).expect(t, http.StatusOK, "")
}

func TestASpentAssertionIsRefused(t *testing.T) {
	a := newInnerAPI(t, func(cfg *dpopbind.GatewayMiddlewareConfig) { cfg.Replay = dpopbind.NewMemoryReplay(0, cfg.Now) })
	assertion := a.assertion().String()
	// A request that does not get through spends nothing.
	a.send(t, "POST", "/labels", assertion).expect(t, http.StatusForbidden, "invalid_gateway_assertion")
	a.send(t, "GET", "/labels", a.assertion().claim("scope", `""`).String()).expect(t, http.StatusForbidden, "insufficient_scope")
	a.send(t, "GET", "/labels", assertion).expect(t, http.StatusOK, "")
	for _, equal := range []string{assertion, a.assertion().String(), a.assertion().claim("exp", seconds(31)).String()} {
		got := a.send(t, "GET", "/labels", equal)
		got.expect(t, http.StatusForbidden, "invalid_gateway_assertion")
		if !strings.Contains(got.description, "used before") {
			t.Errorf("the description is %q", got.description)
		}
	}
	a.send(t, "GET", "/labels", a.assertion().claim("jti", `"a-2"`).String()).expect(t, http.StatusOK, "")
	// To the last moment that it is accepted in.
	a.clock.advance(45*time.Second - time.Millisecond)
	if got := a.send(t, "GET", "/labels", assertion); !strings.Contains(got.description, "used before") {
		t.Errorf("the description is %q", got.description)
	}
}

// blindReplay cannot tell.
type blindReplay struct{}

func (blindReplay) Spend(context.Context, [32]byte, time.Time, time.Time) (bool, error) {
	return false, errors.New("the store is away")
}

func TestWhatCannotBeToldBehindAGatewayIsRefused(t *testing.T) {
	a := newInnerAPI(t, func(cfg *dpopbind.GatewayMiddlewareConfig) { cfg.Replay = blindReplay{} })
	got := a.send(t, "GET", "/labels", a.assertion().String())
	got.expect(t, http.StatusServiceUnavailable, "temporarily_unavailable")
	if got.header.Get("Retry-After") == "" || !strings.Contains(a.log.String(), "the store is away") {
		t.Errorf("503 with the headers %v and the log %s", got.header, a.log)
	}
	a = newInnerAPI(t, nil)
	a.as.answer(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) })
	a.send(t, "GET", "/labels", a.assertion().String()).expect(t, http.StatusServiceUnavailable, "temporarily_unavailable")

	s := slow{newClock()}
	a = newInnerAPI(t, func(cfg *dpopbind.GatewayMiddlewareConfig) { cfg.Replay, cfg.Now = s, s.clock.now })
	got = a.send(t, "GET", "/labels", a.assertion().String())
	got.expect(t, http.StatusForbidden, "invalid_gateway_assertion")
	if !strings.Contains(got.description, "expired while") {
		t.Errorf("the description is %q", got.description)
	}
}

func TestAnAssertionIsNoAccessToken(t *testing.T) {
	a := newAPI(t, allowBearer)
	// With all that an access token has.
	d := a.as.token(a.key.JKT()).head("typ", `"gateway-assertion+jwt"`).claim("token_jti", `"t-1"`)
	d.claim("htm", `"GET"`).claim("htu", `"`+apiURL+`"`)
	got := a.present(t, d.String())
	got.expect(t, http.StatusUnauthorized, "invalid_token")
	got = a.get(t, "/labels", "Authorization", "Bearer "+d.claim("cnf", "").String())
	got.expect(t, http.StatusUnauthorized, "invalid_token")
	got = a.get(t, "/labels", assertionHeader, d.String())
	got.expect(t, http.StatusUnauthorized, "")
}

func TestAssertionsDoNotReachTheLog(t *testing.T) {
	a := newInnerAPI(t, func(cfg *dpopbind.GatewayMiddlewareConfig) { cfg.Replay = dpopbind.NewMemoryReplay(0, cfg.Now) })
	good := a.assertion().String()
	refused := []string{good, good[:200], good + "x", a.assertion().claim("aud", `"x"`).String(), a.assertion().claim("scope", `""`).String()}
	a.send(t, "GET", "/labels", good).expect(t, http.StatusOK, "")
	for _, assertion := range refused {
		a.send(t, "GET", "/labels", assertion)
	}
	log := a.log.String()
	if n := strings.Count(log, "request refused"); n != len(refused) {
		t.Errorf("%d lines for %d refusals:\n%s", n, len(refused), log)
	}
	for _, assertion := range refused {
		for part := range strings.SplitSeq(assertion, ".") {
			if len(part) > 20 && strings.Contains(log, part) {
				t.Errorf("the log holds %q:\n%s", part, log)
			}
		}
	}
}

// FuzzGatewayAssertion fuzzes both documents of an assertion that is well signed,
// and its bytes: what gets through says to any parser that it is about this
// request.
func FuzzGatewayAssertion(f *testing.F) {
	a := newInnerAPI(f, nil)
	enc := base64.RawURLEncoding
	for _, d := range []*jwt{
		a.assertion(), a.assertion().claim("cnf", ""), a.assertion().claim("aud", `["`+apiResource+`"]`), a.as.token(a.jkt),
		a.assertion().head("crit", "[]"), a.assertion().claim("exp", "0"), a.assertion().claim("htm", `"POST"`),
	} {
		part := strings.Split(d.input(), ".")
		f.Add(must(enc.DecodeString(part[0])), must(enc.DecodeString(part[1])), "")
	}
	f.Add([]byte("{}"), []byte("{}"), "a.b.c")
	f.Add([]byte("{}"), []byte("{}"), a.assertion().String())
	f.Fuzz(func(t *testing.T, header, claims []byte, assertion string) {
		if assertion == "" {
			input := enc.EncodeToString(header) + "." + enc.EncodeToString(claims)
			assertion = input + "." + enc.EncodeToString(a.as.key.sign(input))
		}
		got := a.send(t, "GET", "/labels", assertion)
		switch got.status {
		case http.StatusOK:
		case http.StatusForbidden:
			return
		default:
			t.Fatalf("status %d: %s", got.status, got.description)
		}
		var said struct{ Iss, Aud, Htm, Htu, Jti string }
		part := strings.Split(assertion, ".")
		if err := json.Unmarshal(must(enc.DecodeString(part[1])), &said); err != nil {
			t.Fatal(err)
		}
		if said.Iss != a.as.URL || said.Aud != apiResource || said.Htm != "GET" || said.Htu != apiURL || said.Jti == "" || got.caller.ClientID == "" {
			t.Errorf("%s got through", must(enc.DecodeString(part[1])))
		}
	})
}
