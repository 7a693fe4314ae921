package dpopbind_test

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cargokey/authz/dpopbind"
)

func TestEachRefusalHasItsStatusCodeAndChallenges(t *testing.T) {
	algorithms := []dpopbind.Algorithm{dpopbind.ES256, dpopbind.EdDSA}
	const (
		dpop   = `DPoP realm="https://labels.example"`
		bearer = `Bearer realm="https://labels.example"`
		algs   = `, algs="ES256 EdDSA"`
	)
	_, bad := dpopbind.ProofHeader(http.Header{"Dpop": {"a", "b"}})
	away := errors.New("away")
	for _, row := range []struct {
		name     string
		refused  *dpopbind.Refusal
		status   int
		code     string
		byBearer bool
	}{
		{"no token", dpopbind.RefuseNoToken(), 401, "", false},
		{"request", dpopbind.RefuseRequest("Send one."), 400, "invalid_request", false},
		{"token", dpopbind.RefuseToken("It has expired."), 401, "invalid_token", false},
		{"unbound token", dpopbind.RefuseUnboundToken(), 401, "invalid_token", false},
		{"other key", dpopbind.RefuseOtherKey(), 401, "invalid_token", false},
		{"bearer", dpopbind.RefuseBearer(), 401, "invalid_token", true},
		{"bound as bearer", dpopbind.RefuseBoundAsBearer(), 401, "invalid_token", true},
		{"proof with bearer", dpopbind.RefuseProofWithBearer(), 400, "invalid_request", true},
		{"missing proof", dpopbind.RefuseMissingProof(), 401, "invalid_dpop_proof", false},
		{"bad proof", dpopbind.RefuseProof(fmt.Errorf("checking: %w", bad)), 401, "invalid_dpop_proof", false},
		{"nonce", dpopbind.RefuseNonce(), 401, "use_dpop_nonce", false},
		{"scope", dpopbind.RefuseScope("a", "b"), 403, "insufficient_scope", false},
		{"proof that cannot be checked", dpopbind.RefuseProof(away), 503, "temporarily_unavailable", false},
		{"unavailable", dpopbind.RefuseUnavailable(away), 503, "temporarily_unavailable", false},
	} {
		r := row.refused
		if r.Status != row.status || r.Code != row.code || r.Description == "" {
			t.Errorf("%s: got %d %s (%s)", row.name, r.Status, r.Code, r.Description)
		}
		if row.status == 503 {
			if !errors.Is(r, away) || r.Challenges("https://labels.example", algorithms, true) != nil {
				t.Errorf("%s: %v with challenges", row.name, r)
			}
			continue
		}
		said, scope := "", ""
		if row.code != "" {
			said = `, error="` + row.code + `", error_description="` + r.Description + `"`
		}
		if row.code == "insufficient_scope" {
			scope = `, scope="a b"`
		}
		// Where no bearer token is admitted, the error is in the only challenge.
		want := []string{dpop + said + scope + algs}
		if diff := cmp.Diff(want, r.Challenges("https://labels.example", algorithms, false)); diff != "" {
			t.Errorf("%s: %s", row.name, diff)
		}
		want = []string{dpop + said + scope + algs, bearer + scope}
		if row.byBearer {
			want = []string{dpop + scope + algs, bearer + said + scope}
		}
		if diff := cmp.Diff(want, r.Challenges("https://labels.example", algorithms, true)); diff != "" {
			t.Errorf("%s, bearer admitted: %s", row.name, diff)
		}
		if !strings.Contains(r.Error(), r.Description) {
			t.Errorf("%s: the error is %q", row.name, r)
		}
	}
	if got := dpopbind.RefuseProof(bad).Check; got != dpopbind.CheckHeaderCount {
		t.Errorf("the check is %q", got)
	}
}

func TestAPresentationDoesNotPrintItsToken(t *testing.T) {
	p, refused := dpopbind.ReadPresentation(http.Header{"Authorization": {"dpop s3cret"}}, "id=7")
	if refused != nil || p.Scheme != dpopbind.SchemeDPoP || p.Token != "s3cret" {
		t.Fatal(p.Scheme, p.Token, refused)
	}
	var log strings.Builder
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", slog.Any("p", p))
	for _, text := range []string{fmt.Sprintf("%v %+v %#v %s %q %x", p, p, p, p, p, p), fmt.Sprintf("%+v", &p), log.String()} {
		if strings.Contains(text, "s3cret") || strings.Contains(text, fmt.Sprintf("%x", "s3cret")) {
			t.Errorf("printed %s", text)
		}
	}
	for _, h := range []http.Header{{"Authorization": {"DPoP s3cret x"}}, {"Authorization": {"DPoP s3cret", "DPoP s3cret"}}} {
		if _, refused := dpopbind.ReadPresentation(h, "access_token=s3cret"); refused == nil || strings.Contains(refused.Error(), "s3cret") {
			t.Errorf("refused as %v", refused)
		}
		if _, refused := dpopbind.ReadPresentation(h, ""); refused == nil || strings.Contains(refused.Error(), "s3cret") {
			t.Errorf("refused as %v", refused)
		}
	}
}
