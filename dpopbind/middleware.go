package dpopbind

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

// MiddlewareConfig configures a Middleware. Issuer, Resource, Replay and one of
// BaseURLs and TrustedProxies are required.
type MiddlewareConfig struct {
	// Issuer is the only authorization server whose tokens are taken: their iss.
	// https, or http on a loopback host.
	Issuer string
	// JWKSURI is where its keys are. Empty means that it is discovered from the
	// issuer (RFC 8414). https, or http on a loopback host.
	JWKSURI string
	// Resource is this API's identifier, an absolute URI: the tokens' aud (RFC
	// 8707 §2, RFC 9068 §3).
	Resource string
	// BaseURLs are the public URLs that this API is reached at: scheme, host and,
	// where a gateway takes it off, the prefix of the path. A proof's htu must be
	// one of them followed by the path of the request.
	BaseURLs []string
	// TrustedProxies are the peers whose Forwarded, or X-Forwarded-Proto and
	// X-Forwarded-Host, are believed. With BaseURLs they can only choose one of
	// them. Without, they are all that is known, and a request that comes past
	// them is refused.
	TrustedProxies []netip.Prefix
	// Replay spends the proofs: NewMemoryReplay for one process, or a store that
	// all instances share.
	Replay Replay
	// Nonces, when set, are demanded of every proof (RFC 9449 §9).
	Nonces *Nonces
	// AllowBearer admits tokens that are bound to no key, by the Bearer scheme. A
	// bound token is never taken as a bearer token.
	AllowBearer bool
	// Algorithms are those that a proof, and an access token, may be signed with.
	// Empty means DefaultAlgorithms.
	Algorithms []Algorithm
	// Lifetime and ClockSkew are a CheckerConfig's. The skew is also allowed on
	// the times of access tokens.
	Lifetime, ClockSkew time.Duration
	// Now is the clock. Nil means time.Now.
	Now func() time.Time
	// HTTPClient fetches the keys. Nil means one of its own. It follows no
	// redirect to another origin.
	HTTPClient *http.Client
	// Log gets one line for each refused request, without token or proof. Nil
	// means none.
	Log *slog.Logger
}

// Middleware protects an API with access tokens that are bound to a key of the
// client's (RFC 9449 §7). It validates JWT access tokens (RFC 9068) by the
// issuer's published keys, which it keeps (see KeysFresh), and so asks nobody
// about a request. Two things follow. A token that was revoked is taken until it
// expires. Opaque tokens are refused: for them, and where revocation must be
// immediate, a gateway has to introspect.
//
// It is safe for concurrent use.
type Middleware struct {
	checker     *Checker
	verifier    *tokenVerifier
	own         *ownURLs
	replay      Replay
	nonces      *Nonces
	allowBearer bool
	now         func() time.Time
	log         *slog.Logger

	mu     sync.Mutex
	scopes []string // of all calls of Require
}

// NewMiddleware refuses a configuration in which something required is missing
// or something is unsafe. It fetches nothing.
func NewMiddleware(cfg MiddlewareConfig) (*Middleware, error) {
	if cfg.Replay == nil {
		return nil, errors.New("dpopbind: a middleware needs a Replay, such as NewMemoryReplay(0, nil): " +
			"without one, every proof can be replayed")
	}
	if err := checkResource(cfg.Resource); err != nil {
		return nil, err
	}
	checker, err := NewChecker(CheckerConfig{
		Algorithms: cfg.Algorithms, Lifetime: cfg.Lifetime, ClockSkew: cfg.ClockSkew, Now: cfg.Now,
	})
	if err != nil {
		return nil, err
	}
	own, err := newOwnURLs(cfg.BaseURLs, cfg.TrustedProxies)
	if err != nil {
		return nil, err
	}
	fetcher, err := newKeyFetcher(cfg.HTTPClient, cfg.Issuer, cfg.JWKSURI, checker.algorithms, checker.now)
	if err != nil {
		return nil, err
	}
	log := logOrNone(cfg.Log)
	return &Middleware{
		checker: checker,
		verifier: &tokenVerifier{resource: cfg.Resource, jwtVerifier: jwtVerifier{
			noun: "access token", isType: isAccessTokenType,
			wrongType: "The token is not an access token: its typ must be at+jwt.",
			issuer:    cfg.Issuer, algorithms: checker.algorithms, skew: checker.skew, now: checker.now,
			keys: &keySet{source: fetcher.fetch, now: checker.now, log: log},
		}},
		own: own, replay: cfg.Replay, nonces: cfg.Nonces, allowBearer: cfg.AllowBearer,
		now: checker.now, log: log,
	}, nil
}

