package jwksuri_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cargokey/authz/internal/clientassertion/assertiontest"
	"github.com/cargokey/authz/internal/jwksuri"
	"github.com/cargokey/authz/internal/strictjose"
)

func TestKeptDocumentsAreBounded(t *testing.T) {
	t.Parallel()
	h := newHost(t, "")
	h.publishes(assertiontest.NewSigner("ES256"))
	r := newRig(t, nil, loopback, h)
	first := h.URL + "/first"
	names(t, r.Keys, first)
	for n := range 1023 {
		r.advance(time.Millisecond)
		names(t, r.Keys, fmt.Sprintf("%s/%d", h.URL, n))
	}
	r.advance(jwksuri.Interval)
	asked := h.requests.Load()
	if names(t, r.Keys, first); h.requests.Load() != asked {
		t.Error("1024 documents are not kept")
	}
	r.advance(time.Millisecond)
	names(t, r.Keys, h.URL+"/last")
	if names(t, r.Keys, first); h.requests.Load() != asked+1 {
		t.Error("one that was just asked for was forgotten")
	}
	if names(t, r.Keys, h.URL+"/0"); h.requests.Load() != asked+2 {
		t.Error("1025 documents are kept")
	}
}

func TestMoreURIsThanAreKeptAreNotAskedForTwiceInTenSeconds(t *testing.T) {
	t.Parallel()
	h := newHost(t, "")
	h.does(says(404)) // so that each request wants another look
	r := newRig(t, nil, loopback, h)
	for range 2 {
		for n := range 1030 {
			got := names(t, r.Again, fmt.Sprintf("%s/%d", h.URL, n))
			if n >= 1024 && !strings.Contains(got, "1024 other jwks_uri were asked for a moment ago") {
				t.Fatalf("the %dth: %s", n+1, got)
			}
		}
	}
	if got := names(t, r.Keys, h.URL+"/1024"); !strings.Contains(got, "1024 other") {
		t.Errorf("by Keys: %s", got)
	}
	if n := h.requests.Load(); n != 1024 {
		t.Errorf("%d requests", n)
	}
	r.advance(jwksuri.Interval)
	if got := names(t, r.Keys, h.URL+"/1024"); got != "error: the answer has the status 404" {
		t.Errorf("after the interval: %s", got)
	}
}

func TestADocumentThatMakesTheReaderPanicIsAFailure(t *testing.T) {
	t.Parallel()
	h, one := newHost(t, ""), assertiontest.NewSigner("ES256")
	h.publishes(one)
	r := newRigParsing(t, func([]byte) ([]strictjose.SetKey, error) { panic("index out of range") }, nil, loopback, h)
	for range 2 { // the second has the first's end, and waits for nothing
		if got := names(t, r.Keys, h.URL); got != "error: reading the answer has failed" {
			t.Error(got)
		}
	}
	if logs := r.logs.String(); !strings.Contains(logs, "index out of range") || !strings.Contains(logs, "fetching a client's keys failed") {
		t.Errorf("the log: %s", logs)
	}
	if n := h.requests.Load(); n != 1 {
		t.Errorf("%d requests", n)
	}
}

func TestNoQueryIsLoggedOrTold(t *testing.T) {
	t.Parallel()
	const query = "?token=3d1aef0c"
	h, server := newHost(t, ""), newDNS(t)
	server.leadsTo("10.0.0.1")
	cases := answers()
	cases["a redirect with it"] = redirect("https://login.example.com/" + query)
	cases["a broken redirect with it"] = redirect("https://%zz/" + query)
	cases["a broken connection"] = hangsUp
	ask := func(name, uri string) {
		r := newRig(t, server.resolver(), loopback, h)
		got := names(t, r.Keys, uri+query)
		if logs := r.logs.String(); strings.Contains(got+logs, "3d1aef0c") || got != "" && !strings.Contains(logs, uri) {
			t.Errorf("%s: %s; the log: %s", name, got, logs)
		}
	}
	for name, does := range cases {
		h.does(does)
		ask(name, h.URL+"/keys")
	}
	ask("a private address", "https://keys.example.com/")
	ask("no certificate of its", "https://127.0.0.2"+h.port()+"/")
	ask("what cannot be registered", "https://127.0.0.1:0/")
}
