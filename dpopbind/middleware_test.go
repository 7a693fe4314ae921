package dpopbind_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cargokey/authz/dpopbind"
	"github.com/cargokey/authz/dpopbind/prooftest"
)

func TestAResourceJudgesEachProofOfTheTableAsItSays(t *testing.T) {
	a := newAPI(t, nil)
	tokens := map[string]string{}
	rows := prooftest.CasesWithToken(now, http.MethodGet, apiURL, func(jkt string) string {
		if tokens[jkt] == "" {
			tokens[jkt] = a.as.token(jkt).String()
		}
		return tokens[jkt]
	})
	if len(rows) < 120 {
		t.Fatalf("the table has %d rows, too few to be whole", len(rows))
	}
	ath := 0
	for _, row := range rows {
		t.Run(row.Name, func(t *testing.T) {
			headers := []string{"Authorization", "DPoP " + row.Token}
			for _, value := range row.Headers {
				headers = append(headers, "DPoP", value)
			}
			got := a.get(t, "/labels", headers...)
			if row.Check == "" {
				got.expect(t, http.StatusOK, "")
				return
			}
			got.expect(t, http.StatusUnauthorized, "invalid_dpop_proof")
			if !strings.Contains(got.description, row.Description) {
				t.Errorf("the description is %q", got.description)
			}
		})
		if row.Check == dpopbind.CheckATH {
			ath++
		}
	}
	if ath < 7 {
		t.Errorf("only %d rows are about ath", ath)
	}
}

func TestTheHandlerLearnsTheCaller(t *testing.T) {
	a := newAPI(t, nil)
	token := a.token()
	got := a.get(t, "/labels?id=7", "Authorization", "DPoP "+token, "DPoP", a.proof(token))
	got.expect(t, http.StatusOK, "")
	want := dpopbind.Caller{
		ClientID: "svc", Subject: "svc", Scopes: []string{"label:read", "label:create"},
		JKT: a.key.JKT(), TokenID: "t-1", Expires: now.Add(time.Hour),
	}
	if diff := cmp.Diff(want, got.caller); diff != "" {
		t.Error(diff)
	}
	if _, ok := dpopbind.CallerFrom(context.Background()); ok {
		t.Error("there is a caller without a request")
	}
}

func TestATokenOfAnotherKeyIsRefused(t *testing.T) {
	a := newAPI(t, nil)
	token := a.as.token(must(dpopbind.GenerateKey()).JKT()).String()
	got := a.get(t, "/labels", "Authorization", "DPoP "+token, "DPoP", a.proof(token))
	got.expect(t, http.StatusUnauthorized, "invalid_token")
}

func TestScopesAreHeldForEachRoute(t *testing.T) {
	a := newAPI(t, nil)
	for _, row := range []struct {
		path, scope, lacks string
	}{
		{"/labels", `"label:read"`, ""},
		{"/labels", `"x label:read y"`, ""},
		{"/labels/1", `"label:create label:read"`, ""},
		{"/labels/1", `"label:read"`, "label:read label:create"},
		{"/labels", `"label:create"`, "label:read"},
		{"/labels", `"label:reader"`, "label:read"},
		{"/labels", `"LABEL:READ"`, "label:read"},
		{"/labels", `""`, "label:read"},
		{"/labels", "", "label:read"},
		{"/admin", `"label:read label:create"`, "admin"},
		{"/open", "", ""},
	} {
		token := a.as.token(a.key.JKT()).claim("scope", row.scope).String()
		got := a.get(t, row.path, "Authorization", "DPoP "+token, "DPoP", a.proofFor(apiBase+row.path, token, ""))
		if row.lacks == "" {
			got.expect(t, http.StatusOK, "")
			continue
		}
		got.expect(t, http.StatusForbidden, "insufficient_scope")
		if !strings.Contains(strings.Join(got.challenges, ""), `scope="`+row.lacks+`"`) {
			t.Errorf("the challenges are %q", got.challenges)
		}
	}
}

