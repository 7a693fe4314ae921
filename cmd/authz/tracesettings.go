package main

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/trace"
)

// OpenTelemetry's variables, as its specification names them. Of otlp… there is one
// for traces alone, which counts before the one for all signals. The SDK reads
// OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES, OTEL_BSP_… and OTEL_SPAN_… by itself.
const (
	otelDisabled    = "OTEL_SDK_DISABLED"
	otelExporter    = "OTEL_TRACES_EXPORTER"
	otelSampler     = "OTEL_TRACES_SAMPLER"
	otelSamplerArg  = "OTEL_TRACES_SAMPLER_ARG"
	otelPropagators = "OTEL_PROPAGATORS"
	otelResource    = "OTEL_RESOURCE_ATTRIBUTES"

	otlpEndpoint          = "ENDPOINT"
	otlpProtocol          = "PROTOCOL"
	otlpHeaders           = "HEADERS"
	otlpTimeout           = "TIMEOUT"
	otlpCompression       = "COMPRESSION"
	otlpCertificate       = "CERTIFICATE"
	otlpClientCertificate = "CLIENT_CERTIFICATE"
	otlpClientKey         = "CLIENT_KEY"
)

// traceSettings are what the variables say.
type traceSettings struct {
	endpoint      string // a URL without credentials
	headers       map[string]string
	timeout       time.Duration
	compression   otlptracehttp.Compression
	tls           *tls.Config // nil: the system's authorities, and no certificate of its own
	sampler       trace.Sampler
	ignoreCallers bool
}

// traceEnvironment looks variables up; one that is empty is as if it were not set.
type traceEnvironment func(name string) string

// otlp is the variable that counts, and its value.
func (env traceEnvironment) otlp(which string) (name, value string) {
	name = "OTEL_EXPORTER_OTLP_TRACES_" + which
	if value = env(name); value == "" {
		name = "OTEL_EXPORTER_OTLP_" + which
		value = env(name)
	}
	return name, value
}

// readTraceSettings is nil where nothing is to be traced. What it does not know it
// refuses, whatever the specification lets it pass over: nobody looks for traces that
// are missing until he needs them. What a variable holds is not repeated where it may
// be a secret.
func readTraceSettings(env traceEnvironment) (*traceSettings, error) {
	switch disabled := strings.ToLower(env(otelDisabled)); disabled {
	case "true":
		return nil, nil
	case "", "false":
	default:
		return nil, badSetting(otelDisabled, "it is true or false")
	}
	_, endpoint := env.otlp(otlpEndpoint)
	switch exporter := env(otelExporter); {
	case exporter == "none", exporter == "" && endpoint == "":
		return nil, nil
	case exporter != "" && exporter != "otlp":
		return nil, badSetting(otelExporter, "this server knows otlp and none")
	}
	if name, protocol := env.otlp(otlpProtocol); protocol != "" && protocol != "http/protobuf" {
		return nil, badSetting(name, "this server knows http/protobuf alone, which collectors take on port 4318")
	}
	var s traceSettings
	for _, read := range []func(traceEnvironment) error{
		s.readEndpoint, s.readHeaders, s.readTimeout, s.readCompression, s.readTLS, s.readSampler, s.readPropagators,
	} {
		if err := read(env); err != nil {
			return nil, err
		}
	}
	return &s, nil
}

func badSetting(variable, may string) error {
	return fmt.Errorf("%s is not one that can be used: %s", variable, may)
}

func (s *traceSettings) readEndpoint(env traceEnvironment) error {
	name, text := env.otlp(otlpEndpoint)
	u, err := url.Parse(cmp.Or(text, "http://localhost:4318"))
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" ||
		u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return badSetting(name, "it is http://host:port or https://host:port; credentials are for OTEL_EXPORTER_OTLP_HEADERS")
	}
	// The one for all signals is a base, the other the URL itself.
	if !strings.Contains(name, "_TRACES_") {
		u = u.JoinPath("v1", "traces")
	}
	s.endpoint = u.String()
	return nil
}

