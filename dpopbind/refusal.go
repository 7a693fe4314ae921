package dpopbind

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// Error codes of RFC 6750 §3.1 and RFC 9449 §7.1 and §9. The last two
// are this package's own: for what a gateway should have sent, and for a failure
// of the server's.
const (
	codeInvalidRequest    = "invalid_request"
	codeInvalidToken      = "invalid_token"
	codeInsufficientScope = "insufficient_scope"
	codeInvalidProof      = "invalid_dpop_proof"
	codeUseNonce          = "use_dpop_nonce"
	codeInvalidAssertion  = "invalid_gateway_assertion"
	codeUnavailable       = "temporarily_unavailable"
)

// Refusal is the answer to a request that does not get through to a protected
// resource. A Middleware answers with it; whoever checks requests by other means,
// as a gateway that introspects does, answers alike with the functions that make
// one.
type Refusal struct {
	// Status is the HTTP status: 400, 401, 403 or 503.
	Status int
	// Code is the error of RFC 6750 §3.1 or RFC 9449 §7.1 and §9, "" for a request
	// without credentials. With use_dpop_nonce goes a DPoP-Nonce header, which is
	// the caller's to add.
	Code string
	// Description says what to do, in what RFC 6749 §5.2 allows and no more.
	Description string
	// Scheme is that of the credentials, in whose challenge the error stands. ""
	// means SchemeDPoP.
	Scheme string
	// Scope is what the request needs, with insufficient_scope.
	Scope string
	// Check is the check that a proof failed, for the log and metrics.
	Check Check
	// Cause is for the log and nobody else: why the check could not be made.
	Cause error
}

// Error holds neither token nor proof.
func (r *Refusal) Error() string {
	code := r.Code
	if code == "" {
		code = "no credentials"
	}
	return fmt.Sprintf("dpopbind: request refused (%d, %s): %s", r.Status, code, r.Description)
}

// Unwrap is the Cause.
func (r *Refusal) Unwrap() error { return r.Cause }

// RefuseRequest answers a request that is malformed: 400 invalid_request. The
// description is a sentence in the characters of RFC 6749 §5.2.
func RefuseRequest(description string) *Refusal {
	return &Refusal{Status: http.StatusBadRequest, Code: codeInvalidRequest, Description: description}
}

// RefuseNoToken answers a request without an access token: 401, and by RFC 6750
// §3.1 without an error code.
func RefuseNoToken() *Refusal {
	return &Refusal{
		Status:      http.StatusUnauthorized,
		Description: "This API needs an access token that is bound to a key: send Authorization: DPoP, and a proof in the DPoP header.",
	}
}

// RefuseToken answers an access token that is not valid here: 401 invalid_token.
// The description is a sentence in the characters of RFC 6749 §5.2.
func RefuseToken(description string) *Refusal {
	return &Refusal{Status: http.StatusUnauthorized, Code: codeInvalidToken, Description: description}
}

// RefuseUnboundToken answers a token that came by the DPoP scheme and has no
// binding: by RFC 9449 §7.1 it is no DPoP token, whatever the scheme says.
func RefuseUnboundToken() *Refusal {
	return RefuseToken("The access token is not bound to a key: ask for one with a DPoP proof.")
}

// RefuseOtherKey answers a token whose binding is not to the proof's key (RFC
// 9449 §4.3, check 12, second half).
func RefuseOtherKey() *Refusal {
	return RefuseToken("The access token is bound to another key than the proof's.")
}

// RefuseBearer answers a token that came by the Bearer scheme to a resource which
// admits none.
func RefuseBearer() *Refusal {
	return byBearer(RefuseToken("This API takes no bearer tokens: send a bound token by the DPoP scheme, with a proof."))
}

// RefuseBoundAsBearer answers a bound token that came by the Bearer scheme (RFC
// 9449 §7.2).
func RefuseBoundAsBearer() *Refusal {
	return byBearer(RefuseToken("The access token is bound to a key: send it by the DPoP scheme, with a proof."))
}

// RefuseProofWithBearer answers a proof beside a token that is bound to no key:
// the sender believes in a binding that is not there.
func RefuseProofWithBearer() *Refusal {
	return byBearer(RefuseRequest("The request has a DPoP proof and a bearer token: send a bound token by the DPoP scheme."))
}

