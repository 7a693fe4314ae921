// Package gatewaytest puts a gateway with its example's configuration in front
// of an API, asks a real authz server about each request, and tries what an
// attacker would: everything runs as processes of its own, over real sockets.
//
// A gateway's folder in examples/gateway has one test file:
//
//	func TestMain(m *testing.M)           { pgtest.Main(m) }
//	func TestGateway(t *testing.T)        { gatewaytest.Test(t, gateway()) }
//	func TestCertificates(t *testing.T)   { gatewaytest.TestCertificates(t, gateway()) } // where it can
//	func BenchmarkGateway(b *testing.B)   { gatewaytest.Benchmark(b, gateway()) }
//
// Both are skipped, saying so, where the gateway's program is not installed,
// unless AUTHZ_TEST_GATEWAYS names the gateway (comma-separated): then its
// absence is a failure.
package gatewaytest

import (
	"encoding/base64"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// Gateway says how a gateway is run with its example's configuration.
type Gateway struct {
	// Name is the gateway's in AUTHZ_TEST_GATEWAYS and in the benchmark.
	Name string
	// Program is looked for in PATH.
	Program string
	// Prepare writes the example's configuration into at.Dir, with at's
	// addresses and secret in place of the documented ones (see Replace), and
	// returns how the program is started with it. The program must stay in the
	// foreground and end at SIGTERM.
	Prepare func(t testing.TB, at At) Command
	// Amend changes what a case must be answered with, where this gateway
	// differs and its README.md says so. Nil: it differs nowhere.
	Amend func(name string, want *Want)
	// Forged are headers besides those of every gateway that a client may
	// send in order to be taken for the gateway, without a value's influence
	// being known: each is sent with the URL, the path or the method of another
	// request.
	Forged []string
	// Broken are configurations, by what is wrong with them, in which the
	// gateway's own part of the check fails. None may let a call through.
	Broken map[string]func(t testing.TB, at At) Command
}

// At is where one gateway is, and what it has to know.
type At struct {
	Dir    string // a folder of its own, empty
	Listen string // host:port to listen on by http; the resource's base URL is http://Listen
	API    string // host:port of the API behind it
	Verify string // host:port of the authz server's internal listener
	Client string // the gateway's client_id
	Secret string // and its client_secret
	// Other ways to the server's check, where it takes the listener's word for
	// who is there and needs no secret.
	Socket       string // this gateway's Unix socket
	MutualTLS    string // host:port for gateways with certificates
	Certificates Certificates
	// TLS are the files of a certificate by which the gateway ends TLS itself, and
	// asks for certificates without verifying them; none: it listens by http.
	TLS Certificates
	// Unchecked asks for the configuration without the check: what the
	// benchmark compares with.
	Unchecked bool
}

// BasicCredentials is what follows "Basic " in X-Gateway-Authorization.
func (a At) BasicCredentials() string {
	return base64.StdEncoding.EncodeToString([]byte(a.Client + ":" + a.Secret))
}

// Command is how a gateway is started, besides its Program's name.
type Command struct {
	Args []string
	Env  []string // added to PATH, HOME and TMPDIR, which is At.Dir
}

// Want is what a case must be answered with.
type Want struct {
	// Statuses are those that will do.
	Statuses []int
	// Error is the error code in a DPoP challenge: "-" for a challenge without
	// one, "" for no challenge at all (or, where the gateway itself refuses, any).
	Error string
	// Scope is that of the challenge.
	Scope string
	// Skip, when set, is why this gateway cannot be held to the case.
	Skip string
}

// ReadFile reads a file of the example's folder, which is the test's own.
func ReadFile(t testing.TB, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Replace replaces each old by its new, everywhere, in one pass. It fails t
// where an old is not there: the configuration is then not the documented one.
func Replace(t testing.TB, text string, oldnew ...string) string {
	t.Helper()
	for i := 0; i < len(oldnew); i += 2 {
		if !strings.Contains(text, oldnew[i]) {
			t.Fatalf("the configuration has no %q to replace", oldnew[i])
		}
	}
	return strings.NewReplacer(oldnew...).Replace(text)
}

// WriteFile writes a file that only this user can read.
func WriteFile(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// requireProgram returns the program's path, or skips t.
func (g Gateway) requireProgram(t testing.TB) string {
	t.Helper()
	path, err := exec.LookPath(g.Program)
	if err == nil {
		return path
	}
	if slices.Contains(strings.Split(os.Getenv("AUTHZ_TEST_GATEWAYS"), ","), g.Name) {
		t.Fatalf("AUTHZ_TEST_GATEWAYS names %s, and %s is not installed: %v", g.Name, g.Program, err)
	}
	t.Skipf("%s is not installed; AUTHZ_TEST_GATEWAYS=%s would make this a failure", g.Program, g.Name)
	return ""
}
