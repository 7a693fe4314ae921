package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/cargokey/authz/dpopbind"
)

// watchSQL notes, of each row that is written, of which table and by which transaction.
// The trail is watched itself, and partitions by the table that they are of.
const watchSQL = `
create schema watch;
create table watch.writes (n bigserial, name text, tx xid8, primary key (n));
create function watch.note() returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  insert into watch.writes (name, tx) values (coalesce(tg_argv[0], tg_table_name), pg_current_xact_id());
  return null;
end $$;
do $$
declare t text;
begin
  for t in select relname from pg_class where relnamespace = 'authz'::regnamespace and relkind in ('r', 'p') and not relispartition loop
    execute format('create trigger watched after insert or update or delete on authz.%I for each row execute function watch.note(%L)', t, t);
  end loop;
end $$`

// unaudited are the tables that may be written without an event: what is in them is no
// client, key, grant, resource or token.
var unaudited = []string{
	"audit_events",
	"audit_seals",
	"spent_proofs", // also of requests that are refused later, or change nothing
	// What the analysis of behaviour has read and learnt, and how far an alert has come. That
	// one is raised or acknowledged is an event: see package watch.
	"audit_positions", "followers", "behaviour_state", "client_baselines", "dpop_key_owners", "alerts", "alert_deliveries",
}

// trailEvent is an event of the trail, but for what differs each time.
type trailEvent struct {
	Kind, Actor, Client string
	Details             []string // the names of its members
}

func (e trailEvent) String() string {
	return fmt.Sprintf("%-28s %-20s %-12s %s", e.Kind, e.Actor, e.Client, strings.Join(e.Details, " "))
}

// watched is a database whose writes are watched.
type watched struct {
	*site
	conn *pgx.Conn
	seen int64 // the last of the writes that was looked at
}

func watchTables(t *testing.T, s *site) *watched {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), s.ownerURL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.WithoutCancel(t.Context())) })
	if _, err := conn.Exec(t.Context(), watchSQL); err != nil {
		t.Fatal(err)
	}
	return &watched{site: s, conn: conn}
}

// silent are the tables that a transaction has written since the last look, other than
// unaudited, without an event.
func (w *watched) silent(t *testing.T) []string {
	t.Helper()
	rows, err := w.conn.Query(t.Context(), `
		select distinct name from watch.writes x where n > $1 and name <> all($2)
		  and not exists (select from watch.writes e where e.tx = x.tx and e.name = 'audit_events')`, w.seen, unaudited)
	if err != nil {
		t.Fatal(err)
	}
	silent, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return silent
}

