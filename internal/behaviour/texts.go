package behaviour

import (
	"fmt"
	"strings"
	"time"
)

// The texts are for whoever is woken: figures, moments in UTC, whole names, and the
// commands in the order in which they are wanted.

func utc(at int64) string { return unix(at).Format("2006-01-02 15:04 UTC") }

// span is a time in words that are exact enough.
func span(seconds int64) string {
	for _, u := range []struct {
		of   int64
		name string
	}{{day, "day"}, {hour, "hour"}, {minute, "minute"}} {
		if seconds >= 2*u.of {
			return fmt.Sprintf("%d %ss", seconds/u.of, u.name)
		}
	}
	return fmt.Sprintf("%d seconds", seconds)
}

func count(n int64, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %ss", n, one)
}

func names(list []string, most int) string {
	if len(list) == 0 {
		return "none"
	}
	if more := len(list) - most; more > 0 {
		return strings.Join(list[:most], ", ") + fmt.Sprintf(" and %d more", more)
	}
	return strings.Join(list, ", ")
}

// usual are the names in a table that are normal, the most used first.
func (t *table) usual() (list []string) {
	for _, s := range t.sightings() {
		if !s.Unusual {
			list = append(list, s.Name)
		}
	}
	return list
}

// quote makes one word of a text for a shell.
func quote(text string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-+:@%,", r)
	}
	if text != "" && strings.IndexFunc(text, func(r rune) bool { return !plain(r) }) < 0 {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}

func (s *sight) id() string { return quote(s.b.ClientID) }

// from says where an event came from, and by what program.
func (s *sight) from() string {
	text := "an address that is not known"
	if s.e.Network.IsValid() {
		text = "the network " + s.e.Network.String()
	}
	if s.e.UserAgent != "" {
		text += ", by a program that calls itself " + short(s.e.UserAgent, 64)
	}
	return text
}

func (s *sight) with() string {
	if s.e.Credential == "" {
		return ""
	}
	return ", authenticated with the credential " + short(s.e.Credential, 64)
}

func (s *sight) usualFrom() string {
	text := "It usually comes from " + names(s.b.networks.usual(), 4)
	if agents := s.b.agents.usual(); len(agents) > 0 {
		text += ", by " + names(agents, 3)
	}
	return text + "."
}

// look are the commands to look with: the events around the alert, and the client.
func (s *sight) look(flags string) []string {
	since := unix(s.at - hour).Format(time.RFC3339)
	return []string{
		"# To look:",
		"authz audit query --client " + s.id() + flags + " --since " + since,
		"authz client behaviour " + s.id(),
	}
}

// halt stops everything at once, for whoever is not sure.
func (s *sight) halt() []string {
	return []string{
		"# If it is a thief, or if you cannot tell: this refuses the client until you enable it again.",
		"authz client disable " + s.id(),
	}
}

// replace gives the client another credential, and ends what was got with the old one.
func (s *sight) replace() []string {
	lines := []string{"# Then replace what was stolen, and end what the thief has got:"}
	if credential := s.e.Credential; credential == "" || len(credential) == 12 {
		lines = append(lines, "authz client rotate-secret "+s.id()+" --now")
	} else {
		lines = append(lines, "# (for private_key_jwt, where the client runs: authz client new-key FILE; for a certificate: authz client update --help)",
			"authz client update "+s.id()+" --jwks NEW.jwks")
	}
	return append(lines,
		"authz token revoke --client "+s.id()+" --reason 'its credentials were stolen'",
		"authz client enable "+s.id())
}

func revokeKey(jkt string) string {
	return "authz token revoke --jkt " + quote(jkt) + " --reason 'a thief has it'"
}

func lines(parts ...[]string) string {
	var all []string
	for _, p := range parts {
		all = append(all, p...)
	}
	return strings.Join(all, "\n")
}

