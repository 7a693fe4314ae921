package migrations

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
)

// before0006 is the version that a build may still be at, which goes on serving
// while another one migrates.
const before0006 = 5

// As the build of version 5 wrote them, with values in place of parameters.
const (
	resourceOf5 = `
insert into authz.resources (uri, token_ttl, allow_bearer, created_at, updated_at) values ($1, 600, true, now(), now())`
	scopesOf5 = `
insert into authz.resource_scopes (resource, scope) select $1, unnest('{read,write}'::text[]) on conflict do nothing`
	updateResourceOf5 = `
update authz.resources set token_ttl = 60, allow_bearer = false, updated_at = now() where uri = $1`
	clientOf5 = `
insert into authz.clients (id, token_endpoint_auth_method, token_format, allow_bearer, created_at, require_nonce)
values ($1, 'client_secret_basic', 'jwt', false, now(), true)`
	secretOf5  = `insert into authz.client_secrets (client_id, digest, created_at) values ($1, sha256('secret'), now())`
	grantOf5   = `insert into authz.grants (client_id, resource, scope) select $1, 'urn:one', unnest('{read}'::text[])`
	gatewayOf5 = `insert into authz.gateway_resources (client_id, resource) select $1, unnest('{urn:one,urn:two}'::text[])`

	recordTokenOf5 = `
with client as (
  select c.generation as client_generation, r.generation as resource_generation
  from authz.clients c join authz.resources r on r.uri = 'urn:one'
  where c.id = $1 and c.disabled_at is null
), spent as (
  insert into authz.spent_proofs (digest, iat)
  select sha256($2::text::bytea), now() from client
  where not exists (select from authz.spent_proofs
    where digest = sha256($2::text::bytea) and iat between now() - interval '90 s' and now() + interval '90 s')
  on conflict do nothing
  returning iat
), token as (
  insert into authz.tokens (jti, digest, client_id, resource, scope, jkt, issued_at, expires_at, client_generation, resource_generation)
  select overlay(gen_random_uuid()::text placing left(lpad(to_hex(floor(extract(epoch from now()) * 1000)::bigint), 12, '0'), 8)
      || '-' || right(lpad(to_hex(floor(extract(epoch from now()) * 1000)::bigint), 12, '0'), 4) from 1 for 13)::uuid,
    sha256($2::text::bytea), $1, 'urn:one', 'read', 'key', now(), now() + interval '5 min', client_generation, resource_generation from spent, client
  returning jti
), event as (
  insert into authz.audit_events (id, at, kind, actor, client_id, resource, jti, jkt, request_id, remote_addr, detail)
  select gen_random_uuid(), now(), 'token.issued', 'client:one', $1, 'urn:one', jti, 'key', null, null, null from token
)
select exists (select from client)::text || ' ' || exists (select from token)::text`
	activeTokenOf5 = `
select t.scope
from authz.tokens t
join authz.clients c on c.id = t.client_id and c.disabled_at is null and c.generation = t.client_generation
join authz.gateway_resources g on g.client_id = 'gate' and g.resource = t.resource
join authz.resources r on r.uri = t.resource and r.generation = t.resource_generation
where t.digest = sha256('proof') and t.expires_at > now() and t.revoked_at is null`
	clientReadOf5 = `
select concat_ws(' ', c.id, c.token_endpoint_auth_method, c.token_format, c.allow_bearer, c.require_nonce,
  array(select i.resource from authz.gateway_resources i where i.client_id = c.id order by i.resource collate "C"))
from authz.clients c order by 1`
	resourceReadOf5 = `
select concat_ws(' ', r.uri, r.token_ttl, r.allow_bearer,
  array(select s.scope from authz.resource_scopes s where s.resource = r.uri order by s.scope collate "C"))
from authz.resources r order by 1`
)

// registrationsOf5 are statements with their parameters, in their order.
func registrationsOf5() [][]any {
	return [][]any{
		{resourceOf5, "urn:one"}, {scopesOf5, "urn:one"}, {resourceOf5, "urn:two"}, {scopesOf5, "urn:two"},
		{clientOf5, "one"}, {secretOf5, "one"}, {clientOf5, "gate"}, {secretOf5, "gate"},
		{grantOf5, "one"}, {gatewayOf5, "gate"}, {updateResourceOf5, "urn:two"},
	}
}

