package authz_test

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/cargokey/authz/authz"
	"github.com/cargokey/authz/dpopbind"
	"github.com/cargokey/authz/dpopbind/prooftest"
)

const createLabel = labelsURL + "/labels"

// call is one that a gateway asks about.
type call struct {
	gateway registered
	method  string
	url     string
	token   string
	scheme  string // "": DPoP
	proofs  []string
	options string // the query of the check
}

// goodCall is one that passes, once.
func (i *instance) goodCall(gateway registered, token string, key *dpopbind.Key) call {
	i.w.t.Helper()
	return call{gateway: gateway, method: http.MethodPost, url: createLabel, token: token,
		proofs: []string{i.callProof(key, http.MethodPost, createLabel, token, dpopbind.ProofOptions{})}}
}

// callProof is a proof for a call with a token.
func (i *instance) callProof(key *dpopbind.Key, method, url, token string, o dpopbind.ProofOptions) string {
	i.w.t.Helper()
	o.AccessToken = token
	proof, err := key.Proof(method, url, i.now(), o)
	if err != nil {
		i.w.t.Fatal(err)
	}
	i.w.secret(proof)
	return proof
}

// checkRequest is the sub-request that a gateway makes of a call, by
// X-Forwarded-*.
func (i *instance) checkRequest(c call, edit ...func(*http.Request)) *http.Request {
	i.w.t.Helper()
	// What was registered a moment ago an instance may not know for another.
	time.Sleep(time.Until(time.UnixMilli(i.w.changed.Load()).Add(150 * time.Millisecond)))
	at := i.internal + "/gateway/verify"
	if c.options != "" {
		at += "?" + c.options
	}
	r, err := http.NewRequestWithContext(i.w.t.Context(), http.MethodGet, at, nil)
	if err != nil {
		i.w.t.Fatal(err)
	}
	if c.gateway.secret != "" {
		r.Header.Set("X-Gateway-Authorization", gatewayBasic(c.gateway.ID, c.gateway.secret))
	}
	proto, rest, _ := strings.Cut(c.url, "://")
	host, path, _ := strings.Cut(rest, "/")
	r.Header.Set("X-Forwarded-Method", c.method)
	r.Header.Set("X-Forwarded-Proto", proto)
	r.Header.Set("X-Forwarded-Host", host)
	r.Header.Set("X-Forwarded-Uri", "/"+path)
	if c.scheme == "" {
		c.scheme = "DPoP"
	}
	if c.token != "" {
		r.Header.Set("Authorization", c.scheme+" "+c.token)
	}
	for _, proof := range c.proofs {
		r.Header.Add("DPoP", proof)
	}
	for _, e := range edit {
		e(r)
	}
	return r
}

func gatewayBasic(id, secret string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(id+":"+secret))
}

func (i *instance) verify(c call, edit ...func(*http.Request)) answer {
	i.w.t.Helper()
	return i.do(i.checkRequest(c, edit...))
}

// passes holds that a call passes.
func (i *instance) passes(c call, edit ...func(*http.Request)) answer {
	i.w.t.Helper()
	a := i.verify(c, edit...)
	if a.status != http.StatusOK || a.body != "" {
		i.w.t.Errorf("%s %s: %d %s %s", c.method, c.url, a.status, a.body, a.header["Www-Authenticate"])
	}
	return a
}

// refusedAs holds that a call is refused, and tells nothing of a token.
func (i *instance) refusedAs(c call, status int, code string, edit ...func(*http.Request)) answer {
	i.w.t.Helper()
	a := i.verify(c, edit...)
	if a.status != status || a.string("error") != code {
		i.w.t.Errorf("%s %s: %d %s, want %d %s", c.method, c.url, a.status, a.body, status, code)
	}
	challenge := strings.Join(a.header["Www-Authenticate"], "; ")
	switch {
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		if !strings.HasPrefix(challenge, `DPoP realm="`) || !strings.Contains(challenge, `algs="ES256 `) {
			i.w.t.Errorf("the challenge is %q", challenge)
		}
		if hasError := strings.Contains(challenge, `error="`+code+`"`); hasError != (code != "no_credentials") {
			i.w.t.Errorf("error %s, the challenge is %q", code, challenge)
		}
	case challenge != "":
		i.w.t.Errorf("a caller is challenged for what is not its fault: %q", challenge)
	}
	for name := range a.header {
		if strings.HasPrefix(name, "X-Auth-") {
			i.w.t.Errorf("a refusal has %s", name)
		}
	}
	if a.header.Get("Cache-Control") != "no-store" {
		i.w.t.Errorf("a refusal may be cached: %v", a.header)
	}
	return a
}

