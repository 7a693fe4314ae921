package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cargokey/authz/internal/behaviour"
	"github.com/cargokey/authz/storage/postgres"
)

// behaviourView is what is known of a client's behaviour, as the command prints it. Of
// one of which nothing is learnt it has the client's name alone.
type behaviourView struct {
	ClientID string     `json:"client_id"`
	Since    *time.Time `json:"since,omitempty"`
	Last     *time.Time `json:"last,omitempty"`

	// Tokens in each hour of the week as learnt, from Monday 00:00 UTC on; none until a
	// week has gone by.
	UsualHours []float64  `json:"usual_hours,omitempty"`
	LastWeek   []hourView `json:"last_week,omitempty"`

	Keys        []sightingView `json:"dpop_keys,omitempty"`
	MoreKeys    int            `json:"more_dpop_keys,omitempty"`
	Networks    []sightingView `json:"networks,omitempty"`
	Scopes      []sightingView `json:"scopes,omitempty"`
	Resources   []sightingView `json:"resources,omitempty"`
	Credentials []sightingView `json:"credentials,omitempty"`
	UserAgents  []sightingView `json:"user_agents,omitempty"`

	ClockOffset        *offsetView `json:"clock_offset_ms,omitempty"` // how far the server's clock is past its proofs' iat
	LongestPause       int64       `json:"longest_pause_seconds,omitempty"`
	BusiestFiveMinutes int64       `json:"busiest_five_minutes,omitempty"`
	BusiestHour        int64       `json:"busiest_hour,omitempty"`

	Alerts []alertView `json:"alerts"` // that nobody has acknowledged
}

type hourView struct {
	At      time.Time `json:"at"`
	Issued  int64     `json:"issued"`
	Refused int64     `json:"refused"`
}

type sightingView struct {
	Name     string    `json:"name"`
	First    time.Time `json:"first"`
	Last     time.Time `json:"last"`
	Share    float64   `json:"share"`
	Unusual  bool      `json:"unusual,omitempty"`
	Enrolled bool      `json:"enrolled,omitempty"`
}

type offsetView struct {
	Median  int64 `json:"median"`
	Lowest  int64 `json:"lowest"`
	Highest int64 `json:"highest"`
}

func viewBehaviour(b *behaviour.Baseline, now time.Time) behaviourView {
	v := behaviourView{
		ClientID: b.ClientID, Since: &b.Since, Last: &b.Last, MoreKeys: b.MoreKeys(),
		Keys: viewSightings(b.Keys()), Networks: viewSightings(b.Networks()), Scopes: viewSightings(b.Scopes()),
		Resources: viewSightings(b.Resources()), Credentials: viewSightings(b.Credentials()), UserAgents: viewSightings(b.UserAgents()),
		LongestPause: int64(b.LongestPause().Seconds()), BusiestFiveMinutes: b.BusiestFiveMinutes(), BusiestHour: b.BusiestHour(),
	}
	if hours, known := b.UsualHours(); known {
		v.UsualHours = hours[:]
	}
	for _, h := range b.LastWeek(now) {
		v.LastWeek = append(v.LastWeek, hourView(h))
	}
	if median, lowest, highest, known := b.Offset(); known {
		v.ClockOffset = &offsetView{median.Milliseconds(), lowest.Milliseconds(), highest.Milliseconds()}
	}
	return v
}

func viewSightings(all []behaviour.Sighting) (views []sightingView) {
	for _, s := range all {
		views = append(views, sightingView(s))
	}
	return views
}

func (p *program) clientBehaviour() *cobra.Command {
	return &cobra.Command{
		Use: "behaviour ID", Short: "Draw what is normal for a client, and what its last week was", Args: oneArgument,
		Long: `Draw what is normal for a client, as the servers have learnt it from the audit trail,
and what its last week was. Times are UTC. What is marked with ! has raised an alert in
the last seven days, and does not count as normal.

Without a locale of UTF-8 (LC_ALL, LC_CTYPE, LANG) it draws with ASCII alone.`,
		Example: "  authz client behaviour label-service",
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.operate(cmd.Context(), func(ctx context.Context, s *postgres.Store) error {
				v, err := readBehaviour(ctx, s, args[0])
				if err != nil {
					return about("client", args[0], err)
				}
				pen := asciiPen()
				if hasUTF8(os.Getenv) {
					pen = blockPen()
				}
				return p.print(v, func(w io.Writer) { pen.draw(w, v) })
			})
		},
	}
}

func readBehaviour(ctx context.Context, s *postgres.Store, id string) (behaviourView, error) {
	kept, err := s.Baselines(ctx, []string{id})
	if err != nil {
		return behaviourView{}, err
	}
	v := behaviourView{ClientID: id}
	if summary, ok := kept[id]; ok {
		b := &behaviour.Baseline{ClientID: id}
		if err := json.Unmarshal(summary, b); err != nil {
			return v, fmt.Errorf("its baseline is of another build than this command: use that of the servers; if it is theirs, they begin anew when the client comes next: %w", err)
		}
		v = viewBehaviour(b, now())
	} else if _, err := s.Client(ctx, id, now()); err != nil {
		return v, err
	}
	open, err := s.Alerts(ctx, postgres.AlertFilter{ClientID: id})
	v.Alerts = []alertView{}
	for _, k := range open {
		v.Alerts = append(v.Alerts, viewAlert(k))
	}
	return v, err
}

// hasUTF8 tells whether the terminal shows more than ASCII, as POSIX says: the first of
// these variables that is set says so.
func hasUTF8(getenv func(string) string) bool {
	if getenv("TERM") == "dumb" {
		return false
	}
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if value := strings.ToLower(getenv(name)); value != "" {
			return strings.HasSuffix(value, "utf-8") || strings.HasSuffix(value, "utf8")
		}
	}
	return false
}
