package authz

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/cargokey/authz/internal/span"
)

// instrumented is all that a token request does to be traced, and nothing else: here,
// in dpopfosite, and in storage/postgres, which does nothing but where it was opened to.
func (s *Server) instrumented(ctx context.Context, r *http.Request, ev *event) {
	ctx = s.tracing.begin(ctx, r, ev)
	_, parsing := s.step(ctx, "parse")
	parsing.end(nil)
	_, checking := span.Begin(ctx, "check")
	checking.End()
	_, authenticating := s.step(ctx, "authenticate")
	authenticating.end(nil)
	_, verifying := span.Begin(ctx, "verify")
	verifying.End()
	_, minting := s.step(ctx, "mint")
	minting.end(nil)
	_, recording := s.step(ctx, "spend and record")
	recording.end(nil)
	_, answering := s.step(ctx, "answer")
	answering.end(nil)
	ev.endTrace("ok")
}

// requestContext is what a request's is like: as deep as net/http and the endpoint
// make it.
func requestContext(t testing.TB) (context.Context, *http.Request) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, pathToken, nil)
	ctx := context.WithValue(r.Context(), http.ServerContextKey, 1)
	ctx = context.WithValue(ctx, http.LocalAddrContextKey, 2)
	ctx, cancel := context.WithCancel(ctx)
	t.Cleanup(cancel)
	ctx = context.WithValue(context.WithoutCancel(ctx), attemptKey{}, 3)
	ctx, cancel = context.WithTimeout(ctx, time.Hour)
	t.Cleanup(cancel)
	return ctx, r
}

func TestTracingThatIsOffAllocatesNothing(t *testing.T) {
	s := &Server{}
	ctx, r := requestContext(t)
	ev := &event{endpoint: "token", requestID: "x"}
	if n := testing.AllocsPerRun(100, func() { s.instrumented(ctx, r, ev) }); n != 0 {
		t.Errorf("%g allocations for each request", n)
	}
}

func BenchmarkTracingThatIsOff(b *testing.B) {
	s := &Server{}
	ctx, r := requestContext(b)
	ev := &event{endpoint: "token", requestID: "x"}
	b.ReportAllocs()
	for b.Loop() {
		s.instrumented(ctx, r, ev)
	}
}

// What it costs where it is on: all that a token request has in its trace, sampled and
// not. Sending is not in it.
func BenchmarkTracingThatIsOn(b *testing.B) {
	for _, sampler := range []sdktrace.Sampler{sdktrace.AlwaysSample(), sdktrace.NeverSample()} {
		b.Run(sampler.Description(), func(b *testing.B) {
			provider := sdktrace.NewTracerProvider(sdktrace.WithSampler(sampler), sdktrace.WithBatcher(nowhere{}))
			defer provider.Shutdown(context.WithoutCancel(b.Context()))
			s := &Server{tracing: newTracing(Traces{Provider: provider})}
			ctx, r := requestContext(b)
			b.ReportAllocs()
			for b.Loop() {
				s.instrumented(ctx, r, &event{endpoint: "token", requestID: "x", started: time.Now(), clientID: "y", jkt: "z"})
			}
		})
	}
}

type nowhere struct{}

func (nowhere) ExportSpans(context.Context, []sdktrace.ReadOnlySpan) error { return nil }
func (nowhere) Shutdown(context.Context) error                             { return nil }
