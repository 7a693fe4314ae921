package dpopbind_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/cargokey/authz/dpopbind"
)

func allowBearer(cfg *dpopbind.MiddlewareConfig) { cfg.AllowBearer = true }

// credentials are the good ones that the rows of the tables are made of.
type credentials struct{ bound, unbound, foreign, proof, unboundProof string }

func (a *api) credentials() credentials {
	c := credentials{
		bound: a.token(), unbound: a.as.token("").String(),
		foreign: a.as.token(must(dpopbind.GenerateKey()).JKT()).String(),
	}
	c.proof, c.unboundProof = a.proof(c.bound), a.proof(c.unbound)
	return c
}

func TestEachPresentationIsJudgedAsItSays(t *testing.T) {
	const authorization, dpop = "Authorization", "DPoP"
	const ok, badRequest, badToken, badProof = "", "invalid_request", "invalid_token", "invalid_dpop_proof"
	a := newAPI(t, nil)
	for _, row := range []struct {
		name    string
		code    string
		headers func(c credentials) []string
	}{
		{"a bound token and its proof", ok, func(c credentials) []string { return []string{authorization, "DPoP " + c.bound, dpop, c.proof} }},
		{"the scheme in lower case", ok, func(c credentials) []string { return []string{authorization, "dpop " + c.bound, dpop, c.proof} }},
		{"the scheme in capitals", ok, func(c credentials) []string { return []string{authorization, "DPOP " + c.bound, dpop, c.proof} }},
		{"three spaces", ok, func(c credentials) []string { return []string{authorization, "DPoP   " + c.bound, dpop, c.proof} }},
		{"a bound token as bearer", badToken, func(c credentials) []string { return []string{authorization, "Bearer " + c.bound} }},
		{"a bound token as bearer, with its proof", badToken, func(c credentials) []string {
			return []string{authorization, "Bearer " + c.bound, dpop, c.proof}
		}},
		{"an unbound token as bearer", badToken, func(c credentials) []string { return []string{authorization, "bearer " + c.unbound} }},
		{"an unbound token as bearer, with a proof", badToken, func(c credentials) []string {
			return []string{authorization, "BEARER " + c.unbound, dpop, c.unboundProof}
		}},
		{"an unbound token by DPoP", badToken, func(c credentials) []string {
			return []string{authorization, "DPoP " + c.unbound, dpop, c.unboundProof}
		}},
		{"an unbound token by DPoP without a proof", badProof, func(c credentials) []string { return []string{authorization, "DPoP " + c.unbound} }},
		{"a token of another key", badToken, func(c credentials) []string {
			return []string{authorization, "DPoP " + c.foreign, dpop, a.proof(c.foreign)}
		}},
		{"a proof for another token", badProof, func(c credentials) []string { return []string{authorization, "DPoP " + c.foreign, dpop, c.proof} }},
		{"a proof for no token", badProof, func(c credentials) []string { return []string{authorization, "DPoP " + c.bound, dpop, a.proof("")} }},
		{"no proof", badProof, func(c credentials) []string { return []string{authorization, "DPoP " + c.bound} }},
		{"an empty proof", badProof, func(c credentials) []string { return []string{authorization, "DPoP " + c.bound, dpop, ""} }},
		{"two proofs", badProof, func(c credentials) []string {
			return []string{authorization, "DPoP " + c.bound, dpop, c.proof, dpop, a.proof(c.bound)}
		}},
		{"two proofs in one header", badProof, func(c credentials) []string {
			return []string{authorization, "DPoP " + c.bound, dpop, c.proof + ", " + a.proof(c.bound)}
		}},
		{"both schemes in two headers", badRequest, func(c credentials) []string {
			return []string{authorization, "DPoP " + c.bound, authorization, "Bearer " + c.bound, dpop, c.proof}
		}},
		{"the same header twice", badRequest, func(c credentials) []string {
			return []string{authorization, "DPoP " + c.bound, authorization, "DPoP " + c.bound, dpop, c.proof}
		}},
		{"a header and an empty one", badRequest, func(c credentials) []string {
			return []string{authorization, "DPoP " + c.bound, authorization, "", dpop, c.proof}
		}},
		{"both schemes in one header", badRequest, func(c credentials) []string {
			return []string{authorization, "DPoP " + c.bound + ", Bearer " + c.bound, dpop, c.proof}
		}},
		{"another scheme before it in one header", badRequest, func(c credentials) []string {
			return []string{authorization, "Basic eDp5, DPoP " + c.bound, dpop, c.proof}
		}},
		{"a comma after the token", badRequest, func(c credentials) []string { return []string{authorization, "DPoP " + c.bound + ",", dpop, c.proof} }},
		{"a parameter after the token", badRequest, func(c credentials) []string {
			return []string{authorization, "DPoP " + c.bound + " x=y", dpop, c.proof}
		}},
		{"the token as a parameter", badRequest, func(c credentials) []string {
			return []string{authorization, `DPoP token="` + c.bound + `"`, dpop, c.proof}
		}},
		{"quotes around the token", badRequest, func(c credentials) []string { return []string{authorization, `DPoP "` + c.bound + `"`, dpop, c.proof} }},
		{"a tab after the scheme", badRequest, func(c credentials) []string { return []string{authorization, "DPoP\t" + c.bound, dpop, c.proof} }},
		{"a colon after the scheme", badRequest, func(c credentials) []string { return []string{authorization, "DPoP: " + c.bound, dpop, c.proof} }},
		{"no scheme", badRequest, func(c credentials) []string { return []string{authorization, c.bound, dpop, c.proof} }},
		{"no token", badRequest, func(c credentials) []string { return []string{authorization, "DPoP", dpop, c.proof} }},
		{"only padding", badRequest, func(c credentials) []string { return []string{authorization, "DPoP ==", dpop, c.proof} }},
		{"a non-ASCII token", badRequest, func(c credentials) []string { return []string{authorization, "DPoP " + c.bound + "é", dpop, c.proof} }},
		{"an empty header", badRequest, func(c credentials) []string { return []string{authorization, "", dpop, c.proof} }},
	} {
		t.Run(row.name, func(t *testing.T) {
			got := a.get(t, "/labels", row.headers(a.credentials())...)
			status := map[string]int{ok: 200, badRequest: 400, badToken: 401, badProof: 401}[row.code]
			got.expect(t, status, row.code)
			if row.code != ok && len(got.challenges) != 1 {
				t.Errorf("the challenges are %q", got.challenges)
			}
		})
	}
}

