package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cargokey/authz/authz"
	"github.com/cargokey/authz/internal/pgdev/pgtest"
	"github.com/cargokey/authz/storage/postgres"
)

// partitions lists those of all families, by name.
func partitions(t testing.TB, admin *pgx.Conn) []string {
	t.Helper()
	return list[string](t, admin, `
		select c.relname::text from pg_inherits i join pg_class c on c.oid = i.inhrelid
		where c.relkind = 'r' and c.relnamespace = 'authz'::regnamespace order by 1`)
}

// partitionOf is the name of the partition of a moment.
func partitionOf(family string, at time.Time) string {
	if strings.HasPrefix(family, "audit_") {
		at = at.UTC().Truncate(24 * time.Hour)
	}
	return family + at.UTC().Format("_20060102_15")
}

func makePartition(t testing.TB, admin *pgx.Conn, family string, at time.Time) {
	t.Helper()
	width := time.Hour
	if strings.HasPrefix(family, "audit_") {
		width = 24 * time.Hour
	}
	from := at.UTC().Truncate(width)
	exec(t, admin, `select authz.ensure_partition($1, $2, $3)`, family, from, from.Add(width))
}

func TestPartitionsReachFromTheHourBeforeToTheHoursAhead(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	admin := connect(t, db.OwnerURL)
	store := open(t, db.ServerURL, postgres.AsServer())
	// A time zone of the database or of a session changes nothing.
	exec(t, admin, `do $$ begin execute format('alter database %I set timezone = ''Asia/Kathmandu''', current_database());
		execute format('alter database %I set datestyle = ''SQL, DMY''', current_database()); end $$`)
	odd := open(t, db.ServerURL, postgres.AsServer())
	now := clock()
	var want []string
	for h := -1; h <= 6; h++ {
		for _, family := range []string{"spent_proofs", "tokens"} {
			want = append(want, partitionOf(family, now.Add(time.Duration(h)*time.Hour)))
		}
	}
	for d := -1; d <= 2; d++ {
		for _, family := range []string{"audit_events", "audit_seals"} {
			want = append(want, partitionOf(family, now.AddDate(0, 0, d)))
		}
	}
	slices.Sort(want)
	for _, s := range []*postgres.Store{odd, store} {
		must(t, s.Maintain(t.Context(), now))
		same(t, want, partitions(t, admin))
		must(t, s.Ready(t.Context(), now))
	}
}

func TestTokensOnBothSidesOfAnHourAreFound(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	admin := connect(t, db.OwnerURL)
	store := open(t, db.OwnerURL)
	hour := clock().UTC().Truncate(time.Hour)
	populate(t, store, hour)
	for at, in := range map[time.Time]time.Time{
		hour.Add(-time.Microsecond): hour.Add(-time.Hour), hour: hour, hour.Add(time.Microsecond): hour,
		hour.Add(-time.Hour): hour.Add(-time.Hour), hour.Add(time.Hour - time.Microsecond): hour, hour.Add(time.Hour): hour.Add(time.Hour),
	} {
		i := issue(at)
		i.Proof.IssuedAt = at
		must(t, store.RecordToken(t.Context(), i))
		for _, now := range []time.Time{at, i.Token.ExpiresAt.Add(-time.Microsecond)} {
			if _, err := store.ActiveToken(t.Context(), i.Token.Digest, edgeCaller(), now); err != nil {
				t.Errorf("issued at %s, looked for at %s: %v", at, now, err)
			}
		}
		where := list[string](t, admin, partitionSQL("tokens", "jti"), [16]byte(i.Token.JTI))
		same(t, []string{partitionOf("tokens", in)}, where)
		where = list[string](t, admin, partitionSQL("spent_proofs", "digest"), i.Proof.Digest[:])
		same(t, []string{partitionOf("spent_proofs", in)}, where)
	}
	if _, err := store.RevokeTokenByJTI(t.Context(), authz.JTIFloor(hour), event(authz.AuditTokenRevoked, hour)); err != authz.ErrNotFound {
		t.Errorf("the least name of an hour: %v", err)
	}
}

func partitionSQL(family, column string) string {
	return `select c.relname::text from authz.` + family + ` r join pg_class c on c.oid = r.tableoid where r.` + column + ` = $1`
}

