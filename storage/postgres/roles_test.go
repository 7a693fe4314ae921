package postgres_test

import (
	"context"
	"crypto/rand"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cargokey/authz/internal/pgdev/pgtest"
	"github.com/cargokey/authz/migrations"
	"github.com/cargokey/authz/storage/postgres"
)

// forbidden are statements that the server has no business with.
func forbidden(partition string) []string {
	return []string{
		// DDL.
		`create table authz.mine ()`,
		`create table public.mine ()`,
		`create schema mine`,
		`create function authz.mine() returns void language sql as ''`,
		`create temporary table mine () ; create role mine`,
		`alter table authz.tokens add mine text`,
		`alter table authz.clients disable trigger all`,
		`alter role authz_server login`,
		`drop table authz.audit_events`,
		`drop table authz.` + partition,
		`drop schema authz cascade`,
		`drop function authz.has_partitions`,
		`truncate authz.spent_proofs`,
		`create index on authz.tokens (client_id)`,
		`set role authz`,
		`set session_replication_role = replica`,
		// The audit trail.
		`select from authz.audit_events`,
		`select id from authz.audit_events limit 0`,
		`update authz.audit_events set actor = ''`,
		`delete from authz.audit_events`,
		`insert into authz.audit_events (id, at, kind, actor) values (gen_random_uuid(), now(), 'a.b', '') returning id`,
		`truncate authz.audit_events`,
		`copy authz.audit_events to stdout`,
		`insert into authz.audit_events (id, at, kind, actor, recorded_in) values (gen_random_uuid(), now(), 'a.b', 'x', 1)`,
		`select from authz.audit_seals`,
		`insert into authz.audit_seals (sealed_at) values (now())`,
		`update authz.audit_seals set digest = ''`,
		`delete from authz.audit_seals`,
		`update authz.followers set recorded_in = 0`,
		`select from authz.followers`,
		`insert into authz.followers (name) values ('mine')`,
		`update authz.audit_retention set keep_days = 1`,
		`select from authz.audit_retention`,
		`update authz.audit_positions set added = 0`,
		`select authz.note_dropped('tokens', '', now())`,
		`select authz.raise_positions()`,
		// Registrations.
		`insert into authz.clients default values`,
		`update authz.clients set disabled_at = null`,
		`update authz.clients set generation = default`,
		`delete from authz.clients`,
		`insert into authz.client_secrets default values`,
		`update authz.client_secrets set expires_at = null`,
		`update authz.client_secrets set ended = false`,
		`delete from authz.client_secrets`,
		`insert into authz.grants default values`,
		`update authz.grants set scope = ''`,
		`delete from authz.grants`,
		`insert into authz.gateway_resources default values`,
		`update authz.gateway_resources set resource = ''`,
		`delete from authz.gateway_resources`,
		`insert into authz.resources default values`,
		`update authz.resources set allow_bearer = true`,
		`delete from authz.resources`,
		`insert into authz.resource_scopes default values`,
		`update authz.resource_scopes set scope = ''`,
		`delete from authz.resource_scopes`,
		`insert into authz.resource_base_urls default values`,
		`update authz.resource_base_urls set resource = ''`,
		`delete from authz.resource_base_urls`,
		`insert into authz.routes default values`,
		`update authz.routes set scopes = '{}'`,
		`delete from authz.routes`,
		`update authz.resources set revision = default`,
		`update authz.resources set require_nonce = false`,
		`update authz.clients set tls_client_auth_san_dns = ''`,
		`select nextval('authz.resource_revisions')`,
		`select setval('authz.resource_revisions', 1)`,
		`select from authz.clients for update`,
		`update authz.gateway_revision set revision = 1`,
		`insert into authz.gateway_revision (only_row, revision) values (false, 1)`,
		`delete from authz.gateway_revision`,
		`select from authz.gateway_revision for update`,
		`select authz.next_gateway_revision()`,
		`update authz.schema_version set version = 99`,
		`delete from authz.schema_version`,
		// Clients' DPoP keys.
		`insert into authz.client_dpop_keys default values`,
		`update authz.client_dpop_keys set expires_at = null`,
		`delete from authz.client_dpop_keys`,
		`select from authz.client_dpop_keys for update`,
		`update authz.clients set dpop_keys = 'any'`,
		`insert into authz.revoked_dpop_keys default values`,
		`update authz.revoked_dpop_keys set jkt = ''`,
		`delete from authz.revoked_dpop_keys`,
		// Tokens and proofs.
		`update authz.tokens set expires_at = now()`,
		`update authz.tokens set jti = gen_random_uuid()`,
		`update authz.tokens set digest = ''`,
		`update authz.tokens set client_id = ''`,
		`update authz.tokens set resource = ''`,
		`update authz.tokens set scope = ''`,
		`update authz.tokens set jkt = ''`,
		`update authz.tokens set kid = ''`,
		`update authz.tokens set credential = ''`,
		`update authz.tokens set issued_at = now()`,
		`update authz.tokens set client_generation = 0`,
		`update authz.tokens set resource_generation = 0`,
		`update authz.tokens set revoked_at = null, scope = ''`,
		`delete from authz.tokens`,
		`truncate authz.tokens`,
		`update authz.spent_proofs set iat = now()`,
		`update authz.spent_proofs set digest = ''`,
		`delete from authz.spent_proofs`,
		// Partitions themselves.
		`select from authz.` + partition,
		`delete from authz.` + partition,
		// Signing keys.
		`update authz.signing_keys set signs_from = now()`,
		`update authz.signing_keys set retires_at = now()`,
		`update authz.signing_keys set revoked_at = null`,
		`update authz.signing_keys set sealed_private = ''`,
		`insert into authz.signing_keys default values`,
		`select from authz.signing_keys for update`,
		`delete from authz.signing_keys`,
		// What the analysis of behaviour has raised.
		`update authz.alerts set acknowledged_at = now(), open = false`,
		`update authz.alerts set seen = ''`,
		`insert into authz.alerts (id, acknowledged_by) values ('a', 'b')`,
		`delete from authz.alerts`,
		`truncate authz.alerts`,
		`delete from authz.alert_deliveries`,
		`update authz.alert_deliveries set client_id = ''`,
		`delete from authz.dpop_key_owners`,
		`truncate authz.client_baselines`,
		// Functions that are not the server's to call.
		`select authz.ensure_partition('tokens', now(), now())`,
		`select authz.uuidv7_floor(now())`,
		`select authz.partition_families()`,
		`select authz.ensure_partitions(now(), now())`,
		`insert into authz.signing_keys select * from authz.signing_keys`,
		// What the database says of a writer, the writer does not.
		`insert into authz.audit_events (id, at, kind, actor, recorded_by) values (gen_random_uuid(), now(), 'a.b', 'x', 'owner')`,
		`select pg_read_file('/etc/passwd')`,
		// Which database this is, the owner says.
		`select authz.claim_database(null)`,
		`select authz.current_timeline()`,
		`select from authz.database`,
		`update authz.database set fence = null`,
		`update authz.oldest_build set version = 0`,
	}
}

