package behaviour_test

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/cargokey/authz/internal/behaviour"
)

// day lets one day pass for all clients, and returns its events as they are read: nearly
// in order, since instances write in batches, and some of them late.
func (w *world) day(d int) []timed {
	w.events = w.events[:0]
	from := time.Duration(d) * aDay
	for _, p := range w.plays {
		p.fill(from, from+aDay)
	}
	for _, c := range w.clients {
		c.day(from, from+aDay)
	}
	for _, p := range w.plays {
		p.act(from, from+aDay)
	}
	read := w.events
	for i := range read {
		late := time.Duration(w.r.Int64N(int64(2 * time.Second)))
		if w.r.IntN(500) == 0 {
			late *= 60
		}
		read[i].at += late
	}
	order := make([]int, len(read))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return int(read[a].at - read[b].at) })
	w.order = order
	return read
}

// step is how often a client looks at how many processes it needs.
const step = 15 * time.Minute

func (c *client) day(from, to time.Duration) {
	if c.sleeps != 0 && from >= c.sleeps || to <= c.begins {
		return
	}
	for at := from; at < to; at += step {
		if at+step <= c.begins {
			continue
		}
		c.changes(at)
		c.scale(at)
		c.run(at, at+step)
	}
}

// needed is how many processes are to run.
func (c *client) needed(at time.Duration) int {
	local := at + time.Duration(c.zone)*time.Hour
	hour := int(local/time.Hour) % 24
	weekday := int(local/aDay) % 7
	n := float64(c.count)
	switch c.habit {
	case scaling:
		if hour < 7 || hour > 20 {
			n *= 0.4
		}
		if weekday >= 5 {
			n *= 0.6
		}
		if at >= c.w.promo[0] && at < c.w.promo[1] {
			rise := float64(at-c.w.promo[0]) / float64(2*time.Hour)
			n *= 1 + 2.5*min(rise, 1)
		}
		if c.growth > 0 {
			for range int(at / aDay) {
				n *= c.growth
			}
		}
		n = max(n, 1)
	case office:
		if weekday >= 5 || hour < 8 || hour >= 18 {
			return 0
		}
	case cron, rare, monthly:
		return 0
	}
	return int(n)
}

// scale starts and ends processes; jobs are started by the clock.
func (c *client) scale(at time.Duration) {
	first := at <= c.begins+step
	switch c.habit {
	case cron:
		local := at + time.Duration(c.zone)*time.Hour
		if local%time.Hour == 0 && slices.Contains(c.at, int(local/time.Hour)%24) {
			c.jobs(at, c.count)
		}
	case rare:
		if at%aDay == 9*time.Hour && (first || c.r.IntN(5) == 0) {
			c.jobs(at, 1)
		}
	case monthly:
		if date := start.Add(at); date.Day() == 2 && date.Hour() == 5 && date.Minute() == 0 {
			c.jobs(at, 1)
		}
	default:
		need := c.needed(at)
		for len(c.processes) < need {
			c.processes = append(c.processes, c.begin(at+c.upTo(step/2)))
		}
		if extra := len(c.processes) - need; extra > 0 {
			c.processes = c.processes[extra:]
		}
	}
}

func (c *client) upTo(most time.Duration) time.Duration {
	return time.Duration(c.r.Int64N(int64(most)))
}

func (c *client) jobs(at time.Duration, n int) {
	begins := at + c.upTo(2*time.Minute)
	for range n {
		p := c.begin(begins + c.upTo(90*time.Second))
		p.jobs = 1 + c.r.IntN(2)
		c.processes = append(c.processes, p)
	}
}

