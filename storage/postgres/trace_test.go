package postgres

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/cargokey/authz/internal/span"
)

// tracedAsk asks as a request of its own trace does; of a multiple of five the request
// is not traced.
func tracedAsk(d *doubled, t trace.Tracer, n int) (answer int, err error) {
	ctx := context.Background()
	if n%5 != 0 {
		var root span.Span
		ctx, root = span.Root(ctx, t, "request")
		defer root.End()
	}
	return d.ask(ctx, n)
}

func TestEachRequestOfASharedStatementShowsItsWaitAndTheStatement(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		spans := tracetest.NewSpanRecorder()
		provider := span.Guard(sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans)))
		d := newDoubled(t)
		d.traced = "double"
		var wg sync.WaitGroup
		for n := range 6 { // the first goes alone, and is in nobody's trace
			wg.Go(func() {
				if got, err := tracedAsk(d, provider.Tracer(span.Scope), n); got != 2*n || err != nil {
					t.Errorf("%d: %d, %v", n, got, err)
				}
			})
			synctest.Wait()
		}
		wg.Wait()
		d.close()

		byRequest := map[trace.TraceID]map[string]sdktrace.ReadOnlySpan{}
		var statements []sdktrace.ReadOnlySpan
		for _, s := range spans.Ended() {
			id := s.SpanContext().TraceID()
			if byRequest[id] == nil {
				byRequest[id] = map[string]sdktrace.ReadOnlySpan{}
			}
			byRequest[id][s.Name()] = s
			if s.Name() == "double" {
				statements = append(statements, s)
			}
		}
		if len(byRequest) != 4 || len(statements) != 4 {
			t.Fatalf("%d traces, %d statements", len(byRequest), len(statements))
		}
		for _, of := range byRequest {
			root, wait, statement := of["request"], of["wait"], of["double"]
			if root == nil || wait == nil || statement == nil {
				t.Fatalf("a trace has %v", of)
			}
			for _, s := range []sdktrace.ReadOnlySpan{wait, statement} {
				if s.Parent().SpanID() != root.SpanContext().SpanID() {
					t.Errorf("%s is not the request's own", s.Name())
				}
			}
			if !wait.EndTime().Equal(statement.StartTime()) || !wait.StartTime().Before(wait.EndTime()) {
				t.Errorf("it waits from %s to %s, and the statement begins at %s", wait.StartTime(), wait.EndTime(), statement.StartTime())
			}
		}
		links := 0
		for _, s := range statements {
			if links += len(s.Links()); len(s.Links()) == 1 && s.Links()[0].SpanContext.SpanID() != statements[0].SpanContext().SpanID() {
				t.Error("a link to another than the first")
			}
			for _, a := range s.Attributes() {
				// Five of the six waited together: one of them is not traced.
				if a.Key == "authz.statement.requests" && a.Value.AsInt64() != 5 {
					t.Errorf("a statement for %d requests", a.Value.AsInt64())
				}
			}
		}
		if links != 3 {
			t.Errorf("%d links", links)
		}
	})
}

func TestRequestThatStopsWaitingEndsItsSpan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		spans := tracetest.NewSpanRecorder()
		provider := span.Guard(sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans)))
		d := newDoubled(t)
		d.traced = "double"
		for n := range groupStatements { // so that no other begins
			go d.ask(context.Background(), n+1)
			synctest.Wait()
			if n > 0 {
				d.hurry()
			}
		}
		synctest.Wait()
		ctx, root := span.Root(t.Context(), provider.Tracer(span.Scope), "request")
		ctx, cancel := context.WithCancel(ctx)
		done := make(chan error)
		go func() {
			_, err := d.ask(ctx, 9)
			done <- err
		}()
		synctest.Wait()
		cancel()
		if err := <-done; err == nil {
			t.Error("it has an answer")
		}
		root.End()
		d.close()
		if ended := spans.Ended(); len(ended) != 2 || ended[0].Name() != "wait" {
			t.Errorf("%d spans ended", len(ended))
		}
	})
}
