package dpopbind

import (
	"encoding/json"
	"net/http"
	"strings"
)

// Error codes of RFC 6750 §3.1 and RFC 9449 §7.1 and §9. The last is this
// package's own, for a failure of the server's.
const (
	codeInvalidRequest    = "invalid_request"
	codeInvalidToken      = "invalid_token"
	codeInsufficientScope = "insufficient_scope"
	codeInvalidProof      = "invalid_dpop_proof"
	codeUseNonce          = "use_dpop_nonce"
	codeUnavailable       = "temporarily_unavailable"
)

// refusal is the answer to a request that does not get through.
type refusal struct {
	status      int
	code        string // "": the request had no credentials at all
	description string // only what RFC 6749 §5.2 allows
	scheme      string // of the credentials, "" for DPoP
	scope       string // for insufficient_scope
	check       Check  // for the log: the proof's check that failed
	cause       error  // for the log
}

func malformed(description string) *refusal {
	return &refusal{status: http.StatusBadRequest, code: codeInvalidRequest, description: description}
}

func invalidToken(description string) *refusal {
	return &refusal{status: http.StatusUnauthorized, code: codeInvalidToken, description: description}
}

func invalidProof(err *ProofError) *refusal {
	return &refusal{status: http.StatusUnauthorized, code: codeInvalidProof, description: err.Description, check: err.Check}
}

func unavailable(err error) *refusal {
	return &refusal{
		status: http.StatusServiceUnavailable, code: codeUnavailable, cause: err,
		description: "The request could not be checked; send it again in a moment, with a new proof.",
	}
}

// write answers. The challenge is RFC 9449 §7.1's, and where bearer tokens are
// admitted, §7.2's two.
func (m *Middleware) write(w http.ResponseWriter, e *refusal) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	switch {
	case e.status == http.StatusServiceUnavailable:
		h.Set("Retry-After", "1")
	default: // RFC 6750 §3: with 400, 401 and 403 alike
		h.Add("WWW-Authenticate", m.challenge(schemeDPoP, e))
		if m.allowBearer {
			h.Add("WWW-Authenticate", m.challenge(schemeBearer, e))
		}
	}
	if e.code == codeUseNonce {
		h.Set("DPoP-Nonce", m.nonces.Current()) // RFC 9449 §9
	}
	// It only fails if the client is gone.
	body, _ := json.Marshal(struct {
		Error       string `json:"error,omitempty"`
		Description string `json:"error_description"`
	}{e.code, e.description})
	w.WriteHeader(e.status)
	_, _ = w.Write(append(body, '\n'))
}

// challenge is one challenge. The error stands in that of the scheme which was
// used. No value holds a quote or a backslash.
func (m *Middleware) challenge(scheme string, e *refusal) string {
	params := []string{`realm="` + m.verifier.resource + `"`}
	add := func(name, value string) { params = append(params, name+`="`+value+`"`) }
	used := e.scheme
	if used == "" || !m.allowBearer {
		used = schemeDPoP
	}
	if e.code != "" && scheme == used {
		add("error", e.code)
		add("error_description", e.description)
	}
	if e.scope != "" {
		add("scope", e.scope)
	}
	if scheme == schemeDPoP {
		add("algs", m.algs) // RFC 9449 §7.1: separated by spaces
	}
	return scheme + " " + strings.Join(params, ", ")
}
