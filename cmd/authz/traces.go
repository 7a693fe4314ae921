package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	"go.opentelemetry.io/otel/sdk/trace"

	"github.com/cargokey/authz/authz"
)

// traces is where spans go. Nil: nowhere.
type traces struct {
	provider *trace.TracerProvider
	config   authz.Traces
	once     sync.Once
}

// traces begins to send what OpenTelemetry's own variables say, to where they say.
// Nothing is connected to before there is something to send.
func (c *config) traces(ctx context.Context, getenv func(string) string, log *slog.Logger) (*traces, error) {
	parents, err := c.traceParents()
	if err != nil {
		return nil, err
	}
	settings, err := readTraceSettings(getenv)
	if err != nil || settings == nil {
		return nil, err
	}
	about, err := describeInstance(ctx)
	if err != nil {
		return nil, err
	}
	options := []otlptracehttp.Option{
		otlptracehttp.WithEndpointURL(settings.endpoint), otlptracehttp.WithHeaders(settings.headers),
		otlptracehttp.WithTimeout(settings.timeout), otlptracehttp.WithCompression(settings.compression),
	}
	if settings.tls != nil {
		options = append(options, otlptracehttp.WithTLSClientConfig(settings.tls))
	}
	exporter, err := otlptracehttp.New(ctx, options...)
	if err != nil {
		return nil, fmt.Errorf("exporting traces: %w", err)
	}
	lost := &lostTraces{log: log, now: time.Now}
	for _, secret := range settings.headers {
		lost.secrets = append(lost.secrets, secret)
	}
	// What the collector takes only part of, the exporter tells of here alone, and else
	// it would go to standard error as text.
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { lost.note(0, err) }))
	provider := trace.NewTracerProvider(trace.WithResource(about), trace.WithSampler(settings.sampler),
		trace.WithBatcher(reportingExporter{exporter, lost}))
	log.Info("requests are traced", "endpoint", settings.endpoint)
	return &traces{provider: provider, config: authz.Traces{
		Provider: provider, Parents: parents, IgnoreCallers: settings.ignoreCallers,
	}}, nil
}

// traceParents are networks whose traceparent counts.
func (c *config) traceParents() ([]netip.Prefix, error) {
	var networks []netip.Prefix
	for _, text := range c.TraceParents {
		network, err := netip.ParsePrefix(strings.TrimSpace(text))
		if err != nil || network != network.Masked() {
			return nil, badValue("AUTHZ_TRACE_PARENTS", text, fieldTag("TraceParents", "desc"))
		}
		networks = append(networks, network)
	}
	return networks, nil
}

// describeInstance is what all spans of this process have in common.
func describeInstance(ctx context.Context) (*resource.Resource, error) {
	var id [8]byte
	rand.Read(id[:]) // never fails (crypto/rand)
	about, err := resource.New(ctx, resource.WithTelemetrySDK(),
		resource.WithAttributes(
			attribute.String("service.name", "authz"), attribute.String("service.version", thisBuild().Version),
			attribute.String("service.instance.id", hex.EncodeToString(id[:]))),
		resource.WithFromEnv()) // comes last, and so it counts
	if err != nil { // whose text quotes the value
		return nil, badSetting(otelResource, "it is name=value,…, with what is special in percent-encoding")
	}
	return about, nil
}

// tracesFlush is how long the last spans have to reach the collector.
const tracesFlush = 3 * time.Second

// end sends what has not been sent. Nothing is traced from then on.
func (t *traces) end() {
	if t == nil {
		return
	}
	t.once.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), tracesFlush)
		defer cancel()
		if err := t.provider.Shutdown(ctx); err != nil {
			otel.Handle(err)
		}
	})
}

// reportingExporter reports what it cannot deliver to the log, and nobody else.
type reportingExporter struct {
	trace.SpanExporter
	lost *lostTraces
}

func (e reportingExporter) ExportSpans(ctx context.Context, spans []trace.ReadOnlySpan) error {
	if err := e.SpanExporter.ExportSpans(ctx, spans); err != nil {
		e.lost.note(len(spans), err)
	}
	return nil
}

// lostTracesEvery is how often the log has a line about traces that are lost, at most.
const lostTracesEvery = time.Minute

// lostTraces tells the log of traces that could not be delivered, now and then.
type lostTraces struct {
	log     *slog.Logger
	now     func() time.Time
	secrets []string // that a collector may repeat in its answer

	mu    sync.Mutex
	last  time.Time
	spans int // since then
}

func (l *lostTraces) note(spans int, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.spans += spans
	now := l.now()
	if !l.last.IsZero() && now.Sub(l.last) < lostTracesEvery {
		return
	}
	l.log.Warn("traces are lost, and requests go on as ever", "spans", l.spans, "cause", l.printable(err.Error()))
	l.last, l.spans = now, 0
}

// maxTraceCause bounds what the log says of a collector's answer, in bytes.
const maxTraceCause = 300

func (l *lostTraces) printable(text string) string {
	for _, secret := range l.secrets {
		if secret != "" {
			text = strings.ReplaceAll(text, secret, "REDACTED")
		}
	}
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return ' '
		}
		return r
	}, text)
	return text[:min(len(text), maxTraceCause)]
}
