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
// chain is verified before anybody is looked up, which costs a stranger's next to
// nothing.
func (s *Server) clientOfCertificate(ctx context.Context, form url.Values) (*Client, error) {
	id := form.Get("client_id")
	if !validClientID(id) { // RFC 8705 §2: it is there in every request
		return nil, errCertificate(errors.New("a certificate, and no client_id beside it"))
	}
	certificate, err := s.shownCertificate(ctx)
	if err != nil {
		return nil, errCertificate(s.aboutClient(ctx, id, err))
	}
	verified, err := s.verifyChain(certificate)
	chain := verifiedChain{verified, err}
	client, err := s.clients.client(ctx, id, s.now())
	switch {
	case errors.Is(err, ErrNotFound):
		return nil, errCertificate(errors.New("unknown client"))
	case err != nil:
		return nil, errUnavailable("reading the client", err)
	}
	if client.Credential, err = s.provenBy(ctx, client, certificate, chain); err != nil {
		return nil, err
	}
	if client.Disabled() {
		return nil, errClientRefused(client.ID, "This client is disabled. Ask an operator to enable it.")
	}
	return client, nil
}

var errNoTLSClientAuth = errors.New("tls_client_auth: there are no authorities to verify a certificate by")

func (s *Server) verifyChain(certificate *clientcert.Presented) (clientcert.Verified, error) {
	if s.certificates.Authorities == nil {
		return clientcert.Verified{}, errNoTLSClientAuth
	}
	return certificate.Verify(s.certificates.Authorities(), s.now())
}

// verifiedChain is what verifyChain has found.
type verifiedChain struct {
	clientcert.Verified
	err error
}

var errGatewaysName = errors.New("it is a gateway's, which is known by a name in its certificate at the listener for gateways only")

// provenBy returns the name of what proves that the certificate is the client's.
func (s *Server) provenBy(ctx context.Context, client *Client, certificate *clientcert.Presented, chain verifiedChain) (credential string, err error) {
	switch client.AuthMethod {
	case TLSClientAuth: // RFC 8705 §2.1
		if chain.err != nil {
			return "", errCertificate(fmt.Errorf("client %s: %w", client.ID, chain.err))
		}
		// The authorities here are not for gateways: theirs are at a listener of their own.
		if len(client.Introspects) > 0 {
			return "", errCertificate(fmt.Errorf("client %s: %w", client.ID, errGatewaysName))
		}
		names, err := namesOf(certificate.Leaf, chain.Verified)
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
