package authz

import (
	"errors"
	"time"

	"github.com/cargokey/authz/dpopbind"
	"github.com/cargokey/authz/internal/clientassertion"
)

// failedCheck is which check of a proof or of a client assertion a request was refused
// for: what the log, the metrics and the audit trail go by alike.
type failedCheck struct {
	name      string // of a closed set, proofMissing and the replays among it; "": it was something else
	assertion bool
}

func (e *oauthError) failedCheck() failedCheck {
	var proof *dpopbind.ProofError
	var assertion *clientassertion.Error
	switch {
	case errors.As(e, &assertion):
		return failedCheck{string(assertion.Check), true}
	case errors.Is(e, ErrAssertionSpent):
		return failedCheck{assertionReplay, true}
	case errors.As(e, &proof):
		return failedCheck{string(proof.Check), false}
	case errors.Is(e, dpopbind.ErrNoProof):
		return failedCheck{proofMissing, false}
	case errors.Is(e, ErrProofSpent):
		return failedCheck{string(dpopbind.CheckReplay), false}
	default:
		return failedCheck{}
	}
}

// reason says why a request is refused, of a closed set: the check of its proof or, by
// "assertion_" and its name, of its assertion, or else the error's code.
func (e *oauthError) reason() string {
	switch check := e.failedCheck(); {
	case check.name == "":
		return e.code
	case check.assertion:
		return "assertion_" + check.name
	default:
		return check.name
	}
}

// offset is how far the server's clock was past the iat of the proof, of one that is
// refused for it too.
func (ev *event) offset() (time.Duration, bool) {
	if ev.proofOffset != nil {
		return *ev.proofOffset, true
	}
	var proof *dpopbind.ProofError
	if ev.err != nil && errors.As(ev.err, &proof) && proof.Check == dpopbind.CheckIAT && proof.Offset != 0 {
		return proof.Offset, true
	}
	return 0, false
}
