package dpopbind_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cargokey/authz/dpopbind"
)

// What a reverse proxy behind the middleware would take another path from.
func TestARequestTargetWithoutAPathOfItsOwnIsRefused(t *testing.T) {
	a := newAPI(t, func(c *dpopbind.MiddlewareConfig) { c.BaseURLs = []string{"https://api.example"} })
	reached := ""
	behind := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { reached = r.URL.Path }))
	defer behind.Close()
	to := must(url.Parse(behind.URL))
	gateway := httptest.NewServer(a.mw.Require("label:read")(&httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) { p.SetURL(to) },
	}))
	defer gateway.Close()
	for target, want := range map[string]int{
		"x:http://x/admin": http.StatusBadRequest, "http:http://x/admin": http.StatusBadRequest,
		"/admin": http.StatusUnauthorized, "/": http.StatusOK,
	} {
		reached = ""
		token := a.token()
		conn := must(net.Dial("tcp", gateway.Listener.Addr().String()))
		fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: x\r\nAuthorization: DPoP %s\r\nDPoP: %s\r\nConnection: close\r\n\r\n",
			target, token, a.proofFor("https://api.example/", token, ""))
		response, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		if response.StatusCode != want || strings.Contains(reached, "admin") {
			t.Errorf("%s: %d, and %q was reached; want %d", target, response.StatusCode, reached, want)
		}
		conn.Close()
	}
}

// Where a bearer token is admitted no proof names the path, and a check of the
// path between here and a proxy would look at the wrong one all the same.
func TestARequestTargetWithoutAPathOfItsOwnIsRefusedWithABearerTokenToo(t *testing.T) {
	a := newAPI(t, allowBearer)
	handler := a.mw.Require("label:read")(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	for target, want := range map[string]int{"x:http://x/admin": http.StatusBadRequest, "/labels": http.StatusOK} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
		r.URL = must(url.ParseRequestURI(target))
		r.Header.Set("Authorization", "Bearer "+a.as.token("").String())
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		if w.Code != want {
			t.Errorf("%s: %d %s, want %d", target, w.Code, w.Body, want)
		}
	}
}

func TestABaseURLWithinAnotherIsRefused(t *testing.T) {
	cfg := dpopbind.MiddlewareConfig{
		Issuer: "https://as.example", Resource: "https://api.example", Replay: dpopbind.NewMemoryReplay(0, nil),
		BaseURLs: []string{"https://api.example", "https://api.example/labels"},
	}
	if _, err := dpopbind.NewMiddleware(cfg); err == nil {
		t.Error("one URL names two paths")
	}
	cfg.BaseURLs[1] = "https://api.example.org/labels"
	if _, err := dpopbind.NewMiddleware(cfg); err != nil {
		t.Error(err)
	}
}

// Whoever holds the place where the keys once were must not speak for the issuer.
func TestKeysThatHaveMovedAreLookedForAtTheirNewPlace(t *testing.T) {
	old, moved := newIssuerKey("old"), newIssuerKey("new")
	var mu sync.Mutex
	place := "/old"
	var s *httptest.Server
	s = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		switch r.URL.Path {
		case "/old":
			fmt.Fprintf(w, `{"keys":[%s]}`, old.jwk())
		case "/new":
			fmt.Fprintf(w, `{"keys":[%s]}`, moved.jwk())
		default:
			fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":%q}`, s.URL, s.URL+place)
		}
	}))
	defer s.Close()
	a := newAPI(t, func(c *dpopbind.MiddlewareConfig) { c.Issuer = s.URL })
	call := func(k issuerKey) int {
		d := a.as.token(a.key.JKT())
		d.key = k
		now := a.clock.now().Unix()
		d.head("kid", `"`+k.kid+`"`).claim("iss", `"`+s.URL+`"`).claim("iat", fmt.Sprint(now)).claim("exp", fmt.Sprint(now+600))
		token := d.String()
		return a.get(t, "/labels", "Authorization", "DPoP "+token, "DPoP", a.proof(token)).status
	}
	if got := call(old); got != http.StatusOK {
		t.Fatal(got)
	}
	mu.Lock()
	place = "/new"
	mu.Unlock()
	for range 3 { // the fetch in the background is not waited for
		a.clock.advance(2 * time.Hour)
		call(old)
	}
	if got := call(old); got != http.StatusUnauthorized {
		t.Errorf("a token by the old place's key: %d", got)
	}
	if got := call(moved); got != http.StatusOK {
		t.Errorf("a token by the new place's key: %d", got)
	}
}

