package postgres

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/cargokey/authz/internal/span"
)

// Traced has statements traced (OpenTelemetry) below the span that their context has:
// that there was one, how long it took, and by what code it failed. Neither its text
// nor its parameters.
func Traced() Option { return func(c *opening) { c.traced = true } }

// statementTracer is pgx's own hook.
type statementTracer struct{}

func (statementTracer) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	ctx, _ = span.Begin(ctx, "statement", ofStatement()...)
	return ctx
}

func (statementTracer) TraceQueryEnd(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryEndData) {
	endSpan(span.Of(ctx), data.Err)
}

func ofStatement(more ...attribute.KeyValue) []trace.SpanStartOption {
	return []trace.SpanStartOption{
		trace.WithSpanKind(trace.SpanKindClient),
		trace.WithAttributes(append(more, attribute.String("db.system.name", "postgresql"))...),
	}
}

// spans begins one in the trace of each request that a statement is made for: all
// begin and end as it does. They say how many requests it is for, and link to the
// first of them, by which one can tell that it was one. The context is for what is
// not to be traced once more.
func (g *group[Q, A]) spans(ctx context.Context, batch []*question[Q, A]) (context.Context, []span.Span) {
	if g.traced == "" {
		return ctx, nil
	}
	var all []span.Span
	for _, q := range batch {
		if !q.asker.Records() {
			continue
		}
		q.waits.End()
		options := ofStatement(attribute.Int("authz.statement.requests", len(batch)))
		if len(all) > 0 {
			options = append(options, trace.WithLinks(all[0].Link()))
		}
		all = append(all, q.asker.Begin(g.traced, options...))
	}
	return span.Without(ctx), all
}

// endSpan says by what a statement has failed: Postgres's code (SQLSTATE), or that
// nobody waited any longer, or that there was no answer.
func endSpan(s span.Span, err error) {
	var refused *pgconn.PgError
	switch {
	case err == nil:
	case errors.As(err, &refused):
		s.Set(attribute.String("db.response.status_code", refused.Code))
		s.Fail(refused.Code)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		s.Fail("timeout")
	default:
		s.Fail("_OTHER")
	}
	s.End()
}
