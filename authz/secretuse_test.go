package authz_test

import (
	"context"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cargokey/authz/authz"
	"github.com/cargokey/authz/storage/postgres"
)

// rotate gives a client a new secret; a zero overlap ends the others at once.
func (w *world) rotate(c registered, overlap time.Duration) registered {
	w.t.Helper()
	secret, e := authz.NewSecret(), operatorEvent(authz.AuditSecretRotated)
	var end time.Time
	if overlap != 0 {
		end = e.At.Add(overlap)
	}
	w.changed.Store(time.Now().UnixMilli())
	if err := w.owner.RotateSecret(context.WithoutCancel(w.t.Context()), c.ID, secret.Digest(), end, e); err != nil {
		w.t.Fatal(err)
	}
	w.secret(secret.Reveal())
	return registered{c.Client, secret.Reveal()}
}

// guessed is a client with a secret that was never its own.
func (w *world) guessed(c registered) registered {
	secret := authz.NewSecret().Reveal()
	w.secret(secret)
	return registered{c.Client, secret}
}

func nameOf(c registered) string { return authz.DigestOf(c.secret).Name() }

func TestSecretIsNamedByTheBeginningOfItsDigest(t *testing.T) {
	d := authz.DigestOf("azs_x")
	if name := d.Name(); len(name) != 12 || name != hex.EncodeToString(d[:])[:12] {
		t.Error(name)
	}
}

// entrance is a place where a secret counts: a request there by c, and whether it
// was let in.
type entrance struct {
	name    string
	request func(i *instance, c registered) *http.Request
	open    func(a answer) bool
}

// entrances are all there are, for a client that has a grant and fronts labels.
func (w *world) entrances() []entrance {
	key := newKey(w.t)
	ok := func(a answer) bool { return a.status == http.StatusOK }
	form := func(path string) func(*instance, registered) *http.Request {
		return func(i *instance, c registered) *http.Request { return i.post(path, c, url.Values{"token": {"x"}}) }
	}
	return []entrance{
		{"token", func(i *instance, c registered) *http.Request { return i.tokenRequest(c, key, clientCredentials) }, ok},
		{"introspect", form("/oauth/introspect"), ok},
		{"revoke", form("/oauth/revoke"), ok},
		{"verify", func(i *instance, c registered) *http.Request {
			return i.checkRequest(call{gateway: c, method: "GET", url: createLabel})
		},
			// The gateway is known: it is its caller that has no token.
			func(a answer) bool { return a.status == http.StatusUnauthorized }},
	}
}

// both registers a client that may do anything.
func (w *world) both() registered {
	return w.client(authz.Client{ID: "both", Introspects: []string{labels},
		Grants: []authz.Grant{{Resource: labels, Scopes: []string{"label:read"}}}})
}

func TestRotationWithOverlapFailsNoRequest(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	one, two := w.instance(), w.instance()
	start := w.both()
	var current atomic.Pointer[registered]
	current.Store(&start)
	ctx, end := context.WithCancel(t.Context())
	var answered []*atomic.Int64
	var load sync.WaitGroup
	for _, i := range []*instance{one, two} {
		for _, e := range w.entrances() {
			n := &atomic.Int64{}
			answered = append(answered, n)
			load.Go(func() {
				for ctx.Err() == nil {
					if a, err := i.try(e.request(i, *current.Load())); err != nil || !e.open(a) {
						t.Errorf("%s: %d %s %v", e.name, a.status, a.body, err)
					}
					n.Add(1)
				}
			})
		}
	}
	// Two answers at each entrance: the second was asked for after this began.
	more := func() {
		for _, n := range answered {
			for from := n.Load(); n.Load() < from+2; {
				time.Sleep(time.Millisecond)
			}
		}
	}
	more()
	for range 3 {
		fresh := w.rotate(*current.Load(), time.Hour)
		more() // the client takes its time
		time.Sleep(150 * time.Millisecond)
		current.Store(&fresh)
		more()
		// The hour is over.
		w.exec(`update authz.client_secrets set expires_at = now() where expires_at > now()`)
		more()
	}
	end()
	load.Wait()
	for _, i := range []*instance{one, two} {
		for _, e := range w.entrances() {
			if e.open(i.do(e.request(i, start))) {
				t.Errorf("%s: the first secret still counts", e.name)
			}
		}
	}
}

