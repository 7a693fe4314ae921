package jwksuri_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cargokey/authz/internal/clientassertion/assertiontest"
	"github.com/cargokey/authz/internal/jwksuri"
)

func TestKeysAreFetchedOnceAndKept(t *testing.T) {
	t.Parallel()
	h, one := newHost(t, ""), assertiontest.NewSigner("ES256")
	h.publishes(one)
	r := newRig(t, nil, loopback, h)
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			if got := names(t, r.Keys, h.URL); got != one.Thumbprint() {
				t.Error(got)
			}
		})
	}
	all.Wait()
	r.advance(3 * time.Minute) // four fifths of 4 minutes are not over
	names(t, r.Keys, h.URL)
	if n := h.requests.Load(); n != 1 {
		t.Errorf("%d requests", n)
	}
}

func TestARemovedKeyCountsNoLongerThanADocumentIsFresh(t *testing.T) {
	t.Parallel()
	h, old, fresh := newHost(t, ""), assertiontest.NewSigner("ES256"), assertiontest.NewSigner("ES256")
	h.publishes(old, fresh)
	r := newRig(t, nil, loopback, h)
	names(t, r.Keys, h.URL)
	h.publishes(fresh)
	r.advance(jwksuri.Fresh)
	if got := names(t, r.Keys, h.URL); got != fresh.Thumbprint() {
		t.Errorf("%s is still taken", got)
	}
}

func TestADocumentIsRefreshedBeforeItEndsAndNobodyWaits(t *testing.T) {
	t.Parallel()
	h, old, fresh := newHost(t, ""), assertiontest.NewSigner("ES256"), assertiontest.NewSigner("ES256")
	h.publishes(old)
	r := newRig(t, nil, loopback, h)
	names(t, r.Keys, h.URL)
	release := make(chan struct{})
	h.does(func(w http.ResponseWriter, _ *http.Request) { <-release; w.Write([]byte(assertiontest.Set(fresh))) })
	r.advance(4*time.Minute - time.Second) // of 4 to 5 minutes, four fifths are over
	if names(t, r.Keys, h.URL) != old.Thumbprint() {
		t.Error("a request waited for the refresh")
	}
	close(release)
	eventually(t, func() bool { return names(t, r.Keys, h.URL) == fresh.Thumbprint() })
}

func TestAFloodOfUnknownKeysIsOneFetchInTenSeconds(t *testing.T) {
	t.Parallel()
	h, old, fresh := newHost(t, ""), assertiontest.NewSigner("ES256"), assertiontest.NewSigner("ES256")
	h.publishes(old)
	r := newRig(t, nil, loopback, h)
	names(t, r.Keys, h.URL)
	flood := func() {
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() {
				for range 50 {
					names(t, r.Again, h.URL)
				}
			})
		}
		all.Wait()
	}
	flood()
	if n := h.requests.Load(); n != 1 {
		t.Errorf("%d requests within the interval of the first", n)
	}
	h.publishes(old, fresh)
	r.advance(jwksuri.Interval)
	flood()
	if n := h.requests.Load(); n != 2 {
		t.Errorf("%d requests after one interval", n)
	}
	if got := names(t, r.Keys, h.URL); got != old.Thumbprint()+" "+fresh.Thumbprint() {
		t.Errorf("the new key is not known: %s", got)
	}
}

func TestAFailingHostIsAskedOnceInTenSeconds(t *testing.T) {
	t.Parallel()
	h := newHost(t, "")
	h.does(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) })
	r := newRig(t, nil, loopback, h)
	for range 100 {
		if got := names(t, r.Keys, h.URL); got != "error: the answer has the status 404" {
			t.Fatal(got)
		}
	}
	if n := h.requests.Load(); n != 1 {
		t.Errorf("%d requests", n)
	}
}

func TestASlowOrHugeAnswerIsCutOff(t *testing.T) {
	t.Parallel()
	stop := make(chan struct{})
	defer close(stop)
	for name, does := range map[string]http.HandlerFunc{
		"no answer": func(http.ResponseWriter, *http.Request) { <-stop },
		"drop by drop": func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				fmt.Fprint(w, " ")
				w.(http.Flusher).Flush()
				time.Sleep(50 * time.Millisecond)
			}
		},
		"without an end": func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				if _, err := w.Write(make([]byte, 64<<10)); err != nil {
					return
				}
			}
		},
		"65537 bytes":   func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte(strings.Repeat(" ", 65537))) },
		"a huge header": func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X", strings.Repeat("x", 64<<10)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t, "")
			h.does(does)
			r := newRig(t, nil, loopback, h)
			start := time.Now()
			got := names(t, r.Keys, h.URL)
			if elapsed := time.Since(start); !strings.HasPrefix(got, "error: ") || elapsed > 4*time.Second {
				t.Errorf("%s after %s", got, elapsed)
			}
		})
	}
}

func TestASlowHostHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	slow, quick, one := newHost(t, ""), newHost(t, ""), assertiontest.NewSigner("ES256")
	stop := make(chan struct{})
	defer close(stop)
	slow.does(func(http.ResponseWriter, *http.Request) { <-stop })
	quick.publishes(one)
	r := newRig(t, nil, loopback, slow, quick)
	go r.Keys(t.Context(), slow.URL, 1)
	eventually(t, func() bool { return slow.requests.Load() == 1 })
	start := time.Now()
	if got := names(t, r.Keys, quick.URL); got != one.Thumbprint() || time.Since(start) > time.Second {
		t.Errorf("%s after %s", got, time.Since(start))
	}
}

func TestFetchesAtATimeAreBounded(t *testing.T) {
	t.Parallel()
	h := newHost(t, "")
	stop := make(chan struct{})
	h.does(func(http.ResponseWriter, *http.Request) { <-stop })
	r := newRig(t, nil, loopback, h)
	var all sync.WaitGroup
	for n := range 40 {
		all.Go(func() { r.Keys(t.Context(), fmt.Sprintf("%s/%d", h.URL, n), 1) })
	}
	time.Sleep(time.Second)
	if n := h.requests.Load(); n != 16 {
		t.Errorf("%d requests at a time", n)
	}
	close(stop)
	all.Wait()
}

// Whoever names the client of a host that says nothing, a stranger too, waits for it:
// they are few, and the others are told at once.
func TestRequestsThatWaitForAHostAreBounded(t *testing.T) {
	t.Parallel()
	h, one := newHost(t, ""), assertiontest.NewSigner("ES256")
	release := make(chan struct{})
	h.does(func(w http.ResponseWriter, _ *http.Request) { <-release; w.Write([]byte(assertiontest.Set(one))) })
	r := newRig(t, nil, loopback, h)
	const all = jwksuri.MaxWaiting + 100
	answers := make(chan string, all)
	for range all {
		go func() { answers <- names(t, r.Keys, h.URL) }()
	}
	for range 100 {
		if got := <-answers; got != "error: there was no answer in time" {
			t.Errorf("one more than may wait gets %s", got)
		}
	}
	close(release)
	for range jwksuri.MaxWaiting {
		if got := <-answers; got != one.Thumbprint() {
			t.Errorf("one who has waited gets %s", got)
		}
	}
}

func eventually(t testing.TB, what func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !what(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it never came to be")
		}
	}
}
