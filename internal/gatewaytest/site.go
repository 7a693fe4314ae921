package gatewaytest

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/cargokey/authz/dpopbind"
	"github.com/cargokey/authz/internal/freeport"
	"github.com/cargokey/authz/internal/pgdev/pgtest"
)

const (
	sealingKey    = "0123456789abcdef0123456789abcdef" // nonces are derived from it, too
	resource      = "https://labels.carrier.test"
	otherResource = "https://tracking.carrier.test"
)

type credentials struct{ id, secret string }

// site is an authz server, an API, and a gateway between the API and clients.
type site struct {
	t        testing.TB
	gateway  Gateway
	dir      string
	authz    string   // the program
	operator []string // environment of the commands
	server   []string // environment of "authz serve"
	issuer   string
	internal string // the internal listener's address
	listen   string // the gateway's
	scheme   string // http, or https where the gateway ends TLS
	behind   *recorder

	asGateway                credentials
	service, reader, leaving credentials

	ways    ways
	serving *process
	front   *process
}

// newSite sets up everything but the gateway, as an operator would.
func newSite(t testing.TB, g Gateway) *site {
	t.Helper()
	db := pgtest.NewEmpty(t)
	public := freeport.Address(t)
	s := &site{
		t: t, gateway: g, dir: t.TempDir(), issuer: "http://" + public, internal: freeport.Address(t), listen: freeport.Address(t), scheme: "http",
		operator: environment("AUTHZ_DATABASE_URL=" + db.OwnerURL),
	}
	s.authz = build(t, s.dir, "github.com/cargokey/authz/cmd/authz")
	s.server = environment("AUTHZ_DATABASE_URL="+db.ServerURL, "AUTHZ_ISSUER="+s.issuer, "AUTHZ_LISTEN="+public,
		"AUTHZ_INTERNAL_LISTEN="+s.internal,
		"AUTHZ_KEY_ENCRYPTION_KEY="+base64.StdEncoding.EncodeToString([]byte(sealingKey)))
	s.run("migrate")
	s.run("resource", "create", resource, "--scope", "label:create,label:read", "--base-url", s.base())
	s.run("resource", "create", otherResource, "--scope", "track:read")
	s.asGateway = s.register("labels-gateway", "--introspects", resource)
	s.ways = newWays(s)
	s.server = append(s.server, s.ways.server...)
	both := resource + "=label:create,label:read"
	s.service = s.register("label-service", "--grant", both, "--grant", otherResource+"=track:read")
	s.reader = s.register("label-reader", "--grant", resource+"=label:read")
	s.leaving = s.register("label-leaver", "--grant", both)
	s.serve()
	return s
}

// base is the resource's base URL: where clients find the gateway.
func (s *site) base() string { return s.scheme + "://" + s.listen }

// run runs a command of authz to its end, which must be a success.
func (s *site) run(args ...string) string {
	s.t.Helper()
	cmd := exec.CommandContext(s.t.Context(), s.authz, args...)
	cmd.Env, cmd.Dir = s.operator, s.dir
	out, err := cmd.Output()
	if err != nil {
		s.t.Fatalf("authz %q: %v\n%s%s", args, err, out, stderrOf(err))
	}
	return string(out)
}

func stderrOf(err error) []byte {
	if exit, ok := err.(*exec.ExitError); ok {
		return exit.Stderr
	}
	return nil
}

func (s *site) register(id string, flags ...string) credentials {
	s.t.Helper()
	var made struct {
		Secret string `json:"client_secret"`
	}
	out := s.run(append([]string{"client", "create", id, "--json"}, flags...)...)
	if err := json.Unmarshal([]byte(out), &made); err != nil || made.Secret == "" {
		s.t.Fatalf("registering %s: %v\n%s", id, err, out)
	}
	return credentials{id, made.Secret}
}

// serve starts the server, anew if it runs.
func (s *site) serve(more ...string) {
	s.t.Helper()
	if s.serving != nil {
		s.serving.stop()
	}
	s.serving = start(s.t, s.dir, append(slices.Clone(s.server), more...), s.authz, "serve")
	s.serving.awaitListener(s.t, s.issuer[len("http://"):])
	s.serving.awaitListener(s.t, s.internal)
	s.serving.awaitListener(s.t, s.ways.mutualTLS)
}

