package main

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/cargokey/authz/dpopbind"
)

// apiCommand is "api NAME": an API that demands a bound token, its key's proof
// and a nonce, and shows what it was sent; its URL is kept as a variable.
func apiCommand(ts *testscript.TestScript, neg bool, args []string) {
	want(ts, neg, len(args) == 1, "api NAME")
	checker, err := dpopbind.NewChecker(dpopbind.CheckerConfig{})
	ts.Check(err)
	replay := dpopbind.NewMemoryReplay(0, nil)
	var server *httptest.Server
	server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("DPoP-Nonce", "api-1")
		if err := checkBound(checker, replay, r, server.URL+r.URL.EscapedPath()); err != nil {
			w.Header().Set("WWW-Authenticate", fmt.Sprintf("DPoP error=%q", err.Error()))
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		body, _ := io.ReadAll(r.Body)
		switch r.URL.Path {
		case "/missing":
			w.WriteHeader(http.StatusNotFound)
			io.WriteString(w, "no such label")
		case "/away":
			http.Redirect(w, r, "http://127.0.0.1:1/", http.StatusFound)
		case "/binary":
			w.Write([]byte{0xff, 0xfe})
		default:
			w.Header().Set("X-Own", "from the API")
			fmt.Fprintf(w, "%s %s %s %s [%s]\n", r.Method, r.URL, r.Header.Get("Content-Type"), r.Header.Get("X-Mine"), body)
		}
	}))
	server.Start()
	ts.Defer(server.Close)
	ts.Setenv(args[0], server.URL)
}

// checkBound checks a proof against the token's cnf.jkt; whether the token is
// genuine is not what is tested here. Its error is the OAuth code.
func checkBound(checker *dpopbind.Checker, replay dpopbind.Replay, r *http.Request, address string) error {
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "DPoP ")
	parts := strings.Split(token, ".")
	if !ok || len(parts) != 3 {
		return fmt.Errorf("invalid_token")
	}
	var claims struct {
		Cnf struct{ JKT string }
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil || json.Unmarshal(payload, &claims) != nil {
		return fmt.Errorf("invalid_token")
	}
	target, err := dpopbind.NewTarget(r.Method, address)
	if err != nil {
		return err
	}
	raw, err := dpopbind.ProofHeader(r.Header)
	if err != nil {
		return fmt.Errorf("invalid_dpop_proof")
	}
	proof, err := checker.CheckWithToken(raw, target, token)
	if err != nil || proof.VerifySignature() != nil || proof.JKT() != claims.Cnf.JKT {
		return fmt.Errorf("invalid_dpop_proof")
	}
	if proof.Nonce() != "api-1" {
		return fmt.Errorf("use_dpop_nonce")
	}
	if proof.Spend(r.Context(), replay) != nil {
		return fmt.Errorf("invalid_dpop_proof")
	}
	return nil
}
