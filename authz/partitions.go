package authz

import (
	"slices"
	"time"
)

// PartitionFamily is how one table that is partitioned by time stands.
type PartitionFamily struct {
	Family string        // the table's name, of a closed set
	Width  time.Duration // of each partition
	Starts []time.Time   // of those that are attached, in order
	// Detached is how many were taken out, and are yet to be dropped.
	Detached int
}

// Ahead is for how long from now on there is a partition for every moment; 0: there
// is none for now.
func (f PartitionFamily) Ahead(now time.Time) time.Duration {
	covered := now
	for _, start := range f.Starts {
		if end := start.Add(f.Width); !start.After(covered) && end.After(covered) {
			covered = end
		}
	}
	return covered.Sub(now)
}

// Oldest is how long ago the time of the oldest ended; 0: it has not, or there is none.
func (f PartitionFamily) Oldest(now time.Time) time.Duration {
	if len(f.Starts) == 0 {
		return 0
	}
	return max(0, now.Sub(slices.MinFunc(f.Starts, time.Time.Compare).Add(f.Width)))
}
