package postgres_test

import (
	"testing"

	"github.com/cargokey/authz/authz"
	"github.com/cargokey/authz/internal/pgdev/pgtest"
	"github.com/cargokey/authz/storage/postgres"
)

// Who writes events again that may have been written finds them twice.
func TestEventsWhoseRecordingFailedAreThereWholeOrNotAtAll(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	admin := connect(t, db.OwnerURL)
	populate(t, open(t, db.OwnerURL), clock())
	store, w := openWired(t, db.ServerURL, postgres.AsServer())
	begin := func(int) func() error {
		e := []authz.AuditEvent{event(authz.AuditTokenIntrospected, clock()), event(authz.AuditTokenIntrospected, clock())}
		return func() error { return store.RecordEvents(t.Context(), e) }
	}
	tryFaults(t, faulty{begin: begin, adds: rows{"audit_events": 2}, addsAgain: rows{"audit_events": 2}}, w, admin)
	if n := w.count(t, begin(0)); n != 1 {
		t.Errorf("%d round trips", n)
	}
}
