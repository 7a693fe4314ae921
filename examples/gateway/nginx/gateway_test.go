package nginx

import (
	"path/filepath"
	"testing"

	"github.com/cargokey/authz/internal/gatewaytest"
	"github.com/cargokey/authz/internal/pgdev/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func TestGateway(t *testing.T) { gatewaytest.Test(t, nginx()) }

func TestCertificates(t *testing.T) { gatewaytest.TestCertificates(t, nginx()) }

func BenchmarkGateway(b *testing.B) { gatewaytest.Benchmark(b, nginx()) }

func nginx() gatewaytest.Gateway {
	return gatewaytest.Gateway{Name: "nginx", Program: "nginx", Prepare: prepare}
}

func prepare(t testing.TB, at gatewaytest.At) gatewaytest.Command {
	t.Helper()
	write := func(name, text string) { gatewaytest.WriteFile(t, filepath.Join(at.Dir, name), text) }
	labels := gatewaytest.Replace(t, gatewaytest.ReadFile(t, "labels.conf"),
		"127.0.0.1:8000", at.Listen, "127.0.0.1:8090", at.API, "127.0.0.1:9090", at.Verify)
	if at.Unchecked {
		labels = gatewaytest.Replace(t, labels, "auth_request     /gateway/verify;", "")
	}
	forwarded := gatewaytest.Replace(t, gatewaytest.ReadFile(t, "forwarded.conf"), "127.0.0.1:8000", at.Listen)
	if at.TLS.Own != "" { // as README.md says
		labels = gatewaytest.Replace(t, labels, "listen "+at.Listen+";", "listen "+at.Listen+" ssl;\n    ssl_certificate "+at.TLS.Own+";\n    ssl_certificate_key "+at.TLS.Key+
			";\n    ssl_verify_client optional_no_ca;", "assertion=true", "assertion=true&client_cert=true")
		forwarded = gatewaytest.Replace(t, forwarded, "X-Forwarded-Proto  http;", "X-Forwarded-Proto  https;")
	}
	write("nginx.conf", gatewaytest.ReadFile(t, "nginx.conf"))
	write("labels.conf", labels)
	write("forwarded.conf", forwarded)
	write("secret.conf", `proxy_set_header X-Gateway-Authorization "Basic `+at.BasicCredentials()+`";`)
	return gatewaytest.Command{Args: []string{"-p", at.Dir, "-c", filepath.Join(at.Dir, "nginx.conf"), "-g", "daemon off;"}}
}
