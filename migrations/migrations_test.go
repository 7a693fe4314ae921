package migrations

import (
	"context"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/cargokey/authz/internal/pgdev"
)

// The tests of this package cannot use pgtest, which imports it, and some of
// them need a Postgres in which the server's role is missing.

// A token that was there before is one that instances keep, too.
func tellOfOldTokens(t *testing.T, url string) {
	conn := connect(t, url)
	if err := upTo(t.Context(), conn, 13); err != nil {
		t.Fatal(err)
	}
	exec(t, conn, `select authz.create_partitions(clock_timestamp())`)
	exec(t, conn, `insert into authz.tokens (jti, digest, client_id, resource, scope, issued_at, expires_at, client_generation, resource_generation)
		select authz.uuidv7_floor(now()), sha256('token'), 'client', 'resource', '', now(), now() + interval '1 hour', 1, 1`)
	if err := Up(t.Context(), conn); err != nil {
		t.Fatal(err)
	}
	const revisions = `select string_agg(revision::text, ' ' order by slot) from authz.token_revisions`
	before := list(t, conn, revisions)
	for _, role := range []string{"origin", "replica"} {
		exec(t, conn, `begin`)
		exec(t, conn, `set local session_replication_role = `+role)
		exec(t, conn, `update authz.tokens set revoked_at = now()`)
		if after := list(t, conn, revisions); after[0] == before[0] {
			t.Errorf("as %s: no revision changes", role)
		}
		exec(t, conn, `rollback`)
	}
}

// cluster runs a Postgres for one test, in which there is no role but its owner.
func cluster(t *testing.T) *pgdev.Postgres {
	t.Helper()
	p, err := pgdev.Start(t.Context(), pgdev.Options{Unsafe: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Stop(context.Background()); err != nil {
			t.Errorf("stopping Postgres: %v", err)
		}
	})
	return p
}

// emptyDatabase makes a database that belongs to owner and returns its URL, as
// owner ("": the superuser).
func emptyDatabase(t *testing.T, p *pgdev.Postgres, name, owner string) string {
	t.Helper()
	admin := connect(t, p.URL())
	u, err := url.Parse(p.URL())
	if err != nil {
		t.Fatal(err)
	}
	u.Path = "/" + name
	create := "create database " + name
	if owner != "" {
		create += " owner " + owner
		u.User = url.User(owner)
	}
	exec(t, admin, create)
	return u.String()
}

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

func exec(t *testing.T, conn *pgx.Conn, sql string) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func list(t *testing.T, conn *pgx.Conn, sql string) []string {
	t.Helper()
	rows, err := conn.Query(t.Context(), sql)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	values, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return values
}

func isAt(t *testing.T, conn *pgx.Conn, version int32) {
	t.Helper()
	got, err := Read(t.Context(), conn)
	if err != nil {
		t.Fatal(err)
	}
	if want := (Status{Current: version, Known: Known()}); got != want {
		t.Errorf("the schema is at %+v, want %+v", got, want)
	}
}

// describe lists what there is in the schema.
func describe(t *testing.T, conn *pgx.Conn) []string {
	t.Helper()
	return list(t, conn, `
		select 'relation ' || relname || ' ' || relkind::text || ' ' || coalesce(relacl::text, '') from pg_class where relnamespace = 'authz'::regnamespace
		union all
		select 'column ' || attrelid::regclass || '.' || attname::text || ' ' || format_type(atttypid, atttypmod) || ' ' || attnotnull::text || ' ' || coalesce(attacl::text, '')
		from pg_attribute join pg_class c on c.oid = attrelid where c.relnamespace = 'authz'::regnamespace and attnum > 0 and c.relkind in ('r', 'p')
		union all
		select 'constraint ' || conname || ' ' || pg_get_constraintdef(oid) from pg_constraint where connamespace = 'authz'::regnamespace
		union all
		select 'function ' || pg_get_functiondef(oid) || coalesce(proacl::text, '') from pg_proc where pronamespace = 'authz'::regnamespace
		order by 1`)
}

