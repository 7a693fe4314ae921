package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cargokey/authz/authz"
	"github.com/cargokey/authz/storage/postgres"
)

func (p *program) auditCommand() *cobra.Command {
	return group("audit", "Read the audit trail, follow it, check it, and say how long it is kept",
		"  authz audit query --client label-service --since 24h",
		p.auditQuery(), p.auditTail(), p.auditVerify(), p.auditKeep())
}

// trailFlags say which events are wanted.
type trailFlags struct {
	query        authz.TrailQuery
	jtis         []string
	since, until string
}

func (f *trailFlags) add(c *cobra.Command) {
	c.Flags().StringArrayVar(&f.query.Clients, "client", nil, "ID: of this client; several times for several, as all of these")
	c.Flags().StringArrayVar(&f.query.Resources, "resource", nil, "URI: of this resource")
	c.Flags().StringArrayVar(&f.query.Kinds, "kind", nil, "KIND: of this kind, such as token.issued, or of all that begin so: 'token.*'")
	c.Flags().StringArrayVar(&f.query.Actors, "actor", nil, "NAME: by this actor: client:ID, operator:NAME or server")
	c.Flags().StringArrayVar(&f.jtis, "jti", nil, "JTI: of this token")
	c.Flags().StringArrayVar(&f.query.JKTs, "jkt", nil, "THUMBPRINT: of this DPoP key")
	c.Flags().StringArrayVar(&f.query.RequestIDs, "request-id", nil, "ID: of this request, as the servers' logs name it")
}

// read fills in the query.
func (f *trailFlags) read(now time.Time) (err error) {
	for _, kind := range f.query.Kinds {
		if !slices.ContainsFunc(authz.AuditKinds(), func(k authz.AuditKind) bool { return authz.KindFits(kind, k) }) {
			return fmt.Errorf("--kind %s: there is no such kind; it may be a beginning with a star, such as token.*, or one of %s", kind, kindList())
		}
	}
	for _, text := range f.jtis {
		jti, err := authz.ParseJTI(text)
		if err != nil {
			return fmt.Errorf("--jti %s: it is %w, such as 0193b0c4-5a4e-7c3a-8f6e-2d1f0a9b8c7d", text, err)
		}
		f.query.JTIs = append(f.query.JTIs, jti)
	}
	for _, jkt := range f.query.JKTs {
		if !authz.ValidJKT(jkt) {
			return notAThumbprint(jkt)
		}
	}
	for _, actor := range f.query.Actors {
		if actor != authz.ActorServer && !strings.HasPrefix(actor, "client:") && !strings.HasPrefix(actor, "operator:") {
			return fmt.Errorf("--actor %s: it may be client:ID, operator:NAME or server", actor)
		}
	}
	if f.query.Since, err = readMoment("--since", f.since, now); err != nil {
		return err
	}
	if f.query.Until, err = readMoment("--until", f.until, now); err != nil {
		return err
	}
	if !f.query.Until.IsZero() && !f.query.Since.Before(f.query.Until) {
		return errors.New("--until is not after --since")
	}
	return nil
}

