package watch

import "time"

// Hasten makes a Watcher fast enough for a test, and has it hold few baselines.
func (w *Watcher) Hasten() {
	w.pace = pace{
		hold: time.Second, renew: 100 * time.Millisecond, poll: 10 * time.Millisecond, rest: time.Millisecond,
		keep: 50 * time.Millisecond, batch: 100, held: 10,
		forget: 50 * time.Millisecond, forgetKeys: 10,
		attempt: 2 * time.Second, alone: 3 * time.Second,
		first: 10 * time.Millisecond, longest: 100 * time.Millisecond, survey: 20 * time.Millisecond,
	}
}

// Held is how many clients are known between batches.
func (w *Watcher) Held() int { return w.analysis.recent.order.Len() }
