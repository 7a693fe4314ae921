package authz

import (
	"context"
	"log/slog"
	"math"
	"net/http"
	"runtime"
	"strconv"
	"time"

	"github.com/cargokey/authz/internal/admission"
	"github.com/cargokey/authz/internal/allowance"
)

// Failed authentications, and proofs that are refused, are limited for what they cost
// and for the log that they fill: nobody guesses 256 random bits. So the limit never
// touches a request that would succeed, whoever else fails in its client's name or from
// its address.
//
// A request is looked at first, and limited once it has failed: the answer is then 429,
// which tells a client's library to wait, with the error code that it would have had
// otherwise, which tells its operator what is wrong; and the log and the audit trail
// have one line for all of a minute. What the look costs is bounded by lookups.

// The failures in a minute that are answered one by one, where nothing else is
// configured: of a client, and from an address.
const (
	DefaultFailuresPerClient  = 60
	DefaultFailuresPerAddress = 300
)

// everyonesShare is how many addresses may use up their allowance before all that is
// not known to be good is looked up in turn.
const everyonesShare = 10

// Names that are kept of who failed, and of who did not: 48 bytes each.
const (
	failuresKept = 1 << 14
	provenKept   = 1 << 15
)

// attempt is what is known of a request as one to authenticate. Only its own goroutine
// touches it.
type attempt struct {
	door    *door
	from    origin
	arrived time.Time
	// whole: it took all the work of such a request, and did not end early in a refusal.
	whole bool
	// clientID is whom it names, once somebody has been looked for, and registered
	// tells that there is such a client.
	clientID   string
	registered bool
	// proven is the client that has proven to be one, and credential what by, once it
	// has; though it may be refused for something else.
	proven, credential string
	// body is what was read of it, and bodyErr why that is not all.
	body    string
	bodyErr error
	use     clientUse
}

type attemptKey struct{}

func attemptOf(ctx context.Context) *attempt {
	a, _ := ctx.Value(attemptKey{}).(*attempt)
	return a
}

// failures is who has failed of late, and who has not.
type failures struct {
	failed, proven            *allowance.Table
	client, address, everyone allowance.Allowance
	lanes                     [2]*admission.Gate
}

func newFailures(perClient, perAddress int, shed *shedding) *failures {
	f := &failures{
		failed: allowance.New(failuresKept), proven: allowance.New(provenKept),
		client: allowance.Of(perClient), address: allowance.Of(perAddress), everyone: allowance.Of(everyonesShare * perAddress),
	}
	for i := range f.lanes {
		f.lanes[i] = admission.NewGate(admission.Config{
			Most: laneWidth(), Least: laneWidth(), Line: laneLine, Wait: shedWait, Kinds: 1, Refused: shed.note,
		})
	}
	return f
}

const everyone = "everyone"

func nameOfClient(id string) string { return "client " + id }

func (a *attempt) name() string { return "address " + a.from.network }

func (a *attempt) pair(id string) string { return "client " + id + " at " + a.from.network }

// lane is where a look-up has to wait its turn; nil: it need not. Who has authenticated
// as this client from this address before goes on as if nobody failed, unless somebody
// fails just there. The others are apart by whether it is their own address that
// failures come from.
func (f *failures) lane(a *attempt, id string) *admission.Gate {
	fromHere := f.failed.Low(a.name(), f.address)
	if !fromHere && !f.failed.Low(nameOfClient(id), f.client) && !f.failed.Low(everyone, f.everyone) {
		return nil
	}
	if pair := a.pair(id); f.proven.Knows(pair) && !f.failed.Low(pair, f.client) {
		return nil
	}
	if fromHere {
		return f.lanes[0]
	}
	return f.lanes[1]
}

// Whose allowance is used up.
const (
	limitedByClient  = "client"
	limitedByAddress = "address"
)

// isFailure tells whether an answer is one to a request that has proven nothing. A
// nonce that is asked for is none.
func (e *oauthError) isFailure() bool {
	return e.code == codeInvalidClient || e.code == codeInvalidProof && e.status == http.StatusBadRequest
}

// limited counts a failure, and returns what to answer instead where the allowance is
// used up.
func (s *Server) limited(ev *event, a *attempt, e *oauthError) *oauthError {
	if !e.isFailure() || ev.clientID != "" { // or who sent it is known
		return e
	}
	f := s.failures
	f.failed.Use(everyone, f.everyone)
	over, times := f.failed.Use(a.name(), f.address)
	if times > 0 {
		s.noteLimited(ev, limitedByAddress, "", times)
	}
	by := limitedByAddress
	if a.clientID != "" {
		f.failed.Use(a.pair(a.clientID), f.client)
		overClient, times := f.failed.Use(nameOfClient(a.clientID), f.client)
		if overClient {
			over, by = true, limitedByClient
		}
		// Only a registered ID is written down: any other may be a secret in the wrong place.
		if times > 0 && a.registered {
			s.noteLimited(ev, limitedByClient, a.clientID, times)
		}
	}
	if !over {
		return e
	}
	ev.folded = true
	s.metrics.limited.inc(by)
	if e.status == http.StatusInternalServerError { // it is a gateway's, see errGatewayUnknown
		return e
	}
	return e.tooOften(by == limitedByClient, f)
}

// tooOften is RFC 6585 §4.
func (e *oauthError) tooOften(byClient bool, f *failures) *oauthError {
	wait := f.address.Interval
	if byClient {
		wait = f.client.Interval
	}
	limited := *e
	limited.status = http.StatusTooManyRequests
	limited.header = http.Header{"Retry-After": {strconv.Itoa(int(math.Ceil(wait.Seconds())))}}
	limited.description += " It has failed too often in the last minute: mend what is wrong before you try again."
	return &limited
}

// noteLimited writes down, once in a minute for each client and address, that failures
// are not written down one by one. The request waits for none of it.
func (s *Server) noteLimited(ev *event, by, clientID string, times int64) {
	attrs := []slog.Attr{slog.String("by", by), slog.String("remote", ev.remote), slog.Int64("times", times), slog.String("request_id", ev.requestID)}
	if clientID != "" {
		attrs = append(attrs, slog.String("client_id", clientID))
	}
	s.log.LogAttrs(context.Background(), slog.LevelWarn, "failed authentications are limited, and not logged one by one", attrs...)
	what := by
	if by == limitedByAddress {
		what += " " + ev.remote
	}
	s.tally.sight(sighting{kind: AuditAuthenticationsLimited, clientID: clientID, what: what}, func() AuditEvent {
		e := NewAuditEvent(s.now(), AuditAuthenticationsLimited, ActorServer) // nobody has proven to be the client
		e.ClientID, e.RequestID, e.RemoteAddr = clientID, ev.requestID, ev.remote
		e.Detail = map[string]any{"by": by, "limited": times, "endpoint": ev.endpoint}
		return e
	})
}

// proved remembers who has authenticated, from where.
func (f *failures) proved(a *attempt, id string) {
	if id != "" {
		f.proven.Mark(a.pair(id))
	}
}

// laneWidth is how many look-ups of each lane are under way at a time.
func laneWidth() int { return max(1, runtime.GOMAXPROCS(0)/2) }

// laneLine is how many wait in each.
const laneLine = 64
