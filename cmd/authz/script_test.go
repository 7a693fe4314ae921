package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/cargokey/authz/internal/freeport"
	"github.com/cargokey/authz/internal/pgdev/pgtest"
)

// script is what the commands of one script share.
type script struct {
	t         testing.TB
	processes map[string]*process
}

type scriptKey struct{}

func of(ts *testscript.TestScript) *script { return ts.Value(scriptKey{}).(*script) }

func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, scriptParams(filepath.Join("testdata", "script"), nil))
}

// scriptParams are for the scripts in a folder; more are commands of theirs.
func scriptParams(dir string, more map[string]func(*testscript.TestScript, bool, []string)) testscript.Params {
	commands := map[string]func(*testscript.TestScript, bool, []string){
		"database": databaseCommand, "freeport": freePortCommand, "occupy": occupyCommand,
		"background": backgroundCommand, "await": awaitCommand, "end": endCommand,
		"field": fieldCommand, "capture": captureCommand, "onlyline": onlyLineCommand,
		"paste": pasteCommand, "foreign": foreignCommand, "mode": modeCommand,
		"api": apiCommand, "sql": sqlCommand, "family": familyCommand, "gone": goneCommand,
	}
	maps.Copy(commands, more)
	return testscript.Params{
		Dir: dir,
		Setup: func(env *testscript.Env) error {
			s := &script{t: env.T().(testing.TB), processes: map[string]*process{}}
			env.Values[scriptKey{}] = s
			env.Defer(func() {
				for _, p := range s.processes {
					p.kill()
				}
				removeElsewhere(env.WorkDir)
			})
			bin := filepath.Dir(installProgram(s.t, filepath.Join(env.WorkDir, ".bin")))
			env.Vars = append(env.Vars, environment(s.t, "HOME="+filepath.Join(env.WorkDir, "home"),
				"PATH="+bin+string(os.PathListSeparator)+os.Getenv("PATH"))...)
			return nil
		},
		Cmds:                commands,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
	}
}

func want(ts *testscript.TestScript, neg bool, ok bool, usage string) {
	if neg || !ok {
		ts.Fatalf("usage: %s", usage)
	}
}

// database [empty]: a database of the script's own, as $OWNER_URL and
// $SERVER_URL; the operator's commands use it from then on.
func databaseCommand(ts *testscript.TestScript, neg bool, args []string) {
	want(ts, neg, len(args) == 0 || len(args) == 1 && args[0] == "empty", "database [empty]")
	make := pgtest.New
	if len(args) == 1 {
		make = pgtest.NewEmpty
	}
	db := make(of(ts).t)
	ts.Setenv("OWNER_URL", db.OwnerURL)
	ts.Setenv("SERVER_URL", db.ServerURL)
	ts.Setenv("AUTHZ_DATABASE_URL", db.OwnerURL)
}

// freeport NAME...: ports, as variables.
func freePortCommand(ts *testscript.TestScript, neg bool, args []string) {
	want(ts, neg, len(args) > 0, "freeport NAME...")
	for _, name := range args {
		_, port, err := net.SplitHostPort(freeport.Address(of(ts).t))
		ts.Check(err)
		ts.Setenv(name, port)
	}
}

// occupy NAME: a port that another program listens on.
func occupyCommand(ts *testscript.TestScript, neg bool, args []string) {
	want(ts, neg, len(args) == 1, "occupy NAME")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	ts.Defer(func() { l.Close() })
	ts.Setenv(args[0], strconv.Itoa(l.Addr().(*net.TCPAddr).Port))
}

// background NAME PROGRAM ARG...: runs it beside the script.
func backgroundCommand(ts *testscript.TestScript, neg bool, args []string) {
	want(ts, neg, len(args) > 1, "background NAME PROGRAM ARG...")
	var env []string
	for _, name := range inheritedByBackground(ts) {
		env = append(env, name+"="+ts.Getenv(name))
	}
	program := args[1]
	if program == "authz" {
		program = filepath.Join(ts.Getenv("WORK"), ".bin", "authz")
	}
	p, err := startProcess(ts.MkAbs("."), env, program, args[2:]...)
	ts.Check(err)
	of(ts).processes[args[0]] = p
}

