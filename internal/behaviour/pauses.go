package behaviour

// asleep is what counts as a month of sleep: longer than between two runs of a monthly
// job, where that is what the client may be.
const (
	asleep        = 30 * day
	asleepMonthly = 35 * day
)

func (s *sight) awoken() {
	b := s.b
	if b.issuedAt == 0 {
		return
	}
	pause := s.at - b.issuedAt
	least := int64(asleep)
	if b.activeDays < settled || b.longest >= 10*day {
		least = max(asleepMonthly, b.longest*3/2)
	}
	if pause < least {
		return
	}
	if _, ok := b.may(AwokenClient, "", s.at, day); ok {
		a := s.alert(AwokenClient, "")
		s.awokenText(&a, pause)
		s.raise(a)
	}
	b.issuedAt = 0 // the pause is not one to get used to
}

// scope raises an alert for a scope that the client has never used in all the time that
// it was known well.
func (s *sight) scope() {
	b := s.b
	t := &b.scopes
	limit := int64(quiet)
	if b.activeDays >= 3*settled && s.at-b.Since.Unix() >= 30*day { // one new feature is no habit
		limit = 3 * quiet
	}
	for _, name := range s.e.Scopes {
		if e := t.find(name); e != nil {
			t.use(e, s.at, s.times)
			continue
		}
		name = short(name, 40)
		if e := t.find(name); e != nil {
			t.use(e, s.at, s.times)
			continue
		}
		strange := t.fresh < limit && t.normal() > 0 && b.activeDays >= settled && s.at-b.changedAt >= 7*day
		if strange {
			if subject, ok := b.may(NewScope, name, s.at, 7*day); ok {
				a := s.alert(NewScope, subject)
				s.newScopeText(&a, name)
				s.raise(a)
			}
		}
		e, _ := t.add(name, s.at, s.times)
		if strange {
			e.marked = s.at + markedFor
		} else {
			t.novel(s.at)
		}
	}
}

// drift looks at the client's clock.
func (s *sight) drift() {
	if !s.e.HasOffset {
		return
	}
	c := &s.b.clock
	c.sample(s.at, s.e.Offset, s.w.room)
	for side := range c.edges {
		e := &c.edges[side]
		if e.reached[driftFrom-1].touches < touchesTake {
			continue
		}
		d, ok := e.drifting()
		if !ok || e.raised >= driftFrom && (d.level < driftUrgent || e.raised >= driftUrgent) {
			continue
		}
		e.raised = d.level
		a := s.alert(ClockDrift, [...]string{"behind", "ahead"}[side])
		s.driftText(&a, side, d)
		s.raise(a)
	}
}
