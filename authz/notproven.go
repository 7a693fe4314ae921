package authz

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/cargokey/authz/internal/strictjose"
)

// The causes here are for the log and the audit trail; the client is told nothing
// of them. Only a registered ID is logged: any other may be a secret in the wrong
// place.

// whyNotProven is for a client that came with a secret.
func whyNotProven(client *Client, presented Digest) error {
	switch {
	case client.ID == "":
		return errors.New("unknown client")
	case !client.SecretEndedAt.IsZero():
		return &retiredSecret{clientID: client.ID, name: presented.Name(), endedAt: client.SecretEndedAt}
	case !client.AuthMethod.bySecret():
		return fmt.Errorf("client %s is registered for %s and has no secrets, and came with one", client.ID, client.AuthMethod)
	default:
		return errors.New("wrong secret for client " + client.ID)
	}
}

func (m AuthMethod) bySecret() bool { return m == ClientSecretBasic || m == ClientSecretPost }

// registered is the client that a request names, though nothing proves it; nil
// where there is none, or none can be read. It is one look-up, which any wrong
// secret costs as well, and the same one for whatever is named: nobody learns from
// the time that it takes which clients there are.
func (s *Server) registered(ctx context.Context, id string) *Client {
	if !validClientID(id) {
		return nil
	}
	client, err := s.store.Claimant(ctx, id, Digest{}, s.now())
	if err != nil { // the answer is a refusal in any case
		return nil
	}
	return client
}

// aboutClient adds to a cause which client it is about.
func (s *Server) aboutClient(ctx context.Context, id string, cause error) error {
	if client := s.registered(ctx, id); client != nil {
		return fmt.Errorf("client %s, which is registered for %s: %w", client.ID, client.AuthMethod, cause)
	}
	return cause
}

// errNothingPresented is for a request without credentials. One that names a client
// is that of a client with a certificate, where the server takes any: it is told
// what all of those are told.
func (s *Server) errNothingPresented(ctx context.Context, form url.Values) *oauthError {
	cause := errors.New("no client credentials")
	if client := s.registered(ctx, form.Get("client_id")); client != nil {
		cause = s.whyNothing(client)
	}
	if s.certificates.enabled() && form.Has("client_id") {
		return errCertificate(cause)
	}
	return errInvalidClient(cause)
}

func (s *Server) whyNothing(client *Client) error {
	if !client.AuthMethod.byCertificate() {
		return fmt.Errorf("client %s is registered for %s, and came with no credentials", client.ID, client.AuthMethod)
	}
	asks := "this server asks for none"
	switch c := &s.certificates; {
	case c.Requested && len(c.Proxies) > 0:
		asks = "this server's TLS asks for them, and from its proxies it takes them in Client-Cert"
	case c.Requested:
		asks = "this server's TLS asks for them"
	case len(c.Proxies) > 0:
		asks = "this server takes them from its proxies only, in Client-Cert"
	}
	return fmt.Errorf("client %s is registered for %s and no certificate came with the request: %s", client.ID, client.AuthMethod, asks)
}

func (m AuthMethod) byCertificate() bool { return m == TLSClientAuth || m == SelfSignedTLSClientAuth }

// errCertificate is the one answer to every certificate that proves no client, and
// to none at all: see errInvalidClient.
func errCertificate(cause error) *oauthError {
	return &oauthError{
		status: http.StatusUnauthorized, code: codeInvalidClient,
		description: "Client authentication failed. Check the client_id, that it is registered for tls_client_auth or self_signed_tls_client_auth, " +
			"that its certificate comes with the request and is in its time, and that the name in it, or its key, is the registered one. " +
			"For tls_client_auth it must be of an authority that this server knows, and be for clients (extended key usage clientAuth).",
		header: basicChallenge(), cause: cause,
	}
}

// maxNames bounds what the log says of a certificate's names, in bytes. They are
// those of a certificate that one of the authorities has made.
const maxNames = 400

func errAnotherName(client *Client, names []CertificateName) error {
	has := "no names"
	if len(names) > 0 {
		var all []string
		for _, n := range names {
			all = append(all, n.describe())
		}
		has = strings.Join(all, ", ")
	}
	return fmt.Errorf("the certificate has not the name of client %s, which is registered as %s: it has %s",
		client.ID, strictjose.Printable(client.TLSName.describe(), maxNames), strictjose.Printable(has, maxNames))
}

// describe says what kind of name it is.
func (n CertificateName) describe() string {
	switch {
	case n.SubjectDN != "":
		return "subject " + n.SubjectDN
	case n.DNS != "":
		return "DNS " + n.DNS
	case n.URI != "":
		return "URI " + n.URI
	case n.IP != "":
		return "IP " + n.IP
	default:
		return "email " + n.Email
	}
}
