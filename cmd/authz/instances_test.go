package main

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cargokey/authz/dpopbind"
	"github.com/cargokey/authz/internal/freeport"
	"github.com/cargokey/authz/internal/pgdev/pgtest"
)

// site is a database with a client and a gateway, and what instances need.
type site struct {
	program  string
	env      []string
	server   []string // the environment of "authz serve" but for its ports
	issuer   string   // of all instances: they are one server
	client   credentials
	gateway  credentials
	secrets  []string // all that must not be printed
	printers []*process

	ownerURL, serverURL string // of the database
}

type credentials struct{ id, secret string }

const testResource = "https://labels.test"

func newSite(t *testing.T) *site {
	t.Helper()
	db := pgtest.New(t)
	kek := base64.StdEncoding.EncodeToString([]byte("0123456789abcdef0123456789abcdef"))
	s := &site{
		program: installProgram(t, programFolder(t)),
		env:     environment(t, "AUTHZ_DATABASE_URL="+db.OwnerURL),
		issuer:  "https://auth.test",
		secrets: []string{kek},

		ownerURL: db.OwnerURL, serverURL: db.ServerURL,
	}
	s.server = environment(t, "AUTHZ_DATABASE_URL="+db.ServerURL, "AUTHZ_KEY_ENCRYPTION_KEY="+kek,
		"AUTHZ_ISSUER="+s.issuer, "AUTHZ_LOG_LEVEL=debug")
	for _, text := range []string{db.OwnerURL, db.ServerURL} {
		u, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		if password, ok := u.User.Password(); ok {
			s.secrets = append(s.secrets, password)
		}
	}
	runAuthz(t, s.program, s.env, "resource", "create", testResource, "--scope", "label:create")
	s.client = s.register(t, "service", "--grant", testResource+"=label:create")
	s.gateway = s.register(t, "gateway", "--introspects", testResource)
	return s
}

func (s *site) register(t *testing.T, id string, flags ...string) credentials {
	t.Helper()
	var made struct {
		Secret string `json:"client_secret"`
	}
	out := runAuthz(t, s.program, s.env, append([]string{"client", "create", id, "--json"}, flags...)...)
	if err := json.Unmarshal([]byte(out), &made); err != nil {
		t.Fatal(err)
	}
	s.secrets = append(s.secrets, made.Secret)
	return credentials{id, made.Secret}
}

// serving is one process of the server.
type serving struct {
	*process
	address string
}

func (s *site) start(t *testing.T) *serving {
	t.Helper()
	return s.startAt(t, freeport.Address(t))
}

func (s *site) startAt(t *testing.T, address string) *serving {
	t.Helper()
	env := append(s.server[:len(s.server):len(s.server)], "AUTHZ_LISTEN="+address, "AUTHZ_INTERNAL_LISTEN=127.0.0.1:0")
	p := startAuthz(t, s.program, env, "serve")
	s.printers = append(s.printers, p)
	if err := p.await(&p.errOut, `"msg":"ready"`); err != nil {
		t.Fatal(err)
	}
	return &serving{p, address}
}

// post sends a form as a client and returns the status and the answer.
func (i *serving) post(t *testing.T, path string, as credentials, proof string, form url.Values) (int, map[string]any) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+i.address+path, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.SetBasicAuth(as.id, as.secret)
	if proof != "" {
		request.Header.Set("DPoP", proof)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	return readAnswer(t, response)
}

func readAnswer(t *testing.T, response *http.Response) (int, map[string]any) {
	t.Helper()
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	answer := map[string]any{}
	if len(text) > 0 {
		if err := json.Unmarshal(text, &answer); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
	}
	return response.StatusCode, answer
}

func (s *site) proof(t *testing.T) (proof, jkt string) {
	t.Helper()
	key, err := dpopbind.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	if proof, err = key.Proof(http.MethodPost, s.issuer+"/oauth/token", time.Now(), dpopbind.ProofOptions{}); err != nil {
		t.Fatal(err)
	}
	s.secrets = append(s.secrets, proof)
	return proof, key.JKT()
}

var tokenForm = url.Values{"grant_type": {"client_credentials"}}

func (s *site) token(t *testing.T, at *serving) (token, proof, jkt string) {
	t.Helper()
	proof, jkt = s.proof(t)
	status, answer := at.post(t, "/oauth/token", s.client, proof, tokenForm)
	token, _ = answer["access_token"].(string)
	if status != http.StatusOK || token == "" {
		t.Fatalf("asking for a token: %d %v", status, answer)
	}
	s.secrets = append(s.secrets, token)
	return token, proof, jkt
}

// isActive asks an instance, and wants the key it is bound to where it is.
func (s *site) isActive(t *testing.T, at *serving, token, jkt string) bool {
	t.Helper()
	status, answer := at.post(t, "/oauth/introspect", s.gateway, "", url.Values{"token": {token}})
	if status != http.StatusOK {
		t.Fatalf("introspection: %d %v", status, answer)
	}
	if answer["active"] != true {
		return false
	}
	if confirm, _ := answer["cnf"].(map[string]any); confirm["jkt"] != jkt {
		t.Errorf("the token is bound to %v, want %s", confirm, jkt)
	}
	return true
}

