package authz

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/cargokey/authz/dpopbind"
	"github.com/cargokey/authz/internal/clientassertion"
)

// The sets that labels come from. What is in none of them is counted as other: a
// value that nobody thought of makes one series more, and never as many as somebody
// can think of.
const (
	labelOther = "other"

	proofMissing    = "missing" // a request that needs a proof, and has none
	assertionReplay = "replay"
)

// Outcomes of a request.
const (
	outcomeOK      = "ok"
	outcomeRefused = "refused" // for what its sender did
	outcomeLimited = "limited" // refused, and one of too many failures
	outcomeShed    = "shed"    // not looked at to its end, for want of room
	outcomeFailed  = "failed"  // for what the server, or its database, could not do
)

// errorCodes are those that an answer may have.
func errorCodes() []string {
	return []string{
		"invalid_request", codeInvalidClient, "unsupported_grant_type", "unauthorized_client", "invalid_scope", "invalid_target",
		codeInvalidProof, codeUseNonce, "invalid_endorsement", codeUnavailable, codeServerError,
		// Of calls that gateways ask about.
		"no_credentials", "invalid_token", "insufficient_scope", "invalid_gateway_request",
	}
}

// isFault tells whether a code says what the server could not do.
func isFault(code string) bool { return code == codeUnavailable || code == codeServerError }

// answered is what a request is counted by, besides its endpoint.
type answered struct{ outcome, code string }

// answers are those that an endpoint may give, and some that it never does.
func answers() []answered {
	all := []answered{{outcomeOK, ""}, {outcomeLimited, codeInvalidClient}, {outcomeLimited, codeInvalidProof}, {outcomeShed, codeUnavailable}}
	for _, code := range errorCodes() {
		if isFault(code) {
			all = append(all, answered{outcomeFailed, code})
		} else {
			all = append(all, answered{outcomeRefused, code})
		}
	}
	return all
}

// answeredWith is how a request is counted that ended with err; nil: well.
func answeredWith(err *oauthError, folded bool) answered {
	switch {
	case err == nil:
		return answered{outcomeOK, ""}
	case folded:
		return answered{outcomeLimited, err.code}
	case isShed(err):
		return answered{outcomeShed, err.code}
	case isFault(err.code):
		return answered{outcomeFailed, err.code}
	default:
		return answered{outcomeRefused, err.code}
	}
}

func proofChecks() []string {
	checks := []string{proofMissing}
	for _, c := range dpopbind.Checks() {
		checks = append(checks, string(c))
	}
	return checks
}

func assertionChecks() []string {
	checks := []string{assertionReplay}
	for _, c := range clientassertion.Checks() {
		checks = append(checks, string(c))
	}
	return checks
}

// counters are the counters of one label, found once: to look one up in its vector
// takes a hash and a lock. They begin with 0, so that the first of anything is an
// increase to whoever watches.
type counters map[string]prometheus.Counter

func countersOf(v *prometheus.CounterVec, values ...string) counters {
	c := counters{}
	for _, value := range append(values, labelOther) {
		c[value] = v.WithLabelValues(value)
	}
	return c
}

func (c counters) inc(value string) {
	found, ok := c[value]
	if !ok {
		found = c[labelOther]
	}
	found.Inc()
}
