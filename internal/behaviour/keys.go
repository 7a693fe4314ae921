package behaviour

import "time"

// ownedMax bounds the keys that are noted as a client's in a day.
const ownedMax = 2000

// explainedFor is how long after an operator's change a key from a usual place is taken
// for a part of it.
const explainedFor = 2 * day

func (b *Baseline) hasKey(jkt string) bool {
	return b.keys.known(jkt) || b.oldKeys.find(jkt) != nil
}

// key learns the DPoP key of a token, and raises an alert where it is new or another's.
func (s *sight) key(strangeAgent bool, from place) {
	jkt, b := s.e.JKT, s.b
	if jkt == "" {
		return
	}
	s.sharedKey(jkt)
	if e := b.keys.find(jkt); e != nil {
		s.own(jkt, e.last)
		s.usedAgain(e)
		return
	}
	if o := b.oldKeys.find(jkt); o != nil {
		s.own(jkt, o.last)
		last := o.last
		o.last = max(o.last, s.at)
		if s.at/day != last/day { // it has come back, and is told of in full
			b.oldKeys.drop(o)
			s.addKey(jkt)
		}
		return
	}
	s.own(jkt, 0)
	limit := b.keyLimit()
	odd := strangeAgent || from.strange
	if odd && limit != 0 {
		limit = max(limit, 3*quiet)
	}
	stays := b.keys.fresh < limit && b.keys.normal() > 0 && b.activeDays >= settled
	explained := b.changedAt != 0 && s.at-b.changedAt < explainedFor || s.newCredential()
	switch {
	case stays && (odd || !explained):
		s.newKey(jkt, jkt, strangeAgent, from)
	case !stays && strangeAgent && !from.strange && b.activeDays >= settled:
		// It is the program that is strange: one alert for all its keys.
		s.newKey(jkt, s.product(), strangeAgent, from)
	default:
		if e := s.addKey(jkt); from.strange { // which was told
			e.marked = s.at + markedFor
		} else {
			b.keys.novel(s.at)
		}
	}
}

// newCredential tells whether the client authenticates with what it did not an hour ago:
// that comes from an operator, however late it is taken up, and one new key may come with
// it.
func (s *sight) newCredential() bool {
	b := s.b
	if s.e.Credential == "" || b.secrets.normal() == 0 {
		return false
	}
	since := s.at
	if e := b.secrets.find(short(s.e.Credential, 64)); e != nil {
		since = e.first
	}
	if s.at-since >= hour || since < b.Since.Unix()+settled*day {
		return false
	}
	for i := range b.keys.entries {
		if b.keys.entries[i].first >= since {
			return false
		}
	}
	return true
}

func (s *sight) newKey(jkt, subject string, strangeAgent bool, from place) {
	again := int64(7 * day)
	quietly := !strangeAgent && !from.strange
	if e := s.b.keys.firstMarked(); quietly && e != nil {
		// Another one from a usual place is one more of the same.
		subject, again = e.name, hour
	}
	subject, ok := s.b.may(NewKey, subject, s.at, again)
	if ok {
		a := s.alert(NewKey, subject)
		s.newKeyText(&a, jkt, strangeAgent, from)
		if !quietly {
			s.raise(a)
		} else {
			s.w.hold(a, s.at+heldFor) // it may be enrolled within minutes
		}
	}
	s.addKey(jkt).marked = s.at + markedFor
}

// keyLimit is up to which a new key is a departure: see table.fresh. A client that uses
// several keys at once makes them by itself, and another is nothing strange. It is higher
// where a key is known to be kept, since two versions of the program have used it, and
// highest where one is enrolled.
func (b *Baseline) keyLimit() int64 {
	limit, inUse := int64(300), 0
	for i := range b.keys.entries {
		e := &b.keys.entries[i]
		if e.marked != 0 {
			continue
		}
		if e.enrolled && b.activeDays >= 2*settled {
			return 3 * quiet
		}
		if e.outlived {
			limit = quiet
			if b.activeDays >= 3*settled {
				limit = 3 * quiet
			}
		}
		if e.last > b.issuedAt-day && e.first < b.issuedAt-3*day { // and not only while one replaces another
			inUse++
		}
	}
	if inUse > 1 {
		return 0
	}
	return limit
}

