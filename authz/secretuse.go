package authz

import (
	"crypto/subtle"
	"fmt"
	"time"
)

// SecretsKept is how long after its end a secret is known as one that was the
// client's: whoever still has it, and should not, is told apart from who guesses.
const SecretsKept = 90 * 24 * time.Hour

// ClientSecret is a secret as those know it who look after it.
type ClientSecret struct {
	EndingDigest
	CreatedAt time.Time
}

// InForce tells whether a secret counts at now.
func (e EndingDigest) InForce(now time.Time) bool {
	return !e.Ended && (e.EndsAt.IsZero() || e.EndsAt.After(now))
}

// among finds d in stored as matchesAny does; that it is there at all is what the
// time may tell.
func (d Digest) among(stored []EndingDigest) (found EndingDigest, ok bool) {
	at := -1
	// A client without secrets costs one comparison as well.
	subtle.ConstantTimeCompare(d[:], make([]byte, len(d)))
	for i := range stored {
		at = subtle.ConstantTimeSelect(subtle.ConstantTimeCompare(d[:], stored[i].Digest[:]), i, at)
	}
	if at < 0 {
		return EndingDigest{}, false
	}
	return stored[at], true
}

// retiredSecret is the cause of a refusal: what was presented has been a secret
// of the client, and is none any more. The answer, the work for it and the round
// trips are those of any wrong secret: who comes with it learns nothing.
type retiredSecret struct {
	clientID string
	name     string
	endedAt  time.Time
}

func (e *retiredSecret) Error() string {
	return fmt.Sprintf("client %s: its secret %s has ended at %s", e.clientID, e.name, e.endedAt.UTC().Format(time.RFC3339))
}

// noteRetiredSecret tells operators that somebody still has a secret that was
// rotated away: a service that was forgotten, or a thief. The request waits for
// none of it.
func (s *Server) noteRetiredSecret(ev *event, used *retiredSecret) {
	s.metrics.retiredSecrets.WithLabelValues(s.metrics.client(used.clientID)).Inc()
	s.tally.sight(sighting{kind: AuditRetiredSecretUsed, clientID: used.clientID, what: used.name + " from " + ev.remote}, func() AuditEvent {
		e := NewAuditEvent(s.now(), AuditRetiredSecretUsed, ActorServer) // nobody has proven to be the client
		e.ClientID, e.RequestID, e.RemoteAddr = used.clientID, ev.requestID, ev.remote
		e.Detail = map[string]any{
			"credential": used.name,
			"ended_at":   used.endedAt.UTC().Format(time.RFC3339Nano),
			"endpoint":   ev.endpoint,
		}
		return e
	})
}
