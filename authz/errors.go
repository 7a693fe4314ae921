package authz

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/ory/fosite"

	"github.com/cargokey/authz/dpopbind"
	"github.com/cargokey/authz/dpopbind/dpopfosite"
	"github.com/cargokey/authz/internal/admission"
)

// oauthError is an answer to a client: a code and a sentence that says what to
// do. The cause goes to the log, under the same request id, and never to the
// client.
type oauthError struct {
	status      int
	code        string // RFC 6749 §5.2, RFC 8707 §2, RFC 9449 §5
	description string
	header      http.Header
	cause       error
}

func (e *oauthError) Error() string {
	if e.cause != nil {
		return e.code + ": " + e.cause.Error()
	}
	return e.code + ": " + e.description
}

func (e *oauthError) Unwrap() error { return e.cause }

// Codes that this package looks at again.
const (
	codeInvalidClient = "invalid_client"
	codeUnavailable   = "temporarily_unavailable"
	codeUseNonce      = "use_dpop_nonce"
	codeInvalidProof  = "invalid_dpop_proof"
	codeServerError   = "server_error"
)

// retryAfter is what a client is told to wait where the server cannot answer.
const retryAfter = time.Second

func errInvalidRequest(description string) *oauthError {
	return &oauthError{status: http.StatusBadRequest, code: "invalid_request", description: description}
}

// errHTTP is a request that is wrong as HTTP already.
func errHTTP(status int, description string) *oauthError {
	return &oauthError{status: status, code: "invalid_request", description: description}
}

// errInvalidClient is RFC 6749 §5.2: 401, and a challenge. It is the one
// answer to every failed authentication of a client that is not proven to be
// who it says.
func errInvalidClient(cause error) *oauthError {
	return &oauthError{
		status: http.StatusUnauthorized, code: codeInvalidClient,
		description: "Client authentication failed. Check the client_id, the secret, and that they are sent by the method the client is registered for.",
		header:      basicChallenge(), cause: cause,
	}
}

// errClientRefused tells an authenticated client why it is refused all the same.
func errClientRefused(clientID, description string) *oauthError {
	return &oauthError{
		status: http.StatusUnauthorized, code: codeInvalidClient,
		description: description, header: basicChallenge(),
		cause: &provenClient{clientID, description},
	}
}

// provenClient is the cause of a refusal: the client has proven to be who it says, and
// may do nothing.
type provenClient struct{ clientID, why string }

func (e *provenClient) Error() string { return "client " + e.clientID + " is refused: " + e.why }

func basicChallenge() http.Header {
	return http.Header{"Www-Authenticate": {`Basic realm="authz", charset="UTF-8"`}}
}

func errUnsupportedGrant() *oauthError {
	return &oauthError{status: http.StatusBadRequest, code: "unsupported_grant_type",
		description: "This server knows one grant: set grant_type to client_credentials."}
}

func errUnauthorizedClient(description string) *oauthError {
	return &oauthError{status: http.StatusBadRequest, code: "unauthorized_client", description: description}
}

func errInvalidScope(description string) *oauthError {
	return &oauthError{status: http.StatusBadRequest, code: "invalid_scope", description: description}
}

// errInvalidTarget is RFC 8707 §2.
func errInvalidTarget(description string) *oauthError {
	return &oauthError{status: http.StatusBadRequest, code: "invalid_target", description: description}
}

// errProofSpent is RFC 9449 §11.1.
func errProofSpent() *oauthError {
	return &oauthError{status: http.StatusBadRequest, code: codeInvalidProof,
		description: "This DPoP proof was used before. Make a new proof, with a new jti, for each request.", cause: ErrProofSpent}
}

// errUnavailable is for a check that could not be made or a write that may not
// have happened: nothing was issued and nothing was found to be so.
func errUnavailable(doing string, cause error) *oauthError {
	return &oauthError{
		status: http.StatusServiceUnavailable, code: codeUnavailable,
		description: "The server cannot answer now. Try again shortly, with a new DPoP proof.",
		header:      http.Header{"Retry-After": {strconv.Itoa(int(retryAfter.Seconds()))}},
		cause:       fmt.Errorf("%s: %w", doing, cause),
	}
}

// errOverload is for a request that was not looked at, for want of room.
func errOverload() *oauthError {
	e := errUnavailable("admitting the request", admission.ErrFull)
	e.header.Set("X-Content-Type-Options", "nosniff")
	e.description = "The server has more requests than it can answer. Try again after a moment; nothing of this one was used up."
	return e
}

// answerTo turns any error into the answer to the client. What is not known
// here is a fault of the server's own, and says nothing of itself.
func answerTo(err error) *oauthError {
	var known *oauthError
	if errors.As(err, &known) {
		return known
	}
	// Of fosite's errors only those that dpopfosite makes can be met in a
	// request that came this far.
	var fromFosite *fosite.RFC6749Error
	if errors.As(err, &fromFosite) && (fromFosite.ErrorField == "invalid_dpop_proof" || fromFosite.ErrorField == dpopfosite.ErrorUseNonce) {
		return &oauthError{
			status: fromFosite.CodeField, code: fromFosite.ErrorField,
			description: fromFosite.DescriptionField, cause: proofCause(err),
		}
	}
	return &oauthError{
		status: http.StatusInternalServerError, code: codeServerError,
		description: "The server failed. Give its operator the request id in the X-Request-Id header.", cause: err,
	}
}

func proofCause(err error) error {
	var proofErr *dpopbind.ProofError
	if errors.As(err, &proofErr) {
		return proofErr
	}
	return dpopbind.ErrNoProof
}

// write sends the answer (RFC 6749 §5.2).
func (e *oauthError) write(w http.ResponseWriter) {
	for name, values := range e.header {
		w.Header()[name] = values
	}
	writeJSON(w, e.status, struct {
		Error       string `json:"error"`
		Description string `json:"error_description"`
	}{e.code, e.description})
}

// writeJSON sends an answer that no cache may keep (RFC 6749 §5.1).
func writeJSON(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Pragma", "no-cache")
	encodeJSON(w, status, body)
}

// writeJSONCached sends an answer that is the same for everyone.
func writeJSONCached(w http.ResponseWriter, body any) {
	w.Header().Set("Cache-Control", "public, max-age=60")
	encodeJSON(w, http.StatusOK, body)
}

func encodeJSON(w http.ResponseWriter, status int, body any) {
	text, err := json.Marshal(body)
	if err != nil {
		panic("authz: an answer that cannot be encoded: " + err.Error())
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	w.Write(text) // a failed write is a client that has gone
}
