package jwksuri

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"github.com/cargokey/authz/internal/strictjose"
)

// source fetches documents. No error of its names a URL: that is the caller's to do.
type source struct {
	transport *http.Transport
	networks  []netip.Prefix
	limit     int64
	parse     func([]byte) ([]strictjose.SetKey, error)
	slots     chan struct{}
}

func newSource(c Config) *source {
	s := &source{networks: c.Networks, limit: c.MaxDocument, parse: c.Parse, slots: make(chan struct{}, maxFetches)}
	dialer := &net.Dialer{Timeout: fetchTimeout, Resolver: c.Resolver, Control: s.control}
	s.transport = &http.Transport{
		// No Proxy: it would be the one to resolve the host, and to dial it.
		DialContext:     dialer.DialContext,
		TLSClientConfig: &tls.Config{RootCAs: c.Authorities, MinVersion: tls.VersionTLS12},
		// Each fetch dials anew, and is judged anew; minutes lie between two.
		DisableKeepAlives:      true,
		DisableCompression:     true, // what is counted is what was sent
		TLSHandshakeTimeout:    fetchTimeout,
		MaxResponseHeaderBytes: 16 << 10,
	}
	return s
}

// outage is a failure that tells nothing of the keys: the host was not reached, or
// says that it cannot answer now. Any other failure is the host's answer.
type outage struct{ error }

// fetch reads the keys at uri, in bounded time.
func (s *source) fetch(uri string) ([]strictjose.SetKey, error) {
	if Validate(uri) != nil { // whose error names the URI
		return nil, errors.New("is no jwks_uri that can be registered")
	}
	ctx, cancel := context.WithTimeout(context.Background(), fetchTimeout)
	defer cancel()
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	case <-ctx.Done():
		return nil, outage{errors.New("too many other fetches are under way")}
	}
	response, err := s.get(ctx, uri)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	switch status := response.StatusCode; {
	case status >= 500 || status == http.StatusTooManyRequests:
		return nil, outage{fmt.Errorf("the answer has the status %d", status)}
	case status != http.StatusOK:
		return nil, fmt.Errorf("the answer has the status %d", status)
	}
	doc, err := io.ReadAll(io.LimitReader(response.Body, s.limit+1))
	if err != nil {
		return nil, outage{err}
	}
	if int64(len(doc)) > s.limit {
		return nil, fmt.Errorf("the answer is longer than %d bytes", s.limit)
	}
	keys, err := s.parse(doc)
	if err != nil {
		return nil, fmt.Errorf("the answer %w", err)
	}
	return keys, nil
}

// get asks for uri, and follows a few redirects within its origin. No other: a
// client's host would choose whom in Config's Networks this server asks for what.
// Each is dialled anew, and judged as the first.
func (s *source) get(ctx context.Context, uri string) (*http.Response, error) {
	origin, err := url.Parse(uri)
	if err != nil {
		return nil, errors.New("is not a URL")
	}
	to := origin
	for redirects := 0; ; redirects++ {
		request := (&http.Request{Method: http.MethodGet, URL: to, Header: http.Header{
			"Accept": {"application/jwk-set+json, application/json"}, // RFC 7517 §8.5.2
		}}).WithContext(ctx)
		response, err := s.transport.RoundTrip(request)
		if err != nil {
			return nil, outage{err}
		}
		switch response.StatusCode {
		case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther,
			http.StatusTemporaryRedirect, http.StatusPermanentRedirect: // RFC 9110 §15.4
		default:
			return response, nil
		}
		response.Body.Close()
		to, err = response.Location()
		switch {
		case err != nil:
			return nil, errors.New("redirected to what is not a URL")
		case redirects == maxRedirects:
			return nil, fmt.Errorf("redirected more than %d times", maxRedirects)
		case !sameOrigin(origin, to):
			return nil, errors.New("redirected to another host, port or scheme")
		}
	}
}

// sameOrigin compares as RFC 6454 §4 does; both have to be https, and to has to
// bring no password.
func sameOrigin(origin, to *url.URL) bool {
	port := func(u *url.URL) string {
		if u.Port() == "" {
			return "443"
		}
		return u.Port()
	}
	return origin.Scheme == "https" && to.Scheme == "https" && to.User == nil &&
		strings.EqualFold(origin.Hostname(), to.Hostname()) && port(origin) == port(to)
}