func kindList() string {
	var all []string
	for _, k := range authz.AuditKinds() {
		all = append(all, string(k))
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

// readMoment takes a time, a day or how long ago it was; "" is the zero time.
func readMoment(flag, text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if at, err := time.Parse(time.RFC3339Nano, text); err == nil {
		return at, nil
	}
	if at, err := time.Parse(time.DateOnly, text); err == nil {
		return at, nil
	}
	if d, ok := readDuration(text); ok {
		return now.Add(-d), nil
	}
	return time.Time{}, fmt.Errorf("%s %s: it may be how long ago, such as 90m, 24h or 7d, a day (UTC), such as 2026-11-23, or a time, such as 2026-11-23T03:00:00Z", flag, text)
}

// readDuration is time.ParseDuration with days, of which an operator thinks.
func readDuration(text string) (time.Duration, bool) {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		n, err := strconv.Atoi(days)
		return time.Duration(n) * 24 * time.Hour, err == nil && n > 0 && n <= 100*365
	}
	d, err := time.ParseDuration(text)
	return d, err == nil && d > 0
}

// defaultSince keeps a query that says nothing of time from reading months.
const defaultSince = "24h"

func (p *program) auditQuery() *cobra.Command {
	var f trailFlags
	c := &cobra.Command{
		Use: "query", Short: "Show events of the audit trail", Args: cobra.NoArgs,
		Long: `Show events of the audit trail, the oldest first: of the last 24 hours, unless --since
says otherwise. With several flags an event has to fit each; with one flag several
times, one of its values. Times are printed in the local time zone (TZ), and with
--json in UTC, one event a line, under the names that docs/operations.md lists. Of an
alert the text has what was seen, and "authz alerts show" the rest.

AUTHZ_DATABASE_URL logs in as the schema's owner.`,
		Example: `  authz audit query --client label-service --since 7d --kind 'token.*'
  authz audit query --request-id 7c1fd3a0b2c4 --since 2026-11-23T02:00:00Z
  authz audit query --kind client.secret_rotated --limit 20 --since 90d --json`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.query.Limit < 0 {
				return errors.New("--limit is how many events at most: 1 or more, or 0 for all")
			}
			if err := f.read(now()); err != nil {
				return err
			}
			return p.operate(cmd.Context(), func(ctx context.Context, s *postgres.Store) error {
				printer := p.trailPrinter()
				if err := s.QueryTrail(ctx, f.query, printer.print); err != nil {
					return errors.Join(err, printer.flush())
				}
				if !printer.headed && printer.json == nil {
					fmt.Fprintln(p.err, "no event fits, of those since "+f.query.Since.Local().Format("2006-01-02 15:04:05"))
				}
				return printer.flush()
			})
		},
	}
	f.add(c)
	c.Flags().StringVar(&f.since, "since", defaultSince, "from then on: how long ago (24h, 7d), a day (2026-11-23, UTC), or a time (RFC 3339)")
	c.Flags().StringVar(&f.until, "until", "", "before then: the same")
	c.Flags().IntVar(&f.query.Limit, "limit", 0, "the last so many of them; 0: all")
	return c
}

// keepView is how long the trail is kept.
type keepView struct {
	Days int `json:"keep_days"`
	// Oldest is up to where events were dropped for their age.
	Oldest *time.Time `json:"dropped_before,omitempty"`
}

func (v keepView) text(w io.Writer) {
	fmt.Fprintf(w, "events are kept for %d days\n", v.Days)
	if v.Oldest != nil {
		fmt.Fprintf(w, "those before %s have gone\n", v.Oldest.Format(time.DateOnly))
	}
}

const maxKeepDays = 3650

func (p *program) auditKeep() *cobra.Command {
	return &cobra.Command{
		Use: "keep [DAYS]", Short: "Say how long the audit trail is kept", Args: cobra.MaximumNArgs(1),
		Long: `Say how long the audit trail is kept: 1d to 3650d, and 90 days by default. Days that
are older go, each as a whole, within the hour, and do not come back. Without DAYS it
tells how long that is. It is the owner's to say: the servers' role cannot.`,
		Example: "  authz audit keep 180d",
		RunE: func(cmd *cobra.Command, args []string) error {
			days := 0
			if len(args) == 1 {
				d, ok := readDuration(args[0])
				days = int(d / (24 * time.Hour))
				if !ok || days < 1 || days > maxKeepDays || d%(24*time.Hour) != 0 {
					return fmt.Errorf("%q: it may be whole days, 1d to %dd", args[0], maxKeepDays)
				}
			}
			return p.operate(cmd.Context(), func(ctx context.Context, s *postgres.Store) error { return p.keepTrail(ctx, s, days) })
		},
	}
}

// keepTrail changes it, unless days is 0.
func (p *program) keepTrail(ctx context.Context, s *postgres.Store, days int) error {
	before, err := s.TrailRecord(ctx)
	if err != nil {
		return err
	}
	if days > 0 {
		event := operatorEvent(authz.AuditRetentionChanged)
		event.Detail = map[string]any{"keep_days": days, "before": before.KeepDays}
		if _, err := s.KeepTrail(ctx, days, event); err != nil {
			return err
		}
		before.KeepDays = days
	}
	v := keepView{Days: before.KeepDays}
	if !before.DroppedBefore.IsZero() {
		v.Oldest = new(before.DroppedBefore.UTC())
	}
	return p.print(v, v.text)
}