// checkResource is RFC 8707 §2: an absolute URI without a fragment. It also
// stands in a quoted string.
func checkResource(resource string) error {
	u, err := url.Parse(resource)
	if err != nil || !u.IsAbs() || strings.Contains(resource, "#") || !isNonce(resource) {
		return fmt.Errorf("dpopbind: the resource %q is not an absolute URI without a fragment", resource)
	}
	return nil
}

type callerKey struct{}

// CallerFrom returns the caller of a request that a Middleware or a
// GatewayMiddleware let through.
func CallerFrom(ctx context.Context) (Caller, bool) {
	c, ok := ctx.Value(callerKey{}).(Caller)
	return c, ok
}

// Require lets those requests through to a handler whose token has all of the
// scopes, and puts the Caller into their context. It panics for what is no scope
// (RFC 6749 §3.3), which is a mistake in the program.
func (m *Middleware) Require(scopes ...string) func(http.Handler) http.Handler {
	scopes = mustBeScopes(scopes)
	m.addScopes(scopes)
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			caller, nonce, refused := m.admit(r, scopes)
			if refused != nil {
				logRefusal(m.log, r, caller, refused)
				m.write(w, refused)
				return
			}
			if nonce != "" {
				w.Header().Set("DPoP-Nonce", nonce) // RFC 9449 §8.2
			}
			next.ServeHTTP(w, withCaller(r, caller))
		})
	}
}

// mustBeScopes returns a copy. It panics for what is no scope.
func mustBeScopes(scopes []string) []string {
	for _, scope := range scopes {
		if !isScope(scope) {
			panic("dpopbind: not a scope: " + scope)
		}
	}
	return slices.Clone(scopes)
}

func withCaller(r *http.Request, caller *Caller) *http.Request {
	return r.WithContext(context.WithValue(r.Context(), callerKey{}, *caller))
}

func logOrNone(log *slog.Logger) *slog.Logger {
	if log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return log
}

// admit makes all checks, the cheap ones first, and spends the proof last: only
// a request that gets through uses its proof up. The nonce is the one to hand
// out with the answer, "" for none.
func (m *Middleware) admit(r *http.Request, scopes []string) (caller *Caller, nonce string, refused *Refusal) {
	p, refused := ReadPresentation(r.Header, r.URL.RawQuery)
	switch {
	case refused != nil:
		return nil, "", refused
	case p.Scheme == SchemeDPoP:
		return m.admitBound(r, p.Token, scopes)
	case p.Scheme == SchemeBearer:
		caller, refused = m.admitBearer(r, p.Token, scopes)
		if refused != nil {
			refused.Scheme = SchemeBearer
		}
		return caller, "", refused
	}
	return nil, "", RefuseNoToken()
}

// admitBound is RFC 9449 §7.1.
func (m *Middleware) admitBound(r *http.Request, token string, scopes []string) (*Caller, string, *Refusal) {
	target, err := m.own.target(r)
	if err != nil {
		return nil, "", refuseTarget(err)
	}
	proof, refused := m.readProof(r, target, token)
	if refused != nil {
		return nil, "", refused
	}
	nonce, refused := m.checkNonce(proof)
	if refused != nil {
		return nil, "", refused
	}
	caller, refused := m.verifyToken(r.Context(), token)
	if refused != nil {
		return nil, "", refused
	}
	if err := proof.VerifySignature(); err != nil {
		return caller, "", RefuseProof(err)
	}
	// RFC 9449 §7.1: a token without a binding is no DPoP token, whatever the
	// scheme says.
	if caller.JKT == "" {
		return caller, "", RefuseUnboundToken()
	}
	// RFC 9449 §4.3, check 12, second half.
	if subtle.ConstantTimeCompare([]byte(caller.JKT), []byte(proof.JKT())) != 1 {
		return caller, "", RefuseOtherKey()
	}
	if refused := checkScopes(caller, scopes); refused != nil {
		return caller, "", refused
	}
	if err := m.spend(r.Context(), proof); err != nil {
		return caller, "", RefuseProof(err)
	}
	return caller, nonce, nil
}

