package authz

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"slices"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/cargokey/authz/dpopbind"
	"github.com/cargokey/authz/internal/span"
)

// Traces is how requests are traced (OpenTelemetry). The zero value: not at all, and
// at no cost.
type Traces struct {
	// Provider takes the spans; nil: nothing is traced.
	Provider trace.TracerProvider
	// Parents are networks of peers whose header traceparent (W3C Trace Context) is
	// taken for the parent of a request's trace: they choose its id, and whether it is
	// sampled. A stranger who may would hide his requests from who looks for them, or
	// put them into another's trace. To everyone else's there is a link.
	Parents []netip.Prefix
	// IgnoreCallers: to nobody's traceparent is there so much as a link.
	IgnoreCallers bool
}

// tracing is Traces in use.
type tracing struct {
	tracer trace.Tracer // nil: nothing is traced
	Traces
}

func newTracing(t Traces) tracing {
	if t.Provider == nil {
		return tracing{}
	}
	return tracing{span.Guard(t.Provider).Tracer(span.Scope), t}
}

// begin begins the trace of a request. What was refused for want of room has none.
func (t *tracing) begin(ctx context.Context, r *http.Request, ev *event) context.Context {
	if t.tracer == nil {
		return ctx
	}
	method, route := knownMethod(r.Method), routeOf[ev.endpoint]
	options := []trace.SpanStartOption{
		trace.WithSpanKind(trace.SpanKindServer), trace.WithTimestamp(ev.started),
		trace.WithAttributes(attribute.String("http.request.method", method), attribute.String("http.route", route)),
	}
	if caller := t.caller(r); caller.IsValid() && t.trusts(r.RemoteAddr) {
		ctx = trace.ContextWithRemoteSpanContext(ctx, caller)
	} else if caller.IsValid() {
		options = append(options, trace.WithLinks(trace.Link{SpanContext: caller}))
	}
	ctx, ev.trace = span.Root(ctx, t.tracer, method+" "+route, options...)
	_, waited := span.Begin(ctx, "arrive", trace.WithTimestamp(ev.started))
	waited.End()
	return ctx
}

// caller is what a request's one traceparent says, if it is well-formed. Its
// tracestate is left out: that is any text.
func (t *tracing) caller(r *http.Request) trace.SpanContext {
	values := r.Header.Values("Traceparent")
	if len(values) != 1 || t.IgnoreCallers {
		return trace.SpanContext{}
	}
	carrier := propagation.MapCarrier{"traceparent": values[0]}
	return trace.SpanContextFromContext(propagation.TraceContext{}.Extract(context.Background(), carrier))
}

func (t *tracing) trusts(peer string) bool {
	address, err := netip.ParseAddrPort(peer)
	return err == nil && slices.ContainsFunc(t.Parents, func(p netip.Prefix) bool { return p.Contains(address.Addr().Unmap()) })
}

// endTrace ends it: with what the log has of the request, as far as that is from a closed
// set or the server's own name for something.
func (ev *event) endTrace(outcome string) {
	if !ev.trace.Records() {
		return
	}
	ev.trace.Set(
		attribute.Int("http.response.status_code", ev.status), attribute.String("authz.request_id", ev.requestID),
		attribute.String("authz.endpoint", ev.endpoint), attribute.String("authz.outcome", outcome),
	)
	jti := ""
	if ev.jti != (JTI{}) {
		jti = ev.jti.String()
	}
	for _, a := range []struct{ key, value string }{
		{"authz.client_id", ev.clientID}, {"authz.gateway", ev.gatewayID}, {"authz.jkt", ev.jkt}, {"authz.jti", jti},
	} {
		if a.value != "" {
			ev.trace.Set(attribute.String(a.key, a.value))
		}
	}
	switch {
	case ev.status >= http.StatusInternalServerError:
		ev.trace.Fail(outcome)
	case ev.err != nil: // the client's mistake is none of the server's
		ev.trace.Set(attribute.String("error.type", outcome))
	}
	ev.trace.End()
}

// step begins a step of a request, which its end ends. What is done for it takes the
// context.
func (s *Server) step(ctx context.Context, name string) (context.Context, step) {
	if s.tracing.tracer == nil {
		return ctx, step{}
	}
	ctx, begun := span.Begin(ctx, name)
	return ctx, step{begun}
}

type step struct{ span span.Span }

// end says what it has failed with. That there is no such thing is an answer.
func (s step) end(err error) {
	if err != nil && s.span.Records() && !errors.Is(err, ErrNotFound) {
		s.span.Fail(errorType(err))
	}
	s.span.End()
}

// errorType is the OAuth error code that err leads to, or what OpenTelemetry says of
// all others.
func errorType(err error) string {
	var proof *dpopbind.ProofError
	switch answer := answerTo(err); {
	case answer.code != codeServerError:
		return answer.code
	case errors.As(err, &proof), errors.Is(err, ErrProofSpent):
		return codeInvalidProof
	case errors.Is(err, ErrClientChanged), errors.Is(err, ErrAssertionSpent):
		return codeInvalidClient
	}
	return "_OTHER"
}

var routeOf = map[string]string{
	"token": pathToken, "introspect": pathIntrospect, "revoke": pathRevoke, "dpop_keys": pathDPoPKeys,
	"metadata": pathMetadata, "jwks": pathJWKS, "verify": pathVerify,
}

// knownMethod is RFC 9110's and RFC 5789's, or what OpenTelemetry says of all others.
func knownMethod(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodConnect,
		http.MethodOptions, http.MethodTrace, http.MethodPatch:
		return method
	}
	return "_OTHER"
}
