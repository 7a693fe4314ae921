package dpopbind

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/cargokey/authz/internal/strictjose"
)

// Limits and defaults of a NonceConfig.
const (
	// MinNonceSecret is the least size of a nonce secret, in bytes.
	MinNonceSecret = 32
	// DefaultNonceStep is how long a nonce is handed out.
	DefaultNonceStep = 2 * time.Minute

	minNonceStep = time.Second
	maxNonceStep = time.Hour
)

// NonceConfig configures a Nonces.
type NonceConfig struct {
	// Secrets are shared by all instances: random, MinNonceSecret bytes at
	// least. The first one mints, all of them check. To rotate without a refused
	// request, give every instance the new one last, then first, and after two
	// steps alone.
	Secrets [][]byte
	// Step is how long a nonce is handed out: 1 second to 1 hour, in whole
	// seconds, 0 means
	// DefaultNonceStep. A nonce is accepted in its own step, in the next one, and
	// in the one before, since another instance's clock may be ahead.
	Step time.Duration
	// Now is the clock. Nil means time.Now.
	Now func() time.Time
}

// Nonces makes and checks the nonces of a server (RFC 9449 §8 and §9). Nothing
// is stored: a nonce is a step of time and an HMAC of it, so that any instance
// knows what any other has handed out, and none can be made ahead of its time
// without the secret. All clients get the same one; it limits how long ahead a
// proof can be made, and is no secret itself.
//
// A Nonces is immutable and safe for concurrent use, and does not print its
// secrets.
type Nonces struct {
	keys [][sha256.Size]byte
	step time.Duration
	now  func() time.Time
}

// NewNonces refuses a configuration without secrets or with a short one, and a
// step out of its bounds.
func NewNonces(cfg NonceConfig) (*Nonces, error) {
	if len(cfg.Secrets) == 0 {
		return nil, errors.New("dpopbind: nonces need a secret")
	}
	n := &Nonces{step: cfg.Step, now: cfg.Now}
	if n.step == 0 {
		n.step = DefaultNonceStep
	}
	if n.now == nil {
		n.now = time.Now
	}
	if n.step < minNonceStep || n.step > maxNonceStep || n.step%time.Second != 0 {
		return nil, fmt.Errorf("dpopbind: the nonce step %v is not from %v to %v, in whole seconds", n.step, minNonceStep, maxNonceStep)
	}
	for _, secret := range cfg.Secrets {
		if len(secret) < MinNonceSecret {
			return nil, fmt.Errorf("dpopbind: a nonce secret has %d bytes and needs %d", len(secret), MinNonceSecret)
		}
		// A key of its own, so that a secret that serves something else too is
		// not used for two things.
		derived, err := hkdf.Key(sha256.New, secret, nil, "dpopbind nonce v1", sha256.Size)
		if err != nil {
			return nil, fmt.Errorf("dpopbind: deriving a nonce key: %w", err)
		}
		n.keys = append(n.keys, [sha256.Size]byte(derived))
	}
	return n, nil
}

// NonceState is what Nonces.Check says of a nonce.
type NonceState int

// The states of a nonce.
const (
	// NonceInvalid: missing, not made here, or too old. The request is answered
	// with use_dpop_nonce and a new one.
	NonceInvalid NonceState = iota
	// NonceAging: good, but its successor is out. The answer carries it, so that
	// the client need not be challenged later.
	NonceAging
	// NonceFresh: good.
	NonceFresh
)

// Layout of a nonce before it is encoded: the number of its step, then its MAC.
const (
	nonceStepSize = 8
	nonceMACSize  = 16
)

// Current is the nonce to hand out now. It has only characters that RFC 9449
// §8.1 allows (NQCHAR).
func (n *Nonces) Current() string {
	return n.mint(0, n.current())
}

func (n *Nonces) current() int64 { return n.now().Unix() / int64(n.step/time.Second) }

func (n *Nonces) mint(key int, step int64) string {
	var raw [nonceStepSize + nonceMACSize]byte
	binary.BigEndian.PutUint64(raw[:nonceStepSize], uint64(step))
	copy(raw[nonceStepSize:], n.mac(key, raw[:nonceStepSize]))
	return b64.EncodeToString(raw[:])
}

func (n *Nonces) mac(key int, step []byte) []byte {
	m := hmac.New(sha256.New, n.keys[key][:])
	m.Write(step)
	return m.Sum(nil)[:nonceMACSize]
}

// Check tells what a nonce is worth now. The MACs are compared in constant time.
func (n *Nonces) Check(nonce string) NonceState {
	raw, ok := strictjose.DecodeBase64(nonce)
	if !ok || len(raw) != nonceStepSize+nonceMACSize {
		return NonceInvalid
	}
	made := false
	for key := range n.keys {
		if hmac.Equal(n.mac(key, raw[:nonceStepSize]), raw[nonceStepSize:]) {
			made = true
		}
	}
	if !made {
		return NonceInvalid
	}
	// Only what this server has made is compared from here on.
	switch step, current := int64(binary.BigEndian.Uint64(raw)), n.current(); step {
	case current, current + 1:
		return NonceFresh
	case current - 1:
		return NonceAging
	default:
		return NonceInvalid
	}
}

// LogValue keeps the secrets out of logs.
func (n Nonces) LogValue() slog.Value { return slog.StringValue("dpopbind.Nonces") }

// Format keeps the secrets out of messages.
func (n Nonces) Format(f fmt.State, _ rune) { fmt.Fprint(f, "dpopbind.Nonces") }
