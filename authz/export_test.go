package authz

import (
	"context"
	"net/http"
)

// LookAfterKeys is the upkeep of keys, without waiting for its turn.
func (s *Server) LookAfterKeys(ctx context.Context) error { return s.keys.look(ctx) }

// AddressOf is whose failures are counted together.
func AddressOf(r *http.Request) string { return originOf(r, nil).network }

// CacheWeight is what is kept of clients that were asked for of late, in bytes or so.
func (s *Server) CacheWeight() int {
	s.clients.mu.Lock()
	defer s.clients.mu.Unlock()
	return s.clients.weight
}
