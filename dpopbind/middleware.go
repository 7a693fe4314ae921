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
	algs        string
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
	log := cfg.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Middleware{
		checker: checker,
		verifier: &tokenVerifier{
			issuer: cfg.Issuer, resource: cfg.Resource, algorithms: checker.algorithms,
			skew: checker.skew, now: checker.now,
			keys: &keySet{source: fetcher.fetch, now: checker.now, log: log},
		},
		own: own, replay: cfg.Replay, nonces: cfg.Nonces, allowBearer: cfg.AllowBearer,
		algs: strings.ReplaceAll(checker.offered, ",", ""), now: checker.now, log: log,
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

// CallerFrom returns the caller of a request that a Middleware let through.
func CallerFrom(ctx context.Context) (Caller, bool) {
	c, ok := ctx.Value(callerKey{}).(Caller)
	return c, ok
}

// Require lets those requests through to a handler whose token has all of the
// scopes, and puts the Caller into their context. It panics for what is no scope
// (RFC 6749 §3.3), which is a mistake in the program.
func (m *Middleware) Require(scopes ...string) func(http.Handler) http.Handler {
	for _, scope := range scopes {
		if !isScope(scope) {
			panic("dpopbind: not a scope: " + scope)
		}
	}
	scopes = slices.Clone(scopes)
	m.addScopes(scopes)
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			caller, nonce, refused := m.admit(r, scopes)
			if refused != nil {
				m.logRefusal(r, caller, refused)
				m.write(w, refused)
				return
			}
			if nonce != "" {
				w.Header().Set("DPoP-Nonce", nonce) // RFC 9449 §8.2
			}
			next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), callerKey{}, *caller)))
		})
	}
}

// admit makes all checks, the cheap ones first, and spends the proof last: only
// a request that gets through uses its proof up. The nonce is the one to hand
// out with the answer, "" for none.
func (m *Middleware) admit(r *http.Request, scopes []string) (caller *Caller, nonce string, refused *refusal) {
	p, refused := readPresentation(r)
	switch {
	case refused != nil:
		return nil, "", refused
	case p.scheme == schemeDPoP:
		return m.admitBound(r, p.token, scopes)
	case p.scheme == schemeBearer:
		caller, refused = m.admitBearer(r, p.token, scopes)
		if refused != nil {
			refused.scheme = schemeBearer
		}
		return caller, "", refused
	}
	// RFC 6750 §3.1: without credentials there is no error code.
	return nil, "", &refusal{
		status:      http.StatusUnauthorized,
		description: "This API needs an access token that is bound to a key: send Authorization: DPoP, and a proof in the DPoP header.",
	}
}

// admitBound is RFC 9449 §7.1.
func (m *Middleware) admitBound(r *http.Request, token string, scopes []string) (*Caller, string, *refusal) {
	target, err := m.own.target(r)
	if err != nil {
		e := malformed("The request cannot be checked: " + err.Error() + ".")
		e.cause = err
		return nil, "", e
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
		return caller, "", refuseProof(err)
	}
	// RFC 9449 §7.1: a token without a binding is no DPoP token, whatever the
	// scheme says.
	if caller.JKT == "" {
		return caller, "", invalidToken("The access token is not bound to a key: ask for one with a DPoP proof.")
	}
	// RFC 9449 §4.3, check 12, second half.
	if subtle.ConstantTimeCompare([]byte(caller.JKT), []byte(proof.JKT())) != 1 {
		return caller, "", invalidToken("The access token is bound to another key than the proof's.")
	}
	if refused := checkScopes(caller, scopes); refused != nil {
		return caller, "", refused
	}
	if err := m.spend(r.Context(), proof); err != nil {
		return caller, "", refuseProof(err)
	}
	return caller, nonce, nil
}

