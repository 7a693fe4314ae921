package postgres_test

import (
	"context"
	"errors"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cargokey/authz/authz"
	"github.com/cargokey/authz/internal/pgdev/pgtest"
	"github.com/cargokey/authz/storage/postgres"
)

func TestSchemaThatThisBuildDoesNotKnowIsRefused(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, sql, says string }{
		{"none", `drop schema authz cascade`, "run authz migrate"},
		{"older", `update authz.schema_version set version = version - 1`, "run authz migrate"},
		{"newer", `update authz.schema_version set version = version + 1; update authz.oldest_build set version = (select version from authz.schema_version)`, "run a newer build"},
		{"newer, and says nothing", `update authz.schema_version set version = version + 1; drop table authz.oldest_build`, "run a newer build"},
	} {
		db := pgtest.New(t)
		exec(t, connect(t, db.OwnerURL), c.sql)
		for _, url := range []string{db.OwnerURL, db.ServerURL} {
			s, err := postgres.Open(t.Context(), url, postgres.AsServer())
			if !errors.Is(err, postgres.ErrSchema) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%s: %v, want it to say %q", c.name, err, c.says)
			}
			if err == nil {
				s.Close()
			}
		}
	}
}

func TestStoreThatRunsIsReadyForANewerSchemaAndNotForAnOlder(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	admin := connect(t, db.OwnerURL)
	store := open(t, db.ServerURL, postgres.AsServer())
	must(t, store.Maintain(t.Context(), clock()))
	exec(t, admin, `update authz.schema_version set version = version + 1`)
	must(t, store.Ready(t.Context(), clock()))
	open(t, db.ServerURL, postgres.AsServer()) // one that is started anew
	exec(t, admin, `update authz.oldest_build set version = (select version from authz.schema_version)`)
	if err := store.Ready(t.Context(), clock()); !errors.Is(err, postgres.ErrSchema) {
		t.Errorf("a schema that was withdrawn: %v", err)
	}
	exec(t, admin, `update authz.schema_version set version = version - 2`)
	if err := store.Ready(t.Context(), clock()); !errors.Is(err, postgres.ErrSchema) {
		t.Errorf("an older schema: %v", err)
	}
}

func TestReadOnlyDatabaseIsNotReady(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	must(t, open(t, db.ServerURL).Maintain(t.Context(), clock()))
	exec(t, connect(t, db.OwnerURL),
		`do $$ begin execute format('alter database %I set default_transaction_read_only = on', current_database()); end $$`)
	if err := open(t, db.ServerURL, postgres.AsServer()).Ready(t.Context(), clock()); err == nil {
		t.Error("ready")
	}
}

func TestErrorsOfOpenKeepThePassword(t *testing.T) {
	t.Parallel()
	const password = "hunter2"
	for _, url := range []string{
		"postgres://authz:" + password + "@db:notaport/authz",
		"postgres://authz:" + password + "@db/authz?sslmode=nonsense",
		"postgres://authz:" + password + "@db/authz?pool_max_conns=" + password,
		"postgres://authz:" + password + "%zz@db/authz",
		"host=db password=" + password + " port=x",
		"\x7f" + password,
		"postgres://authz:" + password + "@127.0.0.1:1/authz", // nobody listens
	} {
		s, err := postgres.Open(t.Context(), url)
		if err == nil {
			s.Close()
			t.Errorf("%q was opened", url)
		} else if strings.Contains(err.Error(), password) {
			t.Errorf("the error quotes the password: %v", err)
		}
	}
}

func TestWaysToSendStatementsThatMayBeTakenApartAreRefused(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	for mode, ok := range map[string]bool{
		"cache_statement": true, "cache_describe": true, "describe_exec": false, "exec": false, "simple_protocol": false,
	} {
		u, err := url.Parse(db.ServerURL)
		must(t, err)
		q := u.Query()
		q.Set("default_query_exec_mode", mode)
		u.RawQuery = q.Encode()
		s, err := postgres.Open(t.Context(), u.String(), postgres.AsServer())
		if (err == nil) != ok {
			t.Errorf("%s: %v", mode, err)
		}
		if err == nil {
			must(t, s.Maintain(t.Context(), clock()))
			s.Close()
		}
	}
}

