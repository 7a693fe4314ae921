package pgdev

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// How long each way of stopping may take before the next, harsher one.
const (
	fastShutdown      = 20 * time.Second
	immediateShutdown = 6 * time.Second // Postgres kills its own children after 5
)

// launch starts the server over the prepared data and waits until its database
// is there.
func (p *Postgres) launch(ctx context.Context) error {
	if err := p.runDir.makeSocketDir(p.account); err != nil {
		return err
	}
	log, err := openLog(p.options.Log, p.home.log)
	if err != nil {
		return err
	}
	proc, err := spawn(p.account, p.home.dir, p.binaries.postgres(), p.serverArguments(), log)
	if err != nil {
		log.close()
		return fmt.Errorf("starting %s: %w", p.binaries.postgres(), err)
	}
	p.running.Store(proc)
	if err := p.awaitReady(ctx, proc); err != nil {
		// What it holds is either as it was or was never acknowledged.
		return errors.Join(err, proc.kill())
	}
	return nil
}

func (p *Postgres) serverArguments() []string {
	settings := map[string]string{
		"listen_addresses":        "",
		"unix_socket_directories": p.runDir.socketDir(),
		"unix_socket_permissions": "0700",
		"port":                    fmt.Sprint(socketPort),
	}
	if p.port != 0 {
		settings["listen_addresses"] = "127.0.0.1"
		settings["unix_socket_directories"] = ""
		settings["port"] = fmt.Sprint(p.port)
	}
	if p.options.Unsafe {
		// Not synchronous_commit: without it even a crash of Postgres alone
		// loses what was committed.
		settings["fsync"] = "off"
		settings["full_page_writes"] = "off"
	}
	if p.options.Dir == "" {
		// In the data directory: what a killed server leaves elsewhere only its
		// next start would remove, and there may be none.
		settings["dynamic_shared_memory_type"] = "mmap"
	}
	maps.Copy(settings, p.options.Settings)
	args := []string{"-D", p.home.data}
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		args = append(args, "-c", name+"="+settings[name])
	}
	return args
}

// awaitReady returns when the database accepts connections, and makes it if it
// is missing. It gives up when the server ends or ctx does.
func (p *Postgres) awaitReady(ctx context.Context, proc *process) error {
	for {
		err := p.ensureDatabase(ctx)
		if err == nil {
			return nil
		}
		// cannot_connect_now: it starts up or recovers.
		var refused *pgconn.PgError
		if errors.As(err, &refused) && refused.Code != "57P03" {
			return fmt.Errorf("preparing the database %q: %w", database, err)
		}
		select {
		case <-proc.done:
			return p.explainEnd(proc)
		case <-ctx.Done():
			return fmt.Errorf("waiting for Postgres to accept connections: %w%s", ctx.Err(), proc.log.quote())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// ensureDatabase tries the database itself first, since all starts but the
// first find it there.
func (p *Postgres) ensureDatabase(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, p.url)
	if err == nil {
		return conn.Close(ctx)
	}
	var refused *pgconn.PgError
	if !errors.As(err, &refused) || refused.Code != "3D000" { // invalid_catalog_name
		return err
	}
	c, err := pgx.ParseConfig(p.url)
	if err != nil {
		return err
	}
	c.Database = "postgres"
	if conn, err = pgx.ConnectConfig(ctx, c); err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	_, err = conn.Exec(ctx, "create database "+database+" owner "+superuser)
	return err
}

// explainEnd is the error for a server that ended by itself while starting.
func (p *Postgres) explainEnd(proc *process) error {
	// The verdict is Postgres' own: it looks at the process that postmaster.pid
	// names and at the shared memory of the data directory, and a stale file
	// does not deter it.
	if strings.Contains(proc.log.tail(), `lock file "postmaster.pid" already exists`) {
		return p.home.occupied(postmasterPID(p.home.data))
	}
	return fmt.Errorf("Postgres ended while it started (%v)%s", proc.err, proc.log.quote())
}

// Stop shuts the server down, at first gently, and removes what was temporary.
// When it returns no process is left. It does nothing the second time, and
// nothing to a server that is not ours. Once ctx ends it no longer waits for
// clients to be served.
func (p *Postgres) Stop(ctx context.Context) error {
	p.turn.Lock()
	defer p.turn.Unlock()
	if p.given || p.stopped {
		return nil
	}
	err := p.shutDown(ctx)
	p.stopped = true
	return errors.Join(err, p.release())
}

// shutDown ends the process, if there is one.
func (p *Postgres) shutDown(ctx context.Context) error {
	proc := p.running.Load()
	if proc == nil || proc.ended() {
		return nil
	}
	proc.signalStop(p.account, p.binaries, p.home.data, fast)
	if proc.waitFor(ctx, fastShutdown) {
		return nil
	}
	proc.signalStop(p.account, p.binaries, p.home.data, immediate)
	if proc.waitFor(context.WithoutCancel(ctx), immediateShutdown) {
		return nil
	}
	if err := proc.kill(); err != nil {
		return err
	}
	return errors.New("Postgres did not stop when asked, and was killed")
}

// Kill ends the postmaster and all of its children at once, as a crash would.
// The data stays, also where it is temporary: Restart recovers it.
func (p *Postgres) Kill() error {
	p.turn.Lock()
	defer p.turn.Unlock()
	proc := p.running.Load()
	if p.given || proc == nil {
		return nil
	}
	return proc.kill()
}

// Restart starts the server again on the same data and under the same URL,
// after Kill or Stop; one that runs is shut down first. After Stop, data that
// was temporary is gone, and that is an error.
func (p *Postgres) Restart(ctx context.Context) error {
	p.turn.Lock()
	defer p.turn.Unlock()
	if p.given {
		return errors.New("a Postgres that is not ours cannot be restarted")
	}
	if err := p.shutDown(ctx); err != nil {
		return err
	}
	if p.stopped {
		if p.options.Dir == "" {
			return errors.New("restarting Postgres: Stop removed its temporary data")
		}
		if err := p.reacquire(); err != nil {
			return errors.Join(err, p.release())
		}
		p.stopped = false
	}
	return p.launch(ctx)
}

// reacquire takes back what Stop released.
func (p *Postgres) reacquire() error {
	if err := p.runDir.remake(p.account); err != nil {
		return err
	}
	return p.home.acquire()
}

// release gives back what Start took: locks, and temporary folders. It may
// find any part of them missing.
func (p *Postgres) release() error {
	var errs []error
	if p.home != nil {
		p.home.release()
	}
	if p.runDir != nil {
		errs = append(errs, p.runDir.remove())
	}
	return errors.Join(errs...)
}
