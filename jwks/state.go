package jwks

import (
	"cmp"
	"slices"
	"time"
)

// LongestLife is how long what a key signs lives at most.
const LongestLife = time.Hour

// ClockMargin is how much longer than that a key is kept published, and how much
// earlier than it signs it is published at least: two clocks may be an hour off
// in opposite directions, and someone may read late.
const ClockMargin = 3 * time.Hour

// StandIn is for how long after its successor begins a key may sign on where the
// successor does not open. With clocks an hour off in opposite directions, all that
// it signs within an hour is published everywhere for as long as it lives; half of
// that is left to who reads late.
const StandIn = 30 * time.Minute

// Info is what is known of a key without opening it. All that becomes of a key
// follows from it, from that of the others, and from the clock.
type Info struct {
	KID       string // RFC 7638 SHA-256 thumbprint of the public key
	Algorithm Algorithm
	CreatedAt time.Time // when it was made, and published; to the microsecond
	SignsFrom time.Time // it signs from then on, until a later key does; to the microsecond
	RetiredAt time.Time // zero: nobody has retired it; else it signs no more, by any clock
	RevokedAt time.Time // zero: not revoked; else it is worth nothing, by any clock
}

// State is where a key is in its life.
type State string

// The states of a key.
const (
	Published State = "published" // in the JWKS, and not yet signing
	Signing   State = "signing"
	Retired   State = "retired" // in the JWKS, for as long as what it signed may live
	Removed   State = "removed" // out of the JWKS, since nothing that it signed lives
	Revoked   State = "revoked" // out of the JWKS at once
)

// Timeline is the keys of one server, in the order that they sign in.
type Timeline struct{ keys []Info }

// NewTimeline makes a Timeline of all keys, in any order.
func NewTimeline(keys []Info) Timeline {
	t := Timeline{slices.Clone(keys)}
	slices.SortFunc(t.keys, compareInfo)
	return t
}

func compareInfo(a, b Info) int {
	return cmp.Or(a.SignsFrom.Compare(b.SignsFrom), cmp.Compare(a.KID, b.KID))
}

// Keys are all keys, in the order that they sign in. Callers do not modify them.
func (t Timeline) Keys() []Info { return t.keys }

// Ended tells whether somebody has ended the key's life by hand.
func (k Info) Ended() bool { return !k.RetiredAt.IsZero() || !k.RevokedAt.IsZero() }

// begins tells whether the key's moment to sign comes, or came, at all.
func (k Info) begins() bool {
	before := func(end time.Time) bool { return !end.IsZero() && !end.After(k.SignsFrom) }
	return !before(k.RetiredAt) && !before(k.RevokedAt)
}

// SignsUntil is when k signs no more, or the zero time where nothing says so
// yet. Who was superseded does not sign again when the successor ends: it may be
// published no more.
func (t Timeline) SignsUntil(k Info) time.Time {
	until := k.RetiredAt
	for _, later := range t.keys {
		if later.Algorithm != k.Algorithm || compareInfo(later, k) <= 0 || !later.begins() {
			continue
		}
		if until.IsZero() || later.SignsFrom.Before(until) {
			until = later.SignsFrom
		}
		break // those that come after it begin later still
	}
	return until
}

// Began is when k began to sign, or is to, as far as is known now: from SignsFrom on,
// or sooner where all before it were ended by hand. ok tells whether it does at all.
func (t Timeline) Began(k Info) (at time.Time, ok bool) {
	var moments []time.Time
	for _, other := range t.keys {
		for _, end := range []time.Time{other.RetiredAt, other.RevokedAt} {
			if other.Algorithm == k.Algorithm && end.After(k.CreatedAt) && end.Before(k.SignsFrom) {
				moments = append(moments, end)
			}
		}
	}
	slices.SortFunc(moments, time.Time.Compare)
	for _, m := range append(moments, k.SignsFrom) {
		if signer, ok := t.asOf(m).Signer(k.Algorithm, m); ok && signer.KID == k.KID {
			return m, true
		}
	}
	return k.SignsFrom, k.begins()
}

// asOf is the timeline as it was known at a moment.
func (t Timeline) asOf(m time.Time) Timeline {
	var then Timeline
	for _, k := range t.keys {
		if k.CreatedAt.After(m) {
			continue
		}
		if k.RetiredAt.After(m) {
			k.RetiredAt = time.Time{}
		}
		if k.RevokedAt.After(m) {
			k.RevokedAt = time.Time{}
		}
		then.keys = append(then.keys, k)
	}
	return then
}

// State is the state of k at now.
func (t Timeline) State(k Info, now time.Time) State {
	until := t.SignsUntil(k)
	ended := !until.IsZero() && !now.Before(until)
	switch {
	case !k.RevokedAt.IsZero():
		return Revoked
	case !until.IsZero() && !now.Before(until.Add(LongestLife+ClockMargin)):
		return Removed
	case ended, !k.RetiredAt.IsZero():
		return Retired
	case now.Before(k.SignsFrom):
		return Published
	default:
		return Signing
	}
}

// Listed tells whether k is in the JWKS at now.
func (t Timeline) Listed(k Info, now time.Time) bool {
	s := t.State(k, now)
	return s != Removed && s != Revoked
}

// Newest is the key of the algorithm that is the last to sign, of those that
// nobody has ended; ok tells whether there is one.
func (t Timeline) Newest(a Algorithm) (k Info, ok bool) {
	for _, k := range slices.Backward(t.keys) {
		if k.Algorithm == a && !k.Ended() {
			return k, true
		}
	}
	return Info{}, false
}

// Signer is the key that signs by the algorithm at now. Where the clock is
// behind all that could, the first of them signs: a clock that is off must not
// stop the server.
func (t Timeline) Signer(a Algorithm, now time.Time) (k Info, ok bool) {
	for _, candidate := range t.keys {
		if candidate.Algorithm != a {
			continue
		}
		switch t.State(candidate, now) {
		case Signing:
			return candidate, true
		case Published:
			if !ok {
				k, ok = candidate, true
			}
		}
	}
	return k, ok
}