func TestDefaultsOfTheDatabaseChangeNothing(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	admin := connect(t, db.OwnerURL)
	now := clock()
	populate(t, open(t, db.OwnerURL), now)
	for _, setting := range []string{"default_transaction_isolation = serializable", "synchronous_commit = off",
		"search_path = nowhere", "timezone = ''Asia/Kathmandu''", "datestyle = ''SQL, DMY''", "plan_cache_mode = force_custom_plan"} {
		exec(t, admin, `do $$ begin execute format('alter database %I set `+setting+`', current_database()); end $$`)
	}
	var mu sync.Mutex // connections close at the same time
	var commits []string
	store := open(t, db.ServerURL, postgres.AsServer(), postgres.Configure(func(c *pgxpool.Config) {
		c.MaxConns = 16
		c.BeforeClose = func(conn *pgx.Conn) {
			var commit string
			if err := conn.QueryRow(context.Background(), `show synchronous_commit`).Scan(&commit); err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			commits = append(commits, commit)
		}
	}))
	must(t, store.Maintain(t.Context(), now))
	proof := issue(now).Proof
	var recorded, spent atomic.Int32
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			i := issue(now)
			i.Proof = proof
			switch err := store.RecordToken(t.Context(), i); {
			case err == nil:
				recorded.Add(1)
			case errors.Is(err, authz.ErrProofSpent):
				spent.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if recorded.Load() != 1 || spent.Load() != 31 {
		t.Errorf("%d recorded, %d spent", recorded.Load(), spent.Load())
	}
	store.Close()
	if commits = slices.Compact(commits); !slices.Equal(commits, []string{"on"}) {
		t.Errorf("synchronous_commit is %q", commits)
	}
}

func TestTokenOfAResourceThatIsGoneIsRefused(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	admin := connect(t, db.OwnerURL)
	now := clock()
	populate(t, open(t, db.OwnerURL), now)
	store := open(t, db.ServerURL, postgres.AsServer())
	before := dump(t, admin)
	i := issue(now)
	i.Token.Resource = "https://nowhere.example.com"
	for range 2 {
		if err := store.RecordToken(t.Context(), i); !errors.Is(err, authz.ErrClientChanged) {
			t.Errorf("bound: %v", err)
		}
		bearer := i
		bearer.Proof = nil
		if err := store.RecordToken(t.Context(), bearer); !errors.Is(err, authz.ErrClientChanged) {
			t.Errorf("bearer: %v", err)
		}
	}
	same(t, before, dump(t, admin))
}

// Where a standby waits to succeed the primary, local commits are not enough.
func TestCommitsWaitForNoLessThanIsConfigured(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	for setting, want := range map[string]string{"off": "on", "local": "on", "on": "on", "remote_apply": "remote_apply"} {
		u, err := url.Parse(db.ServerURL)
		must(t, err)
		q := u.Query()
		q.Set("synchronous_commit", setting) // as a default of the session, as the login's would be
		u.RawQuery = q.Encode()
		var is string
		store, err := postgres.Open(t.Context(), u.String(), postgres.AsServer(), postgres.Configure(func(c *pgxpool.Config) {
			c.MaxConns = 1
			c.BeforeClose = func(conn *pgx.Conn) {
				if err := conn.QueryRow(context.Background(), `show synchronous_commit`).Scan(&is); err != nil {
					t.Error(err)
				}
			}
		}))
		must(t, err)
		must(t, store.Maintain(t.Context(), clock()))
		store.Close()
		if is != want {
			t.Errorf("%s becomes %s, want %s", setting, is, want)
		}
	}
}