func TestOldPartitionsAreDroppedOnceTheyAreOfNoUse(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	admin := connect(t, db.OwnerURL)
	store := open(t, db.ServerURL, postgres.AsServer())
	now := clock()
	hour, day := now.UTC().Truncate(time.Hour), now.UTC().Truncate(24*time.Hour)
	must(t, store.Maintain(t.Context(), now))
	keep := partitions(t, admin)
	for _, family := range []string{"tokens", "spent_proofs"} {
		for h := 2; h <= 8; h++ {
			at := hour.Add(-time.Duration(h) * time.Hour)
			makePartition(t, admin, family, at)
			if h <= 2 { // two hours after its end are not over
				keep = append(keep, partitionOf(family, at))
			}
		}
	}
	for d := 2; d <= 95; d++ {
		at := day.AddDate(0, 0, -d)
		makePartition(t, admin, "audit_events", at)
		if d <= 90 {
			keep = append(keep, partitionOf("audit_events", at))
		}
	}
	slices.Sort(keep)
	all := partitions(t, admin)
	// A clock that is behind drops less.
	must(t, store.Maintain(t.Context(), now.AddDate(-1, 0, 0)))
	for _, name := range all {
		if !slices.Contains(partitions(t, admin), name) {
			t.Errorf("a clock a year behind dropped %s", name)
		}
	}
	must(t, store.Maintain(t.Context(), now))
	same(t, keep, partitions(t, admin))
}

// A proof whose partition is gone would be accepted again.
func TestClockFarAheadDropsNothing(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	admin := connect(t, db.OwnerURL)
	owner := open(t, db.OwnerURL)
	store := open(t, db.ServerURL, postgres.AsServer())
	now := clock()
	populate(t, owner, now)
	i := issue(now)
	must(t, store.RecordToken(t.Context(), i))
	before := partitions(t, admin)
	for _, ahead := range []time.Duration{time.Hour, 24 * time.Hour, 365 * 24 * time.Hour} {
		// Beyond two days it is told that it is wrong, and makes nothing either.
		if err := store.Maintain(t.Context(), now.Add(ahead)); (err != nil) != (ahead > 48*time.Hour) {
			t.Errorf("a clock %s ahead: %v", ahead, err)
		}
		after := partitions(t, admin)
		for _, name := range before {
			if !slices.Contains(after, name) {
				t.Errorf("a clock %s ahead dropped %s", ahead, name)
			}
		}
	}
	again := issue(now)
	again.Proof = i.Proof
	if err := store.RecordToken(t.Context(), again); err != authz.ErrProofSpent {
		t.Errorf("the proof, again: %v", err)
	}
}

// A partition that was dropped and is made again has forgotten what was spent.
func TestClockFarBehindMakesNoPartitionAnew(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	admin := connect(t, db.OwnerURL)
	populate(t, open(t, db.OwnerURL), clock())
	store := open(t, db.ServerURL, postgres.AsServer())
	now := clock()
	for _, behind := range []time.Duration{5 * time.Hour, 24 * time.Hour, 365 * 24 * time.Hour} {
		past := now.Add(-behind)
		must(t, store.Maintain(t.Context(), past))
		for _, family := range []string{"tokens", "spent_proofs"} {
			if slices.Contains(partitions(t, admin), partitionOf(family, past)) {
				t.Errorf("a clock %s behind has made %s", behind, partitionOf(family, past))
			}
		}
		if err := store.Ready(t.Context(), past); err == nil {
			t.Errorf("ready with a clock %s behind", behind)
		}
		if err := store.RecordToken(t.Context(), issue(past)); err == nil || errors.Is(err, authz.ErrProofSpent) {
			t.Errorf("a token %s behind: %v", behind, err)
		}
	}
}

func TestOwnerMakesPartitionsOfThePastAndAPresentClockDropsThem(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	admin := connect(t, db.OwnerURL)
	store := open(t, db.ServerURL, postgres.AsServer())
	now := clock()
	past := now.AddDate(0, -6, 0)
	exec(t, admin, `select authz.ensure_partitions($1, $1)`, past)
	must(t, store.Ready(t.Context(), past))
	if err := store.Ready(t.Context(), now); err == nil {
		t.Error("ready for now, by partitions of the past")
	}
	must(t, store.Maintain(t.Context(), now))
	for _, name := range partitions(t, admin) {
		if strings.Contains(name, past.UTC().Format("_200601")) {
			t.Errorf("%s is still there", name)
		}
	}
	must(t, store.Ready(t.Context(), now))
}

