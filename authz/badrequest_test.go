package authz_test

import (
	"encoding/base64"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cargokey/authz/authz"
	"github.com/cargokey/authz/dpopbind"
)

// badRequest is a good request for a token with one thing changed, and the
// exact answer to it.
type badRequest struct {
	name   string
	body   string // empty: a good one
	method string
	path   string
	header func(http.Header)
	status int
	code   string
	answer map[string]string // headers of the answer
}

const goodBody = "grant_type=client_credentials&scope=CXS"

var challenge = map[string]string{"WWW-Authenticate": `Basic realm="authz", charset="UTF-8"`}

func basic(text string) func(http.Header) {
	return func(h http.Header) {
		h.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(text)))
	}
}

func set(name string, values ...string) func(http.Header) {
	return func(h http.Header) { h[name] = values }
}

func badRequests(client registered, other string) []badRequest {
	secret := client.secret
	return []badRequest{
		{name: "GET", method: http.MethodGet, status: 405, code: "invalid_request", answer: map[string]string{"Allow": "POST"}},
		{name: "PUT", method: http.MethodPut, status: 405, code: "invalid_request", answer: map[string]string{"Allow": "POST"}},
		{name: "JSON", header: set("Content-Type", "application/json"), status: 415, code: "invalid_request"},
		{name: "multipart", header: set("Content-Type", "multipart/form-data; boundary=x"), status: 415, code: "invalid_request"},
		{name: "no content type", header: set("Content-Type"), status: 415, code: "invalid_request"},
		{name: "two content types", header: set("Content-Type", "application/x-www-form-urlencoded", "application/json"), status: 415, code: "invalid_request"},
		{name: "content type is nonsense", header: set("Content-Type", "a b c"), status: 415, code: "invalid_request"},
		{name: "body over 64 KiB", body: goodBody + "&x=" + strings.Repeat("a", 64<<10), status: 413, code: "invalid_request"},
		{name: "parameters in the URL", path: "/oauth/token?grant_type=client_credentials", status: 400, code: "invalid_request"},
		{name: "secret in the URL", path: "/oauth/token?client_secret=x", status: 400, code: "invalid_request"},
		{name: "bad percent-encoding", body: goodBody + "&x=%zz", status: 400, code: "invalid_request"},
		{name: "bad percent-encoding in a name", body: goodBody + "&%4=x", status: 400, code: "invalid_request"},
		{name: "too many parameters", body: goodBody + manyParameters(), status: 400, code: "invalid_request"},

		{name: "empty body", body: "&", status: 400, code: "invalid_request"},
		{name: "grant_type missing", body: "scope=CXS", status: 400, code: "invalid_request"},
		{name: "grant_type empty", body: "grant_type=&scope=CXS", status: 400, code: "invalid_request"},
		{name: "grant_type unknown", body: "grant_type=password", status: 400, code: "unsupported_grant_type"},
		{name: "grant_type of another case", body: "grant_type=Client_Credentials", status: 400, code: "unsupported_grant_type"},
		{name: "two grant types in one", body: "grant_type=client_credentials+client_credentials", status: 400, code: "unsupported_grant_type"},
		{name: "grant_type and a space", body: "grant_type=client_credentials+", status: 400, code: "unsupported_grant_type"},
		{name: "grant_type of a grant that fosite has", body: "grant_type=refresh_token&refresh_token=x", status: 400, code: "unsupported_grant_type"},
		{name: "grant_type twice", body: goodBody + "&grant_type=client_credentials", status: 400, code: "invalid_request"},
		{name: "scope twice", body: goodBody + "&scope=CXS", status: 400, code: "invalid_request"},
		{name: "scope twice, once empty", body: goodBody + "&scope=", status: 400, code: "invalid_request"},
		{name: "scope twice, once encoded", body: goodBody + "&%73cope=CXS", status: 400, code: "invalid_request"},
		{name: "resource twice", body: goodBody + "&resource=https://labels.carrier.test&resource=https://rates.carrier.test", status: 400, code: "invalid_request"},
		{name: "an unknown parameter twice", body: goodBody + "&x=1&x=2", status: 400, code: "invalid_request"},
		{name: "scope unknown", body: "grant_type=client_credentials&scope=nothing", status: 400, code: "invalid_scope"},
		{name: "scope with a NUL", body: "grant_type=client_credentials&scope=CXS%00", status: 400, code: "invalid_scope"},
		{name: "scope of bytes that are no text", body: "grant_type=client_credentials&scope=%ff%fe", status: 400, code: "invalid_scope"},
		{name: "resource unknown", body: goodBody + "&resource=https://elsewhere.test", status: 400, code: "invalid_target"},
		{name: "resource with a NUL", body: goodBody + "&resource=https://labels.carrier.test%00", status: 400, code: "invalid_target"},

		{name: "no credentials", header: set("Authorization"), status: 401, code: "invalid_client", answer: challenge},
		{name: "client_id only", header: set("Authorization"), body: goodBody + "&client_id=" + client.ID, status: 401, code: "invalid_client", answer: challenge},
		{name: "wrong secret", header: basic(client.ID + ":" + authz.NewSecret().Reveal()), status: 401, code: "invalid_client", answer: challenge},
		{name: "empty secret", header: basic(client.ID + ":"), status: 401, code: "invalid_client", answer: challenge},
		{name: "the digest as the secret", header: basic(client.ID + ":" + digestText(secret)), status: 401, code: "invalid_client", answer: challenge},
		{name: "another client's secret", header: basic(other + ":" + secret), status: 401, code: "invalid_client", answer: challenge},
		{name: "unknown client", header: basic("nobody:" + secret), status: 401, code: "invalid_client", answer: challenge},
		{name: "client with a NUL", header: basic(client.ID + "%00:" + secret), status: 401, code: "invalid_client", answer: challenge},
		{name: "client of bytes that are no text", header: basic("\xff\xfe:" + secret), status: 401, code: "invalid_client", answer: challenge},
		{name: "client of 10,000 bytes", header: basic(strings.Repeat("a", 10_000) + ":" + secret), status: 401, code: "invalid_client", answer: challenge},
		{name: "client of another case", header: basic(strings.ToUpper(client.ID) + ":" + secret), status: 401, code: "invalid_client", answer: challenge},
		{name: "Basic without a colon", header: basic(client.ID), status: 401, code: "invalid_client", answer: challenge},
		{name: "Basic that is not base64", header: set("Authorization", "Basic !!!"), status: 401, code: "invalid_client", answer: challenge},
		{name: "Basic with stray bits", header: func(h http.Header) { h.Set("Authorization", strayBits(h.Get("Authorization"))) }, status: 401, code: "invalid_client", answer: challenge},
		{name: "scope of 65 tokens", body: "grant_type=client_credentials&scope=CXS" + strings.Repeat("+CXS", 64), status: 400, code: "invalid_scope"},
		{name: "scope over 4 KiB", body: "grant_type=client_credentials&scope=" + strings.Repeat("a", 4<<10+1), status: 400, code: "invalid_scope"},
		{name: "Basic with nothing", header: set("Authorization", "Basic"), status: 401, code: "invalid_client", answer: challenge},
		{name: "Bearer", header: set("Authorization", "Bearer "+secret), status: 401, code: "invalid_client", answer: challenge},
		{name: "two Authorization headers", header: func(h http.Header) { h.Add("Authorization", h.Get("Authorization")) }, status: 400, code: "invalid_request"},
		{name: "Basic and post", body: goodBody + "&client_id=" + client.ID + "&client_secret=" + secret, status: 400, code: "invalid_request"},
		{name: "Basic and another client_id", body: goodBody + "&client_id=" + other, status: 400, code: "invalid_request"},
		{name: "Basic and an assertion", body: goodBody + "&client_assertion=x&client_assertion_type=urn:ietf:params:oauth:client-assertion-type:jwt-bearer", status: 400, code: "invalid_request"},
		{name: "post by a client of Basic", header: set("Authorization"), body: goodBody + "&client_id=" + client.ID + "&client_secret=" + secret, status: 401, code: "invalid_client", answer: challenge},
		{name: "client_secret twice", header: set("Authorization"), body: goodBody + "&client_id=" + client.ID + "&client_secret=x&client_secret=" + secret, status: 400, code: "invalid_request"},

		{name: "no proof", header: set("Dpop"), status: 400, code: "invalid_dpop_proof"},
		{name: "two proofs", header: func(h http.Header) { h.Add("DPoP", h.Get("DPoP")) }, status: 400, code: "invalid_dpop_proof"},
		{name: "an empty proof", header: set("Dpop", ""), status: 400, code: "invalid_dpop_proof"},
	}
}

