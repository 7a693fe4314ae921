package faulttest

import (
	"context"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
)

// spareSQL counts the spent proofs beside those that tokens were recorded for: one
// of each token's proof, and one of each assertion. Assertions that were spent for
// anything else have to be added.
const spareSQL = `
select (select count(*) from authz.spent_proofs)
  - (select count(*) from authz.tokens where jkt is not null)
  - (select count(*) from authz.tokens t join authz.clients c on c.id = t.client_id and c.token_endpoint_auth_method = 'private_key_jwt')`

// invariants each count what breaks them. They hold at any moment, since each is
// one statement and so sees one.
var invariants = []struct{ what, sql string }{
	{"every token has its one event of being issued, and every such event its token", `
		select count(*) from authz.tokens t
		full join (select * from authz.audit_events where kind = 'token.issued') e using (jti)
		where t.jti is null or e.jti is null or e.client_id <> t.client_id or e.resource <> t.resource or e.jkt is distinct from t.jkt`},
	{"every revoked token has its one event of being revoked, and every such event its token", `
		select count(*) from (select * from authz.tokens where revoked_at is not null) t
		full join (select * from authz.audit_events where kind = 'token.revoked') e using (jti)
		where t.jti is null or e.jti is null`},
	{"no token is recorded twice", `
		select count(*) - count(distinct digest) from authz.tokens`},
	{"no proof and no assertion is spent twice", `
		select count(*) - count(distinct digest) from authz.spent_proofs`},
	{"every bound token has spent a proof of its own", `
		select greatest(0, -spare) from (` + spareSQL + `) n (spare)`},
	{"no token is beyond its client's grants", `
		select count(*) from authz.tokens t join authz.clients c on c.id = t.client_id and c.generation = t.client_generation
		where exists (select from unnest(string_to_array(t.scope, ' ')) s (scope)
		  where not exists (select from authz.grants g where g.client_id = t.client_id and g.resource = t.resource and g.scope = s.scope))`},
	{"no token outlives what its resource allows", `
		select count(*) from authz.tokens t join authz.resources r on r.uri = t.resource and r.generation = t.resource_generation
		where t.expires_at - t.issued_at > r.token_ttl * interval '1 second'`},
	{"no token is without a key, but where its resource admits that", `
		select count(*) from authz.tokens t join authz.resources r on r.uri = t.resource
		where t.jkt is null and t.x5t is null and not r.allow_bearer`},
	{"no token carries the generation of a client that is disabled", `
		select count(*) from authz.tokens t join authz.clients c on c.id = t.client_id and c.generation = t.client_generation
		where c.disabled_at is not null`},
	{"every token is signed by a key of the database, or by none", `
		select count(*) from authz.tokens t
		where t.kid is not null and not exists (select from authz.signing_keys s where s.kid = t.kid)`},
	{"every signing key has its event of being made", `
		select count(*) from authz.signing_keys k
		where not exists (select from authz.audit_events e where e.kind = 'signing_key.created' and e.detail->>'kid' = k.kid)`},
	{"every client and resource has its event of being created", `
		select count(*) from (select id as name from authz.clients union all select uri from authz.resources) r
		where not exists (select from authz.audit_events e
		  where e.kind in ('client.created', 'resource.created') and r.name in (e.client_id, e.resource))`},
}

// Broken says which invariants do not hold over the whole database.
func Broken(ctx context.Context, owner *pgx.Conn) (broken []string) {
	for _, i := range invariants {
		var n int
		if err := owner.QueryRow(ctx, i.sql).Scan(&n); err != nil {
			broken = append(broken, fmt.Sprintf("%s: %v", i.what, err))
		} else if n != 0 {
			broken = append(broken, fmt.Sprintf("broken %d times: %s", n, i.what))
		}
	}
	return broken
}

// Invariants fails the test where they do not hold over the whole database.
func Invariants(t testing.TB, ownerURL string) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	conn, err := pgx.Connect(ctx, ownerURL)
	if err != nil {
		t.Errorf("checking the invariants: %v", err)
		return
	}
	defer conn.Close(ctx)
	for _, broken := range Broken(ctx, conn) {
		t.Error(broken)
	}
}