func TestGoodCallPassesOnceWithTheFactsOfItsToken(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	one, two := w.instance(), w.instance()
	gateway, key := w.gateway(), newKey(t)
	for _, format := range authz.TokenFormats() {
		client := w.client(authz.Client{ID: "service-" + string(format), TokenFormat: format})
		token := one.token(client, key, "scope", "label:read label:create")
		c := one.goodCall(gateway, token.string("access_token"), key)
		c.url += "?from=x&at=a%20b" // htu has no query (RFC 9449 §4.2)
		a := one.passes(c)
		for name, want := range map[string]string{
			"X-Auth-Client-Id": client.ID, "X-Auth-Scope": "label:read label:create", "X-Auth-Jkt": key.JKT(),
			"X-Auth-Assertion": "", "DPoP-Nonce": "", "Cache-Control": "no-store",
		} {
			if got := a.header.Get(name); got != want {
				t.Errorf("%s: %s is %q, want %q", format, name, got, want)
			}
		}
		if jti := one.introspect(gateway, c.token).json["jti"]; a.header.Get("X-Auth-Token-Id") != jti {
			t.Errorf("%s: X-Auth-Token-Id is %q, want %q", format, a.header.Get("X-Auth-Token-Id"), jti)
		}
		one.refusedAs(c, 401, "invalid_dpop_proof")
		two.refusedAs(c, 401, "invalid_dpop_proof")
	}
}

func TestEqualCallsOnTwoInstancesPassOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	instances := []*instance{w.instance(), w.instance()}
	gateway, client, key := w.gateway(), w.client(authz.Client{}), newKey(t)
	token := instances[0].token(client, key).string("access_token")
	for range 10 {
		c := instances[0].goodCall(gateway, token, key)
		statuses := make(chan int)
		for n := range 40 {
			go func() {
				a, err := instances[n%2].try(instances[n%2].checkRequest(c))
				if err != nil {
					t.Error(err)
				}
				statuses <- a.status
			}()
		}
		got := map[int]int{}
		for range 40 {
			got[<-statuses]++
		}
		if got[200] != 1 || got[401] != 39 {
			t.Errorf("of 40 equal calls: %v", got)
		}
	}
}

// Every proof that dpopbind refuses is refused here, for the same reason, and
// every other passes.
func TestEveryProofOfTheTableIsJudgedAtTheGateway(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i := w.instance()
	gateway, client := w.gateway(), w.client(authz.Client{})
	tokens := map[string]string{}
	rows := prooftest.CasesWithToken(time.Now(), http.MethodGet, labelsURL+"/labels/7", func(jkt string) string {
		if tokens[jkt] == "" {
			tokens[jkt] = w.recordedToken(client, labels, jkt)
		}
		return tokens[jkt]
	})
	if len(rows) < 300 {
		t.Fatalf("only %d rows", len(rows))
	}
	for _, row := range rows {
		t.Run(row.Name, func(t *testing.T) {
			c := call{gateway: gateway, method: http.MethodGet, url: labelsURL + "/labels/7", token: row.Token, proofs: row.Headers}
			a := i.verify(c)
			switch {
			case row.Check == "" && a.status != http.StatusOK:
				t.Errorf("refused: %d %s", a.status, a.body)
			case row.Check != "" && (a.status != http.StatusUnauthorized || a.string("error") != "invalid_dpop_proof"):
				t.Errorf("%d %s, want check %s", a.status, a.body, row.Check)
			case row.Check != "" && !strings.Contains(a.string("error_description"), row.Description):
				t.Errorf("says %q, want %q in it", a.string("error_description"), row.Description)
			}
		})
	}
}