func digestText(secret string) string {
	d := authz.DigestOf(secret)
	return base64.RawURLEncoding.EncodeToString(d[:])
}

// strayBits writes the same bytes in another base64: the bits that the last
// character does not need are set.
func strayBits(authorization string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	text := strings.TrimRight(authorization, "=")
	last := strings.IndexByte(alphabet, text[len(text)-1])
	return text[:len(text)-1] + string(alphabet[last+1]) + authorization[len(text):]
}

func manyParameters() string {
	var b strings.Builder
	for i := range 100 {
		b.WriteString("&p" + string(rune('a'+i%26)) + strings.Repeat("x", i/26) + "=1")
	}
	return b.String()
}

func TestBadRequestGetsAnErrorAndChangesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i, client, key := w.instance(), w.client(authz.Client{}), newKey(t)
	other := w.client(authz.Client{ID: "other"})
	cases := badRequests(client, other.ID)
	if len(cases) < 40 {
		t.Fatalf("only %d cases", len(cases))
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			body, method, path := c.body, c.method, c.path
			if body == "" {
				body = goodBody
			}
			if method == "" {
				method = http.MethodPost
			}
			if path == "" {
				path = "/oauth/token"
			}
			r, err := http.NewRequestWithContext(t.Context(), method, i.url+path, strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			r.SetBasicAuth(client.ID, client.secret)
			r.Header.Set("DPoP", i.proof(key))
			if c.header != nil {
				c.header(r.Header)
			}
			a := i.do(r)
			if a.status != c.status || a.string("error") != c.code {
				t.Errorf("%d %s; want %d %s", a.status, a.body, c.status, c.code)
			}
			for name, want := range c.answer {
				if got := a.header.Get(name); got != want {
					t.Errorf("%s is %q, want %q", name, got, want)
				}
			}
			checkErrorForm(t, a)
		})
	}
	if n := w.count("select count(*) from authz.tokens") + w.count("select count(*) from authz.spent_proofs"); n != 0 {
		t.Errorf("%d rows were written", n)
	}
	// What went before has broken nothing.
	i.token(client, key)
}

