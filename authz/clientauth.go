package authz

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/cargokey/authz/internal/clientassertion"
)

// credentials are what a request authenticates its client with.
type credentials struct {
	clientID string
	method   AuthMethod
	digest   Digest // of the secret; the secret itself goes no further
	// assertion is what it presents instead of the two, where method is PrivateKeyJWT.
	assertion *clientassertion.Assertion
}

// authenticateClient tells which client a request is from, and notes it.
func (s *Server) authenticateClient(ctx context.Context, h http.Header, form url.Values) (*Client, error) {
	client, err := s.clientOf(ctx, h, form)
	if a := attemptOf(ctx); a != nil {
		a.proven, a.credential = "", ""
		var refused *provenClient
		if err == nil {
			a.proven, a.credential = client.ID, client.Credential
		} else if errors.As(err, &refused) {
			a.proven = refused.clientID
		}
	}
	return client, err
}

// clientOf tells which client a request is from. Whatever is wrong
// with the credentials, the answer is one and the same, and so is the work:
// one look-up, one digest, and a comparison in constant time.
func (s *Server) clientOf(ctx context.Context, h http.Header, form url.Values) (authenticated *Client, err error) {
	ctx, authenticating := s.step(ctx, "authenticate")
	defer func() { authenticating.end(err) }()
	if claim, ok := claimedByListener(ctx); ok {
		return s.clientOfListener(ctx, claim, h, form)
	}
	if certificateAlone(ctx, h, form) {
		return s.clientOfCertificate(ctx, form)
	}
	if presentsNothing(h, form) {
		return nil, s.errNothingPresented(ctx, form)
	}
	presented, err := s.presentedCredentials(h, form)
	if err != nil {
		return nil, err
	}
	if !s.profile.admitsMethod(presented.method) {
		return nil, s.errRuledOut(ctx, presented.clientID)
	}
	if presented.assertion != nil {
		return s.clientOfAssertion(ctx, presented.assertion)
	}
	client := &Client{}
	if validClientID(presented.clientID) { // what cannot be registered is not looked up
		found, err := s.clients.claimant(ctx, presented.clientID, presented.digest, s.now())
		switch {
		case err == nil:
			client = found
		case !errors.Is(err, ErrNotFound):
			return nil, errUnavailable("reading the client", err)
		}
	}
	if !presented.digest.matchesAny(client.Secrets) {
		return nil, errInvalidClient(whyNotProven(client, presented.digest))
	}
	client.Credential = presented.digest.Name()
	// From here on the client is proven to be who it says: it may be told.
	if client.AuthMethod != presented.method { // one method a client
		return nil, errClientRefused(client.ID, "This client is registered for "+string(client.AuthMethod)+", and authenticated by "+string(presented.method)+".")
	}
	if client.Disabled() {
		return nil, errClientRefused(client.ID, "This client is disabled. Ask an operator to enable it.")
	}
	return client, nil
}

// clientOfListener tells which client a request is from where the listener knows
// (RFC 8705 §2.1, or a socket of its own). Credentials of another kind would be
// a second method (RFC 6749 §2.3).
func (s *Server) clientOfListener(ctx context.Context, claim GatewayClaim, h http.Header, form url.Values) (*Client, error) {
	if len(h.Values("Authorization")) > 0 || form.Has("client_secret") || presentsAssertion(form) {
		return nil, errInvalidRequest("This listener knows its clients by the connection. Send no credentials in the request.")
	}
	table, err := s.gateways.current(ctx)
	if err != nil {
		return nil, errUnavailable("reading the gateway table", err)
	}
	gateway, _, err := table.identify(claim, s.now())
	if err != nil || form.Has("client_id") && form.Get("client_id") != gateway.ID {
		return nil, errInvalidClient(errNotThisGateway)
	}
	client, err := s.clients.client(ctx, gateway.ID, s.now())
	switch {
	case errors.Is(err, ErrNotFound), err == nil && client.TLSName != gateway.TLSName:
		return nil, errInvalidClient(errNotThisGateway)
	case err != nil:
		return nil, errUnavailable("reading the client", err)
	case client.Disabled():
		return nil, errClientRefused(client.ID, "This client is disabled. Ask an operator to enable it.")
	}
	return client, nil
}

// presentsNothing tells whether a request has no credentials in it.
func presentsNothing(h http.Header, form url.Values) bool {
	return len(h.Values("Authorization")) == 0 && !form.Has("client_secret") && !presentsAssertion(form)
}

// presentsAssertion tells whether a request has any of RFC 7521 §4.2's parameters.
func presentsAssertion(form url.Values) bool {
	return form.Has("client_assertion") || form.Has("client_assertion_type")
}

// presentedCredentials reads RFC 6749 §2.3.1 credentials or an assertion, by one
// method only (§2.3: a client MUST NOT use more than one in a request).
func (s *Server) presentedCredentials(h http.Header, form url.Values) (credentials, error) {
	authorization := h.Values("Authorization")
	inBody := form.Has("client_secret")
	switch {
	case len(authorization) > 1:
		return credentials{}, errInvalidRequest("Send one Authorization header.")
	case presentsAssertion(form) && (inBody || len(authorization) == 1):
		return credentials{}, errInvalidRequest("The client authenticates by an assertion and by a secret. Use one method.")
	case presentsAssertion(form):
		a, err := s.presentedAssertion(form)
		return credentials{method: PrivateKeyJWT, assertion: a}, err
	case len(authorization) == 1 && inBody:
		return credentials{}, errInvalidRequest("The client authenticates in the Authorization header and in the body. Use one method.")
	case len(authorization) == 1:
		return basicCredentials(authorization[0], form)
	default:
		return credentials{
			clientID: form.Get("client_id"),
			method:   ClientSecretPost,
			digest:   DigestOf(form.Get("client_secret")),
		}, nil
	}
}

// basicCredentials reads HTTP Basic (RFC 7617 §2), each half of which is
// form-encoded first (RFC 6749 §2.3.1 and appendix B).
func basicCredentials(authorization string, form url.Values) (credentials, error) {
	scheme, encoded, _ := strings.Cut(authorization, " ")
	if !strings.EqualFold(scheme, "Basic") {
		return credentials{}, errInvalidClient(errors.New("the Authorization scheme is not Basic"))
	}
	decoded, err := base64.StdEncoding.Strict().DecodeString(strings.TrimLeft(encoded, " "))
	if err != nil {
		return credentials{}, errInvalidClient(errors.New("the Basic credentials are not base64"))
	}
	rawID, rawSecret, ok := strings.Cut(string(decoded), ":")
	if !ok {
		return credentials{}, errInvalidClient(errors.New("the Basic credentials have no colon"))
	}
	id, idErr := url.QueryUnescape(rawID)
	secret, secretErr := url.QueryUnescape(rawSecret)
	if idErr != nil || secretErr != nil || secret == "" {
		return credentials{}, errInvalidClient(errors.New("the Basic credentials are not form-encoded, or empty"))
	}
	if form.Has("client_id") && form.Get("client_id") != id {
		return credentials{}, errInvalidRequest("The client_id in the body is not the one in the Authorization header.")
	}
	return credentials{clientID: id, method: ClientSecretBasic, digest: DigestOf(secret)}, nil
}
