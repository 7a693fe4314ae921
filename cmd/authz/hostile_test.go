package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// with is a site whose servers have more in their environment.
func (s *site) with(variables ...string) *site {
	s.server = append(s.server[:len(s.server):len(s.server)], variables...)
	return s
}

var internalListen = regexp.MustCompile(`"internal_listen":"([^"]+)"`)

// internalGet asks the internal listener.
func (i *serving) internalGet(path string) (int, string, error) {
	m := internalListen.FindStringSubmatch(i.errOut.String())
	if m == nil {
		return 0, "", errors.New("it does not say where its internal listener is")
	}
	response, err := http.Get("http://" + m[1] + path)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return response.StatusCode, string(text), err
}

// metric is a counter's value, 0 where it is not there yet.
func (i *serving) metric(t *testing.T, name string) (n float64) {
	t.Helper()
	_, text, err := i.internalGet("/metrics")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			n, _ = strconv.ParseFloat(strings.TrimSpace(value), 64)
		}
	}
	return n
}

func dial(t *testing.T, address string) net.Conn {
	t.Helper()
	var dialer net.Dialer
	conn, err := dialer.DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// ask sends a request over a connection that is kept.
func ask(conn net.Conn) error {
	fmt.Fprint(conn, "GET /.well-known/jwks.json HTTP/1.1\r\nHost: auth.test\r\n\r\n")
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	_, err = io.Copy(io.Discard, response.Body)
	return err
}

// Clients that send a byte a second, or take one, hold a connection each, for as long as
// its bounds say, and nothing that anybody else needs.
func TestSlowClientsAreCutOffAndHoldUpNobody(t *testing.T) {
	t.Parallel()
	s := newSite(t).with("AUTHZ_MAX_IN_FLIGHT=4")
	i := s.start(t)
	const head = "POST /oauth/token HTTP/1.1\r\nHost: auth.test\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 5000\r\n"
	var ended sync.WaitGroup
	var cutOff atomic.Int64
	slow := 0
	for _, begins := range []string{"", "POST /oauth/", head + "\r\n", head + "Expect: 100-continue\r\n\r\n"} {
		for range 12 {
			conn := dial(t, i.address)
			slow++
			io.WriteString(conn, begins)
			ended.Go(func() {
				// Whoever reads sees when it is over; what is answered before that counts as well.
				done := make(chan struct{})
				go func() { defer close(done); io.Copy(io.Discard, conn) }()
				for begins != "" {
					select {
					case <-done:
						cutOff.Add(1)
						return
					case <-time.After(time.Second):
						conn.Write([]byte{'a'})
					}
				}
				<-done
				cutOff.Add(1)
			})
		}
	}
	reader := dial(t, i.address) // asks and asks, and reads nothing
	reader.(*net.TCPConn).SetReadBuffer(1 << 12)
	stalled := make(chan struct{})
	go func() {
		defer close(stalled)
		for {
			if _, err := io.WriteString(reader, "GET /.well-known/oauth-authorization-server HTTP/1.1\r\nHost: auth.test\r\n\r\n"); err != nil {
				return
			}
		}
	}()
	for range 5 {
		s.token(t, i)
	}
	s.wantNoStatement(t)
	all := make(chan struct{})
	go func() { defer close(all); ended.Wait(); <-stalled }()
	select {
	case <-all:
	case <-time.After(2 * time.Minute):
		t.Fatalf("%d of %d are cut off", cutOff.Load(), slow)
	}
	s.token(t, i)
	s.checkSilence(t)
}

// wantNoStatement holds that soon no connection to the database is in use.
func (s *site) wantNoStatement(t *testing.T) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), s.ownerURL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		var n int
		if err := conn.QueryRow(t.Context(), `select count(*) from pg_stat_activity
			where datname = current_database() and application_name = 'authz' and state <> 'idle'`).Scan(&n); err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%d connections to the database are in use", n)
		}
	}
}

// A listener that is full takes a new connection all the same, at the cost of one that
// has nothing to do.
func TestFullListenerClosesWhoIsIdleForWhoIsNew(t *testing.T) {
	t.Parallel()
	s := newSite(t).with("AUTHZ_MAX_CONNECTIONS=20")
	i := s.start(t)
	first := dial(t, i.address)
	if err := ask(first); err != nil {
		t.Fatal(err)
	}
	for n := range 30 {
		conn := dial(t, i.address)
		if n%2 == 0 { // the others have yet to ask
			if err := ask(conn); err != nil {
				t.Fatalf("connection %d: %v", n, err)
			}
		}
		time.Sleep(10 * time.Millisecond) // a connection is idle only after a while
	}
	first.SetReadDeadline(time.Now().Add(patience))
	if _, err := first.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the first connection is not closed: %v", err)
	}
	s.token(t, i)
	if n := i.metric(t, `authz_connections_closed_total{listener="public",why="idle"}`); n < 5 {
		t.Errorf("%v were closed for others", n)
	}
	s.checkSilence(t)
}

