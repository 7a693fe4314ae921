// Package spantest is a collector of traces, for tests: OTLP over HTTP, as the
// server's exporter speaks it.
package spantest

import (
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	trace "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// Collector keeps what it is sent.
type Collector struct {
	URL string // its base

	mu    sync.Mutex
	bytes strings.Builder
	heads []http.Header
	spans []Span
}

// Span is one that was received.
type Span struct {
	*trace.Span
	Scope      string
	Attributes map[string]any // string or int64
	Resource   map[string]any
}

// New starts one, which the test's end stops.
func New(t testing.TB) *Collector {
	t.Helper()
	c := &Collector{}
	server := httptest.NewServer(http.HandlerFunc(c.receive))
	t.Cleanup(server.Close)
	c.URL = server.URL
	return c
}

// NewTLS starts one with TLS, and returns the certificate to trust, in PEM.
func NewTLS(t testing.TB) (c *Collector, certificate []byte) {
	t.Helper()
	c = &Collector{}
	server := httptest.NewTLSServer(http.HandlerFunc(c.receive))
	t.Cleanup(server.Close)
	c.URL = server.URL
	return c, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
}

func (c *Collector) receive(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var message collector.ExportTraceServiceRequest
	if err == nil {
		err = proto.Unmarshal(body, &message)
	}
	if err != nil || r.Method != http.MethodPost || r.URL.Path != "/v1/traces" || r.Header.Get("Content-Type") != "application/x-protobuf" {
		http.Error(w, "not OTLP", http.StatusBadRequest)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.bytes.Write(body)
	c.heads = append(c.heads, r.Header)
	for _, of := range message.ResourceSpans {
		for _, in := range of.ScopeSpans {
			for _, s := range in.Spans {
				c.spans = append(c.spans, Span{s, in.Scope.GetName(), attributes(s.Attributes), attributes(of.Resource.GetAttributes())})
			}
		}
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
}

func attributes(all []*common.KeyValue) map[string]any {
	m := map[string]any{}
	for _, a := range all {
		switch v := a.Value.GetValue().(type) {
		case *common.AnyValue_StringValue:
			m[a.Key] = v.StringValue
		case *common.AnyValue_IntValue:
			m[a.Key] = v.IntValue
		default:
			m[a.Key] = a.Value.String()
		}
	}
	return m
}

// Bytes are all that it was sent, as it came.
func (c *Collector) Bytes() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.bytes.String()
}

// Headers are those of the requests that it was sent.
func (c *Collector) Headers() []http.Header {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]http.Header(nil), c.heads...)
}

// Spans are all that it was sent.
func (c *Collector) Spans() []Span {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]Span(nil), c.spans...)
}

// patience is how long a test waits for what must happen.
const patience = 30 * time.Second

// Trace waits for the root span of the request with this id, and returns it with all
// others of its trace that are here by then: a batch has those that ended before.
func (c *Collector) Trace(t testing.TB, requestID string) (root Span, others []Span) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		all := c.Spans()
		for _, s := range all {
			if s.Attributes["authz.request_id"] == requestID {
				root = s
			}
		}
		if root.Span != nil {
			for _, s := range all {
				if string(s.TraceId) == string(root.TraceId) && s.Span != root.Span {
					others = append(others, s)
				}
			}
			return root, others
		}
		if time.Now().After(deadline) {
			t.Fatalf("no trace of request %s among %d spans", requestID, len(all))
		}
	}
}
