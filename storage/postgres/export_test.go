package postgres

import (
	"context"
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
