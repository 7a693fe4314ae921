package postgres

import (
	"time"

	"github.com/cargokey/authz/authz"
)

// The statements that tests look into, with their parameters.
const (
	ActiveTokenSQL    = activeTokenSQL
	RevokeTokenSQL    = revokeTokenSQL
	TokensSQL         = tokensSQL
	SpendProofSQL     = spendProofSQL
	AdmitCallSQL      = admitCallsSQL
	RevokeClientSQL   = revokeClientSQL
	RevokeResourceSQL = revokeResourceSQL
	RevokeDPoPKeySQL  = revokeDPoPKeySQL
	SessionSQL        = sessionSQL
	ProofPartition    = proofPartition
)

var (
	RecordTokenSQL  = recordTokenOnceSQL
	RecordArgs      = recordArgs
	RevokeTokenArgs = revokeTokenArgs
)

func ActiveTokenArgs(d authz.Digest, gateway string, now time.Time) []any {
	from, to := liveRange(now)
	return []any{d[:], from, to, now, gateway}
}

func TokensArgs(clientID string, now time.Time, limit int) []any {
	from, to := liveRange(now)
	return []any{clientID, from, to, now, limit}
}

// AdmitCallArgs are the parameters for one call alone.
func AdmitCallArgs(call authz.Call, now time.Time) []any {
	return admitCallsArgs([]admitting{{call, now}})
}
