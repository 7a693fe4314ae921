package authz_test

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// checkInvariants holds what always holds (docs/security-model.md) over the
// whole database, at the end of every test.
func (w *world) checkInvariants() {
	w.t.Helper()
	ctx := context.WithoutCancel(w.t.Context())
	conn, err := pgx.Connect(ctx, w.database.OwnerURL)
	if err != nil {
		w.t.Errorf("checking invariants: %v", err)
		return
	}
	defer conn.Close(ctx)
	for _, i := range []struct{ what, sql string }{
		{"every token has its one event of being issued, and every such event its token", fmt.Sprintf(`
			select count(*) from authz.tokens t
			full join (select * from authz.audit_events where kind = 'token.issued') e using (jti)
			where (t.jti is null or e.jti is null or e.client_id <> t.client_id or e.jkt is distinct from t.jkt)
				and not (%t and t.jti is null and e.jti < (select min(jti::text)::uuid from authz.tokens))`, w.forgets)},
		{"every enrolled key has its event", `
			select count(*) from authz.client_dpop_keys k
			where not exists (select from authz.audit_events e where e.kind = 'dpop_key.enrolled' and e.client_id = k.client_id and e.jkt = k.jkt)`},
		{"no token is recorded twice", `
			select count(*) - count(distinct digest) from authz.tokens`},
		{"every bound token and every call that passed has spent its own proof, and no proof is spent for nothing", fmt.Sprintf(`
			select case when %t then 0 else greatest(0, needed - spent, spent - needed - %d) end
			from (select (select count(*) from authz.tokens where jkt is not null) + %d
			  + (select count(*) from authz.tokens t join authz.clients c on c.id = t.client_id and c.token_endpoint_auth_method = 'private_key_jwt')
			  + (select 2 * count(*) from authz.audit_events where kind = 'dpop_key.enrolled' and detail->>'by' like 'jkt:%%'),
			  (select count(*) from authz.spent_proofs)) n (needed, spent)`,
			w.forgets, w.unsure.Load(), w.admitted.Load()+w.asserted.Load())},
		{"every revoked token has its one event of being revoked", `
			select count(*) from (select * from authz.tokens where revoked_at is not null) t
			full join (select * from authz.audit_events where kind = 'token.revoked') e using (jti)
			where t.jti is null or e.jti is null`},
		{"every client and resource has its event of being created", `
			select count(*) from (select id as name from authz.clients union all select uri from authz.resources) r
			where not exists (select from authz.audit_events e
			  where e.kind in ('client.created', 'resource.created') and r.name in (e.client_id, e.resource))`},
		{"every signing key has its event of being made", `
			select count(*) from authz.signing_keys k
			where not exists (select from authz.audit_events e where e.kind = 'signing_key.created' and e.detail->>'kid' = k.kid)`},
	} {
		var broken int
		if err := conn.QueryRow(ctx, i.sql).Scan(&broken); err != nil {
			w.t.Errorf("%s: %v", i.what, err)
		} else if broken != 0 {
			w.t.Errorf("broken %d times: %s", broken, i.what)
		}
	}
	w.checkSecrets(ctx, conn)
}

// forms are how a secret may be written: as it is, as Postgres prints bytes, and
// as base64 by itself or as the end of HTTP Basic credentials.
func forms(secret string) []string {
	all := []string{secret, hex.EncodeToString([]byte(secret))}
	for skip := range 3 {
		// What comes before it decides how it lies in the groups of base64. The
		// first and the last group may hold something else too.
		encoded := base64.RawStdEncoding.EncodeToString([]byte(strings.Repeat("x", skip) + secret))
		all = append(all, encoded[4:len(encoded)-4])
	}
	return all
}

// checkSecrets searches all logs, all traces and all tables for every secret of the test.
func (w *world) checkSecrets(ctx context.Context, conn *pgx.Conn) {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	places := map[string]string{"a log": w.logs.String()}
	for n, traces := range w.traces {
		places[fmt.Sprintf("traces %d", n)] = traces.Bytes()
	}
	for _, table := range []string{"tokens", "spent_proofs", "audit_events", "clients", "client_secrets", "signing_keys", "resources", "routes"} {
		var rows string
		if err := conn.QueryRow(ctx, fmt.Sprintf("select coalesce(string_agg(t::text, E'\n'), '') from authz.%s t", table)).Scan(&rows); err != nil {
			w.t.Errorf("reading %s: %v", table, err)
		}
		places["table "+table] = rows
	}
	wanted := map[string][]string{} // by how they begin
	for _, secret := range w.secrets {
		for _, form := range forms(secret) {
			if len(form) >= searchBy {
				wanted[form[:searchBy]] = append(wanted[form[:searchBy]], form)
			}
		}
	}
	for place, text := range places {
		for at := 0; at+searchBy <= len(text); at++ {
			for _, form := range wanted[text[at:at+searchBy]] {
				if strings.HasPrefix(text[at:], form) {
					w.t.Errorf("a secret of %d bytes (%.8s…) is in %s", len(form), form, place)
				}
			}
		}
	}
}

// searchBy is how many bytes of a secret are looked up at each place of a text:
// there may be hundreds of secrets and tens of megabytes of logs.
const searchBy = 12

// count runs a query that counts, as the owner.
func (w *world) count(sql string) int {
	w.t.Helper()
	ctx := context.WithoutCancel(w.t.Context())
	conn, err := pgx.Connect(ctx, w.database.OwnerURL)
	if err != nil {
		w.t.Fatal(err)
	}
	defer conn.Close(ctx)
	var n int
	if err := conn.QueryRow(ctx, sql).Scan(&n); err != nil {
		w.t.Fatal(err)
	}
	return n
}
