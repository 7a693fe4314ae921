package watch

import (
	"time"

	"github.com/cargokey/authz/internal/webhook"
)

// pace is how fast all of it goes, and how much of it is done at a time.
type pace struct {
	hold  time.Duration // the lease: for so long after an instance has died no other takes over
	renew time.Duration // when the lease is renewed, and asked for by who has it not
	poll  time.Duration // how often the trail is looked at when there was nothing more in it
	rest  time.Duration // between full batches it rests for as long as it worked, and no longer than this
	keep  time.Duration // how often what was learnt is kept, where there is no alert
	batch int           // events that are read at a time
	held  int           // baselines in memory between batches

	// How fast what has outlived its use goes: a round over ten million keys takes a day.
	forget     time.Duration
	forgetKeys int

	attempt time.Duration // what an attempt to deliver an alert may take
	alone   time.Duration // for how long nobody else makes one that has begun: it is over by then, or who made it is gone
	// An alert that was not taken is sent again after first, and then after twice as
	// long each time, up to longest; half of it is left to chance.
	first, longest time.Duration
	survey         time.Duration // how often it is counted what is to be delivered
}

func usualPace() pace {
	return pace{
		hold: 15 * time.Second, renew: 5 * time.Second, poll: time.Second, rest: 250 * time.Millisecond,
		keep: 15 * time.Second, batch: 2000, held: 2000,
		forget: 10 * time.Second, forgetKeys: 1000,
		attempt: webhook.AttemptTimeout, alone: webhook.AttemptTimeout + 5*time.Second,
		first: 5 * time.Second, longest: time.Hour, survey: 15 * time.Second,
	}
}
