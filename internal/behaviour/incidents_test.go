package behaviour_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/cargokey/authz/internal/behaviour"
)

// play is a planted incident: what a thief does with what he has stolen from a client,
// or what breaks. Its first sign is the first event that is other than the client's own;
// a clock's is when it has used up half its room.
type play struct {
	w      *world
	r      *rand.Rand
	kind   behaviour.AlertKind
	c      *client
	other  *client
	from   time.Duration
	until  time.Duration
	sign   time.Duration // 0: none yet
	tricks []trick
	hidden string
	how    string

	all  bool    // of a drift: all processes
	pace float64 // seconds a day

	withKey bool // the thief has the client's DPoP key too

	found time.Duration // 0: not
}

// trick is an event at a moment.
type trick struct {
	at    time.Duration
	event behaviour.Event
}

// act puts a day's part of it into the trail.
func (p *play) act(from, to time.Duration) {
	for _, t := range p.tricks {
		if t.at < from || t.at >= to {
			continue
		}
		if p.c.tell(t.at, t.event) && p.sign == 0 {
			p.sign = t.at
		}
	}
}

func (p *play) drifted(at time.Duration) float64 {
	if at < p.from {
		return 0
	}
	return p.pace * float64(at-p.from) / float64(aDay)
}

func (p *play) note(at time.Duration) {
	if d := p.drifted(at); p.sign == 0 && (d > 75./2 || d < -15./2) {
		p.sign = at
	}
}

func (p *play) fails(offset float64) bool { return offset > 75 || offset < -15 }

// plant plants incidents of all kinds, each at another client.
func (w *world) plant(n int) {
	kinds := behaviour.AlertKinds()
	used := map[*client]bool{}
	for i := range n {
		kind := kinds[i%len(kinds)]
		if i >= 3*len(kinds) {
			kind = kinds[w.r.IntN(len(kinds))]
		}
		for range 100 * len(w.clients) { // a small world may have none
			c := w.clients[w.r.IntN(len(w.clients))]
			if used[c] || !w.fits(kind, c) {
				continue
			}
			used[c] = true
			p := &play{w: w, r: rand.New(rand.NewPCG(w.r.Uint64(), 3)), kind: kind, c: c}
			w.plays = append(w.plays, p)
			p.prepare(used)
			break
		}
	}
}

// fits tells whether a client is one at which such an incident can be seen at all by what
// it is named for: a key that is new is no sign where every process makes one. Each is
// watched for some weeks before.
func (w *world) fits(kind behaviour.AlertKind, c *client) bool {
	if c.begins > 0 || c.growth > 0 {
		return false
	}
	switch kind {
	case behaviour.NewKey:
		// That a key is kept is known by the program that has used it in two versions.
		return c.keys == keptKey && c.product != "" && c.habit != rare && c.habit != monthly
	case behaviour.NewNetwork, behaviour.NewScope, behaviour.ReplayedProof, behaviour.Burst:
		return c.habit != rare && c.habit != monthly
	case behaviour.RetiredSecret:
		return c.hasSecret && c.nextSecret < 30*aDay
	case behaviour.KeyNotEnrolled:
		return c.keys == enrolledKey
	case behaviour.AwokenClient:
		return c.habit != rare && c.habit != monthly
	case behaviour.ClockDrift:
		return c.habit == steady
	}
	return true
}

// prepare decides when and how.
func (p *play) prepare(used map[*client]bool) {
	w, r := p.w, p.r
	p.from = 38*aDay + time.Duration(r.Int64N(int64(20*aDay)))
	switch r.IntN(5) {
	case 0: // while it is deployed
		if p.c.habit == steady {
			p.c.nextRelease = p.from - 3*time.Minute
			p.hidden = "in a deployment"
		}
	case 1:
		p.from = w.promo[0] + time.Duration(r.Int64N(int64(w.promo[1]-w.promo[0])))
		p.hidden = "in the promotion"
	case 2:
		p.from = p.from/aDay*aDay + 2*time.Hour + time.Duration(r.Int64N(int64(2*time.Hour)))
		p.hidden = "by night"
	}
	p.until = p.from + time.Duration(10+r.IntN(170))*time.Minute
	switch p.kind {
	case behaviour.AwokenClient:
		p.c.sleeps = time.Duration(8+r.IntN(8)) * aDay
		p.from = p.c.sleeps + 31*aDay + time.Duration(r.Int64N(int64(10*aDay)))
		p.until, p.hidden = p.from+time.Hour, ""
	case behaviour.ClockDrift:
		p.driftPlay()
		return
	case behaviour.SharedKey:
		for range 100 * len(w.clients) {
			if p.other != nil && !used[p.other] && p.other.begins == 0 {
				break
			}
			p.other = w.clients[r.IntN(len(w.clients))]
		}
		used[p.other] = true
	}
	p.script()
}

func (p *play) driftPlay() {
	p.c.drift = p
	p.pace = (2 + 6*p.r.Float64()) * float64(1-2*p.r.IntN(2))
	if p.pace > 0 {
		p.pace *= 3
	}
	p.from = time.Duration(25+p.r.IntN(8)) * aDay
	p.until = p.from + 60*aDay
	p.all = p.c.count < 3 || p.r.IntN(2) == 0
	p.hidden, p.how = "", fmt.Sprintf("%.1f s a day, all of %d: %v", p.pace, p.c.count, p.all)
}

