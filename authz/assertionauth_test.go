package authz_test

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cargokey/authz/authz"
	"github.com/cargokey/authz/dpopbind"
	"github.com/cargokey/authz/internal/clientassertion"
	"github.com/cargokey/authz/internal/clientassertion/assertiontest"
)

// asserting is a client by private_key_jwt, and its keys.
type asserting struct {
	*authz.Client
	signer *assertiontest.Signer
}

// asserting registers one; an empty ID means "label-service".
func (w *world) asserting(c authz.Client, signers ...*assertiontest.Signer) asserting {
	w.t.Helper()
	if len(signers) == 0 {
		signers = append(signers, assertiontest.NewSigner("ES256"))
	}
	c.AuthMethod = authz.PrivateKeyJWT
	if c.JWKSURI == "" {
		c.JWKS = []byte(assertiontest.Set(signers...))
	}
	return asserting{w.client(c).Client, signers[0]}
}

// draft is a good assertion of the client's.
func (i *instance) draft(c asserting) *assertiontest.Draft {
	return assertiontest.New(c.signer, c.ID, issuer, i.now())
}

// asserted adds an assertion to a form, and notes it as what must be found nowhere.
func (i *instance) asserted(form url.Values, d *assertiontest.Draft) url.Values {
	text := d.String()
	if len(text) > 100 {
		i.w.secret(text)
	}
	return with(form, "client_assertion_type", clientassertion.Type, "client_assertion", text)
}

func (i *instance) assertedToken(c asserting, key *dpopbind.Key) answer {
	i.w.t.Helper()
	return i.do(i.tokenRequest(registered{}, key, i.asserted(clientCredentials, i.draft(c))))
}

func TestClientsAuthenticateByAKeyOfTheirOwn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i, key := w.instance(), newKey(t)
	for _, alg := range clientassertion.Algorithms() {
		c := w.asserting(authz.Client{ID: "by-" + alg}, assertiontest.NewSigner(alg))
		a := i.assertedToken(c, key)
		if a.status != http.StatusOK || a.string("token_type") != "DPoP" {
			t.Fatalf("%s: %d %s", alg, a.status, a.body)
		}
		if claims := verified(t, i, a.string("access_token")); claims["client_id"] != c.ID {
			t.Errorf("%s: %v", alg, claims)
		}
		if n := w.count(`select count(*) from authz.tokens t join authz.audit_events e using (jti) where t.client_id = '` + c.ID +
			`' and t.credential = '` + c.signer.Thumbprint() + `' and e.detail->>'credential' = t.credential`); n != 1 {
			t.Errorf("%s: the key is on record %d times", alg, n)
		}
	}
}

func TestAssertionsAuthenticateAtEveryEndpoint(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i, client, key := w.instance(), w.asserting(authz.Client{}), newKey(t)
	gateway := w.asserting(authz.Client{ID: "edge-gateway", Introspects: []string{labels}})
	token := i.assertedToken(client, key).string("access_token")

	introspection := i.post("/oauth/introspect", registered{}, i.asserted(url.Values{"token": {token}}, i.draft(gateway)))
	if a := i.do(introspection); a.status != http.StatusOK || a.json["active"] != true {
		t.Errorf("introspection: %d %s", a.status, a.body)
	}
	w.asserted.Add(1)
	form := i.asserted(url.Values{"token": {token}}, i.draft(client))
	if a := i.do(i.post("/oauth/revoke", registered{}, form)); a.status != http.StatusOK {
		t.Errorf("revocation: %d %s", a.status, a.body)
	}
	w.asserted.Add(1)
	// What was used at one endpoint is of no use at another.
	for _, path := range []string{"/oauth/revoke", "/oauth/introspect"} {
		if a := i.do(i.post(path, registered{}, form)); a.status != http.StatusUnauthorized || a.string("error") != "invalid_client" {
			t.Errorf("%s, again: %d %s", path, a.status, a.body)
		}
	}
	if a := i.do(i.tokenRequest(registered{}, key, with(form, "grant_type", "client_credentials"))); a.status != http.StatusUnauthorized || a.string("error") != "invalid_client" {
		t.Errorf("a token for it: %d %s", a.status, a.body)
	}
	// One without a token to ask about is not used up.
	form = i.asserted(url.Values{}, i.draft(gateway))
	if a := i.do(i.post("/oauth/introspect", registered{}, form)); a.status != http.StatusBadRequest {
		t.Errorf("no token: %d %s", a.status, a.body)
	}
	if a := i.do(i.post("/oauth/introspect", registered{}, with(form, "token", token))); a.status != http.StatusOK || a.body != `{"active":false}` {
		t.Errorf("revoked: %d %s", a.status, a.body)
	}
	w.asserted.Add(1)
}

