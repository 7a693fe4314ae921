package authz_test

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/cargokey/authz/authz"
)

// running runs the instance's upkeep until do has returned, and ends it.
func (i *instance) running(do func()) {
	i.w.t.Helper()
	ctx, end := context.WithCancel(context.WithoutCancel(i.w.t.Context()))
	done := make(chan struct{})
	go func() { defer close(done); i.server.Run(ctx) }()
	defer func() {
		end()
		select {
		case <-done:
		case <-time.After(10 * time.Second):
			i.w.t.Error("Run did not return")
		}
	}()
	do()
}

// asked is a sum over the audit trail.
type asked struct {
	Actor, ClientID, Resource, Outcome string
	N                                  int
}

// asked reads who asked. An event that may have been written is written again
// under its ID, and counts once.
func (w *world) asked() []asked {
	w.t.Helper()
	ctx := context.WithoutCancel(w.t.Context())
	conn, err := pgx.Connect(ctx, w.database.OwnerURL)
	if err != nil {
		w.t.Fatal(err)
	}
	defer conn.Close(ctx)
	rows, err := conn.Query(ctx, `
		select actor, client_id, coalesce(resource, ''), key, sum(value::int)::int
		from (select distinct on (id) * from authz.audit_events where kind = 'token.introspected'
		  and jti is null and jkt is null and request_id is null and remote_addr is null
		  and (detail->>'from')::timestamptz < (detail->>'to')::timestamptz and (detail->>'to')::timestamptz <= at) e,
		  jsonb_each_text(detail - 'from' - 'to')
		group by 1, 2, 3, 4 order by 1, 2, 3, 4`)
	if err != nil {
		w.t.Fatal(err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByPos[asked])
	if err != nil {
		w.t.Fatal(err)
	}
	return found
}

func (w *world) wantAsked(want ...asked) {
	w.t.Helper()
	if diff := cmp.Diff(want, w.asked()); diff != "" {
		w.t.Errorf("(-want +got):\n%s", diff)
	}
}

func (w *world) introspectedRows() int {
	w.t.Helper()
	return w.count(`select count(*)::int from authz.audit_events where kind = 'token.introspected'`)
}

// That no token is in the trail or the log is held at the end of the test; that
// none is in the metrics, here.
func TestWhoAskedAboutWhichResourceIsOnRecord(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.named = true
	i, client, gateway, key := w.instance(), w.client(authz.Client{}), w.gateway(), newKey(t)
	both := w.client(authz.Client{ID: "wide-gateway", Introspects: []string{labels, rates}})
	bearer := w.client(authz.Client{ID: "rate-service", AllowBearer: true, Grants: []authz.Grant{{Resource: rates, Scopes: []string{"rate:read"}}}})
	token := i.token(client, key).string("access_token")
	unbound := i.do(i.tokenRequest(bearer, nil, clientCredentials)).string("access_token")
	unknown := "an-unknown-token-of-some-length"
	w.secret(unknown)
	i.running(func() {
		for range 3 {
			i.introspect(gateway, token)
		}
		i.introspectSigned(gateway, token)
		i.introspect(gateway, unbound)
		i.introspectSigned(gateway, unknown)
		i.introspect(both, token)
		i.introspect(both, unbound)
		// What is no answer about a token is not counted.
		i.do(i.post("/oauth/introspect", registered{gateway.Client, "azs_x"}, url.Values{"token": {token}}))
		i.do(i.post("/oauth/introspect", gateway, url.Values{}))
	})
	w.wantAsked(
		asked{"client:edge-gateway", "edge-gateway", "", "inactive", 2},
		asked{"client:edge-gateway", "edge-gateway", labels, "active", 4},
		asked{"client:wide-gateway", "wide-gateway", labels, "active", 1},
		asked{"client:wide-gateway", "wide-gateway", rates, "active", 1},
	)
	metrics := i.internalGet("/metrics").body
	for _, want := range []string{
		`authz_checks_total{client_id="edge-gateway",kind="token.introspected",outcome="active",resource="` + labels + `"} 4`,
		`authz_checks_total{client_id="edge-gateway",kind="token.introspected",outcome="inactive",resource=""} 2`,
		`authz_checks_total{client_id="wide-gateway",kind="token.introspected",outcome="active",resource="` + rates + `"} 1`,
		`authz_maintenance_total{outcome="ok",task="audit"} `,
	} {
		if !strings.Contains(metrics, want) {
			t.Errorf("/metrics lacks %s", want)
		}
	}
	for _, secret := range []string{token, unbound, unknown, header(t, token)["kid"].(string)} {
		if strings.Contains(metrics, secret) {
			t.Errorf("/metrics holds %.12s…", secret)
		}
	}
}

func TestManyQuestionsAreFewEventsWithinSeconds(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i, gateway := w.instance(), w.gateway()
	i.running(func() {
		for range 200 {
			i.introspect(gateway, "x")
		}
		for end := time.Now().Add(10 * time.Second); w.introspectedRows() == 0; time.Sleep(50 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("nothing is on record while the server runs")
			}
		}
	})
	w.wantAsked(asked{"client:edge-gateway", "edge-gateway", "", "inactive", 200})
	if n := w.introspectedRows(); n > 20 {
		t.Errorf("%d events", n)
	}
	rows := w.introspectedRows()
	i.running(func() {})
	if n := w.introspectedRows(); n != rows {
		t.Errorf("%d events of no question", n-rows)
	}
}

