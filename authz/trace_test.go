package authz_test

import (
	"context"
	"encoding/hex"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/cargokey/authz/authz"
	"github.com/cargokey/authz/internal/span/spantest"
	"github.com/cargokey/authz/storage/postgres"
)

// traced is an instance whose requests are traced, its collector, and what sends all
// that has ended.
func (w *world) traced(options ...func(*authz.Config)) (*instance, *spantest.Collector, func()) {
	w.t.Helper()
	collector := spantest.New(w.t)
	exporter, err := otlptracehttp.New(w.t.Context(), otlptracehttp.WithEndpointURL(collector.URL+"/v1/traces"))
	if err != nil {
		w.t.Fatal(err)
	}
	provider := sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter))
	w.t.Cleanup(func() { provider.Shutdown(context.WithoutCancel(w.t.Context())) })
	w.traces = append(w.traces, collector)
	store, err := postgres.Open(w.t.Context(), w.database.ServerURL, postgres.AsServer(), postgres.Traced())
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(store.Close)
	i := w.instance(append([]func(*authz.Config){func(c *authz.Config) {
		c.Store, c.Traces.Provider = store, provider
	}}, options...)...)
	return i, collector, func() {
		// An answer is there before the end of its span.
		if err := provider.ForceFlush(w.t.Context()); err != nil {
			w.t.Error(err)
		}
	}
}