func TestARequestWithoutCredentialsLearnsTheSchemeAndNoError(t *testing.T) {
	for _, row := range []struct {
		edit func(*dpopbind.MiddlewareConfig)
		want []string
	}{
		{nil, []string{`DPoP realm="https://labels.example", algs="ES256 EdDSA PS256 RS256 Ed25519"`}},
		{allowBearer, []string{
			`DPoP realm="https://labels.example", algs="ES256 EdDSA PS256 RS256 Ed25519"`, `Bearer realm="https://labels.example"`,
		}},
	} {
		a := newAPI(t, row.edit)
		for _, headers := range [][]string{
			nil, {"DPoP", a.proof("")}, {"Authorization", "Basic eDp5"}, {"Authorization", `Digest a="b", c="d"`},
		} {
			got := a.get(t, "/labels", headers...)
			got.expect(t, http.StatusUnauthorized, "")
			if strings.Join(got.challenges, "\n") != strings.Join(row.want, "\n") {
				t.Errorf("%v: the challenges are %q", headers, got.challenges)
			}
		}
	}
}

func TestATokenIsNotTakenFromTheURLNorFromAForm(t *testing.T) {
	a := newAPI(t, allowBearer)
	c := a.credentials()
	for _, query := range []string{
		"access_token=" + c.unbound, "access%5ftoken=" + c.unbound, "a=b&access_token=x&access_token=y", "access_token",
		"access_token=x;y=z", "a;b&access_token=x",
	} {
		a.get(t, "/labels?"+query).expect(t, http.StatusBadRequest, "invalid_request")
		got := a.get(t, "/labels?"+query, "Authorization", "DPoP "+c.bound, "DPoP", a.proof(c.bound))
		got.expect(t, http.StatusBadRequest, "invalid_request")
	}
	for _, query := range []string{"token=x", "q=access_token", "my_access_token=x", "a;b"} {
		got := a.get(t, "/labels?"+query, "Authorization", "DPoP "+c.bound, "DPoP", a.proof(c.bound))
		got.expect(t, http.StatusOK, "")
	}
	req := must(http.NewRequest(http.MethodPost, a.URL+"/labels", strings.NewReader("access_token="+c.unbound)))
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	a.do(t, req).expect(t, http.StatusUnauthorized, "")
}