func TestServersRoleMayDoNothingButItsWork(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	admin := connect(t, db.OwnerURL)
	must(t, open(t, db.OwnerURL).Maintain(t.Context(), clock()))
	partition := partitionOf("tokens", clock())
	for name, conn := range map[string]*pgx.Conn{
		"a member": connect(t, db.ServerURL),
		"a lowered superuser": func() *pgx.Conn {
			conn := connect(t, db.OwnerURL)
			exec(t, conn, `set session authorization `+migrations.ServerRole)
			return conn
		}(),
	} {
		for _, statement := range forbidden(partition) {
			tx, err := conn.Begin(t.Context())
			must(t, err)
			_, err = tx.Conn().PgConn().Exec(t.Context(), statement).ReadAll()
			if sqlState(err) != "42501" { // insufficient_privilege
				t.Errorf("%s: %s: %v, want permission denied", name, statement, err)
			}
			must(t, tx.Rollback(t.Context()))
		}
	}
	// What it may do with the tables, all of it.
	want := []string{
		"alert_deliveries SELECT", "alert_deliveries.attempts UPDATE", "alert_deliveries.delivered_at UPDATE", "alert_deliveries.due_at UPDATE",
		"alerts SELECT", "alerts.last_at UPDATE", "alerts.open UPDATE", "alerts.times UPDATE",
		"behaviour_state SELECT", "behaviour_state.fleet UPDATE", "behaviour_state.number UPDATE",
		"client_baselines DELETE", "client_baselines INSERT", "client_baselines SELECT", "client_baselines.summary UPDATE", "client_baselines.updated_at UPDATE",
		"client_dpop_keys SELECT", "client_secrets SELECT", "clients SELECT",
		"dpop_key_owners INSERT", "dpop_key_owners SELECT", "dpop_key_owners.client_id UPDATE", "dpop_key_owners.first_shown UPDATE", "dpop_key_owners.last_shown UPDATE",
		"gateway_resources SELECT", "gateway_revision SELECT", "grants SELECT", "oldest_build SELECT",
		"resource_base_urls SELECT", "resource_scopes SELECT", "resources SELECT", "revoked_dpop_keys SELECT", "routes SELECT", "schema_version SELECT", "signing_keys SELECT",
		"spent_proofs INSERT", "spent_proofs SELECT", "token_revisions SELECT", "tokens INSERT", "tokens SELECT", "tokens.revoked_at UPDATE",
	}
	same(t, want, list[string](t, admin, `
		select table_name || ' ' || privilege_type collate "C" from information_schema.role_table_grants where grantee = 'authz_server'
		union
		select table_name || '.' || column_name || ' ' || privilege_type from information_schema.role_column_grants
		where grantee = 'authz_server' and privilege_type = 'UPDATE'
		order by 1`))
	same(t, []string{"add_first_signing_key", "add_next_signing_key", "advance_follower", "create_partitions", "database_state",
		"drop_old_partition", "enrol_endorsed_dpop_key", "enrol_first_dpop_key", "follow", "forget_alerts", "forget_key_owners", "has_partitions", "last_seal",
		"oldest_after", "read_audit"}, list[string](t, admin, `
		select routine_name::text from information_schema.role_routine_grants where grantee = 'authz_server' order by 1`))
}

