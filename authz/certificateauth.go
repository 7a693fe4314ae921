package authz

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"

	"github.com/cargokey/authz/internal/clientcert"
	"github.com/cargokey/authz/internal/strictjose"
)

// certificateAlone tells whether a request has nothing but its certificate to
// authenticate by. One that comes beside other credentials authenticates nobody
// (RFC 6749 §2.3: one method a request), and may still be what a token is bound to.
func certificateAlone(ctx context.Context, h http.Header, form url.Values) bool {
	certificate, ok := ctx.Value(shownKey{}).(shown)
	return ok && !errors.Is(certificate.err, clientcert.ErrNone) && presentsNothing(h, form)
}

// clientOfCertificate is authenticateClient by RFC 8705 §2. Whatever is wrong
// before the client is proven, the answer is the same, and the work as well: the
// chain is verified before anybody is looked up.
func (s *Server) clientOfCertificate(ctx context.Context, form url.Values) (*Client, error) {
	id := form.Get("client_id")
	if !validClientID(id) { // RFC 8705 §2: it is there in every request
		return nil, errCertificate(errors.New("a certificate, and no client_id beside it"))
	}
	certificate, err := s.shownCertificate(ctx)
	if err != nil {
		return nil, errCertificate(s.aboutClient(ctx, id, err))
	}
	verified := s.verifyChain(certificate)
	client, err := s.store.Client(ctx, id, s.now())
	switch {
	case errors.Is(err, ErrNotFound):
		return nil, errCertificate(errors.New("unknown client"))
	case err != nil:
		return nil, errUnavailable("reading the client", err)
	}
	if client.Credential, err = s.provenBy(ctx, client, certificate, verified); err != nil {
		return nil, err
	}
	if client.Disabled() {
		return nil, errClientRefused(client.ID, "This client is disabled. Ask an operator to enable it.")
	}
	return client, nil
}

var errNoTLSClientAuth = errors.New("tls_client_auth: there are no authorities to verify a certificate by")

func (s *Server) verifyChain(certificate *clientcert.Presented) error {
	if s.certificates.Authorities == nil {
		return errNoTLSClientAuth
	}
	return certificate.Verify(s.certificates.Authorities(), s.now())
}

// provenBy returns the name of what proves that the certificate is the client's.
func (s *Server) provenBy(ctx context.Context, client *Client, certificate *clientcert.Presented, verified error) (credential string, err error) {
	switch client.AuthMethod {
	case TLSClientAuth: // RFC 8705 §2.1
		if err := verified; err != nil {
			return "", errCertificate(fmt.Errorf("client %s: %w", client.ID, err))
		}
		names, err := namesOf(certificate.Leaf)
		if err != nil {
			return "", errCertificate(fmt.Errorf("client %s: %w", client.ID, err))
		}
		if !slices.Contains(names, client.TLSName) {
			return "", errCertificate(errAnotherName(client, names))
		}
		return clientcert.Thumbprint(certificate.Leaf), nil
	case SelfSignedTLSClientAuth: // RFC 8705 §2.2
		key, err := s.keyOfCertificate(ctx, client, certificate.Leaf)
		if err != nil {
			return "", errCertificate(fmt.Errorf("client %s: %w", client.ID, err))
		}
		return key, nil
	default:
		return "", errCertificate(fmt.Errorf("client %s is registered for %s, and has shown a certificate alone", client.ID, client.AuthMethod))
	}
}

// keyOfCertificate finds the certificate's key among the client's: it may be new.
func (s *Server) keyOfCertificate(ctx context.Context, client *Client, c *x509.Certificate) (name string, err error) {
	missing := func(err error) bool { return errors.Is(err, clientcert.ErrNotInSet) }
	err = s.findKey(ctx, client, missing, func(keys []strictjose.SetKey) (err error) {
		name, err = clientcert.KeyIn(keys, c)
		return err
	})
	return name, err
}
