package gatewaytest

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
)

// received is a request as the API behind the gateway got it.
type received struct {
	method, target string
	header         http.Header
}

// recorder stands between the gateway and the API, and sees what gets through.
type recorder struct {
	address string
	mu      sync.Mutex
	seen    []received
}

func startRecorder(t testing.TB, api string) *recorder {
	t.Helper()
	r := &recorder{}
	forward := &httputil.ReverseProxy{Rewrite: func(p *httputil.ProxyRequest) { p.SetURL(&url.URL{Scheme: "http", Host: api}) }}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		r.mu.Lock()
		r.seen = append(r.seen, received{q.Method, q.RequestURI, q.Header.Clone()})
		r.mu.Unlock()
		forward.ServeHTTP(w, q)
	}))
	t.Cleanup(server.Close)
	r.address = server.Listener.Addr().String()
	return r
}

// take returns what was received since the last time.
func (r *recorder) take() []received {
	r.mu.Lock()
	defer r.mu.Unlock()
	seen := r.seen
	r.seen = nil
	return seen
}

// vouched are the headers by which an API knows its caller.
var vouched = []string{"x-auth-client-id", "x-auth-scope", "x-auth-jkt", "x-auth-token-id", "x-auth-assertion"}

// told are the values of a header, in all its spellings: to CGI and its kin,
// X_Auth_Scope is X-Auth-Scope.
func (r received) told(name string) []string {
	var all []string
	for have, values := range r.header {
		if strings.ReplaceAll(strings.ToLower(have), "_", "-") == name {
			all = append(all, values...)
		}
	}
	return all
}

// checkVouched checks that the API is told who calls once, by authz alone.
// Without are those of the headers that a bearer token has none of.
func (r received) checkVouched(t testing.TB, client string, without ...string) {
	t.Helper()
	for _, name := range vouched {
		told := r.told(name)
		if slices.Contains(without, name) {
			if len(told) != 0 {
				t.Errorf("the API is told %s, which authz has not said: %q", name, told)
			}
			continue
		}
		if len(told) != 1 || told[0] == "" || strings.Contains(told[0], forgedMark) {
			t.Errorf("the API is told %s: %q", name, told)
		}
	}
	if told := r.told("x-auth-client-id"); !slices.Equal(told, []string{client}) {
		t.Errorf("the API is told that %q calls, want %s", told, client)
	}
	if told := r.told("x-auth-assertion"); strings.Count(strings.Join(told, ""), ".") != 2 {
		t.Errorf("the API is given no assertion: %q", told)
	}
}
