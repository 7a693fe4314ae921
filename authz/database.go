package authz

import (
	"context"
	"fmt"
)

// lookAtDatabase learns of a database that was restored or promoted. Who is
// promoted serves: where the standby was a synchronous one nothing is lost, and
// nobody but an operator knows.
func (s *Server) lookAtDatabase(ctx context.Context) error {
	state, err := s.store.Database(ctx)
	if err != nil {
		return fmt.Errorf("looking at the database: %w", err)
	}
	if state.SameTimeline {
		s.promoted.Store(false)
		s.metrics.timeline.Set(0)
		return nil
	}
	s.metrics.timeline.Set(1)
	if !s.promoted.Swap(true) {
		s.log.Warn("Postgres was promoted or recovered: if anything that was committed is lost, run authz database restored, and otherwise authz database moved")
	}
	return nil
}
