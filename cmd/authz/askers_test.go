package main

import (
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
)

// A server that is asked to stop has on record, when it has, who asked it about
// tokens, up to the last request.
func TestServerThatStopsHasRecordedWhoAsked(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	one := s.start(t)
	token, _, jkt := s.token(t, one)
	for range 3 {
		if !s.isActive(t, one, token, jkt) {
			t.Error("the token is not active")
		}
	}
	if code, err := one.end(syscall.SIGTERM); err != nil || code != 0 {
		t.Fatalf("stopped, it ends with %d, %v: %s", code, err, &one.errOut)
	}
	conn, err := pgx.Connect(t.Context(), s.databaseURL(t))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	var n int
	if err := conn.QueryRow(t.Context(), `
		select coalesce(sum((detail->>'active')::int), 0)::int from authz.audit_events
		where kind = 'token.introspected' and actor = 'client:gateway' and resource = $1`, testResource).Scan(&n); err != nil {
		t.Fatal(err)
	}
	if n != 3 {
		t.Errorf("%d of 3 questions are on record", n)
	}
}

func (s *site) databaseURL(t *testing.T) string {
	t.Helper()
	for _, variable := range s.env {
		if url, ok := strings.CutPrefix(variable, "AUTHZ_DATABASE_URL="); ok {
			return url
		}
	}
	t.Fatal("no AUTHZ_DATABASE_URL")
	return ""
}