func TestMigrations(t *testing.T) {
	t.Parallel()
	p := cluster(t)
	for name, check := range map[string]func(*testing.T, string){
		"IndexTheTrailOfToday":           indexToday,
		"TellOfChangesOfOldTokens":       tellOfOldTokens,
		"RunOneByOne":                    runOneByOne,
		"AgainChangeNothing":             againChangeNothing,
		"AtOnceAllSucceed":               atOnceAllSucceed,
		"RefuseASchemaThatIsAhead":       refuseWhatIsAhead,
		"ReadingWritesNothing":           readingWritesNothing,
		"NameConstraintsByTheirTable":    nameConstraints,
		"PinTheSearchPathOfFunctions":    pinSearchPaths,
		"GiveThePublicNothing":           givePublicNothing,
		"DependOnNoSettingOfTheDatabase": dependOnNoSetting,
		"LeaveNothingOfOneThatFails":     oneFails,
		"KeepWhatVersion5Wrote":          keepRowsOf5,
		"LeaveABuildOfVersion5Working":   serveVersion5,
		"SeeWhatABuildOfVersion5Changes": reviseFor5,
		"LetRequestsPassWhileTheyWait":   letRequestsPass,
		"SayWhatHoldsThemUp":             nameWhatIsHeld,
		"LeaveAnOlderBuildWhatItMayUse":  leaveWhatIsUsable,
		"ReviseForEachColumnOfAClient":   reviseForEachColumn,
		"LeaveTheVersionBeforeWorking":   keepRules,
		"AreHeldToRulesThatFindBreaches": breakRules,
		"SayWhichBuildsTheSchemaIsFor":   sayWhomTheyAreFor,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			check(t, emptyDatabase(t, p, strings.ToLower(name), ""))
		})
	}
}

func runOneByOne(t *testing.T, url string) {
	conn := connect(t, url)
	if Known() < 1 {
		t.Fatal("there are no migrations")
	}
	for version := range Known() {
		isAt(t, conn, version)
		if err := upTo(t.Context(), conn, version+1); err != nil {
			t.Fatalf("to version %d: %v", version+1, err)
		}
		isAt(t, conn, version+1)
	}
	if err := Up(t.Context(), conn); err != nil {
		t.Error(err)
	}
}

func againChangeNothing(t *testing.T, url string) {
	conn := connect(t, url)
	var first []string
	for range 3 {
		if err := Up(t.Context(), conn); err != nil {
			t.Fatal(err)
		}
		isAt(t, conn, Known())
		if first == nil {
			first = describe(t, conn)
		}
		if diff := cmp.Diff(first, describe(t, conn)); diff != "" {
			t.Errorf("(-first +again):\n%s", diff)
		}
	}
}

func atOnceAllSucceed(t *testing.T, url string) {
	var conns []*pgx.Conn
	for range 4 {
		conns = append(conns, connect(t, url))
	}
	start := make(chan struct{})
	var wg sync.WaitGroup
	for _, conn := range conns {
		wg.Go(func() {
			<-start
			if err := Up(t.Context(), conn); err != nil {
				t.Error(err)
			}
		})
	}
	close(start)
	wg.Wait()
	isAt(t, conns[0], Known())
}

func same(t *testing.T, before, after []string) {
	t.Helper()
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("(-before +after):\n%s", diff)
	}
}

