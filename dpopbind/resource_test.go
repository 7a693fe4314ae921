package dpopbind_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cargokey/authz/dpopbind"
)

const (
	apiBase     = "https://api.example/carrier" // the public URL of every API here
	apiResource = "https://labels.example"
	apiURL      = apiBase + "/labels"
	offeredAlgs = "ES256 EdDSA PS256 RS256 Ed25519"
)

// clock is one that a test turns.
type clock struct{ at atomic.Int64 }

func newClock() *clock {
	c := &clock{}
	c.at.Store(now.UnixNano())
	return c
}

func (c *clock) now() time.Time          { return time.Unix(0, c.at.Load()) }
func (c *clock) advance(d time.Duration) { c.at.Add(int64(d)) }

// issuerKey is a signing key of an authorization server.
type issuerKey struct {
	kid, alg string
	signer   crypto.Signer
}

func (k issuerKey) jwk() string {
	enc := base64.RawURLEncoding.EncodeToString
	members := `"kid":"` + k.kid + `","alg":"` + k.alg + `","use":"sig"`
	switch p := k.signer.Public().(type) {
	case *ecdsa.PublicKey:
		point := must(p.Bytes())
		size := (len(point) - 1) / 2
		return fmt.Sprintf(`{"kty":"EC","crv":%q,"x":%q,"y":%q,%s}`, p.Params().Name, enc(point[1:1+size]), enc(point[1+size:]), members)
	case ed25519.PublicKey:
		return fmt.Sprintf(`{"kty":"OKP","crv":"Ed25519","x":%q,%s}`, enc(p), members)
	case *rsa.PublicKey:
		return fmt.Sprintf(`{"kty":"RSA","n":%q,"e":"AQAB",%s}`, enc(p.N.Bytes()), members)
	}
	panic("unknown key")
}

func (k issuerKey) sign(input string) []byte {
	digest := sha256.Sum256([]byte(input))
	switch s := k.signer.(type) {
	case *ecdsa.PrivateKey:
		var sig struct{ R, S *big.Int }
		must(asn1.Unmarshal(must(ecdsa.SignASN1(rand.Reader, s, digest[:])), &sig))
		size := (s.Params().BitSize + 7) / 8
		return append(sig.R.FillBytes(make([]byte, size)), sig.S.FillBytes(make([]byte, size))...)
	case ed25519.PrivateKey:
		return ed25519.Sign(s, []byte(input))
	case *rsa.PrivateKey:
		if k.alg == "PS256" {
			return must(rsa.SignPSS(rand.Reader, s, crypto.SHA256, digest[:], &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}))
		}
		return must(rsa.SignPKCS1v15(rand.Reader, s, crypto.SHA256, digest[:]))
	}
	panic("unknown key")
}

func newIssuerKey(kid string) issuerKey {
	return issuerKey{kid, "ES256", must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))}
}

// issuer is an authorization server, as far as a resource sees one.
type issuer struct {
	*httptest.Server
	key     issuerKey
	fetches atomic.Int64 // of the JWKS

	mu    sync.Mutex
	serve http.HandlerFunc // of the JWKS
}

func newIssuer(t testing.TB) *issuer {
	as := &issuer{key: newIssuerKey("k1")}
	as.publish(as.key.jwk())
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/oauth-authorization-server", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":"%s/keys"}`, as.URL, as.URL)
	})
	mux.HandleFunc("GET /keys", func(w http.ResponseWriter, r *http.Request) {
		as.fetches.Add(1)
		as.mu.Lock()
		serve := as.serve
		as.mu.Unlock()
		serve(w, r)
	})
	as.Server = httptest.NewServer(mux)
	t.Cleanup(as.Close)
	return as
}

func (as *issuer) answer(serve http.HandlerFunc) {
	as.mu.Lock()
	defer as.mu.Unlock()
	as.serve = serve
}

func (as *issuer) publish(keys ...string) {
	as.answer(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"keys":[%s]}`, strings.Join(keys, ","))
	})
}

// jwt is an access token in the making: good as it comes from token, and then
// spoiled. Values are raw JSON.
type jwt struct {
	key            issuerKey
	header, claims [][2]string
}

// token is bound to a key; without one it is a bearer token.
func (as *issuer) token(jkt string) *jwt {
	d := &jwt{
		key:    as.key,
		header: [][2]string{{"typ", `"at+jwt"`}, {"alg", `"` + as.key.alg + `"`}, {"kid", `"` + as.key.kid + `"`}},
		claims: [][2]string{
			{"iss", `"` + as.URL + `"`}, {"sub", `"svc"`}, {"aud", `"` + apiResource + `"`}, {"client_id", `"svc"`},
			{"scope", `"label:read label:create"`}, {"jti", `"t-1"`},
			{"iat", fmt.Sprint(now.Unix())}, {"exp", fmt.Sprint(now.Add(time.Hour).Unix())},
		},
	}
	if jkt != "" {
		d.claim("cnf", `{"jkt":"`+jkt+`"}`)
	}
	return d
}

func setMember(members [][2]string, name, value string) [][2]string {
	for i := range members {
		if members[i][0] == name {
			if value == "" {
				return append(members[:i], members[i+1:]...)
			}
			members[i][1] = value
			return members
		}
	}
	return append(members, [2]string{name, value})
}

// claim sets a claim; an empty value removes it.
func (d *jwt) claim(name, value string) *jwt { d.claims = setMember(d.claims, name, value); return d }

func (d *jwt) head(name, value string) *jwt { d.header = setMember(d.header, name, value); return d }

