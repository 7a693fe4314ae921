package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/cargokey/authz/authz"
)

// trailLine is an event as a SIEM reads it: these names stay.
type trailLine struct {
	ID         authz.JTI       `json:"id"`
	At         string          `json:"at"`
	Kind       authz.AuditKind `json:"kind"`
	Actor      string          `json:"actor"`
	ClientID   string          `json:"client_id,omitempty"`
	Resource   string          `json:"resource,omitempty"`
	JTI        string          `json:"jti,omitempty"`
	JKT        string          `json:"jkt,omitempty"`
	RequestID  string          `json:"request_id,omitempty"`
	RemoteAddr string          `json:"remote_addr,omitempty"`
	Detail     json.RawMessage `json:"detail,omitempty"`
	RecordedBy string          `json:"recorded_by"`
	Position   string          `json:"position,omitempty"`
}

// trailPrinter prints events one by one, as they come.
type trailPrinter struct {
	out    *bufio.Writer
	json   *json.Encoder // nil: for people
	headed bool
	widths [3]int // of the columns of text
}

func (p *program) trailPrinter() *trailPrinter {
	t := &trailPrinter{out: bufio.NewWriterSize(p.out, 64<<10), widths: [3]int{23, 20, 20}}
	if p.json {
		t.json = json.NewEncoder(t.out)
		t.json.SetEscapeHTML(false)
	}
	return t
}

func (t *trailPrinter) flush() error { return t.out.Flush() }

func (t *trailPrinter) print(e authz.TrailEvent) error {
	if t.json != nil {
		return t.json.Encode(lineOf(e))
	}
	if !t.headed {
		t.headed = true
		t.row("TIME", "KIND", "ACTOR", "WHAT")
	}
	t.row(e.At.Local().Format("2006-01-02 15:04:05.000"), string(e.Kind), plain(e.Actor), whatOf(e))
	return nil
}

// row aligns what comes with what has come: a column grows with its widest value.
func (t *trailPrinter) row(columns ...string) {
	for i, text := range columns {
		if i == len(columns)-1 {
			fmt.Fprintln(t.out, text)
			return
		}
		width := utf8.RuneCountInString(text)
		t.widths[i] = max(t.widths[i], width)
		fmt.Fprint(t.out, text, strings.Repeat(" ", t.widths[i]-width+2))
	}
}

func lineOf(e authz.TrailEvent) trailLine {
	l := trailLine{
		ID: e.ID, At: e.At.UTC().Format("2006-01-02T15:04:05.000000Z"), Kind: e.Kind, Actor: e.Actor, ClientID: e.ClientID,
		Resource: e.Resource, JKT: e.JKT, RequestID: e.RequestID, RemoteAddr: e.RemoteAddr, Detail: e.RawDetail, RecordedBy: e.RecordedBy,
	}
	if e.JTI != (authz.JTI{}) {
		l.JTI = e.JTI.String()
	}
	if e.Position != (authz.TrailPosition{}) {
		l.Position = e.Position.String()
	}
	return l
}

// whatOf is what an event says beside who did what, as name=value.
func whatOf(e authz.TrailEvent) string {
	var parts []string
	add := func(name, value string) {
		if value != "" {
			parts = append(parts, name+"="+plain(value))
		}
	}
	if e.Actor != "client:"+e.ClientID {
		add("client", e.ClientID)
	}
	add("resource", e.Resource)
	detail, err := e.DecodeDetail()
	if err != nil {
		add("detail", string(e.RawDetail))
	}
	if e.Kind == authz.AuditAlertRaised {
		toldElsewhere(detail)
	}
	for _, name := range slices.Sorted(maps.Keys(detail)) {
		if text, ok := detail[name].(string); ok {
			add(plain(name), text)
			continue
		}
		// The quotes that it has are JSON's own.
		if text := asJSON(detail[name]); strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
			add(plain(name), text)
		} else {
			parts = append(parts, plain(name)+"="+text)
		}
	}
	if e.JTI != (authz.JTI{}) {
		add("jti", e.JTI.String())
	}
	add("jkt", e.JKT)
	add("remote", e.RemoteAddr)
	add("request", e.RequestID)
	return strings.Join(parts, " ")
}

// toldElsewhere leaves of an alert what tells it apart and what was seen: the rest is
// half a page, which "authz alerts show" lays out.
func toldElsewhere(detail map[string]any) {
	for _, name := range []string{"do", "event", "normal", "raised_at", "why"} {
		delete(detail, name)
	}
}

func asJSON(v any) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return fmt.Sprint(v)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// plain quotes what has spaces, and what a terminal would obey.
func plain(s string) string {
	if strings.ContainsFunc(s, func(r rune) bool { return r == ' ' || r == '"' || !unicode.IsPrint(r) }) || !utf8.ValidString(s) {
		return strconv.Quote(s)
	}
	return s
}