// inheritedByBackground are the variables of a script that its background
// programs get: testscript does not tell which there are.
func inheritedByBackground(ts *testscript.TestScript) []string {
	names := []string{"PATH", "HOME", "TMPDIR", "XDG_CACHE_HOME", "GORACE"}
	for _, v := range variables() {
		if ts.Getenv(v.name) != "" {
			names = append(names, v.name)
		}
	}
	return names
}

func (s *script) process(ts *testscript.TestScript, name string) *process {
	p, ok := s.processes[name]
	if !ok {
		ts.Fatalf("no process %s", name)
	}
	return p
}

// await NAME stdout|stderr PATTERN: waits until it has printed that, and writes
// what it has printed so far to NAME.stdout and NAME.stderr.
func awaitCommand(ts *testscript.TestScript, neg bool, args []string) {
	want(ts, neg, len(args) == 3, "await NAME stdout|stderr PATTERN")
	p := of(ts).process(ts, args[0])
	o := &p.out
	if args[1] == "stderr" {
		o = &p.errOut
	}
	ts.Check(p.await(o, args[2]))
	keepOutput(ts, args[0], p)
}

// end NAME SIGNAL CODE: sends INT, TERM, HUP or KILL, and wants that exit code.
func endCommand(ts *testscript.TestScript, neg bool, args []string) {
	signals := map[string]syscall.Signal{"INT": syscall.SIGINT, "TERM": syscall.SIGTERM, "HUP": syscall.SIGHUP, "KILL": syscall.SIGKILL}
	want(ts, neg, len(args) == 3 && signals[args[1]] != 0, "end NAME INT|TERM|HUP|KILL CODE")
	p := of(ts).process(ts, args[0])
	code, err := p.end(signals[args[1]])
	ts.Check(err)
	keepOutput(ts, args[0], p)
	if strconv.Itoa(code) != args[2] {
		ts.Fatalf("%s exits with %d, want %s\n%s%s", args[0], code, args[2], &p.out, &p.errOut)
	}
}

func keepOutput(ts *testscript.TestScript, name string, p *process) {
	ts.Check(os.WriteFile(ts.MkAbs(name+".stdout"), []byte(p.out.String()), 0o600))
	ts.Check(os.WriteFile(ts.MkAbs(name+".stderr"), []byte(p.errOut.String()), 0o600))
}

// lookUp finds a value in a file of JSON by a path of names and indices with
// dots between; "." is the whole.
func lookUp(ts *testscript.TestScript, file, path string) string {
	var v any
	if err := json.Unmarshal([]byte(ts.ReadFile(file)), &v); err != nil {
		ts.Fatalf("%s is not JSON: %v\n%s", file, err, ts.ReadFile(file))
	}
	for name := range strings.SplitSeq(strings.Trim(path, "."), ".") {
		switch in := v.(type) {
		case map[string]any:
			if name != "" {
				v = in[name]
			}
		case []any:
			if i, err := strconv.Atoi(name); err == nil && i < len(in) {
				v = in[i]
			} else if name != "" {
				ts.Fatalf("%s has no element %s", path, name)
			}
		default:
			ts.Fatalf("%s: nothing at %s in %s", path, name, ts.ReadFile(file))
		}
	}
	if text, ok := v.(string); ok {
		return text
	}
	text, err := json.Marshal(v)
	ts.Check(err)
	return string(text)
}

// field FILE PATH VALUE: what is there, text as it is and all else as JSON.
func fieldCommand(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 3 {
		ts.Fatalf("usage: field FILE PATH VALUE")
	}
	if got := lookUp(ts, args[0], args[1]); (got == args[2]) == neg {
		ts.Fatalf("%s is %s", args[1], got)
	}
}

