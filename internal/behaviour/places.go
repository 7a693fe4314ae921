package behaviour

import (
	"hash/fnv"
	"net/netip"
	"strings"
)

// Below this a table's newcomers are departures: see table.fresh.
const quiet = 500

// settled is how many days with tokens it takes until what is new can be strange at all.
const settled = 5

// place is what is to be said of where a token was asked for from.
type place struct {
	strange bool // not one that is normal
	told    bool // and this very event tells so
}

// agent learns the program's name, and tells whether it is a strange one: a hint, since
// anybody may send any.
func (s *sight) agent() (strange bool) {
	product := s.product()
	if product == "" {
		return false
	}
	t := &s.b.agents
	if e := t.find(product); e != nil {
		strange = e.marked != 0
		t.use(e, s.at, s.times)
		return strange
	}
	strange = t.fresh < quiet && t.normal() > 0 && s.b.activeDays >= settled
	e, _ := t.add(product, s.at, s.times)
	if strange {
		e.marked = s.at + markedFor
	} else {
		t.novel(s.at)
	}
	return strange
}

// noAgent is the name of a program that does not say it.
const noAgent = "(none)"

// product is the program's name without its version. That there is none says something
// only since the trail tells of programs.
func (s *sight) product() string {
	f := s.w.fleet
	if s.e.UserAgent == "" {
		if f.agentsSince == 0 || s.at < f.agentsSince+7*day {
			return ""
		}
		return noAgent
	}
	if f.agentsSince == 0 {
		f.agentsSince, f.changed = s.at, true
	}
	product, _, _ := strings.Cut(s.e.UserAgent, "/")
	if s.b.agents.find(product) != nil {
		return product // as nearly always, and then it is short enough
	}
	return short(product, 40)
}

func (t *table) findNetwork(p netip.Prefix) *entry {
	for i := range t.entries {
		if t.entries[i].net == p {
			return &t.entries[i]
		}
	}
	return nil
}

// area is what a cloud's addresses have in common.
func area(p netip.Prefix) netip.Prefix {
	bits := 16
	if p.Addr().Is6() {
		bits = 32
	}
	wide, err := p.Addr().Prefix(min(bits, p.Bits()))
	if err != nil {
		return p
	}
	return wide
}

func (t *table) addNetwork(p netip.Prefix, at, times int64) *entry {
	e, _ := t.add(p.String(), at, times)
	e.net = p
	return e
}

// network learns where a client comes from, and raises an alert where that is new. A
// client of many networks is held to the areas that they lie in.
func (s *sight) network(strangeAgent bool) place {
	p, t := s.e.Network, &s.b.networks
	if !p.IsValid() {
		return place{}
	}
	if e := t.findNetwork(p); e != nil {
		strange := e.marked != 0 && !s.w.fleet.isAdopted(e.name)
		t.use(e, s.at, s.times)
		if a := s.b.areas.findNetwork(area(p)); a != nil {
			s.b.areas.use(a, s.at, s.times)
		}
		return place{strange: strange}
	}
	strange := s.strangeNetwork(p)
	knownKey := s.e.JKT == "" || s.b.hasKey(s.e.JKT)
	name := p.String()
	usual := !strange // of a client of many networks, or one that is new
	if strange && !strangeAgent {
		own := knownKey || s.b.keys.fresh >= s.b.keyLimit() // or it makes keys
		moved := own && (s.w.fleet.isAdopted(name) || s.at < s.w.fleet.moving)
		strange = !moved && !s.neighbours(name)
	}
	var text func(*Alert)
	if strange {
		text = s.newNetworkText(p, knownKey, strangeAgent)
	}
	wide := s.b.areas.findNetwork(area(p))
	if wide == nil {
		if wide = s.b.areas.addNetwork(area(p), s.at, 0); usual {
			s.b.areas.novel(s.at)
		}
	}
	s.b.areas.use(wide, s.at, s.times)
	e := t.addNetwork(p, s.at, s.times)
	if !strange {
		if usual {
			t.novel(s.at)
		}
		s.w.fleet.learnNear(s.b, name, s.at)
		return place{}
	}
	e.marked = s.at + markedFor
	if wide.first == s.at {
		wide.marked = e.marked
	}
	if s.tellNetwork(name, text, knownKey && !strangeAgent); s.at < s.w.fleet.moving && knownKey && !strangeAgent {
		e.marked, wide.marked = 0, 0
		return place{}
	}
	return place{strange: true, told: true}
}

func (s *sight) strangeNetwork(p netip.Prefix) bool {
	b := s.b
	if b.activeDays < settled || b.networks.normal() == 0 {
		return false
	}
	if b.networks.fresh < quiet {
		return true
	}
	wide := b.areas.findNetwork(area(p))
	return b.areas.fresh < quiet && (wide == nil || wide.marked != 0)
}

// Clients that show a network with keys of their own that were in no other place are
// told one by one up to this, within half an hour.
const strangersTold = 8

// tellNetwork raises the alert. Where key and program are the client's own, it may be
// that its platform has moved: then others come from there at the same time, and it is
// told once.
func (s *sight) tellNetwork(name string, text func(*Alert), itself bool) {
	f := s.w.fleet
	subject, ok := s.b.may(NewNetwork, name, s.at, 7*day)
	if !ok {
		return
	}
	a := s.alert(NewNetwork, subject)
	text(&a)
	if !itself {
		clients := f.crowd("strangers from "+name, s.b.ClientID, s.at, moveWithin)
		if clients == strangersTold {
			a.Seen += " It is the eighth client in half an hour that comes from there with what is not its own: further ones are not told one by one."
		}
		if clients <= strangersTold {
			s.raise(a)
		}
		return
	}
	if f.crowd("move", s.b.ClientID, s.at, moveWithin) >= allMoveOf {
		s.allMove()
		return
	}
	if f.crowd("move to "+name, s.b.ClientID, s.at, moveWithin) < moveOf {
		s.w.hold(a, s.at+heldFor)
		return
	}
	f.adopt(name, s.at)
	taken := f.take(func(other *Alert) bool { return other.Kind == NewNetwork && other.Subject == name })
	if len(taken) == 0 {
		return // told already
	}
	taken[0].Other = s.b.ClientID
	taken[0].Seen += " At the same time other clients came from there, " + s.b.ClientID + " among them, with keys and programs that are theirs: it looks as if a part of the platform has moved, or its addresses have changed. Further such clients are not told one by one."
	s.raise(taken[0])
}

// allMove takes a day's new networks for normal, of clients with keys and programs of
// their own: it is the server that sees other addresses than before, since a proxy before
// it has come, gone, or is trusted now.
func (s *sight) allMove() {
	f := s.w.fleet
	f.moving, f.changed = s.at+day, true
	taken := f.take(func(other *Alert) bool {
		return other.Kind == NewNetwork && !strings.Contains(other.Seen, "never used before")
	})
	if len(taken) == 0 {
		return
	}
	taken[0].Other = s.b.ClientID
	taken[0].Seen += " Within half an hour ten clients, " + s.b.ClientID + " among them, came from networks that are new for them, with keys and programs that are theirs: it looks as if the server sees other addresses than before, as after a change of AUTHZ_TRUSTED_PROXIES or of what is before it. For a day such clients are not told one by one."
	s.raise(taken[0])
}

// hashOf is of a program with its version.
func hashOf(text string) int64 {
	hash := fnv.New32a()
	hash.Write([]byte(text))
	return int64(hash.Sum32())
}
