package main

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/cargokey/authz/authz"
)

// amounts is how much the tables of a database are filled with.
type amounts struct {
	Tokens  int `json:"tokens"`  // live
	Clients int `json:"clients"` // each with a secret and a grant
	Proofs  int `json:"proofs"`  // spent
	Events  int `json:"events"`  // in the audit trail
	// Of each hour of a day that is over: as many tokens, and as many spent proofs.
	Hourly int `json:"hourly"`
}

// maxAmount is of one table: ids have eight digits.
const maxAmount = 99_999_999

// parseAmounts reads name=number, comma-separated.
func parseAmounts(text string) (*amounts, error) {
	a := &amounts{Tokens: 1, Clients: 1}
	fields := map[string]*int{"tokens": &a.Tokens, "clients": &a.Clients, "proofs": &a.Proofs, "events": &a.Events, "hourly": &a.Hourly}
	for one := range strings.SplitSeq(text, ",") {
		name, number, _ := strings.Cut(one, "=")
		field, known := fields[name]
		n, err := strconv.Atoi(number)
		if !known || err != nil || n < 0 || n > maxAmount {
			return nil, errors.New("tokens, clients, proofs, events or hourly, each =number, comma-separated")
		}
		*field = n
	}
	// There is a token of either form, and a client for each.
	a.Tokens, a.Clients = max(a.Tokens, 2), max(a.Clients, 2)
	return a, nil
}

// settings are those of a Postgres that is meant for as much: what requests read is
// held in its own memory, and checkpoints come by time. After each checkpoint the
// first write to a page logs the whole of it, and digests fall on any page.
func (a amounts) settings() map[string]string {
	const tokenBytes = 600 // with its indexes, and a share of all else, so that nothing is evicted
	return map[string]string{
		"shared_buffers":     fmt.Sprintf("%dMB", 128+a.Tokens*tokenBytes>>20),
		"max_wal_size":       "32GB",
		"checkpoint_timeout": "30min",
	}
}

// filled is what the tables of one database are filled with. None of it is kept
// here: the i-th token, and the secret of the i-th client, can be made again.
type filled struct {
	amounts
	seed  [32]byte
	begun time.Time // the moment of the last token
	jwt   string    // one of the server's; the others have its length
	kid   string    // what signed it
	jkt   string    // whose key the load has

	generations []int64 // of the clients, and then the resource's
}

// liveFor is how far back the tokens' moments reach. A token lives for an hour: the
// rest of it is for the filling, and for what is then measured.
const liveFor = 40 * time.Minute

func newFilled(a amounts, jwt, kid, jkt string) *filled {
	f := &filled{amounts: a, begun: now(), jwt: jwt, kid: kid, jkt: jkt}
	rand.Read(f.seed[:]) // never fails (crypto/rand)
	return f
}

// bits are 256 that look random.
func (f *filled) bits(what byte, i int) [32]byte {
	input := append(f.seed[:len(f.seed):len(f.seed)], what)
	return sha256.Sum256(binary.BigEndian.AppendUint64(input, uint64(i)))
}

// token is of the form that its client has. The bits of a JWT stand where its
// signature has others: the server knows a token by the digest of the whole.
func (f *filled) token(i int) string {
	bits := f.bits('t', i)
	if f.owner(i)%2 == 1 {
		return authz.OpaqueTokenPrefix + base64.RawURLEncoding.EncodeToString(bits[:])
	}
	return f.jwt[:len(f.jwt)-hex.EncodedLen(len(bits))] + hex.EncodeToString(bits[:])
}

// owner is a client: those of tokens that follow each other lie far apart.
func (f *filled) owner(token int) int {
	const stride = 1_000_003 // a prime
	return token * stride % f.Clients
}

// issuedAt spreads tokens evenly.
func (f *filled) issuedAt(i int) time.Time { return f.spread(i, f.Tokens) }

func (f *filled) spread(i, of int) time.Time {
	back := time.Duration(float64(liveFor) * float64(of-1-i) / float64(of))
	return f.begun.Add(-back).Truncate(time.Microsecond)
}

func (f *filled) clientID(c int) string { return fmt.Sprintf("%sclient-%08d", clientPrefix, c) }

func (f *filled) secret(c int) string {
	bits := f.bits('s', c)
	return authz.SecretPrefix + base64.RawURLEncoding.EncodeToString(bits[:])
}

func (f *filled) format(c int) authz.TokenFormat {
	if c%2 == 1 {
		return authz.FormatOpaque
	}
	return authz.FormatJWT
}

// anyTokens are n of them, at random, of both forms, and not about to expire.
func (f *filled) anyTokens(n int) ([]string, error) {
	live := f.begun.Sub(now().Add(2*maxTurn - authz.MaxTokenTTL)) // how far back they are
	if live < liveFor/4 {
		return nil, errors.New("too many of the tokens that the tables were filled with have expired: measure less at a time")
	}
	first := 0
	if live < liveFor {
		first = f.Tokens - int(float64(f.Tokens)*float64(live)/float64(liveFor))
	}
	tokens := make([]string, n)
	for i := range tokens {
		tokens[i] = f.token(first + mathrand.IntN(f.Tokens-first))
	}
	return tokens, nil
}
