package postgres

import (
	"context"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cargokey/authz/authz"
)

// keptTokens keeps what was read of tokens that were found active, so that the next
// request for one need not have it read anew: the partitions of tokens, its client, its
// resource and its keys. What is kept never counts for itself. The statement that
// answers the request looks whether both revisions are what they were when it was read,
// and where one is not the token is read anew: the one of the token's slot in
// authz.token_revisions, which the revocation of a token changes in its own transaction,
// and authz.gateway_revision, which all does by which many tokens end. So a token that
// was revoked is inactive on every instance from that moment on, as ever.
//
// What these revisions cannot tell is the loss of a row without a trace, as in a
// failover to a standby that lagged behind. Such a thing takes connections with it: with
// each new one all is forgotten. And behind a pooler, whose connections last, nothing
// is kept.
type keptTokens struct {
	mu  sync.Mutex
	off bool
	// era is how often all was forgotten. What was read in an earlier one is not kept.
	era int
	// What has been asked for since, and what was asked for before that: the latter
	// goes when the former is full.
	recent, earlier map[authz.Digest]*keptToken
	weight          int // of recent, in bytes or so
	// callers are those that were what they are at a revision of all tokens.
	callers map[keptCaller]int64
}

// keptToken is a token that was active when both of its revisions were what they are
// here. It is not changed.
type keptToken struct {
	token authz.Token
	// Of what calls are admitted by alone.
	clientNonce bool  // the client is one whose proofs need a nonce
	generation  int64 // of the resource
	all         int64 // of authz.gateway_revision
	own         int64 // of its slot
	era         int
	read        time.Time // by this process's clock
}

// keptCaller names a caller as it was when it authenticated.
type keptCaller struct {
	id       string
	revision int64
}

const (
	// keptFor bounds what nobody has thought of: a row that an owner takes away past
	// every trigger, by detaching its partition for one.
	keptFor = time.Minute
	// maxKeptWeight bounds each half of what is kept, in bytes or so.
	maxKeptWeight = 2 << 20
	// maxKeptCallers is more than there are gateways.
	maxKeptCallers = 1024
)

// slotOfAll has the revision of authz.gateway_revision.
const slotOfAll int16 = -1

// slotOf is the token's row of authz.token_revisions.
func slotOf(digest authz.Digest) int16 { return int16(digest[0])<<2 | int16(digest[1])>>6 }

// slotSQL is slotOf in SQL.
func slotSQL(digest string) string {
	return `(get_byte(` + digest + `, 0) * 4 + get_byte(` + digest + `, 1) / 64)`
}

// of is what is kept of a token; nil: nothing.
func (k *keptTokens) of(digest authz.Digest, now time.Time) *keptToken {
	k.mu.Lock()
	defer k.mu.Unlock()
	found := k.recent[digest]
	if found == nil {
		if found = k.earlier[digest]; found == nil {
			return nil
		}
		k.put(found)
	}
	if time.Since(found.read) > keptFor || !found.token.ExpiresAt.After(now) {
		return nil
	}
	return found
}

// knows tells whether a caller was what it is at a revision of all tokens.
func (k *keptTokens) knows(caller authz.Caller, all int64) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	at, ok := k.callers[keptCaller{caller.ClientID, caller.Revision}]
	return ok && at == all
}

// now is the era, which a statement that learns asks for before it begins.
func (k *keptTokens) now() (era int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.era
}

// learn keeps what a statement has found, unless all was forgotten since it began.
func (k *keptTokens) learn(found *keptToken) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.off && found.era == k.era {
		k.put(found)
	}
}

// learnCaller keeps that a caller is what it was at a revision of all tokens.
func (k *keptTokens) learnCaller(era int, caller authz.Caller, all int64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.off || era != k.era {
		return
	}
	if k.callers == nil || len(k.callers) >= maxKeptCallers {
		k.callers = make(map[keptCaller]int64)
	}
	k.callers[keptCaller{caller.ClientID, caller.Revision}] = all
}

func (k *keptTokens) put(t *keptToken) {
	if was := k.recent[t.token.Digest]; was != nil {
		k.weight -= was.weigh()
	}
	delete(k.earlier, t.token.Digest)
	if k.weight += t.weigh(); k.recent == nil || k.weight > maxKeptWeight {
		k.recent, k.earlier, k.weight = make(map[authz.Digest]*keptToken), k.recent, t.weigh()
	}
	k.recent[t.token.Digest] = t
}

// forget is for a database that may be another one.
func (k *keptTokens) forget() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.era++
	k.recent, k.earlier, k.callers, k.weight = nil, nil, nil, 0
}

// acquire takes a connection for a statement that goes by what is kept, and tells which
// era it is now: what was kept in an earlier one may be of another database than the one
// that the connection leads to, which may be a new one.
func (s *Store) acquire(ctx context.Context) (conn *pgxpool.Conn, era int, err error) {
	if conn, err = s.pool.Acquire(ctx); err != nil {
		return nil, 0, err
	}
	return conn, s.kept.now(), nil
}

// weigh is about what it takes, in bytes.
func (t *keptToken) weigh() int {
	return 512 + len(t.token.ClientID) + len(t.token.Resource) + len(t.token.Scope) + len(t.token.KID)
}
