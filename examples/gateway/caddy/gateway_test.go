package caddy

import (
	"net"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/cargokey/authz/internal/gatewaytest"
	"github.com/cargokey/authz/internal/pgdev/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func TestGateway(t *testing.T) { gatewaytest.Test(t, caddy()) }

func TestCertificates(t *testing.T) { gatewaytest.TestCertificates(t, caddy()) }

func BenchmarkGateway(b *testing.B) { gatewaytest.Benchmark(b, caddy()) }

func caddy() gatewaytest.Gateway {
	return gatewaytest.Gateway{Name: "caddy", Program: "caddy", Prepare: prepare}
}

func prepare(t testing.TB, at gatewaytest.At) gatewaytest.Command {
	t.Helper()
	_, port, err := net.SplitHostPort(at.Listen)
	if err != nil {
		t.Fatal(err)
	}
	text := gatewaytest.Replace(t, gatewaytest.ReadFile(t, "Caddyfile"),
		"http://:8000", "http://:"+port, "127.0.0.1:8000", at.Listen, "127.0.0.1:8090", at.API, "127.0.0.1:9090", at.Verify)
	if at.TLS.Own != "" { // as README.md says
		text = gatewaytest.Replace(t, text, "admin off", "admin off\n\tauto_https off", "http://:"+port, "https://:"+port,
			"bind 127.0.0.1\n", "bind 127.0.0.1\n\ttls "+at.TLS.Own+" "+at.TLS.Key+" {\n\t\tclient_auth {\n\t\t\tmode request\n\t\t}\n\t}\n",
			"X-Forwarded-Proto http\n", "X-Forwarded-Proto https\n\t\t\theader_up Client-Cert \":{http.request.tls.client.certificate_der_base64}:\"\n",
			"assertion=true", "assertion=true&client_cert=true")
	}
	if at.Unchecked {
		check := regexp.MustCompile(`(?s)forward_auth .*?copy_headers.*?\n\t\t}\n`)
		text = gatewaytest.Replace(t, text, check.FindString(text), "")
	}
	file := filepath.Join(at.Dir, "Caddyfile")
	gatewaytest.WriteFile(t, file, text)
	return gatewaytest.Command{
		Args: []string{"run", "--config", file},
		Env:  []string{"LABELS_GATEWAY_BASIC=" + at.BasicCredentials()},
	}
}
