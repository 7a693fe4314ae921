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

// readyAge is how often an instance looks whether it is ready, for authz_ready: who
// watches metrics may not be who asks /readyz.
const readyAge = 5 * time.Second

// watchReadiness looks until ctx ends. It is apart from upkeep, which waits where the
// database hangs.
func (s *Server) watchReadiness(ctx context.Context) {
	every := time.NewTicker(readyAge)
	defer every.Stop()
	for ctx.Err() == nil {
		bounded, cancel := context.WithTimeout(ctx, readyTimeout)
		s.notReady(bounded)
		cancel()
		select {
		case <-ctx.Done():
		case <-every.C:
		}
	}
}

// notReady says why, for those who may reach the internal listener; the
// details are in the log.
func (s *Server) notReady(ctx context.Context) string {
	reason, cause := s.whyNotReady(ctx)
	if errors.Is(ctx.Err(), context.Canceled) { // nobody asks any more, and so it says nothing
		return reason
	}
	ready := 0.0
	if reason == "" {
		ready = 1
	}
	s.metrics.ready.Set(ready)
	if cause != nil {
		s.log.Warn("not ready", "cause", cause)
	}
	return reason
}

func (s *Server) whyNotReady(ctx context.Context) (reason string, cause error) {
	if s.draining.Load() {
		return "shutting down", nil
	}
	if s.keys.current() == nil {
		return "no signing key", nil
	}
	// Tokens that others issue do not verify by the JWKS that is published here.
	if s.keys.lacks() {
		return "the signing key whose turn it is does not open here", nil
	}
	if err := s.keys.canSign(ctx); err != nil {
		return "the signing key does not sign", err
	}
	if err := s.store.Ready(ctx, s.now()); err != nil {
		for _, told := range []error{ErrNotPrepared, ErrCopied} {
			if errors.Is(err, told) {
				return told.Error(), err
			}
		}
		return "the database is unreachable", err
	}
	return "", nil
}
