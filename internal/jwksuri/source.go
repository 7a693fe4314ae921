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

	"github.com/cargokey/authz/internal/strictjose"
)

// source fetches documents.
type source struct {
	client   *http.Client
	networks []netip.Prefix
	limit    int64
	parse    func([]byte) ([]strictjose.SetKey, error)
	slots    chan struct{}
}

func newSource(c Config) *source {
	s := &source{networks: c.Networks, limit: c.MaxDocument, parse: c.Parse, slots: make(chan struct{}, maxFetches)}
	dialer := &net.Dialer{Timeout: fetchTimeout, Resolver: c.Resolver, Control: s.control}
	s.client = &http.Client{
		Transport: &http.Transport{
			// No Proxy: it would be the one to resolve the host, and to dial it.
			DialContext:     dialer.DialContext,
			TLSClientConfig: &tls.Config{RootCAs: c.Authorities, MinVersion: tls.VersionTLS12},
			// Each fetch dials anew, and is judged anew; minutes lie between two.
			DisableKeepAlives:      true,
			DisableCompression:     true, // what is counted is what was sent
			TLSHandshakeTimeout:    fetchTimeout,
			MaxResponseHeaderBytes: 16 << 10,
		},
		CheckRedirect: followHTTPS,
	}
	return s
}

// followHTTPS follows a few redirects, each to https. Where they lead is judged as
// the first host is, when it is dialled.
func followHTTPS(next *http.Request, via []*http.Request) error {
	switch {
	case len(via) > maxRedirects:
		return fmt.Errorf("redirected more than %d times", maxRedirects)
	case next.URL.Scheme != "https" || next.URL.User != nil:
		return errors.New("redirected to something else than https")
	}
	next.Header.Del("Referer") // the other host need not know
	return nil
}

// fetch reads the keys at uri, in bounded time.
func (s *source) fetch(uri string) ([]strictjose.SetKey, error) {
	ctx, cancel := context.WithTimeout(context.Background(), fetchTimeout)
	defer cancel()
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	case <-ctx.Done():
		return nil, errors.New("too many other fetches are under way")
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, uri, nil)
	if err != nil {
		return nil, err
	}
	if request.URL.Scheme != "https" {
		return nil, errors.New("is not https")
	}
	request.Header.Set("Accept", "application/jwk-set+json, application/json") // RFC 7517 §8.5.2
	response, err := s.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the answer has the status %d", response.StatusCode)
	}
	doc, err := io.ReadAll(io.LimitReader(response.Body, s.limit+1))
	if err != nil {
		return nil, err
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
