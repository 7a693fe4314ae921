package dpopbind_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/cargokey/authz/dpopbind"
)

// endorsing serves metadata with a dpop_keys_endpoint, which checks both signatures,
// wants a nonce, and answers what answer writes of the two keys.
func endorsing(t *testing.T, issuer *string, answer func(w http.ResponseWriter, by, jkt, expiresIn, sent string)) {
	t.Helper()
	checker := must(dpopbind.NewChecker(dpopbind.CheckerConfig{}))
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/oauth-authorization-server", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"issuer":%q,"token_endpoint":%q,"dpop_keys_endpoint":%q}`, *issuer, *issuer+"/token", *issuer+"/keys")
	})
	mux.HandleFunc("POST /keys", func(w http.ResponseWriter, r *http.Request) {
		text := r.PostFormValue("endorsement")
		endorsement, err := checker.CheckEndorsement(text, *issuer)
		if err == nil {
			err = endorsement.VerifySignature()
		}
		if err != nil || endorsement.ClientID() != "labels" {
			t.Errorf("the endorsement: %v", err)
			return
		}
		proof, err := checker.Check(r.Header.Get("DPoP"), must(dpopbind.NewTarget(http.MethodPost, *issuer+"/keys")))
		if err == nil {
			err = proof.VerifySignature()
		}
		if err != nil || proof.JKT() != endorsement.JKT() {
			t.Errorf("the proof: %v", err)
			return
		}
		if proof.Nonce() != "n-1" {
			w.Header().Set("DPoP-Nonce", "n-1")
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprint(w, `{"error":"use_dpop_nonce"}`)
			return
		}
		if id, secret, _ := r.BasicAuth(); unescape(id) != "labels" || unescape(secret) != clientSecret {
			t.Error("it comes without the client's credentials")
		}
		answer(w, endorsement.By(), endorsement.JKT(), r.PostFormValue("expires_in"), text)
	})
	*issuer = newServer(t, mux).URL
}

func TestKeyVouchesForItsSuccessor(t *testing.T) {
	t.Parallel()
	for endsIn, want := range map[time.Duration]string{dpopbind.KeyStays: "", 0: "0", time.Hour: "3600"} {
		var issuer, expiresIn string
		endorsing(t, &issuer, func(w http.ResponseWriter, by, jkt, ends, _ string) {
			expiresIn = ends
			json.NewEncoder(w).Encode(map[string]string{"jkt": jkt, "endorsed_by": by})
		})
		client := must(dpopbind.NewClient(dpopbind.ClientConfig{Issuer: issuer, ClientID: "labels", ClientSecret: clientSecret}))
		if err := client.EndorseKey(t.Context(), must(dpopbind.GenerateKey()), endsIn); err != nil || expiresIn != want {
			t.Errorf("%s: %v, and expires_in is %q", endsIn, err, expiresIn)
		}
	}
}

func TestEndorsementThatIsNotConfirmedFails(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		answer func(w http.ResponseWriter, by, jkt, _, sent string)
		want   string
	}{
		"refused, and repeated": {func(w http.ResponseWriter, _, _, _, sent string) {
			w.WriteHeader(http.StatusBadRequest)
			json.NewEncoder(w).Encode(map[string]string{"error": "invalid_endorsement", "error_description": sent + clientSecret})
		}, "invalid_endorsement: [redacted][redacted]"},
		"of another key": {func(w http.ResponseWriter, by, _, _, _ string) {
			json.NewEncoder(w).Encode(map[string]string{"jkt": by, "endorsed_by": by})
		}, "does not name the two keys"},
		"no JSON": {func(w http.ResponseWriter, _, _, _, _ string) { fmt.Fprint(w, "<html>") }, "does not name the two keys"},
	} {
		var issuer string
		endorsing(t, &issuer, row.answer)
		client := must(dpopbind.NewClient(dpopbind.ClientConfig{Issuer: issuer, ClientID: "labels", ClientSecret: clientSecret}))
		err := client.EndorseKey(t.Context(), must(dpopbind.GenerateKey()), dpopbind.KeyStays)
		var refused *dpopbind.TokenError
		if err == nil || !strings.Contains(err.Error(), row.want) || errors.As(err, &refused) != strings.HasPrefix(row.want, "invalid_") {
			t.Errorf("%s: %v", name, err)
		}
	}
	client := must(dpopbind.NewClient(dpopbind.ClientConfig{TokenEndpoint: "https://auth.test/token", ClientID: "labels", ClientSecret: clientSecret}))
	if err := client.EndorseKey(t.Context(), must(dpopbind.GenerateKey()), 0); err == nil || !strings.Contains(err.Error(), "the server's issuer") {
		t.Errorf("without an issuer: %v", err)
	}
}
