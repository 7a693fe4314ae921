package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/cargokey/authz/authz"
	"github.com/cargokey/authz/dpopbind"
	"github.com/cargokey/authz/internal/clientcert/certtest"
	"github.com/cargokey/authz/jwks"
	"github.com/cargokey/authz/storage/postgres"
)

// theft is what the commands of one script of a theft share.
type theft struct {
	page   theftPage
	typed  map[int]bool // the blocks of the page
	server string       // the process that serves
	starts int
	issuer *certtest.Authority
	backup []jwks.SealedKey
	stolen *jwks.Set
}

type theftKey struct{}

// thiefCommands are the commands of scripts of thefts, which are named for their pages.
func thiefCommands(pageOf func(name string) theftPage) map[string]func(*testscript.TestScript, bool, []string) {
	commands := map[string]func(*testscript.TestScript, bool, []string){}
	for name, f := range map[string]func(*theft, *testscript.TestScript, bool, []string){
		"page": (*theft).pageCommand, "site": (*theft).siteCommand, "serve": (*theft).serveCommand,
		"backup": (*theft).backupCommand, "unseal": (*theft).unsealCommand, "forge": (*theft).forgeCommand,
		"believed": (*theft).believedCommand, "active": (*theft).activeCommand, "nonced": (*theft).noncedCommand,
		"authority": (*theft).authorityCommand, "certificate": (*theft).certificateCommand,
		"certified": (*theft).certifiedCommand, "shown": (*theft).shownCommand,
	} {
		commands[name] = func(ts *testscript.TestScript, neg bool, args []string) {
			th := ts.Value(theftKey{}).(*theft)
			th.page = pageOf(ts.Name())
			f(th, ts, neg, args)
		}
	}
	return commands
}

// succeeds holds that an attempt succeeds or, with "!", that it does not.
func succeeds(ts *testscript.TestScript, neg bool, err error) {
	switch {
	case err != nil && !neg:
		ts.Fatalf("it fails: %v", err)
	case err == nil && neg:
		ts.Fatalf("it succeeds")
	}
}

// site: a database with one client and one gateway, as $CLIENT, $SECRET, $GATEWAY and
// $GATEWAY_SECRET, and all that "authz serve" needs.
func (th *theft) siteCommand(ts *testscript.TestScript, neg bool, args []string) {
	want(ts, neg, len(args) == 0, "site")
	databaseCommand(ts, false, nil)
	freePortCommand(ts, false, []string{"PORT", "INTERNAL"})
	for name, value := range map[string]string{
		"CLIENT": "label-service", "GATEWAY": "edge-gateway", "RESOURCE": "https://labels.test",
		"AUTHZ_ISSUER": "http://127.0.0.1:" + ts.Getenv("PORT"), "AUTHZ_LISTEN": "127.0.0.1:" + ts.Getenv("PORT"),
		"AUTHZ_INTERNAL_LISTEN":    "127.0.0.1:" + ts.Getenv("INTERNAL"),
		"AUTHZ_KEY_ENCRYPTION_KEY": base64.StdEncoding.EncodeToString([]byte("the first sealing key, 32 bytes.")),
	} {
		ts.Setenv(name, value)
	}
	ts.Check(ts.Exec("authz", "resource", "create", "https://labels.test", "--scope", "label:read", "--allow-bearer"))
	ts.Check(ts.Exec("authz", "client", "create", "label-service", "--grant", "https://labels.test=label:read", "--allow-bearer", "--json"))
	captureCommand(ts, false, []string{"SECRET", "stdout", "client_secret"})
	ts.Check(ts.Exec("authz", "client", "create", "edge-gateway", "--introspects", "https://labels.test", "--json"))
	captureCommand(ts, false, []string{"GATEWAY_SECRET", "stdout", "client_secret"})
}

// serve: starts the server, or restarts it with the variables of now.
func (th *theft) serveCommand(ts *testscript.TestScript, neg bool, args []string) {
	want(ts, neg, len(args) == 0, "serve")
	if th.server != "" {
		endCommand(ts, false, []string{th.server, "TERM", "0"})
	}
	th.starts++
	th.server = fmt.Sprintf("server%d", th.starts)
	ts.Setenv("AUTHZ_DATABASE_URL", ts.Getenv("SERVER_URL"))
	backgroundCommand(ts, false, []string{th.server, "authz", "serve"})
	ts.Setenv("AUTHZ_DATABASE_URL", ts.Getenv("OWNER_URL"))
	awaitCommand(ts, false, []string{th.server, "stderr", `"msg":"ready"`})
}

// backup: the thief has the signing keys as they lie in the database.
func (th *theft) backupCommand(ts *testscript.TestScript, neg bool, args []string) {
	want(ts, neg, len(args) == 0, "backup")
	ctx := context.Background()
	store, err := postgres.Open(ctx, ts.Getenv("OWNER_URL"))
	ts.Check(err)
	defer store.Close()
	th.backup, err = store.SigningKeys(ctx)
	ts.Check(err)
}

