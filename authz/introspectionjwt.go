package authz

import (
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/cargokey/authz/jwks"
)

// The media types of an answer to an introspection.
const (
	mediaJSON             = "application/json"
	mediaIntrospectionJWT = "application/" + jwks.TypeIntrospection // RFC 9701 §11.2
)

// introspectionClaims is RFC 9701 §5. sub and exp stay out of it, so that it
// cannot be taken for an access token where nobody looks at typ (§8.1).
type introspectionClaims struct {
	Issuer   string `json:"iss"`
	Audience string `json:"aud"` // who asked, and none else
	IssuedAt int64  `json:"iat"`
	Answer   any    `json:"token_introspection"`
}

// writeIntrospection sends an answer to caller, as JSON or, where the request
// prefers it, as a JWT (RFC 9701 §4). Every answer, active or not, takes this
// way.
func (s *Server) writeIntrospection(w http.ResponseWriter, r *http.Request, caller *Client, answer any) (err error) {
	ctx, answering := s.step(r.Context(), "answer")
	defer func() { answering.end(err) }()
	if !prefers(r.Header, mediaIntrospectionJWT, mediaJSON) {
		writeJSON(w, http.StatusOK, answer)
		return nil
	}
	now := s.now()
	payload, err := json.Marshal(introspectionClaims{
		Issuer: s.issuer, Audience: caller.ID, IssuedAt: now.Unix(), Answer: answer,
	})
	if err != nil {
		return fmt.Errorf("encoding the introspection: %w", err)
	}
	signed, _, err := s.keys.sign(ctx, now, "", jwks.TypeIntrospection, payload)
	if err != nil {
		return fmt.Errorf("signing the introspection: %w", err)
	}
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("Pragma", "no-cache")
	h.Set("Content-Type", mediaIntrospectionJWT)
	w.WriteHeader(http.StatusOK)
	w.Write([]byte(signed)) // a failed write is a client that has gone
	return nil
}
