package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/cargokey/authz/migrations"
	"github.com/cargokey/authz/storage/postgres"
)

func (p *program) migrateCommand() *cobra.Command {
	var statusOnly bool
	c := &cobra.Command{
		Use:   "migrate",
		Short: "Bring the database's schema up to date",
		Long: `Bring the database's schema up to date. AUTHZ_DATABASE_URL logs in as the schema's
owner. It is safe to run at any time, while servers run, and from several machines
at once. A schema that is ahead of this build, and that this build may use, it leaves
as it is.

With --status it changes nothing, and its exit code is 0 only where nothing is to do.`,
		Example: "  AUTHZ_DATABASE_URL=postgres://authz_owner:…@db/authz authz migrate",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return p.migrate(cmd.Context(), statusOnly) },
	}
	c.Flags().BoolVar(&statusOnly, "status", false, "only say where the schema stands")
	return c
}

func (p *program) migrate(ctx context.Context, statusOnly bool) error {
	conn, err := p.connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if err := postgres.Direct(ctx, conn); err != nil { // it takes a lock of the session
		return err
	}
	before, err := migrations.Read(ctx, conn)
	if err != nil {
		return ownerNeeded(err)
	}
	if !statusOnly {
		if err := migrations.Up(ctx, conn); err != nil {
			return ownerNeeded(err)
		}
	}
	after, err := migrations.Read(ctx, conn)
	if err != nil {
		return err
	}
	if err := p.print(after, func(w io.Writer) {
		switch {
		case after.Current > after.Known && after.Usable():
			fmt.Fprintf(w, "schema at version %d, this build knows %d and may use it: nothing to do\n", after.Current, after.Known)
		case after.Current != after.Known:
			fmt.Fprintf(w, "schema at version %d, this build knows %d\n", after.Current, after.Known)
		case before.Current == after.Current:
			fmt.Fprintf(w, "schema at version %d: nothing to do\n", after.Current)
		default:
			fmt.Fprintf(w, "schema at version %d, was %d\n", after.Current, before.Current)
		}
	}); err != nil {
		return err
	}
	switch {
	case after.Current < after.Known:
		return errors.New("the schema is behind this build: run authz migrate")
	case !after.Usable():
		return errors.New("the schema is ahead of this build: run a newer one")
	}
	return nil
}

// connect opens one connection as the schema's owner.
func (p *program) connect(ctx context.Context) (*pgx.Conn, error) {
	c, err := p.readConfig()
	if err != nil {
		return nil, err
	}
	url, err := c.database()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return nil, fmt.Errorf("connecting to the database: %w", err)
	}
	return conn, nil
}