// workLike5 registers, records and reads as the build of version 5 did.
func workLike5(t *testing.T, conn *pgx.Conn) {
	t.Helper()
	for _, r := range registrationsOf5() {
		do(t, conn, r)
	}
	exec(t, conn, `select authz.create_partitions(now())`)
	serveLike5(t, conn, "proof")
}

func do(t *testing.T, conn *pgx.Conn, statement []any) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), statement[0].(string), statement[1:]...); err != nil {
		t.Fatalf("%s: %v", statement[0], err)
	}
}

// serveLike5 does what a server of version 5 does, by the server's role.
func serveLike5(t *testing.T, conn *pgx.Conn, proof string) {
	t.Helper()
	exec(t, conn, `set role authz_server`)
	defer exec(t, conn, `reset role`)
	for _, want := range []string{"true true", "true false"} { // recorded; spent
		var got string
		if err := conn.QueryRow(t.Context(), recordTokenOf5, "one", proof).Scan(&got); err != nil || got != want {
			t.Fatalf("recording a token: %q, %v", got, err)
		}
	}
	holdsWhat5Wrote(t, conn)
}

func holdsWhat5Wrote(t *testing.T, conn *pgx.Conn) {
	t.Helper()
	for sql, want := range map[string][]string{
		activeTokenOf5: {"read"},
		clientReadOf5: {
			"gate client_secret_basic jwt f t {urn:one,urn:two}",
			"one client_secret_basic jwt f t {}",
		},
		resourceReadOf5: {"urn:one 600 t {read,write}", "urn:two 60 f {read,write}"},
	} {
		if diff := cmp.Diff(want, list(t, conn, sql)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", sql, diff)
		}
	}
}

// What the build registers, which knows nothing of it, ends what instances of
// later ones have kept.
func reviseFor5(t *testing.T, url string) {
	conn := connect(t, url)
	if err := Up(t.Context(), conn); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	revised := func(statement ...any) bool {
		do(t, conn, statement)
		revision := list(t, conn, `select revision::text from authz.gateway_revision`)[0]
		known := seen[revision]
		seen[revision] = true
		return !known
	}
	revised(`select 1`)
	registrations := append(registrationsOf5(),
		[]any{`update authz.clients set disabled_at = coalesce(disabled_at, now()), generation = default where id = $1`, "gate"},
		[]any{`update authz.clients set disabled_at = null where id = $1`, "gate"},
		[]any{`delete from authz.clients where id = $1`, "gate"},
		[]any{`delete from authz.resources where uri = $1`, "urn:two"},
	)
	for _, r := range registrations {
		// No gateway check goes by a grant, nor by a client that fronts nothing yet.
		if want := r[0] != grantOf5 && r[0] != clientOf5 && r[0] != secretOf5; revised(r...) != want {
			t.Errorf("%s: it made another revision: %t", r[0], !want)
		}
	}
}

func serveVersion5(t *testing.T, url string) {
	conn := connect(t, url)
	if err := Up(t.Context(), conn); err != nil {
		t.Fatal(err)
	}
	workLike5(t, conn)
}

func keepRowsOf5(t *testing.T, url string) {
	conn := connect(t, url)
	if err := upTo(t.Context(), conn, before0006); err != nil {
		t.Fatal(err)
	}
	workLike5(t, conn)
	if err := Up(t.Context(), conn); err != nil {
		t.Fatal(err)
	}
	exec(t, conn, `set role authz_server`)
	holdsWhat5Wrote(t, conn)
	for sql, want := range map[string]string{
		`select count(distinct revision) || ' ' || bool_or(require_nonce) || ' ' || bool_and(revision > 0) from authz.resources`: "2 false true",
		`select count(*)::text from authz.resource_base_urls`:                                                                    "0",
		`select count(*)::text from authz.routes`:                                                                                "0",
		`select count(*)::text from authz.clients where num_nonnulls(tls_client_auth_san_dns, tls_client_auth_san_uri) > 0`:      "0",
	} {
		if got := list(t, conn, sql); got[0] != want {
			t.Errorf("%s: %s, want %s", sql, got[0], want)
		}
	}
	serveLike5(t, conn, "another proof")
}
