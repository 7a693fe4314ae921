package postgres

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cargokey/authz/authz"
)

// The statements that tests look into, with their parameters.
const (
	TokensSQL         = tokensSQL
	SpendProofSQL     = spendProofSQL
	RevokeClientSQL   = revokeClientSQL
	RevokeResourceSQL = revokeResourceSQL
	RevokeDPoPKeySQL  = revokeDPoPKeySQL
	SessionSQL        = sessionSQL
	ProofPartition    = proofPartition
)

var (
	AdmitCallSQL    = admitCallsSQL
	RecordAloneSQL  = recordAloneSQL
	RecordAloneArgs = recordArgs
	RecordTokenSQL  = recordTokensSQL
	ActiveTokenSQL  = activeTokensSQL
	RevokeTokenSQL  = revokeTokenSQL
	RevokeTokenArgs = revokeTokenArgs
)

func TokensArgs(clientID string, now time.Time, limit int) []any {
	from, to := liveRange(now)
	return []any{clientID, from, to, now, limit}
}

// Exec is for what nobody can do through a Store.
func (s *Store) Exec(ctx context.Context, sql string) error {
	_, err := s.pool.Exec(ctx, sql)
	return err
}

// RecordTokenArgs are the parameters for one token alone.
func RecordTokenArgs(issue authz.Issue) []any {
	args, err := recordTokensArgs([]authz.Issue{issue})
	if err != nil {
		panic(err)
	}
	return args
}

// ActiveTokenArgs are the parameters for one look-up alone.
func ActiveTokenArgs(digest authz.Digest, gateway authz.Caller, now time.Time) []any {
	return activeTokensArgs([]lookup{{digest: digest, gateway: gateway, now: now}})
}

// AdmitCallArgs are the parameters for one call alone.
func AdmitCallArgs(call authz.Call, now time.Time) []any {
	return admitCallsArgs([]admitting{{Call: call, now: now}})
}

// AdvanceFollower moves a follower on in a transaction of its own.
func (s *Store) AdvanceFollower(ctx context.Context, name, holder string, from, to authz.TrailPosition) error {
	return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		return advanceFollower(ctx, tx, name, holder, from, to)
	})
}

// AgeKept makes what is kept of tokens older.
func (s *Store) AgeKept(by time.Duration) {
	for _, k := range []*keptTokens{&s.kept, &s.keptCalls} {
		k.mu.Lock()
		for _, half := range []map[authz.Digest]*keptToken{k.recent, k.earlier} {
			for digest, t := range half {
				older := *t
				older.read = t.read.Add(-by)
				half[digest] = &older
			}
		}
		k.mu.Unlock()
	}
}

// Kept is how many tokens are kept for look-ups and for calls.
func (s *Store) Kept() (lookups, calls int) {
	return s.kept.count(), s.keptCalls.count()
}

func (k *keptTokens) count() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.recent) + len(k.earlier)
}

// KeepMany keeps n tokens with a scope of this size, and callers, and tells how many of
// each are left, and the greatest weight of a half.
func KeepMany(n, scope int) (tokens, callers, weight int) {
	var k keptTokens
	for i := range n {
		t := authz.Token{Digest: authz.DigestOf(strconv.Itoa(i)), Scope: strings.Repeat("s", scope), ExpiresAt: time.Now().Add(time.Hour)}
		k.learn(&keptToken{token: t, read: time.Now()})
		k.learnCaller(0, authz.Caller{ClientID: strconv.Itoa(i)}, 1)
		if k.of(t.Digest, time.Now()) == nil {
			panic("what was kept last is not there")
		}
		weight = max(weight, k.weight)
	}
	return k.count(), len(k.callers), weight
}

const (
	KeptFor       = keptFor
	MaxKeptWeight = maxKeptWeight
	SlotOfAll     = slotOfAll
)

var SlotOf = slotOf