var headerName = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+.^_`|~-]+$") // RFC 9110 §5.6.2

// readHeaders reads name=value,…, percent-encoded as a W3C baggage is.
func (s *traceSettings) readHeaders(env traceEnvironment) error {
	name, text := env.otlp(otlpHeaders)
	s.headers = map[string]string{}
	if text == "" {
		return nil
	}
	for pair := range strings.SplitSeq(text, ",") {
		header, raw, ok := strings.Cut(pair, "=")
		value, err := url.PathUnescape(strings.TrimSpace(raw))
		if header = strings.TrimSpace(header); !ok || err != nil || !headerName.MatchString(header) || strings.ContainsAny(value, "\r\n\x00") {
			return badSetting(name, "it is name=value,…, with what is special in percent-encoding")
		}
		s.headers[header] = value
	}
	return nil
}

func (s *traceSettings) readTimeout(env traceEnvironment) error {
	name, text := env.otlp(otlpTimeout)
	ms, err := strconv.ParseUint(cmp.Or(text, "10000"), 10, 31)
	if err != nil || ms == 0 {
		return badSetting(name, "it is a number of milliseconds")
	}
	s.timeout = time.Duration(ms) * time.Millisecond
	return nil
}

func (s *traceSettings) readCompression(env traceEnvironment) error {
	switch name, text := env.otlp(otlpCompression); text {
	case "", "none":
		s.compression = otlptracehttp.NoCompression
	case "gzip":
		s.compression = otlptracehttp.GzipCompression
	default:
		return badSetting(name, "it is gzip or none")
	}
	return nil
}

func (s *traceSettings) readTLS(env traceEnvironment) error {
	authorities, caFile := env.otlp(otlpCertificate)
	certificate, certFile := env.otlp(otlpClientCertificate)
	_, keyFile := env.otlp(otlpClientKey)
	if caFile == "" && certFile == "" && keyFile == "" {
		return nil
	}
	s.tls = &tls.Config{MinVersion: tls.VersionTLS12}
	if caFile != "" {
		text, err := os.ReadFile(caFile)
		if err != nil {
			return fmt.Errorf("%s: %w", authorities, err)
		}
		if s.tls.RootCAs = x509.NewCertPool(); !s.tls.RootCAs.AppendCertsFromPEM(text) {
			return badSetting(authorities, "it is a file of certificates in PEM")
		}
	}
	if certFile == "" && keyFile == "" {
		return nil
	}
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return fmt.Errorf("%s and its key: %w", certificate, err)
	}
	s.tls.Certificates = []tls.Certificate{pair}
	return nil
}

// readSampler knows the specification's own samplers.
func (s *traceSettings) readSampler(env traceEnvironment) error {
	name := cmp.Or(env(otelSampler), "parentbased_always_on")
	kind, byParent := strings.CutPrefix(name, "parentbased_")
	switch kind {
	case "always_on":
		s.sampler = trace.AlwaysSample()
	case "always_off":
		s.sampler = trace.NeverSample()
	case "traceidratio":
		ratio, err := readRatio(env(otelSamplerArg))
		if err != nil {
			return badSetting(otelSamplerArg, "it is a ratio of 0 to 1")
		}
		s.sampler = trace.TraceIDRatioBased(ratio)
	default:
		return badSetting(otelSampler, "it is always_on, always_off or traceidratio, or one of them after parentbased_")
	}
	if byParent {
		s.sampler = trace.ParentBased(s.sampler)
	}
	return nil
}

func readRatio(text string) (float64, error) {
	ratio, err := strconv.ParseFloat(cmp.Or(text, "1"), 64)
	if err == nil && !(ratio >= 0 && ratio <= 1) {
		err = errors.New("out of range")
	}
	return ratio, err
}

// readPropagators: of baggage nothing is read, and so it can be named.
func (s *traceSettings) readPropagators(env traceEnvironment) error {
	text := env(otelPropagators)
	s.ignoreCallers = text != ""
	if text == "" || text == "none" {
		return nil
	}
	for one := range strings.SplitSeq(text, ",") {
		switch strings.TrimSpace(one) {
		case "tracecontext":
			s.ignoreCallers = false
		case "baggage":
		default:
			return badSetting(otelPropagators, "this server knows tracecontext, baggage and none")
		}
	}
	return nil
}
