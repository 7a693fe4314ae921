package envoy

import (
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cargokey/authz/internal/gatewaytest"
	"github.com/cargokey/authz/internal/pgdev/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func TestGateway(t *testing.T) {
	g := envoy(bySecret)
	g.Broken = map[string]func(testing.TB, gatewaytest.At) gatewaytest.Command{
		"LABELS_GATEWAY_BASIC is not set": func(t testing.TB, at gatewaytest.At) gatewaytest.Command {
			command := g.Prepare(t, at)
			command.Env = nil
			return command
		},
	}
	gatewaytest.Test(t, g)
}

func TestGatewayBySocket(t *testing.T) { gatewaytest.Test(t, envoy(bySocket)) }

func TestGatewayByCertificate(t *testing.T) { gatewaytest.Test(t, envoy(byCertificate)) }

func BenchmarkGateway(b *testing.B) { gatewaytest.Benchmark(b, envoy(bySecret)) }

func BenchmarkGatewayBySocket(b *testing.B) { gatewaytest.Benchmark(b, envoy(bySocket)) }

func BenchmarkGatewayByCertificate(b *testing.B) { gatewaytest.Benchmark(b, envoy(byCertificate)) }

// envoy is the example with a way for it to authenticate at authz.
func envoy(authenticate func(testing.TB, string, gatewaytest.At) string) gatewaytest.Gateway {
	return gatewaytest.Gateway{
		Name: "envoy", Program: "envoy",
		Prepare: func(t testing.TB, at gatewaytest.At) gatewaytest.Command {
			t.Helper()
			text := gatewaytest.Replace(t, gatewaytest.ReadFile(t, "envoy.yaml"),
				"port_value: 8000", "port_value: "+port(t, at.Listen),
				"port_value: 8090", "port_value: "+port(t, at.API))
			text = authenticate(t, text, at)
			if at.Unchecked {
				text = without(t, text, "- name: envoy.filters.http.ext_authz", "- name: envoy.filters.http.router")
			}
			path := filepath.Join(at.Dir, "envoy.yaml")
			gatewaytest.WriteFile(t, path, text)
			return gatewaytest.Command{
				// Two Envoys on one machine must not take each other for the one
				// to take over from.
				Args: []string{"-c", path, "--disable-hot-restart", "--log-level", "warning"},
				Env:  []string{"LABELS_GATEWAY_BASIC=" + at.BasicCredentials()},
			}
		},
		Forged: []string{
			"X-Envoy-Original-Path", "X-Envoy-Original-Host", "X-Envoy-Original-Method", "X-Envoy-Auth-Partial-Body",
			"X.Forwarded.Uri", "X.Original.URL", ":path", ":method",
		},
	}
}

func bySecret(t testing.TB, text string, at gatewaytest.At) string {
	t.Helper()
	return gatewaytest.Replace(t, text, "port_value: 9090", "port_value: "+port(t, at.Verify))
}

// secretLine is what the other ways do without.
const secretLine = `                  - { key: X-Gateway-Authorization, value: "Basic %ENVIRONMENT(LABELS_GATEWAY_BASIC)%" }` + "\n"

// bySocket and byCertificate are as the comments in envoy.yaml say.
func bySocket(t testing.TB, text string, at gatewaytest.At) string {
	t.Helper()
	return gatewaytest.Replace(t, text, secretLine, "",
		"      - lb_endpoints: [ { endpoint: { address: { socket_address: { address: 127.0.0.1, port_value: 9090 } } } } ]\n", "",
		"# - lb_endpoints", "- lb_endpoints",
		"/run/authz/gateway.sock", at.Socket)
}

func byCertificate(t testing.TB, text string, at gatewaytest.At) string {
	t.Helper()
	return gatewaytest.Replace(t, text, secretLine, "",
		"port_value: 9090", "port_value: "+port(t, at.MutualTLS),
		"\n    # transport_socket:", "\n    transport_socket:",
		"\n    #  ", "\n     ",
		"authority.pem", at.Certificates.Authority,
		"gateway.pem", at.Certificates.Own,
		"gateway-key.pem", at.Certificates.Key)
}

func port(t testing.TB, address string) string {
	t.Helper()
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// without cuts what stands between two texts, and the first.
func without(t testing.TB, text, from, to string) string {
	t.Helper()
	before, rest, ok := strings.Cut(text, from)
	_, after, found := strings.Cut(rest, to)
	if !ok || !found {
		t.Fatalf("the configuration has no %q before %q", from, to)
	}
	return before + to + after
}
