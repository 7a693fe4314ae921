package main

import (
	"errors"
	"log/slog"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func environmentOf(pairs map[string]string) traceEnvironment {
	return func(name string) string { return pairs[name] }
}

func TestTracesAreOffUnlessTheEnvironmentTurnsThemOn(t *testing.T) {
	const endpoint = "OTEL_EXPORTER_OTLP_ENDPOINT"
	for _, c := range []struct {
		env  map[string]string
		want string // the endpoint; "": off
	}{
		{nil, ""},
		{map[string]string{"OTEL_SERVICE_NAME": "auth", "OTEL_TRACES_SAMPLER": "nonsense"}, ""},
		{map[string]string{"OTEL_TRACES_EXPORTER": "none", endpoint: "http://c:4318"}, ""},
		{map[string]string{"OTEL_SDK_DISABLED": "TRUE", endpoint: "http://c:4318"}, ""},
		{map[string]string{"OTEL_SDK_DISABLED": "false", endpoint: "http://c:4318"}, "http://c:4318/v1/traces"},
		{map[string]string{"OTEL_TRACES_EXPORTER": "otlp"}, "http://localhost:4318/v1/traces"},
		{map[string]string{endpoint: "https://c/base/"}, "https://c/base/v1/traces"},
		{map[string]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://t:1/elsewhere", endpoint: "http://c:4318"}, "http://t:1/elsewhere"},
		{map[string]string{endpoint: "http://c:4318", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf"}, "http://c:4318/v1/traces"},
	} {
		s, err := readTraceSettings(environmentOf(c.env))
		got := ""
		if s != nil {
			got = s.endpoint
		}
		if err != nil || got != c.want {
			t.Errorf("%v: %q, %v; want %q", c.env, got, err, c.want)
		}
	}
}

func TestTraceSettingThatIsNotKnownIsRefusedAndNotRepeated(t *testing.T) {
	const private = "sesame"
	for _, c := range []struct{ variable, value, says string }{
		{"OTEL_SDK_DISABLED", private, "true or false"},
		{"OTEL_TRACES_EXPORTER", "console," + private, "otlp and none"},
		{"OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "http/protobuf"},
		{"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json", "http/protobuf"},
		{"OTEL_EXPORTER_OTLP_ENDPOINT", private + ":4318", "http://host:port"},
		{"OTEL_EXPORTER_OTLP_ENDPOINT", "unix:///" + private, "http://host:port"},
		{"OTEL_EXPORTER_OTLP_ENDPOINT", "http://user:" + private + "@c:4318", "OTEL_EXPORTER_OTLP_HEADERS"},
		{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://c/v1/traces?key=" + private, "OTEL_EXPORTER_OTLP_HEADERS"},
		{"OTEL_EXPORTER_OTLP_HEADERS", "api-key" + private, "name=value"},
		{"OTEL_EXPORTER_OTLP_HEADERS", "api key=" + private, "name=value"},
		{"OTEL_EXPORTER_OTLP_HEADERS", "api-key=" + private + "%0d%0aHost:x", "name=value"},
		{"OTEL_EXPORTER_OTLP_TRACES_HEADERS", "api-key=%" + private, "name=value"},
		{"OTEL_EXPORTER_OTLP_TIMEOUT", "10s", "milliseconds"},
		{"OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "0", "milliseconds"},
		{"OTEL_EXPORTER_OTLP_COMPRESSION", "zstd", "gzip or none"},
		{"OTEL_EXPORTER_OTLP_CERTIFICATE", "/nowhere/ca.pem", "no such file"},
		{"OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "/nowhere/cert.pem", "and its key"},
		{"OTEL_TRACES_SAMPLER", "jaeger_remote", "traceidratio"},
		{"OTEL_TRACES_SAMPLER", "parentbased_", "traceidratio"},
		{"OTEL_TRACES_SAMPLER_ARG", "1.5", "0 to 1"},
		{"OTEL_TRACES_SAMPLER_ARG", "NaN", "0 to 1"},
		{"OTEL_PROPAGATORS", "tracecontext,b3", "tracecontext, baggage and none"},
	} {
		env := map[string]string{"OTEL_TRACES_EXPORTER": "otlp", "OTEL_TRACES_SAMPLER": "traceidratio"}
		maps.Copy(env, map[string]string{c.variable: c.value})
		_, err := readTraceSettings(environmentOf(env))
		if err == nil || !strings.Contains(err.Error(), c.variable) || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), private) {
			t.Errorf("%s=%s: %v, want %q", c.variable, c.value, err, c.says)
		}
	}
}

func TestTraceSettingsAreThoseOfTheEnvironment(t *testing.T) {
	s, err := readTraceSettings(environmentOf(map[string]string{
		"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_HEADERS": "api-key=a%20b%2C, x=y", "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT": "250",
		"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.25", "OTEL_PROPAGATORS": "baggage",
	}))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{"api-key": "a b,", "x": "y"}, s.headers); diff != "" {
		t.Errorf("headers (-want +got):\n%s", diff)
	}
	if s.timeout != 250*time.Millisecond || !s.ignoreCallers || !strings.HasPrefix(s.sampler.Description(), "ParentBased{root:TraceIDRatioBased{0.25}") {
		t.Errorf("%s, %t, %s", s.timeout, s.ignoreCallers, s.sampler.Description())
	}
}

func TestLostTracesAreToldOfOnceAMinuteAndWithoutSecrets(t *testing.T) {
	var out output
	now := time.Unix(0, 0)
	l := &lostTraces{log: slog.New(slog.NewJSONHandler(&out, nil)), now: func() time.Time { return now }, secrets: []string{"sesame"}}
	for range 120 {
		l.note(2, errors.New("401: sesame is\nno key "+strings.Repeat("x", 1000)))
		now = now.Add(time.Second)
	}
	text := out.String()
	if n := strings.Count(text, "\n"); n != 2 {
		t.Errorf("%d lines in two minutes", n)
	}
	if !strings.Contains(text, `"spans":2,`) || !strings.Contains(text, `"spans":120,`) || strings.Contains(text, "sesame") || len(text) > 1500 {
		t.Errorf("%s", text)
	}
}
