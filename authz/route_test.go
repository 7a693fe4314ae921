package authz_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cargokey/authz/authz"
)

func parseRoutes(t *testing.T, lines ...string) []authz.Route {
	t.Helper()
	var routes []authz.Route
	for _, line := range lines {
		r, err := authz.ParseRoute(line)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := authz.ParseRoute(r.String()); err != nil || again.String() != r.String() {
			t.Errorf("%q comes back as %q, %v", r, again, err)
		}
		routes = append(routes, r)
	}
	return routes
}

// route changes the routes and the URLs of labels.
func (w *world) update(uri string, change func(*authz.Resource)) {
	w.t.Helper()
	r, err := w.owner.Resource(w.t.Context(), uri)
	if err != nil {
		w.t.Fatal(err)
	}
	change(r)
	event := operatorEvent(authz.AuditResourceUpdated)
	if err := r.Validate(); err != nil {
		w.t.Fatal(err)
	}
	w.changed.Store(time.Now().UnixMilli())
	if err := w.owner.UpdateResource(w.t.Context(), r, event); err != nil {
		w.t.Fatal(err)
	}
}

func TestRouteDecidesWhatACallNeedsAndNoRouteIsNoWay(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i := w.instance()
	w.update(labels, func(r *authz.Resource) {
		r.Routes = parseRoutes(t,
			"POST /labels label:create",
			"GET /labels/{id} label:read",
			"GET /labels/{id}/history label:read CXS",
			"GET /labels/special label:create",
			"* /files/{path...} label:read",
			"GET /open",
			"GET /tree/ label:read",
			"GET /only/{$} label:read",
		)
	})
	gateway, key := w.gateway(), newKey(t)
	reader := w.client(authz.Client{ID: "reader", Grants: []authz.Grant{{Resource: labels, Scopes: []string{"label:read"}}}})
	token := i.token(reader, key).string("access_token")
	for _, row := range []struct {
		method, path string
		options      string
		status       int
		says         string
	}{
		{"GET", "/labels/7", "", 200, ""},
		{"HEAD", "/labels/7", "", 200, ""}, // as with http.ServeMux
		{"GET", "/labels/a%20b", "", 200, ""},
		{"GET", "/files/a/b/c", "", 200, ""},
		{"DELETE", "/files/a", "", 200, ""},
		{"GET", "/open", "", 200, ""},
		{"GET", "/tree/", "", 200, ""},
		{"GET", "/tree/x/y", "", 200, ""},
		{"GET", "/only/", "", 200, ""},
		{"GET", "/labels/7", "scope=label:read", 200, ""},

		{"GET", "/labels/7", "scope=label:create", 403, "this request needs: label:read label:create"},
		{"POST", "/labels", "", 403, "needs: label:create"},
		{"GET", "/labels/special", "", 403, "needs: label:create"},
		{"GET", "/labels/7/history", "", 403, "needs: CXS label:read"},

		{"GET", "/", "", 403, "no route"},
		{"GET", "", "", 403, "no route"},
		{"GET", "/labels", "", 403, "no route"},
		{"GET", "/labels/", "", 403, "no route"},
		{"PUT", "/labels/7", "", 403, "no route"},
		{"GET", "/Labels/7", "", 403, "no route"},
		{"GET", "/labels/7/", "", 403, "no route"},
		{"GET", "/labels/7/8", "", 403, "no route"},
		{"GET", "/openx", "", 403, "no route"},
		{"GET", "/tree", "", 403, "no route"}, // where http.ServeMux would redirect
		{"GET", "/only/x", "", 403, "no route"},
	} {
		url := labelsURL + row.path
		c := call{gateway: gateway, method: row.method, url: url, token: token, options: strings.ReplaceAll(row.options, " ", "%20"),
			proofs: []string{i.proofFor(key, row.method, url, token)}}
		t.Run(row.method+" "+row.path+"?"+row.options, func(t *testing.T) {
			if row.status == http.StatusOK {
				i.passes(c)
				return
			}
			code := "insufficient_scope"
			if row.says == "no route" {
				code = "invalid_request"
			}
			if a := i.refusedAs(c, 403, code); !strings.Contains(a.string("error_description"), row.says) {
				t.Errorf("says %q", a.string("error_description"))
			}
		})
	}
}