// trace waits for the trace of an answer.
func traceOf(t *testing.T, c *spantest.Collector, flush func(), a answer) (root spantest.Span, others []spantest.Span) {
	t.Helper()
	id := a.header.Get("X-Request-Id")
	for range 1000 {
		flush()
		if slices.ContainsFunc(c.Spans(), func(s spantest.Span) bool { return s.Attributes["authz.request_id"] == id }) {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	return c.Trace(t, id)
}

// tree is a span's name, with those below it in the order in which they began.
func tree(of spantest.Span, all []spantest.Span) string {
	var below []spantest.Span
	for _, s := range all {
		if string(s.ParentSpanId) == string(of.SpanId) {
			below = append(below, s)
		}
	}
	slices.SortStableFunc(below, func(a, b spantest.Span) int { return int(int64(a.StartTimeUnixNano) - int64(b.StartTimeUnixNano)) })
	var names []string
	for _, s := range below {
		names = append(names, tree(s, all))
	}
	if len(names) == 0 {
		return of.Name
	}
	return of.Name + "(" + strings.Join(names, " ") + ")"
}

func TestTraceShowsEachStepOfARequest(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	client, gateway, key := w.client(authz.Client{}), w.gateway(), newKey(t)
	i, collector, flush := w.traced()
	first := i.token(client, key)
	token := first.string("access_token")
	const onceRead = "Fosite.NewAccessRequest(check authenticate verify) Fosite.NewAccessResponse(mint spend and record(record tokens)) answer)"
	for _, c := range []struct {
		name   string
		answer answer
		want   string
	}{
		{"token, the client read", first,
			"POST /oauth/token(arrive parse Fosite.NewAccessRequest(check authenticate(statement) verify) Fosite.NewAccessResponse(mint spend and record(record tokens)) answer)"},
		{"token", i.token(client, key), "POST /oauth/token(arrive parse " + onceRead},
		{"introspect", i.introspect(gateway, token),
			"POST /oauth/introspect(arrive parse authenticate(statement) look up(look up tokens) answer)"},
		{"verify", i.passes(i.goodCall(gateway, token, key)),
			"GET /gateway/verify(arrive parse authenticate verify spend and record(admit calls) answer)"},
		{"revoke", i.do(i.post("/oauth/revoke", client, url.Values{"token": {token}})),
			"POST /oauth/revoke(arrive parse authenticate revoke and record(statement) answer)"},
		{"no grant type", i.do(i.post("/oauth/token", client, url.Values{})), "POST /oauth/token(arrive parse answer)"},
		{"a wrong secret", i.do(i.tokenRequest(registered{client.Client, "wrong"}, key, clientCredentials)),
			"POST /oauth/token(arrive parse Fosite.NewAccessRequest(check authenticate(statement)) answer)"},
		{"no form", i.get("/oauth/token"), "GET /oauth/token(arrive parse answer)"},
	} {
		root, others := traceOf(t, collector, flush, c.answer)
		if got := tree(root, others); got != c.want {
			t.Errorf("%s (%d):\n got %s\nwant %s", c.name, c.answer.status, got, c.want)
		}
		if id := `"trace_id":"` + hex.EncodeToString(root.TraceId) + `"`; !strings.Contains(w.logs.String(), id) {
			t.Errorf("%s: the log has no %s", c.name, id)
		}
	}
}

// attributesOfTraces are all that there are: what is not here is nobody's to add
// without asking where its values come from.
var attributesOfTraces = []string{
	"authz.client_id", "authz.endpoint", "authz.gateway", "authz.jkt", "authz.jti", "authz.outcome", "authz.request_id",
	"authz.statement.requests", "db.response.status_code", "db.system.name", "error.type", "http.request.method",
	"http.response.status_code", "http.route",
}

// Whatever a request brings, in order or not, and whatever fails on its way: a span
// has names from closed sets and the server's own names for things. That no secret is
// in what the collector got is checked at the end of the test, byte by byte.
func TestTracesHoldNothingThatARequestBrings(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i, collector, flush := w.traced()
	client, gateway, key := w.client(authz.Client{}), w.gateway(), newKey(t)
	asserting := w.asserting(authz.Client{ID: "by-assertion"})
	const private = "private-to-its-sender"
	token := i.token(client, key).string("access_token")
	i.introspect(gateway, token)
	if a := i.assertedToken(asserting, key); a.status != http.StatusOK {
		t.Errorf("%d %s", a.status, a.body)
	}

	r := i.tokenRequest(client, key, with(clientCredentials, "scope", private, "other", private))
	for _, name := range []string{"User-Agent", "Tracestate", "Baggage", "X-Request-Id", "X-Forwarded-For", "Traceparent"} {
		r.Header.Set(name, private+"=1")
	}
	r.Header.Set("Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	refused := []answer{
		i.do(r),
		i.do(i.tokenRequest(registered{client.Client, private}, key, clientCredentials)),
		i.do(i.post("/oauth/token", registered{&authz.Client{ID: private}, private}, clientCredentials)),
		i.do(i.post("/oauth/token?"+private, client, clientCredentials)),
		i.do(i.post("/oauth/token", registered{}, with(clientCredentials, "client_assertion", private, "client_assertion_type", private))),
		i.verify(call{gateway: gateway, method: http.MethodPost, url: labelsURL + "/" + private + "?" + private, token: token, proofs: []string{private}}),
	}
	r = i.tokenRequest(client, nil, clientCredentials)
	r.Method = "PRIVATE-TO-ITS-SENDER"
	refused = append(refused, i.do(r))
	w.exec("alter table authz.spent_proofs rename to elsewhere")
	refused = append(refused, i.do(i.tokenRequest(client, key, clientCredentials)))
	w.exec("alter table authz.elsewhere rename to spent_proofs")
	for _, a := range refused {
		if a.status == http.StatusOK {
			t.Errorf("answered: %s", a.body)
		}
		traceOf(t, collector, flush, a)
	}

	for _, text := range []string{private, strings.ToUpper(private)} {
		if strings.Contains(collector.Bytes(), text) {
			t.Errorf("a trace has %q", text)
		}
	}
	seen := map[string]bool{}
	for _, s := range collector.Spans() {
		for name := range s.Attributes {
			if !slices.Contains(attributesOfTraces, name) {
				t.Errorf("a span %q has the attribute %q", s.Name, name)
			}
			seen[name] = true
		}
		if len(s.Events) > 0 || s.Status.GetMessage() != "" || s.TraceState != "" {
			t.Errorf("a span %q says more: %v %q %q", s.Name, s.Events, s.Status.GetMessage(), s.TraceState)
		}
	}
	for _, name := range attributesOfTraces {
		if !seen[name] {
			t.Errorf("nothing has the attribute %q", name)
		}
	}
}

func TestTraceSaysWhoAskedForWhatAndHowItEnded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i, collector, flush := w.traced()
	client, gateway, key := w.client(authz.Client{}), w.gateway(), newKey(t)
	issued := i.token(client, key)
	token := issued.string("access_token")
	claims := verified(t, i, token)
	passed := i.passes(i.goodCall(gateway, token, key))
	replayed := i.tokenRequest(client, key, clientCredentials)
	i.do(replayed)
	again := i.post("/oauth/token", client, clientCredentials)
	again.Header.Set("DPoP", replayed.Header.Get("DPoP"))
	refused, unknown := i.do(again), i.do(i.tokenRequest(registered{client.Client, "wrong"}, key, clientCredentials))
	for _, c := range []struct {
		answer answer
		want   map[string]any
	}{
		{issued, map[string]any{"http.request.method": "POST", "http.route": "/oauth/token", "http.response.status_code": int64(200),
			"authz.endpoint": "token", "authz.outcome": "ok", "authz.client_id": client.ID, "authz.jkt": key.JKT(), "authz.jti": claims["jti"]}},
		{passed, map[string]any{"http.request.method": "GET", "http.route": "/gateway/verify", "http.response.status_code": int64(200),
			"authz.endpoint": "verify", "authz.outcome": "ok", "authz.client_id": client.ID, "authz.gateway": gateway.ID, "authz.jkt": key.JKT(), "authz.jti": claims["jti"]}},
		{unknown, map[string]any{"http.request.method": "POST", "http.route": "/oauth/token", "http.response.status_code": int64(401),
			"authz.endpoint": "token", "authz.outcome": "invalid_client", "error.type": "invalid_client"}},
	} {
		root, _ := traceOf(t, collector, flush, c.answer)
		c.want["authz.request_id"] = c.answer.header.Get("X-Request-Id")
		if diff := cmp.Diff(c.want, root.Attributes); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
	root, others := traceOf(t, collector, flush, refused)
	if root.Attributes["authz.outcome"] != "invalid_dpop_proof" {
		t.Errorf("a replay: %v", root.Attributes)
	}
	at := slices.IndexFunc(others, func(s spantest.Span) bool { return s.Name == "spend and record" })
	if at < 0 || others[at].Attributes["error.type"] != "invalid_dpop_proof" {
		t.Errorf("a replay: %v", tree(root, others))
	}
}

// A parent chooses the id of the trace and whether it is sampled.
func TestTraceparentOfAStrangerIsALinkAndOfAPeerWhoIsTrustedTheParent(t *testing.T) {
	t.Parallel()
	const trace, span = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	trusted := func(c *authz.Config) { c.Traces.Parents = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} }
	for name, c := range map[string]struct {
		options      []func(*authz.Config)
		headers      []string
		parent, link bool
	}{
		"a stranger":                          {headers: []string{"00-" + trace + "-" + span + "-01"}, link: true},
		"a stranger who wants nobody to look": {headers: []string{"00-" + trace + "-" + span + "-00"}, link: true},
		"nobody is looked at": {headers: []string{"00-" + trace + "-" + span + "-01"},
			options: []func(*authz.Config){func(c *authz.Config) { c.Traces.IgnoreCallers = true }}},
		"one who is trusted": {headers: []string{"00-" + trace + "-" + span + "-01"}, options: []func(*authz.Config){trusted}, parent: true},
		"two of them":        {headers: []string{"00-" + trace + "-" + span + "-01", "00-" + trace + "-" + span + "-01"}, options: []func(*authz.Config){trusted}},
		"no traceparent":     {headers: []string{"00-" + trace + "-" + span}, options: []func(*authz.Config){trusted}},
		"another network": {headers: []string{"00-" + trace + "-" + span + "-01"}, link: true,
			options: []func(*authz.Config){func(c *authz.Config) { c.Traces.Parents = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")} }}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			i, collector, flush := w.traced(c.options...)
			r := i.post("/oauth/token", registered{}, clientCredentials)
			r.Header["Traceparent"] = c.headers
			root, _ := traceOf(t, collector, flush, i.do(r))
			if got := hex.EncodeToString(root.TraceId) == trace && hex.EncodeToString(root.ParentSpanId) == span; got != c.parent {
				t.Errorf("a child of it: %t", got)
			}
			linked := len(root.Links) == 1 && hex.EncodeToString(root.Links[0].TraceId) == trace && hex.EncodeToString(root.Links[0].SpanId) == span
			if linked != c.link || !c.link && len(root.Links) > 0 {
				t.Errorf("links: %v", root.Links)
			}
			if !c.parent && (len(root.ParentSpanId) > 0 || hex.EncodeToString(root.TraceId) == trace) {
				t.Errorf("trace %x, parent %x", root.TraceId, root.ParentSpanId)
			}
		})
	}
}
