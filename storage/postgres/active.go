package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/cargokey/authz/authz"
)

// One statement answers one caller for many tokens, each of which it looks up by its
// digest alone. A token of a client or a resource that was registered anew under an
// old name carries another generation.
//
// What is known of a token's client, resource and keys comes by sub-selects, which are
// by one index each: as joins, and for one token alone, they took twice as long. The
// offset keeps them apart from the partitions: each would have them for itself.
//
// The two revisions are those that what is kept of a token holds for: see keptTokens.
var activeTokensSQL = `
select exists (select from authz.clients c where c.id = $1 and` + callerSQL("$2") + `),
  (select v.revision from authz.gateway_revision v where v.only_row),
  (select r.revision from authz.token_revisions r where r.slot = ` + slotSQL("t.digest") + `), ` + readTokenColumns + `
from (select) one
left join lateral (
  select t.*,
    coalesce((select o.generation = t.client_generation from authz.clients o where o.id = t.client_id and o.disabled_at is null), false)
    and coalesce((select r.generation = t.resource_generation from authz.resources r where r.uri = t.resource), false)
    and` + keysInForceSQL + ` as active
  from (
    select * from authz.tokens t
    where t.digest = any($3) and (t.jti between $4 and $5 or t.jti = $4) and t.expires_at > $6 and t.revoked_at is null
    offset 0) t) t on t.active
where` + onPrimarySQL

// unchangedSQL tells the revisions by which what is kept of tokens holds or does not. It
// does not look whether this is the primary: behind a pooler, where a connection may
// come to lead to a standby, nothing is kept.
const unchangedSQL = `
select r.slot, r.revision from authz.token_revisions r where r.slot = any($1)`

// lookup is what ActiveToken is asked.
type lookup struct {
	digest  authz.Digest
	gateway authz.Caller
	now     time.Time
	kept    *keptToken // nil: nothing
}

// found is its answer: a token, or why there is none.
type found struct {
	token *authz.Token
	err   error
}

// ActiveToken is authz.Store's. Look-ups that come at the same time go in one
// statement.
func (s *Store) ActiveToken(ctx context.Context, digest authz.Digest, gateway authz.Caller, now time.Time) (*authz.Token, error) {
	answer, err := s.lookups.ask(ctx, lookup{digest, gateway, now, s.kept.of(digest, now)})
	if err != nil {
		return nil, fmt.Errorf("reading a token: %w", err)
	}
	return answer.token, answer.err
}

// alikeLookups tells whether two share a statement.
func alikeLookups(a, b lookup) bool {
	if a.kept != nil && b.kept != nil {
		return true
	}
	return a.kept == nil && b.kept == nil && sameCaller(a, b)
}

// sameCaller tells whether two can be read by one statement.
func sameCaller(a, b lookup) bool {
	return a.gateway.ClientID == b.gateway.ClientID && a.gateway.Revision == b.gateway.Revision
}

// lookUp answers lookups that are alike.
func (s *Store) lookUp(ctx context.Context, lookups []lookup) ([]found, error) {
	if lookups[0].kept == nil {
		return s.activeTokens(ctx, lookups)
	}
	answers, changed, err := s.stillActive(ctx, lookups)
	for err == nil && len(changed) > 0 {
		var read []lookup
		var of, left []int
		for _, i := range changed {
			if sameCaller(lookups[changed[0]], lookups[i]) {
				read, of = append(read, lookups[i]), append(of, i)
			} else {
				left = append(left, i)
			}
		}
		var again []found
		if again, err = s.activeTokens(ctx, read); err != nil {
			break
		}
		for n, i := range of {
			answers[i] = again[n]
		}
		changed = left
	}
	return answers, err
}

