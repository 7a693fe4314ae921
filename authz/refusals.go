package authz

import (
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Of each period of a tally, which is a second or as long as the Store is away, so many
// refusals are events of their own. What comes beyond it is one event for all that is
// alike: of the same client, refused for the same reason.
//
// Strangers, who have not authenticated, have bounds of their own: they are not to hide
// among their refusals what is done with a client's credentials, nor to fill the trail.
// A flood of theirs adds no more events in a period than strangersRefusals +
// strangersFolded + one for each reason there is, and 17 where all are for one reason.
const (
	maxRefusalsOfClient = 16 // and of all who have named none
	maxRefusals         = 2000
	strangersRefusals   = 64
	// Of what is alike, so many tell whose it was.
	maxFolded       = 256
	strangersFolded = 64
)

// refusedAs is what is told apart where there are too many. All of it comes from closed
// sets, or is registered.
type refusedAs struct {
	kind          AuditKind
	clientID      string // "": none, or none that is registered, or beyond the bounds
	authenticated bool
	endpoint      string
	code, reason  string
}

// refusals are those of a period, for the audit trail. They change nothing that the
// Store keeps, and so no request waits for the Store to have them.
type refusals struct {
	now     func() time.Time
	dropped prometheus.Counter

	mu      sync.Mutex
	events  []AuditEvent
	of      map[refuser]int
	own     map[bool]int // events that there are or will be, by authenticated
	folded  map[refusedAs]*foldedRefusals
	renamed map[bool]int // of folded, those with a client's name, by authenticated
}

type refuser struct {
	clientID      string
	authenticated bool
}

// foldedRefusals are many alike, and where the first of them came from.
type foldedRefusals struct {
	first             time.Time
	requestID, remote string
	n                 int64
}

func newRefusals(now func() time.Time, dropped prometheus.Counter) *refusals {
	r := &refusals{now: now, dropped: dropped}
	r.reset()
	return r
}

func (r *refusals) reset() {
	r.events, r.of, r.own = nil, map[refuser]int{}, map[bool]int{}
	r.folded, r.renamed = map[refusedAs]*foldedRefusals{}, map[bool]int{}
}

// add counts a refusal; event makes its event where it is to have one of its own.
func (r *refusals) add(as refusedAs, ev *event, event func() AuditEvent) {
	if !r.admit(as, ev) {
		r.dropped.Inc()
		return
	}
	e := event()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, e)
}

func (r *refusals) admit(as refusedAs, ev *event) bool {
	most, mostFolded := strangersRefusals, strangersFolded
	if as.authenticated {
		most, mostFolded = maxRefusals, maxFolded
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	by := refuser{as.clientID, as.authenticated}
	if r.own[as.authenticated] < most && r.of[by] < maxRefusalsOfClient {
		r.own[as.authenticated]++
		r.of[by]++
		return true
	}
	if r.folded[as] == nil && as.clientID != "" {
		if r.renamed[as.authenticated] < mostFolded {
			r.renamed[as.authenticated]++
		} else {
			as.clientID = ""
		}
	}
	if r.folded[as] == nil {
		r.folded[as] = &foldedRefusals{first: r.now(), requestID: ev.requestID, remote: ev.remote}
	}
	r.folded[as].n++
	return false
}

// collect ends the period and returns its events.
func (r *refusals) collect(now time.Time) []AuditEvent {
	r.mu.Lock()
	events, folded := r.events, r.folded
	r.reset()
	r.mu.Unlock()
	for i := range events {
		// The trail will have the moment of recording: see tally.record.
		if now.Sub(events[i].At) > 2*tallyEvery {
			events[i].Detail["first_at"] = events[i].At.Format(time.RFC3339Nano)
		}
	}
	for as, f := range folded {
		e := as.event(now)
		e.RequestID, e.RemoteAddr = f.requestID, f.remote
		e.Detail["times"], e.Detail["first_at"], e.Detail["further"] = f.n, f.first.Format(time.RFC3339Nano), true
		events = append(events, e)
	}
	return events
}

// event has what all that is alike has in common.
func (as *refusedAs) event(now time.Time) AuditEvent {
	actor := ActorServer // nobody has proven to be the client
	if as.authenticated && as.clientID != "" {
		actor = actorClient(as.clientID)
	}
	e := NewAuditEvent(now, as.kind, actor)
	e.ClientID = as.clientID
	e.Detail = map[string]any{"error": as.code, "reason": as.reason, "authenticated": as.authenticated, "endpoint": as.endpoint}
	return e
}

// refusalKinds are the endpoints whose refusals are events.
var refusalKinds = map[string]AuditKind{
	"token": AuditTokenRefused, "revoke": AuditRevocationRefused, "dpop_keys": AuditEnrolmentRefused,
}

// noteRefusal has a refused request in the audit trail, unless it is one of those that
// failures or shedding count. The request waits for none of it.
func (s *Server) noteRefusal(ev *event, a *attempt) {
	kind, ok := refusalKinds[ev.endpoint]
	if !ok || ev.folded || isShed(ev.err) {
		return
	}
	as := refusedAs{kind: kind, endpoint: ev.endpoint, code: ev.err.code, reason: ev.err.reason(), clientID: a.proven, authenticated: a.proven != ""}
	// Only a registered ID is written down: any other may be a secret in the wrong place.
	if !as.authenticated && a.registered {
		as.clientID = strings.Clone(a.clientID)
	}
	s.tally.refusals.add(as, ev, func() AuditEvent {
		e := as.event(s.now())
		e.RequestID, e.RemoteAddr = ev.requestID, ev.remote
		e.JKT = ev.jkt // whose proof's signature was verified: see token and enrol
		e.Resource = ev.resource
		s.noteAsked(&e, ev)
		if as.authenticated && a.credential != "" {
			e.Detail["credential"] = a.credential
		}
		if agent := product(ev.userAgent); agent != "" {
			e.Detail["user_agent"] = strings.Clone(agent) // and not all of the request's header
		}
		if offset, ok := ev.offset(); ok {
			e.Detail["offset_ms"] = offset.Milliseconds()
		}
		return e
	})
}

// noteAsked adds what was asked for, as far as anybody has registered it: what else a
// client sends may be anything.
func (s *Server) noteAsked(e *AuditEvent, ev *event) {
	registered := s.gateways.loaded.Load()
	if e.Resource == "" {
		e.Resource = registered.resources[ev.asked.resource]
	}
	var scopes []string
	for _, scope := range scopeTokens(ev.asked.scope) {
		if known := registered.scopes[scope]; known != "" {
			scopes = append(scopes, known)
		}
	}
	if len(scopes) > 0 {
		e.Detail["scope"] = strings.Join(scopes, " ")
	}
}
