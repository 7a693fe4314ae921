package main

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/spf13/cobra"

	"github.com/cargokey/authz/authz"
	"github.com/cargokey/authz/storage/postgres"
)

const (
	// tailEvery is how soon an event is seen that is there.
	tailEvery = time.Second
	tailBatch = 1000
	// tailPatience is how long an answer is waited for.
	tailPatience = 30 * time.Second
)

func (p *program) auditTail() *cobra.Command {
	var f trailFlags
	c := &cobra.Command{
		Use: "tail", Short: "Show events of the audit trail as they come", Args: cobra.NoArgs,
		Long: `Show events of the audit trail as they come, until it is interrupted: those from now on,
or from --since. The flags are those of "authz audit query". Events come in the order
in which they were recorded, each of them once, none is left out, and one that was
recorded late comes late. It goes on where the database was away.

AUTHZ_DATABASE_URL logs in as the schema's owner.`,
		Example: `  authz audit tail --kind 'alert.*' --kind token.refused
  authz audit tail --since 1h --json`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.read(now()); err != nil {
				return err
			}
			err := p.operate(cmd.Context(), func(ctx context.Context, s *postgres.Store) error { return p.tail(ctx, s, f.query) })
			if errors.Is(err, context.Canceled) { // that is how it ends
				return nil
			}
			return err
		},
	}
	f.add(c)
	c.Flags().StringVar(&f.since, "since", "", "from then on: how long ago (24h, 7d), a day (2026-11-23, UTC), or a time (RFC 3339); else from now on")
	return c
}

func (p *program) tail(ctx context.Context, s *postgres.Store, q authz.TrailQuery) error {
	at, err := s.TrailFrom(ctx, q.Since)
	if err != nil {
		return err
	}
	printer := p.trailPrinter()
	for away := false; ; {
		events, err := readTrail(ctx, s, at)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case refusedForGood(err):
			return err
		case err != nil && !away:
			p.warn("the database does not answer, and is asked again: " + err.Error())
		case err == nil && away:
			p.warn("the database answers again")
		}
		away = err != nil
		for _, e := range events {
			at = e.Position
			if !q.Matches(e) {
				continue
			}
			if err := printer.print(e); err != nil {
				return err
			}
		}
		if err := printer.flush(); err != nil {
			return err
		}
		if len(events) < tailBatch {
			if err := sleep(ctx, tailEvery); err != nil {
				return err
			}
		}
	}
}

func readTrail(ctx context.Context, s *postgres.Store, at authz.TrailPosition) ([]authz.TrailEvent, error) {
	ctx, cancel := context.WithTimeout(ctx, tailPatience)
	defer cancel()
	return s.Trail(ctx, at, tailBatch)
}

// refusedForGood tells whether asking again changes nothing: a right or a function is
// missing.
func refusedForGood(err error) bool {
	var pgErr *pgconn.PgError
	return errors.As(err, &pgErr) && pgErr.Code[:2] == "42"
}
