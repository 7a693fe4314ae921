package main

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"sync"
	"time"
)

// lateLog is a slog.Handler that writes what is no more than information together, a few
// milliseconds late and beside the requests that it tells of: a line by itself is a tenth
// of what an introspection costs. What is more than that is written at once, after all
// that came before it. Who kills the process without a word loses the information of the
// last few milliseconds; the audit trail is kept elsewhere.
type lateLog struct {
	slog.Handler // writes to the queue's buffer
	*logQueue
}

// logQueue is what lateLog and those made from it share.
type logQueue struct {
	to io.Writer

	mu      sync.Mutex
	records []lateRecord
	due     bool // a flush

	writing sync.Mutex // one at a time, in order
	spare   []lateRecord
	buffer  bytes.Buffer // the lines of who is writing
}

type lateRecord struct {
	handler slog.Handler
	record  slog.Record
}

const (
	// logDelay is how late a line may be.
	logDelay = 5 * time.Millisecond
	// maxLateRecords is how many are held at most: then whoever has one more writes.
	maxLateRecords = 512
)

// newLateLog has lines written to w, in the form of the handler that format makes. All
// are written when flush has returned.
func newLateLog(w io.Writer, format func(io.Writer) slog.Handler) (log *slog.Logger, flush func()) {
	q := &logQueue{to: w}
	return slog.New(lateLog{format(&q.buffer), q}), q.flush
}

// Handle is slog.Handler's.
func (l lateLog) Handle(_ context.Context, r slog.Record) error {
	late := r.Level <= slog.LevelInfo && lasts(r)
	l.mu.Lock()
	if !late {
		l.mu.Unlock()
		l.write(lateRecord{l.Handler, r})
		return nil
	}
	l.records = append(l.records, lateRecord{l.Handler, r})
	full, first := len(l.records) >= maxLateRecords, !l.due
	l.due = true
	l.mu.Unlock()
	switch {
	case full:
		l.flush()
	case first:
		time.AfterFunc(logDelay, l.flush)
	}
	return nil
}

// WithAttrs is slog.Handler's.
func (l lateLog) WithAttrs(attrs []slog.Attr) slog.Handler {
	return lateLog{l.Handler.WithAttrs(attrs), l.logQueue}
}

// WithGroup is slog.Handler's.
func (l lateLog) WithGroup(name string) slog.Handler {
	return lateLog{l.Handler.WithGroup(name), l.logQueue}
}

// lasts tells whether a record says the same later: nothing in it is somebody else's to
// change.
func lasts(r slog.Record) bool {
	same := true
	r.Attrs(func(a slog.Attr) bool {
		switch a.Value.Kind() {
		case slog.KindAny, slog.KindLogValuer, slog.KindGroup:
			same = false
		}
		return same
	})
	return same
}

func (q *logQueue) flush() { q.write() }

// write returns when all that came before is written, and then these. A log that cannot
// be written stops nobody.
func (q *logQueue) write(more ...lateRecord) {
	q.writing.Lock()
	defer q.writing.Unlock()
	q.mu.Lock()
	q.records, q.spare = q.spare[:0], q.records
	q.due = false
	q.mu.Unlock()
	for _, records := range [][]lateRecord{q.spare, more} {
		for _, l := range records {
			l.handler.Handle(context.Background(), l.record) // which writes to a buffer
		}
	}
	clear(q.spare)
	q.to.Write(q.buffer.Bytes())
	q.buffer.Reset()
}
