package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/cargokey/authz/authz"
	"github.com/cargokey/authz/storage/postgres"
)

// operate runs an operator's command on the database.
func (p *program) operate(ctx context.Context, do func(context.Context, *postgres.Store) error) error {
	c, err := p.readConfig()
	if err != nil {
		return err
	}
	url, err := c.database()
	if err != nil {
		return err
	}
	store, err := postgres.Open(ctx, url)
	if err != nil {
		return ownerNeeded(err)
	}
	defer store.Close()
	// Commands that write an audit event need today's partition of it, whether
	// or not a server has run yet.
	if err := store.Maintain(ctx, now()); err != nil {
		return ownerNeeded(err)
	}
	return ownerNeeded(do(ctx, store))
}

// ownerNeeded says of an error about rights which role has them.
func ownerNeeded(err error) error {
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) && pgErr.Code == "42501" { // insufficient_privilege
		return fmt.Errorf("this command logs in as the schema's owner, and AUTHZ_DATABASE_URL names another role: %w", err)
	}
	return err
}

// now is a command's clock, at the precision that Postgres keeps.
func now() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }

// operatorEvent is the audit event of a command.
func operatorEvent(kind authz.AuditKind) authz.AuditEvent {
	name := "unknown"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	event := authz.NewAuditEvent(now(), kind, authz.ActorOperator(name))
	event.RemoteAddr, _ = os.Hostname() // where it is typed; "" where nobody knows
	return event
}

// about says which thing an error of the Store is about.
func about(what, name string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s %s: %w", what, name, err)
}
