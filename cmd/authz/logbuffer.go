package main

import (
	"context"
	"io"
	"log/slog"
	"sync"
	"time"
)

// logBuffer writes lines together that come within a few milliseconds: one write for
// each is a tenth of what an introspection costs. What is more than information is
// written at once, with all that came before it (see promptHandler). Who kills the
// process without a word loses the last few milliseconds of information; the audit
// trail is not kept here.
type logBuffer struct {
	to io.Writer

	mu      sync.Mutex
	lines   []byte
	waiting bool // for flush

	writing sync.Mutex // one at a time, in order
	spare   []byte     // of who is writing
}

const (
	// logDelay is how late a line may be.
	logDelay = 5 * time.Millisecond
	// logBufferSize is how much is held at most, in bytes; then whoever has a line
	// writes.
	logBufferSize = 64 << 10
)

// Write takes whole lines.
func (b *logBuffer) Write(line []byte) (int, error) {
	b.mu.Lock()
	b.lines = append(b.lines, line...)
	full := len(b.lines) >= logBufferSize
	wait := !b.waiting && !full
	if wait {
		b.waiting = true
	}
	b.mu.Unlock()
	if wait {
		time.AfterFunc(logDelay, b.flush)
	}
	if full {
		b.flush()
	}
	return len(line), nil
}

// flush returns when all that was taken before is written. A log that cannot be
// written stops nobody.
func (b *logBuffer) flush() {
	b.writing.Lock()
	defer b.writing.Unlock()
	b.mu.Lock()
	b.lines, b.spare = b.spare[:0], b.lines
	b.waiting = false
	b.mu.Unlock()
	if len(b.spare) > 0 {
		b.to.Write(b.spare)
	}
}

// promptHandler has what is more than information written at once.
type promptHandler struct {
	slog.Handler
	buffer *logBuffer
}

func (h promptHandler) Handle(ctx context.Context, r slog.Record) error {
	err := h.Handler.Handle(ctx, r)
	if r.Level > slog.LevelInfo {
		h.buffer.flush()
	}
	return err
}

func (h promptHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return promptHandler{h.Handler.WithAttrs(attrs), h.buffer}
}

func (h promptHandler) WithGroup(name string) slog.Handler {
	return promptHandler{h.Handler.WithGroup(name), h.buffer}
}