func TestOfAnyNumberOfEqualRequestsOneGetsThrough(t *testing.T) {
	a := newAPI(t, nil)
	token := a.token()
	proof := a.proof(token)
	var wg sync.WaitGroup
	var ok atomic.Int64
	for i := range 50 {
		wg.Go(func() {
			sent := proof
			if i%2 == 1 {
				sent = prooftest.OtherS(proof) // the same proof in other bytes
			}
			got := a.get(t, "/labels", "Authorization", "DPoP "+token, "DPoP", sent)
			if got.status == http.StatusOK {
				ok.Add(1)
				return
			}
			got.expect(t, http.StatusUnauthorized, "invalid_dpop_proof")
		})
	}
	wg.Wait()
	if ok.Load() != 1 || a.calls.Load() != 1 {
		t.Errorf("%d answers, %d calls", ok.Load(), a.calls.Load())
	}
}

func TestARefusedRequestDoesNotUseItsProofUp(t *testing.T) {
	a := newAPI(t, nil)
	token := a.token()
	proof := a.proofFor(apiBase+"/labels/1", token, "")
	weak := a.as.token(a.key.JKT()).claim("scope", `"label:read"`).String()
	a.get(t, "/labels/1", "Authorization", "DPoP "+weak, "DPoP", proof).expect(t, http.StatusUnauthorized, "invalid_dpop_proof")
	a.get(t, "/labels", "Authorization", "DPoP "+token, "DPoP", proof).expect(t, http.StatusUnauthorized, "invalid_dpop_proof")
	a.get(t, "/labels/1", "Authorization", "DPoP "+token, "DPoP", proof).expect(t, http.StatusOK, "")
}

func TestANonceIsDemandedHandedOutAndRenewed(t *testing.T) {
	var nonces *dpopbind.Nonces
	turned := newClock()
	a := newAPI(t, func(cfg *dpopbind.MiddlewareConfig) {
		nonces = must(dpopbind.NewNonces(dpopbind.NonceConfig{
			Secrets: [][]byte{make([]byte, dpopbind.MinNonceSecret)}, Step: time.Second, Now: turned.now,
		}))
		cfg.Nonces = nonces
	})
	token := a.token()
	send := func(nonce string) answer {
		return a.get(t, "/labels", "Authorization", "DPoP "+token, "DPoP", a.proofFor(apiURL, token, nonce))
	}
	for _, nonce := range []string{"", "x", strings.Repeat("A", 32)} {
		got := send(nonce)
		got.expect(t, http.StatusUnauthorized, "use_dpop_nonce")
		if got.header.Get("DPoP-Nonce") != nonces.Current() {
			t.Error("the answer has no new nonce")
		}
	}
	first := nonces.Current()
	got := send(first)
	got.expect(t, http.StatusOK, "")
	if got.header.Get("DPoP-Nonce") != "" {
		t.Error("a fresh nonce was renewed")
	}
	turned.advance(time.Second)
	got = send(first)
	got.expect(t, http.StatusOK, "")
	if next := got.header.Get("DPoP-Nonce"); next == first || next != nonces.Current() {
		t.Errorf("an aging nonce was renewed by %q", next)
	}
	turned.advance(time.Second)
	send(first).expect(t, http.StatusUnauthorized, "use_dpop_nonce")
	// A proof that is bad otherwise learns that first: a nonce would not help it.
	got = a.get(t, "/labels", "Authorization", "DPoP "+token, "DPoP", a.proofFor(apiURL+"/other", token, ""))
	got.expect(t, http.StatusUnauthorized, "invalid_dpop_proof")
}

// broken is a store that cannot be reached.
type broken struct{}

func (broken) Spend(context.Context, [32]byte, time.Time, time.Time) (bool, error) {
	return true, errors.New("connection refused")
}

func TestAProofThatCannotBeSpentIsRefused(t *testing.T) {
	for name, replay := range map[string]dpopbind.Replay{
		"unreachable": broken{},
		"full":        full(t),
	} {
		a := newAPI(t, func(cfg *dpopbind.MiddlewareConfig) { cfg.Replay = replay })
		token := a.token()
		got := a.get(t, "/labels", "Authorization", "DPoP "+token, "DPoP", a.proof(token))
		got.expect(t, http.StatusServiceUnavailable, "temporarily_unavailable")
		if a.calls.Load() != 0 {
			t.Errorf("%s: the handler was called", name)
		}
		if !strings.Contains(a.log.String(), "level=ERROR") || !strings.Contains(a.log.String(), "spending the proof") {
			t.Errorf("%s: the log does not say why: %s", name, a.log)
		}
	}
}

