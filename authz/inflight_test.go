package authz_test

import (
	"net/http"
	"net/url"
	"testing"

	"github.com/cargokey/authz/authz"
	"github.com/cargokey/authz/internal/clientassertion/assertiontest"
)

// heldRequest is a request of a client whose own host holds it open, until release.
type heldRequest struct {
	answer  chan answer
	release chan struct{}
}

// holds sends a request whose client publishes its keys at a host that answers only
// once it is released, and returns when the host was asked.
func (i *instance) holds(host *keyHost, signer *assertiontest.Signer, r *http.Request) heldRequest {
	i.w.t.Helper()
	held := heldRequest{make(chan answer, 1), make(chan struct{})}
	entered := make(chan struct{}, 1)
	host.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == another { // has somebody else's keys
			_, _ = w.Write([]byte(assertiontest.Set(assertiontest.NewSigner("ES256"))))
			return
		}
		select {
		case entered <- struct{}{}:
		default:
		}
		<-held.release
		_, _ = w.Write([]byte(assertiontest.Set(signer)))
	})
	go func() {
		a, err := i.try(r)
		if err != nil {
			i.w.t.Error(err)
		}
		held.answer <- a
	}()
	<-entered
	return held
}

const another = "/another"

func (w *world) operates(steps ...error) {
	w.t.Helper()
	for _, err := range steps {
		if err != nil {
			w.t.Fatal(err)
		}
	}
}

func TestTokenIsNotIssuedByAURLThatWasTakenAwayMeanwhile(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(w *world, id, uri string){
		"the client is disabled, given another URL and enabled": func(w *world, id, uri string) {
			w.operates(w.owner.SetClientDisabled(w.t.Context(), id, true, operatorEvent(authz.AuditClientDisabled)),
				w.owner.SetClientKeys(w.t.Context(), id, nil, nil, uri, operatorEvent(authz.AuditClientUpdated)),
				w.owner.SetClientDisabled(w.t.Context(), id, false, operatorEvent(authz.AuditClientEnabled)))
		},
		"the client is given another URL": func(w *world, id, uri string) {
			w.operates(w.owner.SetClientKeys(w.t.Context(), id, nil, nil, uri, operatorEvent(authz.AuditClientUpdated)))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, host := newWorld(t), newKeyHost(t)
			stolen := assertiontest.NewSigner("ES256")
			i := w.instance(host.trusted)
			c := w.asserting(authz.Client{JWKSURI: host.URL}, stolen)
			held := i.holds(host, stolen, i.tokenRequest(registered{}, newKey(t), i.asserted(clientCredentials, i.draft(c))))
			change(w, c.ID, host.URL+another)
			close(held.release)
			if a := <-held.answer; a.status != http.StatusUnauthorized || a.string("error") != "invalid_client" {
				t.Errorf("%d %s", a.status, a.body)
			}
		})
	}
}

func TestGatewayThatIsDisabledMeanwhileIsToldNothing(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"/oauth/introspect", "/oauth/revoke"} {
		w, host := newWorld(t), newKeyHost(t)
		signer := assertiontest.NewSigner("ES256")
		i := w.instance(host.trusted)
		c := w.asserting(authz.Client{ID: "edge", JWKSURI: host.URL, Introspects: []string{labels}}, signer)
		token := i.token(w.client(authz.Client{}), newKey(t)).string("access_token")
		held := i.holds(host, signer, i.post(path, registered{}, i.asserted(url.Values{"token": {token}}, i.draft(c))))
		w.operates(w.owner.SetClientDisabled(t.Context(), c.ID, true, operatorEvent(authz.AuditClientDisabled)))
		close(held.release)
		if a := <-held.answer; a.status != http.StatusUnauthorized || a.string("error") != "invalid_client" {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
		w.asserted.Add(1) // spent all the same
	}
}

// What an operator sets anew is fetched anew, whatever was kept of it.
func TestURLThatIsSetAnewIsTrustedForNothingOfBefore(t *testing.T) {
	t.Parallel()
	w, host := newWorld(t), newKeyHost(t)
	i, key := w.instance(host.trusted), newKey(t)
	signer := assertiontest.NewSigner("ES256")
	c := w.asserting(authz.Client{JWKSURI: host.URL}, signer)
	host.publishes(signer)
	if a := i.assertedToken(c, key); a.status != http.StatusOK {
		t.Fatalf("%d %s", a.status, a.body)
	}
	host.document.Store("") // an outage
	w.operates(w.owner.SetClientKeys(t.Context(), c.ID, nil, nil, host.URL, operatorEvent(authz.AuditClientUpdated)))
	if a := i.assertedToken(c, key); a.status != http.StatusUnauthorized {
		t.Errorf("%d %s", a.status, a.body)
	}
}
