package clientassertion

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/cargokey/authz/internal/strictjose"
)

// maxTried bounds how many signatures are verified for one assertion. While keys
// are replaced, a client has two or three; with a kid, one.
const maxTried = 5

// Assertion is an assertion that passed every check but that of its signature. It
// neither prints nor logs more than whom it claims to be from.
type Assertion struct {
	alg, kid  string
	clientID  string
	jti       string
	expires   time.Time
	issued    time.Time // zero: it does not say
	input     string
	signature []byte
}

// ClientID returns whom it claims to be from, 1 to 256 bytes.
func (a *Assertion) ClientID() string { return a.clientID }

// Expires returns its exp, to the microsecond.
func (a *Assertion) Expires() time.Time { return a.expires }

// SignedAt returns its iat, which whoever made it has put at most a minute ahead. One
// without it was made MaxLifetime before its exp or later.
func (a *Assertion) SignedAt() time.Time {
	if a.issued.IsZero() {
		return a.expires.Add(-MaxLifetime)
	}
	return a.issued
}

// SpendKey names the assertion so that it can be accepted once: it is the SHA-256
// of a label, the client_id and the jti, each preceded by its length. A jti is one
// client's: others cannot spend it. No proof has such a name, for the name of one
// begins with a thumbprint.
func (a *Assertion) SpendKey() [32]byte {
	b := make([]byte, 0, 256)
	for _, s := range []string{"private_key_jwt", a.clientID, a.jti} {
		b = binary.BigEndian.AppendUint64(b, uint64(len(s)))
		b = append(b, s...)
	}
	return sha256.Sum256(b)
}

// VerifyBy verifies the signature and returns the key that it is by. The keys are
// the client's: by its kid, where the assertion has one, and otherwise each that
// fits its alg, of which the first five are tried. The error is always an *Error;
// MayBeNew tells whether other keys might have verified it.
func (a *Assertion) VerifyBy(keys []strictjose.SetKey) (*strictjose.PublicKey, error) {
	tried := 0
	for _, key := range keys {
		if a.kid != "" && key.KID != a.kid || !key.Fits(a.alg) {
			continue
		}
		if tried++; tried > maxTried {
			break
		}
		if len(a.signature) == strictjose.SignatureSize(key.PublicKey) && strictjose.Verify(a.alg, key.PublicKey, a.input, a.signature) {
			return key.PublicKey, nil
		}
	}
	if tried == 0 {
		return nil, refuse(CheckKey, "the client has no key of its kid, or none for its alg")
	}
	return nil, refuse(CheckSignature, "its signature does not verify by a key of the client")
}

// MayBeNew says whether an assertion that VerifyBy refused could be by a key that
// was added since the keys were read: its kid is not among them, or it has none.
func (a *Assertion) MayBeNew(err error) bool {
	var refused *Error
	return errors.As(err, &refused) && (refused.Check == CheckKey || refused.Check == CheckSignature && a.kid == "")
}

// LogValue leaves out all that identifies the assertion itself.
func (a Assertion) LogValue() slog.Value { return slog.StringValue(a.text()) }

// Format prints the same for every verb, so that none reveals the fields.
func (a Assertion) Format(f fmt.State, _ rune) { _, _ = fmt.Fprint(f, a.text()) }

func (a Assertion) text() string { return "client assertion (alg " + a.alg + ")" }
