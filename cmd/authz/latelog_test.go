package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"
)

// writes is a log's end, which tells how often it was written to.
type writes struct {
	mu    sync.Mutex
	text  bytes.Buffer
	times int
}

func (w *writes) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.times++
	return w.text.Write(p)
}

func (w *writes) read() (lines []string, times int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if text := strings.TrimSuffix(w.text.String(), "\n"); text != "" {
		lines = strings.Split(text, "\n")
	}
	return lines, w.times
}

// timeless is a text handler without times.
func timeless(w io.Writer) slog.Handler {
	return slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}})
}

func TestLogIsAsIfEachLineWereWrittenAtOnce(t *testing.T) {
	t.Parallel()
	say := func(log *slog.Logger) {
		list := []string{"as it was"}
		with := log.With("a", 1).WithGroup("g")
		log.Debug("first", "n", 1)
		with.Info("second", "n", 2, "when", time.Duration(3))
		log.Info("third", "list", list)
		list[0] = "as it is later"
		log.Warn("fourth", "cause", errors.New("it failed"))
		with.LogAttrs(context.Background(), slog.LevelInfo, "fifth", slog.Group("inner", slog.Int("n", 5)))
		for n := range 20 {
			log.Info("request", "n", n, "a", "1", "b", "2", "c", "3", "d", "4", "e", "5", "f", "6", "g", "7", "h", 8.5, "i", true)
		}
	}
	var want, got writes
	say(slog.New(timeless(&want)))
	log, flush := newLateLog(&got, timeless)
	say(log)
	flush()
	wanted, _ := want.read()
	lines, times := got.read()
	if strings.Join(wanted, "\n") != strings.Join(lines, "\n") || len(lines) != 25 {
		t.Errorf("%q\nwant %q", lines, wanted)
	}
	if times > 10 { // four, if nobody stands still for milliseconds
		t.Errorf("written %d times", times)
	}
}

func TestTroubleIsLoggedAtOnceAndInformationSoon(t *testing.T) {
	t.Parallel()
	var w writes
	log, _ := newLateLog(&w, timeless)
	log.Info("first")
	log.Info("second")
	log.Error("third")
	lines, _ := w.read()
	if len(lines) != 3 || !strings.Contains(lines[0], "first") || !strings.Contains(lines[2], "third") {
		t.Errorf("after an error: %q", lines)
	}
	log.Info("fourth")
	for begun := time.Now(); time.Since(begun) < 10*time.Second; time.Sleep(time.Millisecond) {
		if lines, _ := w.read(); len(lines) == 4 {
			return
		}
	}
	t.Error("the last line is not written")
}

func TestManyWhoLogLoseNothing(t *testing.T) {
	t.Parallel()
	var w writes
	log, flush := newLateLog(&w, timeless)
	const each = 2000
	var all sync.WaitGroup
	for n := range 8 {
		all.Go(func() {
			for k := range each {
				if log.Info("line", "n", n, "k", k); k%500 == 0 {
					log.Warn("line", "n", n, "k", -k-1)
				}
			}
		})
	}
	all.Wait()
	flush()
	lines, times := w.read()
	seen, last := map[string]bool{}, map[int]int{}
	for _, line := range lines {
		var level string
		var n, k int
		if _, err := fmt.Sscanf(line, "level=%s msg=line n=%d k=%d", &level, &n, &k); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		seen[line] = true
		if k >= 0 {
			if k < last[n] {
				t.Fatalf("of %d, %d came after %d", n, k, last[n])
			}
			last[n] = k
		}
	}
	if want := 8 * (each + each/500); len(lines) != want || len(seen) != want {
		t.Errorf("%d lines, %d different ones, want %d", len(lines), len(seen), want)
	}
	if times > len(lines)/4 {
		t.Errorf("%d lines were written in %d times", len(lines), times)
	}
}

// A log that takes nothing any more, such as a full pipe, holds those who log up, and
// takes no more memory than it did.
func TestLogThatIsStuckHoldsNoMoreThanItMay(t *testing.T) {
	t.Parallel()
	stuck := make(chan struct{})
	log, flush := newLateLog(writerFunc(func(p []byte) (int, error) { <-stuck; return len(p), nil }), timeless)
	queue := log.Handler().(lateLog).logQueue
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 2 * maxLateRecords {
				log.Info("line")
			}
		})
	}
	time.Sleep(50 * time.Millisecond)
	queue.mu.Lock()
	held := len(queue.records)
	queue.mu.Unlock()
	if held > maxLateRecords+4 {
		t.Errorf("%d records are held", held)
	}
	close(stuck)
	all.Wait()
	flush()
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
