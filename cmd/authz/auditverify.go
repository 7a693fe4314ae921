package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/cargokey/authz/internal/audittrail"
	"github.com/cargokey/authz/storage/postgres"
)

var errTrailBroken = errors.New("the audit trail is not as it was sealed")

// verifyFlags say what is looked at.
type verifyFlags struct {
	days        []string
	since, head string
	lostKeys    []string
}

func (p *program) auditVerify() *cobra.Command {
	var f verifyFlags
	c := &cobra.Command{
		Use: "verify", Short: "Check that nobody has changed the audit trail", Args: cobra.NoArgs,
		Long: `Check the audit trail against its seals: of all days, or those that --day and --since
name. The chain of seals is always checked as a whole. It says which days are whole,
what is not sealed yet, and what is from before there were seals; and for a break which
seal it is, where, and what is known of it. The exit code is 1 where there is a break.

It needs AUTHZ_KEY_ENCRYPTION_KEY as the servers have it, with the keys of before after
it: seals of a key that it does not have may be anybody's, and the exit code is 1 until
--lost-key says that this key is known to be lost.

That the end of the trail was cut off only a copy of its head tells: the servers log it
once a minute as "audit trail sealed", with head=NUMBER:DIGEST. Keep those elsewhere, and
give the last one as --head.

AUTHZ_DATABASE_URL logs in as the schema's owner.`,
		Example: `  authz audit verify
  authz audit verify --since 7d --head 48211:3f0c2f8e5a1b7c9d3f0c2f8e5a1b7c9d3f0c2f8e5a1b7c9d3f0c2f8e5a1b7c9d
  authz audit verify --day 2026-11-22 --json`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			choice, err := f.choice(now())
			if err != nil {
				return err
			}
			c, err := readConfig()
			if err != nil {
				return err
			}
			sealer, err := c.sealer()
			if err != nil {
				return err
			}
			keys, err := audittrail.NewKeys(sealer)
			if err != nil {
				return err
			}
			return p.operate(cmd.Context(), func(ctx context.Context, s *postgres.Store) error {
				report, err := audittrail.Verify(ctx, s, keys, choice)
				if err != nil {
					return err
				}
				return p.printReport(report, f.lostKeys)
			})
		},
	}
	c.Flags().StringArrayVar(&f.days, "day", nil, "DAY: only the events of this day (2026-11-23, UTC); several times for several")
	c.Flags().StringVar(&f.since, "since", "", "only the events of the days from then on: how long ago (7d), a day, or a time (RFC 3339)")
	c.Flags().StringVar(&f.head, "head", "", "NUMBER:DIGEST of a seal, as a server has logged it: it must be in the chain")
	c.Flags().StringArrayVar(&f.lostKeys, "lost-key", nil, "NAME of a sealing key that nobody has any more: its seals are taken as they are")
	return c
}

func (f *verifyFlags) choice(now time.Time) (audittrail.Choice, error) {
	var c audittrail.Choice
	for _, day := range f.days {
		if _, err := time.Parse(time.DateOnly, day); err != nil {
			return c, fmt.Errorf("--day %s: it may be a day (UTC), such as 2026-11-23", day)
		}
	}
	since, err := readMoment("--since", f.since, now)
	if err != nil {
		return c, err
	}
	if len(f.days) > 0 || !since.IsZero() {
		from := since.UTC().Format(time.DateOnly)
		c.Days = func(day string) bool {
			return slices.Contains(f.days, day) || !since.IsZero() && day >= from
		}
	}
	if f.head != "" {
		head, err := audittrail.ParseHead(f.head)
		if err != nil {
			return c, fmt.Errorf("--head: %w", err)
		}
		c.Head = &head
	}
	return c, nil
}

// printReport prints it, and fails where it is not good.
func (p *program) printReport(r *audittrail.Report, lost []string) error {
	if err := p.print(r, func(w io.Writer) { reportText(w, r) }); err != nil {
		return err
	}
	if r.Broken() {
		return errTrailBroken
	}
	for _, key := range slices.Sorted(maps.Keys(r.LostKeys)) {
		if !slices.Contains(lost, key) {
			return fmt.Errorf("%d seals are by the sealing key %s, which AUTHZ_KEY_ENCRYPTION_KEY does not have: who made them is not known; add the key, after the others, or give --lost-key %s", r.LostKeys[key], key, key)
		}
	}
	return nil
}

func reportText(w io.Writer, r *audittrail.Report) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "DAY\tSTATE\tSEALS\tEVENTS\tNOT SEALED YET\tNOTE")
	for _, d := range r.Days {
		if d.State == audittrail.Empty {
			continue
		}
		fmt.Fprintf(t, "%s\t%s\t%d\t%d\t%d\t%s\n", d.Day, d.State, d.Seals, d.Events, d.Open, noteOf(d))
	}
	t.Flush()
	for _, d := range r.Days {
		for _, b := range d.Breaks {
			fmt.Fprintf(w, "BREAK %s: %s\n", d.Day, b)
		}
	}
	for _, b := range r.Breaks {
		fmt.Fprintf(w, "BREAK %s\n", b)
	}
	for _, key := range slices.Sorted(maps.Keys(r.LostKeys)) {
		fmt.Fprintf(w, "%d seals are by the sealing key %s, which is not here\n", r.LostKeys[key], key)
	}
	if r.Head != nil {
		fmt.Fprintf(w, "head %s\n", r.Head)
	}
}

func noteOf(d audittrail.Day) string {
	var notes []string
	if d.Before > 0 {
		notes = append(notes, fmt.Sprintf("%d events are from before there were seals", d.Before))
	}
	if d.Late > 0 {
		notes = append(notes, fmt.Sprintf("%d events were recorded days late", d.Late))
	}
	return strings.Join(notes, "; ")
}