// badAssertion is a request with one thing wrong, and the beginning of the sentence
// that answers it.
type badAssertion struct {
	name string
	form url.Values
	want string
}

func TestBadAssertionsGetOneStatusAndChangeNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i, client, key := w.instance(), w.asserting(authz.Client{}), newKey(t)
	bySecret := w.client(authz.Client{ID: "by-secret"})
	disabled := w.asserting(authz.Client{ID: "disabled"})
	if err := w.owner.SetClientDisabled(t.Context(), disabled.ID, true, operatorEvent(authz.AuditClientDisabled)); err != nil {
		t.Fatal(err)
	}
	stranger := assertiontest.NewSigner("ES256")
	const (
		unproven = "Client authentication failed."
		refused  = "The client assertion is refused: "
	)
	good := func() *assertiontest.Draft { return i.draft(client) }
	by := func(id string) *assertiontest.Draft { return assertiontest.New(stranger, id, issuer, i.now()) }
	form := func(d *assertiontest.Draft, pairs ...string) url.Values {
		return with(i.asserted(clientCredentials, d), pairs...)
	}
	second := func(d time.Duration) string { return strconv.FormatInt(i.now().Add(d).Unix(), 10) }
	rows := []badAssertion{
		{"nobody", form(by("nobody")), unproven},
		{"no client_id at all", form(by("no client has this name!")), unproven},
		{"a client_id of 200 bytes", form(by(strings.Repeat("a", 200))), unproven},
		{"a client with a secret", form(by(bySecret.ID)), unproven},
		{"a disabled client, by a stranger", form(by(disabled.ID)), unproven},
		{"a stranger's key", form(by(client.ID)), unproven},
		{"a stranger's key under the client's kid", form(by(client.ID).Header("kid", `"`+client.signer.KID()+`"`)), unproven},
		{"an unknown kid", form(good().Header("kid", `"unknown"`)), unproven},
		{"an alg of another type of key", form(good().Header("alg", `"PS256"`)), unproven},
		{"a signature over other claims", form(good().Rewrite(assertiontest.OtherClaims)), unproven},
		{"no signature", form(good().Signature(func(string) []byte { return nil })), unproven},
		{"a disabled client", form(i.draft(disabled)), "This client is disabled."},

		{"no assertion", with(clientCredentials, "client_assertion_type", clientassertion.Type), refused},
		{"no type", with(clientCredentials, "client_assertion", good().String()), refused + "its client_assertion_type"},
		{"SAML", form(good(), "client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:saml2-bearer"), refused + "its client_assertion_type"},
		{"another client_id", form(good(), "client_id", bySecret.ID), refused + "its sub is not the client_id"},
		{"no JWS", form(good(), "client_assertion", "x"), refused + "it is not a JWS"},
		{"a line break", form(good().Rewrite(func(s string) string { return s + "\n" })), refused + "it is not canonical base64url"},
		{"stray bits", form(good().Rewrite(assertiontest.StrayBits)), refused + "it is not canonical base64url"},
		{"alg twice", form(good().HeaderJSON(`{"alg":"ES256","alg":"none"}`)), refused + "its JSON is malformed or ambiguous"},
		{"iss twice", form(good().ClaimsJSON(`{"iss":"` + client.ID + `","iss":"x"}`)), refused + "its JSON is malformed or ambiguous"},
		{"alg none", form(good().Header("alg", `"none"`)), refused + "its alg must be one of ES256, PS256, EdDSA, Ed25519"},
		{"alg HS256", form(good().Header("alg", `"HS256"`)), refused + "its alg must be"},
		{"alg RS256", form(good().Header("alg", `"RS256"`)), refused + "its alg must be"},
		{"a DPoP proof's typ", form(good().Header("typ", `"dpop+jwt"`)), refused + "its typ"},
		{"crit", form(good().Header("crit", `["exp"]`)), refused + "it has a critical header extension"},
		{"b64", form(good().Header("b64", `false`)), refused + "it has a critical header extension"},
		{"iss missing", form(good().Claim("iss", "")), refused + "its iss"},
		{"sub missing", form(good().Claim("sub", "")), refused + "its sub"},
		{"iss not sub", form(good().Claim("iss", `"`+bySecret.ID+`"`)), refused + "its sub"},
		{"aud missing", form(good().Claim("aud", "")), refused + "its aud must be the issuer of this server, as one string"},
		{"aud a list", form(good().Claim("aud", `["`+issuer+`"]`)), refused + "its aud"},
		{"aud the token endpoint", form(good().Claim("aud", `"`+tokenEndpoint+`"`)), refused + "its aud"},
		{"aud where it came in", form(good().Claim("aud", `"`+i.url+`"`)), refused + "its aud"},
		{"exp missing", form(good().Claim("exp", "")), refused + "its exp must be a time"},
		{"exp a string", form(good().Claim("exp", `"`+second(time.Minute)+`"`)), refused + "its exp must be a time"},
		{"exp past", form(good().Claim("exp", second(-time.Minute))), refused + "it has expired"},
		{"exp six minutes ahead", form(good().Claim("exp", second(6*time.Minute))), refused + "its exp must be at most 5 minutes ahead"},
		{"iat ahead", form(good().Claim("iat", second(time.Minute))), refused + "its iat lies in the future"},
		{"nbf ahead", form(good().Claim("nbf", second(time.Minute))), refused + "its nbf lies in the future"},
		{"jti missing", form(good().Claim("jti", "")), refused + "its jti"},
		{"jti of 257 bytes", form(good().Claim("jti", `"`+strings.Repeat("j", 257)+`"`)), refused + "its jti"},
	}
	answers := map[string]bool{}
	for _, row := range rows {
		a := i.do(i.tokenRequest(registered{}, key, row.form))
		if a.status != http.StatusUnauthorized || a.string("error") != "invalid_client" || !strings.HasPrefix(a.string("error_description"), row.want) {
			t.Errorf("%s: %d %s", row.name, a.status, a.body)
		}
		checkErrorForm(t, a)
		if row.want == unproven {
			for _, name := range []string{"X-Request-Id", "Date"} {
				a.header.Del(name)
			}
			answers[a.body+cmp.Diff(http.Header{}, a.header)] = true
		}
	}
	if len(answers) != 1 || len(rows) < 40 {
		t.Errorf("%d different answers to who is not proven to be a client; %d rows", len(answers), len(rows))
	}
	for name, row := range map[string]*http.Request{
		"and Basic":           i.tokenRequest(bySecret, key, form(good())),
		"and a secret":        i.tokenRequest(registered{}, key, form(good(), "client_id", bySecret.ID, "client_secret", bySecret.secret)),
		"its type, and Basic": i.tokenRequest(bySecret, key, with(clientCredentials, "client_assertion_type", clientassertion.Type)),
	} {
		if a := i.do(row); a.status != http.StatusBadRequest || a.string("error") != "invalid_request" {
			t.Errorf("an assertion %s: %d %s", name, a.status, a.body)
		}
	}
	if a := i.do(i.tokenRequest(registered{client.Client, "azs_x"}, key, clientCredentials)); a.status != http.StatusUnauthorized {
		t.Errorf("a secret of a client that has none: %d %s", a.status, a.body)
	}
	if n := w.count("select count(*) from authz.tokens") + w.count("select count(*) from authz.spent_proofs"); n != 0 {
		t.Errorf("%d rows were written", n)
	}
	for _, want := range []string{`"check":"aud"`, `"check":"signature"`, `"check":"key"`} {
		if !strings.Contains(w.logs.String(), want) {
			t.Errorf("the log lacks %s", want)
		}
	}
	if i.metric(`authz_assertions_refused_total{check="aud"}`) != 4 {
		t.Error("what was refused is not counted")
	}
	// What went before has broken nothing, and client_id may be there.
	if a := i.do(i.tokenRequest(registered{}, key, form(good(), "client_id", client.ID))); a.status != http.StatusOK {
		t.Errorf("%d %s", a.status, a.body)
	}
}

