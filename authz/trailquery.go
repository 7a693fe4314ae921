package authz

import (
	"slices"
	"strings"
	"time"
)

// TrailQuery says which events of the audit trail are wanted: those that fit all of what
// is set. Of a list one has to fit.
type TrailQuery struct {
	Clients, Resources, Actors []string
	// Kinds are kinds, or beginnings of them with a star, such as token.*.
	Kinds      []string
	JTIs       []JTI
	JKTs       []string
	RequestIDs []string
	Since      time.Time // by the event's own time; zero: the first
	Until      time.Time // before this; zero: the last
	Limit      int       // of those, the last; 0: all
}

// Matches tells whether an event is wanted, but for the limit.
func (q TrailQuery) Matches(e TrailEvent) bool {
	return fits(q.Clients, e.ClientID) && fits(q.Resources, e.Resource) && fits(q.Actors, e.Actor) &&
		fits(q.JTIs, e.JTI) && fits(q.JKTs, e.JKT) && fits(q.RequestIDs, e.RequestID) &&
		(len(q.Kinds) == 0 || slices.ContainsFunc(q.Kinds, func(k string) bool { return KindFits(k, e.Kind) })) &&
		!e.At.Before(q.Since) && (q.Until.IsZero() || e.At.Before(q.Until))
}

func fits[T comparable](wanted []T, is T) bool {
	return len(wanted) == 0 || slices.Contains(wanted, is)
}

// KindFits tells whether a kind is the one that is named, or begins as one with a star
// does.
func KindFits(named string, kind AuditKind) bool {
	if beginning, ok := strings.CutSuffix(named, "*"); ok {
		return strings.HasPrefix(string(kind), beginning)
	}
	return named == string(kind)
}
