package platform

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cargokey/authz/internal/freeport"
)

// balance runs balancer.conf in front of two addresses, and returns its URL.
func balance(t *testing.T, first, second string) string {
	t.Helper()
	if _, err := exec.LookPath("nginx"); err != nil {
		t.Skip("nginx is not installed")
	}
	text, err := os.ReadFile("balancer.conf")
	if err != nil {
		t.Fatal(err)
	}
	conf, listen := string(text), freeport.Address(t)
	for old, address := range map[string]string{"listen 8080": "listen " + listen, "authz-1:8080": first, "authz-2:8080": second} {
		if strings.Count(conf, old) != 1 {
			t.Fatalf("balancer.conf has not one %q", old)
		}
		conf = strings.Replace(conf, old, address, 1)
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "balancer.conf")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	nginx := exec.CommandContext(ctx, "nginx", "-p", dir+"/", "-c", file, "-g", "daemon off; master_process off;")
	nginx.Stderr = t.Output()
	if err := nginx.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = nginx.Wait()
	})
	for range 100 {
		if conn, err := net.Dial("tcp", listen); err == nil {
			_ = conn.Close()
			return "http://" + listen
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatal("nginx does not listen")
	return ""
}

// good answers everything, and counts it.
func good(t *testing.T) (address string, asked *atomic.Int32) {
	t.Helper()
	asked = new(atomic.Int32)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		fmt.Fprintln(w, "ok")
	}))
	t.Cleanup(server.Close)
	return server.Listener.Addr().String(), asked
}

// dying takes a request and ends the connection without an answer, as a server
// does that dies after it has recorded a token.
func dying(t *testing.T) (address string, asked *atomic.Int32) {
	t.Helper()
	asked = new(atomic.Int32)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
				asked.Add(1)
			}
			_ = conn.Close()
		}
	}()
	return l.Addr().String(), asked
}

func postToken(t *testing.T, balancer string) int {
	t.Helper()
	response, err := http.Post(balancer+"/oauth/token", "application/x-www-form-urlencoded", strings.NewReader("grant_type=client_credentials"))
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	return response.StatusCode
}

func TestATokenRequestThatAServerMayHaveTakenGoesToNoOther(t *testing.T) {
	first, dead := dying(t)
	second, answered := good(t)
	balancer := balance(t, first, second)
	statuses := map[int]int32{}
	for range 4 {
		statuses[postToken(t, balancer)]++
	}
	if dead.Load() == 0 {
		t.Fatal("the dying server was never asked")
	}
	if statuses[http.StatusBadGateway] != dead.Load() || statuses[http.StatusOK] != answered.Load() || dead.Load()+answered.Load() != 4 {
		t.Errorf("of 4 requests, the dying server got %d and the other %d; the answers are %v", dead.Load(), answered.Load(), statuses)
	}
}

func TestATokenRequestThatNoServerTookGoesToTheOther(t *testing.T) {
	second, answered := good(t)
	balancer := balance(t, freeport.Address(t), second)
	for range 4 {
		if status := postToken(t, balancer); status != http.StatusOK {
			t.Errorf("%d", status)
		}
	}
	if answered.Load() != 4 {
		t.Errorf("%d requests arrived", answered.Load())
	}
}
