package main

import (
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cargokey/authz/dpopbind"
	"github.com/cargokey/authz/internal/span/spantest"
)

// tokens asks for so many, and notes what must not be found.
func (i *serving) tokens(t *testing.T, s *site, n int) {
	t.Helper()
	key, err := dpopbind.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	for range n {
		proof, err := key.Proof(http.MethodPost, s.issuer+"/oauth/token", time.Now(), dpopbind.ProofOptions{})
		if err != nil {
			t.Fatal(err)
		}
		s.secrets = append(s.secrets, proof)
		status, answer := i.post(t, "/oauth/token", s.client, proof, url.Values{"grant_type": {"client_credentials"}})
		if status != http.StatusOK {
			t.Fatal(status, answer)
		}
		s.secrets = append(s.secrets, answer["access_token"].(string))
	}
}

// Whoever stops an instance gets all that it has traced, without waiting for the
// turn at which it is sent.
func TestTracesReachTheCollectorBeforeTheEnd(t *testing.T) {
	t.Parallel()
	s, collector := newSite(t), spantest.New(t)
	const apiKey = "sesame-sesame-sesame"
	s.server = append(s.server, "OTEL_EXPORTER_OTLP_ENDPOINT="+collector.URL, "OTEL_EXPORTER_OTLP_HEADERS=api-key="+apiKey,
		"OTEL_BSP_SCHEDULE_DELAY=3600000", "OTEL_SERVICE_NAME=auth-eu", "OTEL_RESOURCE_ATTRIBUTES=deployment.environment.name=test")
	i := s.start(t)
	i.tokens(t, s, 5)
	if code, err := i.end(syscall.SIGTERM); err != nil || code != 0 {
		t.Fatalf("exit code %d, %v", code, err)
	}
	roots := slices.DeleteFunc(collector.Spans(), func(span spantest.Span) bool { return span.Name != "POST /oauth/token" })
	if len(roots) != 5 {
		t.Fatalf("%d of 5 requests are there:\n%s", len(roots), &i.errOut)
	}
	for _, root := range roots {
		if of := root.Resource; of["service.name"] != "auth-eu" || of["deployment.environment.name"] != "test" || of["service.instance.id"] == "" || of["service.version"] == nil {
			t.Errorf("of %v", of)
		}
	}
	for _, h := range collector.Headers() {
		if h.Get("api-key") != apiKey {
			t.Errorf("the collector gets the headers %v", h)
		}
	}
	for _, secret := range append(s.secrets, apiKey) {
		if strings.Contains(collector.Bytes(), secret) || strings.Contains(i.errOut.String(), secret) {
			t.Errorf("a secret of %d bytes is in a trace or in the log", len(secret))
		}
	}
}

func TestTracesGoByTLSToTheCollectorThatIsTrusted(t *testing.T) {
	collector, certificate := spantest.NewTLS(t)
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, certificate, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, trusted := range []bool{false, true} {
		env := map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": collector.URL, "OTEL_EXPORTER_OTLP_COMPRESSION": "none"}
		if trusted {
			env["OTEL_EXPORTER_OTLP_CERTIFICATE"] = file
		}
		traces, err := (&config{}).traces(t.Context(), environmentOf(env), slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		_, span := traces.provider.Tracer("test").Start(t.Context(), "one")
		span.End()
		traces.end()
		if n := len(collector.Spans()); (n == 1) != trusted {
			t.Errorf("trusted: %t, spans: %d", trusted, n)
		}
	}
}

// A collector that takes connections and says nothing is the worst: what is to be sent
// piles up.
func TestCollectorThatHangsSlowsNothing(t *testing.T) {
	t.Parallel()
	hangs, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer hangs.Close()
	s := newSite(t)
	s.server = append(s.server, "OTEL_EXPORTER_OTLP_ENDPOINT=http://"+hangs.Addr().String(), "OTEL_EXPORTER_OTLP_TIMEOUT=200",
		"OTEL_BSP_SCHEDULE_DELAY=10", "OTEL_BSP_EXPORT_TIMEOUT=500", "OTEL_BSP_MAX_QUEUE_SIZE=4", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE=2")
	i := s.start(t)
	i.tokens(t, s, 20) // each leaves more than there is room for
	const told = "traces are lost"
	if err := i.await(&i.errOut, told); err != nil {
		t.Fatal(err)
	}
	i.tokens(t, s, 1)
	stopped := time.Now()
	if code, err := i.end(syscall.SIGTERM); err != nil || code != 0 {
		t.Errorf("exit code %d, %v", code, err)
	}
	if took := time.Since(stopped); took > 10*time.Second { // then who stops it would have killed it
		t.Errorf("it took %s to end", took)
	}
	if n := strings.Count(i.errOut.String(), told); n != 1 {
		t.Errorf("the log tells of it %d times:\n%s", n, &i.errOut)
	}
}

func TestTraceSettingThatIsNotKnownStopsTheStart(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	env := append(s.server, "OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4317", "OTEL_EXPORTER_OTLP_PROTOCOL=grpc",
		"AUTHZ_LISTEN=127.0.0.1:0", "AUTHZ_INTERNAL_LISTEN=127.0.0.1:0")
	p := startAuthz(t, s.program, env, "serve")
	if code, err := p.wait(); err != nil || code != 1 || !strings.Contains(p.errOut.String(), "OTEL_EXPORTER_OTLP_PROTOCOL") {
		t.Errorf("exit code %d, %v:\n%s", code, err, &p.errOut)
	}
}
