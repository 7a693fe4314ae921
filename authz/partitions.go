package authz

import "time"

// PartitionFamily is how one table that is partitioned by time stands.
type PartitionFamily struct {
	Family string        // the table's name, of a closed set
	Width  time.Duration // of each partition
	Starts []time.Time   // of those that are attached, in order
	// Detached is how many were taken out, and are yet to be dropped.
	Detached int
}

// PreparedUntil is until when, from now on, there is a partition for every moment; the
// zero time: there is none for now.
func (f PartitionFamily) PreparedUntil(now time.Time) time.Time {
	until := now
	for _, start := range f.Starts {
		if end := start.Add(f.Width); !start.After(until) && end.After(until) {
			until = end
		}
	}
	if until.Equal(now) {
		return time.Time{}
	}
	return until
}

// OldestEnd is when the time of the oldest ends; the zero time: there is none.
func (f PartitionFamily) OldestEnd() time.Time {
	if len(f.Starts) == 0 {
		return time.Time{}
	}
	return f.Starts[0].Add(f.Width)
}
