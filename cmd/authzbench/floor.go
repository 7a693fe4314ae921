package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cargokey/authz/authz"
)

// floorCommand is what this program is called with to be a floor.
const floorCommand = "floor"

// floorConfig comes on standard input, which is held open for as long as the floor
// is to serve.
type floorConfig struct {
	DatabaseURL string `json:"database_url"`
	Connections int32  `json:"connections"`
	Private     []byte `json:"private"` // SEC 1: whose proofs it verifies, and what it signs with
}

// floor is the least that could be done. It knows one key, and checks nothing of a
// request but one signature; what it reads and writes is what the server does.
type floor struct {
	pool *pgxpool.Pool
	key  *ecdsa.PrivateKey
}

// serveFloor is the process of a floor: it prints its address and serves until its
// input ends.
func serveFloor(in io.Reader, out io.Writer) error {
	var c floorConfig
	input := json.NewDecoder(in)
	if err := input.Decode(&c); err != nil {
		return fmt.Errorf("a floor is started by authzbench itself: %w", err)
	}
	key, err := x509.ParseECPrivateKey(c.Private)
	if err != nil {
		return err
	}
	config, err := pgxpool.ParseConfig(c.DatabaseURL)
	if err != nil {
		return errors.New("the database URL is not well-formed") // pgx's own error may quote the password
	}
	config.MaxConns = c.Connections
	// No statement is planned anew for each request, and no plan is made for tables
	// that are empty yet.
	config.ConnConfig.RuntimeParams["plan_cache_mode"] = "force_generic_plan"
	config.ConnConfig.RuntimeParams["enable_seqscan"] = "off"
	pool, err := pgxpool.NewWithConfig(context.Background(), config)
	if err != nil {
		return err
	}
	defer pool.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Fprintln(out, l.Addr())
	f := &floor{pool: pool, key: key}
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+pathToken, f.token)
	mux.HandleFunc("POST "+pathIntrospect, f.introspect)
	mux.HandleFunc("GET "+pathVerify, f.verify)
	server := &http.Server{Handler: mux}
	go func() {
		io.Copy(io.Discard, in)
		server.Close()
	}()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// token verifies one ES256 signature, makes one, and inserts a spent proof and a
// token.
func (f *floor) token(w http.ResponseWriter, r *http.Request) {
	spent, ok := f.proven(r)
	if !ok {
		http.Error(w, "the signature is wrong", http.StatusUnauthorized)
		return
	}
	at := time.Now()
	jti := authz.NewJTI(at) // whose order in time spares the index, there as here
	payload := fmt.Appendf(nil, `{"jti":"%s","iat":%d,"aud":"%s","client_id":"%s","scope":"%s"}`, jti, at.Unix(), resourceURI, boundClient, scope)
	signed := "eyJhbGciOiJFUzI1NiJ9." + base64.RawURLEncoding.EncodeToString(payload)
	digest := sha256.Sum256([]byte(signed))
	signature, err := ecdsa.SignASN1(rand.Reader, f.key, digest[:])
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	token := signed + "." + base64.RawURLEncoding.EncodeToString(signature)
	name := sha256.Sum256([]byte(token))
	done, err := f.pool.Exec(r.Context(), floorTokenSQL, spent[:], at, [16]byte(jti), name[:], boundClient, resourceURI, scope,
		"0123456789012345678901234567890123456789012", at.Add(time.Hour), "a-signing-key", "a-credential")
	if err != nil || done.RowsAffected() != 1 {
		http.Error(w, "the statement failed", http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	io.WriteString(w, `{"access_token":"`+token+`","token_type":"DPoP","expires_in":3600}`)
}

// introspect takes one SHA-256 and selects one row by an index.
func (f *floor) introspect(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 4096))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	name := sha256.Sum256([]byte(strings.TrimPrefix(string(body), "token=")))
	var client, scope string
	var expires time.Time
	if err := f.pool.QueryRow(r.Context(), floorReadSQL, name[:]).Scan(&client, &scope, &expires); err != nil {
		http.Error(w, "the statement failed", http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintf(w, `{"active":true,"client_id":%q,"scope":%q,"exp":%d}`, client, scope, expires.Unix())
}

// verify verifies one ES256 signature, inserts a spent proof and reads a token.
func (f *floor) verify(w http.ResponseWriter, r *http.Request) {
	spent, ok := f.proven(r)
	if !ok {
		http.Error(w, "the signature is wrong", http.StatusUnauthorized)
		return
	}
	name := sha256.Sum256([]byte(strings.TrimPrefix(r.Header.Get("Authorization"), "DPoP ")))
	var client, scope string
	var expires time.Time
	if err := f.pool.QueryRow(r.Context(), floorVerifySQL, spent[:], time.Now(), name[:]).Scan(&client, &scope, &expires); err != nil {
		http.Error(w, "the statement failed", http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("X-Auth-Client-Id", client)
	w.Header().Set("X-Auth-Scope", scope)
}

// proven verifies the signature of the request's proof, and names the proof.
func (f *floor) proven(r *http.Request) (name [32]byte, ok bool) {
	proof := r.Header.Get("DPoP")
	dot := strings.LastIndexByte(proof, '.')
	if dot < 0 {
		return name, false
	}
	raw, err := base64.RawURLEncoding.DecodeString(proof[dot+1:])
	if err != nil || len(raw) != 64 {
		return name, false
	}
	signature, err := asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(raw[:32]), new(big.Int).SetBytes(raw[32:])})
	if err != nil {
		return name, false
	}
	name = sha256.Sum256([]byte(proof[:dot]))
	return name, ecdsa.VerifyASN1(&f.key.PublicKey, name[:], signature)
}