// news are the events since the last look, and how many rows were written.
func (w *watched) news(t *testing.T, doing string) (events []trailEvent, written int) {
	t.Helper()
	if silent := w.silent(t); len(silent) > 0 {
		t.Errorf("%s: writes to %q, and the trail has nothing of it", doing, silent)
	}
	if err := w.conn.QueryRow(t.Context(), `select count(*), coalesce(max(n), $1) from watch.writes where n > $1`, w.seen).Scan(&written, &w.seen); err != nil {
		t.Fatal(err)
	}
	rows, err := w.conn.Query(t.Context(), `
		select kind, actor, coalesce(client_id, ''), coalesce(remote_addr, ''), coalesce(request_id, ''), recorded_by,
		  coalesce((select array_agg(k order by k) from jsonb_object_keys(detail) k), '{}')
		from authz.audit_events where id not in (select id from watch.known) order by kind, client_id, id`)
	if err != nil {
		t.Fatal(err)
	}
	var e trailEvent
	var remote, request, role string
	if _, err := pgx.ForEachRow(rows, []any{&e.Kind, &e.Actor, &e.Client, &remote, &request, &role, &e.Details}, func() error {
		e.Details = slices.Clone(e.Details)
		events = append(events, e)
		if remote == "" && e.Actor != "server" && !slices.Contains(e.Details, "from") { // counted of many
			t.Errorf("%s: where %s is from is not told", doing, e)
		}
		if byClient := strings.HasPrefix(e.Actor, "client:"); byClient && request == "" && !slices.Contains(e.Details, "from") {
			t.Errorf("%s: %s has no request's ID", doing, e)
		}
		if role == "" {
			t.Errorf("%s: %s tells not who was logged in", doing, e)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.conn.Exec(t.Context(), `insert into watch.known select id from authz.audit_events on conflict do nothing`); err != nil {
		t.Fatal(err)
	}
	return events, written
}

// commandStep is an operator's command, and the events that it leaves; none: it changes
// nothing, and writes nothing.
type commandStep struct {
	command string
	want    []trailEvent
}

// tryCommands are all that write, in an order in which each has something to do, and all
// that read. Of what is in braces each is replaced by what an earlier one printed.
func tryCommands(operator string) []commandStep {
	by := func(kind, client, details string) []trailEvent {
		return []trailEvent{{kind, operator, client, fields(details)}}
	}
	const (
		jkt      = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
		created  = "allow_bearer auth_method dpop_keys grants introspects require_nonce token_format"
		resource = "allow_bearer allow_certificate_bound base_urls require_nonce routes scopes signing_alg token_ttl"
	)
	return []commandStep{
		{"audit keep", nil}, {"audit keep 180d", by("audit.retention_changed", "", "before keep_days")},
		{"resource create https://rates.test --scope rate,more --base-url https://api.test/rates --route {routes}", by("resource.created", "", resource)},
		{"resource update https://rates.test --ttl 5m", by("resource.updated", "", resource)},
		{"resource update https://rates.test --base-url ", by("resource.updated", "", resource)},
		{"resource list", nil}, {"resource show https://rates.test", nil},
		{"client create one --grant https://rates.test=rate --grant https://labels.test=label:create", by("client.created", "one", created+" credential")},
		{"client create signing --grant https://rates.test=rate --auth-method private_key_jwt --jwks {jwks}", by("client.created", "signing", created+" keys")},
		{"client create remote --grant https://rates.test=rate --auth-method private_key_jwt --jwks-uri https://keys.test/jwks.json", by("client.created", "remote", created+" jwks_uri")},
		{"client create tls --grant https://rates.test=rate --auth-method tls_client_auth --tls-san-dns tls.test", by("client.created", "tls", created+" tls")},
		{"client update tls --tls-san-dns other.test", by("client.updated", "tls", "from to")},
		{"client update tls --certificate-bound", by("client.updated", "tls", "from to")},
		{"client update signing --jwks {jwks}", by("client.updated", "signing", "keys")},
		{"client update signing --jwks-uri https://keys.test/jwks.json", by("client.updated", "signing", "jwks_uri")},
		{"client update one --dpop-keys enrolled", by("client.updated", "one", "dpop_keys")},
		{"client enroll-key one --jkt " + jkt, by("dpop_key.enrolled", "one", "by ends_at")},
		{"client keys one", nil}, {"client list", nil}, {"client show one", nil},
		{"client remove-key one " + jkt, by("dpop_key.removed", "one", "")},
		{"client rotate-secret one", by("client.secret_rotated", "one", "credential now others_end_at")},
		{"client rotate-secret one --now", by("client.secret_rotated", "one", "credential now others_end_at")},
		{"client secrets one", nil},
		{"client disable one", by("client.disabled", "one", "")},
		{"client enable one", by("client.enabled", "one", "")},
		{"token list --client service", nil},
		{"token revoke --jkt " + jkt + " --reason stolen", by("dpop_key.revoked", "", "reason")},
		{"token revoke --client one --reason stolen", by("client.tokens_revoked", "one", "reason")},
		{"token revoke --resource https://rates.test --reason stolen", by("resource.tokens_revoked", "", "reason")},
		{"token revoke {jti} --reason stolen", by("token.revoked", "service", "reason")},
		{"key list", nil},
		{"key rotate --now", append(by("signing_key.created", "", "alg kid sealed_by signs_from"), by("signing_key.revoked", "", "kid reason")...)},
		{"key rotate --alg EdDSA", by("signing_key.created", "", "alg kid sealed_by signs_from")},
		{"key retire {EdDSA} --last", by("signing_key.retired", "", "kid")},
		{"key revoke {ES256} --reason stolen", by("signing_key.revoked", "", "kid reason")},
		{"key reseal", by("signing_key.resealed", "", "kids sealed_by")},
		{"database status", nil},
		{"database moved --reason moved", by("database.moved", "", "reason")},
		{"client delete one", by("client.deleted", "one", "")},
		{"client delete signing", by("client.deleted", "signing", "")}, {"client delete remote", by("client.deleted", "remote", "")}, {"client delete tls", by("client.deleted", "tls", "")},
		{"resource delete https://rates.test", by("resource.deleted", "", "")},
		{"migrate --status", nil},
	}
}

// elsewhere are the commands that are not tried here, and why.
var elsewhere = map[string]string{
	"": "help", "client": "help", "resource": "help", "key": "help", "token": "help", "database": "help", "dpop-key": "help", "help": "help",
	"completion": "help", "completion bash": "help", "completion zsh": "help", "completion fish": "help", "completion powershell": "help",
	"version": "has no database", "healthcheck": "has no database", "curl": "a client's", "request": "a client's",
	"client new-key": "a client's", "dpop-key new": "a client's", "dpop-key endorse": "a client's", "dpop-key thumbprint": "a client's",
	"migrate": "changes the schema, and no row that is audited", "serve": "its endpoints are tried in another test", "dev": "runs the others",
	"database restored": "waits for minutes, and claims as moved does", "key destroy": "needs an HSM: see hsm_test.go",
	// What looks at the trail and the alerts is tested with them.
	"audit": "help", "audit query": "reads", "audit tail": "reads", "audit verify": "reads",
	"alerts": "help", "alerts list": "reads", "alerts show": "reads", "alerts ack": "has its event, alert.acknowledged", "client behaviour": "reads",
}

func TestEachOperatorsCommandLeavesItsEventAndNothingWithoutOne(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	i := s.start(t)
	s.token(t, i)                                                     // so that there is one to revoke, and a signing key
	if code, err := i.end(syscall.SIGTERM); err != nil || code != 0 { // it would make keys of its own
		t.Errorf("exit code %d, %v", code, err)
	}
	w := watchTables(t, s)
	if _, err := w.conn.Exec(t.Context(), `create table watch.known as select id from authz.audit_events; create unique index on watch.known (id)`); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	put := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	key := newDPoPKey(t)
	known := map[string]string{
		"{routes}": "GET /v1/{id} rate",
		"{jwks}":   put("keys.jwks", `{"keys": [`+withKID(t, key)+`]}`),
	}
	another := base64.StdEncoding.EncodeToString([]byte("another key, of 32 bytes as well"))
	env := append(w.env[:len(w.env):len(w.env)], "AUTHZ_KEY_ENCRYPTION_KEY="+w.secrets[0])
	tried := map[string]bool{}
	for _, step := range tryCommands(operatorEvent("").Actor) {
		var tokens []struct {
			JTI string `json:"jti"`
		}
		var keys []struct {
			KID, Alg, State string
		}
		if strings.Contains(step.command, "{jti}") {
			w.read(t, &tokens, "token", "list", "--client", w.client.id)
			known["{jti}"] = tokens[0].JTI
		}
		if strings.Contains(step.command, "{E") {
			w.read(t, &keys, "key", "list")
			for _, k := range keys {
				known["{"+k.Alg+"}"] = k.KID
			}
		}
		var args []string
		for _, arg := range strings.Split(step.command, " ") {
			if known[arg] != "" {
				arg = known[arg]
			}
			args = append(args, arg)
		}
		w.news(t, "before "+step.command)
		if step.command == "key reseal" {
			env[len(env)-1] = "AUTHZ_KEY_ENCRYPTION_KEY=" + another + "," + w.secrets[0]
		}
		runAuthz(t, w.program, env, args...)
		got, written := w.news(t, step.command)
		for _, e := range got {
			t.Logf("%-60.60s %s", step.command, e)
		}
		if diff := cmp.Diff(step.want, got, cmp.Comparer(func(a, b []string) bool { return slices.Equal(a, b) })); diff != "" {
			t.Errorf("%s (-want +got):\n%s", step.command, diff)
		}
		if step.want == nil && written > 0 {
			t.Errorf("%s writes %d rows", step.command, written)
		}
		tried[commandOf(step.command)] = true
	}
	// What the test looks for, it finds.
	if _, err := w.conn.Exec(t.Context(), `delete from authz.client_secrets`); err != nil {
		t.Fatal(err)
	}
	if silent := w.silent(t); !slices.Contains(silent, "client_secrets") {
		t.Errorf("a change without an event is not found: %q", silent)
	}
	for _, c := range commands((&program{}).root()) {
		name := strings.TrimPrefix(strings.TrimPrefix(c.CommandPath(), "authz"), " ")
		if !tried[name] && elsewhere[name] == "" {
			t.Errorf("authz %s is not tried: give it a step, or say in elsewhere why not", name)
		}
	}
}

// commandOf is a step's command without its arguments.
func commandOf(step string) string {
	words := strings.Fields(step)
	if words[0] == "migrate" {
		return words[0]
	}
	return strings.Join(words[:2], " ")
}

func (w *watched) read(t *testing.T, into any, args ...string) {
	t.Helper()
	if err := json.Unmarshal([]byte(runAuthz(t, w.program, w.env, append(args, "--json")...)), into); err != nil {
		t.Fatal(err)
	}
}

// withKID is a key's public JWK under the name of it.
func withKID(t *testing.T, key *dpopbind.Key) string {
	t.Helper()
	var jwk map[string]any
	if err := json.Unmarshal(key.PublicJWK(), &jwk); err != nil {
		t.Fatal(err)
	}
	maps.Copy(jwk, map[string]any{"kid": key.JKT(), "use": "sig", "alg": "ES256"})
	text, err := json.Marshal(jwk)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// All endpoints of a server, once each and once refused.
func TestEachEndpointLeavesItsEventAndNothingWithoutOne(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	first := s.register(t, "first", "--grant", testResource+"=label:create", "--dpop-keys", "first-use")
	w := watchTables(t, s)
	if _, err := w.conn.Exec(t.Context(), `create table watch.known as select id from authz.audit_events; create unique index on watch.known (id)`); err != nil {
		t.Fatal(err)
	}
	s.server = append(s.server, "AUTHZ_BEHAVIOUR=off") // it would tell of all this
	i := s.start(t)
	key, next := newDPoPKey(t), newDPoPKey(t)
	ask := func(path string, as credentials, by *dpopbind.Key, form url.Values, want int) map[string]any {
		t.Helper()
		proof := ""
		if by != nil {
			var err error
			if proof, err = by.Proof(http.MethodPost, s.issuer+path, time.Now(), dpopbind.ProofOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		status, answer := i.post(t, path, as, proof, form)
		if status != want {
			t.Fatalf("%s: %d %v", path, status, answer)
		}
		return answer
	}
	wrong := credentials{s.client.id, "wrong"}
	token, _ := ask("/oauth/token", s.client, key, tokenForm, 200)["access_token"].(string)
	ask("/oauth/token", first, key, tokenForm, 200)
	ask("/oauth/token", wrong, key, tokenForm, 401)
	ask("/oauth/token", first, next, tokenForm, 400) // not its key
	endorsement, err := key.Endorse(s.issuer, first.id, next.JKT(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	ask("/oauth/dpop-keys", first, next, url.Values{"endorsement": {endorsement}, "expires_in": {"0"}}, 200)
	ask("/oauth/dpop-keys", first, next, url.Values{"endorsement": {endorsement}}, 400)
	ask("/oauth/introspect", s.gateway, nil, url.Values{"token": {token}}, 200)
	ask("/oauth/introspect", wrong, nil, url.Values{"token": {token}}, 401)
	ask("/oauth/revoke", first, nil, url.Values{"token": {token}}, 400)
	ask("/oauth/revoke", s.client, nil, url.Values{"token": {token}}, 200)
	s.rotated(t, w)
	ask("/oauth/token", s.client, key, tokenForm, 401) // by a secret that has ended
	if code, err := i.end(syscall.SIGTERM); err != nil || code != 0 {
		t.Errorf("exit code %d, %v", code, err)
	}

	got, _ := w.news(t, "serving")
	for _, e := range got {
		t.Log(e)
	}
	const refused = "authenticated endpoint error reason"
	operator := operatorEvent("").Actor
	want := []trailEvent{
		{"client.secret_rotated", operator, "service", strings.Fields("credential now others_end_at")},
		{"credential.retired_used", "server", "service", strings.Fields("credential ended_at endpoint first_at times")},
		{"dpop_key.enrolled", "client:first", "first", strings.Fields("by")},
		{"dpop_key.enrolled", "client:first", "first", strings.Fields("by by_ends_at credential")},
		{"dpop_key.enrolment_refused", "client:first", "first", fields(refused + " credential offset_ms user_agent")},
		{"dpop_key.refused", "client:first", "first", strings.Fields("credential endpoint first_at times")},
		{"signing_key.created", "server", "", strings.Fields("alg kid sealed_by signs_from")},
		{"token.introspected", "client:gateway", "gateway", strings.Fields("active from to")},
		{"token.issued", "client:first", "first", strings.Fields("credential expires_at format offset_ms scope user_agent")},
		{"token.issued", "client:service", "service", strings.Fields("credential expires_at format offset_ms scope user_agent")},
		{"token.refused", "client:first", "first", fields(refused + " credential offset_ms user_agent")},
		{"token.refused", "server", "service", fields(refused + " offset_ms user_agent")},
		{"token.refused", "server", "service", fields(refused + " offset_ms user_agent")},
		{"token.revocation_refused", "client:first", "first", fields(refused + " credential user_agent")},
		{"token.revoked", "client:service", "service", fields("credential user_agent")},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// rotated ends the client's secret.
func (s *site) rotated(t *testing.T, w *watched) {
	t.Helper()
	runAuthz(t, s.program, s.env, "client", "rotate-secret", s.client.id, "--now")
}

func fields(text string) []string { return slices.Sorted(slices.Values(strings.Fields(text))) }