// changes are what people and machines do to a client between two steps.
func (c *client) changes(at time.Duration) {
	w := c.w
	within := func(t time.Duration) bool { return t >= at && t < at+step }
	if within(c.nextRelease) {
		c.deploy(c.nextRelease)
		c.nextRelease += c.gap(7) + time.Hour
	}
	if within(w.restart) {
		for i := range c.processes {
			c.replace(i, w.restart+10*time.Minute+c.upTo(5*time.Minute))
		}
	}
	for i, p := range c.processes { // crashes, and hosts that are drained
		if p.jobs == 0 && c.r.Float64() < float64(step)/float64(20*aDay) {
			c.replace(i, at+c.upTo(step))
		}
	}
	if c.begins > 0 && at < c.begins+3*aDay && c.r.IntN(20) == 0 { // it is still being written
		refused := c.event(c.begin(at))
		refused.Kind, refused.Reason = behaviour.TokenRefused, []string{"htu", "signature", "iat", "invalid_scope"}[c.r.IntN(4)]
		for i := range 1 + c.r.IntN(15) {
			c.tell(at+time.Duration(i+2)*40*time.Second, refused)
		}
	}
	if within(c.nextSecret) && c.hasSecret {
		c.rotateSecret(at)
	}
	if within(c.nextKey) {
		c.rotateKey(at)
	}
	if within(c.nextScope) {
		if c.r.IntN(10) < 9 {
			c.tell(c.nextScope-c.upTo(2*aDay), behaviour.Event{Kind: behaviour.ClientChanged})
		}
		c.scopes = append(c.scopes, "feature:new")
		c.deploy(c.nextScope)
	}
	if w.moved != nil && within(w.moves) {
		c.move(w.moved)
	}
}

// move follows a site whose address has changed: the processes go on.
func (c *client) move(s *site) {
	for _, p := range c.processes {
		if p.site == s && p.network == s.networks[0] {
			p.network = movedTo
		}
	}
}

// replace ends a process, and begins another in its place.
func (c *client) replace(i int, at time.Duration) {
	c.processes[i].ends = 0
	c.processes[i] = c.begin(at)
}

// deploy replaces the processes one after another, or all at once, while the old ones
// run for some minutes more.
func (c *client) deploy(at time.Duration) {
	if c.r.IntN(10) < 7 {
		c.version++
	}
	c.release = append(c.release, at)
	over := c.upTo(12*time.Minute) + time.Second
	for i, p := range slices.Clone(c.processes) {
		p.ends = 0
		fresh := c.begin(at + c.upTo(over))
		fresh.jobs = p.jobs
		p.ends = fresh.next + c.upTo(10*time.Minute) + time.Second
		if c.r.IntN(3) == 0 {
			p.next = min(p.next, p.ends-1) // a last one, as it happens
		}
		c.run1(p, at, p.ends)
		c.processes[i] = fresh
	}
}

func (c *client) rotateSecret(at time.Duration) {
	c.ended = append(c.ended, c.credential(c.secret))
	c.secret++
	c.nextSecret = at + 90*aDay
	for _, p := range c.processes {
		p.switchesAt = at + c.upTo(20*time.Hour)
	}
	if c.r.IntN(400) == 0 { // a part that was forgotten
		for i := range 1 + c.r.IntN(60) {
			c.tell(at+aDay+time.Duration(i)*10*time.Minute, behaviour.Event{
				Kind: behaviour.SecretRetired, Credential: c.ended[len(c.ended)-1], Network: c.sites[0].networks[0], UserAgent: c.agent(c.version - 1),
			})
		}
	}
	if c.keys == keptKey && c.r.IntN(5) > 0 { // both, while at it
		c.newSharedKey()
	}
}

func (c *client) rotateKey(at time.Duration) {
	c.nextKey = at + time.Duration(c.keyDays()*float64(aDay))
	switch c.keys {
	case enrolledKey:
		c.newSharedKey()
		race := time.Duration(0)
		if c.r.IntN(8) == 0 { // the pipeline is a minute late
			race = time.Minute + c.upTo(time.Minute)
			e := c.event(c.begin(at))
			e.Kind, e.Reason, e.JKT = behaviour.KeyRefused, "", c.shared
			c.tell(at, e)
		}
		c.tell(at+race, behaviour.Event{Kind: behaviour.KeyEnrolled, JKT: c.shared})
		for i := range c.processes {
			c.replace(i, at+race+time.Second+c.upTo(10*time.Minute))
		}
	case keptKey, perHost:
		c.newSharedKey()
		c.hostGen++
		for i := range c.processes {
			c.replace(i, at+c.upTo(10*time.Minute))
		}
	}
}

func (c *client) credential(n int) string {
	text, ok := c.texts[-n]
	if !ok {
		text = (c.id + "-assertion-key----------------------------")[:43]
		if c.hasSecret {
			text = fmt.Sprintf("%06x%06x", n, c.id[8:])[:12]
		}
		c.texts[-n] = text
	}
	return text
}

