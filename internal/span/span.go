// Package span is how a request's trace comes by its spans (OpenTelemetry). A step
// is traced where its context has a span that records, and otherwise costs a look
// for one.
//
// What a span says is from closed sets, or the server's own word for something: its
// callers see to it, and never hand it an error's text. Guard sees to it for what
// others trace meanwhile.
package span

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// Scope is the instrumentation scope of all spans that are begun here.
const Scope = "github.com/cargokey/authz"

// Span is a span of a request's trace. The zero Span is none: to do anything with it
// does nothing.
type Span struct{ of trace.Span }

// Of is the span that ctx has, if it records.
func Of(ctx context.Context) Span {
	if s := trace.SpanFromContext(ctx); s.IsRecording() {
		return Span{s}
	}
	return Span{}
}

// Root begins a trace. It is no Span where it is not sampled, and then its context
// says so to those who begin spans in it.
func Root(ctx context.Context, t trace.Tracer, name string, options ...trace.SpanStartOption) (context.Context, Span) {
	ctx, _ = t.Start(ctx, name, options...)
	return ctx, Of(ctx)
}

// Begin begins a step below the span that ctx has. The step's context is for what
// it consists of.
func Begin(ctx context.Context, name string, options ...trace.SpanStartOption) (context.Context, Span) {
	parent := trace.SpanFromContext(ctx)
	if !parent.IsRecording() {
		return ctx, Span{}
	}
	ctx, s := parent.TracerProvider().Tracer(Scope).Start(ctx, name, options...)
	return ctx, Span{s}
}

// Begin begins a step below s, from a goroutine that has no context of the request's.
func (s Span) Begin(name string, options ...trace.SpanStartOption) Span {
	if s.of == nil {
		return Span{}
	}
	_, child := Begin(trace.ContextWithSpan(context.Background(), s.of), name, options...)
	return child
}

// Without is ctx for what is not to be traced below the span that ctx has.
func Without(ctx context.Context) context.Context { return trace.ContextWithSpan(ctx, nil) }

// Records tells whether there is a span.
func (s Span) Records() bool { return s.of != nil }

// Set adds attributes.
func (s Span) Set(attributes ...attribute.KeyValue) {
	if s.of != nil {
		s.of.SetAttributes(attributes...)
	}
}

// Fail marks what has failed. kind is from a closed set, such as an OAuth error code:
// it becomes the attribute error.type.
func (s Span) Fail(kind string) {
	if s.of != nil {
		s.of.SetStatus(codes.Error, "")
		s.of.SetAttributes(attribute.String("error.type", kind))
	}
}

// End ends it. Whatever comes after its first end does nothing.
func (s Span) End() {
	if s.of != nil {
		s.of.End()
	}
}

// TraceID is the trace's, in hexadecimal, and "" where there is none.
func (s Span) TraceID() string {
	if s.of == nil {
		return ""
	}
	return s.of.SpanContext().TraceID().String()
}

// Link leads to s from the spans of other traces.
func (s Span) Link() trace.Link {
	if s.of == nil {
		return trace.Link{}
	}
	return trace.Link{SpanContext: s.of.SpanContext()}
}
