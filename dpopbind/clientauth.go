package dpopbind

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// AuthMethod is how a Client authenticates at the token endpoint, by its name in
// RFC 7591 §2.
type AuthMethod string

// The methods with a client secret (RFC 6749 §2.3.1), with a key instead (RFC 7523
// §2.2), and with a certificate (RFC 8705 §2), which the Transport shows.
const (
	ClientSecretBasic       AuthMethod = "client_secret_basic"
	ClientSecretPost        AuthMethod = "client_secret_post"
	PrivateKeyJWT           AuthMethod = "private_key_jwt"
	TLSClientAuth           AuthMethod = "tls_client_auth"
	SelfSignedTLSClientAuth AuthMethod = "self_signed_tls_client_auth"
)

func (m AuthMethod) byCertificate() bool { return m == TLSClientAuth || m == SelfSignedTLSClientAuth }

// checkCredentials holds that there is what the method needs, and nothing else:
// that would be sent to nobody, and its owner believe it was.
func (e *tokenEndpoint) checkCredentials(ownTransport bool) error {
	switch {
	case e.method.byCertificate() && (e.secret != "" || e.assertKey != nil):
		return fmt.Errorf("dpopbind: the method %s needs neither a secret nor a key", e.method)
	case e.method.byCertificate() && (e.id == "" || !ownTransport):
		return fmt.Errorf("dpopbind: the method %s needs the client's ID, and a transport that shows its certificate", e.method)
	case e.method.byCertificate():
		return nil
	case e.id == "" || (e.secret == "") == (e.assertKey == nil):
		return errors.New("dpopbind: a client needs its ID, and its secret or its key")
	}
	if e.method == "" {
		e.method = ClientSecretBasic
		if e.assertKey != nil {
			e.method = PrivateKeyJWT
		}
	}
	switch e.method {
	case ClientSecretBasic, ClientSecretPost:
		if e.secret == "" {
			return fmt.Errorf("dpopbind: the method %s needs a secret, and not a key", e.method)
		}
	case PrivateKeyJWT:
		if e.assertKey == nil {
			return fmt.Errorf("dpopbind: the method %s needs a key, and not a secret", e.method)
		}
		if e.issuer == "" {
			return fmt.Errorf("dpopbind: the method %s needs the issuer, which its assertions are for", e.method)
		}
	default:
		return fmt.Errorf("dpopbind: the method is %s, %s, %s, %s or %s",
			ClientSecretBasic, ClientSecretPost, PrivateKeyJWT, TLSClientAuth, SelfSignedTLSClientAuth)
	}
	return nil
}

// assertion makes one for a request, "" where the method is without: each request has
// its own (RFC 7523 §3, item 7).
func (e *tokenEndpoint) assertion() (string, error) {
	if e.assertKey == nil {
		return "", nil
	}
	return e.assertKey.ClientAssertion(e.issuer, e.id, e.client.now())
}

// authenticated makes a request with the client's credentials and a proof.
func (e *tokenEndpoint) authenticated(ctx context.Context, address string, form url.Values, proof, assertion string) (*http.Request, error) {
	switch e.method {
	case ClientSecretPost:
		form.Set("client_id", e.id)
		form.Set("client_secret", e.secret)
	case PrivateKeyJWT: // RFC 7521 §4.2
		form.Set("client_id", e.id)
		form.Set("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
		form.Set("client_assertion", assertion)
	case TLSClientAuth, SelfSignedTLSClientAuth: // RFC 8705 §2: the client_id is in every request
		form.Set("client_id", e.id)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, address, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, errors.New("dpopbind: the server's endpoint is not usable")
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.Header.Set("Accept", "application/json")
	request.Header.Set("DPoP", proof)
	if e.method == ClientSecretBasic {
		// RFC 6749 §2.3.1: each half form-encoded first.
		request.SetBasicAuth(url.QueryEscape(e.id), url.QueryEscape(e.secret))
	}
	return request, nil
}