func leaveWhatIsUsable(t *testing.T, url string) {
	conn := connect(t, url)
	if err := Up(t.Context(), conn); err != nil {
		t.Fatal(err)
	}
	exec(t, conn, `update authz.schema_version set version = version + 2`)
	exec(t, conn, `update authz.oldest_build set version = (select version - 2 from authz.schema_version)`)
	before := describe(t, conn)
	if err := Up(t.Context(), conn); err != nil {
		t.Errorf("a schema that this build may use: %v", err)
	}
	same(t, before, describe(t, conn))
	if got, err := Read(t.Context(), conn); err != nil || !got.Usable() || got.Current != Known()+2 {
		t.Errorf("%+v, %v", got, err)
	}
	exec(t, conn, `update authz.oldest_build set version = version + 1`)
	if got, err := Read(t.Context(), conn); err != nil || got.Usable() {
		t.Errorf("withdrawn: %+v, %v", got, err)
	}
	if err := Up(t.Context(), conn); err == nil || !strings.Contains(err.Error(), "newer build") {
		t.Errorf("withdrawn: %v, want it to say what to do", err)
	}
}

func refuseWhatIsAhead(t *testing.T, url string) {
	conn := connect(t, url)
	if err := Up(t.Context(), conn); err != nil {
		t.Fatal(err)
	}
	exec(t, conn, `update authz.schema_version set version = version + 1`)
	exec(t, conn, `update authz.oldest_build set version = (select version from authz.schema_version)`)
	before := describe(t, conn)
	err := Up(t.Context(), conn)
	if err == nil || !strings.Contains(err.Error(), "newer build") {
		t.Errorf("%v, want it to say what to do", err)
	}
	if got, err := Read(t.Context(), conn); err != nil || got.Current != Known()+1 {
		t.Errorf("%+v, %v", got, err)
	}
	if diff := cmp.Diff(before, describe(t, conn)); diff != "" {
		t.Errorf("(-before +after):\n%s", diff)
	}
}

func readingWritesNothing(t *testing.T, url string) {
	conn := connect(t, url)
	exec(t, conn, `set default_transaction_read_only = on`)
	isAt(t, conn, 0)
	exec(t, conn, `set default_transaction_read_only = off`)
	if got := list(t, conn, `select nspname::text from pg_namespace where nspname = 'authz'`); len(got) != 0 {
		t.Error("reading made the schema")
	}
	exec(t, conn, `create schema authz`)
	isAt(t, conn, 0)
	if err := Up(t.Context(), conn); err != nil {
		t.Fatal(err)
	}
	exec(t, conn, `set default_transaction_read_only = on`)
	isAt(t, conn, Known())
}

func nameConstraints(t *testing.T, url string) {
	conn := connect(t, url)
	if err := Up(t.Context(), conn); err != nil {
		t.Fatal(err)
	}
	names := list(t, conn, `
		select c.relname || ' ' || n.conname from pg_constraint n join pg_class c on c.oid = n.conrelid
		where n.connamespace = 'authz'::regnamespace and n.contype <> 'n'`)
	if len(names) < 10 {
		t.Fatalf("only %d constraints", len(names))
	}
	byDigits := regexp.MustCompile(`\d$`)
	for _, line := range names {
		table, name, _ := strings.Cut(line, " ")
		if !strings.HasPrefix(name, table+"_") || byDigits.MatchString(name) {
			t.Errorf("%s has a constraint %s", table, name)
		}
	}
	for _, line := range list(t, conn, `
		select c.relname || ' ' || i.relname from pg_index x join pg_class c on c.oid = x.indrelid join pg_class i on i.oid = x.indexrelid
		where c.relnamespace = 'authz'::regnamespace`) {
		if table, name, _ := strings.Cut(line, " "); !strings.HasPrefix(name, table+"_") {
			t.Errorf("%s has an index %s", table, name)
		}
	}
}

