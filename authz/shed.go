package authz

import (
	"bytes"
	"errors"
	"log/slog"
	"net/http"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/cargokey/authz/internal/admission"
)

// DefaultInFlight is how many requests an instance works at, at a time, for each core
// that it may use, where nothing else is configured: on one core as many as one client
// with 64 connections has under way.
const DefaultInFlight = 64

// maxInFlight bounds what can be configured.
const maxInFlight = 1 << 16

// Least in work in an overload, for each core: as many as are under way between the
// server and the database where nobody waits for anybody.
const leastInFlight = 2

// shedWait is how long a request waits for its turn at most. It is far below what a
// client waits for its answer, and above what the last of a full line waits.
const shedWait = time.Second

// door is what all requests of one kind of listener come through. Those of gateways
// have one of their own: a flood of token requests does not stop calls of APIs, which
// are checked there.
type door struct {
	gate *admission.Gate
	shed *shedding
	// proxies are believed on where its requests come from.
	proxies networks
}

// endpoints are the kinds of requests that the doors tell apart.
var endpoints = []string{"token", "introspect", "revoke", "dpop_keys", "metadata", "jwks", "verify"}

func newDoor(inFlight int, shed *shedding) *door {
	if inFlight == 0 {
		inFlight = DefaultInFlight * runtime.GOMAXPROCS(0)
	}
	return &door{shed: shed, gate: admission.NewGate(admission.Config{
		Most: inFlight, Least: min(inFlight, leastInFlight*runtime.GOMAXPROCS(0)),
		Line: inFlight, Wait: shedWait, Kinds: len(endpoints), Refused: shed.note,
	})}
}

// through has next answer the requests that the door lets in. What is refused is
// refused before anything is looked at, and has cost its reading: the body first, since
// who sends it slowly is to take nobody's place meanwhile. It is read to its end in any
// case, or the connection could not be used again.
func (d *door) through(endpoint string, next func(http.ResponseWriter, *http.Request, *attempt)) http.Handler {
	kind := slices.Index(endpoints, endpoint)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a := &attempt{door: d, from: originOf(r, d.proxies), arrived: time.Now()}
		a.readBody(w, r)
		if err := d.gate.Enter(r.Context()); err != nil {
			if r.Context().Err() == nil { // or nobody is there to be told
				refuseOverload(w)
			}
			return
		}
		begun := time.Now()
		defer func() {
			if a.whole {
				d.gate.LeaveAfter(kind, time.Since(begun))
			} else {
				d.gate.Leave()
			}
		}()
		next(w, r, a)
	})
}

// readBody reads the body of a form, as far as it is read at all, and once for all
// attempts to answer.
func (a *attempt) readBody(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost || r.Body == http.NoBody {
		return
	}
	// A bit more than there is to be has the end found at once. Room for a larger one
	// is made as it comes: to announce it costs its sender nothing.
	body := bytes.NewBuffer(make([]byte, 0, min(max(r.ContentLength, 0), usualBody)+bytes.MinRead))
	_, a.bodyErr = body.ReadFrom(http.MaxBytesReader(w, r.Body, maxBody))
	a.body, r.Body = body.String(), http.NoBody
}

// usualBody is the size in bytes of what clients send.
const usualBody = 4 << 10

// Of a refusal all is the same each time, and made once: in a flood it is what the
// server does most.
var overloadHeader, overloadBody = func() (http.Header, []byte) {
	b := &builtAnswer{header: http.Header{}}
	errOverload().write(b)
	return b.header, b.body
}()

type builtAnswer struct {
	header http.Header
	body   []byte
}

func (b *builtAnswer) Header() http.Header         { return b.header }
func (b *builtAnswer) WriteHeader(int)             {}
func (b *builtAnswer) Write(p []byte) (int, error) { b.body = append(b.body, p...); return len(p), nil }

func refuseOverload(w http.ResponseWriter) {
	h := w.Header()
	for name, values := range overloadHeader {
		h[name] = values
	}
	w.WriteHeader(http.StatusServiceUnavailable)
	w.Write(overloadBody) // a failed write is a client that has gone
}

// shedding counts what is refused for want of room. The log has it once a second.
type shedding struct {
	counter prometheus.Counter
	log     *slog.Logger
	where   string
	begun   time.Time
	last    atomic.Int64 // when the log had it last, since begun; 0: never
	refused atomic.Int64 // since then
}

func newShedding(m *Metrics, log *slog.Logger, where string) *shedding {
	return &shedding{counter: m.shed.WithLabelValues(where), log: log, where: where, begun: time.Now()}
}

func (s *shedding) note() {
	s.counter.Inc()
	s.refused.Add(1)
	now, last := int64(time.Since(s.begun)), s.last.Load()
	if last != 0 && now-last < int64(time.Second) || !s.last.CompareAndSwap(last, now) {
		return
	}
	s.log.Warn("more requests than can be answered: some are refused with 503", "where", s.where, "refused", s.refused.Swap(0))
}

// isShed tells whether a request was refused for want of room, which is counted, and
// has no line of its own in the log.
func isShed(err error) bool {
	return errors.Is(err, admission.ErrFull) || errors.Is(err, admission.ErrWaited)
}
