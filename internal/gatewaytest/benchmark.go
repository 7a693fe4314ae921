package gatewaytest

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// connections is how many the benchmark keeps busy.
const connections = 16

// Benchmark measures calls a second through the gateway with the check and, by
// At.Unchecked, without, at 16 connections that stay open. Proofs are signed
// before the clock starts, and the API does nothing. Run it by -benchtime 20000x:
// proofs live for a minute.
func Benchmark(b *testing.B, g Gateway) {
	g.requireProgram(b)
	b.Run(g.Name, func(b *testing.B) {
		s := newSite(b, g)
		api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))
		b.Cleanup(api.Close)
		at := s.at(api.Listener.Addr().String())
		s.startGateway(at)
		h := s.issue(s.service, resource)
		proofs := s.proofs(h, b.N+connections)
		s.rate(h, proofs[b.N:]) // open the connections
		b.ResetTimer()
		checked := s.rate(h, proofs[:b.N])
		b.StopTimer()

		at = s.at(at.API)
		at.Unchecked = true
		s.startGateway(at)
		s.rate(h, proofs[b.N:])
		unchecked := s.rate(h, proofs[:b.N])
		b.ReportMetric(checked, "checked/s")
		b.ReportMetric(unchecked, "unchecked/s")
		b.ReportMetric(checked/unchecked, "ratio")
	})
}

// proofs are signed by all processors at once.
func (s *site) proofs(h holder, n int) []string {
	proofs := make([]string, n)
	var wg sync.WaitGroup
	for from := range connections {
		wg.Go(func() {
			for i := from; i < n; i += connections {
				proofs[i] = h.proof(s.t, "GET", s.base()+"/labels/none", "")
			}
		})
	}
	wg.Wait()
	return proofs
}

// rate is how many calls a second get through.
func (s *site) rate(h holder, proofs []string) float64 {
	s.t.Helper()
	transport := &http.Transport{MaxIdleConnsPerHost: connections, DisableCompression: true}
	defer transport.CloseIdleConnections()
	var next atomic.Int64
	errs := make(chan error, connections)
	var wg sync.WaitGroup
	began := time.Now()
	for range connections {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(proofs) {
					return
				}
				if err := s.read(transport, h, proofs[i]); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	wg.Wait()
	took := time.Since(began)
	select {
	case err := <-errs:
		s.t.Fatal(err)
	default:
	}
	return float64(len(proofs)) / took.Seconds()
}

func (s *site) read(transport *http.Transport, h holder, proof string) error {
	request, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, s.base()+"/labels/none", nil)
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "DPoP "+h.token)
	request.Header.Set("DPoP", proof)
	response, err := transport.RoundTrip(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusNoContent {
		return fmt.Errorf("a good call is answered %s %q", response.Status, response.Header.Values("WWW-Authenticate"))
	}
	_, err = io.Copy(io.Discard, response.Body)
	return err
}