func TestWhereBearerTokensAreAdmittedABoundOneStaysBound(t *testing.T) {
	a := newAPI(t, allowBearer)
	c := a.credentials()
	for _, row := range []struct {
		name, code string
		headers    []string
	}{
		{"an unbound token", "", []string{"Authorization", "Bearer " + c.unbound}},
		{"an unbound token, scheme in lower case", "", []string{"Authorization", "bearer " + c.unbound}},
		{"a bound token and its proof", "", []string{"Authorization", "DPoP " + c.bound, "DPoP", c.proof}},
		{"a bound token as bearer", "invalid_token", []string{"Authorization", "Bearer " + c.bound}},
		{"a bound token as bearer, with its proof", "invalid_token", []string{"Authorization", "Bearer " + c.bound, "DPoP", a.proof(c.bound)}},
		{"an unbound token with a proof", "invalid_request", []string{"Authorization", "Bearer " + c.unbound, "DPoP", c.unboundProof}},
		{"an unbound token with an empty proof", "invalid_request", []string{"Authorization", "Bearer " + c.unbound, "DPoP", ""}},
		{"an unbound token by DPoP", "invalid_token", []string{"Authorization", "DPoP " + c.unbound, "DPoP", c.unboundProof}},
		{"garbage", "invalid_token", []string{"Authorization", "Bearer x"}},
		{"an opaque token", "invalid_token", []string{"Authorization", "Bearer mF_9.B5f-4.1JqM"}},
	} {
		got := a.get(t, "/labels", row.headers...)
		got.expect(t, map[string]int{"": 200, "invalid_token": 401, "invalid_request": 400}[row.code], row.code)
		if row.code == "" {
			continue
		}
		scheme, _, _ := strings.Cut(row.headers[1], " ")
		if len(got.challenges) != 2 {
			t.Fatalf("%s: the challenges are %q", row.name, got.challenges)
		}
		for _, challenge := range got.challenges {
			if strings.HasPrefix(challenge, scheme+" ") != strings.Contains(challenge, "error=") {
				t.Errorf("%s: the challenges are %q", row.name, got.challenges)
			}
		}
	}
	got := a.get(t, "/admin", "Authorization", "Bearer "+c.unbound)
	got.expect(t, http.StatusForbidden, "insufficient_scope")
}

// serve is get without a network, for fuzzing.
func (a *api) serve(h http.Header) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, "/labels", nil)
	r.Header = h
	w := httptest.NewRecorder()
	a.Config.Handler.ServeHTTP(w, r)
	return w
}

// FuzzAuthorization holds that only the good token by the good scheme gets
// through, and that every other value gets a well-formed refusal.
func FuzzAuthorization(f *testing.F) {
	a := newAPI(f, nil)
	token := a.token()
	for _, seed := range []string{
		"DPoP TOKEN", "dpop   TOKEN", "Bearer TOKEN", "DPoP TOKEN, Bearer TOKEN", "DPoP\tTOKEN", "TOKEN", "", " ", "DPoP ", "DPoP TOKEN==",
		"Basic eDp5", "Basic eDp5, DPoP TOKEN", `DPoP token="TOKEN"`, "DPoP TOKEN,", "DPoP TOKEN\x00", "DPoP TOKEN\n", "Digest a=b, c=d", ",",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		value = strings.ReplaceAll(value, "TOKEN", token)
		w := a.serve(http.Header{"Authorization": {value}, "Dpop": {a.proof(token)}})
		if w.Code == http.StatusOK {
			scheme, rest, _ := strings.Cut(value, " ")
			if !strings.EqualFold(scheme, "DPoP") || strings.TrimLeft(rest, " ") != token {
				t.Errorf("%q got through", value)
			}
			return
		}
		if w.Code != http.StatusBadRequest && w.Code != http.StatusUnauthorized {
			t.Errorf("%q: status %d", value, w.Code)
		}
		if !strings.HasPrefix(w.Header().Get("WWW-Authenticate"), "DPoP realm=") {
			t.Errorf("%q: the headers are %v", value, w.Header())
		}
	})
}
