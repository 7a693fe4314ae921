package authz_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/cargokey/authz/authz"
	"github.com/cargokey/authz/dpopbind"
	"github.com/cargokey/authz/dpopbind/prooftest"
	"github.com/cargokey/authz/internal/clientassertion"
	"github.com/cargokey/authz/jwks"
)

// What the labels of metrics may be, whatever anybody sends. "other" is not among
// them: what is counted so has been forgotten.
func closedSets(registered ...string) map[string]map[string][]string {
	endpoints := []string{"token", "introspect", "revoke", "dpop_keys", "metadata", "jwks", "verify"}
	families := []string{"tokens", "spent_proofs", "audit_events", "audit_seals"}
	clients := map[string][]string{"client_id": append(registered, "")}
	keys := map[string][]string{"alg": texts(jwks.Algorithms())}
	return map[string]map[string][]string{
		"authz_requests_total": {
			"endpoint": endpoints, "outcome": {"ok", "refused", "limited", "shed", "failed"},
			"error": {"", "invalid_request", "invalid_client", "unsupported_grant_type", "unauthorized_client", "invalid_scope", "invalid_target",
				"invalid_dpop_proof", "use_dpop_nonce", "invalid_endorsement", "temporarily_unavailable", "server_error",
				"no_credentials", "invalid_token", "insufficient_scope", "invalid_gateway_request"},
		},
		"authz_request_duration_seconds":                    {"endpoint": endpoints},
		"authz_tokens_issued_total":                         {"token_type": {"DPoP", "Bearer"}},
		"authz_proofs_refused_total":                        {"check": append(texts(dpopbind.Checks()), "missing")},
		"authz_assertions_refused_total":                    {"check": append(texts(clientassertion.Checks()), "replay")},
		"authz_authentications_limited_total":               {"by": {"client", "address"}},
		"authz_requests_shed_total":                         {"where": {"public", "gateway", "lookup"}},
		"authz_maintenance_total":                           {"task": {"audit", "partitions", "keys", "database", "gateways"}, "outcome": {"ok", "failed"}},
		"authz_retired_secrets_used_total":                  clients,
		"authz_unenrolled_dpop_keys_total":                  clients,
		"authz_endorsements_refused_total":                  clients,
		"authz_partitions_prepared_until_timestamp_seconds": {"family": families},
		"authz_partitions_oldest_end_timestamp_seconds":     {"family": families},
		"authz_partitions_detached":                         {"family": families},
		"authz_signing_key_age_seconds":                     keys,
		"authz_signing_key_next_change_timestamp_seconds":   keys,
		"authz_signing_key_due_timestamp_seconds":           keys,
		"authz_checks_total": {
			"kind": {"call.verified", "token.introspected"}, "outcome": {"admitted", "refused", "active", "inactive"},
			"client_id": clients["client_id"], "resource": {"", labels, rates},
		},
		"authz_proof_iat_offset_seconds": nil, "authz_ready": nil, "authz_database_timeline_changed": nil,
		"authz_signing_keys_unopened": nil, "authz_signing_gaps": nil, "authz_audit_events_dropped_total": nil,
	}
}

func texts[T ~string](values []T) []string {
	var all []string
	for _, v := range values {
		all = append(all, string(v))
	}
	return all
}

var (
	sampleLine  = regexp.MustCompile(`(?m)^(\w+?)(?:_bucket|_sum|_count)?(?:\{(.*)\})? (\S+)$`)
	labelInLine = regexp.MustCompile(`(\w+)="((?:[^"\\]|\\.)*)"`)
)

