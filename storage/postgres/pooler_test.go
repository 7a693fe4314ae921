package postgres_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cargokey/authz/authz"
	"github.com/cargokey/authz/internal/pgdev"
	"github.com/cargokey/authz/internal/pgdev/pgtest"
	"github.com/cargokey/authz/storage/postgres"
	"github.com/cargokey/authz/storage/storetest"
)

// pooler is a PgBouncer before the Postgres of a test's database. It has fewer
// connections to Postgres than a Store has to it.
func pooler(t testing.TB, db pgtest.Database, settings ...string) *pgdev.Pooler {
	t.Helper()
	p, err := pgdev.StartPooler(t.Context(), 3, settings, db.OwnerURL, db.ServerURL)
	if errors.Is(err, pgdev.ErrNoPooler) && os.Getenv("AUTHZ_TEST_PGBOUNCER") == "" {
		t.Skip(err)
	}
	must(t, err)
	t.Cleanup(func() { must(t, p.Stop()) })
	return p
}

func through(t testing.TB, p *pgdev.Pooler, url string) string {
	t.Helper()
	pooled, err := p.URL(url)
	must(t, err)
	return pooled
}

// setLogin makes the server's settings the defaults of its login, as
// docs/operations.md says. They are this database's alone.
func setLogin(t testing.TB, db pgtest.Database) {
	t.Helper()
	login, err := pgx.ParseConfig(db.ServerURL)
	must(t, err)
	in := `alter role ` + login.User + ` in database ` + login.Database
	exec(t, connect(t, db.OwnerURL), in+` set default_transaction_isolation = 'read committed'; `+
		in+` set synchronous_commit = 'on'; `+in+` set statement_timeout = '10s'`)
}

// hardToEncode are the parts of the contract whose statements have arrays, nulls and
// documents for parameters, whose types only Postgres knows.
var hardToEncode = regexp.MustCompile(`/(ActiveToken|Events)/`)

func TestStoreKeepsItsContractBehindAPooler(t *testing.T) {
	t.Parallel()
	p := pooler(t, pgtest.New(t))
	storetest.Run(t, func(t *testing.T) storetest.Stores {
		if os.Getenv("AUTHZ_TEST_LONG") == "" && !hardToEncode.MatchString(t.Name()) {
			t.Skip("only with AUTHZ_TEST_LONG=1")
		}
		db := pgtest.New(t)
		setLogin(t, db)
		admin := connect(t, db.OwnerURL)
		many := postgres.Configure(func(c *pgxpool.Config) { c.MaxConns = 16 })
		pooled := through(t, p, db.ServerURL)
		return storetest.Stores{
			Operator: open(t, db.OwnerURL, many),
			Servers: [2]authz.Store{
				open(t, pooled, postgres.AsServer(), many),
				open(t, pooled, postgres.AsServer(), many),
			},
			Events:      func(t *testing.T) []authz.AuditEvent { return events(t, admin) },
			SpentProofs: func(t *testing.T) int { return count(t, admin, "spent_proofs") },
			ExpireSecret: func(t *testing.T, clientID string, secret authz.Digest, at time.Time) {
				exec(t, admin, `update authz.client_secrets set expires_at = $3 where client_id = $1 and digest = $2`,
					clientID, secret[:], at)
			},
		}
	})
}

// Whoever gets a connection next finds nothing of the server's in it: no role, no
// setting, no lock, no prepared statement, no table.
func TestServerLeavesNothingInAPoolersConnections(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	setLogin(t, db)
	p := pooler(t, db)
	now := clock()
	populate(t, open(t, db.OwnerURL), now)
	url := through(t, p, db.ServerURL)
	store := open(t, url, postgres.AsServer())
	must(t, store.Maintain(t.Context(), now))
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			i := issue(now)
			if err := store.RecordToken(t.Context(), i); err != nil {
				t.Error(err)
			}
			if _, err := store.ActiveToken(t.Context(), i.Token.Digest, edgeCaller(), now); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()

	// Each of these holds a connection of the pooler's, so that all are looked at.
	seen := map[uint32]bool{}
	for range 3 {
		conn := connect(t, url)
		tx, err := conn.BeginTx(t.Context(), pgx.TxOptions{})
		must(t, err)
		defer tx.Rollback(context.WithoutCancel(t.Context()))
		var pid uint32
		var left []string
		must(t, tx.QueryRow(t.Context(), `
			select pg_backend_pid(), array(
			  select 'user ' || current_user where current_user <> session_user
			  union all select 'setting ' || name from pg_settings where source = 'session'
			    and name not in ('application_name', 'client_encoding', 'DateStyle', 'TimeZone', 'standard_conforming_strings')
			  union all select 'statement ' || statement from pg_prepared_statements
			  union all select 'lock ' || objid from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()
			  union all select 'channel ' || c from pg_listening_channels() c
			  union all select 'table ' || relname from pg_class where relnamespace = pg_my_temp_schema())`,
			pgx.QueryExecModeExec).Scan(&pid, &left))
		seen[pid] = true
		if len(left) > 0 {
			t.Errorf("a connection has %q", left)
		}
	}
	if len(seen) != 3 {
		t.Errorf("%d connections were looked at", len(seen))
	}
}

