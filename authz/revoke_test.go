package authz_test

import (
	"net/http"
	"net/url"
	"sync"
	"testing"

	"github.com/cargokey/authz/authz"
)

func TestRevocationIsSeenAtOnceByTheOtherInstance(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	one, two := w.instance(), w.instance()
	gateway, key := w.gateway(), newKey(t)
	for _, format := range authz.TokenFormats() {
		client := w.client(authz.Client{ID: "client-" + string(format), TokenFormat: format})
		token, kept := one.token(client, key).string("access_token"), one.token(client, key).string("access_token")
		if !two.active(gateway, token) {
			t.Fatalf("%s: inactive before its revocation", format)
		}
		if a := one.do(one.post("/oauth/revoke", client, url.Values{"token": {token}})); a.status != http.StatusOK || a.body != "" {
			t.Errorf("%s: %d %s", format, a.status, a.body)
		}
		if two.active(gateway, token) || one.active(gateway, token) {
			t.Errorf("%s: active after its revocation", format)
		}
		if !two.active(gateway, kept) {
			t.Errorf("%s: another token was revoked too", format)
		}
	}
}

func TestOnlyItsClientRevokesAToken(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i, client, gateway, key := w.instance(), w.client(authz.Client{}), w.gateway(), newKey(t)
	thief := w.client(authz.Client{ID: "thief"})
	token := i.token(client, key).string("access_token")
	for _, other := range []registered{thief, gateway} {
		a := i.do(i.post("/oauth/revoke", other, url.Values{"token": {token}}))
		if a.status != http.StatusBadRequest || a.string("error") != "unauthorized_client" {
			t.Errorf("%s: %d %s", other.ID, a.status, a.body)
		}
		if !i.active(gateway, token) {
			t.Fatalf("%s has revoked it", other.ID)
		}
	}
}

func TestRevokingAnUnknownOrARevokedTokenIsNoError(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i, client, key := w.instance(), w.client(authz.Client{}), newKey(t)
	token := i.token(client, key).string("access_token")
	a := i.do(i.post("/oauth/revoke", client, url.Values{"token": {token}}))
	if a.header.Get("Cache-Control") != "no-store" {
		t.Errorf("headers: %v", a.header)
	}
	for _, token := range []string{"nonsense", token, token, "\x00"} {
		if a := i.do(i.post("/oauth/revoke", client, url.Values{"token": {token}})); a.status != http.StatusOK || a.body != "" {
			t.Errorf("%d %s", a.status, a.body)
		}
	}
	if n := w.count("select count(*) from authz.audit_events where kind = 'token.revoked'"); n != 1 {
		t.Errorf("%d events of one revocation", n)
	}
}

func TestConcurrentRevocationsAreOne(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	one, two := w.instance(), w.instance()
	client, key := w.client(authz.Client{}), newKey(t)
	token := one.token(client, key).string("access_token")
	var wg sync.WaitGroup
	for n := range 20 {
		wg.Go(func() {
			i := []*instance{one, two}[n%2]
			if a, err := i.try(i.post("/oauth/revoke", client, url.Values{"token": {token}})); err != nil || a.status != http.StatusOK {
				t.Errorf("%v %d %s", err, a.status, a.body)
			}
		})
	}
	wg.Wait()
}