// readProof makes the checks of RFC 9449 §4.3 that cost nothing.
func (m *Middleware) readProof(r *http.Request, target Target, token string) (*Proof, *refusal) {
	raw, err := ProofHeader(r.Header)
	if errors.Is(err, ErrNoProof) {
		return nil, invalidProof(refuse(CheckHeaderCount,
			"DPoP: the request has no proof; send exactly one DPoP header, made for this request and this access token"))
	}
	if err != nil {
		return nil, refuseProof(err)
	}
	proof, err := m.checker.CheckWithToken(raw, target, token)
	if err != nil {
		return nil, refuseProof(err)
	}
	return proof, nil
}

// checkNonce is RFC 9449 §9 and §8.2.
func (m *Middleware) checkNonce(proof *Proof) (next string, refused *refusal) {
	if m.nonces == nil {
		return "", nil
	}
	switch m.nonces.Check(proof.Nonce()) {
	case NonceFresh:
		return "", nil
	case NonceAging:
		return m.nonces.Current(), nil
	}
	return "", &refusal{
		status: http.StatusUnauthorized, code: codeUseNonce, check: CheckNonce,
		description: "This API requires a nonce in the proof: use the one in the DPoP-Nonce header.",
	}
}

func (m *Middleware) verifyToken(ctx context.Context, token string) (*Caller, *refusal) {
	caller, err := m.verifier.verify(ctx, token)
	var bad tokenError
	switch {
	case errors.As(err, &bad):
		return nil, invalidToken(string(bad))
	case err != nil:
		return nil, unavailable(err)
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

// refuseProof answers an error of the checks of a proof.
func refuseProof(err error) *refusal {
	var e *ProofError
	if errors.As(err, &e) {
		return invalidProof(e)
	}
	return unavailable(err)
}

// admitBearer is RFC 9449 §7.2: a bound token is never taken as a bearer token.
func (m *Middleware) admitBearer(r *http.Request, token string, scopes []string) (*Caller, *refusal) {
	if err := checkForm(r); err != nil {
		return nil, malformed("The request cannot be checked: " + err.Error() + ".")
	}
	if !m.allowBearer {
		return nil, invalidToken("This API takes no bearer tokens: send a bound token by the DPoP scheme, with a proof.")
	}
	caller, refused := m.verifyToken(r.Context(), token)
	if refused != nil {
		return nil, refused
	}
	if caller.JKT != "" {
		return caller, invalidToken("The access token is bound to a key: send it by the DPoP scheme, with a proof.")
	}
	if len(r.Header.Values("DPoP")) > 0 {
		// The sender believes in a binding that is not there.
		return caller, malformed("The request has a DPoP proof and a bearer token: send a bound token by the DPoP scheme.")
	}
	return caller, checkScopes(caller, scopes)
}

func checkScopes(caller *Caller, scopes []string) *refusal {
	for _, scope := range scopes {
		if !slices.Contains(caller.Scopes, scope) {
			needed := strings.Join(scopes, " ")
			return &refusal{
				status: http.StatusForbidden, code: codeInsufficientScope, scope: needed,
				description: "The access token lacks a scope; this request needs: " + needed,
			}
		}
	}
	return nil
}

// logRefusal writes one line. The path is left out, since it may hold what the
// API keeps secret.
func (m *Middleware) logRefusal(r *http.Request, caller *Caller, e *refusal) {
	level, attrs := slog.LevelInfo, []slog.Attr{
		slog.Int("status", e.status), slog.String("error", e.code), slog.String("description", e.description),
	}
	if e.check != "" {
		attrs = append(attrs, slog.String("check", string(e.check)))
	}
	if caller != nil {
		attrs = append(attrs, slog.String("client_id", caller.ClientID), slog.String("jkt", caller.JKT))
	}
	if e.cause != nil {
		attrs = append(attrs, slog.String("cause", e.cause.Error()))
	}
	if e.status == http.StatusServiceUnavailable {
		level = slog.LevelError
	}
	m.log.LogAttrs(r.Context(), level, "request refused", attrs...)
}