func TestBadCallIsRefusedForWhatIsWrongAndItsProofIsNotSpent(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i := w.instance()
	gateway, key, other := w.gateway(), newKey(t), newKey(t)
	client := w.client(authz.Client{})
	reader := w.client(authz.Client{ID: "reader", Grants: []authz.Grant{{Resource: labels, Scopes: []string{"label:read"}}}})
	rater := w.client(authz.Client{ID: "rater", AllowBearer: true, Grants: []authz.Grant{{Resource: rates, Scopes: []string{"rate:read"}}}})
	token := i.token(client, key).string("access_token")
	opaque := w.client(authz.Client{ID: "opaque", TokenFormat: authz.FormatOpaque})
	opaqueToken := i.token(opaque, key).string("access_token")
	readToken := i.token(reader, key).string("access_token")
	rateToken := i.token(rater, key).string("access_token")
	bearerToken := i.do(i.tokenRequest(rater, nil, clientCredentials)).string("access_token")
	if bearerToken == "" {
		t.Fatal("no bearer token")
	}
	proof := func(k *dpopbind.Key, method, url, token string) []string {
		return []string{i.callProof(k, method, url, token, dpopbind.ProofOptions{})}
	}
	good := func() call { return i.goodCall(gateway, token, key) }
	rows := []struct {
		name   string
		call   func() call
		edit   func(*http.Request)
		status int
		code   string
		says   string
	}{
		{"no credentials at all", func() call { return call{gateway: gateway, method: "POST", url: createLabel} }, nil, 401, "no_credentials", "access token"},
		{"a stolen token without a proof", func() call { c := good(); c.proofs = nil; return c }, nil, 401, "invalid_dpop_proof", "no proof"},
		{"another key's proof", func() call { c := good(); c.proofs = proof(other, "POST", createLabel, token); return c }, nil, 401, "invalid_token", "another key"},
		{"a proof for another token", func() call { c := good(); c.proofs = proof(key, "POST", createLabel, opaqueToken); return c }, nil, 401, "invalid_dpop_proof", "ath"},
		{"a proof for another method", func() call { c := good(); c.method = "PUT"; return c }, nil, 401, "invalid_dpop_proof", "htm"},
		{"a proof for another path", func() call { c := good(); c.url += "/7"; return c }, nil, 401, "invalid_dpop_proof", "htu"},
		{"a proof for another host", func() call {
			c := good()
			c.proofs = proof(key, "POST", "https://evil.test/v1/labels", token)
			return c
		}, nil, 401, "invalid_dpop_proof", "htu"},
		{"the Bearer scheme", func() call { c := good(); c.scheme = "Bearer"; return c }, nil, 401, "invalid_token", "no bearer tokens"},
		{"another scheme", func() call { c := good(); c.scheme = "Basic"; return c }, nil, 401, "no_credentials", "access token"},
		{"an unknown token", func() call {
			c := good()
			c.token += "x"
			c.proofs = proof(key, "POST", createLabel, c.token)
			return c
		}, nil, 401, "invalid_token", "unknown, expired, revoked"},
		{"a token for another resource", func() call {
			return call{gateway: gateway, method: "POST", url: createLabel, token: rateToken, proofs: proof(key, "POST", createLabel, rateToken)}
		}, nil, 401, "invalid_token", "for another API"},
		{"a bearer token by the DPoP scheme", func() call {
			return call{gateway: gateway, method: "POST", url: createLabel, token: bearerToken, proofs: proof(key, "POST", createLabel, bearerToken)}
		}, nil, 401, "invalid_token", "for another API"},
		{"too little scope", func() call {
			return call{gateway: gateway, method: "POST", url: createLabel, token: readToken, proofs: proof(key, "POST", createLabel, readToken), options: "scope=label:create"}
		}, nil, 403, "insufficient_scope", "label:create"},
		{"one of two scopes missing", func() call {
			return call{gateway: gateway, method: "POST", url: createLabel, token: readToken, proofs: proof(key, "POST", createLabel, readToken), options: "scope=label:read%20label:create"}
		}, nil, 403, "insufficient_scope", "label:read label:create"},
		{"two proofs", func() call { c := good(); c.proofs = append(c.proofs, good().proofs...); return c }, nil, 401, "invalid_dpop_proof", "2 DPoP headers"},
		{"two Authorization headers", good, func(r *http.Request) { r.Header.Add("Authorization", "DPoP "+token) }, 401, "invalid_request", "one Authorization"},
		{"a token in the query", func() call { c := good(); c.url += "?access_token=x"; return c }, nil, 401, "invalid_request", "never in the URL"},
		{"a URL of no resource", func() call {
			c := good()
			c.url = "https://api.carrier.test/v2/labels"
			c.proofs = proof(key, "POST", c.url, token)
			return c
		}, nil, 403, "invalid_request", "No API of this gateway"},
		{"a URL whose resource is another gateway's", func() call {
			c := good()
			c.url = ratesURL + "/quotes"
			c.token, c.proofs = rateToken, proof(key, "POST", c.url, rateToken)
			return c
		}, nil, 403, "invalid_request", "No API of this gateway"},
		{"another resource than the gateway names", func() call { c := good(); c.options = "resource=" + url.QueryEscape(rates); return c }, nil, 403, "invalid_request", "No API of this gateway"},
		{"dot segments", func() call { c := good(); c.url = labelsURL + "/x/../labels"; return c }, nil, 403, "invalid_request", "normal form"},
		{"encoded dot segments", func() call { c := good(); c.url = labelsURL + "/x/%2e%2E/labels"; return c }, nil, 403, "invalid_request", "normal form"},
		{"a fragment", func() call { c := good(); c.url += "#x"; return c }, nil, 403, "invalid_request", "normal form"},
		{"plain http", func() call {
			c := good()
			c.url = strings.Replace(c.url, "https", "http", 1)
			c.proofs = proof(key, "POST", c.url, token)
			return c
		}, nil, 403, "invalid_request", "No API of this gateway"},
		{"another port", func() call {
			c := good()
			c.url = strings.Replace(c.url, ".test/", ".test:8443/", 1)
			c.proofs = proof(key, "POST", c.url, token)
			return c
		}, nil, 403, "invalid_request", "No API of this gateway"},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			c := row.call()
			edit := row.edit
			if edit == nil {
				edit = func(*http.Request) {}
			}
			a := i.refusedAs(c, row.status, row.code, edit)
			if !strings.Contains(a.string("error_description"), row.says) {
				t.Errorf("says %q, want %q in it", a.string("error_description"), row.says)
			}
			if row.code == "insufficient_scope" && !strings.Contains(a.header.Get("Www-Authenticate"), `scope="`+row.says+`"`) {
				t.Errorf("the challenge is %s", a.header.Get("Www-Authenticate"))
			}
		})
	}
	// That no proof is spent for nothing, the end of the test holds.
	i.passes(good())
}

