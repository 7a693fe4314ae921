package dpopbind

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"log/slog"
	"time"

	"github.com/cargokey/authz/internal/strictjose"
)

// Proof is a proof that passed every check but that of its signature. It is
// immutable. It neither prints nor logs its text, its jti or its nonce.
type Proof struct {
	claims
	alg          Algorithm
	key          *publicKey
	until        time.Time
	signingInput string
	signature    []byte
}

// JKT returns the name of the proof's key: the base64url encoding of its RFC
// 7638 SHA-256 thumbprint.
func (p *Proof) JKT() string { return p.key.Thumbprint }

// JTI returns the sender's name for the proof, 1 to 256 bytes of UTF-8.
func (p *Proof) JTI() string { return p.jti }

// HTU returns the proof's htu, normalised: one of the target's URLs.
func (p *Proof) HTU() string { return p.htu }

// IssuedAt returns the proof's iat, to the microsecond.
func (p *Proof) IssuedAt() time.Time { return p.issuedAt }

// AcceptedUntil returns the last moment at which the proof could be accepted:
// iat + Lifetime + ClockSkew. Until then, that moment included, its SpendKey is
// to be remembered.
func (p *Proof) AcceptedUntil() time.Time { return p.until }

// Nonce returns the proof's nonce, "" when it has none. Whether it is one that
// was handed out is for the caller to check (RFC 9449 §4.3, check 10).
func (p *Proof) Nonce() string { return p.nonce }

// Algorithm returns the proof's alg.
func (p *Proof) Algorithm() Algorithm { return p.alg }

// Offset returns how far the checker's clock was past the proof's iat, negative
// when the iat lies ahead.
func (p *Proof) Offset() time.Duration { return p.offset }

// SpendKey names the proof for the detection of replays (RFC 9449 §11.1): it is
// the SHA-256 of (jkt, htu, jti), each preceded by its length. It depends on
// nothing that can be varied without the private key, as the bytes of the
// signature can.
func (p *Proof) SpendKey() [32]byte { return spendKey(p.key.Thumbprint, p.htu, p.jti) }

func spendKey(parts ...string) [32]byte {
	b := make([]byte, 0, 512)
	for _, s := range parts {
		b = binary.BigEndian.AppendUint64(b, uint64(len(s)))
		b = append(b, s...)
	}
	return sha256.Sum256(b)
}

// VerifySignature verifies the signature with the proof's own key (RFC 9449
// §4.3, check 6). The error is always a *ProofError.
func (p *Proof) VerifySignature() error {
	if !verifyJWS(p.alg, p.key, p.signingInput, p.signature) {
		return refuse(CheckSignature, "signature: does not verify with the key in jwk")
	}
	return nil
}

func verifyJWS(alg Algorithm, key *publicKey, input string, signature []byte) bool {
	return strictjose.Verify(string(alg), key, input, signature)
}

// LogValue leaves out all that identifies the proof itself.
func (p Proof) LogValue() slog.Value {
	if p.key == nil {
		return slog.StringValue("DPoP proof")
	}
	return slog.GroupValue(
		slog.String("jkt", p.key.Thumbprint),
		slog.String("alg", string(p.alg)),
		slog.String("htu", p.htu),
		slog.Time("iat", p.issuedAt),
	)
}

// Format prints the same for every verb, so that none reveals the fields.
func (p Proof) Format(f fmt.State, _ rune) {
	jkt := ""
	if p.key != nil {
		jkt = p.key.Thumbprint
	}
	_, _ = fmt.Fprintf(f, "DPoP proof (alg %s, jkt %s)", string(p.alg), jkt)
}
