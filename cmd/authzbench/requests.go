package main

import (
	"context"
	"encoding/base64"
	mathrand "math/rand/v2"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cargokey/authz/dpopbind"
)

// kit is what requests are made of.
type kit struct {
	*registered
	databaseURL string    // the owner's
	db          *pgx.Conn // as the owner
	server      *server   // that issues tokens
	tokens      []string  // live ones, of both forms
	filled      *filled   // nil: the tables hold what was asked for, and no more
}

// liveTokens is how many tokens of each form are introspected, in turn.
const liveTokens = 256

const tokenForm = "grant_type=client_credentials&scope=label%3Acreate"

func basic(id, secret string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(id+":"+secret))
}

// inParallel makes n requests on all cores.
func inParallel(n int, one func(i int) ([]byte, error)) ([][]byte, error) {
	requests := make([][]byte, n)
	workers := runtime.GOMAXPROCS(0)
	failed := make([]error, workers)
	var group sync.WaitGroup
	for w := range workers {
		group.Go(func() {
			for i := w; i < n && failed[w] == nil; i += workers {
				requests[i], failed[w] = one(i)
			}
		})
	}
	group.Wait()
	for _, err := range failed {
		if err != nil {
			return nil, err
		}
	}
	return requests, nil
}

func (k *kit) boundRequests(s *server, n int) ([][]byte, error) { return k.bound(s, boundClient, n) }

// bound asks for DPoP-bound tokens, each with a proof of its own.
func (k *kit) bound(s *server, client string, n int) ([][]byte, error) {
	credentials := basic(client, k.secrets[client])
	return k.boundBy(s, n, func() string { return credentials })
}

// boundRequestsOfAny are of all clients that the tables were filled with, in no
// order; where there are none, of one.
func (k *kit) boundRequestsOfAny(s *server, n int) ([][]byte, error) {
	if k.filled == nil {
		return k.boundRequests(s, n)
	}
	return k.boundBy(s, n, func() string {
		c := mathrand.IntN(k.filled.Clients)
		return basic(k.filled.clientID(c), k.filled.secret(c))
	})
}

func (k *kit) boundBy(s *server, n int, credentials func() string) ([][]byte, error) {
	return inParallel(n, func(int) ([]byte, error) {
		proof, err := k.dpop.Proof("POST", s.issuer+pathToken, time.Now(), dpopbind.ProofOptions{})
		return post(s.public, pathToken, tokenForm, "Authorization", credentials(), "DPoP", proof), err
	})
}

func (k *kit) bearerRequests(s *server, _ int) ([][]byte, error) {
	return [][]byte{post(s.public, pathToken, tokenForm, "Authorization", basic(bearerClient, k.secrets[bearerClient]))}, nil
}

// assertionRequests are of a client that signs with its own key instead of having a
// secret: two signatures each.
func (k *kit) assertionRequests(s *server, n int) ([][]byte, error) {
	return inParallel(n, func(int) ([]byte, error) {
		assertion, err := k.own.ClientAssertion(s.issuer, keyClient, time.Now())
		if err != nil {
			return nil, err
		}
		proof, err := k.dpop.Proof("POST", s.issuer+pathToken, time.Now(), dpopbind.ProofOptions{})
		form := tokenForm + "&client_assertion_type=" + url.QueryEscape("urn:ietf:params:oauth:client-assertion-type:jwt-bearer") +
			"&client_assertion=" + assertion
		return post(s.public, pathToken, form, "DPoP", proof), err
	})
}

// revocations are of tokens that are issued here, each to be revoked once.
func (k *kit) revocations(s *server, n int) ([][]byte, error) {
	requests, err := k.bearerRequests(k.server, 1)
	if err != nil {
		return nil, err
	}
	copies := make([][]byte, n)
	for i := range copies {
		copies[i] = requests[0]
	}
	tokens, err := k.issue(context.Background(), copies)
	if err != nil {
		return nil, err
	}
	credentials := basic(bearerClient, k.secrets[bearerClient])
	return inParallel(len(tokens), func(i int) ([]byte, error) {
		return post(s.public, pathRevoke, "token="+tokens[i], "Authorization", credentials), nil
	})
}

