package dpopbind

import (
	"errors"
	"fmt"
	"time"

	"github.com/cargokey/authz/internal/strictjose"
)

// ErrNoProof says that a request carries no DPoP header at all, which is for
// the caller to judge: it may be an attempt at a bearer token.
var ErrNoProof = errors.New("dpopbind: no DPoP header")

// Check names the check that a proof failed. The set is closed, so that it can
// be the label of a metric.
type Check string

// The checks of RFC 9449 §4.3 and of what it builds on.
const (
	CheckHeaderCount Check = "header_count" // RFC 9449 §4.3, check 1
	CheckFormat      Check = "format"       // check 2: a JWS in compact serialization
	CheckJSON        Check = "json"         // header and claims are unambiguous JSON objects
	CheckTyp         Check = "typ"          // check 4
	CheckCrit        Check = "crit"         // RFC 7515 §4.1.11
	CheckAlg         Check = "alg"          // check 5
	CheckJWK         Check = "jwk"          // checks 3 and 7
	CheckHTM         Check = "htm"          // check 8
	CheckHTU         Check = "htu"          // check 9
	CheckJTI         Check = "jti"          // check 3
	CheckIAT         Check = "iat"          // check 11
	CheckNBF         Check = "nbf"          // RFC 7519 §4.1.5
	CheckExp         Check = "exp"          // RFC 7519 §4.1.4
	CheckNonce       Check = "nonce"        // check 10
	CheckATH         Check = "ath"          // check 12
	CheckSignature   Check = "signature"    // check 6
	CheckReplay      Check = "replay"       // RFC 9449 §11.1
)

// Checks returns every Check.
func Checks() []Check {
	return []Check{
		CheckHeaderCount, CheckFormat, CheckJSON, CheckTyp, CheckCrit, CheckAlg, CheckJWK, CheckHTM,
		CheckHTU, CheckJTI, CheckIAT, CheckNBF, CheckExp, CheckNonce, CheckATH, CheckSignature, CheckReplay,
	}
}

// ProofError is the refusal of a proof.
type ProofError struct {
	// Check is the first check that failed.
	Check Check
	// Description is a sentence for the sender: which check failed, what was
	// expected and, for htu and iat, what was got. It has only characters that
	// RFC 6749 §5.2 allows in error_description, and at most 512 of them.
	Description string
	// Offset is, for CheckIAT on a well-formed iat, how far the server's time is
	// past it, negative when the iat lies ahead. Otherwise it is 0.
	Offset time.Duration
}

func (e *ProofError) Error() string {
	return "dpopbind: proof refused (" + string(e.Check) + "): " + e.Description
}

const (
	maxDescription = 512
	maxQuoted      = 160
)

// refuse makes a ProofError whose description is safe to send, whatever the
// arguments hold. Arguments that the sender chose go through strictjose.Quote, which
// bounds them.
func refuse(check Check, format string, args ...any) *ProofError {
	return &ProofError{Check: check, Description: strictjose.Printable(fmt.Sprintf(format, args...), maxDescription)}
}
