package behaviour

import (
	"hash/fnv"
	"slices"
)

// Fleet is what is known of all clients together: alerts that are held back for some
// minutes, and what several clients did at once, which has another cause than a thief
// with one client's credentials. It is bounded, and kept as JSON; where it is lost, what
// was held back is lost with it.
type Fleet struct {
	now     int64
	late    int64
	held    []held
	crowds  []shown
	adopted []adopted
	near    near
	// agentsSince is since when events say what program sent them.
	agentsSince int64
	// moving is until when new networks are nothing strange.
	moving  int64
	changed bool
}

// held is an alert that waits for a while, whether something explains it.
type held struct {
	Alert Alert `json:"alert"`
	Due   int64 `json:"due"`
}

// shown is that a client did something which others may do at the same time.
type shown struct {
	What   string `json:"what"`
	Client uint64 `json:"client"`
	At     int64  `json:"at"`
}

// adopted is a network that several clients have moved to, keys and all.
type adopted struct {
	Network string `json:"network"`
	At      int64  `json:"at"`
}

const (
	heldMax    = 64
	crowdMax   = 128
	adoptedMax = 32
	// heldFor leaves two minutes of the five in which an alert is to be out.
	heldFor = 3 * minute
	// crowdHeld is enough for others to follow, where they do.
	crowdHeld = 60
	// Clients at once that are a crowd, and what at once means.
	crowdOf     = 4
	crowdWithin = 6 * minute
	moveOf      = 3
	moveWithin  = 30 * minute
	allMoveOf   = 10
)

// Fleet is the Watch's own. Whoever keeps it keeps it with the baselines.
func (w *Watch) Fleet() *Fleet { return w.fleet }

// LoadFleet takes one that was kept.
func (w *Watch) LoadFleet(f *Fleet) { w.fleet = f }

// FleetChanged tells whether the fleet has to be kept anew since it was asked last.
func (w *Watch) FleetChanged() bool {
	changed := w.fleet.changed
	w.fleet.changed = false
	return changed
}

// moment is how far time has come by the events of all clients.
func (f *Fleet) moment(at int64) int64 {
	if at < f.now-mayBeLate {
		if f.late++; f.late < 16*lateEnough {
			return f.now
		}
		f.now = at // it was some event before that was of a wrong clock
		for i := range f.held {
			f.held[i].Due = min(f.held[i].Due, at+heldFor)
		}
	}
	f.late = 0
	f.now = max(f.now, at)
	return f.now
}

// hold keeps an alert back until due.
func (w *Watch) hold(a Alert, due int64) {
	f := w.fleet
	for i := range f.held {
		if h := &f.held[i].Alert; h.ClientID == a.ClientID && h.Kind == a.Kind && h.Subject == a.Subject {
			return
		}
	}
	f.changed = true
	if len(f.held) == heldMax {
		w.out = append(w.out, f.held[0].Alert)
		f.held = slices.Delete(f.held, 0, 1)
	}
	f.held = append(f.held, held{a, due})
}

// release gives out what was held back for long enough.
func (w *Watch) release(now int64) {
	f := w.fleet
	if len(f.held) == 0 {
		return
	}
	kept := f.held[:0]
	for _, h := range f.held {
		if h.Due > now {
			kept = append(kept, h)
			continue
		}
		w.out = append(w.out, h.Alert)
		f.changed = true
	}
	clear(f.held[len(kept):])
	f.held = kept
}

// drop takes back what is held, of a client.
func (f *Fleet) drop(clientID string) {
	f.take(func(a *Alert) bool { return a.ClientID == clientID })
}

// take removes what is held, and returns it.
func (f *Fleet) take(which func(*Alert) bool) (taken []Alert) {
	kept := f.held[:0]
	for _, h := range f.held {
		if which(&h.Alert) {
			taken = append(taken, h.Alert)
		} else {
			kept = append(kept, h)
		}
	}
	clear(f.held[len(kept):])
	f.held = kept
	f.changed = f.changed || len(taken) > 0
	return taken
}

// crowd notes that a client did something, and returns how many have within a time.
func (f *Fleet) crowd(what, clientID string, at, within int64) (clients int) {
	hash := fnv.New64a()
	hash.Write([]byte(clientID))
	me, mine := hash.Sum64(), false
	f.crowds = slices.DeleteFunc(f.crowds, func(s shown) bool { return s.At < at-moveWithin })
	for i := range f.crowds {
		s := &f.crowds[i]
		if s.What != what || s.At < at-within {
			continue
		}
		if clients++; s.Client == me {
			s.At, mine = max(s.At, at), true
		}
	}
	f.changed = true
	if mine {
		return clients
	}
	if len(f.crowds) == crowdMax {
		f.crowds = slices.Delete(f.crowds, 0, 1)
	}
	f.crowds = append(f.crowds, shown{what, me, at})
	return clients + 1
}

// isAdopted tells whether a network is one that clients have moved to.
func (f *Fleet) isAdopted(network string) bool {
	return slices.ContainsFunc(f.adopted, func(a adopted) bool { return a.Network == network })
}

func (f *Fleet) adopt(network string, at int64) {
	f.changed = true
	if len(f.adopted) == adoptedMax {
		f.adopted = slices.Delete(f.adopted, 0, 1)
	}
	f.adopted = append(f.adopted, adopted{network, at})
}
