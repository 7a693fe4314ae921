package main

import (
	"fmt"
	"io"
	"math"
	"strings"
	"time"
)

// pen is what a client's behaviour is drawn with, in 80 columns.
type pen struct {
	shades  []string // of an hour of the week, from nothing to the most
	bar     string   // of tokens
	refused string   // of refusals
}

func blockPen() pen {
	return pen{shades: []string{"··", "░░", "▒▒", "▓▓", "██"}, bar: "█", refused: "░"}
}

func asciiPen() pen {
	return pen{shades: []string{". ", "::", "oo", "OO", "##"}, bar: "#", refused: "x"}
}

const minuteUTC = "2006-01-02 15:04"

func (p pen) draw(w io.Writer, v behaviourView) {
	fmt.Fprintf(w, "client           %s\n", v.ClientID)
	if v.Since == nil {
		fmt.Fprintf(w, "\nNothing is learnt of it yet: it has asked for no token since the analysis began,\nor no server runs that analyses (AUTHZ_BEHAVIOUR).\n")
		p.alerts(w, v)
		return
	}
	fmt.Fprintf(w, "watched since    %s UTC, last event %s UTC\n", v.Since.UTC().Format(minuteUTC), v.Last.UTC().Format(minuteUTC))
	if v.BusiestHour > 0 {
		fmt.Fprintf(w, "busiest          %d tokens in an hour, %d in five minutes (14 days)\n", v.BusiestHour, v.BusiestFiveMinutes)
	}
	if v.LongestPause > 0 {
		fmt.Fprintf(w, "longest pause    %s\n", roughly(time.Duration(v.LongestPause)*time.Second))
	}
	if o := v.ClockOffset; o != nil {
		fmt.Fprintf(w, "clock            its proofs are %s old on arrival; %s to %s of late\n", seconds(o.Median), seconds(o.Lowest), seconds(o.Highest))
	}
	p.week(w, v.UsualHours)
	p.days(w, v.LastWeek)
	keys := "DPoP keys"
	if v.MoreKeys > 0 {
		keys += fmt.Sprintf(" (and %d more)", v.MoreKeys)
	}
	for _, part := range []struct {
		title string
		all   []sightingView
	}{
		{keys, v.Keys}, {"Networks", v.Networks}, {"Scopes", v.Scopes}, {"Resources", v.Resources},
		{"Credentials", v.Credentials}, {"User agents", v.UserAgents},
	} {
		p.sightings(w, part.title, part.all)
	}
	p.alerts(w, v)
}

// week is a map of the hours of the week.
func (p pen) week(w io.Writer, hours []float64) {
	if hours == nil {
		fmt.Fprintf(w, "\nWhat hours of the week are usual is known after a week.\n")
		return
	}
	most := 0.0
	for _, n := range hours {
		most = max(most, n)
	}
	fmt.Fprintf(w, "\nTokens an hour, as usual (UTC): %s is none, %s up to %.0f\n", strings.TrimSpace(p.shades[0]), p.shades[len(p.shades)-1], most)
	fmt.Fprintln(w, "     00    03    06    09    12    15    18    21")
	for day, name := range []string{"Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"} {
		line := name + "  "
		for hour := range 24 {
			line += p.shade(hours[day*24+hour], most)
		}
		fmt.Fprintln(w, strings.TrimRight(line, " "))
	}
}

// shade is that of a number: none is for less than half a token.
func (p pen) shade(n, most float64) string {
	if n < 0.5 || most == 0 {
		return p.shades[0]
	}
	steps := float64(len(p.shades) - 1)
	return p.shades[int(min(max(math.Ceil(n/most*steps), 1), steps))]
}

// barWidth leaves room for the numbers of a day.
const barWidth = 40