// What an instance keeps of a gateway is read anew after a change of any of its
// columns.
func reviseForEachColumn(t *testing.T, url string) {
	conn := connect(t, url)
	if err := Up(t.Context(), conn); err != nil {
		t.Fatal(err)
	}
	left := list(t, conn, `
		select a.attname::text from pg_attribute a
		where a.attrelid = 'authz.clients'::regclass and a.attnum > 0 and not a.attisdropped and a.attnum <> all (
		  select unnest(tgattr) from pg_trigger where tgrelid = 'authz.clients'::regclass and tgname = 'clients_updated_gateway_revision')`)
	if diff := cmp.Diff([]string{"revision"}, left); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func pinSearchPaths(t *testing.T, url string) {
	conn := connect(t, url)
	if err := Up(t.Context(), conn); err != nil {
		t.Fatal(err)
	}
	functions := list(t, conn, `
		select proname || ' ' || coalesce(array_to_string(proconfig, '; '), '') from pg_proc where pronamespace = 'authz'::regnamespace`)
	if len(functions) == 0 {
		t.Fatal("there are no functions")
	}
	for _, f := range functions {
		if !strings.Contains(f, "search_path=pg_catalog, pg_temp") {
			t.Errorf("%s: its search path is the caller's", f)
		}
	}
}

func givePublicNothing(t *testing.T, url string) {
	conn := connect(t, url)
	if err := Up(t.Context(), conn); err != nil {
		t.Fatal(err)
	}
	exec(t, conn, `create role passer_by nologin`)
	if got := list(t, conn, `
		select 'schema' from pg_namespace where nspname = 'authz'
		  and (has_schema_privilege('passer_by', oid, 'usage') or has_schema_privilege('passer_by', oid, 'create'))
		union all
		select proname::text from pg_proc
		where pronamespace = 'authz'::regnamespace and has_function_privilege('passer_by', oid, 'execute')
		union all
		select relname::text from pg_class
		where relnamespace = 'authz'::regnamespace and relkind in ('r', 'p')
		  and (has_table_privilege('passer_by', oid, 'select, insert, update, delete, truncate, references, trigger')
		    or has_any_column_privilege('passer_by', oid, 'select, insert, update, references'))
		union all
		select seqrelid::regclass::text from pg_sequence where has_sequence_privilege('passer_by', seqrelid, 'usage, select, update')`); len(got) != 0 {
		t.Errorf("everybody may use %v", got)
	}
}

func dependOnNoSetting(t *testing.T, url string) {
	conn := connect(t, url)
	exec(t, conn, `do $$ begin
		execute format('alter database %I set search_path = nowhere', current_database());
		execute format('alter database %I set timezone = ''Asia/Kathmandu''', current_database());
		execute format('alter database %I set datestyle = ''SQL, DMY''', current_database());
		execute format('alter database %I set default_transaction_isolation = serializable', current_database());
	end $$`)
	odd := connect(t, url)
	if err := Up(t.Context(), odd); err != nil {
		t.Fatal(err)
	}
	exec(t, odd, `select authz.create_partitions(now())`)
	if got := list(t, odd, `select authz.has_partitions(now())::text`); got[0] != "true" {
		t.Error("there are no partitions for now")
	}
}

func oneFails(t *testing.T, url string) {
	const before0004 = 3
	conn := connect(t, url)
	if err := upTo(t.Context(), conn, before0004); err != nil {
		t.Fatal(err)
	}
	before := describe(t, conn)
	// The name of something that the next migration makes is taken.
	exec(t, conn, `create function authz.has_partitions(timestamptz) returns boolean language sql as 'select true'`)
	if err := Up(t.Context(), conn); err == nil {
		t.Fatal("it succeeded")
	}
	exec(t, conn, `drop function authz.has_partitions`)
	isAt(t, conn, before0004)
	if diff := cmp.Diff(before, describe(t, conn)); diff != "" {
		t.Errorf("(-before +after):\n%s", diff)
	}
	if err := Up(t.Context(), conn); err != nil {
		t.Error(err)
	}
}

// Roles belong to the whole Postgres, so these have one of their own each time
// that the server's role has to be missing.
func TestOwnerThatIsNotSuperuser(t *testing.T) {
	t.Parallel()
	p := cluster(t)
	admin := connect(t, p.URL())
	exec(t, admin, `create role plain_owner login`)
	exec(t, admin, `create role role_maker login createrole`)

	plain := connect(t, emptyDatabase(t, p, "plain", "plain_owner"))
	err := Up(t.Context(), plain)
	if err == nil || !strings.Contains(err.Error(), "create role authz_server nologin") {
		t.Errorf("an owner that may not make the missing role: %v, want it to say how to", err)
	}
	isAt(t, plain, 0)

	maker := connect(t, emptyDatabase(t, p, "maker", "role_maker"))
	if err := Up(t.Context(), maker); err != nil {
		t.Errorf("an owner that may make roles: %v", err)
	}
	isAt(t, maker, Known())

	// Now the role is there.
	if err := Up(t.Context(), plain); err != nil {
		t.Errorf("an owner that need not make the role: %v", err)
	}
	isAt(t, plain, Known())

	// An owner of the schema only, for whom it was made.
	exec(t, admin, `create role schema_owner login`)
	url := emptyDatabase(t, p, "made", "")
	exec(t, connect(t, url), `create schema authz authorization schema_owner`)
	url = strings.Replace(url, "authz@", "schema_owner@", 1)
	owner := connect(t, url)
	if err := Up(t.Context(), owner); err != nil {
		t.Errorf("an owner of the schema only: %v", err)
	}
	// It keeps partitions without being superuser.
	exec(t, owner, `select authz.create_partitions(now())`)
	exec(t, owner, `select authz.ensure_partitions(now() - interval '1 day', now() - interval '1 day')`)
	if got := list(t, owner, `select authz.drop_old_partition('tokens', now())::text`); got[0] != "true" {
		t.Error("it dropped nothing")
	}
	if want := fmt.Sprint(Known()); list(t, owner, `select version::text from authz.schema_version`)[0] != want {
		t.Errorf("not at version %s", want)
	}
}

// Whoever follows the trail would read all of today's events again and again.
func indexToday(t *testing.T, url string) {
	conn := connect(t, url)
	if err := upTo(t.Context(), conn, 11); err != nil {
		t.Fatal(err)
	}
	exec(t, conn, `select authz.create_partitions(clock_timestamp())`)
	exec(t, conn, `select authz.ensure_partition('audit_events', date_trunc('day', now(), 'UTC') - interval '5 days', date_trunc('day', now(), 'UTC') - interval '4 days')`)
	exec(t, conn, `insert into authz.audit_events (id, at, kind, actor) values (gen_random_uuid(), now(), 'test.test', 'server')`)
	for range 2 {
		if err := Up(t.Context(), conn); err != nil {
			t.Fatal(err)
		}
	}
	without := list(t, conn, `
		select to_char((now() at time zone 'UTC')::date - to_date(right(c.relname, 11), 'YYYYMMDD'), 'FM9')
		from pg_inherits i join pg_class c on c.oid = i.inhrelid
		where i.inhparent = 'authz.audit_events'::regclass and not exists (select from pg_index x where x.indrelid = c.oid and x.indisvalid)`)
	if len(without) == 0 || len(without) > 2 || !strings.Contains(strings.Join(without, " "), "5") {
		t.Errorf("not indexed are the partitions of so many days ago: %q", without)
	}
	// One that was begun when it was killed is of no use, and is made anew.
	exec(t, conn, `update pg_index set indisvalid = false where indexrelid in (select inhrelid from pg_inherits where inhparent = 'authz.audit_events_recorded_in_idx'::regclass)
		or pg_get_indexdef(indexrelid) like '%audit_events_2%(recorded_in)'`)
	if err := Up(t.Context(), conn); err != nil {
		t.Fatal(err)
	}
	if n := list(t, conn, `select count(*)::text from pg_index where not indisvalid and pg_get_indexdef(indexrelid) like '%audit_events_2%'`)[0]; n != "0" {
		t.Errorf("%s indexes are good for nothing", n)
	}
}
