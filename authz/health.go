package authz

import (
	"context"
	"errors"
	"net/http"
	"time"
)

// readyTimeout bounds a readiness check: a database that answers later is not
// one to issue tokens with.
const readyTimeout = 2 * time.Second

// healthz answers whether the process is alive. It asks nothing of anyone.
func healthz(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, health{Status: "alive"})
}

type health struct {
	Status string `json:"status"`
	Reason string `json:"reason,omitempty"`
}

// readyz answers whether this instance can issue tokens now.
func (s *Server) readyz(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), readyTimeout)
	defer cancel()
	if reason := s.notReady(ctx); reason != "" {
		writeJSON(w, http.StatusServiceUnavailable, health{Status: "not ready", Reason: reason})
		return
	}
	h := health{Status: "ready"}
	if s.keys.gaps() != nil {
		h.Reason = "a signing key is missing, or will be when its turn comes: see the log"
	}
	writeJSON(w, http.StatusOK, h)
}

// notReady says why, for those who may reach the internal listener; the
// details are in the log.
func (s *Server) notReady(ctx context.Context) string {
	if s.draining.Load() {
		return "shutting down"
	}
	if s.keys.current() == nil {
		return "no signing key"
	}
	// Tokens that others issue do not verify by the JWKS that is published here.
	if s.keys.lacks() {
		return "the signing key whose turn it is does not open here"
	}
	if err := s.keys.canSign(ctx); err != nil {
		s.log.Warn("not ready", "cause", err)
		return "the signing key does not sign"
	}
	if err := s.store.Ready(ctx, s.now()); err != nil {
		s.log.Warn("not ready", "cause", err)
		for _, told := range []error{ErrNotPrepared, ErrCopied} {
			if errors.Is(err, told) {
				return told.Error()
			}
		}
		return "the database is unreachable"
	}
	return ""
}
