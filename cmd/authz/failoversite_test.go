package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/cargokey/authz/internal/pgdev"
)

// startBesides starts what there is of a faultSite's database besides its Postgres.
func (s *faultSite) startBesides(o faultOptions) {
	s.t.Helper()
	u, err := url.Parse(s.pg.URL())
	if err != nil {
		s.t.Fatal(err)
	}
	if password, ok := u.User.Password(); ok {
		s.exec("alter role " + serverLogin + " password '" + password + "'")
	}
	if o.standby {
		if s.standby, err = s.pg.Standby(s.t.Context()); errors.Is(err, os.ErrNotExist) {
			s.t.Skip(err)
		}
		s.endWithTest(err, func() error { return s.standby.Stop(context.Background()) })
	}
	if o.pooler > 0 {
		for _, setting := range []string{"default_transaction_isolation = 'read committed'", "synchronous_commit = on", "statement_timeout = '10s'"} {
			s.exec("alter role " + serverLogin + " in database authz set " + setting)
		}
		s.pooler, err = pgdev.StartPooler(s.t.Context(), o.pooler, nil, s.pg.URL(), as(s.t, s.pg.URL(), serverLogin))
		if errors.Is(err, pgdev.ErrNoPooler) && os.Getenv("AUTHZ_TEST_PGBOUNCER") == "" {
			s.t.Skip(err)
		}
		s.endWithTest(err, func() error { return s.pooler.Stop() })
	}
}

func (s *faultSite) endWithTest(err error, stop func() error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		if err := stop(); err != nil {
			s.t.Error(err)
		}
	})
}

// as is a database's URL for another user, with the same password if there is one.
func as(t *testing.T, databaseURL, user string) string {
	t.Helper()
	u, err := url.Parse(databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	if password, ok := u.User.Password(); ok {
		u.User = url.UserPassword(user, password)
	} else {
		u.User = url.User(user)
	}
	return u.String()
}

// serverURL is what the servers connect to.
func (s *faultSite) serverURL() string {
	s.t.Helper()
	login := as(s.t, s.pg.URL(), serverLogin)
	switch {
	case s.pooler != nil:
		pooled, err := s.pooler.URL(login)
		if err != nil {
			s.t.Fatal(err)
		}
		return pooled
	case s.standby != nil:
		return s.hosts(serverLogin, s.pg, s.standby)
	}
	return login
}

// ownerURL is the owner's, at whichever server is the primary. Once the standby is,
// the other one may not even say that it is not.
func (s *faultSite) ownerURL() string {
	if s.standby == nil {
		return s.pg.URL()
	}
	return s.hosts("authz", s.standby, s.pg)
}

// hosts is the URL that docs/operations.md tells to use where there are two.
func (s *faultSite) hosts(user string, first, second *pgdev.Postgres) string {
	s.t.Helper()
	var sockets []string
	for _, p := range []*pgdev.Postgres{first, second} {
		c, err := pgx.ParseConfig(p.URL())
		if err != nil {
			s.t.Fatal(err)
		}
		sockets = append(sockets, c.Host)
	}
	return fmt.Sprintf("postgres://%s@/authz?host=%s,%s&port=5432,5432&target_session_attrs=read-write", user, sockets[0], sockets[1])
}
