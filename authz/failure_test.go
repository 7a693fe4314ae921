package authz_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/cargokey/authz/authz"
	"github.com/cargokey/authz/dpopbind"
	"github.com/cargokey/authz/internal/pgdev"
	"github.com/cargokey/authz/internal/pgdev/pgtest"
	"github.com/cargokey/authz/jwks"
	"github.com/cargokey/authz/migrations"
	"github.com/cargokey/authz/storage/postgres"
)

// errorsIs keeps the name free for tables.
func errorsIs(err, target error) bool { return errors.Is(err, target) }

// config is a configuration like i's with another sealing key.
func (w *world) config(i *instance, sealer *jwks.Sealer) authz.Config {
	return authz.Config{
		Issuer: issuer, ProofLifetime: authz.DefaultProofLifetime, ClockSkew: authz.DefaultClockSkew,
		Store: i.store, Sealer: sealer, Metrics: authz.NewMetrics(prometheus.NewRegistry()),
		Log: discard(), Now: time.Now, NonceSecrets: [][]byte{make([]byte, dpopbind.MinNonceSecret)},
	}
}

// exec runs a statement as the owner.
func (w *world) exec(sql string, args ...any) {
	w.t.Helper()
	if _, err := w.tryExec(sql, args...); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) tryExec(sql string, args ...any) (pgconn.CommandTag, error) {
	w.t.Helper()
	ctx := context.WithoutCancel(w.t.Context())
	conn, err := pgx.Connect(ctx, w.database.OwnerURL)
	if err != nil {
		w.t.Fatal(err)
	}
	defer conn.Close(ctx)
	return conn.Exec(ctx, sql, args...)
}

func header(t *testing.T, token string) map[string]any {
	t.Helper()
	encoded, _, _ := strings.Cut(token, ".")
	decoded, err := base64Decode(encoded)
	if err != nil {
		t.Fatal(err)
	}
	var h map[string]any
	if err := json.NewDecoder(bytes.NewReader(decoded)).Decode(&h); err != nil {
		t.Fatal(err)
	}
	return h
}

// newMortalWorld is a world on a Postgres of its own, which can be killed.
func newMortalWorld(t testing.TB) (*world, *pgdev.Postgres) {
	t.Helper()
	pg, err := pgdev.Start(t.Context(), pgdev.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := pg.Stop(context.WithoutCancel(t.Context())); err != nil {
			t.Errorf("stopping Postgres: %v", err)
		}
	})
	conn, err := pgx.Connect(t.Context(), pg.URL())
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(migrations.Up(t.Context(), conn), conn.Close(t.Context())); err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, database: pgtest.Database{OwnerURL: pg.URL(), ServerURL: pg.URL()}, logs: &lockedBuffer{}}
	if w.owner, err = postgres.Open(t.Context(), pg.URL()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.owner.Close)
	if w.sealer, err = jwks.NewSealer(make([]byte, jwks.SealingKeySize)); err != nil {
		t.Fatal(err)
	}
	if err := w.owner.Maintain(t.Context(), time.Now()); err != nil {
		t.Fatal(err)
	}
	w.resource(&authz.Resource{URI: labels, Scopes: []string{"label:create", "label:read", "CXS"}, BaseURLs: []string{labelsURL}})
	t.Cleanup(w.checkInvariants)
	return w, pg
}

func TestPostgresGoneIsA503AndNothingIsIssued(t *testing.T) {
	t.Parallel()
	w, pg := newMortalWorld(t)
	i, client, gateway, key := w.instance(), w.client(authz.Client{}), w.gateway(), newKey(t)
	token := i.token(client, key).string("access_token")
	proof := i.proof(key)
	call := i.goodCall(gateway, token, key)
	if err := pg.Kill(); err != nil {
		t.Fatal(err)
	}
	r := i.post("/oauth/token", client, clientCredentials)
	r.Header.Set("DPoP", proof)
	for name, a := range map[string]answer{
		"token":      i.do(r),
		"introspect": i.do(i.post("/oauth/introspect", gateway, url.Values{"token": {token}})),
		"revoke":     i.do(i.post("/oauth/revoke", client, url.Values{"token": {token}})),
		"verify":     i.verify(call),
	} {
		if a.status != http.StatusServiceUnavailable || a.string("error") != "temporarily_unavailable" || a.header.Get("Retry-After") != "1" {
			t.Errorf("%s: %d %s %v", name, a.status, a.body, a.header)
		}
		checkErrorForm(t, a)
	}
	if a := i.internalGet("/readyz"); a.status != http.StatusServiceUnavailable {
		t.Errorf("ready without a database: %d %s", a.status, a.body)
	}
	if a := i.internalGet("/healthz"); a.status != http.StatusOK {
		t.Errorf("not alive without a database: %d %s", a.status, a.body)
	}

	if err := pg.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	r = i.post("/oauth/token", client, clientCredentials)
	r.Header.Set("DPoP", proof)
	if a := i.do(r); a.status != http.StatusOK {
		t.Errorf("the refused request has spent its proof: %d %s", a.status, a.body)
	}
	if !i.active(gateway, token) {
		t.Error("the refused revocation was carried out")
	}
	i.passes(call)
	if a := i.internalGet("/readyz"); a.status != http.StatusOK {
		t.Errorf("not ready again: %d %s", a.status, a.body)
	}
}

