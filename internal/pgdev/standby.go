package pgdev

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5"
)

// standbyName is the application_name of a Standby.
const standbyName = "standby"

// Standby starts a second server, which has p's data and follows it, and makes p
// wait at each commit until the second one has it on disk too. It ends with its
// own Stop. p is restarted: of a setting that is only read again nobody can tell
// when all of its processes know of it.
//
// It needs pg_basebackup beside the server's binaries; errors.Is tells the lack of
// it as os.ErrNotExist.
func (p *Postgres) Standby(ctx context.Context) (*Postgres, error) {
	if p.given || p.port != 0 {
		return nil, errors.New("only a Postgres of ours, on a socket, can be followed")
	}
	copier, err := p.binaries.beside("pg_basebackup")
	if err != nil {
		return nil, err
	}
	options := p.options
	options.Dir, options.Log = "", nil
	options.Settings = maps.Clone(p.options.Settings)
	if options.Settings == nil {
		options.Settings = map[string]string{}
	}
	options.Settings["wal_retrieve_retry_interval"] = "100ms" // how soon it is back after the restart
	s := &Postgres{options: options, account: p.account, binaries: p.binaries}
	if err := s.follow(ctx, p, copier); err != nil {
		return nil, errors.Join(err, s.release())
	}
	if err := s.launch(ctx); err != nil {
		return nil, errors.Join(err, s.release())
	}
	if err := p.awaitStandby(ctx); err != nil {
		return nil, errors.Join(err, s.Stop(context.WithoutCancel(ctx)))
	}
	return s, nil
}

// awaitStandby returns when p answers for nothing that its standby does not have.
func (p *Postgres) awaitStandby(ctx context.Context) error {
	if err := p.execute(ctx, `alter system set synchronous_standby_names = '`+standbyName+`'`); err != nil {
		return err
	}
	if err := p.Restart(ctx); err != nil {
		return err
	}
	conn, err := pgx.Connect(ctx, p.url)
	if err != nil {
		return fmt.Errorf("connecting to the primary: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	for {
		var follows bool
		err := conn.QueryRow(ctx, `select exists (select from pg_stat_replication where sync_state = 'sync')`).Scan(&follows)
		if err != nil {
			return fmt.Errorf("waiting for the standby to follow: %w", err)
		}
		if follows {
			return nil
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// execute runs a statement as the superuser.
func (p *Postgres) execute(ctx context.Context, sql string) error {
	conn, err := pgx.Connect(ctx, p.url)
	if err != nil {
		return fmt.Errorf("connecting to the server: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if _, err := conn.Exec(ctx, sql); err != nil {
		return fmt.Errorf("%s: %w", sql, err)
	}
	return nil
}

// follow makes s' data from what its primary holds.
func (s *Postgres) follow(ctx context.Context, primary *Postgres, copier string) error {
	m := thisMachine()
	var err error
	if s.runDir, err = newRunDir(ctx, m.tempDir, s.account, s.binaries); err != nil {
		return err
	}
	s.home = temporaryHome(s.runDir.path)
	if err := makeOwned(s.home.data, s.account); err != nil {
		return err
	}
	source := fmt.Sprintf("host=%s port=%d user=%s application_name=%s", primary.runDir.socketDir(), socketPort, superuser, standbyName)
	out, err := run(ctx, s.account, s.home.dir, copier, "--pgdata="+s.home.data, "--dbname="+source,
		"--write-recovery-conf", "--wal-method=stream", "--checkpoint=fast", "--no-sync")
	if err != nil {
		return fmt.Errorf("copying the data of the primary with %s: %w\n%s", copier, err, out)
	}
	s.url = s.databaseURL(database, "")
	s.source = fmt.Sprintf("PostgreSQL %s from %s, following %s", s.binaries.version, s.binaries.dir, primary.home)
	return nil
}

// beside finds a program that comes with the server, of which the folder in PATH
// may hold links to some.
func (b binaries) beside(name string) (string, error) {
	server, err := filepath.EvalSymlinks(b.postgres())
	if err != nil {
		return "", err
	}
	for _, dir := range []string{b.dir, filepath.Dir(server)} {
		if program := executable(dir, name); isFile(program) {
			return program, nil
		}
	}
	return "", fmt.Errorf("there is no %s beside %s: %w", name, server, os.ErrNotExist)
}

// Promote makes a standby a primary, and returns when it writes. Whoever calls it
// has seen to it that the one before does not.
func (p *Postgres) Promote(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, p.url)
	if err != nil {
		return fmt.Errorf("connecting to the standby: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var promoted bool
	if err := conn.QueryRow(ctx, `select pg_promote(true, 60)`).Scan(&promoted); err != nil {
		return fmt.Errorf("promoting the standby: %w", err)
	}
	if !promoted {
		return errors.New("the standby was not promoted within a minute")
	}
	return nil
}