func full(t *testing.T) *dpopbind.MemoryReplay {
	m := dpopbind.NewMemoryReplay(1, func() time.Time { return now })
	if first, err := m.Spend(t.Context(), [32]byte{1}, now, now.Add(time.Hour)); !first || err != nil {
		t.Fatal(first, err)
	}
	return m
}

// slow takes a proof as new long after it was checked, as a store may that has
// forgotten it by then.
type slow struct{ clock *clock }

func (s slow) Spend(context.Context, [32]byte, time.Time, time.Time) (bool, error) {
	s.clock.advance(2 * time.Minute)
	return true, nil
}

func TestAProofThatExpiresWhileItIsSpentIsRefused(t *testing.T) {
	s := slow{newClock()}
	a := newAPI(t, func(cfg *dpopbind.MiddlewareConfig) { cfg.Replay, cfg.Now = s, s.clock.now })
	token := a.token()
	got := a.get(t, "/labels", "Authorization", "DPoP "+token, "DPoP", a.proof(token))
	got.expect(t, http.StatusUnauthorized, "invalid_dpop_proof")
}

func TestNeitherTokensNorProofsReachTheLog(t *testing.T) {
	a := newAPI(t, nil)
	token, other := a.token(), a.as.token("").String()
	secrets := []string{token, other}
	send := func(headers ...string) {
		a.get(t, "/labels", headers...)
		for i := 1; i < len(headers); i += 2 {
			_, secret, _ := strings.Cut(headers[i], " ")
			secrets = append(secrets, headers[i], secret)
		}
	}
	proof := a.proof(token)
	send("Authorization", "DPoP "+token, "DPoP", proof)
	send("Authorization", "DPoP "+token, "DPoP", proof)
	send("Authorization", "DPoP "+token)
	send("Authorization", token)
	send("Authorization", "DPoP "+other, "DPoP", a.proof(other))
	send("Authorization", "DPoP "+token, "DPoP", a.proof(token)[:100])
	send("Authorization", "DPoP "+token, "DPoP", proof, "DPoP", proof)
	send("Authorization", "Bearer "+token)
	send("Authorization", "Bearer "+token, "Authorization", "DPoP "+token)
	a.get(t, "/labels?access_token="+token)
	log := a.log.String()
	if n := strings.Count(log, "request refused"); n != 9 {
		t.Errorf("%d lines for 9 refusals:\n%s", n, log)
	}
	for _, secret := range secrets {
		for part := range strings.SplitSeq(secret, ".") {
			if len(part) > 20 && strings.Contains(log, part) {
				t.Errorf("the log holds %q:\n%s", part, log)
			}
		}
	}
}

