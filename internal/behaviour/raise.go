package behaviour

import (
	"hash/fnv"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// raise remembers what alerts of one kind were raised for a client, so that what goes on
// is told again after a while, and a flood of different subjects is told as one.
type raise struct {
	recent [raisedMax + 1]raisedOf // the last is for all further ones
}

type raisedOf struct {
	subject uint64
	at      int64
}

const (
	raisedMax = 4
	// Further is the subject of alerts beyond what is told one by one.
	Further = "further"
)

// may tells whether an alert is to be raised now, and of which subject: the same one
// again after a while, and of different ones four an hour.
func (b *Baseline) may(kind AlertKind, subject string, at, again int64) (string, bool) {
	r := &b.raised[slices.Index(alertKinds[:], kind)]
	hash := fnv.New64a()
	hash.Write([]byte(subject))
	id := hash.Sum64()
	oldest := 0
	for i := range raisedMax {
		if r.recent[i].subject == id && r.recent[i].at != 0 && at < r.recent[i].at+again {
			return "", false
		}
		if r.recent[i].at < r.recent[oldest].at {
			oldest = i
		}
	}
	if last := r.recent[oldest].at; last == 0 || at >= last+hour {
		r.recent[oldest] = raisedOf{id, at}
		return subject, true
	}
	if last := r.recent[raisedMax].at; last != 0 && at < last+hour {
		return "", false
	}
	r.recent[raisedMax] = raisedOf{0, at}
	return Further, true
}

// alert is one of this event, with the text of its kind still to come.
func (s *sight) alert(kind AlertKind, subject string) Alert {
	return Alert{
		Kind: kind, ClientID: s.b.ClientID, At: unix(s.at), Subject: subject,
		EventID: s.e.ID, RequestID: s.e.RequestID,
	}
}

func (s *sight) raise(a Alert) { s.w.out = append(s.w.out, a) }

// short cuts a name to a length, and keeps names apart that begin alike. What a
// terminal would obey is not kept.
func short(name string, most int) string {
	if strings.ContainsFunc(name, unprintable) {
		name = strings.Map(func(r rune) rune {
			if unprintable(r) {
				return '?'
			}
			return r
		}, name)
	}
	if len(name) <= most {
		return name
	}
	hash := fnv.New64a()
	hash.Write([]byte(name))
	cut := name[:most-15]
	for !utf8.ValidString(cut) && cut != "" {
		cut = cut[:len(cut)-1]
	}
	return cut + "…" + base36(int64(hash.Sum64()>>8))
}

// unprintable is also what takes six bytes in JSON, so that a baseline stays small.
func unprintable(r rune) bool {
	return r == utf8.RuneError || !unicode.IsPrint(r) || strings.ContainsRune("\"\\<>&", r)
}
