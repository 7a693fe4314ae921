package authz_test

import (
	"encoding/base64"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/cargokey/authz/authz"
	"github.com/cargokey/authz/dpopbind"
)

var proofOptions = dpopbind.ProofOptions{}

func base64Decode(s string) ([]byte, error) { return base64.RawURLEncoding.DecodeString(s) }

func base64Encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func discard() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

func TestEachRequestIsOneLineUnderTheIdThatItsClientSees(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i, client, key := w.instance(), w.client(authz.Client{}), newKey(t)
	before := strings.Count(w.logs.String(), "\n")
	for _, a := range []answer{
		i.token(client, key),
		i.do(i.tokenRequest(client, nil, clientCredentials)),
		i.do(i.post("/oauth/introspect", registered{}, url.Values{"token": {"x"}})),
		i.get("/.well-known/jwks.json"),
	} {
		id := a.header.Get("X-Request-Id")
		lines := 0
		for line := range strings.Lines(w.logs.String()) {
			if strings.Contains(line, id) {
				lines++
			}
		}
		if id == "" || lines != 1 {
			t.Errorf("request id %q is in %d lines", id, lines)
		}
	}
	if n := strings.Count(w.logs.String(), "\n") - before; n != 4 {
		t.Errorf("4 requests left %d lines", n)
	}
	r := i.tokenRequest(client, key, clientCredentials)
	r.Header.Set("X-Request-Id", "forged")
	if a := i.do(r); a.header.Get("X-Request-Id") == "forged" || strings.Contains(w.logs.String(), "forged") {
		t.Error("a client chose the request id")
	}
}

// Whatever fosite and Postgres say of an error stays inside.
func TestAnswersHoldNoInnerError(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i, client, key := w.instance(), w.client(authz.Client{}), newKey(t)
	w.exec("alter table authz.tokens rename to tokens_elsewhere")
	a := i.do(i.tokenRequest(client, key, clientCredentials))
	w.exec("alter table authz.tokens_elsewhere rename to tokens")
	if a.status != http.StatusServiceUnavailable {
		t.Errorf("%d %s", a.status, a.body)
	}
	for _, inner := range []string{"SQLSTATE", "relation", "tokens", "pgx", "debug", "hint", "fosite", ".go"} {
		if strings.Contains(strings.ToLower(a.body), strings.ToLower(inner)) {
			t.Errorf("the answer says %q: %s", inner, a.body)
		}
	}
	if !strings.Contains(w.logs.String(), "42P01") {
		t.Error("the cause is not in the log either")
	}
}

func TestMetricsCountByClosedSets(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i, client, key := w.instance(), w.client(authz.Client{}), newKey(t)
	i.token(client, key)
	i.do(i.tokenRequest(client, nil, clientCredentials))
	proof := i.proof(key)
	for range 2 {
		r := i.post("/oauth/token", client, clientCredentials)
		r.Header.Set("DPoP", proof)
		i.do(r)
	}
	r := i.post("/oauth/token", client, clientCredentials)
	r.Header.Set("DPoP", "a.b")
	i.do(r)
	i.do(i.tokenRequest(client, key, with(clientCredentials, "scope", "made-up-by-a-client")))
	metrics := i.internalGet("/metrics").body
	for _, want := range []string{
		`authz_requests_total{endpoint="token",error="",outcome="ok"} 2`,
		`authz_requests_total{endpoint="token",error="invalid_dpop_proof",outcome="refused"} 3`,
		`authz_requests_total{endpoint="token",error="invalid_scope",outcome="refused"} 1`,
		`authz_tokens_issued_total{token_type="DPoP"} 2`,
		`authz_proofs_refused_total{check="missing"} 1`,
		`authz_proofs_refused_total{check="replay"} 1`,
		`authz_proofs_refused_total{check="format"} 1`,
		`authz_proof_iat_offset_seconds_count 4`,
		`authz_request_duration_seconds_count{endpoint="token"} 6`,
	} {
		if !strings.Contains(metrics, want) {
			t.Errorf("/metrics lacks %s", want)
		}
	}
	for _, check := range []string{"missing", "replay", "format"} {
		if want := `"check":"` + check + `"`; strings.Count(w.logs.String(), want) != 1 {
			t.Errorf("the log has not one line with %s", want)
		}
	}
	for _, chosen := range []string{"made-up", client.ID, key.JKT()} {
		if strings.Contains(metrics, chosen) {
			t.Errorf("/metrics holds %q", chosen)
		}
	}
}