func TestAMiddlewareRefusesAnUnsafeConfiguration(t *testing.T) {
	good := func() dpopbind.MiddlewareConfig {
		return dpopbind.MiddlewareConfig{
			Issuer: "https://as.example", Resource: apiResource, BaseURLs: []string{apiBase}, Replay: dpopbind.NewMemoryReplay(0, nil),
		}
	}
	if _, err := dpopbind.NewMiddleware(good()); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*dpopbind.MiddlewareConfig){
		"no issuer":               func(c *dpopbind.MiddlewareConfig) { c.Issuer = "" },
		"issuer by http":          func(c *dpopbind.MiddlewareConfig) { c.Issuer = "http://as.example" },
		"issuer with a query":     func(c *dpopbind.MiddlewareConfig) { c.Issuer = "https://as.example?x" },
		"issuer with a user":      func(c *dpopbind.MiddlewareConfig) { c.Issuer = "https://as@as.example" },
		"JWKS by http":            func(c *dpopbind.MiddlewareConfig) { c.JWKSURI = "http://as.example/jwks" },
		"JWKS in a file":          func(c *dpopbind.MiddlewareConfig) { c.JWKSURI = "file:///jwks" },
		"no resource":             func(c *dpopbind.MiddlewareConfig) { c.Resource = "" },
		"relative resource":       func(c *dpopbind.MiddlewareConfig) { c.Resource = "/labels" },
		"resource with fragment":  func(c *dpopbind.MiddlewareConfig) { c.Resource = "https://labels.example#x" },
		"resource with a quote":   func(c *dpopbind.MiddlewareConfig) { c.Resource = `urn:x:"` },
		"no base URL":             func(c *dpopbind.MiddlewareConfig) { c.BaseURLs = nil },
		"relative base URL":       func(c *dpopbind.MiddlewareConfig) { c.BaseURLs = []string{"/carrier"} },
		"base URL with a query":   func(c *dpopbind.MiddlewareConfig) { c.BaseURLs = []string{apiBase + "?x"} },
		"a proxy that is nothing": func(c *dpopbind.MiddlewareConfig) { c.TrustedProxies = []netip.Prefix{{}} },
		"no replay":               func(c *dpopbind.MiddlewareConfig) { c.Replay = nil },
		"a symmetric algorithm":   func(c *dpopbind.MiddlewareConfig) { c.Algorithms = []dpopbind.Algorithm{"HS256"} },
		"a long lifetime":         func(c *dpopbind.MiddlewareConfig) { c.Lifetime = time.Hour },
		"a long skew":             func(c *dpopbind.MiddlewareConfig) { c.ClockSkew = time.Hour },
	} {
		cfg := good()
		spoil(&cfg)
		if _, err := dpopbind.NewMiddleware(cfg); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	defer func() {
		if recover() == nil {
			t.Error("what is no scope can be required")
		}
	}()
	must(dpopbind.NewMiddleware(good())).Require(`a"b`)
}

func TestMetadataSaysWhatAClientNeeds(t *testing.T) {
	for _, row := range []struct {
		resource, path string
		bearer         bool
	}{
		{"https://labels.example", "/.well-known/oauth-protected-resource", false},
		{"https://labels.example/", "/.well-known/oauth-protected-resource", false},
		{"https://carrier.example/v1/labels", "/.well-known/oauth-protected-resource/v1/labels", true},
		{"urn:labels", "/.well-known/oauth-protected-resource", false},
	} {
		mw := must(dpopbind.NewMiddleware(dpopbind.MiddlewareConfig{
			Issuer: "https://as.example", Resource: row.resource, BaseURLs: []string{apiBase},
			Replay: dpopbind.NewMemoryReplay(0, nil), AllowBearer: row.bearer,
		}))
		mw.Require("label:read", "label:create")
		mw.Require("label:read")
		if mw.MetadataPath() != row.path {
			t.Errorf("%s: the path is %s", row.resource, mw.MetadataPath())
		}
		w := httptest.NewRecorder()
		mw.Metadata().ServeHTTP(w, httptest.NewRequest(http.MethodGet, row.path, nil))
		want := fmt.Sprintf(`{
  "resource": %q,
  "authorization_servers": [
    "https://as.example"
  ],
  "scopes_supported": [
    "label:create",
    "label:read"
  ],
  "bearer_methods_supported": [
    "header"
  ],
  "dpop_signing_alg_values_supported": [
    "ES256",
    "EdDSA",
    "PS256",
    "RS256",
    "Ed25519"
  ],
  "dpop_bound_access_tokens_required": %v
}
`, row.resource, !row.bearer)
		if diff := cmp.Diff(want, w.Body.String()); diff != "" || w.Header().Get("Content-Type") != "application/json" {
			t.Error(diff, w.Header())
		}
		w = httptest.NewRecorder()
		mw.Metadata().ServeHTTP(w, httptest.NewRequest(http.MethodPost, row.path, nil))
		if w.Code != http.StatusMethodNotAllowed || w.Header().Get("Allow") != "GET, HEAD" {
			t.Errorf("POST: %d, %v", w.Code, w.Header())
		}
	}
}
