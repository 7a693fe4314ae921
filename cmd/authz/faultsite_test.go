package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/cargokey/authz/dpopbind"
	"github.com/cargokey/authz/internal/faulttest"
	"github.com/cargokey/authz/internal/freeport"
	"github.com/cargokey/authz/internal/pgdev"
)

// serverLogin is the role that the servers of a faultSite log in as.
const serverLogin = "authz_app"

// faultSite is servers on a Postgres of their own, both of which a test may break.
type faultSite struct {
	t       *testing.T
	pg      *pgdev.Postgres
	standby *pgdev.Postgres // nil without one
	pooler  *pgdev.Pooler   // nil without one
	program string
	owner   []string // the environment of operators' commands
	world   *faulttest.World
	servers []*faultServer
	churn   *faulttest.Client // one of the world's that is disabled and enabled
	secrets []string
}

// faultServer is one server, which may be killed and started again where it was.
type faultServer struct {
	*process
	at   faulttest.Instance
	env  []string
	site *faultSite
}

// faultOptions are what the tests of faults differ in.
type faultOptions struct {
	postgres  pgdev.Options
	instances int
	pool      int // connections of each instance; 0: as many as there are without a word
	cutOff    bool
	standby   bool // a synchronous one, which comes after pg in the servers' URL
	pooler    int  // connections to Postgres of a PgBouncer that is before it; 0: none is
}

func newFaultSite(t *testing.T, o faultOptions) *faultSite {
	t.Helper()
	pg, err := pgdev.Start(t.Context(), o.postgres)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = pg.Thaw() // where a test ended before it did
		if err := pg.Stop(context.WithoutCancel(t.Context())); err != nil {
			t.Errorf("stopping Postgres: %v", err)
		}
	})
	s := &faultSite{t: t, pg: pg, program: installProgram(t, programFolder(t))}
	s.owner = environment(t, "AUTHZ_DATABASE_URL="+pg.URL())
	runAuthz(t, s.program, s.owner, "migrate")
	s.exec("create role " + serverLogin + " login in role authz_server")
	s.startBesides(o)

	const resource, callURL = "https://labels.test", "https://labels.test/labels"
	runAuthz(t, s.program, s.owner, "resource", "create", resource, "--scope", "label:create,label:read", "--base-url", resource, "--route", "POST /labels label:create")
	grant := []string{"--grant", resource + "=label:create"}
	s.churn = s.register("churn", grant...)
	services := []*faulttest.Client{s.churn, s.register("plain", grant...), s.registerKeyed("keyed", grant...),
		s.register("opaque", append(grant, "--token-format", "opaque")...)}
	gateway := s.register("gateway", "--introspects", resource)

	var instances []faulttest.Instance
	for range o.instances {
		instances = append(instances, faulttest.Instance{Public: freeport.Address(t), Internal: freeport.Address(t)})
	}
	s.world = faulttest.New(t, faulttest.Config{
		OwnerURL: s.ownerURL(), Issuer: "https://auth.test", Resource: resource, CallURL: callURL,
		Services: services, Gateway: gateway, Instances: instances, CutOff: o.cutOff,
	})
	for _, at := range instances {
		i := &faultServer{site: s, at: at, env: s.serverEnvironment(at, o.pool)}
		s.servers = append(s.servers, i)
		i.start()
	}
	return s
}

func (s *faultSite) serverEnvironment(at faulttest.Instance, pool int) []string {
	databaseURL := s.serverURL()
	if pool > 0 {
		databaseURL += "&pool_max_conns=" + strconv.Itoa(pool)
	}
	key := base64.StdEncoding.EncodeToString([]byte("0123456789abcdef0123456789abcdef"))
	s.secrets = append(s.secrets, key)
	return environment(s.t, "AUTHZ_DATABASE_URL="+databaseURL, "AUTHZ_KEY_ENCRYPTION_KEY="+key, "AUTHZ_ISSUER="+s.world.Issuer,
		"AUTHZ_LISTEN="+at.Public, "AUTHZ_INTERNAL_LISTEN="+at.Internal)
}

// start returns when the server says that it is ready.
func (i *faultServer) start() {
	i.site.t.Helper()
	i.process = startAuthz(i.site.t, i.site.program, i.env, "serve")
	if err := i.await(&i.errOut, `"msg":"ready"`); err != nil {
		i.site.t.Fatal(err)
	}
}

// kill9 ends it as a crash would, whatever it is doing.
func (i *faultServer) kill9() {
	i.site.t.Helper()
	if code, err := i.end(syscall.SIGKILL); err != nil || code != -1 {
		i.site.t.Fatalf("killed, it ends with %d, %v\n%s", code, err, &i.errOut)
	}
}