func TestNoPartitionIsMadeAroundNoMoment(t *testing.T) {
	t.Parallel()
	admin := connect(t, pgtest.New(t).OwnerURL)
	exec(t, admin, `set statement_timeout = '5s'`)
	for _, at := range []string{"infinity", "-infinity", "2126-01-01"} {
		if _, err := admin.Exec(t.Context(), `select authz.create_partitions($1::timestamptz)`, at); sqlState(err) != "22023" {
			t.Errorf("%s: %v", at, err)
		}
	}
	same(t, []*int{nil}, list[*int](t, admin, `select authz.create_partitions(null)`))
	if names := partitions(t, admin); len(names) != 0 {
		t.Errorf("made %v", names)
	}
}

func TestDropDoesNotWaitForAReader(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	admin := connect(t, db.OwnerURL)
	store := open(t, db.ServerURL, postgres.AsServer())
	now := clock()
	must(t, store.Maintain(t.Context(), now))
	want := partitions(t, admin)
	for _, reads := range []string{"the family", "the partition"} {
		for h := 5; h < 15; h++ { // each of which could wait
			makePartition(t, admin, "tokens", now.Add(-time.Duration(h)*time.Hour))
		}
		makePartition(t, admin, "spent_proofs", now.Add(-5*time.Hour))
		reader := connect(t, db.OwnerURL)
		exec(t, reader, `begin`)
		table := "tokens"
		if reads == "the partition" {
			table = partitionOf("tokens", now.Add(-14*time.Hour))
		}
		exec(t, reader, `select from authz.`+table+` limit 1`)
		begun := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		must(t, store.Maintain(ctx, now))
		if took := time.Since(begun); took > 2*time.Second {
			t.Errorf("a reader of %s: the upkeep took %s", reads, took)
		}
		left := partitions(t, admin)
		if !slices.Contains(left, partitionOf("tokens", now.Add(-14*time.Hour))) {
			t.Errorf("a reader of %s: the partition was dropped under it", reads)
		}
		if slices.Contains(left, partitionOf("spent_proofs", now.Add(-5*time.Hour))) {
			t.Errorf("a reader of %s keeps other families from being dropped", reads)
		}
		exec(t, reader, `commit`)
		must(t, store.Maintain(t.Context(), now))
		same(t, want, partitions(t, admin))
	}
}

func TestUpkeepAndRequestsDoNotWaitForEachOther(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	admin := connect(t, db.OwnerURL)
	now := clock()
	populate(t, open(t, db.OwnerURL), now)
	store := open(t, db.ServerURL, postgres.AsServer())

	// Requests that have written and not yet committed.
	request := connect(t, db.OwnerURL)
	exec(t, request, `begin`)
	exec(t, request, `insert into authz.spent_proofs (digest, iat) values (sha256('a'), $1)`, now)
	exec(t, request, `update authz.tokens set revoked_at = $1`, now)
	exec(t, request, `insert into authz.audit_events (id, at, kind, actor) values (gen_random_uuid(), $1, 'test.test', 'server')`, now)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := store.Maintain(ctx, now.AddDate(0, 0, 1)); err != nil {
		t.Errorf("upkeep beside a request: %v", err)
	}
	exec(t, request, `commit`)

	// Partitions that are made and not yet committed.
	exec(t, admin, `begin`)
	exec(t, admin, `select authz.create_partitions($1)`, now.Add(36*time.Hour))
	if err := store.RecordToken(ctx, issue(now)); err != nil {
		t.Errorf("a request beside upkeep: %v", err)
	}
	exec(t, admin, `commit`)
}

