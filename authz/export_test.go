package authz

import "context"

// LookAfterKeys is the upkeep of keys, without waiting for its turn.
func (s *Server) LookAfterKeys(ctx context.Context) error { return s.keys.look(ctx) }

// AddressOf is whose failures are counted together.
var AddressOf = addressOf