func TestEqualAssertionsOnTwoInstancesYieldOneToken(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	instances := []*instance{w.instance(), w.instance()}
	client := w.asserting(authz.Client{ID: "rate-service", AllowBearer: true, Grants: []authz.Grant{{Resource: rates, Scopes: []string{"rate:read"}}}})
	for _, bound := range []bool{true, false} {
		form := instances[0].asserted(clientCredentials, instances[0].draft(client))
		var all sync.WaitGroup
		answers := make(chan answer, 20)
		for n := range cap(answers) {
			all.Go(func() {
				i := instances[n%2]
				var key *dpopbind.Key
				if bound {
					key = newKey(t) // a proof of its own, by a key of its own
				}
				answers <- i.do(i.tokenRequest(registered{}, key, form))
			})
		}
		all.Wait()
		close(answers)
		tokens := 0
		for a := range answers {
			switch {
			case a.status == http.StatusOK:
				tokens++
			case a.status != http.StatusUnauthorized || a.string("error") != "invalid_client" || !strings.Contains(a.string("error_description"), "used before"):
				t.Errorf("%d %s", a.status, a.body)
			}
		}
		if tokens != 1 {
			t.Errorf("%d tokens, bound: %v", tokens, bound)
		}
	}
	if n := w.count("select count(*) from authz.spent_proofs"); n != 3 {
		t.Errorf("%d proofs and assertions are spent", n)
	}
}

