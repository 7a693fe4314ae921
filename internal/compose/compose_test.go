//go:build compose

package compose

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// run runs docker compose, and returns its standard output and how it ended.
func run(t *testing.T, args ...string) (stdout []byte, stderr string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 10*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "docker", append([]string{"compose", "-f", "../../docker-compose.yml"}, args...)...)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	began := time.Now()
	err = cmd.Run()
	t.Logf("docker compose %s: %s", strings.Join(args, " "), time.Since(began).Round(100*time.Millisecond))
	return out.Bytes(), errOut.String(), err
}

// compose is run for what must succeed.
func compose(t *testing.T, args ...string) []byte {
	t.Helper()
	out, errOut, err := run(t, args...)
	if err != nil {
		t.Fatalf("docker compose %s: %v\n%s%s", strings.Join(args, " "), err, out, errOut)
	}
	return out
}

// operateByCompose runs an operator's command as README.md has it.
func operateByCompose(t *testing.T, args ...string) map[string]any {
	t.Helper()
	out := compose(t, append([]string{"run", "--rm", "-T", "migrate", "--json"}, args...)...)
	var shown map[string]any
	if err := json.Unmarshal(out, &shown); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return shown
}

func TestThePlatformOfTheComposeFile(t *testing.T) {
	t.Cleanup(func() { compose(t, "--profile", "*", "down", "--volumes", "--remove-orphans") })
	compose(t, "--profile", "*", "down", "--volumes", "--remove-orphans")
	compose(t, "up", "--build", "--wait")
	svc := newHolder(t, operateByCompose, granted("label:create,label:read")...)
	svc.issue(t, issuer)

	checkRefusals(t, svc)
	for line := range strings.Lines(string(compose(t, "ps", "--format", "{{.Service}} {{.Ports}}"))) {
		if strings.Contains(line, "->") && !strings.HasPrefix(line, "balancer ") {
			t.Errorf("published besides the balancer and the gateway: %s", line)
		}
	}
	told := compose(t, "run", "--rm", "-T", "demo")
	if !bytes.Contains(told, []byte("outcomes were as they should be")) || bytes.Count(told, []byte("=> 401")) < 7 {
		t.Errorf("the demo tells:\n%s", told)
	}
	compose(t, "up", "--wait") // what is there stays, the gateway's secret too
	if a := svc.call(t, http.MethodPost, "/labels", parcel); a.status != http.StatusCreated {
		t.Errorf("a call after a second up: %v", a)
	}
	checkOutages(t, svc)

	out, errOut, err := run(t, "--profile", "test", "up", "--exit-code-from", "integration")
	if err != nil || !bytes.Contains(out, []byte("PASS")) {
		t.Errorf("the integration tests: %v", err)
		for line := range strings.Lines(string(out) + errOut) {
			if strings.HasPrefix(line, "integration") || !strings.Contains(line, " | ") { // not the servers' logs
				t.Log(strings.TrimSpace(line))
			}
		}
	}
	logs := compose(t, "--profile", "*", "logs", "--no-color")
	for _, secret := range []string{svc.secret, svc.token} {
		if bytes.Contains(logs, []byte(secret)) {
			t.Errorf("a secret (%.8s...) is in the logs", secret)
		}
	}
}

// checkOutages takes parts away, and brings them back.
func checkOutages(t *testing.T, svc *holder) {
	t.Helper()
	compose(t, "kill", "authz-1")
	for range 8 {
		svc.issue(t, issuer)
		if a := svc.call(t, http.MethodPost, "/labels", parcel); a.status != http.StatusCreated {
			t.Errorf("with one server, a call: %v", a)
		}
	}

	compose(t, "stop", "authz-2")
	before := compose(t, "logs", "--no-color", "carrier-api") // a line for each request without an assertion
	for range 3 {
		if a := svc.call(t, http.MethodPost, "/labels", parcel); a.status < 500 || a.body != nil {
			t.Errorf("with no server, a call: %v", a)
		}
		if a := svc.post(t, issuer+"/oauth/token", credentials, svc.tokenProof(t)); a.status < 500 {
			t.Errorf("with no server, a token: %v", a)
		}
	}
	if after := compose(t, "logs", "--no-color", "carrier-api"); !bytes.Equal(before, after) {
		t.Errorf("with no server, the API was asked: %s", after)
	}

	bringBack(t, svc)
	compose(t, "stop", "postgres")
	a := svc.post(t, issuer+"/oauth/token", credentials, svc.tokenProof(t))
	if a.status != http.StatusServiceUnavailable || a.code != "temporarily_unavailable" || a.header.Get("Retry-After") == "" {
		t.Errorf("without Postgres, a token: %v", a)
	}
	if a := svc.call(t, http.MethodPost, "/labels", parcel); a.status < 500 || a.body != nil {
		t.Errorf("without Postgres, a call: %v", a)
	}
	bringBack(t, svc)
}

// bringBack starts what is away, and waits until the balancer and the gateway
// have taken notice: for a moment nginx leaves a server alone that was away.
func bringBack(t *testing.T, svc *holder) {
	t.Helper()
	compose(t, "up", "--wait")
	for end := time.Now().Add(15 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		a := svc.post(t, issuer+"/oauth/token", credentials, svc.tokenProof(t))
		if a.status == http.StatusOK {
			svc.token = a.text("access_token")
			if a = svc.call(t, http.MethodPost, "/labels", parcel); a.status == http.StatusCreated {
				return
			}
		}
		if time.Now().After(end) {
			t.Fatalf("with all of it again: %v", a)
		}
	}
}