// Every call, whether there are routes or not: a gateway may choose the API by
// another reading of the path than the check does.
func TestCallThatReadsInTwoWaysIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i := w.instance()
	gateway, client, key := w.gateway(), w.client(authz.Client{}), newKey(t)
	token := i.token(client, key).string("access_token")
	try := func(method, path string) answer {
		url := labelsURL + path
		return i.verify(call{gateway: gateway, method: method, url: url, token: token, proofs: []string{i.proofFor(key, method, url, token)}})
	}
	for _, path := range []string{
		"//rates/quotes", "/rates%2Fquotes", "/rates%2fquotes", "/%2Frates/quotes", "/x//", "/x%5Cy", "/rates%5Cquotes", "/x%2F..%2Frates",
		"/rates;x/quotes", "/rates;x", "/x;a=b", "/x%3Bb", "/x/..%3B/admin", "/x/..;/admin", "/x/.;/admin", "/a%252Fb", "/a%00", "/a%0A", "/a%1f", "/a%7F",
		"/admin.", "/admin./x", "/admin%20", "/admin%20/x", "/...",
	} {
		if a := try("GET", path); a.status != 403 || a.string("error") != "invalid_request" || !strings.Contains(a.string("error_description"), "read in two ways") {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
	}
	for _, method := range []string{"get", "Get", "delete", "gET"} {
		if a := try(method, "/x"); a.status != 403 || !strings.Contains(a.string("error_description"), "small letters") {
			t.Errorf("%s: %d %s", method, a.status, a.body)
		}
	}
	for _, path := range []string{"", "/", "/x", "/x/", "/a%20b", "/.well-known/x", "/a.b/c-d_e~f", "/a,b@c:d", "/%C3%A9"} {
		if a := try("GET", path); a.status != 200 {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
	}
}

func TestRouteThatCannotBeMatchedWithCertaintyIsNotRegistered(t *testing.T) {
	t.Parallel()
	for name, lines := range map[string][]string{
		"no slash":                {"GET labels label:read"},
		"a host":                  {"GET api.carrier.test/labels label:read"},
		"a bad wildcard":          {"GET /labels/{ label:read"},
		"a wildcard twice":        {"GET /{id}/{id} label:read"},
		"a bad method":            {"GE,T /labels label:read"},
		"the same twice":          {"GET /labels label:read", "GET /labels label:create"},
		"two that fit as well":    {"GET /labels/{id} label:read", "GET /{x}/new label:create"},
		"a scope of nobody":       {"GET /labels label:write"},
		"the same in other terms": {"GET /labels/{a} label:read", "GET /labels/{b} label:read"},
	} {
		r := &authz.Resource{URI: labels, Scopes: []string{"label:create", "label:read"}, Routes: parseRoutes(t, lines...)}
		if err := r.Validate(); err == nil {
			t.Errorf("%s: %q is accepted", name, lines)
		}
	}
	for _, line := range []string{"", "GET", "  ", "GET\t", "/labels label:read", "get /labels label:read"} {
		if r, err := authz.ParseRoute(line); err == nil {
			t.Errorf("%q is a route: %v", line, r)
		}
	}
}

func TestBaseURLsAreNormalisedAndSafe(t *testing.T) {
	t.Parallel()
	r := &authz.Resource{URI: labels, Scopes: []string{"a"}, BaseURLs: []string{
		"HTTPS://API.carrier.test:443/v1/", "https://api.carrier.test/v1", "https://api.carrier.test", "http://127.0.0.1:8090/", "http://localhost:1",
	}}
	if err := r.Validate(); err != nil {
		t.Fatal(err)
	}
	want := []string{"http://127.0.0.1:8090", "http://localhost:1", "https://api.carrier.test", "https://api.carrier.test/v1"}
	if !slices.Equal(r.BaseURLs, want) {
		t.Errorf("%q, want %q", r.BaseURLs, want)
	}
	for _, bad := range []string{"", "api.carrier.test", "/v1", "http://api.carrier.test", "https://", "https://u@h.test", "https://h.test?q", "https://h.test/#f", "ftp://h.test", "https://h.test/%zz"} {
		r := &authz.Resource{URI: labels, Scopes: []string{"a"}, BaseURLs: []string{bad}}
		if err := r.Validate(); err == nil {
			t.Errorf("the base URL %q is accepted as %q", bad, r.BaseURLs)
		}
	}
}

// What one instance has kept of a resource lets no call pass once the resource has
// changed. What it refuses by it, it refuses for a moment more at most.
func TestChangedResourceCountsAtOnceOnEveryInstance(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	one, two := w.instance(), w.instance()
	gateway, client, key := w.gateway(), w.client(authz.Client{}), newKey(t)
	token := one.token(client, key, "scope", "label:read").string("access_token")
	moved := func(i *instance) call {
		c := i.goodCall(gateway, token, key)
		c.url = "https://elsewhere.test/x"
		c.proofs = []string{i.proofFor(key, c.method, c.url, token)}
		return c
	}
	for _, i := range []*instance{one, two} {
		i.passes(i.goodCall(gateway, token, key))
	}
	w.update(labels, func(r *authz.Resource) { r.Routes = parseRoutes(t, "POST /labels label:create") })
	for _, i := range []*instance{one, two} {
		i.refusedAs(i.goodCall(gateway, token, key), 403, "insufficient_scope")
	}
	w.update(labels, func(r *authz.Resource) { r.Routes = nil; r.RequireNonce = true })
	for _, i := range []*instance{one, two} {
		i.refusedAs(i.goodCall(gateway, token, key), 401, "use_dpop_nonce")
	}
	w.update(labels, func(r *authz.Resource) { r.RequireNonce = false })
	for _, i := range []*instance{one, two} {
		i.passesSoon(func() call { return i.goodCall(gateway, token, key) })
	}
	w.update(labels, func(r *authz.Resource) { r.BaseURLs = []string{"https://elsewhere.test"} })
	for _, i := range []*instance{one, two} {
		i.refusedAs(i.goodCall(gateway, token, key), 403, "invalid_request")
		i.passesSoon(func() call { return moved(i) })
	}
}

// passesSoon holds that a call passes within three seconds.
func (i *instance) passesSoon(make func() call) {
	i.w.t.Helper()
	for end := time.Now().Add(3 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		a := i.verify(make())
		if a.status == http.StatusOK {
			return
		}
		if time.Now().After(end) {
			i.w.t.Fatalf("%d %s", a.status, a.body)
		}
	}
}