// unseal SEALING_KEY: opens the keys of the backup that sign, of each algorithm.
func (th *theft) unsealCommand(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: unseal SEALING_KEY")
	}
	sealing, err := base64.StdEncoding.DecodeString(args[0])
	ts.Check(err)
	sealer, err := jwks.NewSealer(sealing)
	ts.Check(err)
	var opened []*jwks.Key
	for _, sealed := range th.backup {
		if !sealed.RevokedAt.IsZero() {
			continue
		}
		key, err := sealer.Open(sealed)
		if err != nil {
			succeeds(ts, neg, err)
			return
		}
		opened = append(opened, key)
	}
	th.stolen, err = jwks.NewSet(opened)
	succeeds(ts, neg, err)
}

// forge FILE: writes a token of the thief's own making, signed by a key that he has.
func (th *theft) forgeCommand(ts *testscript.TestScript, neg bool, args []string) {
	want(ts, neg, len(args) == 1 && th.stolen != nil, "forge FILE, with what was unsealed")
	at := time.Now()
	claims, err := json.Marshal(map[string]any{
		"iss": ts.Getenv("AUTHZ_ISSUER"), "sub": "label-service", "client_id": "label-service", "aud": "https://labels.test",
		"scope": "label:read", "iat": at.Unix(), "exp": at.Add(time.Hour).Unix(), "jti": authz.NewJTI(at),
	})
	ts.Check(err)
	token, _, err := th.stolen.Sign(at, jwks.ES256, jwks.TypeAccessToken, claims)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(token), 0o600))
}

// believed FILE: who reads the server's JWKS now takes the token in the file.
func (th *theft) believedCommand(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: believed FILE")
	}
	time.Sleep(1100 * time.Millisecond) // for so long the JWKS may be the one before
	response, err := httpClient(ts, "").Get(ts.Getenv("AUTHZ_ISSUER") + "/.well-known/jwks.json")
	ts.Check(err)
	defer response.Body.Close()
	var set jose.JSONWebKeySet
	ts.Check(json.NewDecoder(response.Body).Decode(&set))
	token, err := jose.ParseSignedCompact(strings.TrimSpace(ts.ReadFile(args[0])), []jose.SignatureAlgorithm{jose.ES256})
	ts.Check(err)
	_, err = token.Verify(set)
	succeeds(ts, neg, err)
}

// active FILE [GATEWAY SECRET]: introspection finds the token in the file active, asked
// by the site's gateway or by the one given.
func (th *theft) activeCommand(ts *testscript.TestScript, neg bool, args []string) {
	id, secret := ts.Getenv("GATEWAY"), ts.Getenv("GATEWAY_SECRET")
	if len(args) == 3 {
		id, secret = args[1], args[2]
	} else if len(args) != 1 {
		ts.Fatalf("usage: active FILE [GATEWAY SECRET]")
	}
	status, body := postForm(ts, httpClient(ts, ""), ts.Getenv("AUTHZ_ISSUER"), "/oauth/introspect", func(r *http.Request) {
		r.SetBasicAuth(id, secret)
	}, url.Values{"token": {strings.TrimSpace(ts.ReadFile(args[0]))}})
	succeeds(ts, neg, isActive(status, body))
}

func isActive(status int, body []byte) error {
	var answer struct{ Active bool }
	if err := json.Unmarshal(body, &answer); err != nil || status != http.StatusOK || !answer.Active {
		return fmt.Errorf("%d %s %w", status, body, err)
	}
	return nil
}

func postForm(ts *testscript.TestScript, client *http.Client, base, path string, edit func(*http.Request), form url.Values) (int, []byte) {
	r, err := http.NewRequest(http.MethodPost, base+path, strings.NewReader(form.Encode()))
	ts.Check(err)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	edit(r)
	response, err := client.Do(r)
	ts.Check(err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	ts.Check(err)
	return response.StatusCode, body
}

// nonced NONCE_SECRET: the client's own credentials and key get a token with a nonce
// that was made by this secret, and not by the server.
func (th *theft) noncedCommand(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: nonced NONCE_SECRET")
	}
	secret, err := base64.StdEncoding.DecodeString(args[0])
	ts.Check(err)
	nonces, err := dpopbind.NewNonces(dpopbind.NonceConfig{Secrets: [][]byte{secret}})
	ts.Check(err)
	key, err := dpopbind.GenerateKey()
	ts.Check(err)
	proof, err := key.Proof(http.MethodPost, ts.Getenv("AUTHZ_ISSUER")+"/oauth/token", time.Now(), dpopbind.ProofOptions{Nonce: nonces.Current()})
	ts.Check(err)
	status, body := postForm(ts, httpClient(ts, ""), ts.Getenv("AUTHZ_ISSUER"), "/oauth/token", func(r *http.Request) {
		r.SetBasicAuth(ts.Getenv("CLIENT"), ts.Getenv("SECRET"))
		r.Header.Set("DPoP", proof)
	}, url.Values{"grant_type": {"client_credentials"}})
	if status != http.StatusOK {
		err = fmt.Errorf("%d %s", status, body)
	}
	if neg && !strings.Contains(string(body), `"use_dpop_nonce"`) {
		ts.Fatalf("it is not challenged: %d %s", status, body)
	}
	succeeds(ts, neg, err)
}
