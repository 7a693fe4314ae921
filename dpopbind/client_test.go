package dpopbind_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cargokey/authz/dpopbind"
)

func TestAHundredRequestsShareOneTokenRequest(t *testing.T) {
	t.Parallel()
	p := newPlatform(t)
	client := p.client()
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			response, err := client.RoundTrip(get(t, p.api.URL+"/labels"))
			if err != nil {
				t.Error(err)
				return
			}
			response.Body.Close()
			if response.StatusCode != http.StatusOK {
				t.Errorf("status %d", response.StatusCode)
			}
		})
	}
	wg.Wait()
	p.expect(1, 100)
}

func TestARequestIsNotModifiedAndNotRevealedInTheResponse(t *testing.T) {
	t.Parallel()
	p := newPlatform(t)
	r := get(t, p.api.URL+"/labels?id=7")
	r.Header.Set("X-Own", "1")
	before := r.Clone(t.Context())
	call(t, p.client(), r)
	if diff := cmp.Diff(before.Header, r.Header); diff != "" || before.URL.String() != r.URL.String() {
		t.Error(diff)
	}
}

func TestBothMethodsOfAuthenticationReachTheServer(t *testing.T) {
	t.Parallel()
	for _, method := range []dpopbind.AuthMethod{"", dpopbind.ClientSecretBasic, dpopbind.ClientSecretPost} {
		p := newPlatform(t)
		p.expectOK(p.client(func(c *dpopbind.ClientConfig) { c.AuthMethod = method }))
	}
}

func TestATokenEndpointCanStandInForTheIssuer(t *testing.T) {
	t.Parallel()
	p := newPlatform(t)
	p.expectOK(p.client(func(c *dpopbind.ClientConfig) { c.Issuer, c.TokenEndpoint = "", p.as.URL+"/oauth/token" }))
	if p.discoveries != 0 {
		t.Error("the server was discovered")
	}
}

func TestAForeignSignerIsAKeyForAClient(t *testing.T) {
	t.Parallel()
	for alg, signer := range signers(t) {
		p := newPlatform(t)
		checker := must(dpopbind.NewChecker(dpopbind.CheckerConfig{Algorithms: []dpopbind.Algorithm{alg}, Now: p.now}))
		p.checker = checker
		key := must(dpopbind.NewKey(remoteSigner{signer}, alg))
		client := p.client(func(c *dpopbind.ClientConfig) { c.Key = key })
		p.expectOK(client)
		if token := must(client.Token(t.Context())); token.JKT != key.JKT() || token.Type != "DPoP" {
			t.Errorf("%s: the token is %+v", alg, token)
		}
	}
}

func TestNoncesAreLearnedAtBothServersAndRotate(t *testing.T) {
	t.Parallel()
	p := newPlatform(t)
	p.set(func() { p.asNonce, p.apiNonce = "as-1", "api-1" })
	client := p.client()
	p.expectOK(client)
	p.expect(2, 2) // each was challenged once
	p.expectOK(client)
	p.expect(2, 3) // and then knows
	p.set(func() { p.asNonce, p.apiNonce = "as-2", "api-2" })
	p.expectOK(client)
	p.expect(2, 5)
	p.advance(2 * time.Hour)
	p.expectOK(client)
	p.expect(4, 6)
}

func TestANonceOfASuccessfulAnswerReplacesTheHeldOne(t *testing.T) {
	t.Parallel()
	p := newPlatform(t)
	p.set(func() {
		p.apiNonce = "api-1"
		p.apiAnswer = func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("DPoP-Nonce", "api-2")
			return false
		}
	})
	client := p.client()
	p.expectOK(client)
	p.set(func() { p.apiNonce = "api-2" })
	p.expectOK(client)
	p.expect(1, 3)
}

func TestAServerThatAlwaysWantsAnotherNonceIsAskedTwice(t *testing.T) {
	t.Parallel()
	p := newPlatform(t)
	var n atomic.Int64
	p.set(func() {
		p.answer = func(w http.ResponseWriter) bool {
			w.Header().Set("DPoP-Nonce", fmt.Sprint("n", n.Add(1)))
			w.WriteHeader(http.StatusBadRequest)
			io.WriteString(w, `{"error":"use_dpop_nonce"}`)
			return true
		}
	})
	_, err := p.client().Token(t.Context())
	var refused *dpopbind.TokenError
	if !errors.As(err, &refused) || refused.Code != "use_dpop_nonce" {
		t.Error(err)
	}
	p.expect(2, 0)
}

