package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cargokey/authz/authz"
	"github.com/cargokey/authz/storage/postgres"
)

func (p *program) databaseCommand() *cobra.Command {
	return group("database", "Say what became of a database that was restored or moved", "  authz database status",
		p.databaseStatus(), p.databaseRestored(), p.databaseMoved())
}

type databaseView struct {
	Database string     `json:"database"`        // served or copied
	Timeline string     `json:"timeline"`        // same, changed or unknown
	Fence    *time.Time `json:"fence,omitempty"` // nothing that was signed before is accepted
}

func viewDatabase(state authz.DatabaseState, err error) (databaseView, error) {
	v := databaseView{Database: "served", Timeline: "changed"}
	switch {
	case errors.Is(err, authz.ErrCopied):
		v.Database = "copied"
	case err != nil:
		return v, err
	}
	if state.SameTimeline {
		v.Timeline = "same"
	}
	if !state.Fence.IsZero() {
		at := state.Fence.UTC()
		v.Fence = &at
	}
	return v, nil
}

func (v databaseView) text(w io.Writer) {
	if v.Database == "copied" {
		fmt.Fprintln(w, "a copy of the database that was served; no server serves from it")
	} else {
		fmt.Fprintln(w, "the database that is served")
	}
	if v.Timeline == "changed" {
		fmt.Fprintln(w, "Postgres was promoted or recovered since it was claimed")
	}
	if v.Fence != nil {
		fmt.Fprintf(w, "nothing is accepted that was signed before %s\n", v.Fence.Format(time.RFC3339))
	}
}

func (p *program) databaseStatus() *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "Tell whether this is the database that was served, or a copy", Args: cobra.NoArgs,
		Long: `Tell whether this is the database that was served, or a copy of it, from which no
server serves before an operator has said what became of what is not in it. The exit
code is 0 only where there is nothing to say: it is no copy, and Postgres was neither
promoted nor recovered since it was claimed.`,
		Example: "  authz database status --json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.operate(cmd.Context(), func(ctx context.Context, s *postgres.Store) error {
				v, err := viewDatabase(s.Database(ctx))
				if err != nil {
					return err
				}
				if err := p.print(v, v.text); err != nil {
					return err
				}
				switch {
				case v.Database == "copied":
					return authz.ErrCopied
				case v.Timeline == "changed":
					return errors.New("if anything that was committed is lost, run authz database restored, and otherwise authz database moved")
				}
				return nil
			})
		},
	}
}

func (p *program) databaseMoved() *cobra.Command {
	var reason string
	c := &cobra.Command{
		Use: "moved", Short: "Serve from this database: nothing of it was lost", Args: cobra.NoArgs,
		Long: `Serve from this database, in which there is all that the one before it ever answered:
every server was stopped before it was copied (a move, pg_upgrade), or a synchronous
standby was promoted. Tokens stay active. If in doubt: authz database restored.`,
		Example: `  authz database moved --reason "to PostgreSQL 17"`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := validReason(reason); err != nil {
				return err
			}
			return p.operate(cmd.Context(), func(ctx context.Context, s *postgres.Store) error {
				if err := s.ClaimMoved(ctx, claimEvent(authz.AuditDatabaseMoved, reason)); err != nil {
					return err
				}
				return p.printClaimed(ctx, s, nil)
			})
		},
	}
	c.Flags().StringVar(&reason, "reason", "", "why, for the audit trail; needed")
	return c
}

const (
	// leastAhead is how far ahead the iat of a client's assertion may be, whatever the
	// skew (FAPI 2.0 Security Profile §5.3.2.1).
	leastAhead = 10 * time.Second
	// settling lets clients sign what is not refused by the time that servers start:
	// an iat is in whole seconds.
	settling = 2 * time.Second
)

func (p *program) databaseRestored() *cobra.Command {
	var reason string
	c := &cobra.Command{
		Use: "restored", Short: "Serve from this database, though the last of what was answered is lost", Args: cobra.NoArgs,
		Long: `Serve from this database, which was restored from a backup, or was promoted while it
lacked the last transactions. In one step all tokens are made inactive: clients ask for
new ones. Proofs and assertions that were signed before are refused: whether they were
used, nobody knows. For that it waits first for as long as a client's clock may be
ahead (AUTHZ_CLOCK_SKEW, as the servers have it, and 10 s at least).

What was changed after the backup is lost, and it prints what that may be: clients that
were disabled, secrets that were rotated and keys that were revoked are in force again
until that is done again.`,
		Example: `  authz database restored --reason "disk of db1 lost, backup of 03:00"`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := validReason(reason); err != nil {
				return err
			}
			return p.restored(cmd.Context(), reason)
		},
	}
	c.Flags().StringVar(&reason, "reason", "", "why, for the audit trail; needed")
	return c
}

func (p *program) restored(ctx context.Context, reason string) error {
	c, err := p.readConfig()
	if err != nil {
		return err
	}
	return p.operate(ctx, func(ctx context.Context, s *postgres.Store) error {
		// What was spent until now says at most this of when it was signed.
		ahead := max(c.ClockSkew, leastAhead)
		fence := now().Add(ahead)
		fmt.Fprintf(p.err, "authz: waiting for %s, until nothing that was signed before can be of a time after this\n", (ahead + settling).Round(time.Second))
		if err := sleep(ctx, ahead+settling); err != nil {
			return err
		}
		last, err := s.ClaimRestored(ctx, fence, claimEvent(authz.AuditDatabaseRestored, reason))
		if err != nil {
			return err
		}
		return p.printClaimed(ctx, s, &last)
	})
}

func claimEvent(kind authz.AuditKind, reason string) authz.AuditEvent {
	e := operatorEvent(kind)
	e.Detail = map[string]any{"reason": reason}
	return e
}

type claimedView struct {
	databaseView
	// LastEvent is of the audit trail: what came later is lost.
	LastEvent *time.Time `json:"last_event,omitempty"`
}

// printClaimed says where it stands; last is of a database that was restored.
func (p *program) printClaimed(ctx context.Context, s *postgres.Store, last *time.Time) error {
	state, err := s.Database(ctx)
	v, err := viewDatabase(state, err)
	if err != nil {
		return err
	}
	claimed := claimedView{databaseView: v}
	if last != nil && !last.IsZero() {
		at := last.UTC()
		claimed.LastEvent = &at
	}
	return p.print(claimed, func(w io.Writer) {
		v.text(w)
		if last == nil {
			return
		}
		since := "the backup"
		if claimed.LastEvent != nil {
			since = claimed.LastEvent.Format(time.RFC3339)
		}
		fmt.Fprintf(w, `all tokens from before are inactive
What operators and clients have done since %s is lost. Look for it in the servers'
logs and in shells' histories, and do it again:
  authz client disable ID              clients that were disabled or deleted
  authz client rotate-secret ID --now  secrets and keys that were replaced
  authz token revoke --jkt THUMBPRINT  DPoP keys that were revoked or removed
  authz key rotate --now --alg ALG     once for each algorithm: signing keys that were revoked sign again
  authz resource create, client create what was registered or changed
`, since)
	})
}

func validReason(reason string) error {
	switch {
	case strings.TrimSpace(reason) == "":
		return errors.New("--reason is missing; say why, for those who read the audit trail")
	case len(reason) > 500 || strings.ContainsFunc(reason, func(r rune) bool { return r < ' ' }):
		return errors.New("--reason is longer than 500 bytes, or has a line break")
	}
	return nil
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
