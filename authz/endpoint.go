package authz

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"log/slog"
	"net/http"
	"runtime/debug"
	"time"

	"github.com/cargokey/authz/internal/span"
)

// event is what is known of a request at its end: one line in the log. What a
// client sent is in it only where it was recognised.
type event struct {
	endpoint  string
	requestID string
	remote    string
	userAgent string // as it was sent: see product
	started   time.Time
	status    int
	clientID  string
	gatewayID string
	// credential names the secret that the client, or the gateway, has
	// authenticated with.
	credential string
	// call is the method and the URL that a gateway asks about: logged for
	// debugging only, since a path may hold what the API keeps secret.
	call      string
	resource  string
	jti       JTI
	jkt       string
	asked     asked
	x5t       string // of the certificate that the token is bound to
	tokenType string
	active    *bool
	// proofOffset is how far the server's clock was past the proof's iat.
	proofOffset *time.Duration
	err         *oauthError
	trace       span.Span // the request's whole; none where it is not traced
	// folded: it is one of many failures, and the log has one line for all.
	folded bool
}

// handlerFunc answers one endpoint, or returns the error to answer with.
type handlerFunc func(w http.ResponseWriter, r *http.Request, ev *event) error

// authenticated is the client that has proven to be one with this request; "": none.
func (ev *event) authenticated() string {
	if ev.endpoint == "verify" {
		return ev.gatewayID
	}
	return ev.clientID
}

// endpoint is what all endpoints have in common: the request id, the error's
// answer, one log line and the metrics.
func (s *Server) endpoint(d *door, name string, h handlerFunc) http.Handler {
	answer := again(h)
	return d.through(name, func(w http.ResponseWriter, r *http.Request, a *attempt) {
		ev := &event{endpoint: name, requestID: newRequestID(), remote: a.from.remote, userAgent: r.UserAgent(), started: a.arrived}
		w.Header().Set("X-Request-Id", ev.requestID)
		w.Header().Set("X-Content-Type-Options", "nosniff")
		rec := &statusRecorder{ResponseWriter: w}
		defer func() {
			if p := recover(); p != nil {
				s.log.Error("panic", "request_id", ev.requestID, "endpoint", name, "panic", p, "stack", string(debug.Stack()))
				ev.err = answerTo(errPanicked)
				if rec.status == 0 {
					ev.err.write(rec)
				}
			}
			ev.status = rec.status
			s.finish(r.Context(), ev, a)
		}()
		// What has begun is finished though its client may have gone: to break a
		// statement off costs a connection to the database, and a stranger could
		// break off any number. And no database is waited for without an end.
		ctx := context.WithValue(context.WithoutCancel(r.Context()), attemptKey{}, a)
		ctx, cancel := context.WithTimeout(s.tracing.begin(ctx, r, ev), requestTimeout)
		defer cancel()
		if err := answer(rec, r.WithContext(ctx), ev); err != nil {
			ev.err = s.limited(ev, a, answerTo(err))
			_, answering := s.step(ctx, "answer")
			ev.err.write(rec)
			answering.end(nil)
		} else {
			a.whole = true
			s.failures.proved(a, ev.authenticated())
		}
	})
}

// maxRequestAttrs is how many a line in the log may have: room for them is made once.
const maxRequestAttrs = 19

// requestTimeout bounds a request from its header on; it then gets a 503.
const requestTimeout = 5 * time.Second

var errPanicked = errors.New("the handler panicked")

func (s *Server) finish(ctx context.Context, ev *event, a *attempt) {
	elapsed := time.Since(ev.started)
	outcome := "ok"
	if ev.err != nil {
		outcome = ev.err.code
	}
	s.metrics.observe(ev, elapsed)
	ev.endTrace(outcome)
	if ev.err != nil {
		s.noteRefusal(ev, a)
	}
	var retired *retiredSecret
	if ev.err != nil && errors.As(ev.err, &retired) {
		s.noteRetiredSecret(ev, retired)
	}
	var key *refusedKey
	if ev.err != nil && errors.As(ev.err, &key) {
		s.noteRefusedKey(ev, key)
	}
	var endorsement *refusedEndorsement
	if ev.err != nil && errors.As(ev.err, &endorsement) {
		s.noteRefusedEndorsement(ev, endorsement)
	}

	if ev.folded || ev.err != nil && isShed(ev.err) {
		return
	}
	attrs := append(make([]slog.Attr, 0, maxRequestAttrs),
		slog.String("request_id", ev.requestID),
		slog.String("endpoint", ev.endpoint),
		slog.Int("status", ev.status),
		slog.String("outcome", outcome),
		slog.Float64("elapsed_ms", float64(elapsed.Microseconds())/1000),
		slog.String("remote", ev.remote),
	)
	for _, a := range []struct{ key, value string }{
		{"client_id", ev.clientID}, {"gateway", ev.gatewayID}, {"credential", ev.credential}, {"resource", ev.resource}, {"jkt", ev.jkt}, {"x5t", ev.x5t}, {"token_type", ev.tokenType}, {"trace_id", ev.trace.TraceID()},
	} {
		if a.value != "" {
			attrs = append(attrs, slog.String(a.key, a.value))
		}
	}
	if ev.jti != (JTI{}) {
		attrs = append(attrs, slog.String("jti", ev.jti.String()))
	}
	if ev.call != "" && s.log.Enabled(ctx, slog.LevelDebug) {
		attrs = append(attrs, slog.String("call", ev.call))
	}
	if ev.active != nil {
		attrs = append(attrs, slog.Bool("active", *ev.active))
	}
	level := slog.LevelInfo
	if ev.err != nil {
		attrs = append(attrs, slog.String("cause", ev.err.Error()))
		level = slog.LevelWarn
		if ev.status >= 500 {
			level = slog.LevelError
		}
		if check := ev.err.failedCheck(); check.name != "" {
			attrs = append(attrs, slog.String("check", check.name))
		}
	}
	s.log.LogAttrs(ctx, level, "request", attrs...)
}

// newRequestID is the server's own: one that a client sends is not taken over,
// since it could forge log lines to be another's.
func newRequestID() string {
	var b [12]byte
	rand.Read(b[:]) // never fails (crypto/rand)
	return hex.EncodeToString(b[:])
}

type statusRecorder struct {
	http.ResponseWriter
	status int
}

func (w *statusRecorder) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusRecorder) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(b)
}

// Unwrap serves http.ResponseController.
func (w *statusRecorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }
