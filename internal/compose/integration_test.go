//go:build integration

package compose

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// What only the platform itself can reach.
const (
	first  = "http://authz-1:8080"
	second = "http://authz-2:8080"
	api    = "http://carrier-api:8090"
)

// operate runs the program that is beside this one.
func operate(t *testing.T, args ...string) map[string]any {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 20*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, "authz", append([]string{"--json"}, args...)...).Output()
	if err != nil {
		t.Fatalf("authz %s: %v", strings.Join(args, " "), err)
	}
	var shown map[string]any
	if err := json.Unmarshal(out, &shown); err != nil {
		t.Fatal(err)
	}
	return shown
}

func newService(t *testing.T) *holder {
	t.Helper()
	return newHolder(t, operate, granted("label:create,label:read")...)
}

func TestATokenOfOneInstanceIsKnownToTheOther(t *testing.T) {
	svc := newService(t)
	asker := newHolder(t, operate, "--introspects", resource)
	for _, at := range []struct{ issues, introspects, revokes string }{
		{first, second, first}, {second, first, second}, {issuer, first, second},
	} {
		svc.issue(t, at.issues)
		token := url.Values{"token": {svc.token}}
		seen := asker.post(t, at.introspects+"/oauth/introspect", token)
		if cnf, _ := seen.body["cnf"].(map[string]any); seen.body["active"] != true || cnf["jkt"] != svc.key.JKT() {
			t.Errorf("issued at %s, introspected at %s: %v", at.issues, at.introspects, seen.body)
		}
		if a := svc.call(t, http.MethodPost, "/labels", parcel); a.status != http.StatusCreated {
			t.Errorf("issued at %s, a call: %v", at.issues, a)
		}
		if a := svc.post(t, at.revokes+"/oauth/revoke", token); a.status != http.StatusOK {
			t.Errorf("revoked at %s: %v", at.revokes, a)
		}
		if seen := asker.post(t, at.introspects+"/oauth/introspect", token); seen.body["active"] != false {
			t.Errorf("revoked at %s, introspected at %s: %v", at.revokes, at.introspects, seen.body)
		}
		// Whichever instance the gateway asks.
		for range 4 {
			if a := svc.call(t, http.MethodPost, "/labels", parcel); a.status != http.StatusUnauthorized || a.code != "invalid_token" {
				t.Errorf("revoked at %s, a call: %v", at.revokes, a)
			}
		}
	}
}

func TestAProofOfOneInstanceIsSpentAtTheOther(t *testing.T) {
	svc := newService(t)
	proof := svc.tokenProof(t)
	if a := svc.post(t, first+"/oauth/token", credentials, proof); a.status != http.StatusOK {
		t.Fatal(a)
	}
	for _, at := range []string{second, first, issuer} {
		if a := svc.post(t, at+"/oauth/token", credentials, proof); a.status != http.StatusBadRequest || a.code != "invalid_dpop_proof" {
			t.Errorf("at %s: %v", at, a)
		}
	}
}

// equal sends the same request many times at once, and counts the answers.
func equal(t *testing.T, method, to, body string, header http.Header) map[string]int {
	t.Helper()
	var (
		mu      sync.Mutex
		answers = map[string]int{}
		wg      sync.WaitGroup
	)
	for range 16 {
		wg.Go(func() {
			a, err := try(t.Context(), method, to, body, header)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				answers[err.Error()]++
				return
			}
			answers[strings.TrimSpace(strconv.Itoa(a.status)+" "+a.code)]++
		})
	}
	wg.Wait()
	return answers
}

func TestOfEqualRequestsThroughTheBalancerOneIsAnswered(t *testing.T) {
	svc := newService(t)
	answers := equal(t, http.MethodPost, issuer+"/oauth/token", credentials.Encode(), svc.formHeader(svc.tokenProof(t)))
	if answers["200"] != 1 || answers["400 invalid_dpop_proof"] != 15 {
		t.Errorf("token requests: %v", answers)
	}
	svc.issue(t, issuer)
	const to = gateway + "/labels"
	answers = equal(t, http.MethodPost, to, parcel, svc.bearing("DPoP", svc.makeProof(t, http.MethodPost, to, svc.token)))
	if answers["201"] != 1 || answers["401 invalid_dpop_proof"] != 15 {
		t.Errorf("calls through the gateway: %v", answers)
	}
}

func TestBothInstancesAnswerWhatTheBalancerAndTheGatewayAsk(t *testing.T) {
	svc := newService(t)
	instances := []string{"http://authz-1:9090", "http://authz-2:9090"}
	names := []string{"authz_tokens_issued_total", "authz_checks_total"}
	before := map[string]float64{}
	for _, instance := range instances {
		for _, name := range names {
			before[instance+name] = metric(t, instance, name)
		}
	}
	// nginx leaves an instance that was away alone for a while.
	idle := func() (found []string) {
		for _, instance := range instances {
			for _, name := range names {
				if metric(t, instance, name) <= before[instance+name] {
					found = append(found, name+" of "+instance)
				}
			}
		}
		return found
	}
	for end := time.Now().Add(30 * time.Second); len(idle()) > 0; time.Sleep(200 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("these stay as they are: %q", idle())
		}
		svc.issue(t, issuer)
		if a := svc.call(t, http.MethodGet, "/labels/none", ""); a.status != http.StatusNotFound {
			t.Fatal(a)
		}
	}
}