func byBearer(r *Refusal) *Refusal {
	r.Scheme = SchemeBearer
	return r
}

// RefuseMissingProof answers a token that came by the DPoP scheme without a
// proof: 401 invalid_dpop_proof.
func RefuseMissingProof() *Refusal {
	return RefuseProof(refuse(CheckHeaderCount,
		"DPoP: the request has no proof; send exactly one DPoP header, made for this request and this access token"))
}

// RefuseProof answers an error of the checks of a proof: a *ProofError is 401
// invalid_dpop_proof, and any other is RefuseUnavailable's.
func RefuseProof(err error) *Refusal {
	var e *ProofError
	if errors.As(err, &e) {
		return &Refusal{Status: http.StatusUnauthorized, Code: codeInvalidProof, Description: e.Description, Check: e.Check}
	}
	return RefuseUnavailable(err)
}

// RefuseNonce answers a proof whose nonce is missing or out of date: 401
// use_dpop_nonce (RFC 9449 §9).
func RefuseNonce() *Refusal {
	return &Refusal{
		Status: http.StatusUnauthorized, Code: codeUseNonce, Check: CheckNonce,
		Description: "This API requires a nonce in the proof: use the one in the DPoP-Nonce header.",
	}
}

// RefuseScope answers a token that lacks one of the scopes which a request needs:
// 403 insufficient_scope (RFC 6750 §3.1).
func RefuseScope(needed ...string) *Refusal {
	scope := strings.Join(needed, " ")
	return &Refusal{
		Status: http.StatusForbidden, Code: codeInsufficientScope, Scope: scope,
		Description: "The access token lacks a scope; this request needs: " + scope,
	}
}

// RefuseUnavailable answers a request that could not be checked: 503, with the
// cause for the log.
func RefuseUnavailable(cause error) *Refusal {
	return &Refusal{
		Status: http.StatusServiceUnavailable, Code: codeUnavailable, Cause: cause,
		Description: "The request could not be checked; send it again in a moment, with a new proof.",
	}
}

// Challenges returns the values of WWW-Authenticate, one a scheme: RFC 9449
// §7.1's, and where bearer tokens are admitted, §7.2's two. RFC 6750 §3 has them
// with 400, 401 and 403 alike; there are none with 503. The realm is the
// resource's identifier, without a quote or a backslash; the algorithms are those
// that a proof may be signed with.
func (r *Refusal) Challenges(realm string, algorithms []Algorithm, bearer bool) []string {
	if r.Status == http.StatusServiceUnavailable {
		return nil
	}
	used := r.Scheme
	if used == "" || !bearer {
		used = SchemeDPoP
	}
	challenges := []string{r.challenge(SchemeDPoP, used, realm, algorithms)}
	if bearer {
		challenges = append(challenges, r.challenge(SchemeBearer, used, realm, nil))
	}
	return challenges
}

// challenge is one of them. The error stands in that of the scheme which was
// used. No value holds a quote or a backslash.
func (r *Refusal) challenge(scheme, used, realm string, algorithms []Algorithm) string {
	params := []string{`realm="` + realm + `"`}
	add := func(name, value string) { params = append(params, name+`="`+value+`"`) }
	if r.Code != "" && scheme == used {
		add("error", r.Code)
		add("error_description", r.Description)
	}
	if r.Scope != "" {
		add("scope", r.Scope)
	}
	if scheme == SchemeDPoP && len(algorithms) > 0 {
		add("algs", joinAlgorithms(algorithms, " ")) // RFC 9449 §7.1: separated by spaces
	}
	return scheme + " " + strings.Join(params, ", ")
}

// writeRefusal writes what every refusal has, whatever headers go before it.
func writeRefusal(w http.ResponseWriter, r *Refusal) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	if r.Status == http.StatusServiceUnavailable {
		h.Set("Retry-After", "1")
	}
	// It only fails if the client is gone.
	body, _ := json.Marshal(struct {
		Error       string `json:"error,omitempty"`
		Description string `json:"error_description"`
	}{r.Code, r.Description})
	w.WriteHeader(r.Status)
	_, _ = w.Write(append(body, '\n'))
}