// currentUser is that of a connection as the Store makes them.
func currentUser(t *testing.T, url string, options ...postgres.Option) (current, session string) {
	t.Helper()
	options = append(options, postgres.Configure(func(c *pgxpool.Config) {
		after := c.AfterConnect
		c.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
			if after != nil {
				if err := after(ctx, conn); err != nil {
					return err
				}
			}
			return conn.QueryRow(ctx, `select current_user::text, session_user::text`).Scan(&current, &session)
		}
	}))
	must(t, open(t, url, options...).Maintain(t.Context(), clock()))
	return current, session
}

func TestServerIsLoweredFromMightAndElseLeftAsItIs(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	if current, _ := currentUser(t, db.OwnerURL, postgres.AsServer()); current != migrations.ServerRole {
		t.Errorf("a superuser is %s", current)
	}
	if current, session := currentUser(t, db.OwnerURL); current != session {
		t.Errorf("an operator is %s", current)
	}
	if current, session := currentUser(t, db.ServerURL, postgres.AsServer()); current != session || current == migrations.ServerRole {
		t.Errorf("a member of the role is %s", current)
	}
}

func TestSchemasOwnerIsLoweredOrRefused(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	admin := connect(t, db.OwnerURL)
	// Roles belong to the whole Postgres, so this one has a name of its own.
	owner := "authz_test_owner_" + strings.ToLower(rand.Text())
	exec(t, admin, `create role `+owner)
	exec(t, admin, `alter schema authz owner to `+owner)
	t.Cleanup(func() {
		_, err := admin.Exec(context.Background(), `alter schema authz owner to current_user; drop role `+owner)
		if err != nil {
			t.Error(err)
		}
	})
	asOwner := postgres.Configure(func(c *pgxpool.Config) {
		lower := c.AfterConnect
		c.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
			if _, err := conn.Exec(ctx, `set session authorization `+owner); err != nil {
				return err
			}
			return lower(ctx, conn)
		}
	})
	if err := open(t, db.OwnerURL, postgres.AsServer(), asOwner).Maintain(t.Context(), clock()); sqlState(err) != "42501" {
		t.Errorf("an owner that is no member of the server's role: %v", err)
	}
	exec(t, admin, `grant authz_server to `+owner)
	current, session := currentUser(t, db.OwnerURL, postgres.AsServer(), asOwner)
	if current != migrations.ServerRole || session != owner {
		t.Errorf("an owner that is a member of the server's role, %s, is %s", session, current)
	}
}