func TestStolenSecretEndsAtOnceOnEveryInstanceWhateverItsClock(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	client := w.both()
	behind, ahead := w.instance(), w.instance()
	behind.advance(-30 * time.Minute)
	ahead.advance(30 * time.Minute)
	planned := w.rotate(client, 24*time.Hour)
	for _, i := range []*instance{behind, ahead} {
		for _, e := range w.entrances() {
			for _, c := range []registered{client, planned} {
				if a := i.do(e.request(i, c)); !e.open(a) {
					t.Errorf("%s, during the overlap: %d %s", e.name, a.status, a.body)
				}
			}
		}
	}
	fresh := w.rotate(client, 0)
	for _, i := range []*instance{behind, ahead} {
		for _, e := range w.entrances() {
			for _, c := range []registered{client, planned} {
				if a := i.do(e.request(i, c)); e.open(a) {
					t.Errorf("%s, by a secret that was ended: %d %s", e.name, a.status, a.body)
				}
			}
			if a := i.do(e.request(i, fresh)); !e.open(a) {
				t.Errorf("%s, by the new one: %d %s", e.name, a.status, a.body)
			}
		}
	}
}

// counted is an instance whose statements are counted.
func (w *world) counted() (*instance, *atomic.Int64) {
	w.t.Helper()
	statements := &tracer{}
	store, err := postgres.Open(w.t.Context(), w.database.ServerURL, postgres.AsServer(),
		postgres.Configure(func(c *pgxpool.Config) { c.ConnConfig.Tracer = statements }))
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(store.Close)
	return w.instance(func(c *authz.Config) { c.Store = store }), &statements.n
}

// tracer counts what pgx sends.
type tracer struct{ n atomic.Int64 }

func (c *tracer) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	c.n.Add(1)
	return ctx
}

func (c *tracer) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func TestRetiredSecretIsAnsweredAsAWrongOne(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	client := w.both()
	i, statements := w.counted()
	expired := w.rotate(client, time.Hour)
	w.exec(`update authz.client_secrets set expires_at = now() - interval '1 minute' where digest = $1`, digestOf(client))
	ended := client
	fresh := w.rotate(client, 0)
	for _, e := range w.entrances() {
		ask := func(c registered) (answer, int64) {
			r := e.request(i, c)
			if e.name == "verify" {
				time.Sleep(150 * time.Millisecond) // each is refused only after a look for a newer table
			}
			before := statements.Load()
			a := i.do(r)
			for _, name := range []string{"X-Request-Id", "Date"} {
				a.header.Del(name)
			}
			return a, statements.Load() - before
		}
		ask(w.guessed(fresh))
		want, trips := ask(w.guessed(fresh))
		if e.open(want) || trips == 0 {
			t.Fatalf("%s: %d %s after %d statements", e.name, want.status, want.body, trips)
		}
		for name, c := range map[string]registered{"expired": ended, "ended at once": expired} {
			got, n := ask(c)
			if got.status != want.status || got.body != want.body || !cmp.Equal(got.header, want.header) || n != trips {
				t.Errorf("%s, %s: %d %s %v after %d statements; a wrong one: %d %s %v after %d",
					e.name, name, got.status, got.body, got.header, n, want.status, want.body, want.header, trips)
			}
		}
		if a, _ := ask(fresh); !e.open(a) {
			t.Errorf("%s: %d %s", e.name, a.status, a.body)
		}
	}
}

func digestOf(c registered) []byte {
	d := authz.DigestOf(c.secret)
	return d[:]
}

