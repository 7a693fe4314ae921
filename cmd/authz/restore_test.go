package main

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cargokey/authz/dpopbind"
	"github.com/cargokey/authz/internal/pgdev"
	"github.com/cargokey/authz/internal/pgdev/pgtest"
)

// lost is what a site goes through of which its backup knows the first part only.
type lost struct {
	*upgrade
	dir, program string
	key          *dpopbind.Key
	// spent and unknown are proofs that were used before the backup and after it;
	// revoked and later are tokens of then, the first revoked after it.
	spent, unknown, revoked, later string
	kid                            string
}

// newLost serves from a database, which is migrated here.
func newLost(t *testing.T, owner, server string) *lost {
	t.Helper()
	program := installProgram(t, programFolder(t))
	kek := base64.StdEncoding.EncodeToString([]byte("0123456789abcdef0123456789abcdef"))
	// Proofs live for so long that it is not their age for which they are refused.
	common := []string{"AUTHZ_KEY_ENCRYPTION_KEY=" + kek, "AUTHZ_PROOF_LIFETIME=10m", "AUTHZ_ISSUER=https://auth.test"}
	s := &site{
		program: program, issuer: "https://auth.test", secrets: []string{kek},
		env:    inPath(environment(t, append(common, "AUTHZ_DATABASE_URL="+owner)...), filepath.Dir(program)),
		server: environment(t, append(common, "AUTHZ_DATABASE_URL="+server)...),
	}
	runAuthz(t, program, s.env, "migrate")
	runAuthz(t, program, s.env, "resource", "create", testResource, "--scope", "label:create", "--base-url", testResource)
	s.client = s.register(t, "service", "--grant", testResource+"=label:create")
	s.gateway = s.register(t, "gateway", "--introspects", testResource)
	return &lost{upgrade: &upgrade{site: s}, dir: t.TempDir(), program: program, key: newKey(t)}
}

func (l *lost) proof(t *testing.T) string {
	t.Helper()
	proof, err := l.key.Proof(http.MethodPost, l.issuer+"/oauth/token", time.Now(), dpopbind.ProofOptions{})
	if err != nil {
		t.Fatal(err)
	}
	l.secrets = append(l.secrets, proof)
	return proof
}

func (l *lost) token(t *testing.T, proof string) string {
	t.Helper()
	answer, err := l.postForm(t, "/oauth/token", l.client, proof, tokenForm)
	if err != nil {
		t.Fatal(err)
	}
	token, _ := answer["access_token"].(string)
	l.secrets = append(l.secrets, token)
	return token
}

// isGood holds that introspection and a gateway's check both find a token active,
// or not.
func (l *lost) isGood(t *testing.T, when, token string, want bool) {
	t.Helper()
	answer, err := l.postForm(t, "/oauth/introspect", l.gateway, "", url.Values{"token": {token}})
	if err != nil || answer["active"] != want {
		t.Errorf("%s: introspection: %v, %v", when, answer, err)
	}
	if status, err := l.verify(t, l.key, token); err != nil || (status == http.StatusOK) != want {
		t.Errorf("%s: a call: %d, %v", when, status, err)
	}
}

func (l *lost) beforeTheBackup(t *testing.T) *rolling {
	t.Helper()
	instance := l.start(t, l.program)
	l.spent = l.proof(t)
	l.revoked = l.token(t, l.spent)
	l.isGood(t, "at first", l.revoked, true)
	return instance
}

func (l *lost) afterTheBackup(t *testing.T) {
	t.Helper()
	l.unknown = l.proof(t)
	l.later = l.token(t, l.unknown)
	l.isGood(t, "after the backup", l.later, true)
	if _, err := l.postForm(t, "/oauth/revoke", l.client, "", url.Values{"token": {l.revoked}}); err != nil {
		t.Fatal(err)
	}
	l.isGood(t, "revoked", l.revoked, false)
	l.kid = signerOf(t, l.revoked)
}

func signerOf(t *testing.T, token string) string {
	t.Helper()
	header, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[0])
	kid := regexp.MustCompile(`"kid":"([^"]+)"`).FindStringSubmatch(string(header))
	if err != nil || kid == nil {
		t.Fatalf("%s: %v", header, err)
	}
	return kid[1]
}

