package authz_test

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cargokey/authz/authz"
	"github.com/cargokey/authz/internal/clientassertion/assertiontest"
)

// slowIssuing has each statement that records tokens take a while, so that what a
// server can do is not for the machine to say.
const slowIssuing = `
create function authz.dawdle() returns trigger language plpgsql as $$ begin perform pg_sleep(0.1); return null; end $$;
create trigger tokens_dawdle after insert on authz.tokens for each statement execute function authz.dawdle()`

// flooded is what became of requests that were sent at set times, whatever became of
// those before them.
type flooded struct {
	mu       sync.Mutex
	accepted []time.Duration
	refused  int
	others   []answer
}

func (f *flooded) p99() time.Duration {
	slices.Sort(f.accepted)
	return f.accepted[len(f.accepted)*99/100]
}

// offers sends requests, one each interval. The first half is not counted: until it is
// seen to be too much, what comes is taken on. Nor is the last tenth, of which some are
// still in the line when nobody comes after them any more.
func (i *instance) offers(c *http.Client, r func() *http.Request, every, lasts time.Duration) *flooded {
	f := &flooded{}
	var wg sync.WaitGroup
	tick := time.NewTicker(every)
	defer tick.Stop()
	for begun := time.Now(); time.Since(begun) < lasts; <-tick.C {
		at, request := time.Since(begun), r()
		wg.Go(func() {
			sent := time.Now()
			a, err := i.tryBy(c, request)
			took := time.Since(sent)
			f.mu.Lock()
			defer f.mu.Unlock()
			switch {
			case err == nil && a.status == http.StatusOK:
				if at > lasts/2 && at < lasts*9/10 {
					f.accepted = append(f.accepted, took)
				}
			case err == nil && a.status == http.StatusServiceUnavailable && a.string("error") == "temporarily_unavailable" &&
				a.header.Get("Retry-After") == "1" && a.header.Get("Cache-Control") == "no-store":
				f.refused++
			default:
				f.others = append(f.others, a)
			}
		})
	}
	wg.Wait()
	return f
}

// More than ten times what can be done is offered. What is accepted takes as long as
// ever, all else is told to come back, calls of APIs are checked meanwhile, and after it
// all is as before. What the machine does besides may spoil a round; a queue would spoil
// each of them.
func TestFloodIsShedAndSlowsDownNobodyWhoIsAccepted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i := w.instance(func(c *authz.Config) { c.InFlight, c.Log = 2, infoLog(w.logs) })
	client := w.client(authz.Client{ID: "rates-service", AllowBearer: true, Grants: []authz.Grant{{Resource: rates, Scopes: []string{"rate:read"}}}})
	bound, gateway, key := w.client(authz.Client{}), w.gateway(), newKey(t)
	token := i.token(bound, key).string("access_token")
	w.exec(slowIssuing)
	ask := func() *http.Request { return i.post("/oauth/token", client, clientCredentials) }
	transport := &http.Transport{MaxIdleConnsPerHost: 1000}
	defer transport.CloseIdleConnections()
	many := &http.Client{Transport: transport}

	const rounds = 5
	for round := 1; ; round++ {
		quiet := i.offers(many, ask, 200*time.Millisecond, 3*time.Second)
		if len(quiet.others) > 0 || len(quiet.accepted) == 0 {
			t.Fatalf("when it is quiet %d are accepted, and otherwise %v", len(quiet.accepted), quiet.others)
		}
		checked := make(chan struct{})
		go func() {
			defer close(checked)
			for range 5 {
				i.passes(i.goodCall(gateway, token, key))
				time.Sleep(200 * time.Millisecond)
			}
			if a := i.internalGet("/readyz"); a.status != http.StatusOK {
				t.Errorf("not ready in a flood: %d %s", a.status, a.body)
			}
		}()
		flood := i.offers(many, ask, 1250*time.Microsecond, 3*time.Second)
		<-checked
		if len(flood.others) > 0 {
			t.Fatalf("%d are answered otherwise, such as %+v", len(flood.others), flood.others[0])
		}
		if flood.refused < len(flood.accepted) || len(flood.accepted) < 5 {
			t.Fatalf("%d accepted, %d refused: it is no flood, or nobody is served", len(flood.accepted), flood.refused)
		}
		t.Logf("p99 %s when it is quiet, %s in a flood; %d accepted in less than half of it, %d refused", quiet.p99(), flood.p99(), len(flood.accepted), flood.refused)
		if flood.p99() <= 3*quiet.p99() && quiet.refused == 0 {
			break
		}
		if round == rounds {
			t.Fatal("in each round what is accepted takes more than three times as long as when it is quiet, or something is refused then")
		}
	}
	for range 4 {
		if a := i.do(ask()); a.status != http.StatusOK {
			t.Errorf("after the flood: %d %s", a.status, a.body)
		}
	}
	if i.metric(`authz_requests_shed_total{where="public"}`) == 0 || i.metric(`authz_requests_shed_total{where="gateway"}`) != 0 {
		t.Error("the metrics do not tell which listener was flooded")
	}
	if n := strings.Count(w.logs.String(), "some are refused with 503"); n == 0 || n > 20 {
		t.Errorf("the log says so %d times", n)
	}
}