func (i *instance) internalGet(path string) answer {
	i.w.t.Helper()
	r, err := http.NewRequestWithContext(i.w.t.Context(), http.MethodGet, i.internal+path, nil)
	if err != nil {
		i.w.t.Fatal(err)
	}
	return i.do(r)
}

// Postgres is killed again and again in the middle of requests. Every token
// that a client holds is there afterwards, and no proof can be spent again.
func TestKilledPostgresLosesNoIssuedToken(t *testing.T) {
	t.Parallel()
	w, pg := newMortalWorld(t)
	instances := []*instance{w.instance(), w.instance()}
	client, gateway, key := w.client(authz.Client{}), w.gateway(), newKey(t)

	var mu sync.Mutex
	held := map[string]string{} // token by proof
	for range 5 {
		stop := make(chan struct{})
		var wg sync.WaitGroup
		for n := range 8 {
			wg.Go(func() {
				for i := instances[n%2]; ; {
					select {
					case <-stop:
						return
					default:
					}
					proof, err := key.Proof(http.MethodPost, tokenEndpoint, time.Now(), proofOptions)
					if err != nil {
						t.Error(err)
						return
					}
					r := i.post("/oauth/token", client, clientCredentials)
					r.Header.Set("DPoP", proof)
					a, err := i.try(r)
					switch {
					case err != nil:
						t.Error(err)
					case a.status == http.StatusOK:
						mu.Lock()
						held[proof] = a.string("access_token")
						mu.Unlock()
					case a.status != http.StatusServiceUnavailable:
						t.Errorf("%d %s", a.status, a.body)
					}
				}
			})
		}
		time.Sleep(150 * time.Millisecond)
		err := pg.Kill()
		close(stop)
		wg.Wait()
		if err := errors.Join(err, pg.Restart(t.Context())); err != nil {
			t.Fatal(err)
		}
	}
	if len(held) < 50 {
		t.Fatalf("only %d tokens were issued", len(held))
	}
	t.Logf("%d tokens over 5 kills", len(held))
	// Connections that nobody has used for a second are looked at before use;
	// until then a request may meet one that died with Postgres, and get a 503.
	time.Sleep(1100 * time.Millisecond)
	checked := 0
	for proof, token := range held {
		if !instances[0].active(gateway, token) {
			t.Fatal("an issued token is lost")
		}
		r := instances[1].post("/oauth/token", client, clientCredentials)
		r.Header.Set("DPoP", proof)
		if a := instances[1].do(r); a.status != http.StatusBadRequest {
			t.Fatalf("a spent proof was accepted: %d %s", a.status, a.body)
		}
		if checked++; checked == 200 {
			break
		}
	}
}

func TestReadyMeansCanIssue(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i := w.instance()
	if a := i.internalGet("/readyz"); a.status != http.StatusOK || a.string("status") != "ready" {
		t.Errorf("%d %s", a.status, a.body)
	}
	i.offset.Add(int64(24 * time.Hour)) // where no partition has been made yet
	if a := i.internalGet("/readyz"); a.status != http.StatusServiceUnavailable {
		t.Errorf("ready without a partition for now: %d %s", a.status, a.body)
	}
	i.advance(0)
	if a := i.internalGet("/readyz"); a.status != http.StatusOK {
		t.Errorf("not ready with one: %d %s", a.status, a.body)
	}
	i.server.Drain()
	if a := i.internalGet("/readyz"); a.status != http.StatusServiceUnavailable {
		t.Errorf("ready while shutting down: %d %s", a.status, a.body)
	}
}
