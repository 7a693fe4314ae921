package faulttest

import (
	"context"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/cargokey/authz/internal/pgdev/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// wholeSQL is two clients with a token each, one of them revoked, and all that
// belongs to them.
const wholeSQL = `
select authz.create_partitions(now());
insert into authz.resources (uri, token_ttl, allow_bearer, created_at, updated_at) values ('https://a.test', 300, false, now(), now());
insert into authz.resource_scopes (resource, scope) values ('https://a.test', 'read'), ('https://a.test', 'write');
insert into authz.clients (id, token_endpoint_auth_method, token_format, allow_bearer, created_at)
values ('one', 'client_secret_basic', 'jwt', false, now()), ('two', 'client_secret_basic', 'opaque', false, now());
insert into authz.grants (client_id, resource, scope) values ('one', 'https://a.test', 'read'), ('two', 'https://a.test', 'read');
insert into authz.signing_keys (kid, alg, public_jwk, sealed_private, sealed_by, created_at, signs_from)
values ('k', 'ES256', '{}', '\x00', 's', now(), now());
insert into authz.tokens (jti, digest, client_id, resource, scope, jkt, issued_at, expires_at, kid, client_generation, resource_generation, revoked_at)
select overlay(authz.uuidv7_floor(now())::text placing left(md5(c.id), 3) from 34)::uuid, sha256(c.id::bytea), c.id, r.uri, 'read', repeat(left(c.id, 1), 43), now(), now() + interval '5 minutes',
  case c.id when 'one' then 'k' end, c.generation, r.generation, case c.id when 'two' then now() end
from authz.clients c, authz.resources r;
insert into authz.spent_proofs (digest, iat) values (sha256('p1'), now()), (sha256('p2'), now());
insert into authz.audit_events (id, at, kind, actor, client_id, resource, jti, jkt)
select gen_random_uuid(), now(), 'token.issued', 'client:' || client_id, client_id, resource, jti, jkt from authz.tokens
union all
select gen_random_uuid(), now(), 'token.revoked', 'client:' || client_id, client_id, resource, jti, jkt from authz.tokens where revoked_at is not null
union all
select gen_random_uuid(), now(), 'client.created', 'operator:ada', id, null, null, null from authz.clients
union all
select gen_random_uuid(), now(), 'resource.created', 'operator:ada', null, uri, null, null from authz.resources;
insert into authz.audit_events (id, at, kind, actor, detail) values (gen_random_uuid(), now(), 'signing_key.created', 'server', '{"kid": "k"}')`

func TestEachBreachOfAnInvariantIsFound(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	conn, err := pgx.Connect(ctx, pgtest.New(t).OwnerURL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(ctx, wholeSQL); err != nil {
		t.Fatal(err)
	}
	if broken := Broken(ctx, conn); len(broken) != 0 {
		t.Fatalf("of a whole database: %q", broken)
	}
	found := map[string]bool{}
	for _, breach := range []struct{ sql, found string }{
		{`delete from authz.tokens where client_id = 'one'`, "every token has its one event"},
		{`delete from authz.audit_events where kind = 'token.issued' and client_id = 'one'`, "every token has its one event"},
		{`update authz.audit_events set jkt = 'other' where kind = 'token.issued' and client_id = 'one'`, "every token has its one event"},
		{`update authz.audit_events set jti = gen_random_uuid() where kind = 'token.revoked'`, "every revoked token"},
		{`delete from authz.audit_events where kind = 'token.revoked'`, "every revoked token"},
		{`update authz.tokens set revoked_at = now() where client_id = 'one'`, "every revoked token"},
		{`alter table authz.tokens disable trigger tokens_keep_revoked; update authz.tokens set digest = sha256('one'), revoked_at = revoked_at`, "no token is recorded twice"},
		{`insert into authz.spent_proofs (digest, iat) values (sha256('p1'), now() + interval '1 hour')`, "spent twice"},
		{`delete from authz.spent_proofs where digest = sha256('p1')`, "spent a proof of its own"},
		{`update authz.tokens set scope = 'read write' where client_id = 'one'`, "beyond its client's grants"},
		{`delete from authz.grants where client_id = 'one'`, "beyond its client's grants"},
		{`update authz.tokens set expires_at = expires_at + interval '1 second' where client_id = 'one'`, "outlives"},
		{`update authz.tokens set jkt = null where client_id = 'one'`, "without a key"},
		{`update authz.clients set disabled_at = now() where id = 'one'`, "that is disabled"},
		{`update authz.tokens set kid = 'other' where client_id = 'one'`, "signed by a key of the database"},
		{`delete from authz.audit_events where kind = 'signing_key.created'`, "every signing key"},
		{`delete from authz.audit_events where kind = 'client.created' and client_id = 'one'`, "every client and resource"},
		{`delete from authz.audit_events where kind = 'resource.created'`, "every client and resource"},
	} {
		if _, err := conn.Exec(ctx, "begin; "+breach.sql); err != nil {
			t.Fatalf("%s: %v", breach.sql, err)
		}
		broken := strings.Join(Broken(ctx, conn), "\n")
		if !strings.Contains(broken, breach.found) {
			t.Errorf("%s: found %q", breach.sql, broken)
		}
		found[breach.found] = true
		if _, err := conn.Exec(ctx, "rollback"); err != nil {
			t.Fatal(err)
		}
	}
	if len(found) != len(invariants) {
		t.Errorf("%d of %d invariants are broken here", len(found), len(invariants))
	}
}