// tell puts an event of the client into the trail, unless the server is away.
func (c *client) tell(at time.Duration, e behaviour.Event) (told bool) {
	for _, o := range c.w.outages {
		if at >= o[0] && at < o[1] {
			return false
		}
	}
	c.w.serial++
	e.ClientID, e.At = c.id, start.Add(at)
	if e.Kind != behaviour.TokenIssued {
		e.ID = fmt.Sprint("event-", c.w.serial)
	}
	c.w.events = append(c.w.events, timed{at, e})
	return true
}

func (c *client) agent(version int) string {
	if c.product == "" {
		return ""
	}
	text, ok := c.texts[version]
	if !ok {
		text = fmt.Sprintf("%s/%d.%d", c.product, version/10, version%10)
		c.texts[version] = text
	}
	return text
}

// run lets the processes go on for a while.
func (c *client) run(from, to time.Duration) {
	kept := c.processes[:0]
	for _, p := range c.processes {
		if c.run1(p, from, to) {
			kept = append(kept, p)
		}
	}
	c.processes = kept
}

func (c *client) run1(p *process, _, to time.Duration) bool {
	for p.next < min(to, p.ends) {
		for _, o := range c.w.outages {
			if p.next >= o[0] && p.next < o[1] { // all come back at once
				p.next = o[1] + c.upTo(40*time.Second)
				if c.r.IntN(20) == 0 {
					c.again(p, p.next+time.Second)
				}
			}
		}
		if p.next >= p.switchesAt {
			p.secret, p.switchesAt = c.secret, long
			if c.keys == keptKey {
				p.key = c.shared
			}
		}
		c.fetch(p, p.next)
		p.next += time.Duration(float64(c.cadence) * (0.97 + 0.06*c.r.Float64()))
		if p.jobs == 1 {
			return false
		}
		p.jobs = max(p.jobs-1, 0)
	}
	return p.next < p.ends
}

// event is one of a process, as the server sees it.
func (c *client) event(p *process) behaviour.Event {
	network := p.network
	switch {
	case p.site.pool:
		network = p.site.networks[c.r.IntN(len(p.site.networks))]
	case p.site.v6.IsValid() && c.r.Float64() < c.dualStack:
		network = p.site.v6
	}
	return behaviour.Event{
		Kind: behaviour.TokenIssued, Authenticated: true, JKT: p.key, Network: network,
		UserAgent: c.agent(p.version), Credential: c.credential(p.secret), Resource: c.resource, Scopes: c.scopes,
		HasOffset: true,
	}
}

func (c *client) fetch(p *process, at time.Duration) {
	e := c.event(p)
	p.clock = 0.98*p.clock + 0.03*c.r.NormFloat64() // NTP leads it back
	offset := p.clock + 0.05 + 0.08*c.r.ExpFloat64()
	if c.r.IntN(500) == 0 {
		offset += 4 * c.r.ExpFloat64()
	}
	if c.drift != nil && (p.drifts || c.drift.all) {
		offset += c.drift.drifted(at)
		c.drift.note(at)
		if c.drift.fails(offset) {
			e.Kind, e.Reason = behaviour.TokenRefused, "iat"
		}
	}
	e.Offset = time.Duration(offset * float64(time.Second))
	if c.nonces && c.r.IntN(3) == 0 {
		refused := e
		refused.Kind, refused.Reason, refused.Scopes = behaviour.TokenRefused, "nonce", nil
		c.tell(at, refused)
		at += 50 * time.Millisecond
	}
	if c.seldom != "" && start.Add(at).Day() == 27 {
		e.Scopes = append(slices.Clone(c.scopes), c.seldom)
	}
	c.tell(at, e)
	c.last = e
	if c.retries > 0 && c.r.Float64() < c.retries {
		c.again(p, at+time.Duration(1+c.r.IntN(20))*time.Second)
	}
}

// again sends a request a second time as it was.
func (c *client) again(p *process, at time.Duration) {
	e := c.event(p)
	e.Kind, e.Reason, e.Scopes, e.HasOffset = behaviour.TokenRefused, "replay", nil, false
	c.tell(at, e)
}

func foreign(w *world) netip.Prefix {
	if w.r.IntN(4) == 0 {
		return prefix("2a01:%x:%x::/48", 1+w.r.IntN(60000), 1+w.r.IntN(60000))
	}
	return prefix("%d.%d.%d.0/24", []int{45, 62, 91, 146, 185}[w.r.IntN(5)], w.r.IntN(255), w.r.IntN(255))
}
