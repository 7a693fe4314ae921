package behaviour_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/cargokey/authz/internal/behaviour"
)

// A platform of machine clients, process by process: each fetches a token when it starts
// and again before that one ends. It knows nothing of how departures are found.

// start is a Monday.
var start = time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)

const (
	aDay = 24 * time.Hour
	// long is further than any simulation goes.
	long = 1000 * aDay
)

// habit is when a client runs.
type habit int

const (
	steady  habit = iota // the same processes all the time
	scaling              // more by day, fewer by night and at week-ends
	office               // started in the morning, ended in the evening, on working days
	cron                 // some workers at certain hours, for some minutes
	rare                 // once in three to eight days
	monthly
	chatty // one process that wants a token for each batch of work
)

// keyHabit is where its DPoP keys come from.
type keyHabit int

const (
	perProcess keyHabit = iota // made at start
	perHost                    // kept by each host
	keptKey                    // one for all, kept with the secret
	enrolledKey
)

// site is where processes run, and by which addresses they are seen.
type site struct {
	name     string
	networks []netip.Prefix
	v6       netip.Prefix
	pool     bool // each connection by another of its networks
}

type client struct {
	id        string
	w         *world
	r         *rand.Rand
	habit     habit
	keys      keyHabit
	sites     []*site
	count     int           // of processes, by day
	cadence   time.Duration // from token to token
	begins    time.Duration // since the start of all
	sleeps    time.Duration // when it ends, for the time being; 0: never
	dualStack float64       // share of connections by IPv6
	fallback  bool          // nearly all by IPv6, a few not
	product   string
	version   int
	secret    int // number of the secret in force
	hasSecret bool
	ended     []string // secrets that have ended
	scopes    []string
	granted   string // a scope that it may use and does not
	seldom    string // a scope that it uses once a month
	resource  string
	hosts     int
	shared    string // the key of keptKey and enrolledKey
	sharedGen int
	hostGen   int     // how often its hosts were replaced
	retries   float64 // how often a request is sent again, proof and all
	nonces    bool
	zone      int   // hours
	at        []int // hours of cron
	nextRelease, nextSecret, nextKey,
	nextScope time.Duration
	processes []*process
	made      int
	growth    float64 // a day
	drift     *play
	texts     map[int]string
	last      behaviour.Event // that it had a token by
	release   []time.Duration // when it was deployed
}

type process struct {
	key        string
	site       *site
	network    netip.Prefix
	host       int
	next       time.Duration
	ends       time.Duration
	version    int
	secret     int
	clock      float64 // seconds that it is behind
	drifts     bool
	jobs       int // tokens until it is done; 0: it goes on
	switchesAt time.Duration
}

// world is all of them, and what happens to many.
type world struct {
	r       *rand.Rand
	clients []*client
	sites   []*site
	days    int
	events  []timed
	order   []int // in which they are read
	serial  int
	// outages of the server: nothing is recorded in them.
	outages [][2]time.Duration
	restart time.Duration // of everything, after an outage of the platform
	promo   [2]time.Duration
	moves   time.Duration // when the addresses of a site change
	moved   *site
	plays   []*play
}

// timed is an event with the moment at which it is read.
type timed struct {
	at    time.Duration
	event behaviour.Event
}

func prefix(format string, args ...any) netip.Prefix {
	return netip.MustParsePrefix(fmt.Sprintf(format, args...))
}

func newWorld(seed uint64, clients, days int) *world {
	w := &world{r: rand.New(rand.NewPCG(seed, 7)), days: days}
	a := &site{name: "a", v6: prefix("2001:db8:a::/48")}
	b := &site{name: "b", v6: prefix("2001:db8:b::/48")}
	c := &site{name: "c", pool: true}
	for i := range 3 {
		a.networks = append(a.networks, prefix("198.51.%d.0/24", 100+i))
	}
	b.networks = []netip.Prefix{prefix("203.0.113.0/24"), prefix("203.0.114.0/24")}
	for i := range 12 {
		c.networks = append(c.networks, prefix("34.%d.%d.0/24", 90+i%3, w.r.IntN(250)))
	}
	w.sites = []*site{a, b, c}
	for i := range clients {
		w.clients = append(w.clients, w.newClient(i))
	}
	w.clients[clients/2].habit, w.clients[clients/2].growth = scaling, 1.025
	at := func(from, to int) time.Duration {
		return time.Duration(from)*aDay + time.Duration(w.r.Int64N(int64(to-from)*int64(aDay)))
	}
	for range 2 {
		t := at(days/6, days-1)
		w.outages = append(w.outages, [2]time.Duration{t, t + time.Duration(5+w.r.IntN(90))*time.Minute})
	}
	w.restart = at(days/2, days-1)
	w.promo[0] = (at(days*2/3, days-4) / aDay * aDay) + 8*time.Hour
	w.promo[1] = w.promo[0] + 2*aDay
	w.moves, w.moved = at(days/2, days-2), a
	return w
}

// movedTo is the address that a part of a site gets some day.
var movedTo = prefix("198.51.250.0/24")

// pick draws an index by weights.
func pick(r *rand.Rand, weights ...float64) int {
	var all float64
	for _, x := range weights {
		all += x
	}
	at := r.Float64() * all
	for i, x := range weights {
		if at -= x; at < 0 {
			return i
		}
	}
	return len(weights) - 1
}