func TestPoolerIsRefusedUntilTheLoginHasTheServersSettings(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	owner, err := pgx.ParseConfig(db.OwnerURL)
	must(t, err)
	admin := connect(t, db.OwnerURL)
	login, err := pgx.ParseConfig(db.ServerURL)
	must(t, err)
	for _, setting := range []string{"default_transaction_isolation = serializable", "synchronous_commit = local", "statement_timeout = 0"} {
		exec(t, admin, `alter database `+login.Database+` set `+setting)
	}
	p := pooler(t, db, "admin_users = "+owner.User)
	url := through(t, p, db.ServerURL)
	store := open(t, url, postgres.AsServer())
	err = store.Maintain(t.Context(), clock())
	if !errors.Is(err, postgres.ErrPooler) {
		t.Fatalf("it is used: %v", err)
	}
	_, sql, _ := strings.Cut(err.Error(), "connect anew: ")
	if strings.Count(sql, "alter role") != 3 {
		t.Fatalf("the error says: %v", err)
	}
	exec(t, admin, sql)
	console := connectSimple(t, strings.Replace(through(t, p, db.OwnerURL), "/"+login.Database+"?", "/pgbouncer?", 1))
	if _, err := console.Exec(t.Context(), `reconnect`); err != nil {
		t.Fatal(err)
	}
	must(t, store.Maintain(t.Context(), clock()))
}

func TestPoolerIsRefusedToALoginWithMoreRightsThanTheServers(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	admin := connect(t, db.OwnerURL)
	for name, grant := range map[string]string{
		"none":     ``,
		"database": `alter role %s createdb`,
		"roles":    `alter role %s createrole`,
		"reader":   `grant pg_read_all_data to %s`,
		"owner":    `do $$ begin execute format('grant %%I to %s', current_user); end $$`,
		"grantee":  `grant select on authz.audit_events to %s`,
		"stranger": `revoke authz_server from %s`,
	} {
		// Roles belong to the whole Postgres, so this one has a name of its own.
		login := "authz_test_login_" + name + strings.ToLower(rand.Text())
		as, err := url.Parse(db.ServerURL)
		must(t, err)
		password, _ := as.User.Password()
		as.User = url.UserPassword(login, password)
		exec(t, admin, `create role `+login+` login password '`+password+`' in role authz_server`)
		t.Cleanup(func() {
			if _, err := admin.Exec(context.WithoutCancel(t.Context()), `drop owned by `+login+`; drop role `+login); err != nil {
				t.Error(err)
			}
		})
		own := pgtest.Database{OwnerURL: db.OwnerURL, ServerURL: as.String()}
		setLogin(t, own)
		if grant != "" {
			exec(t, admin, strings.ReplaceAll(fmt.Sprintf(grant, login), "%%", "%"))
		}
		store, err := postgres.Open(t.Context(), through(t, pooler(t, own), own.ServerURL), postgres.AsServer())
		if err == nil {
			err = store.Maintain(t.Context(), clock())
			store.Close()
		}
		switch {
		case name == "none" && err == nil, name == "stranger" && sqlState(err) == "42501":
		case name == "none" || !errors.Is(err, postgres.ErrPooler):
			t.Errorf("%s: %v", name, err)
		}
	}
	err := postgres.Direct(t.Context(), connectSimple(t, through(t, pooler(t, db), db.OwnerURL)))
	if !errors.Is(err, postgres.ErrPooler) {
		t.Errorf("migrations: %v", err)
	}
	must(t, postgres.Direct(t.Context(), admin))
}

// connectSimple connects to what knows nothing but simple queries.
func connectSimple(t testing.TB, url string) *pgx.Conn {
	t.Helper()
	c, err := pgx.ParseConfig(url)
	must(t, err)
	c.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
	conn, err := pgx.ConnectConfig(t.Context(), c)
	must(t, err)
	t.Cleanup(func() { conn.Close(context.WithoutCancel(t.Context())) })
	return conn
}