// As wide as TestWrongSecretAndUnknownClientTakeTheSameTime.
func TestRetiredSecretTakesNoLongerThanAWrongOne(t *testing.T) {
	w := newWorld(t)
	i, client := w.instance(), w.both()
	w.rotate(client, 0)
	for _, e := range w.entrances() {
		var times [2][]time.Duration
		for n := range 500 {
			c := client
			if n%2 == 1 {
				c = w.guessed(client)
			}
			r := e.request(i, c)
			start := time.Now()
			i.do(r)
			if n >= 100 {
				times[n%2] = append(times[n%2], time.Since(start))
			}
		}
		median := func(d []time.Duration) float64 { slices.Sort(d); return float64(d[len(d)/2]) }
		ratio := median(times[0]) / median(times[1])
		t.Logf("%s: retired %v, wrong %v, ratio %.3f", e.name, time.Duration(median(times[0])), time.Duration(median(times[1])), ratio)
		if ratio < 0.7 || ratio > 1.4 {
			t.Errorf("%s: the answers take different times: ratio %.2f", e.name, ratio)
		}
	}
}

func TestUseOfARetiredSecretIsInTheTrailAndCounted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.named = true
	i, client := w.instance(), w.both()
	fresh := w.rotate(client, 0)
	const metric = `authz_retired_secrets_used_total{client_id="both"}`
	for n, e := range w.entrances() {
		var first answer
		for k := range 3 {
			if a := i.do(e.request(i, client)); k == 0 {
				first = a
			}
		}
		i.do(e.request(i, w.guessed(client))) // of no interest
		i.do(e.request(i, fresh))
		i.flush()
		if got := i.metric(metric); got != float64(3*(n+1)) {
			t.Errorf("%s: %s is %v", e.name, metric, got)
		}
		where := fmt.Sprintf(`from authz.audit_events where kind = 'credential.retired_used' and detail->>'endpoint' = '%s'`, e.name)
		if n := w.count("select count(*)::int " + where); n != 1 {
			t.Errorf("%s: %d events", e.name, n)
		}
		if n := w.count(`select count(*)::int ` + where + fmt.Sprintf(` and client_id = 'both' and actor = 'server'
			and request_id = '%s' and remote_addr = '127.0.0.1' and detail->>'credential' = '%s' and detail->>'times' = '3'
			and (detail->>'ended_at')::timestamptz = (select expires_at from authz.client_secrets where ended)
			and (detail->>'first_at')::timestamptz between at - interval '10 s' and at`, first.header.Get("X-Request-Id"), nameOf(client))); n != 1 {
			t.Errorf("%s: the event says something else", e.name)
		}
	}
	if logs := w.logs.String(); !strings.Contains(logs, "its secret "+nameOf(client)+" has ended at ") {
		t.Error("the log does not tell it from a wrong secret")
	}
}

// flush records what was counted.
func (i *instance) flush() {
	i.w.t.Helper()
	ctx, end := context.WithCancel(context.WithoutCancel(i.w.t.Context()))
	end()
	i.server.Run(ctx)
}

func TestWhichSecretWasUsedIsInTheTokensRowTheTrailAndTheLog(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i, old, key := w.instance(), w.both(), newKey(t)
	fresh := w.rotate(old, time.Hour)
	for _, c := range []registered{old, fresh} {
		token := i.token(c, key).string("access_token")
		for from, sql := range map[string]string{
			"row":   `select count(*)::int from authz.tokens where credential = '%s'`,
			"trail": `select count(*)::int from authz.audit_events where kind = 'token.issued' and detail->>'credential' = '%s'`,
		} {
			if n := w.count(fmt.Sprintf(sql, nameOf(c))); n != 1 {
				t.Errorf("%s: %d", from, n)
			}
		}
		i.introspect(c, token)
		i.passes(i.goodCall(c, token, key))
		i.do(i.post("/oauth/revoke", c, url.Values{"token": {token}}))
		for _, endpoint := range []string{"token", "introspect", "verify", "revoke"} {
			lines := 0
			for line := range strings.Lines(w.logs.String()) {
				if strings.Contains(line, `"endpoint":"`+endpoint+`"`) && strings.Contains(line, `"credential":"`+nameOf(c)+`"`) {
					lines++
				}
			}
			if lines != 1 {
				t.Errorf("%s: %d lines name the secret", endpoint, lines)
			}
		}
	}
}
