// Package webhook sends messages to an address that an operator has configured, as
// Standard Webhooks 1.0.0 says (github.com/standard-webhooks/standard-webhooks): signed
// by HMAC-SHA-256, so that the receiver knows who sent them and when.
//
// It makes single attempts: whoever sends keeps the messages and tries again. It trusts
// the receiver with the message and with nothing else: what it answers is not read, and
// it leads nowhere.
package webhook

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"time"
)

// AttemptTimeout bounds one attempt, from the look-up of the name to the answer's
// header.
const AttemptTimeout = 10 * time.Second

// Config is what an Endpoint needs.
type Config struct {
	URL     string   // https, or http for a loopback host
	Secrets []Secret // one or more: each signs
	// Authorities are those that the receiver's certificate may be of; nil: the system's.
	Authorities *x509.CertPool
	UserAgent   string
}

// Endpoint is where messages go. It is safe for concurrent use.
type Endpoint struct {
	config Config
	client *http.Client
}

// New checks the configuration. Its errors name no URL, which may hold a secret.
func New(c Config) (*Endpoint, error) {
	if err := ValidateURL(c.URL); err != nil {
		return nil, err
	}
	if len(c.Secrets) == 0 {
		return nil, errors.New("a webhook has a secret")
	}
	return &Endpoint{config: c, client: &http.Client{
		Timeout: AttemptTimeout,
		Transport: &http.Transport{
			TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: c.Authorities},
			ForceAttemptHTTP2:      true,
			MaxIdleConns:           4,
			MaxConnsPerHost:        maxConnections,
			IdleConnTimeout:        30 * time.Second,
			MaxResponseHeaderBytes: 16 << 10,
		},
		// A signed message is for the address that was configured, and no other.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// maxConnections bounds how many attempts are under way at a time.
const maxConnections = 8

// ValidateURL says what is wrong with a URL, and does not repeat it.
func ValidateURL(text string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "" || u.Opaque != "":
		return errors.New("it is not an absolute URL")
	case u.User != nil:
		return errors.New("it has a user: the signature is what the receiver checks")
	case u.Fragment != "":
		return errors.New("it has a fragment")
	case u.Scheme == "https" || u.Scheme == "http" && isLoopback(u.Hostname()):
		return nil
	}
	return errors.New("it is not https (http is for loopback hosts only)")
}

func isLoopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.IsLoopback()
}

// ErrAnswered is of an attempt that was answered, with anything but a 2xx: a redirect
// too.
var ErrAnswered = errors.New("the receiver does not take it")

// Send makes one attempt. The id is the message's own, the same each time that it is
// sent; at is when this attempt is made. An error names neither the URL nor anything
// that the receiver said but its status.
func (e *Endpoint) Send(ctx context.Context, id string, at time.Time, body []byte) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, e.config.URL, bytes.NewReader(body))
	if err != nil {
		return errors.New("sending a message: the URL does not do")
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("User-Agent", e.config.UserAgent)
	setHeaders(r.Header, e.config.Secrets, id, at, body)
	response, err := e.client.Do(r)
	if err != nil {
		return fmt.Errorf("sending a message: %w", withoutURL(err))
	}
	response.Body.Close()
	if response.StatusCode < 200 || response.StatusCode > 299 {
		return fmt.Errorf("%w: it answers %d", ErrAnswered, response.StatusCode)
	}
	return nil
}

// withoutURL is what went wrong, without the URL that net/http puts before it. What the
// other end has a say in (the names in its certificate) is left out too.
func withoutURL(err error) error {
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		err = wrapped.Err
	}
	var network *net.OpError
	var certificate *tls.CertificateVerificationError
	var timeout interface{ Timeout() bool }
	switch {
	case errors.Is(err, context.Canceled):
		return context.Canceled
	case errors.As(err, &timeout) && timeout.Timeout():
		return errors.New("no answer in time")
	case errors.As(err, &certificate):
		return errors.New("its certificate is not of an authority that this host trusts, or not for this name")
	case errors.As(err, &network):
		return fmt.Errorf("no connection: %w", network.Err)
	}
	return errors.New("no answer that is HTTP")
}

// Close ends idle connections.
func (e *Endpoint) Close() { e.client.CloseIdleConnections() }