// onceReader is a body that can be read once and knows whether it was closed.
type onceReader struct {
	io.Reader
	closed atomic.Bool
}

func (r *onceReader) Close() error { r.closed.Store(true); return nil }

func TestARequestIsRepeatedOnlyWithItsWholeBody(t *testing.T) {
	t.Parallel()
	for _, rewindable := range []bool{true, false} {
		p := newPlatform(t)
		p.set(func() { p.apiNonce = "api-1" })
		client := p.client()
		r := must(http.NewRequest(http.MethodPost, p.api.URL+"/labels", strings.NewReader("the body")))
		once := &onceReader{Reader: strings.NewReader("the body")}
		want := http.StatusOK
		if !rewindable {
			r.Body, r.GetBody, want = once, nil, http.StatusUnauthorized
		}
		if status, body := call(t, client, r); status != want || !rewindable && body != "use_dpop_nonce" {
			t.Errorf("rewindable %v: %d %q", rewindable, status, body)
		}
		for _, body := range p.bodies {
			if body != "the body" {
				t.Errorf("the API got %q", body)
			}
		}
		if rewindable {
			p.expect(1, 2)
			continue
		}
		p.expect(1, 1)
		if !once.closed.Load() {
			t.Error("the body is not closed")
		}
		p.expectOK(client) // the nonce is known by now
		p.expect(1, 2)
	}
}

func TestATokenThatAnAPICallsInvalidIsReplacedOnce(t *testing.T) {
	t.Parallel()
	p := newPlatform(t)
	p.set(func() { p.apiNonce = "api-1" })
	client := p.client()
	p.expectOK(client)
	p.set(func() { p.invalid["token-1~value"] = true })
	p.expectOK(client)
	p.expect(2, 4)

	// An API that refuses every token does not bring on a token request each.
	p.set(func() { p.frozen, p.allInvalid = time.Now().Add(time.Minute), true })
	for range 5 {
		status, body := call(t, client, get(t, p.api.URL+"/"))
		if status != http.StatusUnauthorized || body != "invalid_token" {
			t.Errorf("%d %q", status, body)
		}
	}
	p.expect(3, 10)
}

func TestABearerTokenIsRefusedUnlessThePolicyPrefersABoundOne(t *testing.T) {
	t.Parallel()
	p := newPlatform(t)
	p.set(func() { p.bearer = true })
	_, err := p.client().RoundTrip(get(t, p.api.URL))
	if !errors.Is(err, dpopbind.ErrNotBound) {
		t.Error(err)
	}
	p.expect(1, 0)

	client := p.client(func(c *dpopbind.ClientConfig) { c.Policy = dpopbind.Prefer })
	p.expectOK(client)
	if token := must(client.Token(t.Context())); token.Type != "Bearer" || token.JKT != "" {
		t.Errorf("the token is %v", token)
	}
	// The day that the server learns DPoP.
	p.set(func() { p.bearer = false })
	p.advance(2 * time.Hour)
	p.expectOK(client)
	if token := must(client.Token(t.Context())); token.Type != "DPoP" || token.JKT == "" {
		t.Errorf("the token is %v", token)
	}
}

func TestSecretsAreNeitherPrintedNorLogged(t *testing.T) {
	t.Parallel()
	p := newPlatform(t)
	cfg := p.config()
	client := p.client()
	token := must(client.Token(t.Context()))
	var b bytes.Buffer
	for _, v := range []any{cfg, &cfg, client, token, &token} {
		fmt.Fprintf(&b, "%v %+v %#v %s %q\n", v, v, v, v, v)
		slog.New(slog.NewTextHandler(&b, nil)).Info("x", "v", v)
		slog.New(slog.NewJSONHandler(&b, nil)).Info("x", "v", v, "in", struct{ V any }{v})
	}
	p.expectNoSecret(b.String())
	if !strings.Contains(b.String(), token.JKT) {
		t.Error("the key's name is not there")
	}
}

