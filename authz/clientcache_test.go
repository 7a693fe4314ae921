package authz_test

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cargokey/authz/authz"
	"github.com/cargokey/authz/dpopbind"
	"github.com/cargokey/authz/internal/clientassertion/assertiontest"
)

// asks is token, whatever the answer.
func (i *instance) asks(c registered, key *dpopbind.Key) answer {
	return i.do(i.tokenRequest(c, key, clientCredentials))
}

// known makes each instance know the client, and lets it see that it is needed no more.
func known(t *testing.T, c registered, key *dpopbind.Key, instances ...*instance) {
	t.Helper()
	for _, i := range instances {
		for range 2 { // the second time by what was kept
			if a := i.asks(c, key); a.status != http.StatusOK {
				t.Fatalf("%d %s", a.status, a.body)
			}
		}
	}
}

func TestClientThatIsDisabledIsRefusedAtOnceOnEveryInstance(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	one, two, key := w.instance(), w.instance(), newKey(t)
	for change, do := range map[string]func(id string) error{
		"disabled": func(id string) error {
			return w.owner.SetClientDisabled(t.Context(), id, true, operatorEvent(authz.AuditClientDisabled))
		},
		"deleted": func(id string) error {
			return w.owner.DeleteClient(t.Context(), id, operatorEvent(authz.AuditClientDeleted))
		},
		"given another secret at once": func(id string) error {
			return w.owner.RotateSecret(t.Context(), id, authz.DigestOf("another"), time.Time{}, operatorEvent(authz.AuditSecretRotated))
		},
	} {
		c := w.client(authz.Client{ID: strings.ReplaceAll(change, " ", "-"), Introspects: []string{labels}, Grants: []authz.Grant{{Resource: labels, Scopes: []string{"label:read"}}}})
		token := one.asks(c, key).string("access_token")
		known(t, c, key, one, two)
		if err := do(c.ID); err != nil {
			t.Fatal(err)
		}
		for n, i := range []*instance{one, two, one} {
			for what, a := range map[string]answer{
				"token":         i.asks(c, key),
				"introspection": i.do(i.post("/oauth/introspect", c, url.Values{"token": {token}})),
				"revocation":    i.do(i.post("/oauth/revoke", c, url.Values{"token": {token}})),
			} {
				if a.status != http.StatusUnauthorized || a.string("error") != "invalid_client" {
					t.Errorf("%s: instance %d: %s: %d %s", change, n, what, a.status, a.body)
				}
			}
		}
	}
}

// Requests beside the change: none is served that began once it was done.
func TestNoRequestThatBeginsAfterAChangeIsServedByWhatWasBefore(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	instances, key := []*instance{w.instance(), w.instance()}, newKey(t)
	for n := range 5 {
		c := w.client(authz.Client{ID: fmt.Sprint("client-", n)})
		known(t, c, key, instances...)
		var load sync.WaitGroup
		done := make(chan struct{})
		for n := range 8 {
			load.Go(func() {
				for {
					var after bool
					select {
					case <-done:
						after = true
					default:
					}
					a := instances[n%2].asks(c, key)
					if after && a.status != http.StatusUnauthorized {
						t.Errorf("%d %s", a.status, a.body)
					}
					if after {
						return
					}
				}
			})
		}
		if err := w.owner.SetClientDisabled(t.Context(), c.ID, true, operatorEvent(authz.AuditClientDisabled)); err != nil {
			t.Error(err)
		}
		close(done)
		load.Wait()
	}
}