func TestAnAssertionOutlivesARequestThatFailsForAnotherReason(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i, client, key := w.instance(), w.asserting(authz.Client{}), newKey(t)
	spent := i.proof(key)
	first := i.tokenRequest(registered{}, nil, i.asserted(clientCredentials, i.draft(client)))
	first.Header.Set("DPoP", spent)
	if a := i.do(first); a.status != http.StatusOK {
		t.Fatal(a.status, a.body)
	}
	for name, spoil := range map[string]func(r *http.Request, form url.Values) url.Values{
		"invalid_scope": func(_ *http.Request, form url.Values) url.Values { return with(form, "scope", "nothing") },
		"invalid_target": func(_ *http.Request, form url.Values) url.Values {
			return with(form, "resource", "https://elsewhere.test")
		},
		"unsupported_grant_type": func(_ *http.Request, form url.Values) url.Values { return with(form, "grant_type", "password") },
		"invalid_dpop_proof": func(r *http.Request, form url.Values) url.Values {
			r.Header.Set("DPoP", spent)
			return form
		},
	} {
		form := i.asserted(clientCredentials, i.draft(client))
		bad := i.tokenRequest(registered{}, key, clientCredentials)
		spoiled := i.post("/oauth/token", registered{}, spoil(bad, form))
		spoiled.Header = bad.Header
		if a := i.do(spoiled); a.status != http.StatusBadRequest || a.string("error") != name {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
		if a := i.do(i.tokenRequest(registered{}, key, form)); a.status != http.StatusOK {
			t.Errorf("after %s: %d %s", name, a.status, a.body)
		}
	}
}

func TestAReplayedAssertionSpendsNoProof(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i, client, key := w.instance(), w.asserting(authz.Client{}), newKey(t)
	used := i.asserted(clientCredentials, i.draft(client))
	if a := i.do(i.tokenRequest(registered{}, key, used)); a.status != http.StatusOK {
		t.Fatal(a.status, a.body)
	}
	proof := i.proof(key)
	for _, row := range []struct {
		form   url.Values
		status int
	}{{used, http.StatusUnauthorized}, {i.asserted(clientCredentials, i.draft(client)), http.StatusOK}} {
		r := i.tokenRequest(registered{}, nil, row.form)
		r.Header.Set("DPoP", proof)
		if a := i.do(r); a.status != row.status {
			t.Errorf("%d %s, want %d", a.status, a.body, row.status)
		}
	}
}

func TestAJTIIsOneClientsAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i, key := w.instance(), newKey(t)
	one, two := w.asserting(authz.Client{}), w.asserting(authz.Client{ID: "other"})
	for _, c := range []asserting{one, two} {
		if a := i.do(i.tokenRequest(registered{}, key, i.asserted(clientCredentials, i.draft(c).Claim("jti", `"the same"`)))); a.status != http.StatusOK {
			t.Errorf("%s: %d %s", c.ID, a.status, a.body)
		}
	}
	// With another exp and another key it is still the same.
	again := i.draft(one).Claim("jti", `"the same"`).Claim("exp", strconv.FormatInt(i.now().Unix()+200, 10))
	if a := i.do(i.tokenRequest(registered{}, newKey(t), i.asserted(clientCredentials, again))); a.status != http.StatusUnauthorized {
		t.Errorf("again: %d %s", a.status, a.body)
	}
}