// usedAgain notes where a key was used, and by what.
func (s *sight) usedAgain(e *entry) {
	if n := s.e.Network; n.IsValid() && e.net != n {
		if e.net.IsValid() {
			e.hops += oneUse
		}
		e.net = n
	}
	if s.e.UserAgent != "" && !e.outlived && e.marked == 0 {
		switch agent := hashOf(s.e.UserAgent); e.agent {
		case agent:
		case 0:
			e.agent = agent
		default:
			e.outlived = true
		}
	}
	s.b.keys.use(e, s.at, s.times)
}

func (s *sight) addKey(jkt string) *entry {
	e, dropped := s.b.keys.add(jkt, s.at, s.times)
	e.net = s.e.Network
	if s.e.UserAgent != "" {
		e.agent = hashOf(s.e.UserAgent)
	}
	if dropped.name != "" && dropped.marked == 0 {
		s.b.oldKeys.add(dropped.name, dropped.last)
	}
	return e
}

// own notes whose key it is, once a day.
func (s *sight) own(jkt string, last int64) {
	if last/day == s.at/day || s.w.owners == nil || s.b.owned >= ownedMax {
		return
	}
	if owner := s.w.owners.Owner(jkt); owner == "" || owner == s.b.ClientID {
		s.b.owned++
		s.w.owners.Own(jkt, s.b.ClientID, time.Unix(s.at, 0).UTC())
	}
}

func (s *sight) sharedKey(jkt string) {
	if s.w.owners == nil {
		return
	}
	owner := s.w.owners.Owner(jkt)
	if owner == "" || owner == s.b.ClientID {
		return
	}
	if subject, ok := s.b.may(SharedKey, jkt, s.at, 7*day); ok {
		a := s.alert(SharedKey, subject)
		a.Other = owner
		s.sharedKeyText(&a, jkt, owner)
		s.raise(a)
	}
}

// keyEnrolled expects a key, and takes back what was held because of it.
func (s *sight) keyEnrolled() {
	jkt, b := s.e.JKT, s.b
	if jkt == "" {
		return
	}
	s.w.fleet.take(func(a *Alert) bool {
		return a.ClientID == b.ClientID && a.Subject == jkt && (a.Kind == NewKey || a.Kind == KeyNotEnrolled)
	})
	e := b.keys.find(jkt)
	if e == nil {
		if o := b.oldKeys.find(jkt); o != nil {
			b.oldKeys.drop(o)
		}
		var dropped entry
		e, dropped = b.keys.add(jkt, s.at, 0)
		if dropped.name != "" && dropped.marked == 0 {
			b.oldKeys.add(dropped.name, dropped.last)
		}
	}
	e.enrolled, e.marked, e.last = true, 0, max(e.last, s.at)
}

// keyRefused is somebody with the client's credentials and a key that is none of its
// enrolled ones. It waits some minutes, since a key is sometimes used before it is
// enrolled.
func (s *sight) keyRefused() {
	s.b.hours.add(s.at, 0, s.times)
	if subject, ok := s.b.may(KeyNotEnrolled, s.e.JKT, s.at, hour); ok {
		a := s.alert(KeyNotEnrolled, subject)
		s.keyRefusedText(&a)
		if s.fromKnown() || s.b.activeDays < settled || s.neighbours(s.e.Network.String()) {
			s.w.hold(a, s.at+heldFor)
		} else {
			s.raise(a)
		}
	}
}

// fromKnown tells whether an event's network is a normal one, or not known.
func (s *sight) fromKnown() bool {
	if !s.e.Network.IsValid() {
		return true
	}
	e := s.b.networks.findNetwork(s.e.Network)
	return e != nil && (e.marked == 0 || s.w.fleet.isAdopted(e.name))
}

func (s *sight) retiredSecret() {
	s.b.hours.add(s.at, 0, s.times)
	// From where nobody expects it, it is another matter than from a place of the client's
	// own, and no folding of the two hides it.
	subject := s.e.Credential
	if s.b.networks.normal() > 0 && !s.fromKnown() {
		subject += " from " + s.e.Network.String()
	}
	if subject, ok := s.b.may(RetiredSecret, subject, s.at, hour); ok {
		a := s.alert(RetiredSecret, subject)
		s.retiredSecretText(&a)
		s.raise(a)
	}
}
