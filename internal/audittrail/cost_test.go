package audittrail_test

import (
	"runtime"
	"syscall"
	"testing"
	"time"
)

// processorTime is what this process has used.
func processorTime(t testing.TB) time.Duration {
	var u syscall.Rusage
	must(t, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkSealing tells the processor time of an event here and in Postgres, and what
// of a core 5,000 events a second take.
func BenchmarkSealing(b *testing.B) {
	w := newWorld(b)
	w.exec(`insert into authz.audit_events (id, at, kind, actor, client_id, resource, jti, jkt, request_id, remote_addr, detail, recorded_in)
		select overlay(authz.uuidv7_floor(now())::text placing substr(gen_random_uuid()::text, 20) from 20)::uuid, now(), 'token.issued', 'client:label-service',
		  'label-service', 'https://labels.example.com', gen_random_uuid(), '0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I', '01020304050607', '10.1.2.3',
		  jsonb_build_object('scope', 'label:create', 'format', 'jwt', 'expires_at', now(), 'credential', '0123456789ab', 'user_agent', 'curl/8.5.0', 'offset_ms', i % 100),
		  1 + i / 20
		from generate_series(1, $1::int) i`, b.N)
	w.exec(`update authz.audit_positions set added = 1000000000`) // all of them are final
	w.exec(`analyze authz.audit_events`)
	w.awaitFinal()
	s := w.sealer(w.server)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	began := processorTime(b)
	b.ResetTimer()
	must(b, s.Seal(b.Context()))
	b.StopTimer()
	used := processorTime(b) - began
	runtime.ReadMemStats(&after)
	each := float64(used.Nanoseconds()) / float64(b.N)
	b.ReportMetric(each, "cpu-ns/event")
	b.ReportMetric(each*5000/1e9*100, "%core@5000/s")
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N), "wall-ns/event")
	b.ReportMetric(float64(after.TotalAlloc-before.TotalAlloc)/float64(b.N), "B/event")
	if n := w.metric("authz_audit_events_sealed_total"); n != float64(b.N) {
		b.Errorf("%v events are sealed", n)
	}
}