func TestAnAssertionIsSpentForAsLongAsItIsGood(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i, client, key := w.instance(), w.asserting(authz.Client{}), newKey(t)
	form := i.asserted(clientCredentials, i.draft(client).Claim("exp", strconv.FormatInt(i.now().Add(5*time.Minute).Unix(), 10)))
	if a := i.do(i.tokenRequest(registered{}, key, form)); a.status != http.StatusOK {
		t.Fatal(a.status, a.body)
	}
	for _, step := range []struct {
		d    time.Duration
		want string
	}{{5 * time.Minute, "used before"}, {10 * time.Second, "used before"}, {10 * time.Second, "expired"}} {
		i.advance(step.d)
		a := i.do(i.tokenRequest(registered{}, key, form))
		if a.status != http.StatusUnauthorized || !strings.Contains(a.string("error_description"), step.want) {
			t.Errorf("%d %s, want %q", a.status, a.body, step.want)
		}
	}
}

func TestKeysOfAClientAreReplacedWithoutAFailure(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i, old, fresh, key := w.instance(), assertiontest.NewSigner("ES256"), assertiontest.NewSigner("EdDSA"), newKey(t)
	client := w.asserting(authz.Client{}, old)
	replace := func(signers ...*assertiontest.Signer) {
		t.Helper()
		c := authz.Client{ID: client.ID, AuthMethod: authz.PrivateKeyJWT, JWKS: []byte(assertiontest.Set(signers...)), Grants: client.Grants}
		if err := c.Validate(); err != nil {
			t.Fatal(err)
		}
		if err := w.owner.SetClientKeys(context.WithoutCancel(t.Context()), c.ID, c.JWKS, c.KeyNames, "", operatorEvent(authz.AuditClientUpdated)); err != nil {
			t.Fatal(err)
		}
	}
	ask := func(s *assertiontest.Signer, kid bool) int {
		d := assertiontest.New(s, client.ID, issuer, i.now())
		if !kid {
			d.Header("kid", "")
		}
		return i.do(i.tokenRequest(registered{}, key, i.asserted(clientCredentials, d))).status
	}
	for _, step := range []struct {
		set        []*assertiontest.Signer
		old, fresh int
	}{
		{[]*assertiontest.Signer{old}, 200, 401},
		{[]*assertiontest.Signer{old, fresh}, 200, 200},
		{[]*assertiontest.Signer{fresh}, 401, 200},
	} {
		replace(step.set...)
		for _, kid := range []bool{true, false} {
			if o, f := ask(old, kid), ask(fresh, kid); o != step.old || f != step.fresh {
				t.Errorf("with %d keys, kid %v: the old key gets %d, the new one %d", len(step.set), kid, o, f)
			}
		}
	}
}

func TestTheTokenEndpointIsAnAudienceWhereThatIsConfigured(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i := w.instance(func(c *authz.Config) { c.AssertionAudienceTokenEndpoint = true })
	client, key := w.asserting(authz.Client{}), newKey(t)
	for aud, want := range map[string]int{issuer: 200, tokenEndpoint: 200, issuer + "/oauth/introspect": 401, i.url + "/oauth/token": 401} {
		a := i.do(i.tokenRequest(registered{}, key, i.asserted(clientCredentials, i.draft(client).Claim("aud", `"`+aud+`"`))))
		if a.status != want {
			t.Errorf("%s: %d %s", aud, a.status, a.body)
		}
	}
}

func TestAnAssertionEnrolsADPoPKeyOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i, old := w.instance(), newKey(t)
	client := w.asserting(authz.Client{DPoPKeys: authz.EnrolledKey})
	c := registered{Client: client.Client}
	w.enrol(c, old, time.Time{})
	used := i.asserted(url.Values{}, i.draft(client))
	ask := func(form url.Values) answer {
		next := newKey(t)
		return i.do(i.enrolRequest(c, next, i.endorsement(c, old, next),
			"client_assertion_type", clientassertion.Type, "client_assertion", form.Get("client_assertion")))
	}
	if a := ask(used); a.status != http.StatusOK {
		t.Fatal(a.status, a.body)
	}
	w.asserted.Add(1)
	if a := ask(used); a.status != http.StatusUnauthorized || a.string("error") != "invalid_client" {
		t.Errorf("again: %d %s", a.status, a.body)
	}
	if a := ask(i.asserted(url.Values{}, i.draft(client))); a.status != http.StatusOK {
		t.Errorf("with another: %d %s", a.status, a.body)
	}
	w.asserted.Add(1)
}