// readiness asks /readyz, and returns the status and what it says; 0 is no answer.
func (i *faultServer) readiness() (int, string) {
	return i.get("/readyz")
}

func (i *faultServer) get(path string) (int, string) {
	client := http.Client{Timeout: faulttest.Bound, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Get("http://" + i.at.Internal + path)
	if err != nil {
		return 0, err.Error()
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, err.Error()
	}
	return response.StatusCode, string(text)
}

// gauge reads a metric.
func (i *faultServer) gauge(name string) float64 {
	i.site.t.Helper()
	_, text := i.get("/metrics")
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			n, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil {
				i.site.t.Fatal(err)
			}
			return n
		}
	}
	i.site.t.Fatalf("there is no metric %s:\n%s", name, text)
	return 0
}

// exec runs a statement as the owner.
func (s *faultSite) exec(sql string) {
	s.t.Helper()
	if err := s.tryExec(sql); err != nil {
		s.t.Fatalf("%s: %v", sql, err)
	}
}

func (s *faultSite) tryExec(sql string) error {
	conn, err := pgx.Connect(s.t.Context(), s.ownerURL())
	if err != nil {
		return err
	}
	defer conn.Close(context.Background())
	_, err = conn.Exec(s.t.Context(), sql)
	return err
}

func (s *faultSite) connect() *pgx.Conn {
	s.t.Helper()
	conn, err := pgx.Connect(s.t.Context(), s.ownerURL())
	if err != nil {
		s.t.Fatal(err)
	}
	return conn
}

// awaitService returns when each instance has issued a token, and says that it is
// ready.
func (s *faultSite) awaitService() {
	s.t.Helper()
	plain := s.world.Services[1]
	for _, i := range s.servers {
		s.world.Await("a token of each instance", func() bool { return s.world.Token(i.at, plain) == http.StatusOK })
		s.world.Await("each instance to be ready", func() bool { status, _ := i.readiness(); return status == http.StatusOK })
	}
}

// settle ends the load, and holds what always holds over all that has happened.
func (s *faultSite) settle(stop func(), seed uint64) {
	s.t.Helper()
	stop()
	s.world.Replay(seed)
	s.world.Check()
}

// checkLogs looks for secrets in all that the servers have printed.
func (s *faultSite) checkLogs() {
	s.t.Helper()
	for _, i := range s.servers {
		printed := i.out.String() + i.errOut.String()
		for _, secret := range append(s.world.Secrets(), s.secrets...) {
			if strings.Contains(printed, secret) {
				s.t.Errorf("a secret of %d bytes is in the output of a server", len(secret))
			}
		}
	}
}

// long tells whether the tests of faults take the time that they would like.
func long() bool { return os.Getenv("AUTHZ_TEST_LONG") == "1" }

// faultSeed is of all random choices of a test; AUTHZ_TEST_SEED sets it.
func faultSeed(t *testing.T) uint64 {
	t.Helper()
	seed := rand.Uint64()
	if text := os.Getenv("AUTHZ_TEST_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("AUTHZ_TEST_SEED: %v", err)
		}
	}
	t.Logf("AUTHZ_TEST_SEED=%d", seed)
	return seed
}

// registerKeyed registers a client by private_key_jwt.
func (s *faultSite) registerKeyed(id string, flags ...string) *faulttest.Client {
	s.t.Helper()
	own, err := dpopbind.GenerateKey()
	if err != nil {
		s.t.Fatal(err)
	}
	file := filepath.Join(s.t.TempDir(), "public.jwks")
	if err := os.WriteFile(file, fmt.Appendf(nil, `{"keys":[%s]}`, own.PublicJWK()), 0o600); err != nil {
		s.t.Fatal(err)
	}
	c := s.register(id, append(flags, "--auth-method", "private_key_jwt", "--jwks", file)...)
	c.Own = own
	return c
}

func (s *faultSite) register(id string, flags ...string) *faulttest.Client {
	s.t.Helper()
	var made struct {
		Secret string `json:"client_secret"`
	}
	out := runAuthz(s.t, s.program, s.owner, append([]string{"client", "create", id, "--json"}, flags...)...)
	if err := json.Unmarshal([]byte(out), &made); err != nil {
		s.t.Fatal(err)
	}
	c := &faulttest.Client{ID: id, Secret: made.Secret}
	var err error
	if c.DPoP, err = dpopbind.GenerateKey(); err != nil {
		s.t.Fatal(err)
	}
	if made.Secret != "" {
		s.secrets = append(s.secrets, made.Secret)
	}
	return c
}