// metric sums a counter over its labels.
func metric(t *testing.T, instance, name string) (sum float64) {
	t.Helper()
	response, err := direct.Get(instance + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`(?m)^`+name+`\{.*\} (\S+)$`).FindAllSubmatch(text, -1) {
		value, err := strconv.ParseFloat(string(m[1]), 64)
		if err != nil {
			t.Fatal(err)
		}
		sum += value
	}
	return sum
}

func TestTheGatewayRefusesWhatAThiefCanSend(t *testing.T) {
	svc := newService(t)
	svc.issue(t, issuer)
	checkRefusals(t, svc)
}

func TestTheGatewayHoldsEachRouteToItsScope(t *testing.T) {
	svc := newHolder(t, operate, granted("label:read")...)
	svc.issue(t, issuer)
	a := svc.call(t, http.MethodPost, "/labels", parcel)
	if a.status != http.StatusForbidden || a.code != "insufficient_scope" {
		t.Errorf("a label by who may only read: %v", a)
	}
	if a := svc.call(t, http.MethodGet, "/labels/none", ""); a.status != http.StatusNotFound {
		t.Errorf("reading: %v", a)
	}
}

func TestADisabledClientIsRefusedAtOnce(t *testing.T) {
	svc := newService(t)
	svc.issue(t, issuer)
	operate(t, "client", "disable", svc.id)
	if a := svc.call(t, http.MethodPost, "/labels", parcel); a.status != http.StatusUnauthorized || a.code != "invalid_token" {
		t.Errorf("a call: %v", a)
	}
	if a := svc.post(t, issuer+"/oauth/token", credentials, svc.tokenProof(t)); a.status != http.StatusUnauthorized || a.code != "invalid_client" {
		t.Errorf("a token: %v", a)
	}
}

func TestPastTheGatewayTheAPIServesNobody(t *testing.T) {
	svc := newService(t)
	svc.issue(t, issuer)
	for name, header := range map[string]http.Header{
		"nothing":                             nil,
		"a token and a proof for the gateway": svc.bearing("DPoP", svc.makeProof(t, http.MethodPost, gateway+"/labels", svc.token)),
		"a token and a proof for the API":     svc.bearing("DPoP", svc.makeProof(t, http.MethodPost, api+"/labels", svc.token)),
		"a name in a header":                  {"X-Auth-Client-Id": {svc.id}, "X-Auth-Scope": {"label:create label:read"}, "X-Auth-Jkt": {svc.key.JKT()}},
		"the token as the assertion":          {"X-Auth-Assertion": {svc.token}},
	} {
		if a := do(t, http.MethodPost, api+"/labels", parcel, header); a.status != http.StatusForbidden || a.code != "invalid_gateway_assertion" {
			t.Errorf("%s: %v", name, a)
		}
	}
}

// The check is on the internal listener, which the platform's network reaches:
// only a gateway is answered there, and nobody is on the public one.
func TestTheCheckAnswersGatewaysOnly(t *testing.T) {
	svc := newService(t)
	svc.issue(t, issuer)
	header := svc.bearing("DPoP", svc.makeProof(t, http.MethodPost, gateway+"/labels", svc.token))
	for name, value := range map[string]string{
		"X-Forwarded-Method": "POST", "X-Forwarded-Proto": "http", "X-Forwarded-Host": "localhost:8090", "X-Forwarded-Uri": "/labels",
	} {
		header.Set(name, value)
	}
	for name, authorization := range map[string][]string{
		"no credentials":        nil,
		"a wrong secret":        {"Basic bGFiZWxzLWdhdGV3YXk6d3Jvbmc="},
		"a client that is none": svc.formHeader()["Authorization"],
		"a client that is none and the gateway's name": append(svc.formHeader()["Authorization"], "Basic bGFiZWxzLWdhdGV3YXk6d3Jvbmc="),
	} {
		header["X-Gateway-Authorization"] = authorization
		a := do(t, http.MethodGet, "http://authz-1:9090/gateway/verify", "", header)
		if a.status != http.StatusInternalServerError || a.code != "invalid_client" || a.header.Get("X-Auth-Client-Id") != "" {
			t.Errorf("%s: %v", name, a)
		}
	}
	header.Del("X-Gateway-Authorization")
	for _, at := range []string{first, issuer, gateway} {
		if a := do(t, http.MethodGet, at+"/gateway/verify", "", header); a.status != http.StatusNotFound {
			t.Errorf("at %s: %v", at, a)
		}
	}
}

func TestTheDemoIsAsTold(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if out, err := exec.CommandContext(ctx, "demo").CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	// Past the gateway is not past it, here.
	out, err := exec.CommandContext(ctx, "demo", "-api", gateway).CombinedOutput()
	var ended *exec.ExitError
	if !errors.As(err, &ended) || ended.ExitCode() != 1 || !strings.Contains(string(out), "NOT AS TOLD") {
		t.Errorf("where something is not as told: %v\n%s", err, out)
	}
}
