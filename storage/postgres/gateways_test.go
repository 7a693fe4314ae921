package postgres_test

import (
	"testing"

	"github.com/cargokey/authz/authz"
	"github.com/cargokey/authz/internal/pgdev/pgtest"
	"github.com/cargokey/authz/storage/postgres"
)

const gatewayRevision = `select revision from authz.gateway_revision`

// Whoever changes one of the tables by hand, or by another build, ends what
// instances have kept of it.
func TestEachTableThatGatewayChecksGoByHasItsTrigger(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	admin := connect(t, db.OwnerURL)
	populate(t, open(t, db.OwnerURL), clock())
	exec(t, admin, `insert into authz.resource_base_urls values ('https://api.example.com', $1)`, labels)
	exec(t, admin, `insert into authz.routes values ($1, 'GET', '/', '{}')`, labels)
	for table, row := range map[string]string{
		"resources":          `insert into authz.resources select 'urn:new', token_ttl, allow_bearer, created_at, updated_at from authz.resources limit 1`,
		"resource_scopes":    `insert into authz.resource_scopes select uri, 'new' from authz.resources`,
		"resource_base_urls": `insert into authz.resource_base_urls select 'https://new.example.com', uri from authz.resources`,
		"routes":             `insert into authz.routes select uri, 'PUT', '/', '{}' from authz.resources`,
		"gateway_resources":  `insert into authz.gateway_resources select 'shop', uri from authz.resources`,
		"client_secrets":     `insert into authz.client_secrets select 'edge', sha256('new'), now()`,
		"clients":            `update authz.clients set id = id where false`, // a new one is no gateway yet
	} {
		update := list[string](t, admin, `
			select format('update authz.%1$I set %2$I = %2$I', table_name, column_name)
			from information_schema.columns where table_schema = 'authz' and table_name = $1 order by ordinal_position limit 1`, table)[0]
		for _, statement := range []string{row, update, `delete from authz.` + table, `truncate authz.` + table + ` cascade`} {
			before := list[int64](t, admin, gatewayRevision)[0]
			exec(t, admin, `begin`)
			// What else a statement does is not what is asked.
			for _, other := range list[string](t, admin, `
				select tgrelid::regclass::text from pg_trigger
				where tgname ~ '_gateway_revision$' and tgrelid <> ('authz.' || $1)::regclass`, table) {
				exec(t, admin, `alter table `+other+` disable trigger user`)
			}
			exec(t, admin, `alter table authz.grants drop constraint grants_scope_fkey`)
			exec(t, admin, `alter table authz.gateway_resources drop constraint gateway_resources_resource_fkey`)
			exec(t, admin, statement)
			if after := list[int64](t, admin, gatewayRevision)[0]; after == before {
				t.Errorf("%s: the revision is as before", statement)
			}
			exec(t, admin, `rollback`)
			same(t, before, list[int64](t, admin, gatewayRevision)[0])
		}
	}
}

func TestCallsAndTablesDoNotWaitForARegistrationUnderWay(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	admin := connect(t, db.OwnerURL)
	now := clock()
	populate(t, open(t, db.OwnerURL), now)
	store := open(t, db.ServerURL, postgres.AsServer())
	i := issue(now)
	must(t, store.RecordToken(t.Context(), i))
	exec(t, admin, `begin`)
	exec(t, admin, `update authz.clients set disabled_at = now() where id = 'edge'`)
	before := goodCall(t, store, i.Token)
	if v, err := store.AdmitCall(t.Context(), before, now); err != nil || !v.Spent {
		t.Errorf("before it is done: %+v, %v", v, err)
	}
	exec(t, admin, `commit`)
	before.Proof.Digest = randomDigest()
	if v, err := store.AdmitCall(t.Context(), before, now); err != nil || v.Spent || v.Revision == before.Revision {
		t.Errorf("once it is done: %+v, %v", v, err)
	}
	// But where the caller knows that its table is younger than the call.
	before.AnyRevision = true
	if v, err := store.AdmitCall(t.Context(), before, now); err != nil || !v.Spent || v.Revision == before.Revision {
		t.Errorf("by any revision: %+v, %v", v, err)
	}
}

func TestWithoutARevisionNothingIsKnown(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	admin := connect(t, db.OwnerURL)
	now := clock()
	populate(t, open(t, db.OwnerURL), now)
	store := open(t, db.ServerURL, postgres.AsServer())
	i := issue(now)
	must(t, store.RecordToken(t.Context(), i))
	call := goodCall(t, store, i.Token)
	exec(t, admin, `delete from authz.gateway_revision`)
	before := count(t, admin, "spent_proofs")
	for _, revision := range []int64{call.Revision, 0} {
		call.Revision = revision
		if v, err := store.AdmitCall(t.Context(), call, now); err == nil {
			t.Errorf("a call: %+v", v)
		}
	}
	same(t, before, count(t, admin, "spent_proofs"))
	if table, err := store.GatewayTable(t.Context()); err == nil {
		t.Errorf("a table: %+v", table)
	}
}

func TestSecretThatEndedBeforeAllTimeIsNoSecret(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	admin := connect(t, db.OwnerURL)
	store := open(t, db.OwnerURL)
	populate(t, store, clock())
	secret := randomDigest()
	exec(t, admin, `insert into authz.client_secrets values ('edge', $1, now(), 'infinity')`, secret[:])
	exec(t, admin, `insert into authz.client_secrets values ('edge', sha256('old'), now(), '-infinity')`)
	table, err := store.GatewayTable(t.Context())
	must(t, err)
	want := []authz.Gateway{{ID: edge, Secrets: []authz.EndingDigest{{Digest: secret}}, Fronts: []string{labels}}}
	same(t, want, table.Gateways)
}

// An instance may have seen what a database that was restored has not.
func TestRestoredDatabaseHasNoRevisionOfTheLostTime(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	admin := connect(t, db.OwnerURL)
	populate(t, open(t, db.OwnerURL), clock())
	seen := map[int64]bool{}
	change := func() {
		exec(t, admin, `update authz.clients set disabled_at = now()`)
		revision := list[int64](t, admin, gatewayRevision)[0]
		if seen[revision] {
			t.Errorf("revision %d came again", revision)
		}
		seen[revision] = true
	}
	for range 20 {
		exec(t, admin, `begin`)
		change()
		change()
		exec(t, admin, `rollback`)
	}
}
