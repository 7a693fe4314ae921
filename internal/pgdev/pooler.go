package pgdev

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// ErrNoPooler is returned by StartPooler where there is no pgbouncer on the
// machine.
var ErrNoPooler = errors.New("pgbouncer is not installed")

// poolerPort is no port: it only names the socket's file.
const poolerPort = 6432

// Pooler is a PgBouncer before a Postgres.
type Pooler struct {
	runDir *runDir
	proc   *process
}

// StartPooler runs a PgBouncer in transaction mode that has size connections at
// most to each database of a Postgres, for each user. It lets in the users that
// the URLs name, all of them of the same Postgres: of several hosts, which have the
// same port, it uses each in turn. settings are further lines of its section
// [pgbouncer].
//
// It listens on a Unix socket in a folder that only its own user can enter. It
// ends with Stop, and with this process.
func StartPooler(ctx context.Context, size int, settings []string, urls ...string) (*Pooler, error) {
	program, err := findPooler()
	if err != nil {
		return nil, err
	}
	acc, err := serverAccount()
	if err != nil {
		return nil, err
	}
	b, err := thisMachine().search.find(ctx, acc, 0) // only to see whether acc can reach a folder
	if err != nil {
		return nil, err
	}
	p := &Pooler{}
	if p.runDir, err = newRunDir(ctx, thisMachine().tempDir, acc, b); err != nil {
		return nil, err
	}
	if err := p.start(ctx, acc, program, size, settings, urls); err != nil {
		return nil, errors.Join(err, p.runDir.remove())
	}
	return p, nil
}

func findPooler() (string, error) {
	if program, err := exec.LookPath("pgbouncer"); err == nil {
		return program, nil
	}
	const sbin = "/usr/sbin/pgbouncer" // Debian, where an ordinary user's PATH does not lead
	if isFile(sbin) {
		return sbin, nil
	}
	return "", ErrNoPooler
}

func (p *Pooler) start(ctx context.Context, acc account, program string, size int, settings, urls []string) error {
	if err := p.runDir.makeSocketDir(acc); err != nil {
		return err
	}
	config, users, err := poolerFiles(p.runDir.socketDir(), size, settings, urls)
	if err != nil {
		return err
	}
	for name, content := range map[string]string{"users.txt": users, "pgbouncer.ini": config} {
		path := filepath.Join(p.runDir.socketDir(), name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			return fmt.Errorf("configuring PgBouncer: %w", err)
		}
		if acc.switched {
			if err := os.Lchown(path, int(acc.uid), int(acc.gid)); err != nil {
				return fmt.Errorf("giving a file to user %s: %w", acc.name, err)
			}
		}
	}
	log, err := openLog(&lastBytes{}, "")
	if err != nil {
		return err
	}
	if p.proc, err = spawn(acc, p.runDir.socketDir(), program, []string{filepath.Join(p.runDir.socketDir(), "pgbouncer.ini")}, log); err != nil {
		return fmt.Errorf("starting %s: %w", program, err)
	}
	return p.awaitSocket(ctx)
}

// poolerFiles are its configuration and its users, whose passwords are for
// Postgres alone: the folder of its socket keeps others out.
func poolerFiles(dir string, size int, settings, urls []string) (config, users string, err error) {
	var hosts []string
	var port uint16
	for _, u := range urls {
		c, err := pgx.ParseConfig(u)
		if err != nil {
			return "", "", errors.New("a database URL is not well-formed") // err may quote a password
		}
		hosts, port = []string{c.Host}, c.Port
		for _, f := range c.Fallbacks {
			if f.Host != hosts[len(hosts)-1] {
				hosts = append(hosts, f.Host)
			}
		}
		users += fmt.Sprintf("%q %q\n", c.User, c.Password)
	}
	lines := append([]string{
		"[databases]",
		fmt.Sprintf("* = host=%s port=%d", strings.Join(hosts, ","), port),
		"[pgbouncer]",
		"listen_addr =",
		fmt.Sprintf("listen_port = %d", poolerPort),
		"unix_socket_dir = " + dir,
		"unix_socket_mode = 0700",
		"auth_type = trust",
		"auth_file = " + filepath.Join(dir, "users.txt"),
		"pool_mode = transaction",
		fmt.Sprintf("default_pool_size = %d", size),
		"max_client_conn = 200",
	}, settings...)
	return strings.Join(lines, "\n") + "\n", users, nil
}

func (p *Pooler) awaitSocket(ctx context.Context) error {
	for !accepts("unix", socketFile(p.runDir.socketDir(), poolerPort)) {
		select {
		case <-p.proc.done:
			return fmt.Errorf("PgBouncer ended while it started (%v)%s", p.proc.err, p.proc.log.quote())
		case <-ctx.Done():
			return errors.Join(ctx.Err(), p.Stop())
		case <-time.After(5 * time.Millisecond):
		}
	}
	return nil
}

// URL names the same database and user as databaseURL, through the pooler.
func (p *Pooler) URL(databaseURL string) (string, error) {
	c, err := pgx.ParseConfig(databaseURL)
	if err != nil {
		return "", errors.New("the database URL is not well-formed") // err may quote a password
	}
	return fmt.Sprintf("postgres://%s@/%s?host=%s&port=%d", url.PathEscape(c.User), url.PathEscape(c.Database), p.runDir.socketDir(), poolerPort), nil
}

// Stop ends it, at once: its clients lose their connections.
func (p *Pooler) Stop() error {
	_ = p.proc.cmd.Process.Signal(syscall.SIGTERM)
	if !p.proc.waitFor(context.Background(), immediateShutdown) {
		_ = p.proc.cmd.Process.Kill()
		<-p.proc.done
	}
	return p.runDir.remove()
}
