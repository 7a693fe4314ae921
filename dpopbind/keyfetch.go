package dpopbind

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/cargokey/authz/internal/strictjose"
)

// maxIssuerMetadata bounds the authorization server's metadata, in bytes.
const maxIssuerMetadata = 128 << 10

// keyFetcher fetches the keys of one issuer.
type keyFetcher struct {
	client     *http.Client
	issuer     string
	metadata   string // its URL
	algorithms []Algorithm
	configured string // jwks_uri, "" to discover it

	now func() time.Time

	mu           sync.Mutex
	discovered   string
	discoveredAt time.Time
}

func newKeyFetcher(client *http.Client, issuer, jwksURI string, algorithms []Algorithm, now func() time.Time) (*keyFetcher, error) {
	address, err := wellKnown(issuer)
	if err != nil {
		return nil, err
	}
	if jwksURI != "" {
		if _, err := parseSafeURL(jwksURI); err != nil {
			return nil, fmt.Errorf("dpopbind: the JWKS URI %s %w", quoteURL(jwksURI), err)
		}
	}
	var own http.Client
	if client != nil {
		own = *client
	}
	own.CheckRedirect = sameOriginOnly
	own.Jar = nil
	return &keyFetcher{now: now, client: &own, issuer: issuer, metadata: address, configured: jwksURI, algorithms: algorithms}, nil
}

// sameOriginOnly keeps a redirect from bringing the keys of another host, or
// from turning the server into a reader of its own network.
func sameOriginOnly(next *http.Request, via []*http.Request) error {
	first := via[0].URL
	if len(via) > 3 || next.URL.Scheme != first.Scheme || next.URL.Host != first.Host {
		return errors.New("redirected to another origin, or too often")
	}
	return nil
}

// fetch is a keySet's source. Where the URI was discovered and fails, it is
// discovered anew the next time.
func (f *keyFetcher) fetch(ctx context.Context) (keys map[keyName]*publicKey, fresh time.Duration, err error) {
	f.mu.Lock() // the keySet makes one fetch at a time
	defer f.mu.Unlock()
	uri := f.configured
	if uri == "" {
		// An issuer that has moved its keys away from a host may have lost it:
		// the old place does not serve on for as long as it answers.
		if now := f.now(); f.discovered == "" || now.Sub(f.discoveredAt) >= discoveredFor {
			f.discovered = ""
			if f.discovered, err = f.discover(ctx); err != nil {
				return nil, 0, fmt.Errorf("discovering the JWKS of the issuer: %w", err)
			}
			f.discoveredAt = now
		}
		uri = f.discovered
	}
	doc, header, err := f.get(ctx, uri, maxJWKS)
	if err == nil {
		keys, err = parseJWKS(doc, f.algorithms)
	}
	if err != nil {
		f.discovered = ""
		return nil, 0, fmt.Errorf("fetching the JWKS: %w", err)
	}
	return keys, maxAge(header), nil
}

// discover is RFC 8414 §3.
func (f *keyFetcher) discover(ctx context.Context) (string, error) {
	doc, _, err := f.get(ctx, f.metadata, maxIssuerMetadata)
	if err != nil {
		return "", err
	}
	o, err := strictjose.ParseObject(doc)
	if err != nil {
		return "", fmt.Errorf("the metadata %w", err)
	}
	// RFC 8414 §3.3: else one issuer could speak for another.
	if issuer, ok := strictjose.AsString(o.Get("issuer")); !ok || issuer != f.issuer {
		return "", errors.New("the metadata is of another issuer")
	}
	uri, ok := strictjose.AsString(o.Get("jwks_uri"))
	if !ok {
		return "", errors.New("the metadata has no jwks_uri")
	}
	u, err := parseSafeURL(uri)
	if err != nil {
		return "", fmt.Errorf("the metadata's jwks_uri %w", err)
	}
	if u.Scheme != "https" && strings.HasPrefix(f.issuer, "https:") {
		return "", errors.New("the metadata's jwks_uri is not https")
	}
	return uri, nil
}

func (f *keyFetcher) get(ctx context.Context, uri string, limit int64) ([]byte, http.Header, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, uri, nil)
	if err != nil {
		return nil, nil, err
	}
	req.Header.Set("Accept", "application/json")
	res, err := f.client.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		return nil, nil, fmt.Errorf("the answer has the status %d", res.StatusCode)
	}
	doc, err := io.ReadAll(io.LimitReader(res.Body, limit+1))
	if err != nil {
		return nil, nil, err
	}
	if int64(len(doc)) > limit {
		return nil, nil, fmt.Errorf("the answer is longer than %d bytes", limit)
	}
	return doc, res.Header, nil
}

// maxAge is the Cache-Control max-age of an answer (RFC 9111 §5.2.2.1), 0 for
// one that must not be kept, and KeysFresh where it says nothing usable.
func maxAge(h http.Header) time.Duration {
	for directive := range strings.SplitSeq(strings.Join(h.Values("Cache-Control"), ","), ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(directive), "=")
		switch strings.ToLower(name) {
		case "no-store", "no-cache":
			return 0
		case "max-age":
			seconds, err := strconv.ParseUint(strings.Trim(value, `"`), 10, 31)
			if err != nil {
				return KeysFresh
			}
			return time.Duration(seconds) * time.Second
		}
	}
	return KeysFresh
}
