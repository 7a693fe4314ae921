package authz_test

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cargokey/authz/authz"
	"github.com/cargokey/authz/dpopbind"
)

// benchConnections is how many calls are under way at a time.
const benchConnections = 16

// BenchmarkVerify measures the gateway check beside its floor: a bare handler on
// the same Postgres that verifies one ES256 signature and makes one durable
// insert. Proofs are signed before the clock starts. The two take turns, so that
// what the machine does meanwhile slows both, and the ratio of their calls a
// second is what counts. An op is a thousand calls of each.
//
//	go test ./authz -run '^$' -bench Verify -benchtime 10x
func BenchmarkVerify(b *testing.B) {
	const calls = 1000
	w, _ := newMortalWorld(b) // whose Postgres writes to disk
	i := w.instance(func(c *authz.Config) { c.Log = discard() })
	gateway, client, key := w.gateway(), w.client(authz.Client{}), newKey(b)
	token := i.token(client, key).string("access_token")
	floor := w.floor(b, key)
	var took [2]time.Duration
	for range b.N {
		for n, at := range []string{i.internal + "/gateway/verify?scope=label:create", floor} {
			b.StopTimer()
			requests := make([]*http.Request, calls)
			for k := range requests {
				requests[k] = i.benchRequest(b, at, i.goodCall(gateway, token, key))
			}
			b.StartTimer()
			start := time.Now()
			sendAll(b, requests)
			took[n] += time.Since(start)
		}
	}
	w.admitted.Add(int64(b.N * calls))
	perSecond := func(d time.Duration) float64 { return float64(b.N*calls) / d.Seconds() }
	b.ReportMetric(perSecond(took[0]), "verify/s")
	b.ReportMetric(perSecond(took[1]), "floor/s")
	b.ReportMetric(perSecond(took[0])/perSecond(took[1]), "ratio")
}

func (i *instance) benchRequest(b *testing.B, at string, c call) *http.Request {
	r := i.checkRequest(c)
	to, err := http.NewRequestWithContext(b.Context(), http.MethodGet, at, nil)
	if err != nil {
		b.Fatal(err)
	}
	to.Header = r.Header
	return to
}

// sendAll sends requests by benchConnections at a time.
func sendAll(b *testing.B, requests []*http.Request) {
	next := make(chan *http.Request)
	done := make(chan error)
	for range benchConnections {
		go func() {
			var failed error
			for r := range next {
				response, err := httpClient.Do(r)
				if err == nil {
					response.Body.Close()
					if response.StatusCode != http.StatusOK {
						err = fmt.Errorf("%d", response.StatusCode)
					}
				}
				if err != nil {
					failed = err
				}
			}
			done <- failed
		}()
	}
	for _, r := range requests {
		next <- r
	}
	close(next)
	for range benchConnections {
		if err := <-done; err != nil {
			b.Error(err)
		}
	}
}

// floor is the least that a check could do, and its URL.
func (w *world) floor(b *testing.B, key *dpopbind.Key) string {
	w.exec(`create table public.floor (digest bytea not null primary key, at timestamptz not null)`)
	pool, err := pgxpool.New(b.Context(), w.database.OwnerURL)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(pool.Close)
	var jwk jose.JSONWebKey
	if err := jwk.UnmarshalJSON(key.PublicJWK()); err != nil {
		b.Fatal(err)
	}
	public, ok := jwk.Key.(*ecdsa.PublicKey)
	if !ok {
		b.Fatal("not an ES256 key")
	}
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		proof := r.Header.Get("DPoP")
		dot := strings.LastIndexByte(proof, '.')
		signature, err := base64.RawURLEncoding.DecodeString(proof[dot+1:])
		if err != nil || len(signature) != 64 {
			http.Error(rw, "signature", http.StatusUnauthorized)
			return
		}
		signed := sha256.Sum256([]byte(proof[:dot]))
		half := func(b []byte) *big.Int { return new(big.Int).SetBytes(b) }
		if !ecdsa.Verify(public, signed[:], half(signature[:32]), half(signature[32:])) {
			http.Error(rw, "signature", http.StatusUnauthorized)
			return
		}
		if _, err := pool.Exec(r.Context(), `insert into public.floor values ($1, $2)`, signed[:], time.Now()); err != nil {
			http.Error(rw, err.Error(), http.StatusServiceUnavailable)
		}
	}))
	b.Cleanup(server.Close)
	return server.URL
}