func TestCallOfATokenThatEndedAMomentAgoIsRefusedOnEveryInstance(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	one, two := w.instance(), w.instance()
	gateway, key := w.gateway(), newKey(t)
	for name, end := range map[string]func(client registered, token string){
		"revoked": func(client registered, token string) {
			if a := two.do(two.post("/oauth/revoke", client, url.Values{"token": {token}})); a.status != http.StatusOK {
				t.Fatalf("%d %s", a.status, a.body)
			}
		},
		"disabled": func(client registered, _ string) {
			if err := w.owner.SetClientDisabled(t.Context(), client.ID, true, operatorEvent(authz.AuditClientDisabled)); err != nil {
				t.Fatal(err)
			}
		},
		"deleted": func(client registered, _ string) {
			if err := w.owner.DeleteClient(t.Context(), client.ID, operatorEvent(authz.AuditClientDeleted)); err != nil {
				t.Fatal(err)
			}
		},
	} {
		client := w.client(authz.Client{ID: "service-" + name})
		token := two.token(client, key).string("access_token")
		one.passes(one.goodCall(gateway, token, key))
		end(client, token)
		one.refusedAs(one.goodCall(gateway, token, key), 401, "invalid_token")
	}
	client := w.client(authz.Client{ID: "service-expired"})
	token := two.token(client, key).string("access_token")
	one.passes(one.goodCall(gateway, token, key))
	one.advance(authz.DefaultTokenTTL)
	one.refusedAs(one.goodCall(gateway, token, key), 401, "invalid_token")
}

// recordedToken is a token of a client for a resource that is bound to jkt, or to
// no key, as if the server had issued it.
func (w *world) recordedToken(client registered, resource, jkt string) string {
	w.t.Helper()
	text := "azt_" + authz.NewSecret().Reveal()[4:]
	w.secret(text)
	now := time.Now().UTC().Truncate(time.Microsecond)
	token := authz.Token{
		JTI: authz.NewJTI(now), Digest: authz.DigestOf(text), ClientID: client.ID, Resource: resource, Scope: "label:create label:read",
		JKT: jkt, Credential: client.Secrets[0].Name(), IssuedAt: now, ExpiresAt: now.Truncate(time.Second).Add(10 * time.Minute),
	}
	event := authz.NewAuditEvent(now, authz.AuditTokenIssued, "client:"+client.ID)
	event.ClientID, event.Resource, event.JTI, event.JKT = client.ID, resource, token.JTI, jkt
	issue := authz.Issue{Token: token, Event: event, Revision: client.Revision}
	r, err := w.owner.Resource(w.t.Context(), resource)
	if err != nil {
		w.t.Fatal(err)
	}
	issue.ResourceRevision = r.Revision
	if jkt != "" {
		issue.Proof = &authz.Spending{Digest: authz.DigestOf(text + " proof"), IssuedAt: now, Window: time.Minute}
	}
	if err := w.owner.RecordToken(w.t.Context(), issue); err != nil {
		w.t.Fatal(err)
	}
	return text
}