// stillActive answers by what is kept, where that holds, and tells for which lookups it
// does not.
func (s *Store) stillActive(ctx context.Context, lookups []lookup) (answers []found, changed []int, err error) {
	slots := make([]int16, len(lookups), len(lookups)+1)
	for i := range lookups {
		slots[i] = slotOf(lookups[i].digest)
	}
	conn, era, err := s.acquire(ctx)
	if err != nil {
		return nil, nil, err
	}
	defer conn.Release()
	rows, err := conn.Query(ctx, unchangedSQL, pgtype.FlatArray[int16](append(slots, slotOfAll)))
	if err != nil {
		return nil, nil, err
	}
	revisions := make(map[int16]int64, len(slots)+1)
	var slot int16
	var revision int64
	if _, err = pgx.ForEachRow(rows, []any{&slot, &revision}, func() error {
		revisions[slot] = revision
		return nil
	}); err != nil {
		return nil, nil, err
	}
	all, known := revisions[slotOfAll]
	answers = make([]found, len(lookups))
	for i, l := range lookups {
		own, ok := revisions[slots[i]]
		if known && ok && l.kept.era == era && l.kept.own == own && l.kept.all == all && s.kept.knows(l.gateway, all) {
			answers[i] = l.answer(&l.kept.token)
		} else {
			changed = append(changed, i)
		}
	}
	return answers, changed, nil
}

// activeTokens answers lookups of one caller, and keeps what it finds.
func (s *Store) activeTokens(ctx context.Context, lookups []lookup) ([]found, error) {
	era, read := s.kept.now(), time.Now()
	rows, err := s.pool.Query(ctx, activeTokensSQL, activeTokensArgs(lookups)...)
	if err != nil {
		return nil, err
	}
	var current bool
	var all int64
	var own *int64
	tokens := make(map[authz.Digest]*authz.Token, len(lookups))
	n := 0
	for rows.Next() {
		if n++; rows.RawValues()[3] == nil { // none is active
			err = rows.Scan(append([]any{&current, &all, &own}, make([]any, len(rows.RawValues())-3)...)...)
			break
		}
		var t *authz.Token
		if t, err = scanTokenBetween(rows, []any{&current, &all, &own}, nil); err != nil {
			break
		}
		tokens[t.Digest] = t
		if own != nil {
			s.kept.learn(&keptToken{token: *t, all: all, own: *own, era: era, read: read})
		}
	}
	rows.Close()
	switch {
	case err != nil:
		return nil, err
	case rows.Err() != nil:
		return nil, rows.Err()
	case n == 0:
		return nil, errors.New("the database says nothing of the caller")
	}
	if current && len(tokens) > 0 {
		s.kept.learnCaller(era, lookups[0].gateway, all)
	}
	answers := make([]found, len(lookups))
	for i, l := range lookups {
		if !current {
			answers[i].err = authz.ErrClientChanged
			continue
		}
		answers[i] = l.answer(tokens[l.digest])
	}
	return answers, nil
}

// answer is of a token that was found active at the earliest moment of its group. Two
// who ask for the same one get a copy each.
func (l lookup) answer(t *authz.Token) found {
	if t == nil || !t.ExpiresAt.After(l.now) || !slices.Contains(l.gateway.Fronts, t.Resource) {
		return found{err: authz.ErrNotFound}
	}
	token := *t
	return found{token: &token}
}

// activeTokensArgs are the parameters for lookups of one caller.
func activeTokensArgs(lookups []lookup) []any {
	digests := make([][]byte, len(lookups))
	earliest := lookups[0].now
	from, to := liveRange(earliest)
	for i := range lookups {
		l := &lookups[i]
		digests[i] = l.digest[:]
		from, to = widen(from, to, l.now)
		if l.now.Before(earliest) {
			earliest = l.now
		}
	}
	by := &lookups[0].gateway
	return []any{by.ClientID, by.Revision, pgtype.FlatArray[[]byte](digests), from, to, earliest}
}

// widen makes a liveRange that of another moment too.
func widen(from, to [16]byte, now time.Time) (earlier, later [16]byte) {
	first, last := liveRange(now)
	if bytes.Compare(first[:], from[:]) < 0 {
		from = first
	}
	if bytes.Compare(last[:], to[:]) > 0 {
		to = last
	}
	return from, to
}
