package pgtest

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cargokey/authz/internal/pgdev"
	"github.com/cargokey/authz/migrations"
)

// loginRole is the role that ServerURL logs in as.
const loginRole = "authz_server_login"

// cluster is a Postgres in which databases are made for tests.
type cluster struct {
	postgres *pgdev.Postgres
	owner    *url.URL
	login    *url.Userinfo
	// prefix begins the names of this test binary's databases: several may
	// share the Postgres.
	prefix   string
	made     atomic.Int64
	strategy string
	template func() (string, error)
}

func startCluster(ctx context.Context, o pgdev.Options) (*cluster, error) {
	p, err := pgdev.Start(ctx, o)
	if err != nil {
		return nil, err
	}
	c := &cluster{postgres: p, prefix: "authz_test_" + strings.ToLower(rand.Text()[:8])}
	c.template = sync.OnceValues(c.makeTemplate)
	if err := c.prepare(ctx); err != nil {
		return nil, errors.Join(err, p.Stop(context.WithoutCancel(ctx)))
	}
	return c, nil
}

func (c *cluster) prepare(ctx context.Context) error {
	var err error
	if c.owner, err = url.Parse(c.postgres.URL()); err != nil || !strings.HasPrefix(c.owner.Scheme, "postgres") {
		return errors.New("the tests' database must be named by a URL that begins with postgres://") // err may quote a password
	}
	return c.asOwner(ctx, func(conn *pgx.Conn) error {
		version, err := strconv.Atoi(strings.SplitN(conn.PgConn().ParameterStatus("server_version"), ".", 2)[0])
		if err == nil && version >= 15 {
			// The other one writes each page of the copy to the WAL.
			c.strategy = " strategy file_copy"
		}
		return c.ensureRoles(ctx, conn)
	})
}

// ensureRoles makes the server's role and one that logs in with its rights.
// Roles belong to the whole Postgres, which other test binaries may be using:
// the lock keeps them apart, and what one has made the others find.
func (c *cluster) ensureRoles(ctx context.Context, conn *pgx.Conn) error {
	password := c.loginPassword()
	c.login = url.User(loginRole)
	if password != "" {
		c.login = url.UserPassword(loginRole, password)
	}
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `select pg_advisory_xact_lock(hashtext('authz pgtest roles'))`); err != nil {
			return fmt.Errorf("locking the tests' roles: %w", err)
		}
		statements := []struct{ role, create string }{
			{migrations.ServerRole, "create role " + migrations.ServerRole + " nologin"},
			{loginRole, "create role " + loginRole + " login in role " + migrations.ServerRole},
		}
		for _, s := range statements {
			var there bool
			if err := tx.QueryRow(ctx, `select exists (select from pg_roles where rolname = $1)`, s.role).Scan(&there); err != nil {
				return fmt.Errorf("looking for the role %s: %w", s.role, err)
			}
			if there {
				continue
			}
			if _, err := tx.Exec(ctx, s.create); err != nil {
				return fmt.Errorf("creating the role %s: %w", s.role, err)
			}
		}
		if password == "" {
			return nil
		}
		// Hexadecimal digits need no quoting.
		if _, err := tx.Exec(ctx, "alter role "+loginRole+" password '"+password+"'"); err != nil {
			return fmt.Errorf("setting the password of the role %s: %w", loginRole, err)
		}
		return nil
	})
}

// loginPassword is empty on a socket, where trust or the kernel's word for the
// user count. Else it is derived from the owner's password, so that all test
// binaries which share the Postgres arrive at the same one.
func (c *cluster) loginPassword() string {
	if c.owner.Hostname() == "" {
		return ""
	}
	password, _ := c.owner.User.Password()
	mac := hmac.New(sha256.New, []byte(password))
	mac.Write([]byte(loginRole))
	return hex.EncodeToString(mac.Sum(nil))
}

// makeTemplate makes the migrated database that New copies.
func (c *cluster) makeTemplate() (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	name := c.prefix + "_template"
	if err := c.execute(ctx, "create database "+name); err != nil {
		return "", fmt.Errorf("creating the template database: %w", err)
	}
	conn, err := pgx.Connect(ctx, c.urlOf(name, c.owner.User))
	if err != nil {
		return "", fmt.Errorf("connecting to the template database: %w", err)
	}
	err = migrations.Up(ctx, conn)
	if err := errors.Join(err, conn.Close(ctx)); err != nil {
		return "", fmt.Errorf("migrating the template database: %w", err)
	}
	// A database is copied only while nobody is connected to it.
	if err := c.execute(ctx, "alter database "+name+" with is_template true allow_connections false"); err != nil {
		return "", fmt.Errorf("closing the template database: %w", err)
	}
	return name, nil
}

// makeDatabase copies template, or makes an empty database if that is "".
func (c *cluster) makeDatabase(t testing.TB, template string) Database {
	t.Helper()
	ctx := context.WithoutCancel(t.Context()) // the end of t must not keep it from being dropped
	name := fmt.Sprintf("%s_%d", c.prefix, c.made.Add(1))
	create := "create database " + name
	if template != "" {
		create += " template " + template + c.strategy
	}
	if err := c.execute(ctx, create); err != nil {
		t.Fatalf("creating a database: %v", err)
	}
	t.Cleanup(func() {
		if err := c.execute(ctx, "drop database if exists "+name+" with (force)"); err != nil {
			t.Errorf("dropping the test's database: %v", err)
		}
	})
	made := Database{OwnerURL: c.urlOf(name, c.owner.User), ServerURL: c.urlOf(name, c.login)}
	if template != "" { // as a copy it would not be served
		if err := claim(ctx, made.OwnerURL); err != nil {
			t.Fatalf("claiming a database: %v", err)
		}
	}
	return made
}

func claim(ctx context.Context, url string) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, `select authz.claim_database(null)`)
	return err
}

// stop drops the template, which a Postgres that is not ours would keep.
func (c *cluster) stop(ctx context.Context) error {
	var errs []error
	if c.postgres.PID() == 0 {
		name := c.prefix + "_template"
		errs = append(errs, c.asOwner(ctx, func(conn *pgx.Conn) error {
			var there bool
			err := conn.QueryRow(ctx, `select exists (select from pg_database where datname = $1)`, name).Scan(&there)
			if err != nil || !there {
				return err
			}
			if _, err = conn.Exec(ctx, "alter database "+name+" with is_template false"); err != nil {
				return err
			}
			_, err = conn.Exec(ctx, "drop database "+name+" with (force)")
			return err
		}))
	}
	return errors.Join(append(errs, c.postgres.Stop(ctx))...)
}

// execute runs one statement as the owner, on a connection of its own: making
// and dropping databases is rare, and no pool has to be closed.
func (c *cluster) execute(ctx context.Context, statement string) error {
	return c.asOwner(ctx, func(conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, statement)
		return err
	})
}

func (c *cluster) asOwner(ctx context.Context, f func(*pgx.Conn) error) error {
	conn, err := pgx.Connect(ctx, c.owner.String())
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	return f(conn)
}

func (c *cluster) urlOf(name string, as *url.Userinfo) string {
	u := *c.owner
	u.User = as
	u.Path = "/" + name
	return u.String()
}