// thief is how somebody comes who has stolen a secret: with a key of his own, from
// somewhere, with some program.
func (p *play) thief(inside bool) behaviour.Event {
	c, r := p.c, p.r
	e := behaviour.Event{
		Kind: behaviour.TokenIssued, Authenticated: true, JKT: c.jkt("thief", r.IntN(1000)), Resource: c.resource, Scopes: c.scopes,
		HasOffset: true, Offset: time.Duration(50+r.IntN(1500)) * time.Millisecond,
	}
	p.how = "from elsewhere"
	e.Network = foreign(p.w)
	if inside {
		p.how = "from its own network"
		e.Network = p.ownNetwork()
	} else if r.IntN(4) == 0 && !slices.Contains(c.sites, p.w.sites[1]) {
		p.how = "from another site"
		e.Network = p.w.sites[1].networks[r.IntN(2)]
	}
	switch r.IntN(5) {
	case 0, 1:
		e.UserAgent = []string{"curl/8.5.0", "HTTPie/3.2", "Python-urllib/3.12"}[r.IntN(3)]
	case 2, 3:
		e.UserAgent = c.agent(c.version)
	}
	p.how += ", " + e.UserAgent
	return e
}

func (p *play) ownNetwork() netip.Prefix {
	c := p.c
	s := c.sites[p.r.IntN(len(c.sites))]
	return s.networks[p.r.IntN(len(s.networks))]
}

// script writes down what happens when; what only that day knows is filled in then.
func (p *play) script() {
	r := p.r
	e := p.thief(p.kind == behaviour.NewKey && r.IntN(2) == 0)
	gap := time.Duration(1+r.IntN(40)) * time.Minute
	times := 1 + int((p.until-p.from)/gap)
	switch p.kind {
	case behaviour.Burst:
		rate := max(p.usualRate()*(20+60*r.Float64()), 0.5) // a second
		gap, p.until = time.Duration(float64(time.Second)/rate), p.from+time.Duration(3+r.IntN(20))*time.Minute
		times = min(int((p.until-p.from)/gap), 20000)
		p.how = fmt.Sprintf("%.1f a second, usually %.4f", rate, p.usualRate())
	case behaviour.ReplayedProof:
		e.Kind, e.Reason, e.Scopes, e.HasOffset = behaviour.TokenRefused, "replay", nil, false
		times, gap = 1+r.IntN(3), 5*time.Second
		switch r.IntN(3) {
		case 0: // from inside, again and again
			e.Network, e.UserAgent = p.ownNetwork(), p.c.agent(p.c.version)
			times, gap = 20+r.IntN(200), time.Second
			p.how = fmt.Sprint("from inside, times ", times)
		case 1:
			e.Network, e.UserAgent = p.ownNetwork(), "curl/8.5.0"
			p.how = "from inside, by curl"
		}
	case behaviour.NewNetwork:
		if p.withKey = r.IntN(2) == 0; p.withKey {
			p.how += ", with its key"
		}
	case behaviour.RetiredSecret:
		e.Kind, e.Scopes, e.JKT, e.HasOffset, e.Authenticated = behaviour.SecretRetired, nil, "", false, false
	case behaviour.KeyNotEnrolled:
		e.Kind, e.Scopes, e.HasOffset = behaviour.KeyRefused, nil, false
	case behaviour.BadProofs:
		e.Kind, e.Scopes, e.HasOffset = behaviour.TokenRefused, nil, false
		e.Reason = []string{"signature", "htu", "iat", "jwk", "alg", "format"}[r.IntN(6)]
		e.Authenticated = r.IntN(2) == 0
		times, gap = 25+r.IntN(400), time.Duration(1+r.IntN(6))*time.Second
		p.how = fmt.Sprintf("%s, every %v, authenticated: %v", e.Reason, gap, e.Authenticated)
	case behaviour.NewScope:
		e.Scopes = []string{p.c.granted}
	}
	at := p.from
	for range times {
		for _, o := range p.w.outages {
			if at >= o[0] && at < o[1] {
				at = o[1] + time.Duration(r.Int64N(int64(time.Minute))) // a thief waits for its end too
			}
		}
		p.tricks = append(p.tricks, trick{at, e})
		at += gap/2 + time.Duration(r.Int64N(int64(gap)))
	}
	p.until = at
}

// usualRate is of tokens a second.
func (p *play) usualRate() float64 {
	c := p.c
	if c.habit == cron {
		return float64(c.count) / 600
	}
	return float64(c.count) / c.cadence.Seconds()
}

// fill makes the tricks of today those of somebody who sits in the client's own
// processes, where that is the play: he has their key, their secret and their network.
func (p *play) fill(from, to time.Duration) {
	inside := p.kind == behaviour.Burst || p.kind == behaviour.NewScope || p.kind == behaviour.ReplayedProof || p.kind == behaviour.BadProofs
	for i := range p.tricks {
		t := &p.tricks[i]
		if t.at < from || t.at >= to {
			continue
		}
		if p.c.hasSecret || t.event.Credential == "" {
			t.event.Credential = p.c.credential(p.c.secret)
		}
		if p.kind == behaviour.RetiredSecret {
			if len(p.c.ended) == 0 {
				p.c.ended = append(p.c.ended, p.c.credential(1000))
			}
			t.event.Credential = p.c.ended[0]
		}
		if p.kind == behaviour.NewNetwork && p.withKey {
			t.event.JKT, t.event.UserAgent = p.c.last.JKT, p.c.last.UserAgent
		}
		if p.kind == behaviour.SharedKey {
			t.event.JKT = p.other.last.JKT
			continue
		}
		if !inside {
			continue
		}
		own := p.c.last
		t.event.JKT = own.JKT
		if p.kind == behaviour.Burst || p.kind == behaviour.NewScope || p.kind == behaviour.ReplayedProof && t.event.UserAgent != "curl/8.5.0" && len(p.tricks) > 10 {
			t.event.Network, t.event.UserAgent = own.Network, own.UserAgent
		}
	}
}
