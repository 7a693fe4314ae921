package main

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cargokey/authz/internal/freeport"
	"github.com/cargokey/authz/internal/pgdev"
)

// patroni is two nodes and an etcd, as examples/patroni has them.
type patroni struct {
	t        *testing.T
	dir      string
	as       *syscall.Credential // whom Postgres runs as; nil: this user
	password string
	etcd     string
	nodes    []*patroniNode
}

type patroniNode struct {
	*process
	name, rest, database string
}

// patroniPrograms are where they are, or the reason why they are not.
func patroniPrograms() (bin string, err error) {
	for _, program := range []string{"etcd", "patroni"} {
		if _, err := exec.LookPath(program); err != nil {
			return "", fmt.Errorf("%s is not installed", program)
		}
	}
	all, _ := filepath.Glob("/usr/lib/postgresql/*/bin/pg_rewind")
	if len(all) == 0 {
		return "", fmt.Errorf("there is no Postgres of Debian's")
	}
	return filepath.Dir(slices.Max(all)), nil
}

func startPatroni(t *testing.T) *patroni {
	t.Helper()
	bin, err := patroniPrograms()
	if err != nil && os.Getenv("AUTHZ_TEST_PATRONI") == "" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	p := &patroni{t: t, password: rand.Text()}
	p.makeFolder()
	p.startEtcd()
	for _, name := range []string{"a", "b"} {
		p.nodes = append(p.nodes, p.startNode(name, bin))
		// The first one makes the data; the second copies it.
		p.await(name+" to run", func() bool { return p.running() == len(p.nodes) })
	}
	p.await("a synchronous standby", func() bool { return p.roles()["sync_standby"] != "" })
	return p
}

// makeFolder is t.TempDir for whoever Postgres runs as.
func (p *patroni) makeFolder() {
	p.t.Helper()
	var err error
	if p.dir, err = os.MkdirTemp("/tmp", "authz-patroni-"); err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { _ = os.RemoveAll(p.dir) })
	if os.Geteuid() != 0 {
		return
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		p.t.Fatal(err)
	}
	uid, uidErr := strconv.ParseUint(u.Uid, 10, 32)
	gid, gidErr := strconv.ParseUint(u.Gid, 10, 32)
	if uidErr != nil || gidErr != nil {
		p.t.Fatal(uidErr, gidErr)
	}
	p.as = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	if err := os.Chown(p.dir, int(uid), int(gid)); err != nil {
		p.t.Fatal(err)
	}
}

// run runs a program of the cluster's until the test ends.
func (p *patroni) run(env []string, program string, args ...string) *process {
	p.t.Helper()
	r := &process{cmd: exec.Command(program, args...), done: make(chan struct{})}
	r.cmd.Dir, r.cmd.Env, r.cmd.Stdout, r.cmd.Stderr = p.dir, env, &r.out, &r.errOut
	// The kernel ends it where the test dies, and takes the thread that began it for
	// the test.
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: p.as, Pdeathsig: syscall.SIGTERM}
	r.cmd.WaitDelay = time.Second
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := r.cmd.Start()
		started <- err
		if err == nil {
			_ = r.cmd.Wait()
			close(r.done)
		}
	}()
	if err := <-started; err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() {
		_ = r.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-r.done:
		case <-time.After(endPatience):
			_ = r.cmd.Process.Kill()
			<-r.done
		}
	})
	return r
}

func (p *patroni) startEtcd() {
	p.t.Helper()
	p.etcd = freeport.Address(p.t)
	client, peer := "http://"+p.etcd, "http://"+freeport.Address(p.t)
	p.run(environment(p.t), "etcd", "--data-dir", filepath.Join(p.dir, "etcd"), "--listen-client-urls", client, "--advertise-client-urls", client,
		"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", "default="+peer)
	awaitListener(p.t, p.etcd)
}

// startNode gives a node the environment that the page gives it.
func (p *patroni) startNode(name, bin string) *patroniNode {
	p.t.Helper()
	n := &patroniNode{name: name, rest: freeport.Address(p.t), database: freeport.Address(p.t)}
	config, err := os.ReadFile(filepath.Join("..", "..", "examples", "patroni", "patroni.yml"))
	if err != nil {
		p.t.Fatal(err)
	}
	file := filepath.Join(p.dir, name+".yml")
	if err := os.WriteFile(file, config, 0o644); err != nil {
		p.t.Fatal(err)
	}
	env := environment(p.t,
		"PATRONI_NAME="+name,
		"PATRONI_ETCD3_HOSTS="+p.etcd,
		"PATRONI_RESTAPI_LISTEN="+n.rest, "PATRONI_RESTAPI_CONNECT_ADDRESS="+n.rest,
		"PATRONI_POSTGRESQL_LISTEN="+n.database, "PATRONI_POSTGRESQL_CONNECT_ADDRESS="+n.database,
		"PATRONI_POSTGRESQL_DATA_DIR="+filepath.Join(p.dir, name), "PATRONI_POSTGRESQL_BIN_DIR="+bin,
		"PATRONI_POSTGRESQL_PGPASS="+filepath.Join(p.dir, name+".pgpass"),
		"PATRONI_SUPERUSER_PASSWORD="+p.password, "PATRONI_REPLICATION_PASSWORD="+p.password, "PATRONI_REWIND_PASSWORD="+p.password,
		"HOME="+p.dir)
	n.process = p.run(env, "patroni", file)
	return n
}