// checkErrorForm holds RFC 6749 §5.2 for an error answer: JSON of two members,
// only the characters allowed, and not to be cached.
func checkErrorForm(t *testing.T, a answer) {
	t.Helper()
	description := a.string("error_description")
	if description == "" || strings.ContainsFunc(description, func(r rune) bool { return r < 0x20 || r > 0x7e || r == '"' || r == '\\' }) {
		t.Errorf("error_description is %q", description)
	}
	if diff := cmp.Diff(map[string]any{"error": a.string("error"), "error_description": description}, a.json); diff != "" {
		t.Errorf("the answer has more: %s", diff)
	}
	if a.header.Get("Cache-Control") != "no-store" || a.header.Get("X-Request-Id") == "" {
		t.Errorf("headers: %v", a.header)
	}
}

func TestErrorSentencesSayWhatToDo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i, client, key := w.instance(), w.client(authz.Client{}), newKey(t)
	elsewhere, err := key.Proof(http.MethodPost, "https://other.test/token", i.now(), dpopbind.ProofOptions{})
	if err != nil {
		t.Fatal(err)
	}
	old, err := key.Proof(http.MethodPost, tokenEndpoint, i.now().Add(-1000_000_000_000), dpopbind.ProofOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, proof string
		want        []string
	}{
		{"htu names both URLs", elsewhere, []string{"htu", tokenEndpoint, "https://other.test/token"}},
		{"iat names the distance", old, []string{"iat", "too late", "clocks"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := i.post("/oauth/token", client, clientCredentials)
			r.Header.Set("DPoP", c.proof)
			a := i.do(r)
			if a.status != http.StatusBadRequest || a.string("error") != "invalid_dpop_proof" {
				t.Errorf("%d %s", a.status, a.body)
			}
			for _, word := range c.want {
				if !strings.Contains(a.string("error_description"), word) {
					t.Errorf("%q does not say %q", a.string("error_description"), word)
				}
			}
		})
	}
}

func TestHostAndForwardedHeadersDecideNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i, client, key := w.instance(), w.client(authz.Client{}), newKey(t)
	proof, err := key.Proof(http.MethodPost, "https://evil.test/oauth/token", i.now(), dpopbind.ProofOptions{})
	if err != nil {
		t.Fatal(err)
	}
	r := i.post("/oauth/token", client, clientCredentials)
	r.Host = "evil.test"
	for name, value := range map[string]string{
		"X-Forwarded-Host": "evil.test", "X-Forwarded-Proto": "https", "Forwarded": "host=evil.test;proto=https",
		"X-Original-Url": "https://evil.test/oauth/token", "X-Forwarded-For": "192.0.2.7",
	} {
		r.Header.Set(name, value)
	}
	r.Header.Set("DPoP", proof)
	if a := i.do(r); a.status != http.StatusBadRequest || a.string("error") != "invalid_dpop_proof" {
		t.Errorf("%d %s", a.status, a.body)
	}
	if strings.Contains(w.logs.String(), "192.0.2.7") {
		t.Error("a forwarded address was believed")
	}
}

func TestAliasOfTheTokenEndpointMayBeSigned(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alias := "http://authz.internal:8080/oauth/token"
	i := w.instance(func(c *authz.Config) { c.TokenEndpointAliases = []string{alias} })
	client, key := w.client(authz.Client{}), newKey(t)
	for _, url := range []string{alias, tokenEndpoint} {
		proof, err := key.Proof(http.MethodPost, url, i.now(), dpopbind.ProofOptions{})
		if err != nil {
			t.Fatal(err)
		}
		r := i.post("/oauth/token", client, clientCredentials)
		r.Header.Set("DPoP", proof)
		if a := i.do(r); a.status != http.StatusOK {
			t.Errorf("%s: %d %s", url, a.status, a.body)
		}
	}
}
