package authz_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
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
	"github.com/cargokey/authz/internal/clientcert/certtest"
)

// Clients come and go all day. A call waits for none of it.
func TestRegistrationsStopNoCall(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i := w.instance()
	gateway, client, key := w.gateway(), w.client(authz.Client{}), newKey(t)
	token := i.token(client, key).string("access_token")
	i.passes(i.goodCall(gateway, token, key))
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for n := range 2 {
		wg.Go(func() {
			for k := 0; ; k++ {
				select {
				case <-stop:
					return
				default:
				}
				c := &authz.Client{ID: fmt.Sprintf("bulk-%d-%d", n, k), Secrets: []authz.Digest{authz.NewSecret().Digest()},
					Grants: []authz.Grant{{Resource: labels, Scopes: []string{"label:read"}}}}
				if n == 1 { // a gateway changes the table itself
					c.Grants, c.Introspects = nil, []string{rates}
				}
				if err := c.Validate(); err != nil {
					t.Error(err)
					return
				}
				if err := w.owner.CreateClient(t.Context(), c, operatorEvent(authz.AuditClientCreated)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for end := time.Now().Add(time.Second); time.Now().Before(end); {
		i.passes(i.goodCall(gateway, token, key))
	}
	close(stop)
	wg.Wait()
}

// counted is a Store that counts how often the table is read.
type counted struct {
	authz.Store
	tables atomic.Int64
}

func (c *counted) GatewayTable(ctx context.Context) (*authz.GatewayTable, error) {
	c.tables.Add(1)
	return c.Store.GatewayTable(ctx)
}

// Who is refused anyway has the table looked after, and not read, now and then.
func TestFloodOfRefusedCallsReadsNoTable(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	store := &counted{}
	i := w.instance(func(c *authz.Config) { store.Store, c.Store = c.Store, store })
	gateway := w.gateway()
	c := call{gateway: gateway, method: "GET", url: "https://nowhere.test/x", token: "x", proofs: []string{"x"}}
	i.refusedAs(c, 403, "invalid_request")
	before := store.tables.Load()
	for end := time.Now().Add(time.Second); time.Now().Before(end); {
		i.refusedAs(c, 403, "invalid_request")
	}
	if n := store.tables.Load() - before; n > 0 {
		t.Errorf("a second of refused calls has read the table %d times", n)
	}
}

func TestGatewayThatWasJustRegisteredIntrospectsAtItsListener(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i := w.instance()
	client, key := w.client(authz.Client{}), newKey(t)
	token := i.token(client, key).string("access_token")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	i.listener(l, authz.SocketGateway("edge-gateway"))
	introspect := func() answer {
		r := i.post("/oauth/introspect", registered{}, url.Values{"token": {token}})
		r.URL.Host = l.Addr().String()
		return i.do(r)
	}
	if a := introspect(); a.status != http.StatusUnauthorized {
		t.Errorf("before it is registered: %d %s", a.status, a.body)
	}
	gateway := w.gateway()
	if a := introspect(); a.json["active"] != true {
		t.Errorf("once it is registered: %d %s", a.status, a.body)
	}
	if err := w.owner.DeleteClient(t.Context(), gateway.ID, operatorEvent(authz.AuditClientDeleted)); err != nil {
		t.Fatal(err)
	}
	if a := introspect(); a.status != http.StatusUnauthorized {
		t.Errorf("once it is deleted: %d %s", a.status, a.body)
	}
}

// A connection may outlive what it was verified by, and was verified by x509's rules.
func TestGatewaysCertificateIsOneForClientsInItsTimeAtEachRequest(t *testing.T) {
	t.Parallel()
	root := certtest.NewAuthority(t, "gateways")
	template := func(change func(*x509.Certificate)) x509.Certificate {
		c := dnsNamed("gw.carrier.test")
		if change != nil {
			change(&c)
		}
		return c
	}
	good, between := root.Issue(t, template(nil)).Leaf, root.Intermediate(t, "between")
	under := between.Issue(t, template(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(3 * time.Hour) })).Leaf
	short, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	for name, row := range map[string]struct {
		chain []*x509.Certificate
		after time.Duration
		names int
	}{
		"good":                    {[]*x509.Certificate{good, root.Leaf}, 0, 1},
		"expired":                 {[]*x509.Certificate{good, root.Leaf}, 90 * time.Minute, 0},
		"not valid yet":           {[]*x509.Certificate{good, root.Leaf}, -90 * time.Minute, 0},
		"by an intermediate":      {[]*x509.Certificate{under, between.Leaf, root.Leaf}, 0, 1},
		"by one that has expired": {[]*x509.Certificate{under, between.Leaf, root.Leaf}, 90 * time.Minute, 0},
		"for nothing that it says": {[]*x509.Certificate{root.Issue(t, template(func(c *x509.Certificate) {
			c.ExtKeyUsage = []x509.ExtKeyUsage{}
		})).Leaf, root.Leaf}, 0, 0},
		"for anything": {[]*x509.Certificate{root.Issue(t, template(func(c *x509.Certificate) {
			c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageAny}
		})).Leaf, root.Leaf}, 0, 0},
		"a short key": {[]*x509.Certificate{root.Issue(t, template(func(c *x509.Certificate) { c.PublicKey = short })).Leaf, root.Leaf}, 0, 0},
	} {
		r := &http.Request{TLS: &tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{row.chain}}}
		if names := authz.CertificateGateway(r, time.Now().Add(row.after)).Names; len(names) != row.names {
			t.Errorf("%s: %q", name, names)
		}
	}
	for _, none := range []*tls.ConnectionState{nil, {}} {
		if names := authz.CertificateGateway(&http.Request{TLS: none}, time.Now()).Names; len(names) != 0 {
			t.Errorf("without a certificate: %q", names)
		}
	}
}

// A token for one API opens none below it, however its gateway reads the path.
func TestTokenForOneAPIOpensNoneBelowIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i := w.instance()
	gateway := w.client(authz.Client{ID: "both", Introspects: []string{labels, rates}})
	client, key := w.client(authz.Client{}), newKey(t)
	token := i.token(client, key).string("access_token")
	for path, status := range map[string]int{
		"/labels": 200, "/rates": 401, "/rates/": 401, "/rates/quotes": 401, "/ratesx": 200,
		"//rates/quotes": 403, "/rates%2Fquotes": 403, "/%72ates/quotes": 401, "/x/../rates": 403, "/rates;x/quotes": 403, "/rates%5Cquotes": 403,
	} {
		url := labelsURL + path
		c := call{gateway: gateway, method: "GET", url: url, token: token, proofs: []string{i.proofFor(key, "GET", url, token)}}
		if a := i.verify(c); a.status != status {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
	}
	// And the gateway can say which one it is about to ask.
	url := labelsURL + "/labels"
	c := call{gateway: gateway, method: "GET", url: url, token: token, proofs: []string{i.proofFor(key, "GET", url, token)}, options: "resource=" + rates}
	i.refusedAs(c, 403, "invalid_request")
}

func TestPathOfACallIsInNoLogButForDebugging(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i := w.instance(func(c *authz.Config) { c.Log = infoLog(w.logs) })
	gateway, client, key := w.gateway(), w.client(authz.Client{}), newKey(t)
	token := i.token(client, key).string("access_token")
	const secret = "/reset/8c1f0e7a"
	w.secret(secret) // searched for in all logs and tables at the end
	url := labelsURL + secret
	good := call{gateway: gateway, method: "GET", url: url, token: token, proofs: []string{i.proofFor(key, "GET", url, token)}}
	i.passes(good)
	other := good
	other.url = labelsURL + "/other"
	i.refusedAs(other, 401, "invalid_dpop_proof") // its proof names the secret path
	other.url = "https://nowhere.test" + secret
	i.refusedAs(other, 403, "invalid_request")
	other.url = labelsURL + secret + "//"
	i.refusedAs(other, 403, "invalid_request")
	if !strings.Contains(w.logs.String(), `"gateway":"edge-gateway"`) {
		t.Error("the log says nothing of the calls")
	}
}
