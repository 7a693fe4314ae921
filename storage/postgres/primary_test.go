package postgres_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cargokey/authz/authz"
	"github.com/cargokey/authz/internal/pgdev"
	"github.com/cargokey/authz/migrations"
	"github.com/cargokey/authz/storage/postgres"
)

// primaryAndStandby are two servers with a migrated database, the second of which
// follows the first.
func primaryAndStandby(t *testing.T) (primary, standby *pgdev.Postgres) {
	t.Helper()
	primary, err := pgdev.Start(t.Context(), pgdev.Options{Unsafe: true})
	must(t, err)
	t.Cleanup(func() { must(t, primary.Stop(context.Background())) })
	conn := connect(t, primary.URL())
	must(t, migrations.Up(t.Context(), conn))
	standby, err = primary.Standby(t.Context())
	if errors.Is(err, os.ErrNotExist) {
		t.Skip(err)
	}
	must(t, err)
	t.Cleanup(func() { must(t, standby.Stop(context.Background())) })
	return primary, standby
}

// bothHosts is a URL with two hosts, in this order.
func bothHosts(t *testing.T, first, second *pgdev.Postgres, parameters string) string {
	t.Helper()
	c, err := pgx.ParseConfig(first.URL())
	must(t, err)
	d, err := pgx.ParseConfig(second.URL())
	must(t, err)
	return strings.Replace(first.URL(), "host="+c.Host+"&port=5432", "host="+c.Host+","+d.Host+"&port=5432,5432"+parameters, 1)
}

// What was revoked a moment ago a standby may not know yet. So it is asked nothing,
// however it is come by.
func TestNothingIsReadFromAStandby(t *testing.T) {
	t.Parallel()
	primary, standby := primaryAndStandby(t)
	now := clock()
	populate(t, open(t, primary.URL()), now)
	if s, err := postgres.Open(t.Context(), standby.URL(), postgres.AsServer()); err == nil {
		s.Close()
		t.Error("a Store is opened on a standby")
	}

	// With no word of target_session_attrs, and the standby first.
	anyHost := open(t, bothHosts(t, standby, primary, ""), postgres.AsServer())
	stores := map[string]*postgres.Store{"any host": anyHost}
	if p := poolerOfAnyHost(t, primary, standby); p != "" {
		stores["a pooler"] = open(t, p)
	}
	i := issue(now)
	must(t, anyHost.RecordToken(t.Context(), i))
	for _, s := range stores { // so that a connection of the pooler's clients lives on
		_, err := s.ActiveToken(t.Context(), i.Token.Digest, edgeCaller(), now)
		must(t, err)
	}
	must(t, primary.Kill())
	for name, s := range stores {
		for range 8 { // each of the connections that there may be
			token, err := s.ActiveToken(t.Context(), i.Token.Digest, edgeCaller(), now)
			if err == nil || errors.Is(err, authz.ErrNotFound) || errors.Is(err, authz.ErrClientChanged) {
				t.Errorf("%s: introspection is answered by a standby: %v, %v", name, token, err)
			}
		}
		awaitNotReady(t, name, s)
	}

	must(t, standby.Promote(t.Context()))
	for name, s := range stores {
		eventually(t, name, func() error {
			_, err := s.ActiveToken(t.Context(), i.Token.Digest, edgeCaller(), now)
			return errors.Join(err, s.Ready(t.Context(), now))
		})
	}
	if err := anyHost.RecordToken(t.Context(), i); err == nil {
		t.Error("a token is recorded again")
	}
}

// awaitNotReady waits for a Store to say that what it has is read-only: the first
// answers may be that connections are broken.
func awaitNotReady(t *testing.T, name string, s *postgres.Store) {
	t.Helper()
	eventually(t, name+" to be known as read-only", func() error {
		err := s.Ready(t.Context(), clock())
		if errors.Is(err, authz.ErrNotPrepared) {
			return nil
		}
		return errors.Join(errors.New("what Ready says is not it"), err)
	})
}

