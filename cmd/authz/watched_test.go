package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/cargokey/authz/dpopbind"
	"github.com/cargokey/authz/internal/behaviour"
	"github.com/cargokey/authz/internal/freeport"
	"github.com/cargokey/authz/internal/webhook"
)

// pager is who is woken by alerts.
type pager struct {
	*httptest.Server
	text string // its secret

	mu   sync.Mutex
	got  []alertView
	last struct { // as it came
		Secret  string            `json:"secret"`
		Headers map[string]string `json:"headers"`
		Body    string            `json:"body"`
	}
}

func newPager(t *testing.T) *pager {
	t.Helper()
	p := &pager{text: "whsec_" + base64.StdEncoding.EncodeToString([]byte("whoever pages has this secret too"))}
	secret, err := webhook.ParseSecret(p.text)
	if err != nil {
		t.Fatal(err)
	}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err == nil {
			err = webhook.Verify(secret, r.Header, body, time.Now())
		}
		var m struct{ Data alertView }
		if err == nil {
			err = json.Unmarshal(body, &m)
		}
		if err != nil {
			t.Errorf("%v: %s", err, body)
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		p.got = append(p.got, m.Data)
		p.last.Secret, p.last.Body, p.last.Headers = p.text, string(body), map[string]string{}
		for name := range r.Header {
			p.last.Headers[strings.ToLower(name)] = r.Header.Get(name)
		}
	}))
	t.Cleanup(p.Close)
	return p
}

func (p *pager) alerts() []alertView {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.got)
}