// restored types what stands under "Either way" on the database that was restored,
// from which no server has served until then, and holds what is worth what after it.
func (l *lost) restored(t *testing.T, owner, server string) {
	t.Helper()
	l.env = append(l.env, "AUTHZ_DATABASE_URL="+owner)
	l.site.server = append(l.site.server, "AUTHZ_DATABASE_URL="+server)
	refused := startAuthz(t, l.program, append(l.site.server, "AUTHZ_LISTEN=127.0.0.1:0", "AUTHZ_INTERNAL_LISTEN=127.0.0.1:0"), "serve")
	if code, err := refused.wait(); err != nil || code == 0 || !strings.Contains(refused.errOut.String(), "the database is a copy") {
		t.Errorf("a server on a copy: exit code %d, %v\n%s", code, err, &refused.errOut)
	}
	if code, err := startAuthz(t, l.program, l.env, "database", "status").wait(); err != nil || code == 0 {
		t.Errorf("the state of a copy: exit code %d, %v", code, err)
	}

	page := sectionOf(t, "### Either way")
	printed := shell(t, l.dir, l.env, page.next(t, "sh", nil))
	for _, says := range []string{"the database that is served", "all tokens from before are inactive", "is lost. Look for it", "nothing is accepted that was signed before"} {
		if !strings.Contains(printed, says) {
			t.Errorf("it does not say %q:\n%s", says, printed)
		}
	}
	runAuthz(t, l.program, l.env, "database", "status")

	instance := l.start(t, l.program)
	for when, proof := range map[string]string{"spent before the backup": l.spent, "spent after it": l.unknown} {
		answer, err := l.postForm(t, "/oauth/token", l.client, proof, tokenForm)
		if err == nil || !strings.Contains(err.Error(), "invalid_dpop_proof") {
			t.Errorf("a proof that was %s: %v, %v", when, answer, err)
		}
	}
	l.isGood(t, "revoked after the backup", l.revoked, false)
	l.isGood(t, "issued after the backup", l.later, false)
	fresh := l.token(t, l.proof(t))
	l.isGood(t, "issued after the restoring", fresh, true)
	if signerOf(t, fresh) == l.kid {
		t.Error("it is signed by the key of before")
	}
	l.drain(t, instance)
	l.checkSilence(t)
}

// heldSpent tells that the restored database itself knows the proof from before the
// backup, whatever is refused for its time, and not the one from after it.
func heldSpent(t *testing.T, databaseURL string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	var spent, tokens, revoked int
	err = conn.QueryRow(t.Context(), `select (select count(*) from authz.spent_proofs), count(*), count(revoked_at) from authz.tokens`).Scan(&spent, &tokens, &revoked)
	// The proofs of the token and of the call with it.
	if err != nil || spent != 2 || tokens != 1 || revoked != 0 {
		t.Errorf("the backup has %d spent proofs and %d tokens, %d of them revoked; %v", spent, tokens, revoked, err)
	}
}

func TestRestoringADumpAsWrittenBringsNothingBackToLife(t *testing.T) {
	t.Parallel()
	needs(t, "bash", "pg_dump", "pg_restore")
	backup, restore := sectionOf(t, "## Back up"), sectionOf(t, "### From a dump")
	db := pgtest.NewEmpty(t)
	l := newLost(t, db.OwnerURL, db.ServerURL)
	instance := l.beforeTheBackup(t)
	shell(t, l.dir, l.env, backup.next(t, "sh", nil))
	backup.typed = len(backup.blocks) // the rest is another test's
	l.afterTheBackup(t)
	l.drain(t, instance)

	u, err := url.Parse(db.OwnerURL)
	if err != nil {
		t.Fatal(err)
	}
	name := strings.TrimPrefix(u.Path, "/") + "_restored"
	owner := asRole(t, db.OwnerURL, u.User.Username(), name)
	server := strings.Replace(db.ServerURL, u.Path, "/"+name, 1)
	words := map[string]string{"authz_restored": name, "authz_owner": u.User.Username(), "RESTORED_URL": owner}
	execute(t, db.OwnerURL, restore.next(t, "sql", words))
	t.Cleanup(func() {
		conn, err := pgx.Connect(context.Background(), db.OwnerURL)
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close(context.Background())
		if _, err := conn.Exec(context.Background(), "drop database "+name+" with (force)"); err != nil {
			t.Error(err)
		}
	})
	shell(t, l.dir, l.env, restore.next(t, "sh", words))
	heldSpent(t, owner)
	l.restored(t, owner, server)
}