func TestCountsOutliveAStoreThatIsGone(t *testing.T) {
	t.Parallel()
	w, pg := newMortalWorld(t)
	i, client, gateway, key := w.instance(), w.client(authz.Client{}), w.gateway(), newKey(t)
	token := i.token(client, key).string("access_token")
	for range 3 {
		i.introspect(gateway, token)
	}
	if err := pg.Kill(); err != nil {
		t.Fatal(err)
	}
	i.running(func() {
		for end := time.Now().Add(10 * time.Second); i.metric(`authz_maintenance_total{outcome="failed",task="audit"}`) < 2; time.Sleep(50 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("no flush has failed")
			}
		}
		// What could not be answered is not counted.
		if a := i.do(i.post("/oauth/introspect", gateway, url.Values{"token": {token}})); a.status != http.StatusServiceUnavailable {
			t.Errorf("%d %s", a.status, a.body)
		}
	})
	if err := pg.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	i.running(func() {
		for range 2 {
			i.introspect(gateway, token)
		}
		i.introspect(gateway, "x")
	})
	w.wantAsked(
		asked{"client:edge-gateway", "edge-gateway", "", "inactive", 1},
		asked{"client:edge-gateway", "edge-gateway", labels, "active", 5},
	)
}

// metric is a counter's value, 0 where it is not there yet.
func (i *instance) metric(name string) (n float64) {
	i.w.t.Helper()
	for line := range strings.Lines(i.internalGet("/metrics").body) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			fmt.Sscan(value, &n)
		}
	}
	return n
}

// A trail that takes nothing holds up neither a request nor the end.
func TestNobodyWaitsForTheTrailOfWhoAsked(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i, client, gateway, key := w.instance(), w.client(authz.Client{}), w.gateway(), newKey(t)
	token := i.token(client, key).string("access_token")
	conn, err := pgx.Connect(t.Context(), w.database.OwnerURL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	if _, err := conn.Exec(t.Context(), "begin; lock table authz.audit_events in access exclusive mode"); err != nil {
		t.Fatal(err)
	}
	var ended time.Time
	i.running(func() {
		i.introspect(gateway, token)
		time.Sleep(1200 * time.Millisecond) // a flush is under way, and waits
		begun := time.Now()
		i.introspect(gateway, token)
		if took := time.Since(begun); took > time.Second {
			t.Errorf("a request took %s", took)
		}
		ended = time.Now()
	})
	if took := time.Since(ended); took > 2*time.Second {
		t.Errorf("Run returned after %s", took)
	}
	if _, err := conn.Exec(t.Context(), "rollback"); err != nil {
		t.Fatal(err)
	}
	i.running(func() { i.introspect(gateway, token) })
	w.wantAsked(asked{"client:edge-gateway", "edge-gateway", labels, "active", 3})
}
