package dpopbind

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"
)

// GatewayMiddlewareConfig configures a GatewayMiddleware. Issuer, Resource and
// BaseURLs are required.
type GatewayMiddlewareConfig struct {
	// Issuer is the only authorization server whose assertions are taken: their
	// iss. https, or http on a loopback host.
	Issuer string
	// JWKSURI is where its keys are. Empty means that it is discovered from the
	// issuer (RFC 8414). https, or http on a loopback host.
	JWKSURI string
	// Resource is this API's identifier, an absolute URI: the assertions' aud.
	Resource string
	// BaseURLs are the public URLs at the gateway that this API is reached at, as
	// they are registered with the resource: scheme, host and, where the gateway
	// takes it off, the prefix of the path. An assertion's htu must be one of them
	// followed by the path of the request.
	BaseURLs []string
	// Replay, when set, spends the assertions, so that each opens one request:
	// NewMemoryReplay for one process, or a store that all instances share.
	Replay Replay
	// Algorithms are those that an assertion may be signed with. Empty means
	// DefaultAlgorithms.
	Algorithms []Algorithm
	// ClockSkew is how far the issuer's clock and this one may differ: up to 5
	// minutes, 0 means DefaultClockSkew.
	ClockSkew time.Duration
	// Now is the clock. Nil means time.Now.
	Now func() time.Time
	// HTTPClient fetches the keys. Nil means one of its own. It follows no
	// redirect to another origin.
	HTTPClient *http.Client
	// Log gets one line for each refused request, without the assertion. Nil means
	// none.
	Log *slog.Logger
}

// GatewayMiddleware protects an API that stands behind a gateway, which has the
// authorization server check each request's token and proof, and hands its answer
// on as X-Auth-Assertion: a JWT by the issuer, valid for seconds, for this API and
// for the method and URL of this one request. The gateway itself is not trusted
// with more than that, nor is the network: whoever reaches the API past the
// gateway has no assertion. X-Auth-Client-Id and the like, which anybody can
// write, are not read.
//
// Without a Replay, whoever sees an assertion on its way can send a request of
// the same method and URL until it expires, with a query and a body of their own.
//
// It is safe for concurrent use.
type GatewayMiddleware struct {
	verifier *assertionVerifier
	own      *ownURLs
	replay   Replay
	log      *slog.Logger
}

// NewGatewayMiddleware refuses a configuration in which something required is
// missing or something is unsafe. It fetches nothing.
func NewGatewayMiddleware(cfg GatewayMiddlewareConfig) (*GatewayMiddleware, error) {
	if err := checkResource(cfg.Resource); err != nil {
		return nil, err
	}
	if len(cfg.BaseURLs) == 0 {
		return nil, errors.New("dpopbind: a middleware behind a gateway needs the BaseURLs that it is reached at")
	}
	own, err := newOwnURLs(cfg.BaseURLs, nil)
	if err != nil {
		return nil, err
	}
	algorithms, err := knownAlgorithms(cfg.Algorithms)
	if err != nil {
		return nil, err
	}
	skew, err := allowedSkew(cfg.ClockSkew)
	if err != nil {
		return nil, err
	}
	now := cfg.Now
	if now == nil {
		now = time.Now
	}
	fetcher, err := newKeyFetcher(cfg.HTTPClient, cfg.Issuer, cfg.JWKSURI, algorithms, now)
	if err != nil {
		return nil, err
	}
	log := logOrNone(cfg.Log)
	return &GatewayMiddleware{
		verifier: &assertionVerifier{resource: cfg.Resource, jwtVerifier: jwtVerifier{
			noun: "assertion", needsKID: true,
			isType:    func(typ string) bool { return typ == gatewayAssertionType },
			wrongType: "The assertion is not a gateway's: its typ must be " + gatewayAssertionType + ".",
			issuer:    cfg.Issuer, algorithms: algorithms, skew: skew, now: now,
			keys: &keySet{source: fetcher.fetch, now: now, log: log},
		}},
		own: own, replay: cfg.Replay, log: log,
	}, nil
}

// Require lets those requests through to a handler whose token has all of the
// scopes, by its assertion, and puts the Caller into their context. It panics for
// what is no scope (RFC 6749 §3.3), which is a mistake in the program.
func (m *GatewayMiddleware) Require(scopes ...string) func(http.Handler) http.Handler {
	scopes = mustBeScopes(scopes)
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			caller, refused := m.admit(r, scopes)
			if refused != nil {
				logRefusal(m.log, r, caller, refused)
				m.write(w, refused)
				return
			}
			next.ServeHTTP(w, withCaller(r, caller))
		})
	}
}

// admit spends the assertion last: only a request that gets through uses it up.
func (m *GatewayMiddleware) admit(r *http.Request, scopes []string) (*Caller, *Refusal) {
	jwt, refused := assertionHeader(r.Header)
	if refused != nil {
		return nil, refused
	}
	target, err := m.own.target(r)
	if err != nil {
		return nil, refuseTarget(err)
	}
	a, err := m.verifier.verify(r.Context(), jwt, target)
	var bad tokenError
	switch {
	case errors.As(err, &bad):
		return nil, refuseAssertion(string(bad))
	case err != nil:
		return nil, RefuseUnavailable(err)
	}
	if refused := checkScopes(&a.caller, scopes); refused != nil {
		if a.caller.JKT == "" {
			refused.Scheme = SchemeBearer
		}
		return &a.caller, refused
	}
	return &a.caller, m.spend(r.Context(), a)
}

// spend spends the assertion, and then makes sure that it was still in its time,
// as Middleware.spend does.
func (m *GatewayMiddleware) spend(ctx context.Context, a *assertion) *Refusal {
	if m.replay == nil {
		return nil
	}
	until := a.expires.Add(m.verifier.skew)
	first, err := m.replay.Spend(ctx, a.spendKey(m.verifier.issuer), a.issued, until)
	switch {
	case err != nil:
		return RefuseUnavailable(fmt.Errorf("spending the assertion: %w", err))
	case !first:
		return refuseAssertion("The assertion was used before.")
	case !m.verifier.now().Before(until):
		return refuseAssertion("The assertion expired while the request was checked.")
	}
	return nil
}

// refuseAssertion answers a request that did not come through the gateway, as far
// as can be told. It is 403 and not 401, which has to name by WWW-Authenticate
// what the sender could authenticate with (RFC 9110 §15.5.2): there is nothing,
// for the assertion is not the sender's to make. A challenge of the DPoP scheme
// would have clients send tokens and proofs past the gateway.
func refuseAssertion(reason string) *Refusal {
	return &Refusal{
		Status: http.StatusForbidden, Code: codeInvalidAssertion,
		Description: "This API is to be called through its gateway. " + reason,
	}
}

// write answers with a refusal. Only a lack of scope has a challenge (RFC 6750
// §3): it is about the sender's own token, which another one can replace. Which
// algorithms a proof may have is the gateway's to say.
func (m *GatewayMiddleware) write(w http.ResponseWriter, r *Refusal) {
	if r.Code == codeInsufficientScope {
		scheme := SchemeDPoP
		if r.Scheme != "" {
			scheme = r.Scheme
		}
		w.Header().Set("WWW-Authenticate", r.challenge(scheme, scheme, m.verifier.resource, nil))
	}
	writeRefusal(w, r)
}
