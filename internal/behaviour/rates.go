package behaviour

import "strings"

// What is never a burst, a run or too many replays, however quiet a client is.
const (
	burstFloor  = 20
	hourFloor   = 60
	badFloor    = 20 // ten of a sender that had authenticated, twenty of others
	replayFloor = 6
	// burstUnlearned is a burst of a client that is not known well yet.
	burstUnlearned = 600
)

// limits of tokens in five minutes and in an hour. In hours of the week in which the
// client is quiet they are half.
func (b *Baseline) burstLimits(at int64) (five, sixty int64) {
	days := len(b.perMinutes.days)
	if days < learned && (days < 3 || at-b.Since.Unix() < 14*day) {
		return burstUnlearned, 5 * burstUnlearned
	}
	busyFive, busyHour := b.perMinutes.highest(), b.perHour.highest()
	// A restart of all its processes brings most of an hour's tokens at once.
	five, sixty = max(burstFloor, 2*busyFive+burstFloor/2, min(busyHour*3/2, 7*busyFive)), max(hourFloor, 4*busyHour)
	if b.hours.closed > 3*hoursOfWeek && b.hours.usually(at/hour) < 0.05*float64(busyHour) {
		five, sixty = max(burstFloor, five/2), max(hourFloor, sixty/2)
	}
	return five, sixty
}

func (s *sight) burst() {
	b := s.b
	five, inHour := b.minutes.last(5), int64(b.hours.issued[b.hours.at%hoursOfWeek])
	if five <= burstFloor && inHour <= hourFloor {
		return
	}
	limit5, limit60 := b.burstLimits(s.at)
	share := max(five*100/limit5, inHour*100/limit60)
	if share <= 80 {
		return
	}
	// Those that nearly burst are of the crowd too.
	if s.crowded("burst", share > 400) || share <= 100 {
		return
	}
	if _, ok := b.may(Burst, "", s.at, hour); ok {
		a := s.alert(Burst, "")
		s.burstText(&a, five, inHour, limit5, limit60)
		s.w.hold(a, s.at+crowdHeld)
	}
}

// crowded tells whether many clients do the same at once, after an outage or for a
// promotion, and then takes back what is held of it. What is far beyond stays.
func (s *sight) crowded(what string, far bool) bool {
	if s.w.fleet.crowd(what, s.b.ClientID, s.at, crowdWithin) < crowdOf || far {
		return false
	}
	kind, subject := map[string]AlertKind{"burst": Burst, "replays": ReplayedProof, ofClients: BadProofs, ofAnybody: BadProofs}[what], ""
	if what == ofAnybody {
		subject = ofAnybody
	}
	s.w.fleet.take(func(a *Alert) bool { return a.Kind == kind && a.Subject == subject })
	return true
}

// badReasons are of proofs, and of assertions, that do not hold. A nonce that is asked
// for is none, and neither is a server that cannot answer.
var badReasons = [...]string{"signature", "iat", "htu", "htm", "jwk", "alg", "typ", "jti", "format", "json", "other"}

// reasonOf is where a reason is counted; -1: it is none of a bad proof.
func reasonOf(reason string) int {
	last := len(badReasons) - 1
	for i, r := range badReasons[:last] {
		if r == reason {
			return i
		}
	}
	switch reason {
	case "header_count", "crit", "nbf", "exp", "ath", "invalid_dpop_proof":
		return last
	}
	if strings.HasPrefix(reason, "assertion_") {
		return last
	}
	return -1
}

func (s *sight) refused() {
	s.b.hours.add(s.at, 0, s.times)
	if s.e.Reason == "replay" || s.e.Reason == "assertion_replay" {
		s.replay()
	} else if i := reasonOf(s.e.Reason); i >= 0 {
		s.badProof(i)
	}
}

// Crowds of those who have authenticated, and of anybody who names clients, are two:
// nobody who has no credentials makes it look as if many clients fail.
const (
	ofClients = "bad proofs"
	ofAnybody = "bad proofs of anybody"
)

func (s *sight) badProof(reason int) {
	b, crowd, subject := s.b, ofClients, ""
	if !s.e.Authenticated {
		crowd, subject = ofAnybody, ofAnybody
	}
	if b.bad.at < s.at/minute-10 { // a new run
		b.reasons = [len(badReasons)]uint32{}
	}
	b.reasons[reason] = sum32(b.reasons[reason], s.times)
	weight := s.times
	if s.e.Authenticated {
		weight *= 2
	}
	b.bad.add(s.at, weight)
	run := b.bad.last(10)
	b.badPeaks.note(run)
	limit := max(badFloor, 3*b.badPeaks.highest())
	if s.at-b.Since.Unix() < 7*day { // it is still being written
		limit = max(limit, 3*badFloor)
	}
	if run < limit || s.crowded(crowd, run > 10*limit) {
		return
	}
	if subject, ok := b.may(BadProofs, subject, s.at, hour); ok {
		a := s.alert(BadProofs, subject)
		s.badProofsText(&a)
		s.w.hold(a, s.at+crowdHeld)
	}
}

// replay tells a retry from a theft: a client's library that sends a request again,
// proof and all, does so from where the proof was made, with the same program, and not
// often. Whoever else has the proof comes from somewhere else.
func (s *sight) replay() {
	b := s.b
	b.replays.add(s.at, s.times)
	run := b.replays.last(10)
	b.replayPeaks.note(run)
	moved, agent := s.replayMoved(), s.strangeReplayAgent()
	many := run >= max(replayFloor, 3*b.replayPeaks.highest()+1)
	switch {
	case moved || agent:
	case !many || s.crowded("replays", false):
		return
	}
	subject := ""
	if moved || agent {
		subject = s.e.JKT
	}
	if subject, ok := b.may(ReplayedProof, subject, s.at, hour); ok {
		a := s.alert(ReplayedProof, subject)
		s.replayText(&a, run, moved, agent)
		if moved || agent {
			s.raise(a)
		} else {
			s.w.hold(a, s.at+crowdHeld)
		}
	}
}

// replayMoved tells whether the proof came from another network than its key does.
func (s *sight) replayMoved() bool {
	n := s.e.Network
	if !n.IsValid() || s.b.networks.normal() == 0 {
		return false
	}
	if !s.fromKnown() {
		return s.b.networks.fresh < quiet || s.b.areas.findNetwork(area(n)) == nil
	}
	// From a network of the client's: strange where the key never leaves its own.
	e := s.b.keys.find(s.e.JKT)
	return e != nil && e.net.IsValid() && e.net != n && e.weight >= 20*oneUse && e.hops*50 < e.weight
}

func (s *sight) strangeReplayAgent() bool {
	product := s.product()
	if product == "" || s.b.agents.normal() == 0 || s.b.agents.fresh >= 4*quiet {
		return false
	}
	return !s.b.agents.known(product)
}