// TestThousandsOfConnections has 2,000 connections, and 10,000 with AUTHZ_TEST_LONG.
func TestThousandsOfConnections(t *testing.T) {
	t.Parallel()
	many := 2_000
	if os.Getenv("AUTHZ_TEST_LONG") != "" {
		many = 10_000
	}
	if files, ok := openFiles(); ok && files < uint64(many)+1000 {
		many = int(files) - 1000
		t.Logf("ulimit -n is %d: %d connections", files, many)
	}
	s := newSite(t)
	i := s.start(t)
	s.token(t, i)
	before := residentKiB(t, i.cmd.Process.Pid)
	for n := range many {
		conn := dial(t, i.address)
		if n%2 == 0 {
			if err := ask(conn); err != nil {
				t.Fatalf("connection %d: %v", n, err)
			}
		}
		if n%500 == 0 {
			s.token(t, i)
		}
	}
	s.token(t, i)
	after := residentKiB(t, i.cmd.Process.Pid)
	t.Logf("%d connections: %d KiB, before %d KiB, %.1f KiB each", many, after, before, float64(after-before)/float64(many))
	most := 40
	if raceEnabled { // the server is this binary
		most *= 5
	}
	if before > 0 && after-before > most*many {
		t.Errorf("%d KiB for %d connections", after-before, many)
	}
	if code, err := i.end(syscall.SIGTERM); err != nil || code != 0 {
		t.Errorf("it ends with %d, %v", code, err)
	}
	s.checkSilence(t)
}

// residentKiB is a process's resident memory; 0 where the system does not tell.
func residentKiB(t *testing.T, pid int) (n int) {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			fmt.Sscan(value, &n)
		}
	}
	return n
}

// wire is a way to Postgres that can be cut: then nothing comes through any more, and
// nobody is told.
type wire struct {
	net.Listener
	cut   atomic.Bool
	asked chan struct{} // something was sent since it was cut
}

// newWire returns it with the URL of the database behind it.
func newWire(t *testing.T, databaseURL string) (*wire, string) {
	t.Helper()
	config, err := pgx.ParseConfig(databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	network, address := "tcp", net.JoinHostPort(config.Host, strconv.Itoa(int(config.Port)))
	if filepath.IsAbs(config.Host) {
		network, address = "unix", filepath.Join(config.Host, fmt.Sprintf(".s.PGSQL.%d", config.Port))
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{Listener: l, asked: make(chan struct{}, 1)}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { near.Close() })
			if w.cut.Load() {
				continue
			}
			far, err := net.Dial(network, address)
			if err != nil {
				near.Close()
				continue
			}
			go w.carry(far, near, true)
			go w.carry(near, far, false)
		}
	}()
	u := url.URL{Scheme: "postgres", User: url.UserPassword(config.User, config.Password), Host: l.Addr().String(), Path: "/" + config.Database, RawQuery: "sslmode=disable"}
	return w, u.String()
}

func (w *wire) carry(to, from net.Conn, questions bool) {
	defer to.Close()
	for b := make([]byte, 1<<16); ; {
		n, err := from.Read(b)
		if err != nil {
			return
		}
		if w.cut.Load() {
			if questions {
				select {
				case w.asked <- struct{}{}:
				default:
				}
			}
			continue
		}
		if _, err := to.Write(b[:n]); err != nil {
			return
		}
	}
}

// SIGTERM while Postgres does not answer, a client sends a byte a second and others say
// nothing: whoever has asked is answered, and the process ends in time.
func TestSIGTERMEndsInTimeWhateverOthersDo(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	wire, through := newWire(t, s.serverURL)
	s.with("AUTHZ_DATABASE_URL=" + through)
	i := s.start(t)
	s.token(t, i)
	dial(t, i.address) // says nothing
	slow := dial(t, i.address)
	io.WriteString(slow, "POST /oauth/token HTTP/1.1\r\nHost: auth.test\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 99\r\n\r\n")
	wire.cut.Store(true)
	proof, _ := s.proof(t)
	answered := make(chan int, 1)
	go func() {
		request, _ := http.NewRequest(http.MethodPost, "http://"+i.address+"/oauth/token", strings.NewReader(tokenForm.Encode()))
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		request.Header.Set("DPoP", proof)
		request.SetBasicAuth(s.client.id, s.client.secret)
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			answered <- 0
			return
		}
		response.Body.Close()
		answered <- response.StatusCode
	}()
	select {
	case <-wire.asked:
	case <-time.After(patience):
		t.Fatal("the request does not come to Postgres")
	}
	began := time.Now()
	code, err := i.end(syscall.SIGTERM)
	took := time.Since(began)
	if err != nil || took > 12*time.Second { // 10 s, and what the machine does besides
		t.Errorf("ending takes %s, %v", took, err)
	}
	if status := <-answered; status != http.StatusServiceUnavailable {
		t.Errorf("the request under way is answered with %d", status)
	}
	t.Logf("it ends with %d after %s", code, took)
	s.checkSilence(t)
}

// Until balancers have noticed it serves on, says that it is not ready, and ends each
// connection with its next answer.
func TestDrainDelayIsForBalancersToNotice(t *testing.T) {
	t.Parallel()
	s := newSite(t).with("AUTHZ_DRAIN_DELAY=5s")
	i := s.start(t)
	s.token(t, i)
	conn := dial(t, i.address)
	if err := ask(conn); err != nil {
		t.Fatal(err)
	}
	i.cmd.Process.Signal(syscall.SIGTERM)
	var h struct{ Reason string }
	for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		status, text, err := i.internalGet("/readyz")
		if err != nil || time.Now().After(end) {
			t.Fatalf("readyz: %d %s, %v", status, text, err)
		}
		if status == http.StatusServiceUnavailable {
			if err := json.Unmarshal([]byte(text), &h); err != nil || h.Reason != "shutting down" {
				t.Errorf("readyz says %q, %v", text, err)
			}
			break
		}
	}
	fmt.Fprint(conn, "GET /.well-known/jwks.json HTTP/1.1\r\nHost: auth.test\r\n\r\n")
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || response.StatusCode != http.StatusOK || !response.Close {
		t.Errorf("while it drains: %v, %+v", err, response)
	}
	s.token(t, i)
	if code, err := i.wait(); err != nil || code != 0 {
		t.Errorf("it ends with %d, %v", code, err)
	}
	s.checkSilence(t)
}
