package authz

import (
	"context"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// partitionMetrics tell, for each family of tables, whether upkeep keeps up with time.
type partitionMetrics struct {
	ahead  *prometheus.GaugeVec
	oldest *prometheus.GaugeVec
	left   *prometheus.GaugeVec
}

func newPartitionMetrics(d declarer) partitionMetrics {
	return partitionMetrics{
		ahead: d.gauge("authz_partitions_ahead_seconds",
			"For how long from now on there is a partition for every moment; 0 where there is none for now.", "family"),
		oldest: d.gauge("authz_partition_oldest_seconds",
			"How long ago the time of the oldest partition ended; 0 where it has not.", "family"),
		left: d.gauge("authz_partitions_detached", "Old partitions that were detached and are yet to be dropped.", "family"),
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
	now, m := s.now(), &s.metrics.partitions
	for _, f := range families {
		m.ahead.WithLabelValues(f.Family).Set(f.Ahead(now).Seconds())
		m.oldest.WithLabelValues(f.Family).Set(f.Oldest(now).Seconds())
		m.left.WithLabelValues(f.Family).Set(float64(f.Detached))
	}
	return nil
}