func (d *jwt) input() string {
	var part [2]string
	for i, members := range [][][2]string{d.header, d.claims} {
		var list []string
		for _, m := range members {
			list = append(list, `"`+m[0]+`":`+m[1])
		}
		part[i] = base64.RawURLEncoding.EncodeToString([]byte("{" + strings.Join(list, ",") + "}"))
	}
	return part[0] + "." + part[1]
}

func (d *jwt) String() string {
	input := d.input()
	return input + "." + base64.RawURLEncoding.EncodeToString(d.key.sign(input))
}

// logBuffer is a log that several goroutines write.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// api is a resource server over HTTP, with its issuer and one client's key.
type api struct {
	*httptest.Server
	as    *issuer
	mw    *dpopbind.Middleware
	clock *clock
	key   *dpopbind.Key
	log   *logBuffer
	calls atomic.Int64 // that reached the handler
}

// newAPI serves /labels for label:read; edit changes the configuration.
func newAPI(t testing.TB, edit func(*dpopbind.MiddlewareConfig)) *api {
	t.Helper()
	a := &api{as: newIssuer(t), clock: newClock(), key: must(dpopbind.GenerateKey()), log: &logBuffer{}}
	cfg := dpopbind.MiddlewareConfig{
		Issuer: a.as.URL, Resource: apiResource, BaseURLs: []string{apiBase},
		Replay: dpopbind.NewMemoryReplay(0, a.clock.now), Now: a.clock.now,
		Log: slog.New(slog.NewTextHandler(a.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	if edit != nil {
		edit(&cfg)
	}
	var err error
	if a.mw, err = dpopbind.NewMiddleware(cfg); err != nil {
		t.Fatal(err)
	}
	echo := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.calls.Add(1)
		caller, ok := dpopbind.CallerFrom(r.Context())
		if !ok {
			t.Error("the handler has no caller")
		}
		_ = json.NewEncoder(w).Encode(caller)
	})
	mux := http.NewServeMux()
	mux.Handle("/labels", a.mw.Require("label:read")(echo))
	mux.Handle("/labels/", a.mw.Require("label:read", "label:create")(echo))
	mux.Handle("/admin", a.mw.Require("admin")(echo))
	mux.Handle("/open", a.mw.Require()(echo))
	a.Server = httptest.NewServer(mux)
	t.Cleanup(a.Close)
	return a
}

// token is a good token for the api's key.
func (a *api) token() string { return a.as.token(a.key.JKT()).String() }

// proof is a good proof for GET /labels.
func (a *api) proof(token string) string { return a.proofFor(apiURL, token, "") }

func (a *api) proofFor(url, token, nonce string) string {
	return must(a.key.Proof(http.MethodGet, url, a.clock.now(), dpopbind.ProofOptions{AccessToken: token, Nonce: nonce}))
}

// answer is what a client sees.
type answer struct {
	status      int
	header      http.Header
	challenges  []string
	code        string // from the body
	description string
	caller      dpopbind.Caller
}

// get sends GET to a path, with headers by turns of name and value.
func (a *api) get(t testing.TB, path string, headers ...string) answer {
	t.Helper()
	req := must(http.NewRequest(http.MethodGet, a.URL+path, nil))
	for i := 0; i < len(headers); i += 2 {
		req.Header.Add(headers[i], headers[i+1])
	}
	return a.do(t, req)
}

func (a *api) do(t testing.TB, req *http.Request) answer {
	t.Helper()
	res, err := a.Client().Do(req)
	if err != nil {
		t.Error(err)
		return answer{}
	}
	defer func() { _ = res.Body.Close() }()
	body := must(io.ReadAll(res.Body))
	got := answer{status: res.StatusCode, header: res.Header, challenges: res.Header.Values("WWW-Authenticate")}
	if res.StatusCode == http.StatusOK {
		if err := json.Unmarshal(body, &got.caller); err != nil {
			t.Error(err)
		}
		return got
	}
	var e struct {
		Error       string `json:"error"`
		Description string `json:"error_description"`
	}
	if err := json.Unmarshal(body, &e); err != nil {
		t.Errorf("status %d: %v: %s", res.StatusCode, err, body)
	}
	got.code, got.description = e.Error, e.Description
	holdToRefusal(t, got)
	return got
}

// holdToRefusal is what every refusal must be.
func holdToRefusal(t testing.TB, got answer) {
	t.Helper()
	if c := got.header.Get("Cache-Control"); c != "no-store" {
		t.Errorf("Cache-Control is %q", c)
	}
	if got.description == "" || strings.ContainsFunc(got.description, func(r rune) bool {
		return r < 0x20 || r > 0x7e || r == '"' || r == '\\'
	}) {
		t.Errorf("the description is %q", got.description)
	}
	if got.status == http.StatusServiceUnavailable {
		if got.header.Get("Retry-After") == "" || len(got.challenges) != 0 {
			t.Errorf("503 with the headers %v", got.header)
		}
		return
	}
	if len(got.challenges) == 0 || !strings.HasPrefix(got.challenges[0], "DPoP ") ||
		!strings.Contains(got.challenges[0], `algs="ES256 EdDSA PS256 RS256 Ed25519"`) {
		t.Errorf("the challenges are %q", got.challenges)
	}
	all := strings.Join(got.challenges, ", ")
	if got.code == "" && strings.Contains(all, "error") || got.code != "" &&
		!strings.Contains(all, `error="`+got.code+`", error_description="`+got.description+`"`) {
		t.Errorf("the challenges are %q, and the body's code %q", got.challenges, got.code)
	}
}

// expect holds an answer to a status and an error code.
func (got answer) expect(t testing.TB, status int, code string) {
	t.Helper()
	if got.status != status || got.code != code {
		t.Errorf("got %d %s (%s), want %d %s", got.status, got.code, got.description, status, code)
	}
}
