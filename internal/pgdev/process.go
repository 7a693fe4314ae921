package pgdev

import (
	"context"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"time"
)

// account is the user that Postgres runs as.
type account struct {
	name     string
	uid, gid uint32
	// switched says that it is not the user of this process.
	switched bool
}

// shutdown is a way in which Postgres can be asked to end.
type shutdown int

const (
	fast      shutdown = iota // clients are sent away, data is written
	immediate                 // as a crash: the next start recovers
)

// inherited are the variables that Postgres needs of the environment. It gets
// no others: this program's may hold secrets, and PG* would change what
// Postgres does.
var inherited = []string{
	"PATH", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH",
	"SystemRoot", "TEMP", "TMP", // Windows
}

func environment() []string {
	// Its messages are searched, and macOS' other locales start threads, which
	// the postmaster refuses.
	env := []string{"LC_ALL=C"}
	for _, name := range inherited {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	return env
}

func command(ctx context.Context, acc account, dir, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = dir
	cmd.Env = environment()
	cmd.SysProcAttr = attributes(acc)
	cmd.WaitDelay = 2 * time.Second
	return cmd
}

// run runs a program as acc to its end and returns what it printed.
func run(ctx context.Context, acc account, dir, program string, args ...string) (string, error) {
	// See spawn: the program would not outlive this thread.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	out, err := command(ctx, acc, dir, program, args...).CombinedOutput()
	if ctx.Err() != nil {
		err = ctx.Err() // which is why it was killed
	}
	return string(out), err
}

// process is a postmaster.
type process struct {
	cmd  *exec.Cmd
	log  *serverLog
	done chan struct{} // closed when it has ended
	err  error         // how it ended, once done is closed
}

func spawn(acc account, dir, program string, args []string, log *serverLog) (*process, error) {
	p := &process{
		cmd:  command(context.Background(), acc, dir, program, args...),
		log:  log,
		done: make(chan struct{}),
	}
	p.cmd.Stdout = log.writer
	p.cmd.Stderr = log.writer
	started := make(chan error)
	go func() {
		// The kernel ends Postgres when its parent dies, and takes for the
		// parent the thread that forked. So that thread must live as long.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		started <- err
		if err != nil {
			return
		}
		p.err = p.cmd.Wait()
		log.close()
		close(p.done)
	}()
	return p, <-started
}

func (p *process) pid() int { return p.cmd.Process.Pid }

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// waitFor says whether the process has ended in time.
func (p *process) waitFor(ctx context.Context, limit time.Duration) bool {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-p.done:
		return true
	case <-ctx.Done():
	case <-timer.C:
	}
	return p.ended()
}

// serverLog is where a postmaster writes. It remembers the end of what was
// written since it was opened, for errors.
type serverLog struct {
	writer io.Writer
	file   *os.File
	offset int64
	last   *lastBytes
}

// tailSize is how many bytes of log an error quotes at most.
const tailSize = 2000

// openLog gives Postgres the file itself where it can: that goes on working
// when this process has died.
func openLog(w io.Writer, path string) (*serverLog, error) {
	if w != nil {
		last := &lastBytes{}
		return &serverLog{writer: io.MultiWriter(w, last), last: last}, nil
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, err
	}
	return &serverLog{writer: f, file: f, offset: info.Size()}, nil
}

func (l *serverLog) tail() string {
	if l.last != nil {
		return l.last.String()
	}
	f, err := os.Open(l.file.Name())
	if err != nil {
		return ""
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return ""
	}
	from := max(l.offset, info.Size()-tailSize)
	content, _ := io.ReadAll(io.NewSectionReader(f, from, tailSize))
	return string(content)
}

// quote is the tail as the end of an error's text.
func (l *serverLog) quote() string {
	if text := strings.TrimSpace(l.tail()); text != "" {
		return "; its log ends:\n" + text
	}
	return ""
}

func (l *serverLog) close() {
	if l.file != nil {
		l.file.Close()
	}
}

// lastBytes keeps the end of what is written to it.
type lastBytes struct {
	mu   sync.Mutex
	kept []byte
}

func (b *lastBytes) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.kept = append(b.kept, p...)
	if extra := len(b.kept) - tailSize; extra > 0 {
		b.kept = append(b.kept[:0], b.kept[extra:]...)
	}
	return len(p), nil
}

func (b *lastBytes) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return string(b.kept)
}