type blockingHandler struct {
	slog.Handler
	in, gate chan struct{}
}

func (b blockingHandler) Enabled(context.Context, slog.Level) bool { return true }

func (b blockingHandler) Handle(_ context.Context, r slog.Record) error {
	if strings.Contains(r.Message, "keys failed") {
		close(b.in)
		<-b.gate
	}
	return nil
}

func TestNoRequestWaitsForALog(t *testing.T) {
	log := blockingHandler{slog.DiscardHandler, make(chan struct{}), make(chan struct{})}
	defer close(log.gate)
	a := newAPI(t, func(c *dpopbind.MiddlewareConfig) { c.Log = slog.New(log) })
	token := a.token()
	get := func() int { return a.get(t, "/labels", "Authorization", "DPoP "+token, "DPoP", a.proof(token)).status }
	if got := get(); got != http.StatusOK {
		t.Fatal(got)
	}
	a.as.answer(outage)
	a.clock.advance(4*time.Minute + 10*time.Second)
	get() // begins a fetch in the background, which fails
	<-log.in
	done := make(chan int)
	go func() { done <- get() }()
	select {
	case got := <-done:
		if got != http.StatusOK {
			t.Error(got)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("a request waits while the log does")
	}
}

func TestAKeyThatIsPublishedTwiceIsOneKey(t *testing.T) {
	a := newAPI(t, nil)
	a.as.publish(a.as.key.jwk(), a.as.key.jwk())
	token := a.token()
	if got := a.get(t, "/labels", "Authorization", "DPoP "+token, "DPoP", a.proof(token)); got.status != http.StatusOK {
		t.Error(got.status)
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestANonceSurvivesWhatTheCallerDoesToAHeader(t *testing.T) {
	p := newPlatform(t)
	c := p.client(func(cfg *dpopbind.ClientConfig) {
		cfg.Transport = roundTripper(func(r *http.Request) (*http.Response, error) {
			response, err := http.DefaultTransport.RoundTrip(r)
			if err == nil && "http://"+r.URL.Host == p.api.URL {
				response.Header.Set("DPoP-Nonce", "n1")
			}
			return response, err
		})
	})
	for range 2 {
		response, err := c.RoundTrip(must(http.NewRequestWithContext(t.Context(), http.MethodGet, p.api.URL+"/x", nil)))
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		for _, values := range response.Header {
			for i := range values {
				values[i] = "taken out, for the log"
			}
		}
	}
}

// A peer that sends credentials back where no header can be.
func TestCredentialsThatAreEchoedAreNotInTheError(t *testing.T) {
	p := newPlatform(t)
	l := must(net.Listen("tcp", "127.0.0.1:0"))
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			r, err := http.ReadRequest(bufio.NewReader(conn))
			if err == nil {
				fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\n%s\r\n\r\n", r.Header.Get("Authorization"))
			}
			conn.Close()
		}
	}()
	at := "http://" + l.Addr().String()
	api := p.client(func(cfg *dpopbind.ClientConfig) { cfg.APIs = []string{at} })
	token, err := api.Token(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_, err = api.RoundTrip(must(http.NewRequestWithContext(t.Context(), http.MethodGet, at+"/x", nil)))
	if err == nil || strings.Contains(err.Error(), token.AccessToken) || !strings.Contains(err.Error(), "[redacted]") {
		t.Errorf("%v", err)
	}
	server := p.client(func(cfg *dpopbind.ClientConfig) { cfg.Issuer, cfg.TokenEndpoint = "", at+"/token" })
	if _, err := server.Token(t.Context()); err == nil || !strings.Contains(err.Error(), `"Basic [redacted]"`) {
		t.Errorf("%v", err)
	}
}

// Only a URL that was put together by hand can have such a host.
func TestAHostThatIsMoreThanAHostIsRefused(t *testing.T) {
	p := newPlatform(t)
	c := p.client(func(cfg *dpopbind.ClientConfig) {
		cfg.Transport = roundTripper(func(r *http.Request) (*http.Response, error) {
			t.Errorf("something was sent to %s", r.URL.Redacted())
			return nil, io.EOF
		})
	})
	good := must(url.Parse(p.api.URL))
	for _, host := range []string{good.Host + "#@evil.example", good.Host + "?.evil.example", good.Host + "/x", `evil\` + good.Host} {
		r := &http.Request{Method: http.MethodGet, URL: &url.URL{Scheme: good.Scheme, Host: host, Path: "/"}, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(""))}
		if _, err := c.RoundTrip(r); err == nil {
			t.Errorf("%s: it was sent", host)
		}
	}
}