func TestLookUpsTouchThePartitionsOfTheirTimeOnly(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	admin := connect(t, db.OwnerURL)
	store := open(t, db.OwnerURL)
	hour := clock().UTC().Truncate(time.Hour)
	now := hour.Add(30 * time.Minute)
	populate(t, store, now)
	must(t, store.Maintain(t.Context(), now.Add(12*time.Hour)))
	i := issue(now)
	must(t, store.RecordToken(t.Context(), i))

	span := func(family string, from, to int) (names []string) {
		for h := from; h <= to; h++ {
			names = append(names, partitionOf(family, hour.Add(time.Duration(h)*time.Hour)))
		}
		return names
	}
	for _, look := range []struct {
		name, sql string
		args      []any
		want      []string
	}{
		// A token lives an hour at most, and clocks differ by minutes.
		{"ActiveToken", postgres.ActiveTokenSQL, postgres.ActiveTokenArgs(i.Token.Digest, edgeCaller(), now), span("tokens", -1, 0)},
		{"RevokeToken", postgres.RevokeTokenSQL, postgres.RevokeTokenArgs(i.Token.Digest, authz.Caller{}, event(authz.AuditTokenRevoked, now)), span("tokens", -1, 0)},
		{"Tokens", postgres.TokensSQL, postgres.TokensArgs(shop, now, 10), span("tokens", -1, 0)},
		{"RecordToken alone", postgres.RecordAloneSQL, postgres.RecordAloneArgs(issue(now)), span("spent_proofs", 0, 0)},
		{"RecordToken alone at the turn of an hour", postgres.RecordAloneSQL, postgres.RecordAloneArgs(issue(hour)), span("spent_proofs", -1, 0)},
		{"RecordToken", postgres.RecordTokenSQL, postgres.RecordTokenArgs(issue(now)), nil},
		{"RecordToken at the turn of an hour", postgres.RecordTokenSQL, postgres.RecordTokenArgs(issue(hour)), span("spent_proofs", -1, 0)},
		// Within an hour the unique index of its partition is enough.
		{"AdmitCall", postgres.AdmitCallSQL, postgres.AdmitCallArgs(goodCallAt(t, store, i.Token, now), now), span("tokens", -1, 0)},
		{"AdmitCall at the turn of an hour", postgres.AdmitCallSQL, postgres.AdmitCallArgs(goodCallAt(t, store, i.Token, hour), now),
			append(span("spent_proofs", -1, 0), span("tokens", -1, 0)...)},
	} {
		plan := explain(t, admin, look.sql, look.args)
		touched := scanned.FindAllStringSubmatch(plan, -1)
		var got []string
		for _, m := range touched {
			if !strings.Contains(m[0], "never executed") {
				got = append(got, m[1])
			}
		}
		slices.Sort(got)
		if got = slices.Compact(got); !slices.Equal(got, look.want) {
			t.Errorf("%s touches %v, want %v\n%s", look.name, got, look.want, plan)
		}
	}
}

// scanned are the partitions in a plan that are read.
var scanned = regexp.MustCompile(`(?m)(?:Scan|Scan using \S+|Scan Backward using \S+) on (?:authz\.)?((?:tokens|spent_proofs)_\d{8}_\d\d).*$`)

// explain runs a statement by the plan that Postgres keeps for it whatever its
// parameters, takes back what it wrote, and returns the plan as it was run.
func explain(t *testing.T, admin *pgx.Conn, sql string, args []any) string {
	t.Helper()
	exec(t, admin, postgres.SessionSQL)
	exec(t, admin, `begin`)
	defer exec(t, admin, `rollback`)
	exec(t, admin, `prepare look as `+sql)
	defer exec(t, admin, `deallocate look`)
	// EXECUTE takes no parameters of the protocol's, so they become literals.
	literals := []any{pgx.QueryExecModeSimpleProtocol}
	var places []string
	for i, arg := range args {
		places = append(places, fmt.Sprintf("$%d", i+1))
		switch value := arg.(type) {
		case [16]byte:
			arg = authz.JTI(value).String()
		case [][16]byte:
			var ids []string
			for _, id := range value {
				ids = append(ids, authz.JTI(id).String())
			}
			arg = ids
		}
		literals = append(literals, arg)
	}
	return strings.Join(list[string](t, admin,
		`explain (analyze, costs off, timing off) execute look(`+strings.Join(places, ", ")+`)`, literals...), "\n")
}

// The program knows how much time a partition of spent proofs is for, and the
// database decides it.
func TestProofPartitionIsAsWideAsTheDatabasesOwn(t *testing.T) {
	t.Parallel()
	admin := connect(t, pgtest.New(t).OwnerURL)
	var width time.Duration
	err := admin.QueryRow(t.Context(), `select width from authz.partition_families() where family = 'spent_proofs'`).Scan(&width)
	if err != nil || width != postgres.ProofPartition {
		t.Errorf("%s, want %s: %v", width, postgres.ProofPartition, err)
	}
}
