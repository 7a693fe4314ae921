package traefik

import (
	"path/filepath"
	"testing"

	"github.com/cargokey/authz/internal/gatewaytest"
	"github.com/cargokey/authz/internal/pgdev/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func TestGateway(t *testing.T) {
	g := traefik()
	g.Broken = map[string]func(testing.TB, gatewaytest.At) gatewaytest.Command{
		"LABELS_GATEWAY_BASIC is not set": func(t testing.TB, at gatewaytest.At) gatewaytest.Command {
			command := g.Prepare(t, at)
			command.Env = nil
			return command
		},
		"the check comes before the credentials": func(t testing.TB, at gatewaytest.At) gatewaytest.Command {
			command := g.Prepare(t, at)
			file := filepath.Join(at.Dir, "dynamic.yml")
			gatewaytest.WriteFile(t, file, gatewaytest.Replace(t, gatewaytest.ReadFile(t, file),
				"[gateway-credentials, label-create]", "[label-create, gateway-credentials]"))
			return command
		},
	}
	gatewaytest.Test(t, g)
}

func TestGatewayByCertificate(t *testing.T) { gatewaytest.Test(t, byCertificate()) }

func BenchmarkGateway(b *testing.B) { gatewaytest.Benchmark(b, traefik()) }

func BenchmarkGatewayByCertificate(b *testing.B) { gatewaytest.Benchmark(b, byCertificate()) }

func traefik() gatewaytest.Gateway {
	return gatewaytest.Gateway{
		Name: "traefik", Program: "traefik", Prepare: prepare,
		Amend: func(name string, want *gatewaytest.Want) {
			if name == "the next nonce comes with an answer" {
				want.Skip = "ForwardAuth hands nothing of a good answer to the caller, who will be challenged"
			}
		},
		Forged: []string{"X-Forwarded-Server", "X-Forwarded-Port", "X-Real-Ip", "X-Replaced-Path", "X.Forwarded.Uri", "X.Original.URL"},
	}
}

// byCertificate is as the comments in dynamic.yml and README.md say.
func byCertificate() gatewaytest.Gateway {
	g := traefik()
	g.Prepare = func(t testing.TB, at gatewaytest.At) gatewaytest.Command {
		t.Helper()
		at.Verify = at.MutualTLS
		command := prepare(t, at)
		file := filepath.Join(at.Dir, "dynamic.yml")
		text := gatewaytest.ReadFile(t, file)
		if !at.Unchecked {
			text = gatewaytest.Replace(t, text,
				"[gateway-credentials, label-create]", "[label-create]",
				"[gateway-credentials, label-read]", "[label-read]")
		}
		gatewaytest.WriteFile(t, file, gatewaytest.Replace(t, text,
			"http://"+at.Verify, "https://"+at.Verify,
			"# tls:", "tls:",
			"authority.pem", at.Certificates.Authority,
			"gateway.pem", at.Certificates.Own,
			"gateway-key.pem", at.Certificates.Key))
		return command
	}
	return g
}

func prepare(t testing.TB, at gatewaytest.At) gatewaytest.Command {
	t.Helper()
	static := gatewaytest.Replace(t, gatewaytest.ReadFile(t, "traefik.yml"),
		"127.0.0.1:8000", at.Listen,
		"dynamic.yml", filepath.Join(at.Dir, "dynamic.yml"))
	dynamic := gatewaytest.Replace(t, gatewaytest.ReadFile(t, "dynamic.yml"),
		"127.0.0.1:9090", at.Verify,
		"127.0.0.1:8090", at.API)
	if at.Unchecked {
		dynamic = gatewaytest.Replace(t, dynamic,
			"[gateway-credentials, label-create]", "[]",
			"[gateway-credentials, label-read]", "[]")
	}
	gatewaytest.WriteFile(t, filepath.Join(at.Dir, "traefik.yml"), static)
	gatewaytest.WriteFile(t, filepath.Join(at.Dir, "dynamic.yml"), dynamic)
	return gatewaytest.Command{
		Args: []string{"--configFile=" + filepath.Join(at.Dir, "traefik.yml")},
		Env:  []string{"LABELS_GATEWAY_BASIC=" + at.BasicCredentials()},
	}
}