func TestRecoveringToAPointInTimeAsWrittenBringsNothingBackToLife(t *testing.T) {
	t.Parallel()
	needs(t, "bash", "pg_basebackup")
	backup, restore := sectionOf(t, "## Back up"), sectionOf(t, "### To a point in time")
	backup.typed = 1 // another test's
	// Whoever runs Postgres reaches it, and for root that is another user.
	dir, err := os.MkdirTemp("", "authz-restore")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	archive, base, home := filepath.Join(dir, "archive"), filepath.Join(dir, "base"), filepath.Join(dir, "home")
	for path, mode := range map[string]os.FileMode{dir: 0o755, archive: 0o777, home: 0o755} {
		if err := os.MkdirAll(path, mode); err != nil || os.Chmod(path, mode) != nil {
			t.Fatal(err)
		}
	}
	words := map[string]string{"ARCHIVE": archive, "BASE": base, "DATA": filepath.Join(home, "data")}
	primary := privatePostgres(t, pgdev.Options{Settings: settingsOf(t, backup.next(t, "ini", words))})
	execute(t, primary.URL(), `create role authz_server nologin; create role authz_app login in role authz_server`)
	l := newLost(t, primary.URL(), asRole(t, primary.URL(), "authz_app", "authz"))
	words["REPLICATION_URL"] = primary.URL()
	shell(t, l.dir, l.env, backup.next(t, "sh", words))
	instance := l.beforeTheBackup(t)
	words["MOMENT"] = queried(t, primary.URL(), `select clock_timestamp()::text`)
	l.afterTheBackup(t)
	l.drain(t, instance)
	awaitArchived(t, primary.URL())
	if err := primary.Kill(); err != nil {
		t.Fatal(err)
	}

	if err := os.Mkdir(filepath.Join(home, "data"), 0o700); err != nil {
		t.Fatal(err)
	}
	shell(t, l.dir, l.env, restore.next(t, "sh", words))
	ownLike(t, archive, filepath.Join(home, "data"))
	settings := settingsOf(t, restore.next(t, "ini", words))
	recovered := privatePostgres(t, pgdev.Options{Dir: home, Settings: settings})
	awaitPromoted(t, recovered.URL())
	heldSpent(t, recovered.URL())
	l.restored(t, recovered.URL(), asRole(t, recovered.URL(), "authz_app", "authz"))

	// What was said holds when the lines are taken out, and Postgres is restarted.
	if err := recovered.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	again := privatePostgres(t, pgdev.Options{Dir: home})
	runAuthz(t, l.program, append(l.env, "AUTHZ_DATABASE_URL="+again.URL()), "database", "status")
}

// settingsOf reads lines as they are in postgresql.conf.
func settingsOf(t *testing.T, text string) map[string]string {
	t.Helper()
	settings := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^(\w+) = '(.*)'$`).FindAllStringSubmatch(text, -1) {
		settings[m[1]] = m[2]
	}
	if len(settings) != 3 {
		t.Fatalf("settings: %q", settings)
	}
	return settings
}

func queried(t *testing.T, databaseURL, sql string) (answer string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	if err := conn.QueryRow(t.Context(), sql).Scan(&answer); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return answer
}

// awaitArchived returns once all WAL of now is in the archive.
func awaitArchived(t *testing.T, databaseURL string) {
	t.Helper()
	segment := queried(t, databaseURL, `select pg_walfile_name(pg_switch_wal())`)
	for queried(t, databaseURL, fmt.Sprintf(`select coalesce(last_archived_wal >= '%s', false)::text from pg_stat_archiver`, segment)) != "true" {
		time.Sleep(5 * time.Millisecond)
	}
}

func awaitPromoted(t *testing.T, databaseURL string) {
	t.Helper()
	for queried(t, databaseURL, `select pg_is_in_recovery()::text`) != "false" {
		time.Sleep(5 * time.Millisecond)
	}
}

// ownLike gives a folder to whom the files in another one belong: Postgres' user.
func ownLike(t *testing.T, model, folder string) {
	t.Helper()
	files, err := os.ReadDir(model)
	if err != nil || len(files) == 0 {
		t.Fatalf("nothing was archived: %v", err)
	}
	info, err := files[0].Info()
	if err != nil {
		t.Fatal(err)
	}
	owner := info.Sys().(*syscall.Stat_t)
	err = filepath.WalkDir(folder, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, int(owner.Uid), int(owner.Gid))
	})
	if err != nil {
		t.Fatal(err)
	}
}
