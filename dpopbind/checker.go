package dpopbind

import (
	"fmt"
	"time"

	"github.com/cargokey/authz/internal/strictjose"
)

// Defaults and limits of a CheckerConfig.
const (
	DefaultLifetime  = 60 * time.Second
	DefaultClockSkew = 15 * time.Second

	// RFC 9449 §11.1 asks for a lifetime of seconds or minutes. Proofs are to be
	// remembered for all of their window.
	minLifetime  = time.Second
	maxLifetime  = 10 * time.Minute
	maxClockSkew = 5 * time.Minute
)

// CheckerConfig configures a Checker. Its zero value is a good configuration.
type CheckerConfig struct {
	// Algorithms are those that a proof may be signed with. Empty means
	// DefaultAlgorithms.
	Algorithms []Algorithm
	// Lifetime is how long a proof lives after its iat: 1 second to 10 minutes,
	// 0 means DefaultLifetime.
	Lifetime time.Duration
	// ClockSkew is how far the sender's clock and this one may differ, on both
	// ends of the lifetime: up to 5 minutes, 0 means DefaultClockSkew.
	ClockSkew time.Duration
	// Now is the clock. Nil means time.Now.
	Now func() time.Time
}

// Checker checks proofs. It is immutable and safe for concurrent use.
type Checker struct {
	algorithms []Algorithm
	offered    string // algorithms, for error messages
	lifetime   time.Duration
	skew       time.Duration
	now        func() time.Time
}

// NewChecker refuses an unknown or repeated algorithm and durations out of
// their bounds.
func NewChecker(cfg CheckerConfig) (*Checker, error) {
	algs, err := knownAlgorithms(cfg.Algorithms)
	if err != nil {
		return nil, err
	}
	skew, err := allowedSkew(cfg.ClockSkew)
	if err != nil {
		return nil, err
	}
	c := &Checker{
		algorithms: algs,
		offered:    joinAlgorithms(algs, ", "),
		lifetime:   cfg.Lifetime,
		skew:       skew,
		now:        cfg.Now,
	}
	if c.lifetime == 0 {
		c.lifetime = DefaultLifetime
	}
	if c.now == nil {
		c.now = time.Now
	}
	if c.lifetime < minLifetime || c.lifetime > maxLifetime {
		return nil, fmt.Errorf("dpopbind: the proof lifetime %v is not from %v to %v", c.lifetime, minLifetime, maxLifetime)
	}
	return c, nil
}

// allowedSkew returns a configured ClockSkew, DefaultClockSkew for 0.
func allowedSkew(configured time.Duration) (time.Duration, error) {
	if configured == 0 {
		return DefaultClockSkew, nil
	}
	if configured < 0 || configured > maxClockSkew {
		return 0, fmt.Errorf("dpopbind: the clock skew %v is not from 0 to %v", configured, maxClockSkew)
	}
	return configured, nil
}

// Check makes every check of RFC 9449 §4.3 that costs nothing, which is all but
// the signature and the nonce's value, for a proof that comes without an access
// token, as at a token endpoint. The error is always a *ProofError.
//
// The Proof is not to be trusted before its VerifySignature has returned nil.
func (c *Checker) Check(proof string, t Target) (*Proof, error) {
	return c.check(proof, t, nil)
}

// CheckWithToken is Check for a proof that comes with an access token, as at a
// protected resource: it also demands that the proof's ath is the hash of the
// token (RFC 9449 §4.3, check 12). That the token is bound to the proof's key is
// for the caller to compare.
func (c *Checker) CheckWithToken(proof string, t Target, accessToken string) (*Proof, error) {
	return c.check(proof, t, &accessToken)
}

func (c *Checker) check(proof string, t Target, accessToken *string) (*Proof, error) {
	headerPart, payloadPart, signaturePart, err := splitProof(proof)
	if err != nil {
		return nil, err
	}
	header, err := parseSegment(headerPart, "header")
	if err != nil {
		return nil, err
	}
	alg, key, err := c.checkJOSEHeader(header)
	if err != nil {
		return nil, err
	}
	signature, err := decodeSegment(signaturePart, "signature")
	if err != nil {
		return nil, err
	}
	if want := strictjose.SignatureSize(key); len(signature) != want {
		return nil, refuse(CheckSignature, "signature: must be of %d bytes for this alg and key, and is of %d", want, len(signature))
	}
	payload, err := parseSegment(payloadPart, "payload")
	if err != nil {
		return nil, err
	}
	claims, err := c.checkClaims(payload, t, accessToken)
	if err != nil {
		return nil, err
	}
	return &Proof{
		claims:       *claims,
		alg:          alg,
		key:          key,
		until:        claims.issuedAt.Add(c.lifetime + c.skew),
		signingInput: proof[:len(headerPart)+1+len(payloadPart)],
		signature:    signature,
	}, nil
}