// readProof makes the checks of RFC 9449 §4.3 that cost nothing.
func (m *Middleware) readProof(r *http.Request, target Target, token string) (*Proof, *Refusal) {
	raw, err := ProofHeader(r.Header)
	if errors.Is(err, ErrNoProof) {
		return nil, RefuseMissingProof()
	}
	if err != nil {
		return nil, RefuseProof(err)
	}
	proof, err := m.checker.CheckWithToken(raw, target, token)
	if err != nil {
		return nil, RefuseProof(err)
	}
	return proof, nil
}

// checkNonce is RFC 9449 §9 and §8.2.
func (m *Middleware) checkNonce(proof *Proof) (next string, refused *Refusal) {
	if m.nonces == nil {
		return "", nil
	}
	switch m.nonces.Check(proof.Nonce()) {
	case NonceFresh:
		return "", nil
	case NonceAging:
		return m.nonces.Current(), nil
	}
	return "", RefuseNonce()
}

func (m *Middleware) verifyToken(ctx context.Context, token string) (*Caller, *Refusal) {
	caller, err := m.verifier.verify(ctx, token)
	var bad tokenError
	switch {
	case errors.As(err, &bad):
		return nil, RefuseToken(string(bad))
	case err != nil:
		return nil, RefuseUnavailable(err)
	}
	return caller, nil
}

// spend spends the proof, and then makes sure that it was still in its time: a
// Replay may forget a proof that is not, and the checks before may have taken
// long.
func (m *Middleware) spend(ctx context.Context, proof *Proof) error {
	if err := proof.Spend(ctx, m.replay); err != nil {
		return err
	}
	if m.now().After(proof.AcceptedUntil()) {
		return refuse(CheckIAT, "iat: the proof expired while the request was checked; make a new one")
	}
	return nil
}

// refuseTarget answers a request of which it cannot be told what a proof of it
// would have to be for.
func refuseTarget(err error) *Refusal {
	refused := RefuseRequest("The request cannot be checked: " + err.Error() + ".")
	refused.Cause = err
	return refused
}

// admitBearer is RFC 9449 §7.2: a bound token is never taken as a bearer token.
func (m *Middleware) admitBearer(r *http.Request, token string, scopes []string) (*Caller, *Refusal) {
	if err := checkForm(r); err != nil {
		return nil, refuseTarget(err)
	}
	if !m.allowBearer {
		return nil, RefuseBearer()
	}
	caller, refused := m.verifyToken(r.Context(), token)
	if refused != nil {
		return nil, refused
	}
	if caller.JKT != "" {
		return caller, RefuseBoundAsBearer()
	}
	if len(r.Header.Values("DPoP")) > 0 {
		return caller, RefuseProofWithBearer()
	}
	return caller, checkScopes(caller, scopes)
}

func checkScopes(caller *Caller, scopes []string) *Refusal {
	for _, scope := range scopes {
		if !slices.Contains(caller.Scopes, scope) {
			return RefuseScope(scopes...)
		}
	}
	return nil
}

// write answers with a refusal.
func (m *Middleware) write(w http.ResponseWriter, r *Refusal) {
	for _, challenge := range r.Challenges(m.verifier.resource, m.checker.algorithms, m.allowBearer) {
		w.Header().Add("WWW-Authenticate", challenge)
	}
	if r.Code == codeUseNonce {
		w.Header().Set("DPoP-Nonce", m.nonces.Current()) // RFC 9449 §9
	}
	writeRefusal(w, r)
}

// logRefusal writes one line. The path is left out, since it may hold what the
// API keeps secret.
func logRefusal(log *slog.Logger, r *http.Request, caller *Caller, e *Refusal) {
	level, attrs := slog.LevelInfo, []slog.Attr{
		slog.Int("status", e.Status), slog.String("error", e.Code), slog.String("description", e.Description),
	}
	if e.Check != "" {
		attrs = append(attrs, slog.String("check", string(e.Check)))
	}
	if caller != nil {
		attrs = append(attrs, slog.String("client_id", caller.ClientID), slog.String("jkt", caller.JKT))
	}
	if e.Cause != nil {
		attrs = append(attrs, slog.String("cause", e.Cause.Error()))
	}
	if e.Status == http.StatusServiceUnavailable {
		level = slog.LevelError
	}
	log.LogAttrs(r.Context(), level, "request refused", attrs...)
}