// holdLabels compares each sample of /metrics with what there may be. What counts 0
// may be other.
func holdLabels(t *testing.T, metrics string, sets map[string]map[string][]string) {
	t.Helper()
	seen := map[string]bool{}
	for _, m := range sampleLine.FindAllStringSubmatch(metrics, -1) {
		name, value := m[1], m[3]
		labels, known := sets[name]
		if !known {
			t.Errorf("%s: it is in no closed set", name)
			continue
		}
		seen[name] = true
		for _, l := range labelInLine.FindAllStringSubmatch(m[2], -1) {
			if _, err := strconv.ParseFloat(l[2], 64); l[1] == "le" && (err == nil || l[2] == "+Inf") || l[2] == "other" && value == "0" {
				continue
			}
			if !slices.Contains(labels[l[1]], l[2]) {
				t.Errorf("%s: its label %s is %q", name, l[1], l[2])
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(sets)) {
		if !seen[name] && name != "authz_checks_total" {
			t.Errorf("%s is not told of", name)
		}
	}
}

// holdNothingIsOther is for the end of each test, with whatever it has sent: a label that
// is not of its closed set is counted as other.
func holdNothingIsOther(t testing.TB, r *prometheus.Registry) {
	families, err := r.Gather()
	if err != nil {
		t.Error(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetValue() == "other" && m.GetCounter().GetValue() > 0 {
					t.Errorf("%s: a value of the label %s is in no closed set", f.GetName(), l.GetName())
				}
			}
		}
	}
}

// hostile is a text that a stranger would like to see in a label, and that might
// break the format.
func hostile(n int) string {
	texts := []string{"invalid_client\"} 1\nauthz_x{y=\"", "\xff\xfe", "../../etc/passwd", "a\tb", "DPoP", "{}", "robbed-by-hostile", "", strings.Repeat("x", 3000)}
	return texts[n%len(texts)]
}

func TestLabelsAreOfClosedSetsWhateverIsSent(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.named = true
	i, client, key := w.instance(), w.client(authz.Client{}), newKey(t)
	gateway := w.gateway()
	enrolled := w.client(authz.Client{ID: "enrolled", DPoPKeys: authz.EnrolledKey})
	i.do(i.tokenRequest(enrolled, key, clientCredentials))
	w.sendBad(t, i, client, enrolled, gateway)
	w.sendHostile(t, i, client, gateway, key)
	i.do(i.enrolRequest(enrolled, key, "a.b.c"))
	i.verify(call{gateway: gateway, method: http.MethodPost, url: createLabel})
	narrow := i.goodCall(gateway, i.token(client, key, "scope", "CXS").string("access_token"), key)
	narrow.options = "scope=label:create"
	i.verify(narrow)
	i.do(i.tokenRequest(w.client(authz.Client{ID: "careful", RequireNonce: true}), key, clientCredentials))
	metrics := i.internalGet("/metrics").body
	// Else it shows little.
	for _, code := range closedSets()["authz_requests_total"]["error"] {
		if !regexp.MustCompile(`(?m)^authz_requests_total\{.*error="`+code+`".*\} [1-9]`).MatchString(metrics) &&
			code != "temporarily_unavailable" && code != "server_error" {
			t.Errorf("nothing was answered with %q", code)
		}
	}
	holdLabels(t, metrics, closedSets(client.ID, enrolled.ID, gateway.ID))
	if strings.Contains(metrics, "hostile") || strings.Contains(metrics, "passwd") || strings.Contains(metrics, client.secret) {
		t.Error("/metrics holds what was sent")
	}
}

// sendBad sends the table of bad requests to each endpoint.
func (w *world) sendBad(t *testing.T, i *instance, clients ...registered) {
	for _, path := range []string{"/oauth/token", "/oauth/introspect", "/oauth/revoke", "/oauth/dpop-keys", "/.well-known/jwks.json", "/.well-known/oauth-authorization-server"} {
		for _, client := range clients {
			for _, c := range badRequests(client, "other") {
				body := c.body
				if body == "" {
					body = goodBody
				}
				method := c.method
				if method == "" {
					method = http.MethodPost
				}
				r, err := http.NewRequestWithContext(t.Context(), method, i.url+path, strings.NewReader(body))
				if err != nil {
					t.Fatal(err)
				}
				r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
				r.SetBasicAuth(client.ID, client.secret)
				if c.header != nil {
					c.header(r.Header)
				}
				i.do(r)
			}
		}
	}
}

// sendHostile sends good requests with one thing, or several, replaced by what is not
// good, at random.
func (w *world) sendHostile(t *testing.T, i *instance, client, gateway registered, key *dpopbind.Key) {
	seed := uint64(time.Now().UnixNano())
	if given := os.Getenv("AUTHZ_TEST_SEED"); given != "" {
		fmt.Sscan(given, &seed)
	}
	t.Logf("AUTHZ_TEST_SEED=%d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	token := i.token(client, key).string("access_token")
	headers := []string{"DPoP", "Authorization", "Content-Type", "Accept", "X-Gateway-Authorization", "X-Forwarded-Method", "X-Forwarded-Proto",
		"X-Forwarded-Host", "X-Forwarded-Uri", "User-Agent", "Client-Cert", "X-Request-Id"}
	parameters := []string{"grant_type", "scope", "resource", "token", "client_id", "client_secret", "client_assertion", "client_assertion_type", "endorsement"}
	for n := range 400 {
		var r *http.Request
		form := with(clientCredentials, "token", token)
		for range random.IntN(3) {
			form.Set(parameters[random.IntN(len(parameters))], hostile(random.Int()))
		}
		switch n % 5 {
		case 0:
			r = i.tokenRequest(client, key, form)
		case 1:
			r = i.post("/oauth/introspect", gateway, form)
		case 2:
			r = i.post("/oauth/revoke", client, form)
		case 3:
			r = i.post("/oauth/dpop-keys", client, form)
			r.Header.Set("DPoP", i.proof(key))
		default:
			r = i.checkRequest(i.goodCall(gateway, token, key))
			if random.IntN(4) == 0 {
				r.URL.RawQuery = "resource=" + url.QueryEscape(hostile(n)) + "&x=" + url.QueryEscape(hostile(n+1))
			}
		}
		for range random.IntN(3) {
			name := headers[random.IntN(len(headers))]
			value := strings.Map(func(c rune) rune {
				if c == '\n' { // which Go does not send
					return -1
				}
				return c
			}, hostile(random.Int()))
			r.Header.Set(name, value)
		}
		i.do(r)
	}
	for _, c := range prooftest.Cases(i.now(), http.MethodPost, tokenEndpoint) {
		r := i.post("/oauth/token", client, clientCredentials)
		r.Header["Dpop"] = c.Headers
		i.do(r)
	}
}
