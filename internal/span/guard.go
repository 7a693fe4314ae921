package span

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// Guard lets of the spans that others begin, such as fosite, only pass what nobody
// can have put a secret into: their names, their times, and whether they failed.
// fosite writes the text of each error into them, whose causes are for the log.
func Guard(p trace.TracerProvider) trace.TracerProvider { return guard{p} }

type guard struct{ trace.TracerProvider }

func (g guard) Tracer(name string, options ...trace.TracerOption) trace.Tracer {
	t := g.TracerProvider.Tracer(name, options...)
	if name == Scope {
		return ownTracer{t, g}
	}
	return strangeTracer{t, g}
}

// ownTracer has whoever takes the provider from a span of its own get the guard.
type ownTracer struct {
	trace.Tracer
	guard guard
}

func (t ownTracer) Start(ctx context.Context, name string, options ...trace.SpanStartOption) (context.Context, trace.Span) {
	ctx, s := t.Tracer.Start(ctx, name, options...)
	s = ownSpan{s, t.guard}
	return trace.ContextWithSpan(ctx, s), s
}

type ownSpan struct {
	trace.Span
	guard guard
}

func (s ownSpan) TracerProvider() trace.TracerProvider { return s.guard }

type strangeTracer struct {
	trace.Tracer
	guard guard
}

func (t strangeTracer) Start(ctx context.Context, name string, _ ...trace.SpanStartOption) (context.Context, trace.Span) {
	ctx, s := t.Tracer.Start(ctx, name)
	s = strangeSpan{ownSpan{s, t.guard}}
	return trace.ContextWithSpan(ctx, s), s
}

type strangeSpan struct{ ownSpan }

func (s strangeSpan) SetStatus(code codes.Code, _ string)   { s.ownSpan.SetStatus(code, "") }
func (strangeSpan) SetAttributes(...attribute.KeyValue)     {}
func (strangeSpan) SetName(string)                          {}
func (strangeSpan) RecordError(error, ...trace.EventOption) {}
func (strangeSpan) AddEvent(string, ...trace.EventOption)   {}
func (strangeSpan) AddLink(trace.Link)                      {}
func (s strangeSpan) End(...trace.SpanEndOption)            { s.ownSpan.End() }