// capture NAME FILE PATH: keeps it as a variable.
func captureCommand(ts *testscript.TestScript, neg bool, args []string) {
	want(ts, neg, len(args) == 3, "capture NAME FILE PATH")
	ts.Setenv(args[0], lookUp(ts, args[1], args[2]))
}

// onlyline FILE NAME...: the file is one line, a JSON object with exactly these
// members in this order.
func onlyLineCommand(ts *testscript.TestScript, neg bool, args []string) {
	want(ts, neg, len(args) > 1, "onlyline FILE NAME...")
	text := ts.ReadFile(args[0])
	if strings.Count(text, "\n") != 1 || !strings.HasSuffix(text, "\n") {
		ts.Fatalf("%s is not one line:\n%s", args[0], text)
	}
	d := json.NewDecoder(bytes.NewBufferString(text))
	var names []string
	_, err := d.Token()
	ts.Check(err)
	for d.More() {
		name, err := d.Token()
		ts.Check(err)
		names = append(names, fmt.Sprint(name))
		var value any
		ts.Check(d.Decode(&value))
	}
	if got := strings.Join(names, " "); got != strings.Join(args[1:], " ") {
		ts.Fatalf("its members are %s", got)
	}
}

var pasteable = regexp.MustCompile(`(?m)^(TOKEN=|curl ).*$`)

// paste FILE: runs the commands of a page of "authz dev" as they stand, the
// second once more at the end. The page has three.
func pasteCommand(ts *testscript.TestScript, neg bool, args []string) {
	want(ts, neg, len(args) == 1, "paste FILE")
	lines := pasteable.FindAllString(ts.ReadFile(args[0]), -1)
	if len(lines) != 3 {
		ts.Fatalf("the page has %d commands to paste", len(lines))
	}
	ts.Check(ts.Exec("bash", "-ec", strings.Join(append(lines, lines[1]), "\n")))
}

// foreign NAME bearer|nonce|html|empty: another authorization server, whose
// issuer is kept as a variable. The first does not know DPoP; the second
// demands a nonce; the others are none.
func foreignCommand(ts *testscript.TestScript, neg bool, args []string) {
	want(ts, neg, len(args) == 2, "foreign NAME bearer|nonce|html|empty")
	var server *httptest.Server
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/oauth-authorization-server", func(w http.ResponseWriter, r *http.Request) {
		switch args[1] {
		case "html":
			fmt.Fprint(w, "<html>")
		case "empty":
			fmt.Fprint(w, "{}")
		default:
			fmt.Fprintf(w, `{"issuer":%q,"token_endpoint":%q}`, server.URL, server.URL+"/token")
		}
	})
	demanded := false
	mux.HandleFunc("POST /token", func(w http.ResponseWriter, r *http.Request) {
		tokenType := "Bearer"
		if args[1] == "nonce" {
			tokenType = "DPoP"
			if !demanded {
				demanded = true
				w.Header().Set("DPoP-Nonce", "n-1")
				w.WriteHeader(http.StatusBadRequest)
				fmt.Fprint(w, `{"error":"use_dpop_nonce","error_description":"Use the nonce."}`)
				return
			}
		}
		fmt.Fprintf(w, `{"access_token":"foreign-token","token_type":%q,"expires_in":60}`, tokenType)
	})
	server = httptest.NewUnstartedServer(mux)
	server.Start() // sets the URL before a handler reads it
	ts.Defer(server.Close)
	ts.Setenv(args[0], server.URL)
}

// mode FILE PERM: who may read and write it.
func modeCommand(ts *testscript.TestScript, neg bool, args []string) {
	want(ts, neg, len(args) == 2, "mode FILE PERM")
	info, err := os.Stat(ts.MkAbs(args[0]))
	ts.Check(err)
	if got := fmt.Sprintf("%04o", info.Mode().Perm()); got != args[1] {
		ts.Fatalf("%s has mode %s", args[0], got)
	}
}
