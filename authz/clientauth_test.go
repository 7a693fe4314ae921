package authz_test

import (
	"net/http"
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cargokey/authz/authz"
)

func TestClientIsRegisteredForOneMethod(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i, key := w.instance(), newKey(t)
	byPost := w.client(authz.Client{ID: "by-post", AuthMethod: authz.ClientSecretPost})

	form := with(clientCredentials, "client_id", byPost.ID, "client_secret", byPost.secret)
	if a := i.do(i.tokenRequest(registered{}, key, form)); a.status != http.StatusOK {
		t.Errorf("its own method: %d %s", a.status, a.body)
	}
	if a := i.do(i.tokenRequest(byPost, key, clientCredentials)); a.status != http.StatusUnauthorized || a.string("error") != "invalid_client" {
		t.Errorf("the other method: %d %s", a.status, a.body)
	}
}

func TestWrongSecretAndUnknownClientGetTheSameAnswer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i, client, key := w.instance(), w.client(authz.Client{}), newKey(t)
	disabled := w.client(authz.Client{ID: "disabled"})
	if err := w.owner.SetClientDisabled(t.Context(), disabled.ID, true, operatorEvent(authz.AuditClientDisabled)); err != nil {
		t.Fatal(err)
	}
	wrong := authz.NewSecret().Reveal()
	ask := func(id string) answer {
		c := registered{&authz.Client{ID: id}, wrong}
		a := i.do(i.tokenRequest(c, key, clientCredentials))
		for _, name := range []string{"X-Request-Id", "Date"} {
			a.header.Del(name)
		}
		return a
	}
	want := ask(client.ID)
	if want.status != http.StatusUnauthorized {
		t.Fatal(want.status, want.body)
	}
	for _, id := range []string{"nobody", disabled.ID, "no client has this name!"} {
		got := ask(id)
		if got.status != want.status || got.body != want.body || !cmp.Equal(got.header, want.header) {
			t.Errorf("%s: %d %s %v; a wrong secret: %d %s %v", id, got.status, got.body, got.header, want.status, want.body, want.header)
		}
	}
}

// The times are compared by medians of many requests in turn, within one run:
// wide enough for a busy machine, narrow enough to find a slow hash or a second
// look-up in one of the two paths.
func TestWrongSecretAndUnknownClientTakeTheSameTime(t *testing.T) {
	w := newWorld(t)
	i, client := w.instance(), w.client(authz.Client{})
	wrong := authz.NewSecret().Reveal()
	var times [2][]time.Duration
	for n := range 600 {
		id := []string{client.ID, "nobody-at-all"}[n%2]
		r := i.post("/oauth/introspect", registered{&authz.Client{ID: id}, wrong}, url.Values{"token": {"x"}})
		start := time.Now()
		i.do(r)
		if n >= 100 {
			times[n%2] = append(times[n%2], time.Since(start))
		}
	}
	median := func(d []time.Duration) float64 { slices.Sort(d); return float64(d[len(d)/2]) }
	ratio := median(times[0]) / median(times[1])
	t.Logf("wrong secret %v, unknown client %v, ratio %.3f", time.Duration(median(times[0])), time.Duration(median(times[1])), ratio)
	if ratio < 0.7 || ratio > 1.4 {
		t.Errorf("the answers take different times: ratio %.2f", ratio)
	}
}

func TestDisabledClientGetsNothingAndItsTokensAreInactive(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	one, two := w.instance(), w.instance()
	client, gateway, key := w.client(authz.Client{}), w.gateway(), newKey(t)
	token := one.token(client, key).string("access_token")

	switchTo := func(disabled bool, kind authz.AuditKind) {
		t.Helper()
		if err := w.owner.SetClientDisabled(t.Context(), client.ID, disabled, operatorEvent(kind)); err != nil {
			t.Fatal(err)
		}
	}
	switchTo(true, authz.AuditClientDisabled)
	for _, i := range []*instance{one, two} {
		if i.active(gateway, token) {
			t.Error("a token of a disabled client is active")
		}
		if a := i.do(i.tokenRequest(client, key, clientCredentials)); a.status != http.StatusUnauthorized || a.string("error") != "invalid_client" {
			t.Errorf("a disabled client: %d %s", a.status, a.body)
		}
	}
	switchTo(false, authz.AuditClientEnabled)
	if two.active(gateway, token) {
		t.Error("a token from before is active again")
	}
	if fresh := two.token(client, key).string("access_token"); !one.active(gateway, fresh) {
		t.Error("a new token of the enabled client is inactive")
	}
}

func TestTokensOfADeletedClientDoNotComeBackWithItsName(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i, gateway, key := w.instance(), w.gateway(), newKey(t)
	client := w.client(authz.Client{})
	token := i.token(client, key).string("access_token")
	if err := w.owner.DeleteClient(t.Context(), client.ID, operatorEvent(authz.AuditClientDeleted)); err != nil {
		t.Fatal(err)
	}
	if i.active(gateway, token) {
		t.Error("a token of a deleted client is active")
	}
	w.client(authz.Client{}) // of the same name
	if i.active(gateway, token) {
		t.Error("a token of a deleted client came back with its name")
	}
}

func TestDisabledGatewaySeesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i, client, gateway, key := w.instance(), w.client(authz.Client{}), w.gateway(), newKey(t)
	token := i.token(client, key).string("access_token")
	if err := w.owner.SetClientDisabled(t.Context(), gateway.ID, true, operatorEvent(authz.AuditClientDisabled)); err != nil {
		t.Fatal(err)
	}
	a := i.do(i.post("/oauth/introspect", gateway, url.Values{"token": {token}}))
	if a.status != http.StatusUnauthorized {
		t.Errorf("%d %s", a.status, a.body)
	}
}
