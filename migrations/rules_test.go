package migrations

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

// firstUnderRules is the first migration that servers of the version before are
// meant to run through.
const firstUnderRules = 9

// A rule looks at the catalogue before and after a migration. What its statement
// lists may be added to, and what it lists must stay (kept), or never appear (no).
var rules = map[string]struct{ kept, no string }{
	"takes nothing away and renames nothing": {kept: `
		select c.relkind::text || ' ' || c.relname from pg_class c where c.relnamespace = 'authz'::regnamespace
		union all
		select 'column ' || attrelid::regclass || '.' || attname || ' ' || format_type(atttypid, atttypmod)
		from pg_attribute join pg_class c on c.oid = attrelid
		where c.relnamespace = 'authz'::regnamespace and attnum > 0 and not attisdropped and c.relkind in ('r', 'p')
		union all
		select 'function ' || p.oid::regprocedure || ' ' || pg_get_function_result(p.oid)
		from pg_proc p where p.pronamespace = 'authz'::regnamespace`},
	"leaves the server's role what it may": {kept: `
		select 'table ' || table_name || ' ' || privilege_type from information_schema.role_table_grants where grantee = 'authz_server'
		union all
		select 'column ' || table_name || '.' || column_name || ' ' || privilege_type
		from information_schema.role_column_grants where grantee = 'authz_server'
		union all
		select 'function ' || p.oid::regprocedure from pg_proc p
		where p.pronamespace = 'authz'::regnamespace and has_function_privilege('authz_server', p.oid, 'execute')`},
	"makes no column not null": {kept: `
		select attrelid::regclass || '.' || attname from pg_attribute join pg_class c on c.oid = attrelid
		where c.relnamespace = 'authz'::regnamespace and attnum > 0 and c.relkind in ('r', 'p') and not attnotnull`},
	"takes no default away": {kept: `
		select attrelid::regclass || '.' || attname from pg_attribute join pg_class c on c.oid = attrelid
		where c.relnamespace = 'authz'::regnamespace and attnum > 0 and (atthasdef or attidentity <> '')`},
	"writes no table anew": {kept: `
		select c.relname || ' ' || c.relfilenode from pg_class c
		where c.relnamespace = 'authz'::regnamespace and c.relkind in ('r', 'i')`},
	"adds nothing that a row must say to a table that is there": {no: `
		select attrelid::regclass || '.' || attname from pg_attribute join pg_class c on c.oid = attrelid
		where c.oid in (select oid from was_there) and attnum > 0 and attnotnull and not atthasdef and attidentity = ''`},
	"validates nothing on what grows": {no: `
		select conrelid::regclass || ' ' || conname from pg_constraint where convalidated and conrelid in (select oid from grows)`},
	"makes no index on what grows": {no: `
		select indrelid::regclass || ' ' || indexrelid::regclass from pg_index join pg_class c on c.oid = indexrelid
		where indrelid in (select oid from grows) and c.relkind <> 'I'`}, // that of a parent alone holds nothing
}

// judge runs a migration, and tells which rules it breaks.
func judge(t *testing.T, conn *pgx.Conn, migrate func()) []string {
	t.Helper()
	exec(t, conn, `create temporary table was_there as
		select oid from pg_class where relnamespace = 'authz'::regnamespace and relkind in ('r', 'p')`)
	exec(t, conn, `create temporary table grows as
		select relid::oid as oid from unnest('{authz.tokens, authz.spent_proofs, authz.audit_events}'::regclass[]) f, pg_partition_tree(f)`)
	look := func() map[string][]string {
		found := map[string][]string{}
		for name, rule := range rules {
			found[name] = list(t, conn, rule.kept+rule.no)
		}
		return found
	}
	before := look()
	migrate()
	var broken []string
	for name, after := range look() {
		from, to := before[name], after
		if rules[name].no != "" {
			from, to = to, from
		}
		for _, line := range from {
			if !slices.Contains(to, line) {
				broken = append(broken, name+": "+line)
			}
		}
	}
	exec(t, conn, `drop table was_there, grows`)
	return broken
}

// What a build of the version before uses is as it was, and nothing that is done to
// it takes long.
func keepRules(t *testing.T, url string) {
	conn := connect(t, url)
	if err := upTo(t.Context(), conn, firstUnderRules-1); err != nil {
		t.Fatal(err)
	}
	workLike5(t, conn)
	for n := int32(firstUnderRules); n <= Known(); n++ {
		for _, broken := range judge(t, conn, func() {
			if err := upTo(t.Context(), conn, n); err != nil {
				t.Fatal(err)
			}
		}) {
			t.Errorf("migration %d: %s", n, broken)
		}
	}
}

// Rules that find nothing would hold nothing.
func breakRules(t *testing.T, url string) {
	conn := connect(t, url)
	if err := Up(t.Context(), conn); err != nil {
		t.Fatal(err)
	}
	exec(t, conn, `select authz.create_partitions(now())`)
	for sql, rule := range map[string]string{
		`alter table authz.resources drop column require_nonce`:                                    "takes nothing away",
		`alter table authz.resources rename column require_nonce to nonce`:                         "takes nothing away",
		`alter table authz.resources alter column require_nonce type text`:                         "takes nothing away",
		`alter table authz.resources alter column token_ttl type bigint`:                           "writes no table anew",
		`drop function authz.has_partitions`:                                                       "takes nothing away",
		`revoke insert on authz.tokens from authz_server`:                                          "leaves the server's role",
		`revoke execute on function authz.has_partitions from authz_server`:                        "leaves the server's role",
		`alter table authz.tokens alter column scope drop not null, alter column jkt set not null`: "makes no column not null",
		`alter table authz.clients alter column dpop_keys drop default`:                            "takes no default away",
		`delete from authz.clients; alter table authz.clients add column x text not null`:          "adds nothing that a row must say",
		`alter table authz.resources add column x bigint not null generated always as identity`:    "writes no table anew",
		`alter table authz.tokens add constraint tokens_x_check check (scope <> '')`:               "validates nothing",
		`create index tokens_x_idx on authz.tokens (client_id)`:                                    "makes no index",
	} {
		exec(t, conn, `begin`)
		broken := judge(t, conn, func() { exec(t, conn, sql) })
		if !slices.ContainsFunc(broken, func(b string) bool { return strings.HasPrefix(b, rule) }) {
			t.Errorf("%s: found %q, want: %s", sql, broken, rule)
		}
		exec(t, conn, `rollback`)
	}
}

// firstToSay is the migration from which on each says which builds may use the
// schema.
const firstToSay = 10

func sayWhomTheyAreFor(t *testing.T, url string) {
	conn := connect(t, url)
	if err := upTo(t.Context(), conn, firstToSay-1); err != nil {
		t.Fatal(err)
	}
	names, err := files.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	oldest := int32(0)
	for n := int32(firstToSay); n <= Known(); n++ {
		text, err := files.ReadFile(names[n-1].Name())
		if err != nil {
			t.Fatal(err)
		}
		if n > firstToSay && !strings.Contains(string(text), "update authz.oldest_build set version = ") {
			t.Errorf("%s does not say which builds may use the schema", names[n-1].Name())
		}
		if err := upTo(t.Context(), conn, n); err != nil {
			t.Fatal(err)
		}
		var says int32
		if err := conn.QueryRow(context.Background(), `select version from authz.oldest_build`).Scan(&says); err != nil {
			t.Fatal(err)
		}
		if says < max(oldest, 1) || says >= n {
			t.Errorf("%s leaves the schema to builds from version %d on, the one before to those from %d on", names[n-1].Name(), says, oldest)
		}
		oldest = says
	}
}
