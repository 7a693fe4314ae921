// Package jwksuri fetches and keeps the public keys of clients that publish them
// at a jwks_uri (RFC 7591 §2).
//
// Where it is sent is what an operator registered, and what the host there, its
// DNS and its redirects make of it: none of them is trusted. It speaks https only,
// with no proxy, and to one host and port a URI; it connects to public addresses
// only, but for those that its Config names, and judges the very address that is
// dialled; and what it reads, how long it waits, how often it asks and how much it keeps are all bounded.
package jwksuri

import (
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cargokey/authz/internal/strictjose"
)

// How long keys are used, and how often they are asked for.
const (
	// Fresh is how long a document is used without asking again, at most: up to a
	// fifth less, so that instances do not all ask at once. It is asked for anew, in
	// the background, when four fifths of that have passed.
	Fresh = 5 * time.Minute
	// Kept is how long it is used while the host is out: it cannot be reached, or
	// answers with a status of 429 or 5xx. That is the longest that a withdrawn key
	// can live on. Any other answer than keys ends them when they are not fresh.
	Kept = 4 * time.Hour
	// Interval is the least time between two fetches of one URI, for one revision.
	Interval = 10 * time.Second
)

// Bounds.
const (
	maxURI       = 2048 // bytes
	maxURIs      = 1024 // that are kept at a time
	maxFetches   = 16   // under way at a time
	maxWaiting   = 256  // requests at a time, for one URI
	maxRedirects = 3
	// fetchTimeout is for a whole fetch, redirects included. A token request may
	// take 5 s, and has more to do.
	fetchTimeout = 3 * time.Second
)

// Config is what New needs.
type Config struct {
	// Parse reads a document; its error is the predicate of a sentence.
	Parse func(doc []byte) ([]strictjose.SetKey, error)
	// MaxDocument is the size in bytes of the largest document that is read.
	MaxDocument int64
	// Networks may be connected to besides public addresses.
	Networks []netip.Prefix
	// Authorities of the hosts' certificates. Nil: the system's.
	Authorities *x509.CertPool
	// Resolver looks hosts up. Nil: net.DefaultResolver.
	Resolver *net.Resolver
	Log      *slog.Logger
	Now      func() time.Time
}

// Fetcher fetches and keeps keys. It is made by New and safe for concurrent use.
type Fetcher struct {
	source *source
	cache  cache
}

// New makes a Fetcher. It connects to nothing.
func New(c Config) (*Fetcher, error) {
	if c.Parse == nil || c.MaxDocument <= 0 || c.Log == nil || c.Now == nil {
		return nil, errors.New("jwksuri: Parse, MaxDocument, Log and Now are all needed")
	}
	c.Networks = slices.Clone(c.Networks)
	for i, network := range c.Networks {
		c.Networks[i] = network.Masked()
	}
	s := newSource(c)
	return &Fetcher{source: s, cache: cache{fetch: s.fetch, now: c.Now, log: c.Log, entries: map[registration]*entry{}}}, nil
}

// Validate checks a jwks_uri that is to be registered. The error says what is
// wrong. Where its host leads is judged when it is fetched: that may change.
func Validate(uri string) error {
	u, err := url.Parse(uri)
	switch {
	case err != nil || !u.IsAbs() || u.Host == "" || u.Hostname() == "" || u.Opaque != "":
		return fmt.Errorf("the jwks_uri %q is not an absolute URL, such as https://labels.example.com/jwks.json", uri)
	case u.Scheme != "https": // RFC 7591 §2, by way of RFC 8414 §2: what is trusted comes over TLS
		return fmt.Errorf("the jwks_uri %q is not https", uri)
	case !validPort(u):
		return fmt.Errorf("the jwks_uri of %s has no port from 1 to 65535", u.Hostname())
	case u.User != nil || strings.Contains(uri, "#"):
		return fmt.Errorf("the jwks_uri of %s has a user or a fragment", u.Host)
	case len(uri) > maxURI:
		return fmt.Errorf("the jwks_uri is longer than %d bytes", maxURI)
	case strings.ContainsFunc(uri, func(r rune) bool { return r <= ' ' || r > '~' || r == '"' || r == '\\' }):
		return fmt.Errorf("the jwks_uri %q has other than visible ASCII", uri)
	}
	return nil
}

// validPort allows for none, but not for an empty one or 0: a dialler would make
// something of these.
func validPort(u *url.URL) bool {
	text := u.Port()
	if text == "" {
		return !strings.HasSuffix(u.Host, ":")
	}
	n, err := strconv.ParseUint(text, 10, 16)
	return err == nil && n != 0
}
