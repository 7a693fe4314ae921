package postgres

import (
	"time"

	"github.com/cargokey/authz/authz"
)

// The statements that tests look into, with their parameters.
const (
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
	ActiveTokenSQL  = activeTokenSQL
	ActiveTokenArgs = activeTokenArgs
	RevokeTokenSQL  = revokeTokenSQL
	RevokeTokenArgs = revokeTokenArgs
)

func TokensArgs(clientID string, now time.Time, limit int) []any {
	from, to := liveRange(now)
	return []any{clientID, from, to, now, limit}
}

// AdmitCallArgs are the parameters for one call alone.
func AdmitCallArgs(call authz.Call, now time.Time) []any {
	return admitCallsArgs([]admitting{{call, now}})
}
