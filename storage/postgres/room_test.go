package postgres_test

import (
	"errors"
	"testing"
	"time"

	"github.com/cargokey/authz/authz"
	"github.com/cargokey/authz/internal/pgdev/pgtest"
	"github.com/cargokey/authz/storage/postgres"
)

// What no table has room for, Postgres refuses by this code, wherever it comes from.
const noRoomSQL = `
create function public.no_room() returns trigger language plpgsql as $$
begin raise exception 'could not extend file' using errcode = 'disk_full'; end $$;
grant execute on function public.no_room to public`

func TestReadyTellsOfADiskThatIsFull(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	now := clock()
	populate(t, open(t, db.OwnerURL), now)
	admin := connect(t, db.OwnerURL)
	exec(t, admin, noRoomSQL)
	for name, write := range map[string]func(*postgres.Store, authz.Call) error{
		"a token": func(s *postgres.Store, _ authz.Call) error { return s.RecordToken(t.Context(), issue(now)) },
		"a call":  func(s *postgres.Store, c authz.Call) error { _, err := s.AdmitCall(t.Context(), c, now); return err },
	} {
		store := open(t, db.ServerURL, postgres.AsServer())
		known := issue(now)
		must(t, store.RecordToken(t.Context(), known))
		call := goodCall(t, store, known.Token)
		must(t, store.Ready(t.Context(), now))
		exec(t, admin, `create trigger no_room before insert on authz.spent_proofs for each row execute function public.no_room()`)
		if err := write(store, call); sqlState(err) != "53100" {
			t.Errorf("%s without room: %v", name, err)
		}
		if err := store.Ready(t.Context(), now.Add(9*time.Second)); !errors.Is(err, authz.ErrNotPrepared) {
			t.Errorf("%s found no room: ready all the same: %v", name, err)
		}
		// To whom nothing is sent, nothing tells that there is room again.
		must(t, store.Ready(t.Context(), now.Add(11*time.Second)))
		if err := write(store, call); err == nil {
			t.Errorf("%s was written without room", name)
		}
		exec(t, admin, `drop trigger no_room on authz.spent_proofs`)
		must(t, write(store, call))
		must(t, store.Ready(t.Context(), now))
	}
}