// checkSilence looks for secrets in all that the instances printed.
func (s *site) checkSilence(t *testing.T) {
	t.Helper()
	if len(s.printers) == 0 || len(s.secrets) < 4 {
		t.Fatalf("%d secrets to look for in the output of %d processes", len(s.secrets), len(s.printers))
	}
	for _, p := range s.printers {
		text := p.out.String() + p.errOut.String()
		if p.out.String() != "" {
			t.Errorf("a server prints on standard output: %s", &p.out)
		}
		for _, secret := range s.secrets {
			if strings.Contains(text, secret) || strings.Contains(text, base64.StdEncoding.EncodeToString([]byte(secret))) {
				t.Errorf("the secret %q is in the output", secret)
			}
		}
	}
}

func TestInstancesAreOneServer(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	one, two := s.start(t), s.start(t)
	token, proof, jkt := s.token(t, one)
	if !s.isActive(t, two, token, jkt) {
		t.Error("a token of one instance is not active at the other")
	}
	if status, answer := two.post(t, "/oauth/token", s.client, proof, tokenForm); status != http.StatusBadRequest || answer["error"] != "invalid_dpop_proof" {
		t.Errorf("a proof that one instance accepted is answered by the other with %d %v", status, answer)
	}
	// What is wrong is logged, and what was sent is not.
	wrong := credentials{s.client.id, "azs_wrong-secret"}
	s.secrets = append(s.secrets, wrong.secret)
	if status, _ := one.post(t, "/oauth/token", wrong, proof, tokenForm); status != http.StatusUnauthorized {
		t.Errorf("a wrong secret is answered with %d", status)
	}

	if code, err := one.end(syscall.SIGKILL); err != nil || code != -1 {
		t.Fatalf("killed, it ends with %d, %v", code, err)
	}
	if !s.isActive(t, two, token, jkt) {
		t.Error("a token of an instance that was killed is not active at the other")
	}
	if status, answer := two.post(t, "/oauth/token", s.client, proof, tokenForm); status != http.StatusBadRequest || answer["error"] != "invalid_dpop_proof" {
		t.Errorf("a proof that a killed instance accepted is answered with %d %v", status, answer)
	}
	again := s.start(t)
	if status, _ := again.post(t, "/oauth/revoke", s.client, "", url.Values{"token": {token}}); status != http.StatusOK {
		t.Errorf("revocation is answered with %d", status)
	}
	if s.isActive(t, two, token, jkt) {
		t.Error("a token that was revoked at one instance is active at the other")
	}
	second, _, jkt := s.token(t, again)
	runAuthz(t, s.program, s.env, "client", "disable", s.client.id)
	for _, i := range []*serving{two, again} {
		if s.isActive(t, i, second, jkt) {
			t.Error("a token of a disabled client is active")
		}
		if code, err := i.end(syscall.SIGTERM); err != nil || code != 0 {
			t.Errorf("after SIGTERM it ends with %d, %v", code, err)
		}
	}
	s.checkSilence(t)
}

func TestSIGTERMLetsARequestUnderWayFinish(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	i := s.start(t)
	proof, _ := s.proof(t)
	var dialer net.Dialer
	conn, err := dialer.DialContext(t.Context(), "tcp", i.address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	body := tokenForm.Encode()
	basic := base64.StdEncoding.EncodeToString([]byte(s.client.id + ":" + s.client.secret))
	fmt.Fprintf(conn, "POST /oauth/token HTTP/1.1\r\nHost: auth.test\r\nAuthorization: Basic %s\r\nDPoP: %s\r\n"+
		"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\n\r\n%s", basic, proof, len(body), body[:5])
	time.Sleep(100 * time.Millisecond) // until the server waits for the rest

	began := time.Now()
	i.cmd.Process.Signal(syscall.SIGTERM)
	awaitRefusal(t, i.address)
	io.WriteString(conn, body[5:])
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatalf("the request under way is not answered: %v\n%s", err, &i.errOut)
	}
	status, answer := readAnswer(t, response)
	if status != http.StatusOK || answer["access_token"] == nil {
		t.Errorf("the request under way is answered with %d %v", status, answer)
	}
	code, err := i.wait()
	if err != nil || code != 0 {
		t.Errorf("it ends with %d, %v\n%s", code, err, &i.errOut)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("ending takes %s", took)
	}
	s.secrets = append(s.secrets, fmt.Sprint(answer["access_token"]))
	s.checkSilence(t)
}

// awaitRefusal returns when nothing listens at the address any more.
func awaitRefusal(t *testing.T, address string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var dialer net.Dialer
	for ctx.Err() == nil {
		conn, err := dialer.DialContext(ctx, "tcp", address)
		if err != nil {
			return
		}
		conn.Close()
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatal("it goes on listening after SIGTERM")
}

func TestARequestThatNeverEndsIsCutOffInTime(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes as long as stopping may")
	}
	t.Parallel()
	s := newSite(t)
	i := s.start(t)
	var dialer net.Dialer
	conn, err := dialer.DialContext(t.Context(), "tcp", i.address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, "POST /oauth/token HTTP/1.1\r\nHost: auth.test\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 99\r\n\r\n")
	time.Sleep(100 * time.Millisecond)
	began := time.Now()
	code, err := i.end(syscall.SIGTERM)
	if took := time.Since(began); err != nil || took > 11*time.Second {
		t.Errorf("ending takes %s, %v", took, err)
	}
	if code != 0 && !strings.Contains(i.errOut.String(), "were cut off") {
		t.Errorf("it ends with %d and does not say why:\n%s", code, &i.errOut)
	}
}
