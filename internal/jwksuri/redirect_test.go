package jwksuri_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/cargokey/authz/internal/clientassertion/assertiontest"
	"github.com/cargokey/authz/internal/jwksuri"
)

func redirect(to string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, to, http.StatusFound) }
}

func TestARedirectLeadsToNoOtherOrigin(t *testing.T) {
	t.Parallel()
	const refused = "redirected to another host, port or scheme"
	plain := httptest.NewServer(redirect("/"))
	defer plain.Close()
	other, inside := newHost(t, ""), newHost(t, "127.0.0.2") // both in networks that are allowed
	other.publishes(assertiontest.NewSigner("ES256"))
	inside.publishes(assertiontest.NewSigner("ES256"))
	h := newHost(t, "")
	for name, to := range map[string]string{
		"to another allowed address":   inside.URL + "/admin/reboot?now=1",
		"to another port":              other.URL + "/jwks.json",
		"to no port":                   "https://127.0.0.1/",
		"to the host by another name":  "https://localhost" + h.port(),
		"to the metadata service":      "https://169.254.169.254/latest/meta-data/",
		"to plain http":                plain.URL,
		"to the same host, plain http": strings.Replace(h.URL, "https:", "http:", 1),
		"without a scheme":             "//" + strings.TrimPrefix(other.URL, "https://"),
		"to a file":                    "file:///etc/passwd",
		"to no host":                   "https:jwks.json",
		"with a password":              strings.Replace(h.URL, "https://", "https://user:password@", 1),
	} {
		for _, status := range []int{301, 302, 303, 307, 308} {
			h.does(func(w http.ResponseWriter, r *http.Request) { w.Header().Set("Location", to); w.WriteHeader(status) })
			r := newRig(t, nil, []string{"127.0.0.0/8"}, h, other, inside)
			if got := names(t, r.Keys, h.URL); got != "error: "+refused {
				t.Errorf("%s by %d: %s", name, status, got)
			}
		}
	}
	if n := other.requests.Load() + inside.requests.Load(); n != 0 {
		t.Errorf("%d requests came to other hosts", n)
	}
}

func TestRedirectsWithinTheOriginAreFollowedThreeTimes(t *testing.T) {
	t.Parallel()
	h, one := newHost(t, ""), assertiontest.NewSigner("ES256")
	r := newRig(t, nil, loopback, h)
	h.does(func(w http.ResponseWriter, req *http.Request) {
		switch {
		case req.Header.Get("Referer") != "" || req.Header.Get("Accept") == "":
			w.WriteHeader(http.StatusBadRequest)
		case req.URL.Path == "/3":
			redirect(h.URL+"/2")(w, req)
		case req.URL.Path == "/2":
			redirect("1")(w, req)
		case req.URL.Path == "/1":
			redirect("/keys?v=1")(w, req)
		case req.URL.RequestURI() == "/keys?v=1":
			writes(assertiontest.Set(one))(w, req)
		default:
			redirect("/3")(w, req)
		}
	})
	if got := names(t, r.Keys, h.URL+"/3"); got != one.Thumbprint() {
		t.Error(got)
	}
	if got := names(t, r.Keys, h.URL+"/4"); got != "error: redirected more than 3 times" {
		t.Error(got)
	}
}

// By the same name, DNS leads elsewhere when the redirect is followed.
func TestARedirectIsDialledAnewAndJudgedAnew(t *testing.T) {
	t.Parallel()
	h, server := newHost(t, ""), newDNS(t)
	server.leadsTo("127.0.0.1")
	h.does(func(w http.ResponseWriter, req *http.Request) {
		server.leadsTo("127.0.0.2")
		redirect("/jwks.json")(w, req)
	})
	r := newRig(t, server.resolver(), loopback, h)
	if got := names(t, r.Keys, "https://example.com"+h.port()); !strings.Contains(got, "is not a public address") {
		t.Error(got)
	}
}

func TestADNSAnswerThatChangesIsJudgedAnew(t *testing.T) {
	t.Parallel()
	h, private := newHost(t, ""), newHost(t, "127.0.0.2")
	one, server := assertiontest.NewSigner("ES256"), newDNS(t)
	h.publishes(one)
	private.publishes(assertiontest.NewSigner("ES256"))
	server.leadsTo("127.0.0.1")
	r := newRig(t, server.resolver(), loopback, h, private)
	uri := "https://example.com" + h.port()
	if got := names(t, r.Keys, uri); got != one.Thumbprint() {
		t.Fatal(got)
	}
	server.leadsTo("127.0.0.2")
	r.advance(jwksuri.Fresh)
	if got := names(t, r.Keys, uri); got != one.Thumbprint() { // as in any outage
		t.Error(got)
	}
	if n := h.requests.Load(); n != 1 {
		t.Errorf("the old address was asked %d times: the answer was not asked for anew", n)
	}
	if n := private.requests.Load(); n != 0 || !strings.Contains(r.logs.String(), "is not a public address") {
		t.Errorf("%d requests came to the private address; the log: %s", n, r.logs.String())
	}
	server.leadsTo("127.0.0.1")
	r.advance(jwksuri.Interval)
	names(t, r.Keys, uri)
	eventually(t, func() bool { return h.requests.Load() == 2 })
}

func TestAHostWithoutItsCertificateIsNotBelieved(t *testing.T) {
	t.Parallel()
	h, server := newHost(t, ""), newDNS(t)
	h.publishes(assertiontest.NewSigner("ES256"))
	server.leadsTo("127.0.0.1")
	for uri, authorities := range map[string][]*host{
		h.URL:                           nil,
		"https://other.test" + h.port(): {h},
	} {
		r := newRig(t, server.resolver(), loopback, authorities...)
		if got := names(t, r.Keys, uri); !strings.Contains(got, "certificate") {
			t.Errorf("%s: %s", uri, got)
		}
	}
	if h.requests.Load() != 0 {
		t.Error("a request was sent")
	}
}

func TestNoProxyIsAsked(t *testing.T) {
	proxy := newHost(t, "")
	proxy.publishes()
	t.Setenv("HTTPS_PROXY", proxy.URL)
	t.Setenv("ALL_PROXY", proxy.URL)
	server := newDNS(t)
	server.leadsTo("10.0.0.1")
	start := time.Now()
	r := newRig(t, server.resolver(), nil, proxy)
	if got := names(t, r.Keys, "https://keys.example.com/"); !strings.Contains(got, "is not a public address") || time.Since(start) > time.Second {
		t.Error(got)
	}
	if proxy.requests.Load() != 0 {
		t.Error("the proxy was asked")
	}
}

func TestWhatCannotBeRegisteredIsNotConnectedTo(t *testing.T) {
	t.Parallel()
	h := newHost(t, "")
	h.publishes(assertiontest.NewSigner("ES256"))
	plain := httptest.NewServer(writes(`{"keys":[]}`))
	defer plain.Close()
	for _, uri := range []string{
		plain.URL, strings.Replace(h.URL, "https://", "https://user:password@", 1), h.URL + "/#k", h.URL + "/" + strings.Repeat("x", 2048), "https://127.0.0.1:0/", "",
	} {
		r := newRig(t, nil, loopback, h)
		if got := names(t, r.Keys, uri); got != "error: is no jwks_uri that can be registered" {
			t.Errorf("%.40s: %s", uri, got)
		}
	}
	if h.requests.Load() != 0 {
		t.Error("a request was sent")
	}
}