func (s *sight) newKeyText(a *Alert, jkt string, strangeAgent bool, from place) {
	b := s.b
	a.Normal = fmt.Sprintf("%s has shown %s, the last new one %s. %s",
		b.ClientID, count(int64(b.keys.normal()+len(b.oldKeys)), "DPoP key"), utc(b.keys.newest()), s.usualFrom())
	if strangeAgent && !from.strange && a.Subject == s.product() {
		a.Normal = fmt.Sprintf("%s makes new DPoP keys often, always with the same programs. %s", b.ClientID, s.usualFrom())
	}
	a.Seen = fmt.Sprintf("At %s it got a token with a DPoP key that it has never shown, %s, from %s%s.", utc(s.at), jkt, s.from(), s.with())
	switch {
	case from.strange && strangeAgent:
		a.Seen += " Neither the network nor the program is one of its own."
	case from.strange:
		a.Seen += " The network is none of its own."
	case strangeAgent:
		a.Seen += " The program is none of its own."
	default:
		a.Seen += " Network and program are its own."
	}
	a.Why = "Who has stolen a client's secret has not got its DPoP key and comes with one of his own: this is what that looks like. It is nothing if those who run the client have made a new key: then the old one is used no more within the hour, in the same network, and they know of it. Enrol a client's keys (authz client update ID --dpop-keys enrolled), and no other gets a token at all."
	a.Do = lines(s.look(" --jkt "+quote(jkt)), []string{"authz client keys " + s.id()}, s.halt(), revokeAll(jkt), s.replace())
}

func (s *sight) newNetworkText(p fmt.Stringer, knownKey, strangeAgent bool) func(*Alert) {
	b := s.b
	normal := fmt.Sprintf("%s has come from %s in the last weeks: %s.", b.ClientID, count(int64(b.networks.normal()), "network"), names(b.networks.usual(), 6))
	return func(a *Alert) {
		a.Normal = normal
		a.Seen = fmt.Sprintf("At %s it got a token from %s%s.", utc(s.at), s.from(), s.with())
		switch {
		case s.e.JKT == "":
			a.Seen += " The token is bound to no DPoP key."
		case knownKey:
			a.Seen += " The DPoP key, " + s.e.JKT + ", is one that it has used before."
		default:
			a.Seen += " The DPoP key, " + s.e.JKT + ", is one that it has never used before."
		}
		if strangeAgent {
			a.Seen += " The program is none of its own."
		}
		a.Why = "Somebody uses the client's credentials from where the client has never been. With a key that is the client's own he has that too, and his tokens are as good as the client's. It is nothing if the service has moved, has a new data centre, or its provider has changed its addresses (" + p.String() + "): then it goes on from there and stops where it was before, and other services of the same platform do so too."
		a.Do = lines(s.look(""), []string{"authz client secrets " + s.id()}, s.halt(), revokeAll(s.e.JKT), s.replace())
	}
}

func revokeAll(jkt string) []string {
	if jkt == "" {
		return nil
	}
	return []string{"# A key that is revoked gets no token again, whoever has it:", revokeKey(jkt)}
}

func (s *sight) burstText(a *Alert, five, inHour, limit5, limit60 int64) {
	b := s.b
	a.Normal = fmt.Sprintf("%s has had at most %s in five minutes and %d in an hour on the last %s on which it was active; around this hour of the week it has about %.0f in an hour.",
		b.ClientID, count(b.perMinutes.highest(), "token"), b.perHour.highest(), count(int64(len(b.perMinutes.days)), "day"), b.hours.usually(s.at/hour))
	a.Seen = fmt.Sprintf("At %s it had got %s in five minutes and %d in this hour (this is told of above %d and %d), the last from %s%s.",
		utc(s.at), count(five, "token"), inHour, limit5, limit60, s.from(), s.with())
	a.Why = "Who has stolen credentials often takes many tokens before he is found; a client that asks for a token for every call, or starts again and again, looks the same and loads the server. It is nothing if it was started in many more copies on purpose: then keys, networks and programs are its own, and the rate falls within the hour. Many clients at once, as after an outage, are not told."
	a.Do = lines(s.look(" --kind token.issued"), s.halt(), s.replace())
}

func (s *sight) replayText(a *Alert, run int64, moved, agent bool) {
	b := s.b
	a.Normal = fmt.Sprintf("%s has sent nothing twice in the last weeks. %s", b.ClientID, s.usualFrom())
	if usual := b.replayPeaks.highest(); usual > 0 {
		a.Normal = fmt.Sprintf("%s has had at most %s in ten minutes in the last weeks: a request that its own library or a proxy sends again. %s", b.ClientID, count(usual, "replay"), s.usualFrom())
	}
	what := "DPoP proof"
	if s.e.Reason != "replay" {
		what = "client assertion"
	}
	a.Seen = fmt.Sprintf("At %s a %s that had been used was sent again, from %s%s; %s in ten minutes. It was refused.", utc(s.at), what, s.from(), s.with(), count(run, "replay"))
	if e := b.keys.find(s.e.JKT); e != nil && moved && e.net.IsValid() {
		a.Seen += fmt.Sprintf(" Its key, %s, was used in the network %s until %s.", s.e.JKT, e.net, utc(e.last))
	}
	if agent {
		a.Seen += " The program is none of the client's own."
	}
	a.Why = "Somebody has the client's requests as they are on their way: from a log, a proxy, or the network. The replay gained him nothing, but a request that is authenticated by a secret has the secret in it. It is nothing if a proxy or a library of the client sends a request again after an error: then it comes from the same network, a few seconds after the first."
	a.Do = lines(s.look(" --kind token.refused"), s.halt(), s.replace())
}

