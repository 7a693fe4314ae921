package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cargokey/authz/internal/freeport"
)

// proxyProgram is a proxy as docs/operations.md configures it.
type proxyProgram struct {
	name   string
	args   []string
	config func(t *testing.T, listen, to string) string
}

var proxyPrograms = []proxyProgram{
	{"nginx", []string{"-p", ".", "-c", "config", "-e", "stderr", "-g", "daemon off;"}, func(t *testing.T, listen, to string) string {
		return fmt.Sprintf(`
pid nginx.pid;
events {}
http {
    access_log off;
    client_body_temp_path tmp; proxy_temp_path tmp; fastcgi_temp_path tmp; uwsgi_temp_path tmp; scgi_temp_path tmp;
    server {
        listen %s;
        location / {
            proxy_pass http://%s;
            %s
        }
    }
}`, listen, to, documented(t, "proxy_set_header X-Forwarded-For", "proxy_set_header Forwarded"))
	}},
	{"haproxy", []string{"-db", "-f", "config"}, func(t *testing.T, listen, to string) string {
		return fmt.Sprintf(`
defaults
    mode http
    timeout connect 5s
    timeout client 30s
    timeout server 30s
frontend public
    bind %s
    default_backend authz
backend authz
    %s
    server one %s
`, listen, documented(t, "option forwardfor", "http-request del-header Forwarded"), to)
	}},
}

// documented are the lines of docs/operations.md that begin so, without the comment.
func documented(t *testing.T, begin ...string) string {
	t.Helper()
	text, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for line := range strings.Lines(string(text)) {
		if slices.ContainsFunc(begin, func(b string) bool { return strings.HasPrefix(line, b) }) {
			line, _, _ = strings.Cut(line, "#")
			found = append(found, strings.TrimSpace(line))
		}
	}
	if len(found) != len(begin) {
		t.Fatalf("docs/operations.md has %q", found)
	}
	return strings.Join(found, "\n    ")
}

func (p proxyProgram) start(t *testing.T, to string) (address string) {
	t.Helper()
	program, err := exec.LookPath(p.name)
	if err != nil && slices.Contains(strings.Split(os.Getenv("AUTHZ_TEST_GATEWAYS"), ","), p.name) {
		t.Fatalf("AUTHZ_TEST_GATEWAYS names it: %v", err)
	}
	if err != nil {
		t.Skipf("%s is not installed; AUTHZ_TEST_GATEWAYS=%s would make this a failure", p.name, p.name)
	}
	dir := t.TempDir()
	os.Chmod(dir, 0o755) // its workers may be another user
	address = freeport.Address(t)
	if err := os.WriteFile(filepath.Join(dir, "config"), []byte(p.config(t, address, to)), 0o644); err != nil {
		t.Fatal(err)
	}
	running, err := startProcess(dir, environment(t), program, p.args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { running.end(syscall.SIGTERM) }) // so that its workers end with it
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			conn.Close()
			return address
		}
		select {
		case <-running.done:
			t.Fatalf("%s has ended: %s%s", p.name, &running.out, &running.errOut)
		default:
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s does not listen: %s%s", p.name, &running.out, &running.errOut)
		}
	}
}

func TestProxiesAsTheDocumentsConfigureThemTellTheClientsAddress(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.server = append(s.server, "AUTHZ_TRUSTED_PROXIES=127.0.0.1/32")
	i := s.start(t)
	conn, err := pgx.Connect(t.Context(), s.ownerURL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.WithoutCancel(t.Context())) })
	const client, claimed = "127.0.0.5", "127.0.0.9"
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(client)}}
	elsewhere := &http.Client{Transport: &http.Transport{DialContext: dialer.DialContext, DisableKeepAlives: true}}
	for _, p := range proxyPrograms {
		t.Run(p.name, func(t *testing.T) {
			once := p.start(t, i.address)
			for through, address := range map[string]string{"it": once, "it twice": p.start(t, once)} {
				for sent, header := range map[string]http.Header{
					"nothing": {}, "another address": {"X-Forwarded-For": {claimed}}, "two": {"X-Forwarded-For": {claimed, "127.0.0.1"}},
					"the other header": {"Forwarded": {"for=" + claimed}}, "both": {"Forwarded": {"for=" + claimed}, "X-Forwarded-For": {claimed + ", 127.0.0.1"}},
					"garbage": {"Forwarded": {`"`}, "X-Forwarded-For": {"unknown,,"}},
				} {
					proof, _ := s.proof(t)
					request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+address+"/oauth/token", strings.NewReader(tokenForm.Encode()))
					if err != nil {
						t.Fatal(err)
					}
					request.Header = header
					request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
					request.Header.Set("DPoP", proof)
					request.SetBasicAuth(s.client.id, s.client.secret)
					response, err := elsewhere.Do(request)
					if err != nil {
						t.Fatal(err)
					}
					id := response.Header.Get("X-Request-Id")
					if status, answer := readAnswer(t, response); status != http.StatusOK {
						t.Fatalf("%s through %s: %d %v", sent, through, status, answer)
					}
					var remote string
					if err := conn.QueryRow(t.Context(), `select remote_addr from authz.audit_events where kind = 'token.issued' and request_id = $1`, id).Scan(&remote); err != nil {
						t.Fatal(err)
					}
					if remote != client {
						t.Errorf("%s through %s: it is from %s", sent, through, remote)
					}
				}
			}
		})
	}
}
