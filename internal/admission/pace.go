package admission

import "time"

// pace finds how many requests may be in work in an overload: as many as are answered
// in about twice the time that they take when it is quiet. More would wait for each
// other, and fewer would leave a database that is far away idle.
type pace struct {
	least, most int
	limit       int

	since time.Time
	kinds []kindPace
}

type kindPace struct {
	n     int
	sum   time.Duration
	quiet time.Duration // the least mean of a window; 0: not known
}

const (
	window = 100 * time.Millisecond
	// enough is how many requests of a kind make a mean.
	enough = 16
	// Above tooSlow times the quiet time there are too many, below fastEnough there
	// may be more.
	tooSlow, fastEnough = 2, 1.5
	// forget has what is called quiet follow a database that has become slower, by 6 %
	// in a minute of work.
	forget = 1.0001
)

func newPace(c Config) pace {
	return pace{least: c.Least, most: c.Most, limit: max(c.Least, c.Most/4), kinds: make([]kindPace, c.Kinds)}
}

func (p *pace) took(kind int, d time.Duration) {
	p.kinds[kind].n++
	p.kinds[kind].sum += d
}

// adjust looks at what was done since the last window's end, where that is long ago.
func (p *pace) adjust(now time.Time, overloaded bool) {
	if now.Sub(p.since) < window {
		return
	}
	var took, quiet float64
	for i := range p.kinds {
		k := &p.kinds[i]
		if k.n < enough {
			continue
		}
		mean := k.sum / time.Duration(k.n)
		k.quiet = time.Duration(float64(k.quiet) * forget)
		if k.quiet == 0 || mean < k.quiet {
			k.quiet = mean
		}
		took += float64(k.sum)
		quiet += float64(k.quiet) * float64(k.n)
		k.n, k.sum = 0, 0
	}
	if quiet == 0 { // not enough of any: the window goes on
		return
	}
	p.since = now
	switch slow := took / quiet; {
	case !overloaded:
	case slow > 2*tooSlow:
		p.limit = max(p.least, p.limit/2)
	case slow > tooSlow:
		p.limit = max(p.least, p.limit*3/4)
	case slow < fastEnough:
		p.limit = min(p.most, p.limit+max(1, p.limit/4))
	}
}