// startAPI starts the example's API, which believes the gateway's assertion.
func (s *site) startAPI() {
	s.t.Helper()
	program := build(s.t, s.dir, "github.com/cargokey/authz/examples/carrier-api")
	address := freeport.Address(s.t)
	api := start(s.t, s.dir, environment(), program, "-behind-gateway", "-listen", address, "-issuer", s.issuer, "-resource", resource,
		"-base-url", s.base())
	api.awaitListener(s.t, address)
	s.behind = startRecorder(s.t, address)
}

// at is where the site's gateway is.
func (s *site) at(api string) At {
	s.t.Helper()
	dir := s.t.TempDir()
	// Started as root, a gateway may go on as another user.
	if err := os.Chmod(filepath.Dir(dir), 0o711); err != nil {
		s.t.Fatal(err)
	}
	return At{
		Dir: dir, Listen: s.listen, API: api, Verify: s.internal, Client: s.asGateway.id, Secret: s.asGateway.secret,
		Socket: s.ways.socket, MutualTLS: s.ways.mutualTLS, Certificates: s.ways.known,
	}
}

// startGateway starts the gateway, in place of the one that runs.
func (s *site) startGateway(at At) {
	s.t.Helper()
	s.startCommand(at, s.gateway.Prepare(s.t, at))
}

func (s *site) startCommand(at At, command Command) {
	s.t.Helper()
	if s.front != nil {
		s.front.stop()
	}
	program := s.gateway.requireProgram(s.t)
	home := filepath.Clean(at.Dir)
	env := append(environment("HOME="+home, "TMPDIR="+home), command.Env...)
	s.front = start(s.t, at.Dir, env, program, command.Args...)
	s.front.awaitListener(s.t, at.Listen)
	s.awaitRoutes()
}

// awaitRoutes returns when the gateway knows its routes. Traefik listens before.
func (s *site) awaitRoutes() {
	s.t.Helper()
	deadline := time.Now().Add(patience)
	ask := func() answer { return readLabel.send(s.t, s.listen) }
	if s.scheme == "https" {
		ask = func() answer { return readLabel.sendTLS(s.t, s.listen, nil) }
	}
	for ask().status == http.StatusNotFound {
		if time.Now().After(deadline) {
			s.t.Fatalf("%s has no route for %s:\n%s", s.gateway.Name, readLabel.target, &s.front.printed)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// holder is a client with a token that is bound to its key.
type holder struct {
	client string
	token  string
	key    *dpopbind.Key
}

// issue gets a token for a client, of all the scopes that it has.
func (s *site) issue(c credentials, of string) holder {
	s.t.Helper()
	h := holder{client: c.id, key: newKey(s.t)}
	client := s.client(c, of, h.key)
	token, err := client.Token(s.t.Context())
	if err != nil {
		s.t.Fatalf("asking for a token: %v", err)
	}
	h.token = token.AccessToken
	return h
}

func (s *site) client(c credentials, of string, key *dpopbind.Key) *dpopbind.Client {
	s.t.Helper()
	client, err := dpopbind.NewClient(dpopbind.ClientConfig{
		Issuer: s.issuer, ClientID: c.id, ClientSecret: c.secret, Resource: of, APIs: []string{s.base()}, Key: key,
	})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(client.CloseIdleConnections)
	return client
}

func newKey(t testing.TB) *dpopbind.Key {
	t.Helper()
	key, err := dpopbind.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// proof is for one request; the nonce may be "".
func (h holder) proof(t testing.TB, method, url, nonce string) string {
	t.Helper()
	proof, err := h.key.Proof(method, url, time.Now(), dpopbind.ProofOptions{AccessToken: h.token, Nonce: nonce})
	if err != nil {
		t.Fatal(err)
	}
	return proof
}

// bearing is a call with the holder's token and this proof.
func (h holder) bearing(c call, proof string) call {
	return c.with(field{"Authorization", "DPoP " + h.token}, field{"DPoP", proof})
}

// good is a call as it should be.
func (s *site) good(h holder, c call) call {
	s.t.Helper()
	return h.bearing(c, h.proof(s.t, c.method, s.base()+c.target, ""))
}