func TestARedirectNeverTakesTheTokenToAnotherOrigin(t *testing.T) {
	t.Parallel()
	p := newPlatform(t)
	var reached atomic.Int64
	other := newServer(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Add(1) }))
	p.set(func() {
		p.apiAnswer = func(w http.ResponseWriter, r *http.Request) bool {
			switch r.URL.Path {
			case "/away":
				http.Redirect(w, r, other.URL+"/steal", http.StatusTemporaryRedirect)
			case "/near":
				http.Redirect(w, r, "/labels", http.StatusTemporaryRedirect)
			default:
				return false
			}
			return true
		}
	})
	c := http.Client{Transport: p.client()}
	if _, err := c.Get(p.api.URL + "/away"); err == nil || !strings.Contains(err.Error(), "not among the client's APIs") {
		t.Error(err)
	} else {
		p.expectNoSecret(err.Error())
	}
	response, err := c.Post(p.api.URL+"/near", "text/plain", strings.NewReader("the body"))
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatal(response, err)
	}
	response.Body.Close()
	if reached.Load() != 0 {
		t.Error("the other origin was reached")
	}
}

func TestARedirectOfTheAuthorizationServerIsNotFollowed(t *testing.T) {
	t.Parallel()
	var reached atomic.Int64
	other := newServer(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Add(1) }))
	p := newPlatform(t)
	p.set(func() {
		p.answer = func(w http.ResponseWriter) bool {
			w.Header().Set("Location", other.URL)
			w.WriteHeader(http.StatusTemporaryRedirect)
			return true
		}
	})
	var refused *dpopbind.TokenError
	if _, err := p.client().Token(t.Context()); !errors.As(err, &refused) || refused.Status != http.StatusTemporaryRedirect {
		t.Error(err)
	}
	moved := newServer(t, http.RedirectHandler(other.URL, http.StatusFound))
	if _, err := p.client(func(c *dpopbind.ClientConfig) { c.Issuer = moved.URL }).Token(t.Context()); err == nil {
		t.Error("a token came")
	}
	if reached.Load() != 0 {
		t.Error("the other origin was reached")
	}
}

func TestARequestThatIsNotTheClientsToSendIsRefused(t *testing.T) {
	t.Parallel()
	p := newPlatform(t)
	client := p.client()
	address := must(url.Parse(p.api.URL))
	for name, change := range map[string]func(*http.Request){
		"an Authorization header":  func(r *http.Request) { r.Header.Set("Authorization", "Basic x") },
		"a bare DPoP header":       func(r *http.Request) { r.Header["dPoP"] = []string{"x"} },
		"the authorization server": func(r *http.Request) { r.URL = must(url.Parse(p.as.URL + "/x")) },
		"another scheme":           func(r *http.Request) { r.URL.Scheme = "https" },
		"another port":             func(r *http.Request) { r.URL.Host = address.Hostname() },
		"another name":             func(r *http.Request) { r.URL.Host = "localhost:" + address.Port() },
		"a longer name":            func(r *http.Request) { r.URL.Host += ".evil.example" },
		"userinfo":                 func(r *http.Request) { r.URL.User = url.UserPassword("a", "b") },
		"an opaque URL":            func(r *http.Request) { r.URL.Opaque = "//evil.example/" },
		"another Host":             func(r *http.Request) { r.Host = "evil.example" },
		"no URL":                   func(r *http.Request) { r.URL = nil },
		"a bad method":             func(r *http.Request) { r.Method = "G T" },
	} {
		body := &onceReader{Reader: strings.NewReader("x")}
		r := must(http.NewRequest(http.MethodPost, p.api.URL+"/x", body))
		change(r)
		response, err := client.RoundTrip(r)
		if err == nil {
			response.Body.Close()
			t.Errorf("%s: it was sent", name)
		}
		if !body.closed.Load() {
			t.Errorf("%s: its body is open", name)
		}
	}
	p.expect(1, 0) // the bad method is found when its proof is made
}
