package authz

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/cargokey/authz/dpopbind"
)

// Route says which scopes a call of a resource needs.
type Route struct {
	Method string   `json:"method"` // "" stands for any; GET is for HEAD as well
	Path   string   `json:"path"`   // a pattern of http.ServeMux without a host, below the base URL
	Scopes []string `json:"scopes"` // all are needed, sorted; none: any token of the resource will do
}

// ParseRoute reads a route as it is written: METHOD PATH [SCOPE…], where the
// method * stands for any.
func ParseRoute(text string) (Route, error) {
	fields := strings.Fields(text)
	if len(fields) < 2 {
		return Route{}, fmt.Errorf("route %q: write METHOD PATH SCOPE…, such as: POST /labels/{id} label:create", text)
	}
	if strings.HasPrefix(fields[0], "/") || strings.ToUpper(fields[0]) != fields[0] {
		return Route{}, fmt.Errorf("route %q: it begins with a method in capitals, or * for any", text)
	}
	r := Route{Method: fields[0], Path: fields[1], Scopes: fields[2:]}
	if r.Method == "*" {
		r.Method = ""
	}
	return r, nil
}

// String is the form that ParseRoute reads.
func (r Route) String() string {
	method := r.Method
	if method == "" {
		method = "*"
	}
	return strings.Join(append([]string{method, r.Path}, r.Scopes...), " ")
}

// Limits of what is registered for a resource.
const (
	maxBaseURLs = 32
	maxRoutes   = 512
)

// validateBaseURLs normalises the base URLs, so that a call's normalised URL can
// be compared with them byte by byte.
func (r *Resource) validateBaseURLs() error {
	if len(r.BaseURLs) > maxBaseURLs {
		return fmt.Errorf("resource %s: more than %d base URLs", r.URI, maxBaseURLs)
	}
	urls := slices.Clone(r.BaseURLs)
	for i, base := range urls {
		normal, err := dpopbind.NormalizeURL(base)
		if err != nil {
			return fmt.Errorf("resource %s: the base URL %q %w", r.URI, base, err)
		}
		if strings.ContainsAny(base, "?#") {
			return fmt.Errorf("resource %s: the base URL %q has a query or a fragment", r.URI, base)
		}
		u, err := url.Parse(normal)
		if err != nil || u.Scheme != "https" && !isLoopback(u.Hostname()) {
			return fmt.Errorf("resource %s: the base URL %q is not https; http is for loopback hosts only", r.URI, base)
		}
		urls[i] = strings.TrimSuffix(normal, "/")
	}
	slices.Sort(urls)
	r.BaseURLs = slices.Compact(urls)
	return nil
}

func (r *Resource) validateRoutes() error {
	if len(r.Routes) > maxRoutes {
		return fmt.Errorf("resource %s: more than %d routes", r.URI, maxRoutes)
	}
	routes := slices.Clone(r.Routes)
	for i := range routes {
		route := &routes[i]
		route.Scopes = slices.Compact(slices.Sorted(slices.Values(route.Scopes)))
		if !containsAll(r.Scopes, route.Scopes) {
			return fmt.Errorf("resource %s: route %q needs a scope that the resource does not define", r.URI, route)
		}
	}
	slices.SortFunc(routes, func(a, b Route) int {
		return strings.Compare(a.Path+" "+a.Method, b.Path+" "+b.Method)
	})
	r.Routes = routes
	_, err := newRouteTable(routes)
	if err != nil {
		return fmt.Errorf("resource %s: %w", r.URI, err)
	}
	return nil
}

// routeTable finds the route of a call. The matching is http.ServeMux's; what
// that does beyond matching, to redirect above all, counts as no match.
type routeTable struct{ mux *http.ServeMux }

// matched is what the table's mux has for handlers: they are never called.
type matched struct{ Route }

func (matched) ServeHTTP(http.ResponseWriter, *http.Request) {}

// newRouteTable returns nil for no routes.
func newRouteTable(routes []Route) (*routeTable, error) {
	if len(routes) == 0 {
		return nil, nil
	}
	t := &routeTable{http.NewServeMux()}
	for _, r := range routes {
		if !strings.HasPrefix(r.Path, "/") {
			return nil, fmt.Errorf("route %q: its path does not begin with a slash", r)
		}
		if err := t.add(r); err != nil {
			return nil, fmt.Errorf("route %q: %w", r, err)
		}
	}
	return t, nil
}

// add turns the mux's panic about a pattern that it does not understand, or that
// conflicts with another one, into an error.
func (t *routeTable) add(r Route) (err error) {
	defer func() {
		switch p := recover(); {
		case p == nil:
		case strings.Contains(fmt.Sprint(p), "conflicts with"):
			err = errors.New("another route fits some call as well as this one; see the precedence of patterns of Go's net/http.ServeMux")
		default:
			err = errors.New("the pattern is malformed; see the patterns of Go's net/http.ServeMux")
		}
	}()
	t.mux.Handle(strings.TrimSpace(r.Method+" "+r.Path), matched{r})
	return nil
}

// find returns the scopes that a call needs. path is plain (see plainPath), and
// below the resource's base URL.
func (t *routeTable) find(method, path string) (scopes []string, ok bool) {
	decoded, err := url.PathUnescape(path)
	if err != nil {
		return nil, false
	}
	handler, _ := t.mux.Handler(&http.Request{Method: method, URL: &url.URL{Path: decoded, RawPath: path}})
	m, ok := handler.(matched)
	return m.Scopes, ok
}