// days are the last seven, by their hours' sums.
func (p pen) days(w io.Writer, week []hourView) {
	type day struct {
		at              time.Time
		issued, refused int64
	}
	var days []day
	for _, h := range week {
		at := h.At.UTC().Truncate(24 * time.Hour)
		if len(days) == 0 || !days[len(days)-1].at.Equal(at) {
			days = append(days, day{at: at})
		}
		d := &days[len(days)-1]
		d.issued, d.refused = d.issued+h.Issued, d.refused+h.Refused
	}
	if len(days) > 7 { // the first one has not all its hours
		days = days[len(days)-7:]
	}
	var most int64 = 1
	for _, d := range days {
		most = max(most, d.issued+d.refused)
	}
	fmt.Fprintf(w, "\n%-*sTOKENS  REFUSED\n", 16+barWidth, "Last seven days (UTC; "+p.refused+" is refused)")
	for _, d := range days {
		bar := strings.Repeat(p.bar, width(d.issued, most)) + strings.Repeat(p.refused, width(d.refused, most))
		cells := []rune(bar)
		if len(cells) > barWidth {
			cells = cells[len(cells)-barWidth:] // rather a token less than a refusal
		}
		fmt.Fprintf(w, "%-14s %s%s %6d  %7d\n", d.at.Format("Mon 2006-01-02"), string(cells), strings.Repeat(" ", barWidth-len(cells)), d.issued, d.refused)
	}
}

// width of a number's bar: one of anything shows.
func width(n, most int64) int {
	if n == 0 {
		return 0
	}
	return max(int(math.Round(float64(n)/float64(most)*barWidth)), 1)
}

// nameWidth has room for a thumbprint.
const nameWidth = 43

func (p pen) sightings(w io.Writer, title string, all []sightingView) {
	if len(all) == 0 {
		return
	}
	fmt.Fprintf(w, "\n%-*s  FIRST       LAST        SHARE\n", nameWidth+2, title)
	for _, s := range all {
		mark, after := " ", ""
		if s.Unusual {
			mark = "!"
		}
		if s.Enrolled {
			after = " e"
		}
		fmt.Fprintf(w, "%s %-*s  %s  %s  %s%s\n", mark, nameWidth, cut(printable(s.Name), nameWidth),
			s.First.UTC().Format(time.DateOnly), s.Last.UTC().Format(time.DateOnly), share(s.Share), after)
	}
	for _, s := range all {
		if s.Enrolled {
			fmt.Fprintln(w, "  (e: enrolled)")
			return
		}
	}
}

// share is a part of a whole, of which a little is not nothing.
func share(part float64) string {
	if part > 0 && part < 0.01 {
		return " <1 %"
	}
	return fmt.Sprintf("%3.0f %%", 100*part)
}

func (p pen) alerts(w io.Writer, v behaviourView) {
	if len(v.Alerts) == 0 {
		fmt.Fprintf(w, "\nNo alert is open.\n")
		return
	}
	fmt.Fprintf(w, "\nOpen alerts\n")
	for i, a := range v.Alerts {
		if i == 10 {
			fmt.Fprintf(w, "  and %d more: authz alerts list --client %s\n", len(v.Alerts)-i, v.ClientID)
			return
		}
		fmt.Fprintf(w, "! %s  %s  %s  %s\n", a.ID, a.LastAt.Format(minuteUTC), a.Kind, cut(printable(a.Subject), 30))
	}
}

// roughly is a duration as people say it.
func roughly(d time.Duration) string {
	switch {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%.0f days", d.Hours()/24)
	case d >= 2*time.Hour:
		return fmt.Sprintf("%.0f hours", d.Hours())
	case d >= 2*time.Minute:
		return fmt.Sprintf("%.0f minutes", d.Minutes())
	}
	if d.Round(time.Second) == time.Second {
		return "1 second"
	}
	return fmt.Sprintf("%.0f seconds", d.Seconds())
}

func seconds(ms int64) string { return fmt.Sprintf("%.1f s", float64(ms)/1000) }