const revokedSQL = `select count(*) from authz.tokens where client_id = $1 and revoked_at is not null`

// revoked tells what the answers do not: a token that is unknown is answered for
// as one that was revoked (RFC 7009 §2.2).
func (k *kit) revoked(ctx context.Context) (n int, err error) {
	err = k.db.QueryRow(ctx, revokedSQL, bearerClient).Scan(&n)
	return n, err
}

func opaque(token string) bool { return !jwtOf(token) }

func introspectionsOf(form func(string) bool) func(*kit, *server, int) ([][]byte, error) {
	return func(k *kit, s *server, _ int) ([][]byte, error) {
		credentials := basic(gateway, k.secrets[gateway])
		var requests [][]byte
		for _, token := range k.tokens {
			if form(token) {
				requests = append(requests, post(s.public, pathIntrospect, "token="+token, "Authorization", credentials))
			}
		}
		return requests, nil
	}
}

// firstIntrospections are of tokens that are issued here, each of which is asked about
// once: the server has kept nothing of it.
func (k *kit) firstIntrospections(s *server, n int) ([][]byte, error) {
	tokens, err := k.newTokens(n)
	if err != nil {
		return nil, err
	}
	credentials := basic(gateway, k.secrets[gateway])
	return inParallel(len(tokens), func(i int) ([]byte, error) {
		return post(s.public, pathIntrospect, "token="+tokens[i], "Authorization", credentials), nil
	})
}

// newTokens issues up to n bound tokens.
func (k *kit) newTokens(n int) ([]string, error) {
	requests, err := k.boundRequests(k.server, n)
	if err != nil {
		return nil, err
	}
	return k.issue(context.Background(), requests)
}

// verifications are calls that a gateway asks about, each with a proof of its own.
func (k *kit) verifications(s *server, n int) ([][]byte, error) {
	return k.verificationsOf(s, n, slices.DeleteFunc(slices.Clone(k.tokens), opaque))
}

// firstVerifications are calls each of which comes with a token of its own.
func (k *kit) firstVerifications(s *server, n int) ([][]byte, error) {
	tokens, err := k.newTokens(n)
	if err != nil {
		return nil, err
	}
	return k.verificationsOf(s, len(tokens), tokens)
}

func (k *kit) verificationsOf(s *server, n int, tokens []string) ([][]byte, error) {
	credentials := basic(gateway, k.secrets[gateway])
	host, path, _ := strings.Cut(strings.TrimPrefix(callURL, "https://"), "/")
	return inParallel(n, func(i int) ([]byte, error) {
		token := tokens[i%len(tokens)]
		proof, err := k.dpop.Proof("POST", callURL, time.Now(), dpopbind.ProofOptions{AccessToken: token})
		return compose("GET", s.internal, pathVerify, "",
			"X-Gateway-Authorization", credentials, "X-Forwarded-Method", "POST", "X-Forwarded-Proto", "https",
			"X-Forwarded-Host", host, "X-Forwarded-Uri", "/"+path, "Authorization", "DPoP "+token, "DPoP", proof), err
	})
}

// issue sends token requests and returns the tokens.
func (k *kit) issue(ctx context.Context, requests [][]byte) ([]string, error) {
	o, err := turn{address: k.server.public, connections: 16, requests: requests, check: isAnyToken, keep: tokenOf}.run(ctx)
	return o.kept, err
}

// issueLive fills tokens.
func (k *kit) issueLive(ctx context.Context) error {
	for _, client := range []string{boundClient, opaqueClient} {
		requests, err := k.bound(k.server, client, liveTokens)
		if err != nil {
			return err
		}
		tokens, err := k.issue(ctx, requests)
		if err != nil {
			return err
		}
		k.tokens = append(k.tokens, tokens...)
	}
	return nil
}
