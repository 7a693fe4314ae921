package haproxy

import (
	"path/filepath"
	"testing"

	"github.com/cargokey/authz/internal/gatewaytest"
	"github.com/cargokey/authz/internal/pgdev/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func TestGateway(t *testing.T) { gatewaytest.Test(t, haproxy()) }

func TestCertificates(t *testing.T) { gatewaytest.TestCertificates(t, haproxy()) }

func BenchmarkGateway(b *testing.B) { gatewaytest.Benchmark(b, haproxy()) }

func haproxy() gatewaytest.Gateway {
	return gatewaytest.Gateway{
		Name: "haproxy", Program: "haproxy", Prepare: prepare,
		Broken: map[string]func(testing.TB, gatewaytest.At) gatewaytest.Command{"the Lua stops with an error": prepareBroken},
	}
}

// prepareBroken has the Lua stop after the check has been passed.
func prepareBroken(t testing.TB, at gatewaytest.At) gatewaytest.Command {
	t.Helper()
	command := prepare(t, at)
	file := filepath.Join(at.Dir, "verify.lua")
	const last = `txn:set_var("txn.admitted", true)`
	gatewaytest.WriteFile(t, file, gatewaytest.Replace(t, gatewaytest.ReadFile(t, file), last, `error("broken") `+last))
	return command
}

func prepare(t testing.TB, at gatewaytest.At) gatewaytest.Command {
	t.Helper()
	config := gatewaytest.Replace(t, gatewaytest.ReadFile(t, "haproxy.cfg"), "127.0.0.1:8000", at.Listen, "127.0.0.1:8090", at.API)
	if at.Unchecked {
		config = gatewaytest.Replace(t, config, "http-request lua.verify", "",
			"http-request deny deny_status 503 unless { var(txn.admitted) -m bool }", "")
	}
	script := gatewaytest.Replace(t, gatewaytest.ReadFile(t, "verify.lua"), "127.0.0.1:8000", at.Listen, "127.0.0.1:9090", at.Verify)
	if at.TLS.Own != "" { // as README.md says
		pair := filepath.Join(at.Dir, "public.pem")
		gatewaytest.WriteFile(t, pair, gatewaytest.ReadFile(t, at.TLS.Own)+gatewaytest.ReadFile(t, at.TLS.Key))
		config = gatewaytest.Replace(t, config, "bind "+at.Listen, "bind "+at.Listen+" ssl crt public.pem ca-file public.pem verify optional no-ca-names crt-ignore-err all ca-ignore-err all")
		script = gatewaytest.Replace(t, script, `proto, host = "http"`, `proto, host = "https"`)
	}
	gatewaytest.WriteFile(t, filepath.Join(at.Dir, "haproxy.cfg"), config)
	gatewaytest.WriteFile(t, filepath.Join(at.Dir, "verify.lua"), script)
	return gatewaytest.Command{
		Args: []string{"-db", "-f", "haproxy.cfg"},
		Env:  []string{"LABELS_GATEWAY_BASIC=" + at.BasicCredentials()},
	}
}