func TestTermsOfAResourceThatWereChangedCountAtOnceOnEveryInstance(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	one, two, key := w.instance(), w.instance(), newKey(t)
	c := w.client(authz.Client{})
	known(t, c, key, one, two)
	r, err := w.owner.Resource(t.Context(), labels)
	if err != nil {
		t.Fatal(err)
	}
	was := r.TokenTTL
	r.TokenTTL /= 2
	if err := w.owner.UpdateResource(t.Context(), r, operatorEvent(authz.AuditResourceUpdated)); err != nil {
		t.Fatal(err)
	}
	for n, i := range []*instance{one, two} {
		a := i.asks(c, key)
		if got := a.json["expires_in"]; got != (was / 2).Seconds() {
			t.Errorf("instance %d: a token for %v s after the resource's terms were changed to %s: %d %s", n, got, was/2, a.status, a.body)
		}
	}
}

// The end of a secret is by the clock, and changes nothing in the Store.
func TestSecretThatIsKeptEndsInTime(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i, key := w.instance(), newKey(t)
	c := w.client(authz.Client{})
	if err := w.owner.RotateSecret(t.Context(), c.ID, authz.DigestOf("another"), time.Now().Add(2*time.Second), operatorEvent(authz.AuditSecretRotated)); err != nil {
		t.Fatal(err)
	}
	known(t, c, key, i)
	for deadline := time.Now().Add(20 * time.Second); ; {
		a := i.asks(c, key)
		if a.status == http.StatusUnauthorized {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d %s", a.status, a.body)
		}
	}
}

// Strangers that name a client, and clients that ask for what they may not have, have it
// read anew each time: what is kept of others does not make room for that.
func TestClientThatIsReadAgainAndAgainIsKeptOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i := w.instance()
	signed := w.asserting(authz.Client{ID: "signing-service"})
	secret := w.client(authz.Client{})
	forged := asserting{signed.Client, assertiontest.NewSigner("ES256")}
	refused := func() {
		t.Helper()
		for what, a := range map[string]answer{
			"a forged assertion":         i.assertedToken(forged, newKey(t)),
			"a scope that is not theirs": i.do(i.tokenRequest(secret, newKey(t), with(clientCredentials, "scope", "nobodys"))),
		} {
			if a.status == http.StatusOK {
				t.Errorf("%s: %d %s", what, a.status, a.body)
			}
		}
	}
	refused()
	once := i.server.CacheWeight()
	for range 5 {
		refused()
	}
	if now := i.server.CacheWeight(); now != once || once == 0 {
		t.Errorf("%d bytes are kept of two clients, and %d when they were read anew", once, now)
	}
}

// recording is a Store that counts the tokens that it is asked to record.
type recording struct {
	authz.Store
	asked atomic.Int64
}

func (r *recording) RecordToken(ctx context.Context, issue authz.Issue) error {
	r.asked.Add(1)
	return r.Store.RecordToken(ctx, issue)
}

// Of what was taken away, the next request learns; those after it are refused before any
// work is done for them.
func TestWhatWasTakenAwayIsForgotten(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	store := &recording{}
	i, key := w.instance(func(c *authz.Config) { store.Store, c.Store = c.Store, store }), newKey(t)
	for change, do := range map[string]func(id string) error{
		"disabled": func(id string) error {
			return w.owner.SetClientDisabled(t.Context(), id, true, operatorEvent(authz.AuditClientDisabled))
		},
		"deleted": func(id string) error {
			return w.owner.DeleteClient(t.Context(), id, operatorEvent(authz.AuditClientDeleted))
		},
		"rotated": func(id string) error {
			return w.owner.RotateSecret(t.Context(), id, authz.DigestOf("another"), time.Time{}, operatorEvent(authz.AuditSecretRotated))
		},
	} {
		c := w.client(authz.Client{ID: change})
		known(t, c, key, i)
		if err := do(c.ID); err != nil {
			t.Fatal(err)
		}
		before := store.asked.Load()
		for range 4 {
			if a := i.asks(c, key); a.status != http.StatusUnauthorized {
				t.Errorf("%s: %d %s", change, a.status, a.body)
			}
		}
		if n := store.asked.Load() - before; n > 1 {
			t.Errorf("%s: the Store was asked to record %d tokens", change, n)
		}
	}
}
