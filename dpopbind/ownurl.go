package dpopbind

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// ownURLs tells under which URLs a request reached this API: what a proof's htu
// is compared with. It never takes the Host header's word, which is the
// sender's.
type ownURLs struct {
	bases   []string // normalised, without a slash at the end
	proxies []netip.Prefix
}

func newOwnURLs(bases []string, proxies []netip.Prefix) (*ownURLs, error) {
	if len(bases) == 0 && len(proxies) == 0 {
		return nil, errors.New("dpopbind: a middleware needs the BaseURLs that it is reached at, or TrustedProxies to say them")
	}
	o := &ownURLs{}
	for _, base := range bases {
		if strings.ContainsAny(base, "?#") {
			return nil, fmt.Errorf("dpopbind: the base URL %q has a query or a fragment", base)
		}
		normal, err := NormalizeURL(base)
		if err != nil {
			return nil, fmt.Errorf("dpopbind: the base URL %q %w", base, err)
		}
		if normal = strings.TrimSuffix(normal, "/"); !slices.Contains(o.bases, normal) {
			o.bases = append(o.bases, normal)
		}
	}
	for _, a := range o.bases {
		for _, b := range o.bases {
			// One URL would name two paths of this API.
			if strings.HasPrefix(a, b+"/") {
				return nil, fmt.Errorf("dpopbind: the base URL %q lies within the base URL %q", a, b)
			}
		}
	}
	for _, prefix := range proxies {
		if !prefix.IsValid() {
			return nil, errors.New("dpopbind: a trusted proxy's prefix is not valid")
		}
		o.proxies = append(o.proxies, prefix.Masked())
	}
	return o, nil
}

var (
	errUnknownOrigin = errors.New("the request did not come by a trusted proxy that says where it was sent")
	errAmbiguousPath = errors.New("the request's path is not in its normal form")
)

// target is what a proof that comes with the request must be for.
func (o *ownURLs) target(r *http.Request) (Target, error) {
	if err := checkForm(r); err != nil {
		return Target{}, err
	}
	bases, err := o.basesOf(r)
	if err != nil {
		return Target{}, err
	}
	// As RequestURL: /labels/../admin would lead out of the base.
	path, err := normalizeRequestPath(r.URL.EscapedPath())
	if err != nil {
		return Target{}, errAmbiguousPath
	}
	urls := make([]string, len(bases))
	for i, base := range bases {
		urls[i] = base + path
	}
	t, err := NewTarget(r.Method, urls...)
	if err != nil {
		return Target{}, errAmbiguousPath
	}
	return t, nil
}

// checkForm refuses a request target without a path of its own, such as
// "x:http://host/admin": what is behind, a reverse proxy above all, may take
// another path from it than the one that is looked at here.
func checkForm(r *http.Request) error {
	if r.URL.Opaque != "" {
		return errAmbiguousPath
	}
	return nil
}

// basesOf narrows the bases to the origin that a trusted proxy names. One that
// has no base is not believed.
func (o *ownURLs) basesOf(r *http.Request) ([]string, error) {
	origin, ok := forwardedOrigin(r, o.proxies)
	if len(o.bases) == 0 {
		if !ok {
			return nil, errUnknownOrigin
		}
		return []string{origin}, nil
	}
	if !ok {
		return o.bases, nil
	}
	var under []string
	for _, base := range o.bases {
		if base == origin || strings.HasPrefix(base, origin+"/") {
			under = append(under, base)
		}
	}
	if under == nil {
		return o.bases, nil
	}
	return under, nil
}