func eventually(t *testing.T, what string, do func() error) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		err := do()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("waiting for %s: %v", what, err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// poolerOfAnyHost is the URL of a pooler that leads to both, "" where there is no
// pooler on the machine.
func poolerOfAnyHost(t *testing.T, primary, standby *pgdev.Postgres) string {
	t.Helper()
	p, err := pgdev.StartPooler(t.Context(), 3, []string{"server_login_retry = 1"}, bothHosts(t, primary, standby, ""))
	if errors.Is(err, pgdev.ErrNoPooler) && os.Getenv("AUTHZ_TEST_PGBOUNCER") == "" {
		return ""
	}
	must(t, err)
	t.Cleanup(func() { must(t, p.Stop()) })
	exec(t, connect(t, primary.URL()), `alter role authz set statement_timeout = '10s'`)
	return through(t, p, primary.URL())
}

// Two servers that both take themselves for the primary: the one that was promoted
// last is it, also to a Store that has seen neither.
func TestPrimaryThatWasSucceededIsLeftAlone(t *testing.T) {
	t.Parallel()
	primary, standby := primaryAndStandby(t)
	now := clock()
	populate(t, open(t, primary.URL()), now)
	url := bothHosts(t, primary, standby, "&target_session_attrs=read-write")
	before := open(t, url, postgres.AsServer())
	i := issue(now)
	must(t, before.RecordToken(t.Context(), i))
	must(t, primary.Kill())
	must(t, standby.Promote(t.Context()))
	eventually(t, "the standby to be the primary", func() error { return before.Ready(t.Context(), now) })
	must(t, primary.Restart(t.Context()))

	_, err := before.RevokeToken(t.Context(), i.Token.Digest, shopCaller(), event(authz.AuditTokenRevoked, now))
	must(t, err)
	after := open(t, url, postgres.AsServer())
	for name, s := range map[string]*postgres.Store{"one from before": before, "a new one": after} {
		exec(t, connect(t, standby.URL()), `select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'authz'`)
		eventually(t, name, func() error {
			_, err := s.ActiveToken(t.Context(), i.Token.Digest, edgeCaller(), now)
			if err == nil {
				t.Fatalf("%s: a token that was revoked at the new primary is active", name)
			}
			if errors.Is(err, authz.ErrNotFound) {
				return nil
			}
			return err
		})
		// The pool may have more connections that were ended.
		eventually(t, name, func() error { return s.RecordToken(t.Context(), issue(now)) })
	}
}

// A revocation that was given up on, and that the primary alone knows of, is not
// answered for the second time either: the standby may be promoted without it.
func TestRevocationIsAnsweredForWhenTheStandbyHasIt(t *testing.T) {
	t.Parallel()
	primary, standby := primaryAndStandby(t)
	now := clock()
	populate(t, open(t, primary.URL()), now)
	store := open(t, primary.URL(), postgres.AsServer())
	i := issue(now)
	must(t, store.RecordToken(t.Context(), i))
	revoke := func(within time.Duration) error {
		ctx, cancel := context.WithTimeout(t.Context(), within)
		defer cancel()
		_, err := store.RevokeToken(ctx, i.Token.Digest, shopCaller(), event(authz.AuditTokenRevoked, now))
		return err
	}
	must(t, standby.Freeze())
	defer func() { _ = standby.Thaw() }()
	admin := connect(t, primary.URL())
	eventually(t, "the primary to have it", func() error {
		if err := revoke(time.Second); err == nil {
			t.Fatal("a revocation that no standby has is answered for")
		}
		if !list[bool](t, admin, `select revoked_at is not null from authz.tokens`)[0] {
			return errors.New("it has not")
		}
		return nil
	})
	if err := revoke(time.Second); err == nil {
		t.Error("a revocation that the primary alone has is answered for")
	}
	must(t, standby.Thaw())
	eventually(t, "the standby", func() error { return revoke(10 * time.Second) })
}
