package faulttest

import (
	"context"
	"crypto/sha256"

	"github.com/jackc/pgx/v5"
)

// connect logs in as the owner, and is patient with a Postgres that recovers.
func (w *World) connect(ctx context.Context) *pgx.Conn {
	w.t.Helper()
	var conn *pgx.Conn
	w.Await("a connection to the database", func() bool {
		c, err := pgx.Connect(ctx, w.OwnerURL)
		conn = c
		return err == nil
	})
	return conn
}

// mustBeSpent is for a proof that was refused though it was never seen to be
// accepted.
func (w *World) mustBeSpent(y *try) {
	w.t.Helper()
	ctx := context.WithoutCancel(w.t.Context())
	conn := w.connect(ctx)
	defer conn.Close(ctx)
	var spent bool
	err := conn.QueryRow(ctx, `select exists (select from authz.spent_proofs where digest = $1)`, y.name[:]).Scan(&spent)
	if err != nil || !spent {
		w.complain("a proof that was never accepted, and is not spent, is refused (%v)", err)
	}
}

// snapshot is what was known of a token before the database was read.
type snapshot struct {
	held
	now *held
}

// Check compares all that the clients know with the whole database, and holds
// Invariants over it. Load may be under way.
func (w *World) Check() {
	w.t.Helper()
	ctx := context.WithoutCancel(w.t.Context())
	conn := w.connect(ctx)
	defer conn.Close(ctx)
	// What is known before the database is read must be in it.
	w.mu.Lock()
	known := make([]snapshot, len(w.held))
	for i, h := range w.held {
		known[i] = snapshot{*h, h}
	}
	var accepted [][]byte
	for name := range w.accepted {
		accepted = append(accepted, name[:])
	}
	spentElse := w.spentElse
	w.mu.Unlock()

	w.checkTokens(ctx, conn, known)
	var missing int
	err := conn.QueryRow(ctx, `
		select count(*) from unnest($1::bytea[]) a (digest)
		where not exists (select from authz.spent_proofs s where s.digest = a.digest)`, accepted).Scan(&missing)
	if err != nil || missing != 0 {
		w.complain("%d proofs of %d that were accepted are not spent (%v)", missing, len(accepted), err)
	}
	var spare int
	if err := conn.QueryRow(ctx, spareSQL).Scan(&spare); err != nil {
		w.complain("counting what is spent: %v", err)
	}
	w.mu.Lock()
	most := w.spentElse + w.unsure + w.underWay
	w.mu.Unlock()
	if spare < spentElse || spare > most {
		w.complain("beside those of tokens %d proofs and assertions are spent: %d are known to be, and at most %d may be", spare, spentElse, most)
	}
	for _, broken := range Broken(ctx, conn) {
		w.complain("%s", broken)
	}
}

const knownTokensSQL = `
select t.digest, t.client_id, t.jkt, t.revoked_at is null and t.client_generation = c.generation and c.disabled_at is null
from authz.tokens t join authz.clients c on c.id = t.client_id`

// checkTokens holds each token that a client was handed against its row.
func (w *World) checkTokens(ctx context.Context, conn *pgx.Conn, known []snapshot) {
	w.t.Helper()
	type row struct {
		Digest []byte
		Client string
		JKT    *string
		Active bool
	}
	rows, err := conn.Query(ctx, knownTokensSQL)
	if err != nil {
		w.complain("reading the tokens: %v", err)
		return
	}
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[row])
	if err != nil {
		w.complain("reading the tokens: %v", err)
		return
	}
	recorded := map[[32]byte]row{}
	for _, r := range all {
		recorded[[32]byte(r.Digest)] = r
	}
	for _, h := range known {
		r, ok := recorded[sha256.Sum256([]byte(h.token))]
		ending, _ := w.endOf(h.now) // it may have been ended since
		switch c := h.by.client; {
		case !ok:
			w.complain("a token that %s was handed is not recorded", c.ID)
		case r.Client != c.ID || r.JKT == nil || *r.JKT != c.DPoP.JKT():
			w.complain("a token that %s was handed is recorded as another's", c.ID)
		case r.Active && h.ended:
			w.complain("a token of %s has ended by an answer, and is active in the database", c.ID)
		case !r.Active && !ending:
			w.complain("a token of %s is inactive in the database, and nobody has ended it", c.ID)
		}
	}
}