// history teaches the database three weeks of a client that nothing happened to.
func (s *site) history(t *testing.T, jkt string) {
	t.Helper()
	w := behaviour.New(behaviour.Config{})
	for at := time.Now().Add(-40 * 24 * time.Hour); at.Before(time.Now()); at = at.Add(30 * time.Minute) {
		w.Observe(behaviour.Event{
			Kind: behaviour.TokenIssued, At: at, ClientID: s.client.id, Authenticated: true, JKT: jkt, UserAgent: "labels/1.4",
			Network: netip.MustParsePrefix("192.0.2.0/24"), Resource: testResource, Scopes: []string{"label:create"},
		})
	}
	summary, err := json.Marshal(w.Baseline(s.client.id))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(t.Context(), s.ownerURL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := conn.Exec(t.Context(), `insert into authz.client_baselines values ($1, $2, now())`, s.client.id, string(summary)); err != nil {
		t.Fatal(err)
	}
}

// from asks for a token from an address, as the proxy tells it.
func (i *serving) from(t *testing.T, address, program, secret, proof string) int {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+i.address+"/oauth/token", strings.NewReader(tokenForm.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("X-Forwarded-For", address)
	r.Header.Set("User-Agent", program)
	r.Header.Set("DPoP", proof)
	r.SetBasicAuth("service", secret)
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	return response.StatusCode
}

// A thief has a client's secret and its key, and a proof that he has seen, and tries
// all of it from where he is.
func TestAThiefIsToldOfWhereverSomebodyLooks(t *testing.T) {
	t.Parallel()
	s, p := newSite(t), newPager(t)
	internal := freeport.Address(t)
	webhookURL, err := url.JoinPath(p.URL, "sesame-in-the-path")
	if err != nil {
		t.Fatal(err)
	}
	s.secrets = append(s.secrets, p.text, "sesame-in-the-path")
	s.server = append(s.server, "AUTHZ_TRUSTED_PROXIES=127.0.0.0/8", "AUTHZ_ALERT_WEBHOOK="+webhookURL, "AUTHZ_ALERT_WEBHOOK_SECRET="+p.text)
	key, err := dpopbind.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	s.history(t, key.JKT())
	address := freeport.Address(t)
	process := startAuthz(t, s.program, append(slices.Clone(s.server), "AUTHZ_LISTEN="+address, "AUTHZ_INTERNAL_LISTEN="+internal), "serve")
	s.printers = append(s.printers, process)
	if err := process.await(&process.errOut, `"msg":"ready"`); err != nil {
		t.Fatal(err)
	}
	server := &serving{process, address}
	proof := func() string {
		text, err := key.Proof(http.MethodPost, s.issuer+"/oauth/token", time.Now(), dpopbind.ProofOptions{})
		if err != nil {
			t.Fatal(err)
		}
		s.secrets = append(s.secrets, text)
		return text
	}
	const home, away = "192.0.2.10", "203.0.113.9"
	seen := proof()
	if status := server.from(t, home, "labels/1.4", s.client.secret, seen); status != http.StatusOK {
		t.Fatalf("the client: %d", status)
	}
	if status := server.from(t, away, "curl/8.5.0", s.client.secret, proof()); status != http.StatusOK {
		t.Fatalf("the thief, with all that the client has: %d", status)
	}
	server.from(t, away, "curl/8.5.0", s.client.secret, seen)
	var rotated struct {
		Secret string `json:"client_secret"`
	}
	if err := json.Unmarshal([]byte(runAuthz(t, s.program, s.env, "client", "rotate-secret", s.client.id, "--now", "--json")), &rotated); err != nil {
		t.Fatal(err)
	}
	s.secrets = append(s.secrets, rotated.Secret)
	if status := server.from(t, away, "curl/8.5.0", s.client.secret, proof()); status != http.StatusUnauthorized {
		t.Errorf("with a secret that has ended: %d", status)
	}

	want := []behaviour.AlertKind{behaviour.NewNetwork, behaviour.ReplayedProof, behaviour.RetiredSecret}
	has := func(all []alertView) bool {
		return !slices.ContainsFunc(want, func(k behaviour.AlertKind) bool {
			return !slices.ContainsFunc(all, func(a alertView) bool { return a.Kind == string(k) })
		})
	}
	deadline := time.Now().Add(patience)
	var listed []alertView
	for !has(listed) || !has(p.alerts()) {
		if time.Now().After(deadline) {
			t.Fatalf("listed %+v\nsent %+v\n%s", listed, p.alerts(), &process.errOut)
		}
		if err := json.Unmarshal([]byte(runAuthz(t, s.program, s.env, "alerts", "list", "--client", s.client.id, "--json")), &listed); err != nil {
			t.Fatal(err)
		}
	}
	trail := runAuthz(t, s.program, s.env, "audit", "query", "--kind", "alert.raised", "--client", s.client.id, "--json")
	metrics := scrape(t, internal)
	for _, a := range listed {
		if !strings.Contains(trail, a.ID) {
			t.Errorf("the trail does not tell of alert %s", a.ID)
		}
		if !strings.Contains(metrics, `authz_alerts_total{kind="`+a.Kind+`"} 1`) {
			t.Errorf("no metric tells of %s", a.Kind)
		}
		for _, line := range a.Do {
			if err := understood(line); err != "" && !strings.HasPrefix(line, "#") {
				t.Errorf("%s: %s: %s", a.Kind, line, err)
			}
		}
		for _, secret := range s.secrets {
			if strings.Contains(strings.Join(append(a.Do, a.Seen, a.Normal, a.Why, a.Subject), "\n"), secret) {
				t.Errorf("a secret is in the alert %+v", a)
			}
		}
	}
	if drawing := runAuthz(t, s.program, s.env, "client", "behaviour", s.client.id); !strings.Contains(drawing, "! 203.0.113.0/24") || !strings.Contains(drawing, "  192.0.2.0/24") {
		t.Errorf("it is drawn as\n%s", drawing)
	}
	if shown := runAuthz(t, s.program, s.env, "alerts", "show", listed[0].ID); !strings.Contains(shown, "What to type") {
		t.Errorf("it is shown as\n%s", shown)
	}
	p.isAsDocumented(t)
	s.checkSilence(t)
}

// isAsDocumented checks what came by the document's own code and example.
func (p *pager) isAsDocumented(t *testing.T) {
	t.Helper()
	needs(t, "python3", "openssl")
	page := sectionOf(t, "### The webhook")
	if made := shell(t, t.TempDir(), environment(t), page.next(t, "sh", nil)); made == p.text {
		t.Error("it makes no secret")
	} else if _, err := webhook.ParseSecret(strings.TrimSpace(made)); err != nil {
		t.Error(err)
	}
	var example, got struct {
		Data map[string]any `json:"data"`
	}
	p.mu.Lock()
	last := p.last
	p.mu.Unlock()
	for text, into := range map[string]any{page.next(t, "json", map[string]string{"UTC": "UTC"}): &example, last.Body: &got} {
		if err := json.Unmarshal([]byte(text), into); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(slices.Sorted(maps.Keys(example.Data)), slices.Sorted(maps.Keys(got.Data))); diff != "" {
		t.Errorf("the members of a message (-documented +sent):\n%s", diff)
	}
	program := page.next(t, "python", nil) + `
import json, sys
m = json.load(sys.stdin)
verify(m["secret"], m["headers"], m["body"].encode())
for forged in (m["body"] + " ", "{}"):
    try:
        verify(m["secret"], m["headers"], forged.encode())
    except ValueError:
        continue
    sys.exit("a forged message is taken")
`
	input, err := json.Marshal(last)
	if err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(t.Context(), "python3", "-c", program)
	c.Stdin = bytes.NewReader(input)
	if out, err := c.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func scrape(t *testing.T, address string) string {
	t.Helper()
	response, err := http.Get("http://" + address + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
