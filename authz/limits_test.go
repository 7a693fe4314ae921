package authz_test

import (
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cargokey/authz/authz"
	"github.com/cargokey/authz/internal/clientassertion/assertiontest"
)

// limits are those that a test reaches.
func limits(perClient, perAddress int) func(*authz.Config) {
	return func(c *authz.Config) { c.FailuresPerClient, c.FailuresPerAddress = perClient, perAddress }
}

// from is an HTTP client at another address of this machine.
func from(t *testing.T, address string) *http.Client {
	t.Helper()
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
	transport := &http.Transport{DialContext: dialer.DialContext, MaxIdleConnsPerHost: 100}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// wrong is a client's name with a secret that is not its own.
func (w *world) wrong(c registered) registered {
	return registered{c.Client, authz.NewSecret().Reveal()}
}

func unknown(id string) registered {
	return registered{&authz.Client{ID: id}, authz.NewSecret().Reveal()}
}

// isLimited holds that an answer is the one to a failure too many.
func isLimited(t *testing.T, a answer, code string) {
	t.Helper()
	if a.status != http.StatusTooManyRequests || a.string("error") != code || a.header.Get("Retry-After") == "" || a.header.Get("Www-Authenticate") != "" {
		t.Errorf("%d %s %v", a.status, a.body, a.header)
	}
	checkErrorForm(t, a)
}

// Whoever fails too often is told so, with the code of what is wrong, whatever it is
// that fails; and the log has few lines of it.
func TestFailuresBeyondTheAllowanceAreToldToWait(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		code   string
		status int
		by     string
		make   func(w *world, i *instance, c registered, signed asserting, n int) *http.Request
	}{
		"wrong secrets of one client": {"invalid_client", 401, "client", func(w *world, i *instance, c registered, _ asserting, _ int) *http.Request {
			return i.post("/oauth/token", w.wrong(c), clientCredentials)
		}},
		"clients that are not": {"invalid_client", 401, "address", func(w *world, i *instance, _ registered, _ asserting, n int) *http.Request {
			return i.post("/oauth/introspect", unknown(fmt.Sprint("nobody-", n)), url.Values{"token": {"x"}})
		}},
		"one client that is not": {"invalid_client", 401, "client", func(w *world, i *instance, _ registered, _ asserting, n int) *http.Request {
			return i.post("/oauth/revoke", unknown("nobody"), url.Values{"token": {"x"}})
		}},
		"forged assertions": {"invalid_client", 401, "client", func(w *world, i *instance, _ registered, signed asserting, _ int) *http.Request {
			forged := asserting{signed.Client, assertiontest.NewSigner("ES256")}
			return i.post("/oauth/token", registered{}, i.asserted(clientCredentials, i.draft(forged)))
		}},
		"proofs that are none": {"invalid_dpop_proof", 400, "address", func(w *world, i *instance, c registered, _ asserting, _ int) *http.Request {
			r := i.post("/oauth/token", c, clientCredentials)
			r.Header.Set("DPoP", "e30.e30.e30")
			return r
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			i, client := w.instance(limits(20, 60), func(c *authz.Config) { c.Log = infoLog(w.logs) }), w.client(authz.Client{})
			signed := w.asserting(authz.Client{ID: "signing-service"}, assertiontest.NewSigner("ES256"))
			answers := map[int]int{}
			for n := range 150 {
				a := i.do(c.make(w, i, client, signed, n))
				if answers[a.status]++; a.status == c.status && a.string("error") == c.code {
					continue
				}
				isLimited(t, a, c.code)
			}
			most := 60
			if c.by == "client" {
				most = 20
			}
			// Some of the allowance comes back meanwhile: one a second of an address.
			if answers[c.status] < most || answers[http.StatusTooManyRequests] < 50 {
				t.Errorf("%v", answers)
			}
			if n := strings.Count(w.logs.String(), `"msg":"request"`); n != answers[c.status] {
				t.Errorf("%d lines for %d answers", n, answers[c.status])
			}
			if n := i.metric(`authz_authentications_limited_total{by="` + c.by + `"}`); int(n) < 50 {
				t.Errorf("%v are counted by %s", n, c.by)
			}
			i.flush()
			if n := w.count("select count(*) from authz.audit_events where kind = 'authentication.limited'"); n < 1 || n > 2 {
				t.Errorf("%d events", n)
			}
		})
	}
}

