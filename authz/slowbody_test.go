package authz_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// Before a request has its turn its body is read, for any number of them at a time: who
// announces a large one and sends none of it takes no more memory than his connection.
func TestBodyThatIsOnlyAnnouncedTakesNoMemory(t *testing.T) {
	const strangers = 400
	w := newWorld(t)
	i := w.instance()
	var reading atomic.Int64
	handler := i.server.Handler()
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		r.Body = &watched{r.Body, &reading}
		handler.ServeHTTP(rw, r)
	}))
	defer server.Close()
	address := strings.TrimPrefix(server.URL, "http://")
	before := heapInUse()
	for range strangers {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := fmt.Fprintf(conn, "POST /oauth/token HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\n\r\n", 64<<10); err != nil {
			t.Fatal(err)
		}
	}
	for deadline := time.Now().Add(time.Minute); reading.Load() < strangers; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("of %d bodies %d are being read", strangers, reading.Load())
		}
	}
	if each := (heapInUse() - before) / strangers; each > 52<<10 {
		t.Errorf("each takes %d bytes", each)

	}
}

func heapInUse() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// watched counts bodies that somebody has begun to read.
type watched struct {
	io.ReadCloser
	reading *atomic.Int64
}

func (b *watched) Read(p []byte) (int, error) {
	b.reading.Add(1)
	return b.ReadCloser.Read(p)
}
