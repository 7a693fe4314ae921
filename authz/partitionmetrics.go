package authz

import (
	"context"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// partitionMetrics tell, for each family of tables, whether upkeep keeps up with time.
// They are moments: where upkeep fails altogether, they are left behind.
type partitionMetrics struct {
	until    *prometheus.GaugeVec
	oldest   *prometheus.GaugeVec
	detached *prometheus.GaugeVec
}

func newPartitionMetrics(d declarer) partitionMetrics {
	return partitionMetrics{
		until: d.gauge("authz_partitions_prepared_until_timestamp_seconds",
			"Until when there is a partition for every moment, in Unix time; 0 where there is none for now.", "family"),
		oldest: d.gauge("authz_partitions_oldest_end_timestamp_seconds",
			"When the time of the oldest partition ends, in Unix time; 0 where there is none.", "family"),
		detached: d.gauge("authz_partitions_detached", "Old partitions that were detached and are yet to be dropped.", "family"),
	}
}

// keepPartitions makes the partitions that are needed next, drops those that are not
// any more, and tells how it stands, also where that has failed.
func (s *Server) keepPartitions(ctx context.Context) error {
	kept := s.store.Maintain(ctx, s.now())
	if err := s.measurePartitions(ctx); err != nil && kept == nil {
		return err
	}
	return kept
}

func (s *Server) measurePartitions(ctx context.Context) error {
	families, err := s.store.Partitions(ctx)
	if err != nil {
		return fmt.Errorf("looking at partitions: %w", err)
	}
	m := &s.metrics.partitions
	for _, f := range families {
		m.until.WithLabelValues(f.Family).Set(unixOrZero(f.PreparedUntil(s.now())))
		m.oldest.WithLabelValues(f.Family).Set(unixOrZero(f.OldestEnd()))
		m.detached.WithLabelValues(f.Family).Set(float64(f.Detached))
	}
	return nil
}