// Sixty-four connections, each of which waits for its answer, are served by a server
// that is configured as it is by itself.
func TestSixtyFourConnectionsAreNotShed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i, client, gateway := w.instance(func(c *authz.Config) { c.Log = infoLog(w.logs) }), w.client(authz.Client{}), w.gateway()
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			for range 6 {
				if a, err := i.try(i.post("/oauth/introspect", gateway, url.Values{"token": {"x"}})); err != nil || a.status != http.StatusOK {
					t.Errorf("%v, %d %s", err, a.status, a.body)
				}
			}
		})
	}
	wg.Wait()
	i.token(client, newKey(t))
}

// A pool that runs dry keeps nobody waiting for long: more requests than it has
// connections, all of which are held up, get 503, and are served once it is over.
func TestDryPoolIsA503(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	u, err := url.Parse(w.database.ServerURL)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	q.Set("pool_max_conns", "2")
	u.RawQuery = q.Encode()
	i, client, key := w.instanceOf(u.String()), w.client(authz.Client{}), newKey(t)
	i.token(client, key)
	conn, err := pgx.Connect(t.Context(), w.database.OwnerURL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	if _, err := conn.Exec(t.Context(), `begin; lock table authz.clients, authz.tokens in access exclusive mode`); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 30 {
		r := i.tokenRequest(client, key, clientCredentials)
		wg.Go(func() {
			sent := time.Now()
			a, err := i.try(r)
			if err != nil || a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") != "1" || time.Since(sent) > 20*time.Second {
				t.Errorf("%v, %d %s after %s", err, a.status, a.body, time.Since(sent))
			}
		})
	}
	wg.Wait()
	if _, err := conn.Exec(t.Context(), `rollback`); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if a := i.do(i.tokenRequest(client, key, clientCredentials)); a.status == http.StatusOK {
			break
		} else if time.Now().After(end) {
			t.Fatalf("after it: %d %s", a.status, a.body)
		}
	}
}

// A client's own host may hold its requests open, and nobody else's.
func TestSlowHostOfAClientTakesNobodysPlace(t *testing.T) {
	t.Parallel()
	w, host := newWorld(t), newKeyHost(t)
	i, key := w.instance(host.trusted, func(c *authz.Config) { c.InFlight = 2 }), newKey(t)
	signer := assertiontest.NewSigner("ES256")
	slow, client := w.asserting(authz.Client{ID: "slow-service", JWKSURI: host.URL}, signer), w.client(authz.Client{})
	request := func() *http.Request {
		return i.tokenRequest(registered{}, key, i.asserted(clientCredentials, i.draft(slow)))
	}
	first := i.holds(host, signer, request())
	var others sync.WaitGroup
	for range 6 {
		r := request()
		others.Go(func() { i.try(r) }) // what becomes of them is for others to test
	}
	for range 5 {
		i.token(client, key)
	}
	close(first.release)
	if a := <-first.answer; a.status != http.StatusOK {
		t.Errorf("%d %s", a.status, a.body)
	}
	others.Wait()
}
