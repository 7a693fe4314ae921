package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/cargokey/authz/authz"
	"github.com/cargokey/authz/internal/behaviour"
	"github.com/cargokey/authz/internal/watch"
	"github.com/cargokey/authz/storage/postgres"
)

// alertView is an alert as the commands print it, by the names that the webhook has.
type alertView struct {
	ID            string    `json:"id"`
	ClientID      string    `json:"client_id"`
	Kind          string    `json:"kind"`
	Subject       string    `json:"subject"`
	RaisedAt      time.Time `json:"raised_at"`
	LastAt        time.Time `json:"last_at"`
	Times         int64     `json:"times"`
	Normal        string    `json:"normal"`
	Seen          string    `json:"seen"`
	Why           string    `json:"why"`
	Do            []string  `json:"do"`
	EventID       string    `json:"event_id,omitempty"`
	RequestID     string    `json:"request_id,omitempty"`
	OtherClientID string    `json:"other_client_id,omitempty"`

	AcknowledgedAt *time.Time    `json:"acknowledged_at,omitempty"`
	AcknowledgedBy string        `json:"acknowledged_by,omitempty"`
	Note           string        `json:"note,omitempty"`
	Webhook        *deliveryView `json:"webhook,omitempty"` // none: there was no webhook when it was raised
}

type deliveryView struct {
	Attempts    int        `json:"attempts"`
	DeliveredAt *time.Time `json:"delivered_at,omitempty"`
	DueAt       *time.Time `json:"due_at,omitempty"`
}

func viewAlert(k watch.Kept) alertView {
	v := alertView{
		ID: k.ID, ClientID: k.ClientID, Kind: string(k.Kind), Subject: k.Subject, RaisedAt: k.RaisedAt.UTC(), LastAt: k.LastAt.UTC(), Times: k.Times,
		Normal: k.Normal, Seen: k.Seen, Why: k.Why, Do: watch.Lines(k.Do), EventID: k.EventID, RequestID: k.RequestID, OtherClientID: k.Other,
		AcknowledgedBy: k.AcknowledgedBy, Note: k.Note,
	}
	if !k.AcknowledgedAt.IsZero() {
		v.AcknowledgedAt = new(k.AcknowledgedAt.UTC())
	}
	if k.Delivery.Wanted {
		v.Webhook = &deliveryView{Attempts: k.Delivery.Attempts}
		if k.Delivery.DeliveredAt.IsZero() {
			v.Webhook.DueAt = new(k.Delivery.DueAt.UTC())
		} else {
			v.Webhook.DeliveredAt = new(k.Delivery.DeliveredAt.UTC())
		}
	}
	return v
}

func (p *program) alertsCommand() *cobra.Command {
	return group("alerts", "See what clients do that is not like them, and say that you have seen it",
		"  authz alerts list", p.alertsList(), p.alertsShow(), p.alertsAck())
}

func (p *program) alertsList() *cobra.Command {
	var f postgres.AlertFilter
	var since string
	c := &cobra.Command{
		Use: "list", Short: "List alerts that nobody has acknowledged, the latest first", Args: cobra.NoArgs,
		Long: `List alerts that nobody has acknowledged, the latest first. Alike ones are one: TIMES
says how many, and LAST when the last was, in UTC. "authz alerts show" tells what was
normal, what was seen, why it matters and what to type.`,
		Example: `  authz alerts list
  authz alerts list --client label-service --all --since 7d --json`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.Kind != "" && !slices.Contains(behaviour.AlertKinds(), behaviour.AlertKind(f.Kind)) {
				return fmt.Errorf("--kind %s: it may be one of %s", f.Kind, alertKindList())
			}
			var err error
			if f.Since, err = readMoment("--since", since, now()); err != nil {
				return err
			}
			return p.operate(cmd.Context(), func(ctx context.Context, s *postgres.Store) error {
				kept, err := s.Alerts(ctx, f)
				if err != nil {
					return err
				}
				views := []alertView{}
				for _, k := range kept {
					views = append(views, viewAlert(k))
				}
				return p.print(views, func(w io.Writer) { alertTable(w, views) })
			})
		},
	}
	c.Flags().StringVar(&f.ClientID, "client", "", "ID: of this client")
	c.Flags().StringVar(&f.Kind, "kind", "", "KIND: of this kind: "+alertKindList())
	c.Flags().StringVar(&since, "since", "", "how long ago (24h, 7d), a day or a time: whose last time was since")
	c.Flags().BoolVar(&f.Acknowledged, "all", false, "those that were acknowledged too")
	complete(c, "kind", behaviour.AlertKinds())
	return c
}

func alertKindList() string {
	var all []string
	for _, k := range behaviour.AlertKinds() {
		all = append(all, string(k))
	}
	return strings.Join(all, ", ")
}

// subjectShown is how much of a subject a line has room for: an alert is told apart by
// its ID.
const subjectShown = 20

func alertTable(w io.Writer, views []alertView) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "ALERT\tLAST\tTIMES\tKIND\tCLIENT\tSUBJECT")
	for _, v := range views {
		fmt.Fprintf(t, "%s\t%s\t%d\t%s\t%s\t%s\n", v.ID, v.LastAt.Format("01-02 15:04"), v.Times, v.Kind, v.ClientID, cut(printable(v.Subject), subjectShown))
	}
	t.Flush()
}

// cut is the beginning of a text that is too long.
func cut(text string, most int) string {
	runes := []rune(text)
	if len(runes) <= most {
		return text
	}
	return string(runes[:most-2]) + ".."
}

