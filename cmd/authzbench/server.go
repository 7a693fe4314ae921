package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// server is an authz that answers.
type server struct {
	issuer   string // as proofs name it
	public   string // host:port
	internal string // host:port
	child    *child // nil: it is not ours
	profiler string // host:port, "" for none
}

// launcher starts servers: all with the same sealing key, since they share a
// database.
type launcher struct {
	dir        string
	program    string
	sealingKey string
	profiler   string   // host:port where a server takes orders about its CPU profile; "": none
	variables  []string // besides those that every server needs
	started    int
}

// newLauncher builds the program, unless it is given.
func newLauncher(ctx context.Context, dir string, o options) (*launcher, error) {
	key := make([]byte, 32)
	rand.Read(key) // never fails (crypto/rand)
	l := &launcher{dir: dir, program: o.program, sealingKey: base64.StdEncoding.EncodeToString(key)}
	if l.program != "" {
		var err error
		l.program, err = filepath.Abs(l.program)
		return l, err
	}
	l.program = filepath.Join(dir, "authz")
	args := []string{"build", "-o", l.program}
	if o.profile != "" {
		overlay, err := writeOverlay(ctx, dir)
		if err != nil {
			return nil, err
		}
		args = append(args, "-overlay", overlay)
	}
	if out, err := exec.CommandContext(ctx, "go", append(args, serverPackage)...).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("building authz: %w\n%s", err, out)
	}
	return l, nil
}

const serverPackage = "github.com/cargokey/authz/cmd/authz"

// start runs "authz serve" as it is run elsewhere: it logs each request, to a file.
func (l *launcher) start(ctx context.Context, databaseURL string) (*server, error) {
	public, err := freeAddress()
	if err != nil {
		return nil, err
	}
	internal, err := freeAddress()
	if err != nil {
		return nil, err
	}
	l.started++
	s := &server{issuer: "http://" + public, public: public, internal: internal, profiler: l.profiler}
	s.child, err = startChild(l.dir, fmt.Sprintf("server-%d", l.started), l.program, append([]string{
		"AUTHZ_ISSUER=" + s.issuer, "AUTHZ_LISTEN=" + public, "AUTHZ_INTERNAL_LISTEN=" + internal,
		"AUTHZ_DATABASE_URL=" + databaseURL, "AUTHZ_KEY_ENCRYPTION_KEY=" + l.sealingKey,
		"PATH=" + os.Getenv("PATH"), profilerVariable + "=" + l.profiler,
	}, l.variables...), "serve")
	if err != nil {
		return nil, err
	}
	if err := s.child.await(ctx, s.ready); err != nil {
		s.child.stop()
		return nil, fmt.Errorf("authz serve: %w", err)
	}
	return s, nil
}

// ready asks the server, which says so once it would pass a token request.
func (s *server) ready() bool {
	c, err := connect(s.internal)
	if err != nil {
		return false
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	_, err = c.ask(compose("GET", s.internal, "/readyz", ""))
	return err == nil
}

func (s *server) pid() int {
	if s.child == nil {
		return 0
	}
	return s.child.pid()
}

// startTimes is how long a server takes from its beginning as a process to its
// first answer that it is ready, with a schema and a signing key that are there.
func (l *launcher) startTimes(ctx context.Context, databaseURL string, times int) ([]time.Duration, error) {
	var took []time.Duration
	for range times + 1 {
		s, err := l.start(ctx, databaseURL)
		if err != nil {
			return nil, err
		}
		took = append(took, time.Since(s.child.begun))
		if err := s.child.stop(); err != nil {
			return nil, err
		}
	}
	return took[1:], nil // the first made the signing key
}

// freeAddress is one that nobody listened on a moment ago.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}
