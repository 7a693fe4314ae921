//go:build compose

package compose

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/cargokey/authz/dpopbind"
)

const (
	first    = "http://localhost:8080"
	second   = "http://localhost:8081"
	resource = "https://labels.carrier.test"
)

// compose runs docker compose and returns its standard output.
func compose(t *testing.T, args ...string) []byte {
	t.Helper()
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), "docker", append([]string{"compose", "-f", "../../docker-compose.yml"}, args...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("docker compose %s: %v\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return out
}

// operator runs an operator's command and returns a member of its answer.
func operator(t *testing.T, member string, args ...string) string {
	t.Helper()
	out := compose(t, append([]string{"run", "--rm", "-T", "migrate", "--json"}, args...)...)
	var answer map[string]any
	if err := json.Unmarshal(out, &answer); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	value, _ := answer[member].(string)
	return value
}

// post sends a form with HTTP Basic and, where it is given, a proof.
func post(t *testing.T, to, id, secret, proof string, form url.Values) (int, map[string]any) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, to, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.SetBasicAuth(id, secret)
	if proof != "" {
		r.Header.Set("DPoP", proof)
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	var answer map[string]any
	if len(body) > 0 {
		if err := json.Unmarshal(body, &answer); err != nil {
			t.Fatalf("%v: %s", err, body)
		}
	}
	return response.StatusCode, answer
}

func TestComposeFileIssuesIntrospectsAndRevokesOverTwoInstances(t *testing.T) {
	t.Cleanup(func() { compose(t, "down", "--volumes") })
	compose(t, "up", "--build", "--wait")

	operator(t, "", "resource", "create", resource, "--scope", "CXS")
	secret := operator(t, "client_secret", "client", "create", "svc", "--grant", resource+"=CXS")
	gatewaySecret := operator(t, "client_secret", "client", "create", "gateway", "--introspects", resource)

	key, err := dpopbind.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	proof, err := key.Proof(http.MethodPost, first+"/oauth/token", time.Now(), dpopbind.ProofOptions{})
	if err != nil {
		t.Fatal(err)
	}
	form := url.Values{"grant_type": {"client_credentials"}, "scope": {"CXS"}}
	status, issued := post(t, first+"/oauth/token", "svc", secret, proof, form)
	if status != http.StatusOK || issued["token_type"] != "DPoP" {
		t.Fatalf("token: %d %v", status, issued)
	}
	token := url.Values{"token": {issued["access_token"].(string)}}

	if status, a := post(t, second+"/oauth/token", "svc", secret, proof, form); status != http.StatusBadRequest || a["error"] != "invalid_dpop_proof" {
		t.Errorf("the first instance's proof at the second: %d %v", status, a)
	}
	_, seen := post(t, second+"/oauth/introspect", "gateway", gatewaySecret, "", token)
	if cnf, _ := seen["cnf"].(map[string]any); seen["active"] != true || cnf["jkt"] != key.JKT() {
		t.Errorf("introspected at the second instance: %v", seen)
	}
	if status, a := post(t, second+"/oauth/revoke", "svc", secret, "", token); status != http.StatusOK {
		t.Errorf("revocation: %d %v", status, a)
	}
	if _, a := post(t, first+"/oauth/introspect", "gateway", gatewaySecret, "", token); a["active"] != false {
		t.Errorf("introspected at the first instance after its revocation: %v", a)
	}
	for _, s := range []string{secret, gatewaySecret, issued["access_token"].(string), proof} {
		if bytes.Contains(compose(t, "logs", "--no-color"), []byte(s)) {
			t.Errorf("a secret (%.8s...) is in the logs", s)
		}
	}
}