func (w *world) newClient(i int) *client {
	r := rand.New(rand.NewPCG(w.r.Uint64(), uint64(i)))
	c := &client{texts: map[int]string{}, id: fmt.Sprintf("service-%03d", i), w: w, r: r, version: 1 + r.IntN(30), secret: 1, hosts: 1 + r.IntN(5)}
	c.habit = habit(pick(r, 0.42, 0.14, 0.12, 0.14, 0.05, 0.03, 0.10))
	c.keys = keyHabit(pick(r, 0.5, 0.1, 0.1, 0.3))
	c.count = min(1+int(r.ExpFloat64()*2.2), 20)
	c.cadence = []time.Duration{50 * time.Minute, 50 * time.Minute, 25 * time.Minute, 55 * time.Minute, 4 * time.Minute}[pick(r, 4, 3, 2, 2, 0.3)]
	switch c.habit {
	case cron:
		for range 1 + r.IntN(4) {
			c.at = append(c.at, r.IntN(24))
		}
		if r.IntN(3) == 0 {
			c.count *= 4
		}
	case chatty:
		c.count, c.cadence = 1+r.IntN(2), time.Duration(40+r.IntN(400))*time.Second
	case rare, monthly:
		c.count = 1
	}
	switch s := w.sites; pick(r, 0.42, 0.15, 0.15, 0.18, 0.10) {
	case 0:
		c.sites = s[:1]
	case 1:
		c.sites = s[1:2]
	case 2:
		c.sites = s[:2]
	case 3:
		c.sites = s[2:3]
	default:
		c.sites = []*site{{name: "own", networks: []netip.Prefix{prefix("192.%d.%d.0/24", 1+i/200, i%200)}}}
	}
	if c.sites[0].v6.IsValid() {
		switch pick(r, 0.8, 0.15, 0.05) {
		case 1:
			c.dualStack = 0.1 + 0.8*r.Float64()
		case 2:
			c.dualStack, c.fallback = 0.999, true
		}
	}
	c.product = []string{"Go-http-client", "python-requests", "okhttp", "axios", "Java-http-client", "shipping-sdk", ""}[r.IntN(7)]
	c.hasSecret = r.IntN(10) < 7
	c.resource = fmt.Sprintf("https://api-%d.example.com", r.IntN(12))
	for j := range 1 + r.IntN(4) {
		c.scopes = append(c.scopes, fmt.Sprintf("area%d:act%d", r.IntN(12), j))
	}
	c.granted = "admin:export"
	if r.IntN(50) == 0 {
		c.seldom = "report:monthly"
	}
	if r.IntN(12) == 0 {
		c.retries = 0.0005 + 0.004*r.Float64()
	}
	c.nonces = r.IntN(6) == 0
	c.zone = []int{0, 1, -5, 8}[r.IntN(4)]
	if i%12 == 5 {
		c.begins = time.Duration(float64(w.days) * (0.1 + 0.8*r.Float64()) * float64(aDay))
	}
	if c.keys == perHost {
		c.hosts = min(c.hosts, c.count)
	}
	c.newSharedKey()
	c.nextRelease = c.begins + c.gap(7)
	c.nextSecret = c.begins + time.Duration(r.Float64()*90*float64(aDay))
	c.nextKey = c.begins + time.Duration(r.Float64()*c.keyDays()*float64(aDay))
	c.nextScope = long
	if r.IntN(40) == 0 {
		c.nextScope = c.begins + time.Duration(r.Float64()*60*float64(aDay))
	}
	return c
}

// keyDays is how long a key is kept, where that is somebody's decision. One that is not
// enrolled never ends: it is made anew with the secret that lies beside it, and hardly
// ever alone.
func (c *client) keyDays() float64 {
	switch c.keys {
	case enrolledKey:
		return 90
	case perHost: // until they are replaced
		return 1500
	}
	return 2000
}

// gap draws the time to the next release: some have several a day, some one in a month.
func (c *client) gap(median float64) time.Duration {
	return time.Duration(median * math.Exp(0.8*c.r.NormFloat64()) * float64(aDay))
}

func (c *client) newSharedKey() {
	c.sharedGen++
	c.shared = c.jkt("shared", c.sharedGen)
}

// jkt makes a name as long as a thumbprint, of which the beginning tells keys apart.
func (c *client) jkt(what string, n int) string {
	h := c.w.r.Uint64()
	_ = what
	return fmt.Sprintf("%013x%04d%-26s", h, n%10000, c.id+"-key----------------------")[:43]
}

// begin starts a process at a moment.
func (c *client) begin(at time.Duration) *process {
	p := &process{next: at, ends: long, version: c.version, secret: c.secret, host: c.made % c.hosts, switchesAt: long}
	p.site = c.sites[c.made%len(c.sites)]
	if c.count == 1 {
		p.site = c.sites[0]
	}
	if d := c.drift; d != nil && !d.all && !slices.ContainsFunc(c.processes, func(q *process) bool { return q.drifts && q.ends > at }) {
		p.host, p.drifts = 0, true
	}
	which := (p.host + int(c.id[len(c.id)-1])) % len(p.site.networks)
	p.network = p.site.networks[which]
	if which == 0 && p.site == c.w.moved && at >= c.w.moves {
		p.network = movedTo
	}
	p.clock = 0.2 * c.r.NormFloat64()
	c.made++
	switch c.keys {
	case perProcess:
		p.key = c.jkt("process", c.made)
	case perHost:
		p.key = fmt.Sprintf("%-43s", fmt.Sprintf("%s-host-%d-%s", c.id[8:], p.host%5+5*c.hostGen%10, "kept-key-----------------"))[:43]
	default:
		p.key = c.shared
	}
	return p
}
