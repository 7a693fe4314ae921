package authz

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"github.com/cargokey/authz/internal/clientassertion"
	"github.com/cargokey/authz/internal/jwksuri"
	"github.com/cargokey/authz/internal/strictjose"
)

// assertionAuth is what authenticates clients by private_key_jwt (RFC 7523 §2.2).
type assertionAuth struct {
	checker *clientassertion.Checker
	// remote are the keys of clients that publish them themselves.
	remote *jwksuri.Fetcher
}

func (s *Server) configureAssertions(c Config) error {
	audiences := []string{c.Issuer}
	if c.AssertionAudienceTokenEndpoint {
		audiences = append(append(audiences, c.Issuer+pathToken), c.TokenEndpointAliases...)
	}
	var err error
	s.assertions.checker, err = clientassertion.New(clientassertion.Config{Audiences: audiences, ClockSkew: c.ClockSkew, Now: s.now})
	if err != nil {
		return fmt.Errorf("configuring client assertions: %w", err)
	}
	s.assertions.remote, err = jwksuri.New(jwksuri.Config{
		Parse: clientassertion.Keys, MaxDocument: clientassertion.MaxKeySet,
		Networks: c.JWKSURINetworks, Authorities: c.JWKSURIAuthorities, Log: c.Log, Now: s.now,
	})
	if err != nil {
		return fmt.Errorf("configuring jwks_uri: %w", err)
	}
	return nil
}

// presentedAssertion reads RFC 7521 §4.2's parameters and makes every check of the
// assertion that needs no client.
func (s *Server) presentedAssertion(form url.Values) (*clientassertion.Assertion, error) {
	if form.Get("client_assertion_type") != clientassertion.Type {
		return nil, errAssertion(&clientassertion.Error{Check: clientassertion.CheckFormat,
			Description: "its client_assertion_type must be " + clientassertion.Type})
	}
	a, err := s.assertions.checker.Check(form.Get("client_assertion"))
	if err != nil {
		return nil, errAssertion(err)
	}
	// RFC 7521 §4.2: client_id is optional, and names the same client.
	if form.Has("client_id") && form.Get("client_id") != a.ClientID() {
		return nil, errAssertion(&clientassertion.Error{Check: clientassertion.CheckSub,
			Description: "its sub is not the client_id in the body"})
	}
	return a, nil
}

// clientOfAssertion tells which client an assertion is from: one look-up, then the
// signature. Whoever is not proven to be a client gets one and the same answer,
// whether there is such a client, what its method is, and whether its keys could be
// had. That an assertion is not used twice is for whoever records what was asked.
func (s *Server) clientOfAssertion(ctx context.Context, a *clientassertion.Assertion) (*Client, error) {
	if !validClientID(a.ClientID()) { // what cannot be registered is not looked up
		return nil, errNotProven(errors.New("unknown client"))
	}
	client, err := s.clients.client(ctx, a.ClientID(), s.now())
	switch {
	case errors.Is(err, ErrNotFound):
		return nil, errNotProven(errors.New("unknown client"))
	case err != nil:
		return nil, errUnavailable("reading the client", err)
	case client.AuthMethod != PrivateKeyJWT: // one method a client
		return nil, errNotProven(errors.New("client " + client.ID + " is registered for " + string(client.AuthMethod)))
	}
	key, err := s.verifyAssertion(ctx, client, a)
	if err != nil {
		return nil, errNotProven(fmt.Errorf("client %s: %w", client.ID, err))
	}
	client.Credential = key.Thumbprint
	client.Assertion = &Spending{Digest: a.SpendKey(), IssuedAt: a.Expires(), Window: s.assertions.checker.Window(), SignedAt: a.SignedAt()}
	// From here on the client is proven to be who it says: it may be told.
	if client.Disabled() {
		return nil, errClientRefused(client.ID, "This client is disabled. Ask an operator to enable it.")
	}
	return client, nil
}

// verifyAssertion verifies by the client's keys: a kid that is not among them may
// be new.
func (s *Server) verifyAssertion(ctx context.Context, client *Client, a *clientassertion.Assertion) (key *strictjose.PublicKey, err error) {
	err = s.findKey(ctx, client, a.MayBeNew, func(keys []strictjose.SetKey) (err error) {
		key, err = a.VerifyBy(keys)
		return err
	})
	return key, err
}

// findKey has find look through the keys that are registered or, where the client
// publishes them, those that were read last; where the key that it misses may be
// new, also those of now. The error is the last of find's, or why there are no keys.
func (s *Server) findKey(ctx context.Context, client *Client, mayBeNew func(error) bool, find func([]strictjose.SetKey) error) error {
	if client.JWKSURI == "" {
		keys, err := clientassertion.Keys(client.JWKS)
		if err != nil {
			return fmt.Errorf("its JWKS %w", err)
		}
		return find(keys)
	}
	var keys []strictjose.SetKey
	var err error
	_, fetching := s.step(ctx, "fetch keys")
	attemptOf(ctx).outside(func() { keys, err = s.assertions.remote.Keys(ctx, client.JWKSURI, client.AuthRevision) })
	fetching.end(err)
	if err == nil {
		if err = find(keys); err == nil || !mayBeNew(err) {
			return err
		}
		_, fetching := s.step(ctx, "fetch keys")
		attemptOf(ctx).outside(func() { keys, err = s.assertions.remote.Again(ctx, client.JWKSURI, client.AuthRevision) })
		fetching.end(err)
	}
	if err != nil {
		return fmt.Errorf("its keys cannot be had: %s", strictjose.Printable(err.Error(), maxCause))
	}
	return find(keys)
}

// maxCause bounds what the log says of a client's own host, in bytes.
const maxCause = 512

// spendAssertion is for requests that record nothing of their own: it spends what
// the client has authenticated with, once all else is in order.
func (s *Server) spendAssertion(ctx context.Context, client *Client) error {
	use := useOf(ctx)
	if client.Assertion == nil || use != nil && use.spent {
		return nil
	}
	asksStore(ctx)
	ctx, spending := s.step(ctx, "spend")
	err := s.store.SpendAssertion(ctx, *client.Assertion)
	spending.end(err)
	switch {
	case err == nil:
		if use != nil {
			use.spent = true
		}
		return nil
	case errors.Is(err, ErrAssertionSpent):
		return errAssertionSpent(client.ID)
	default:
		return errUnavailable("spending the assertion", err)
	}
}

// errAssertion is the answer to an assertion that holds for nobody. What is wrong
// with it tells nothing of any client, and so its sender may be told.
func errAssertion(cause error) *oauthError {
	e := errNotProven(cause)
	var refused *clientassertion.Error
	if errors.As(cause, &refused) {
		e.description = "The client assertion is refused: " + refused.Description + "."
	}
	return e
}

// errNotProven is the one answer to every assertion that may be whosever: see
// errInvalidClient.
func errNotProven(cause error) *oauthError {
	return &oauthError{
		status: http.StatusUnauthorized, code: codeInvalidClient,
		description: "Client authentication failed. Check the client_id, that the client is registered for private_key_jwt, " +
			"and that its assertion is signed by a key, and names the kid, that is registered for it.",
		header: basicChallenge(), cause: cause,
	}
}

// errAssertionSpent tells a client that its assertion is used up.
func errAssertionSpent(clientID string) *oauthError {
	e := errClientRefused(clientID, "This client assertion was used before. Make a new one, with a new jti, for each request.")
	e.cause = fmt.Errorf("client %s: %w", clientID, ErrAssertionSpent)
	return e
}