func (s *sight) retiredSecretText(a *Alert) {
	b := s.b
	a.Normal = fmt.Sprintf("%s authenticates with %s. %s", b.ClientID, names(b.secrets.usual(), 3), s.usualFrom())
	a.Seen = fmt.Sprintf("At %s somebody came with a secret of the client's that has ended, %s, from %s. It was refused.", utc(s.at), short(s.e.Credential, 64), s.from())
	if s.fromKnown() && s.e.Network.IsValid() {
		a.Seen += " That is a network of the client's own."
	} else if s.e.Network.IsValid() {
		a.Seen += " That is none of the client's networks."
	}
	a.Why = "Only who once had the secret can come with it: a part of the service that was forgotten when the secret was changed, and that does not work now, or somebody who has found it in a backup, an image or a log. The former comes from a network of the client's and at its usual times; it needs the new secret. The latter may have more than this secret."
	a.Do = lines(s.look(" --kind credential.retired_used"), []string{
		"authz client secrets " + s.id(),
		"# If it is a thief, he gets nothing with this secret. In case he has the one of now too:",
	}, s.replaceSecret())
}

func (s *sight) replaceSecret() []string {
	return []string{
		"authz client rotate-secret " + s.id() + " --now",
		"authz token revoke --client " + s.id() + " --reason 'its secret was stolen'",
	}
}

func (s *sight) keyRefusedText(a *Alert) {
	b := s.b
	var enrolled []string
	for _, k := range b.keys.sightings() {
		if k.Enrolled {
			enrolled = append(enrolled, k.Name)
		}
	}
	a.Normal = fmt.Sprintf("%s gets tokens for its enrolled DPoP keys only; of late they were: %s. %s", b.ClientID, names(enrolled, 2), s.usualFrom())
	jkt := s.e.JKT
	if jkt == "" {
		jkt = "(one of many)"
	}
	a.Seen = fmt.Sprintf("At %s somebody with the client's credentials came with the DPoP key %s, which is not enrolled or has ended, from %s%s. It was refused.", utc(s.at), jkt, s.from(), s.with())
	a.Why = "Whoever it is has the client's credentials, and not its key: a thief, whom the enrolment has just stopped, or those who run the client, with a new key that nobody has enrolled. The latter come from a network of the client's own, just after a deployment, and their service does not work until the key is enrolled."
	parts := [][]string{s.look(" --kind dpop_key.refused"), {"authz client keys " + s.id()}}
	if s.e.JKT != "" {
		parts = append(parts, []string{"# If those who run the client tell you that this is their key's thumbprint:", "authz client enroll-key " + s.id() + " --jkt " + quote(s.e.JKT)})
	}
	a.Do = lines(append(parts, s.halt(), s.replace())...)
}

func (s *sight) badProofsText(a *Alert) {
	b := s.b
	var most []string
	var all int64
	for i, n := range b.reasons {
		if n > 0 {
			most = append(most, fmt.Sprintf("%d %s", n, badReasons[i]))
			all += int64(n)
		}
	}
	a.Normal = fmt.Sprintf("%s has had few proofs refused, or none, on the last %s. %s", b.ClientID, count(int64(len(b.badPeaks.days)), "day"), s.usualFrom())
	a.Seen = fmt.Sprintf("By %s, %s in its name had been refused in a row (%s), the last from %s.", utc(s.at), count(all, "proof"), strings.Join(most, ", "), s.from())
	if s.e.Authenticated {
		a.Seen += " Whoever sent it had the client's credentials."
	} else {
		a.Seen += " Whoever sent it has not proven to be the client: anybody can write its name."
	}
	a.Why = "Somebody tries what the server lets through: a thief without the key, whose signatures do not hold, or who alters what he has caught. It is nothing worse than an outage of the client if it was deployed with a fault: signature and jwk tell of a wrong key, iat of a wrong clock, htu and htm of a wrong address; then it comes from a network of the client's own, and the client gets no tokens."
	a.Do = lines(s.look(" --kind token.refused"), s.halt(), s.replace())
}

