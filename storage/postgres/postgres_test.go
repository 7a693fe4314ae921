package postgres_test

import (
	"context"
	"crypto/rand"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cargokey/authz/authz"
	"github.com/cargokey/authz/internal/pgdev/pgtest"
	"github.com/cargokey/authz/storage/postgres"
	"github.com/cargokey/authz/storage/storetest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func TestStoreKeepsItsContract(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t *testing.T) storetest.Stores {
		stores, _ := contractStores(t)
		return stores
	})
}

func contractStores(t *testing.T) (stores storetest.Stores, servers [2]*postgres.Store) {
	t.Helper()
	db := pgtest.New(t)
	admin := connect(t, db.OwnerURL)
	// Enough connections for what comes at once to be at once.
	many := postgres.Configure(func(c *pgxpool.Config) { c.MaxConns = 16 })
	for i := range servers {
		servers[i] = open(t, db.ServerURL, postgres.AsServer(), many)
		stores.Servers[i] = servers[i]
	}
	stores.Operator = open(t, db.OwnerURL, many)
	stores.Events = func(t *testing.T) []authz.AuditEvent { return events(t, admin) }
	stores.SpentProofs = func(t *testing.T) int { return count(t, admin, "spent_proofs") }
	stores.ExpireSecret = func(t *testing.T, clientID string, secret authz.Digest, at time.Time) {
		exec(t, admin, `update authz.client_secrets set expires_at = $3 where client_id = $1 and digest = $2`,
			clientID, secret[:], at)
	}
	return stores, servers
}

func open(t testing.TB, url string, options ...postgres.Option) *postgres.Store {
	t.Helper()
	s, err := postgres.Open(t.Context(), url, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func connect(t testing.TB, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.WithoutCancel(t.Context())) })
	return conn
}

func exec(t testing.TB, conn *pgx.Conn, sql string, args ...any) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// list returns the rows of a statement that has one column.
func list[T any](t testing.TB, conn *pgx.Conn, sql string, args ...any) []T {
	t.Helper()
	rows, err := conn.Query(t.Context(), sql, args...)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	values, err := pgx.CollectRows(rows, pgx.RowTo[T])
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return values
}

func count(t testing.TB, conn *pgx.Conn, table string) int {
	t.Helper()
	return list[int](t, conn, `select count(*)::int from authz.`+table)[0]
}

func events(t testing.TB, conn *pgx.Conn) []authz.AuditEvent {
	t.Helper()
	rows, err := conn.Query(t.Context(), `
		select id, at, kind, actor, coalesce(client_id, ''), coalesce(resource, ''), jti, coalesce(jkt, ''),
		  coalesce(request_id, ''), coalesce(remote_addr, ''), detail
		from authz.audit_events`)
	if err != nil {
		t.Fatal(err)
	}
	found, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (e authz.AuditEvent, err error) {
		var id [16]byte
		var jti *[16]byte
		err = row.Scan(&id, &e.At, &e.Kind, &e.Actor, &e.ClientID, &e.Resource, &jti, &e.JKT, &e.RequestID, &e.RemoteAddr, &e.Detail)
		e.ID = id
		if jti != nil {
			e.JTI = *jti
		}
		return e, err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// sqlState is that of the error that Postgres gave, "" if it gave none.
func sqlState(err error) string {
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) {
		return pgErr.Code
	}
	return ""
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func same(t testing.TB, want, got any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

const (
	labels = "https://labels.example.com"
	shop   = "shop"
	edge   = "edge"
)

// populate registers the resource labels, the client shop and the gateway edge.
func populate(t testing.TB, s *postgres.Store, now time.Time) {
	t.Helper()
	ctx := t.Context()
	must(t, s.Maintain(ctx, now))
	must(t, s.CreateResource(ctx, newResource(labels), event(authz.AuditResourceCreated, now)))
	first := newClient(shop)
	must(t, s.CreateClient(ctx, first, event(authz.AuditClientCreated, now)))
	second := &authz.Client{
		ID: edge, AuthMethod: authz.ClientSecretBasic, TokenFormat: authz.FormatJWT, Introspects: []string{labels},
	}
	must(t, s.CreateClient(ctx, second, event(authz.AuditClientCreated, now)))
	must(t, s.Exec(ctx, `
		alter table authz.clients disable trigger clients_revision;
		update authz.clients set revision = case id when 'shop' then 1 else 2 end;
		alter table authz.clients enable always trigger clients_revision;
		update authz.resources set revision = 3`))
}

// shopCaller and edgeCaller are the clients of populate until they are changed.
func shopCaller() authz.Caller {
	return authz.Caller{ClientID: shop, Revision: 1}
}

func edgeCaller() authz.Caller {
	return authz.Caller{ClientID: edge, Revision: 2, Fronts: []string{labels}}
}

func newResource(uri string) *authz.Resource {
	return &authz.Resource{URI: uri, Scopes: []string{"read", "write"}, TokenTTL: time.Minute}
}

func newClient(id string) *authz.Client {
	return &authz.Client{
		ID: id, AuthMethod: authz.ClientSecretBasic, TokenFormat: authz.FormatJWT,
		Secrets: []authz.Digest{secretOf(id)},
		Grants:  []authz.Grant{{Resource: labels, Scopes: []string{"read"}}},
	}
}

func event(kind authz.AuditKind, now time.Time) authz.AuditEvent {
	return authz.NewAuditEvent(now, kind, authz.ActorOperator("ada"))
}

// secretOf is the digest of the secret that a client is registered with.
func secretOf(id string) authz.Digest { return authz.DigestOf("the secret of " + id) }

func issue(now time.Time) authz.Issue {
	t := authz.Token{
		JTI: authz.NewJTI(now), Digest: randomDigest(), ClientID: shop, Resource: labels, Scope: "read",
		JKT: rand.Text(), Credential: secretOf(shop).Name(), IssuedAt: now, ExpiresAt: now.Truncate(time.Second).Add(10 * time.Minute),
	}
	e := authz.NewAuditEvent(now, authz.AuditTokenIssued, "client:"+shop)
	e.ClientID, e.Resource, e.JTI, e.JKT = t.ClientID, t.Resource, t.JTI, t.JKT
	return authz.Issue{Token: t, Event: e, Revision: shopCaller().Revision, ResourceRevision: 3, Proof: &authz.Spending{
		Digest: randomDigest(), IssuedAt: now.Truncate(time.Second), Window: 90 * time.Second,
	}}
}

func randomDigest() (d authz.Digest) {
	rand.Read(d[:]) // never fails (crypto/rand)
	return d
}

// clock is the moment that a test happens at, at the precision of Postgres.
func clock() time.Time { return time.Now().Truncate(time.Microsecond) }
