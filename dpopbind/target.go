package dpopbind

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Target is what a proof must be for: one HTTP method and the URLs under which
// an endpoint is known. It is immutable and cheap to pass. No proof is for the
// zero Target.
type Target struct {
	method string
	urls   []string // normalised
}

// NewTarget returns the Target of an HTTP method, which is case-sensitive (RFC
// 9110 §9.1), and of at least one URL, the first of which is the one that error
// messages name. Query and fragment of the URLs are left out. URLs come from
// configuration: one that is taken from a request lets the sender choose what
// its proof is compared with.
func NewTarget(method string, urls ...string) (Target, error) {
	if !isToken(method) {
		return Target{}, errors.New("dpopbind: the method of a target must be an HTTP method")
	}
	if len(urls) == 0 {
		return Target{}, errors.New("dpopbind: a target needs a URL")
	}
	t := Target{method: method, urls: make([]string, 0, len(urls))}
	for _, u := range urls {
		n, err := NormalizeURL(u)
		if err != nil {
			return Target{}, fmt.Errorf("dpopbind: the URL %q of a target %w", u, err)
		}
		if !slices.Contains(t.urls, n) {
			t.urls = append(t.urls, n)
		}
	}
	return t, nil
}

// isToken says whether s is a token of RFC 9110 §5.6.2, as methods are.
func isToken(s string) bool {
	for i := 0; i < len(s); i++ {
		if !isAlphanumeric(s[i]) && strings.IndexByte("!#$%&'*+-.^_`|~", s[i]) < 0 {
			return false
		}
	}
	return s != ""
}