func (s *sight) newScopeText(a *Alert, name string) {
	b := s.b
	a.Normal = fmt.Sprintf("Since %s %s has used %s: %s.", utc(b.Since.Unix()), b.ClientID, count(int64(b.scopes.normal()), "scope"), names(b.scopes.usual(), 6))
	a.Seen = fmt.Sprintf("At %s it got a token with the scope %s, for %s, with the DPoP key %s, from %s%s.", utc(s.at), name, orNone(s.e.Resource), orNone(s.e.JKT), s.from(), s.with())
	a.Why = "It may use the scope and never has: who has stolen credentials looks at what they open. It is nothing if a new version of the client does something new: then key, network and program are its own, and those who run it know of it. A client that does not need the scope should not have it."
	a.Do = lines(s.look(" --kind token.issued"), []string{"authz client show " + s.id()}, s.halt(), s.replace())
}

func orNone(text string) string {
	if text == "" {
		return "none"
	}
	return short(text, 80)
}

func (s *sight) sharedKeyText(a *Alert, jkt, owner string) {
	a.Normal = fmt.Sprintf("A DPoP key is one client's. %s was first shown by %s.", jkt, owner)
	a.Seen = fmt.Sprintf("At %s %s got a token with it, from %s%s.", utc(s.at), s.b.ClientID, s.from(), s.with())
	a.Why = fmt.Sprintf("Whoever holds the key has the credentials of both: a thief who has those of %s and %s and one key of his own, or one host that runs both and gives them one key. The latter is no theft, and still wrong: what binds a token to a client then binds it to either. It comes from a network of both.", owner, s.b.ClientID)
	look := s.look("")
	a.Do = lines(look[:2], []string{
		"authz audit query --client " + quote(owner) + " --jkt " + quote(jkt),
		"authz client behaviour " + s.id(),
		"authz client behaviour " + quote(owner),
		"# If it is a thief, or if you cannot tell: these refuse both until you enable them again.",
		"authz client disable " + s.id(),
		"authz client disable " + quote(owner),
		revokeKey(jkt),
	}, s.replace())
}

func (s *sight) awokenText(a *Alert, pause int64) {
	b := s.b
	a.Normal = fmt.Sprintf("%s was active on %s from %s on, had never paused for longer than %s, and got its last token at %s.",
		b.ClientID, count(b.activeDays+1, "day"), utc(b.Since.Unix()), span(b.longest), utc(b.issuedAt))
	a.Seen = fmt.Sprintf("At %s, after %s, it got a token with the DPoP key %s, from %s%s.", utc(s.at), span(pause), orNone(s.e.JKT), s.from(), s.with())
	a.Why = "What nobody uses nobody watches: credentials of a service that was given up are found years later in a backup or an image. It is nothing if the service does run again, or rarely runs at all: then key, network and program are its own, and somebody can say why. A client that nobody needs should be deleted."
	a.Do = lines(s.look(""), s.halt(), s.replace(), []string{"# Or, if nobody needs the client:", "authz client delete " + s.id()})
}

func (s *sight) driftText(a *Alert, side int, d drift) {
	c := &s.b.clock
	limit := s.w.room[side]
	off, way, edge := max(c.high[0], c.high[1]), "behind", "behind"
	if side == 1 {
		off, way, edge = -min(c.low[0], c.low[1]), "ahead", "ahead of"
	}
	pace := d.pace * limit.Seconds() / sixteenths
	a.Normal = fmt.Sprintf("Until %s the clocks of %s stood less than %.1f s %s the server's, a proof's way and age included.",
		utc(d.since), s.b.ClientID, limit.Seconds()/sixteenths*float64(d.from+1), edge)
	a.Seen = fmt.Sprintf("At %s a clock of it is up to %.1f s %s the server's, and goes on by %.2f s an hour. The last proof was by the DPoP key %s, from %s.",
		utc(s.at), float64(off)/1000, edge, pace, orNone(s.e.JKT), s.from())
	a.Why = fmt.Sprintf("Proofs are refused once the clock is %.0f s %s: at this pace in %.0f hours, at %s. It then gets no more tokens from that host. The cause is nearly always a host without NTP; a thief is not behind it, unless he makes proofs in advance, to use them later: then the offset jumps and does not grow.",
		limit.Seconds(), way, d.left.Hours(), utc(s.at+int64(d.left/time.Second)))
	a.Do = lines(s.look(" --kind token.issued"), []string{
		"# The offset_ms of each event tells which host it is, by its address and key. On that host, set the clock right:",
		"# chronyc tracking; chronyc makestep (or: timedatectl set-ntp true)",
	})
}
