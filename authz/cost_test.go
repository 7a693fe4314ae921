package authz_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cargokey/authz/authz"
	"github.com/cargokey/authz/dpopbind/prooftest"
)

// The largest body that a stranger can send costs about what a small one does.
// The bound is wide, and far below the second that the square of its scopes
// would take.
func TestStrangersLargestRequestCostsLittle(t *testing.T) {
	w := newWorld(t)
	i := w.instance()
	var many strings.Builder
	for n := range 21_000 {
		fmt.Fprintf(&many, "%x+", n%4096)
	}
	for name, body := range map[string]string{
		"scopes":          "grant_type=client_credentials&scope=" + many.String()[:60<<10],
		"parameters":      strings.Repeat("a&", 30<<10),
		"names":           "x=" + strings.ReplaceAll(many.String()[:40<<10], "+", "&y"),
		"a long secret":   "grant_type=client_credentials&client_id=x&client_secret=" + strings.Repeat("s", 60<<10),
		"a long resource": "grant_type=client_credentials&resource=https://" + strings.Repeat("s", 60<<10),
	} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, i.url+"/oauth/token", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		start := time.Now()
		a := i.do(r)
		if took := time.Since(start); took > 150*time.Millisecond {
			t.Errorf("%s: %d after %s", name, a.status, took)
		}
		if a.status != http.StatusBadRequest && a.status != http.StatusUnauthorized {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
}

// A request that its client breaks off is finished: to break off its statement
// would cost a connection to the database each time.
func TestBrokenOffRequestsCostNoConnections(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i, client := w.instance(), w.client(authz.Client{})
	i.active(client, "x") // so that there is a connection
	sessions := func() int {
		return w.count("select coalesce(sum(sessions), 0)::int from pg_stat_database where datname = current_database()")
	}
	before := sessions()
	address := strings.TrimPrefix(i.url, "http://")
	body := "token=x"
	request := "POST /oauth/introspect HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: " +
		fmt.Sprint(len(body)) + "\r\nAuthorization: Basic " + "bm9ib2R5Om5vdGhpbmc=" + "\r\n\r\n" + body
	for range 200 {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		conn.(*net.TCPConn).SetLinger(0)
		fmt.Fprint(conn, request)
		time.Sleep(300 * time.Microsecond)
		conn.Close()
	}
	time.Sleep(1200 * time.Millisecond) // Postgres tells its statistics once a second
	if n := sessions() - before; n > 50 {
		t.Errorf("200 broken-off requests cost %d connections", n)
	}
	if strings.Contains(w.logs.String(), "temporarily_unavailable") {
		t.Error("broken-off requests are logged as an outage")
	}
}

// A database that does not answer is as good as none.
func TestSilentDatabaseIsA503(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i, client, gateway, key := w.instance(), w.client(authz.Client{}), w.gateway(), newKey(t)
	token := i.token(client, key).string("access_token")
	conn, err := pgx.Connect(t.Context(), w.database.OwnerURL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	if _, err := conn.Exec(t.Context(), `begin; lock table authz.clients, authz.resources in access exclusive mode`); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for name, r := range map[string]*http.Request{
		"token":      i.tokenRequest(client, key, clientCredentials),
		"introspect": i.post("/oauth/introspect", gateway, url.Values{"token": {token}}),
		"revoke":     i.post("/oauth/revoke", client, url.Values{"token": {token}}),
	} {
		wg.Go(func() {
			start := time.Now()
			a, err := i.try(r)
			if err != nil || a.status != http.StatusServiceUnavailable || time.Since(start) > 8*time.Second {
				t.Errorf("%s: %v %d %s after %s", name, err, a.status, a.body, time.Since(start))
			}
		})
	}
	wg.Wait()
	if _, err := conn.Exec(t.Context(), `rollback`); err != nil {
		t.Fatal(err)
	}
	if !i.active(gateway, token) {
		t.Error("inactive after the database is back")
	}
}

func TestMetadataDoesNotAskTheDatabaseEachTime(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i := w.instance()
	const path = "/.well-known/oauth-authorization-server"
	first := i.get(path).body
	w.resource(&authz.Resource{URI: "https://new.test", Scopes: []string{"new:scope"}})
	if i.get(path).body != first {
		t.Error("the scopes were read again at once")
	}
	i.advance(6 * time.Second)
	if !strings.Contains(i.get(path).body, "new:scope") {
		t.Error("the scopes were not read again after six seconds")
	}
	// What was read last is good enough while nothing can be read.
	w.exec("alter table authz.resources rename to elsewhere")
	i.advance(6 * time.Second)
	if a := i.get(path); a.status != http.StatusOK {
		t.Errorf("%d %s", a.status, a.body)
	}
	w.exec("alter table authz.elsewhere rename to resources")
}

// The same name in a later proof is refused for as long as both could be
// accepted, also where they lie in two partitions.
func TestNameOfAProofIsRefusedAcrossTheHour(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i, client := w.instance(), w.client(authz.Client{})
	hour := i.now().Truncate(time.Hour).Add(time.Hour)
	send := func(at time.Time) answer {
		i.advance(at.Sub(i.now()))
		r := i.post("/oauth/token", client, clientCredentials)
		r.Header.Set("DPoP", prooftest.New(i.now(), http.MethodPost, tokenEndpoint).Claim("jti", `"the-same-name"`).String())
		return i.do(r)
	}
	if a := send(hour.Add(-30 * time.Second)); a.status != http.StatusOK {
		t.Fatal(a.status, a.body)
	}
	if a := send(hour.Add(30 * time.Second)); a.status != http.StatusBadRequest || a.string("error") != "invalid_dpop_proof" {
		t.Errorf("60 seconds later: %d %s", a.status, a.body)
	}
	if a := send(hour.Add(2 * time.Minute)); a.status != http.StatusOK {
		t.Errorf("after both windows: %d %s", a.status, a.body)
	}
}

// An instance whose clock is hours behind must not accept what was spent then.
func TestClockFarBehindAcceptsNoSpentProof(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i, client, key := w.instance(), w.client(authz.Client{}), newKey(t)
	i.offset.Store(int64(-5 * time.Hour))
	w.exec("select authz.ensure_partitions($1, $1)", i.now())
	proof := i.proof(key)
	send := func(i *instance) answer {
		r := i.post("/oauth/token", client, clientCredentials)
		r.Header.Set("DPoP", proof)
		return i.do(r)
	}
	if a := send(i); a.status != http.StatusOK {
		t.Fatal(a.status, a.body)
	}
	// The right clocks drop the hour; a wrong one comes back to it.
	if err := w.owner.Maintain(t.Context(), time.Now()); err != nil {
		t.Fatal(err)
	}
	i.advance(0)
	if a := send(i); a.status != http.StatusServiceUnavailable {
		t.Errorf("%d %s", a.status, a.body)
	}
	// What was recorded then is gone with its partition, and so is its event's.
	w.exec("delete from authz.audit_events where kind = 'token.issued'")
}

func TestRevocationIsForGoodWhateverTheClocksSay(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	one, two := w.instance(), w.instance()
	client, gateway, key := w.client(authz.Client{}), w.gateway(), newKey(t)
	for _, ahead := range []time.Duration{15 * time.Second, 9 * time.Minute, -9 * time.Minute} {
		two.offset.Store(int64(ahead))
		two.advance(0)
		token := one.token(client, key).string("access_token")
		// Almost expired by the one, expired by the other, or not issued yet.
		one.advance(590 * time.Second)
		two.advance(590 * time.Second)
		if a := two.do(two.post("/oauth/revoke", client, url.Values{"token": {token}})); a.status != http.StatusOK {
			t.Errorf("%s ahead: %d %s", ahead, a.status, a.body)
		}
		if one.active(gateway, token) {
			t.Errorf("%s ahead: revoked with 200, and active", ahead)
		}
	}
	if _, err := w.tryExec("update authz.tokens set revoked_at = null"); err == nil {
		t.Error("a revocation was taken back")
	}
}