func awaitListener(t *testing.T, address string) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		conn, err := net.DialTimeout("tcp", address, time.Second)
		if err == nil {
			_ = conn.Close()
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func (p *patroni) await(what string, so func() bool) {
	p.t.Helper()
	deadline := time.Now().Add(4 * patience)
	for !so() {
		if time.Now().After(deadline) {
			var printed strings.Builder
			for _, n := range p.nodes {
				fmt.Fprintf(&printed, "%s:\n%s%s", n.name, &n.out, &n.errOut)
			}
			p.t.Fatalf("waiting for %s:\n%s", what, &printed)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// member is what Patroni's REST API says of a node.
type member struct {
	Name  string `json:"name"`
	Role  string `json:"role"`
	State string `json:"state"`
}

func (p *patroni) members() []member {
	for _, n := range p.nodes {
		client := http.Client{Timeout: 2 * time.Second}
		response, err := client.Get("http://" + n.rest + "/cluster")
		if err != nil {
			continue
		}
		var cluster struct{ Members []member }
		err = json.NewDecoder(response.Body).Decode(&cluster)
		_ = response.Body.Close()
		if err == nil {
			return cluster.Members
		}
	}
	return nil
}

func (p *patroni) running() (n int) {
	for _, m := range p.members() {
		if m.State == "running" || m.State == "streaming" {
			n++
		}
	}
	return n
}

// roles are the nodes' names by their roles.
func (p *patroni) roles() map[string]string {
	roles := map[string]string{}
	for _, m := range p.members() {
		roles[m.Role] = m.Name
	}
	return roles
}

// url is that of the page: all nodes, and the one of them that can write.
func (p *patroni) url(database string) string {
	var hosts, ports []string
	for _, n := range p.nodes {
		host, port, err := net.SplitHostPort(n.database)
		if err != nil {
			p.t.Fatal(err)
		}
		hosts, ports = append(hosts, host), append(ports, port)
	}
	return fmt.Sprintf("postgres://postgres:%s@/%s?host=%s&port=%s&target_session_attrs=read-write",
		p.password, database, strings.Join(hosts, ","), strings.Join(ports, ","))
}

// switchOver makes the standby the primary, as patronictl switchover does.
func (p *patroni) switchOver() {
	p.t.Helper()
	before := p.roles()
	body, err := json.Marshal(map[string]string{"leader": before["leader"], "candidate": before["sync_standby"]})
	if err != nil {
		p.t.Fatal(err)
	}
	for _, n := range p.nodes {
		if n.name != before["leader"] {
			continue
		}
		response, err := http.Post("http://"+n.rest+"/switchover", "application/json", bytes.NewReader(body))
		if err != nil {
			p.t.Fatal(err)
		}
		_ = response.Body.Close()
		if response.StatusCode != http.StatusOK {
			p.t.Fatalf("the switchover is answered with %s", response.Status)
		}
	}
	p.await("the other one to be the primary", func() bool { return p.roles()["leader"] == before["sync_standby"] })
}

func TestServersFollowPatroni(t *testing.T) {
	t.Parallel()
	p := startPatroni(t)
	seed := faultSeed(t)
	s := newFaultSite(t, faultOptions{instances: 2, postgres: pgdev.Options{URL: p.url("postgres")}})
	s.secrets = append(s.secrets, p.password)
	stop := sync.OnceFunc(s.world.Load(6, 20*time.Millisecond, seed))
	defer stop()
	s.world.Await("tokens", s.progress(30))
	p.switchOver()
	promoted := time.Now()
	s.awaitService()
	back := time.Since(promoted)
	if back > 5*time.Second {
		t.Errorf("service is back %s after the promotion", back)
	}
	s.world.Await("tokens of the new primary", s.progress(30))
	s.settle(stop, seed)
	s.checkLogs()
	t.Logf("back %s after the promotion; answers %v", back, s.world.Answers())
}