// A stranger cannot lock anybody out: neither by the client's name, nor from the address
// that he shares with it, nor on an instance that has not met the client.
func TestNobodyIsLockedOutByTheFailuresOfOthers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i, key := w.instance(limits(10, 20)), newKey(t)
	signer := assertiontest.NewSigner("ES256")
	client, other := w.client(authz.Client{}), w.client(authz.Client{ID: "other-service"})
	signed := w.asserting(authz.Client{ID: "signing-service"}, signer)
	gateway := w.gateway()
	stranger := from(t, "127.0.0.2")

	flood := func(c *http.Client) (status map[int]int) {
		status = map[int]int{}
		for n := range 60 {
			for _, r := range []*http.Request{
				i.post("/oauth/token", w.wrong(client), clientCredentials),
				i.post("/oauth/token", registered{}, i.asserted(clientCredentials, i.draft(asserting{signed.Client, assertiontest.NewSigner("ES256")}))),
				i.post("/oauth/introspect", unknown(fmt.Sprint("nobody-", n)), url.Values{"token": {"x"}}),
			} {
				status[i.by(c, r).status]++
			}
		}
		return status
	}
	for _, at := range []*http.Client{stranger, httpClient} { // from elsewhere, and from the clients' own address
		if status := flood(at); status[http.StatusTooManyRequests] < 100 || status[http.StatusServiceUnavailable] > 0 {
			t.Fatalf("%v", status)
		}
		token := i.token(client, key).string("access_token")
		i.token(other, key)
		if a := i.assertedToken(signed, key); a.status != http.StatusOK {
			t.Errorf("%d %s", a.status, a.body)
		}
		if !i.active(gateway, token) {
			t.Error("the token is not active")
		}
		// From an address that it never came from.
		r := i.tokenRequest(client, key, clientCredentials)
		if a := i.by(from(t, "127.0.0.3"), r); a.status != http.StatusOK {
			t.Errorf("%d %s", a.status, a.body)
		}
	}
}

// Whoever floods, with credentials of others or with made-up ones, has his look-ups done
// in turn, and all others go on; and what is refused for want of room is a 503.
func TestFloodOfBadSecretsLeavesTheOthersAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i, key := w.instance(limits(10, 20)), newKey(t)
	client, victim := w.client(authz.Client{}), w.client(authz.Client{ID: "victim"})
	i.token(client, key)
	stranger := from(t, "127.0.0.2")
	stop := make(chan struct{})
	var answers [600]atomic.Int64
	var flood sync.WaitGroup
	for n := range 16 {
		flood.Go(func() {
			for k := 0; ; k++ {
				select {
				case <-stop:
					return
				default:
				}
				as := w.wrong(victim)
				if k%2 == 1 {
					as = unknown(fmt.Sprint("nobody-", n, "-", k))
				}
				a, err := i.tryBy(stranger, i.post("/oauth/token", as, clientCredentials))
				if err != nil {
					t.Error(err)
					return
				}
				answers[a.status].Add(1)
			}
		})
	}
	for range 10 {
		i.token(client, key)
	}
	i.token(victim, key) // from where nobody fails
	for end := time.Now().Add(30 * time.Second); answers[429].Load() < 100; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the flood is not answered")
		}
	}
	close(stop)
	flood.Wait()
	i.token(client, key)
	for status := range answers {
		if n := answers[status].Load(); n > 0 && status != 401 && status != 429 && status != 503 {
			t.Errorf("%d times %d", n, status)
		}
	}
	t.Logf("401: %d, 429: %d, 503: %d", answers[401].Load(), answers[429].Load(), answers[503].Load())
}

// Addresses that one subscriber can choose from are one address.
func TestAddressesOfOneNetworkAreOne(t *testing.T) {
	for remote, want := range map[string]string{
		"192.0.2.1:1": "192.0.2.1", "[::ffff:192.0.2.1]:1": "192.0.2.1",
		"[2001:db8:1:2:3:4:5:6]:1": "2001:db8:1:2::/64", "[2001:db8:1:2:ffff::1]:2": "2001:db8:1:2::/64",
		"[fe80::1%eth0]:1": "fe80::/64", "@": "", "": "",
	} {
		if got := authz.AddressOf(&http.Request{RemoteAddr: remote}); got != want {
			t.Errorf("%q is %q, want %q", remote, got, want)
		}
	}
}