// readAlertID takes an ID as people write it.
func readAlertID(text string) (string, error) {
	id, ok := watch.ParseID(text)
	if !ok {
		return "", fmt.Errorf("alert %s: an alert's ID has %d letters and digits, as authz alerts list prints it", text, watch.IDLength)
	}
	return id, nil
}

func (p *program) alertsShow() *cobra.Command {
	return &cobra.Command{
		Use: "show ID", Short: "Show an alert: what was normal, what was seen, why it matters and what to type", Args: oneArgument,
		Example: "  authz alerts show 7k2m9xq4tz3n",
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := readAlertID(args[0])
			if err != nil {
				return err
			}
			return p.operate(cmd.Context(), func(ctx context.Context, s *postgres.Store) error {
				kept, err := s.Alert(ctx, id)
				if err != nil {
					return about("alert", id, err)
				}
				v := viewAlert(kept)
				return p.print(v, v.text)
			})
		},
	}
}

func (v alertView) text(w io.Writer) {
	moment := func(t time.Time) string { return t.Format("2006-01-02 15:04:05 UTC") }
	fmt.Fprintf(w, "alert    %s   %s   %s\n", v.ID, v.Kind, v.ClientID)
	if v.Subject != "" {
		fmt.Fprintf(w, "subject  %s\n", printable(v.Subject))
	}
	fmt.Fprintf(w, "raised   %s", moment(v.RaisedAt))
	if v.Times > 1 {
		fmt.Fprintf(w, "; %d times, the last at %s", v.Times, moment(v.LastAt))
	}
	fmt.Fprintln(w)
	if v.AcknowledgedAt != nil {
		fmt.Fprintf(w, "seen by  %s, %s", v.AcknowledgedBy, moment(*v.AcknowledgedAt))
		if v.Note != "" {
			fmt.Fprintf(w, ": %s", printable(v.Note))
		}
		fmt.Fprintln(w)
	}
	switch d := v.Webhook; {
	case d == nil:
	case d.DeliveredAt != nil:
		fmt.Fprintf(w, "webhook  delivered at %s\n", moment(*d.DeliveredAt))
	default:
		fmt.Fprintf(w, "webhook  waits; attempts so far: %d, the next at %s\n", d.Attempts, moment(*d.DueAt))
	}
	if v.RequestID != "" {
		fmt.Fprintf(w, "request  %s\n", printable(v.RequestID))
	}
	for _, part := range []struct{ title, text string }{{"What was normal", v.Normal}, {"What was seen", v.Seen}, {"Why it matters", v.Why}} {
		fmt.Fprintf(w, "\n%s\n", part.title)
		for _, line := range wrap(printable(part.text), 76) {
			fmt.Fprintf(w, "  %s\n", line)
		}
	}
	fmt.Fprintf(w, "\nWhat to type\n")
	for _, line := range v.Do { // as it is: it is to be copied
		fmt.Fprintf(w, "  %s\n", printable(line))
	}
	if v.AcknowledgedAt == nil {
		fmt.Fprintf(w, "\nWhen you have looked at it\n  authz alerts ack %s --note 'what it was'\n", v.ID)
	}
}

// wrap breaks a text into lines at its spaces.
func wrap(text string, width int) []string {
	var lines []string
	line := ""
	for word := range strings.FieldsSeq(text) {
		if line != "" && len([]rune(line))+1+len([]rune(word)) > width {
			lines, line = append(lines, line), ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	return append(lines, line)
}

func (p *program) alertsAck() *cobra.Command {
	var note string
	c := &cobra.Command{
		Use: "ack ID...", Short: "Say that somebody has looked at alerts; what is alike is a new one from then on",
		Long: `Say that somebody has looked at alerts. They leave the list, and what is alike is a new
alert from then on. It is an event of the audit trail, with the note: an alert that was
none is worth a word to whoever has the next one.`,
		Example: "  authz alerts ack 7k2m9xq4tz3n --note 'deployment of 2026-11-23, key was rotated'",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return fmt.Errorf("one argument or more is needed; write: %s", cmd.UseLine())
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			var ids []string
			for _, text := range args {
				id, err := readAlertID(text)
				if err != nil {
					return err
				}
				ids = append(ids, id)
			}
			if len(note) > maxNote {
				return fmt.Errorf("--note has %d bytes; it may have %d", len(note), maxNote)
			}
			return p.operate(cmd.Context(), func(ctx context.Context, s *postgres.Store) error {
				acknowledged, err := acknowledge(ctx, s, ids, note)
				if len(acknowledged) == 0 && err != nil {
					return err
				}
				return errors.Join(p.print(map[string][]string{"acknowledged": acknowledged}, func(w io.Writer) {
					for _, id := range acknowledged {
						fmt.Fprintln(w, "acknowledged", id)
					}
				}), err)
			})
		},
	}
	c.Flags().StringVar(&note, "note", "", "what it was, for the audit trail and whoever looks next")
	return c
}

// maxNote bounds an operator's words, in bytes.
const maxNote = 1000

// acknowledge acknowledges what there is, and tells of the others.
func acknowledge(ctx context.Context, s *postgres.Store, ids []string, note string) (acknowledged []string, err error) {
	acknowledged = []string{}
	for _, id := range ids {
		changed, failed := s.AcknowledgeAlert(ctx, id, note, operatorEvent(authz.AuditAlertAcknowledged))
		switch {
		case failed != nil:
			err = errors.Join(err, about("alert", id, failed))
		case !changed:
			err = errors.Join(err, fmt.Errorf("alert %s: somebody has acknowledged it before; authz alerts show %s tells who", id, id))
		default:
			acknowledged = append(acknowledged, id)
		}
	}
	return acknowledged, err
}

// printable is a text without what a terminal would obey.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, text)
}
