package authz_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"

	"github.com/cargokey/authz/authz"
	"github.com/cargokey/authz/dpopbind"
)

func TestTokenIsBoundToTheKeyOfItsProof(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i, client, gateway := w.instance(), w.client(authz.Client{}), w.gateway()

	ec, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	_, ed, _ := ed25519.GenerateKey(rand.Reader)
	rs, _ := rsa.GenerateKey(rand.Reader, 2048)
	for _, c := range []struct {
		alg    dpopbind.Algorithm
		signer crypto.Signer
	}{{dpopbind.ES256, ec}, {dpopbind.EdDSA, ed}, {dpopbind.Ed25519, ed}, {dpopbind.PS256, rs}, {dpopbind.RS256, rs}} {
		t.Run(string(c.alg), func(t *testing.T) {
			key, err := dpopbind.NewKey(c.signer, c.alg)
			if err != nil {
				t.Fatal(err)
			}
			// The thumbprint by another implementation (RFC 7638).
			thumbprint, err := (&jose.JSONWebKey{Key: c.signer.Public()}).Thumbprint(crypto.SHA256)
			if err != nil {
				t.Fatal(err)
			}
			want := base64.RawURLEncoding.EncodeToString(thumbprint)

			a := i.token(client, key)
			if got := a.string("token_type"); got != "DPoP" {
				t.Errorf("token_type is %q", got)
			}
			claims := verified(t, i, a.string("access_token"))
			if diff := cmp.Diff(map[string]any{"jkt": want}, claims["cnf"]); diff != "" {
				t.Errorf("cnf of the token (-want +got):\n%s", diff)
			}
			seen := i.introspect(gateway, a.string("access_token"))
			if diff := cmp.Diff(map[string]any{"jkt": want}, seen.json["cnf"]); diff != "" {
				t.Errorf("cnf of the introspection (-want +got):\n%s", diff)
			}
		})
	}
}

// verified checks a token against the published JWKS with go-jose, and returns
// its claims.
func verified(t *testing.T, i *instance, token string) map[string]any {
	t.Helper()
	r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, i.url+"/.well-known/jwks.json", nil)
	var set jose.JSONWebKeySet
	if err := json.Unmarshal([]byte(i.do(r).body), &set); err != nil {
		t.Fatal(err)
	}
	signed, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		t.Fatal(err)
	}
	payload, err := signed.Verify(set)
	if err != nil {
		t.Fatal(err)
	}
	if typ := signed.Signatures[0].Protected.ExtraHeaders[jose.HeaderType]; typ != "at+jwt" {
		t.Errorf("typ is %v", typ)
	}
	var claims map[string]any
	if err := json.Unmarshal(payload, &claims); err != nil {
		t.Fatal(err)
	}
	return claims
}

func TestJWTHasTheClaimsOfRFC9068(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i, client, key := w.instance(), w.client(authz.Client{}), newKey(t)
	before := time.Now().Unix()
	a := i.token(client, key, "scope", "label:read label:create")
	claims := verified(t, i, a.string("access_token"))

	iat, exp := int64(claims["iat"].(float64)), int64(claims["exp"].(float64))
	if iat < before || iat > time.Now().Unix() || exp-iat != 600 {
		t.Errorf("iat %d, exp %d, asked at %d", iat, exp, before)
	}
	jti, err := authz.ParseJTI(claims["jti"].(string))
	if err != nil || jti[6]>>4 != 7 || jti[8]>>6 != 0b10 {
		t.Errorf("jti %v is not a UUIDv7", claims["jti"])
	}
	for _, name := range []string{"iat", "exp", "jti"} {
		delete(claims, name)
	}
	want := map[string]any{
		"iss": issuer, "sub": client.ID, "client_id": client.ID, "aud": labels,
		"scope": "label:read label:create", "cnf": map[string]any{"jkt": key.JKT()},
	}
	if diff := cmp.Diff(want, claims); diff != "" {
		t.Errorf("claims (-want +got):\n%s", diff)
	}
	delete(a.json, "access_token")
	if diff := cmp.Diff(map[string]any{"token_type": "DPoP", "expires_in": 600.0, "scope": "label:read label:create"}, a.json); diff != "" {
		t.Errorf("answer (-want +got):\n%s", diff)
	}
	if a.header.Get("Cache-Control") != "no-store" || a.header.Get("Pragma") != "no-cache" {
		t.Errorf("a token may be cached: %v", a.header)
	}
}

func TestOpaqueTokenIsAsGoodAsAJWT(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i, gateway, key := w.instance(), w.gateway(), newKey(t)
	client := w.client(authz.Client{TokenFormat: authz.FormatOpaque})
	token := i.token(client, key).string("access_token")
	random, ok := strings.CutPrefix(token, authz.OpaqueTokenPrefix)
	if b, err := base64.RawURLEncoding.DecodeString(random); !ok || err != nil || len(b) != 32 {
		t.Errorf("an opaque token is %q", token)
	}
	seen := i.introspect(gateway, token)
	if diff := cmp.Diff(map[string]any{"jkt": key.JKT()}, seen.json["cnf"]); diff != "" {
		t.Errorf("cnf (-want +got):\n%s", diff)
	}
	if i.active(gateway, token+"A") || i.active(gateway, strings.ToUpper(token)) {
		t.Error("an altered token is active")
	}
}

func TestCarrierShapedRequestGetsABoundToken(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i, client, key := w.instance(), w.client(authz.Client{}), newKey(t)
	r, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, i.url+"/oauth/token", strings.NewReader("grant_type=client_credentials&scope=CXS"))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.SetBasicAuth(client.ID, client.secret)
	r.Header.Set("DPoP", i.proof(key))
	a := i.do(r)
	if a.status != http.StatusOK || a.string("token_type") != "DPoP" || a.string("scope") != "CXS" {
		t.Errorf("%d %s", a.status, a.body)
	}
}

func TestEqualProofsOnTwoInstancesYieldOneToken(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	client, key := w.client(authz.Client{}), newKey(t)
	instances := []*instance{w.instance(), w.instance()}
	for round := range 10 {
		proof := instances[0].proof(key)
		var issued, refused atomic.Int64
		var wg sync.WaitGroup
		start := make(chan struct{})
		for n := range 40 {
			wg.Go(func() {
				i := instances[n%2]
				r := i.post("/oauth/token", client, clientCredentials)
				r.Header.Set("DPoP", proof)
				<-start
				a, err := i.try(r)
				switch {
				case err != nil:
					t.Errorf("round %d: %v", round, err)
				case a.status == http.StatusOK:
					issued.Add(1)
				case a.status == http.StatusBadRequest && a.string("error") == "invalid_dpop_proof":
					refused.Add(1)
				default:
					t.Errorf("round %d: %d %s", round, a.status, a.body)
				}
			})
		}
		close(start)
		wg.Wait()
		if issued.Load() != 1 || refused.Load() != 39 {
			t.Errorf("round %d: %d tokens, %d refused", round, issued.Load(), refused.Load())
		}
	}
}

func TestRefusedRequestSpendsNoProof(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i, client, key := w.instance(), w.client(authz.Client{}), newKey(t)
	proof := i.proof(key)
	send := func(c registered, pairs ...string) answer {
		r := i.post("/oauth/token", c, with(clientCredentials, pairs...))
		r.Header.Set("DPoP", proof)
		return i.do(r)
	}
	for name, a := range map[string]answer{
		"wrong secret":     send(registered{client.Client, authz.NewSecret().Reveal()}),
		"unknown scope":    send(client, "scope", "label:delete"),
		"unknown resource": send(client, "resource", "https://elsewhere.test"),
		"unknown grant":    send(client, "grant_type", "password"),
	} {
		if a.status < 400 || a.status >= 500 {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
	if a := send(client); a.status != http.StatusOK {
		t.Errorf("the proof was spent by a refused request: %d %s", a.status, a.body)
	}
	if a := send(client); a.string("error") != "invalid_dpop_proof" {
		t.Errorf("the proof was accepted twice: %d %s", a.status, a.body)
	}
}

func TestProofIsRefusedAgainUntilItsWindowEnds(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i, client, key := w.instance(), w.client(authz.Client{}), newKey(t)
	proof := i.proof(key)
	send := func() answer {
		r := i.post("/oauth/token", client, clientCredentials)
		r.Header.Set("DPoP", proof)
		return i.do(r)
	}
	if a := send(); a.status != http.StatusOK {
		t.Fatal(a.status, a.body)
	}
	for _, step := range []time.Duration{time.Second, 59 * time.Second, 10 * time.Second, 3 * time.Second, 5 * time.Second, 2 * time.Hour} {
		i.advance(step)
		if a := send(); a.status != http.StatusBadRequest || a.string("error") != "invalid_dpop_proof" {
			t.Errorf("after %s more: %d %s", step, a.status, a.body)
		}
	}
}

func TestLifetimeIsTheResources(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.resource(&authz.Resource{URI: "https://brief.test", Scopes: []string{"x"}, TokenTTL: time.Second})
	i, key := w.instance(), newKey(t)
	client := w.client(authz.Client{Grants: []authz.Grant{{Resource: "https://brief.test", Scopes: []string{"x"}}}})
	gateway := w.client(authz.Client{ID: "brief-gateway", Introspects: []string{"https://brief.test"}})
	a := i.token(client, key)
	if a.json["expires_in"] != 1.0 {
		t.Errorf("expires_in is %v", a.json["expires_in"])
	}
	i.advance(time.Second)
	if i.active(gateway, a.string("access_token")) {
		t.Error("an expired token is active")
	}
}

func TestUnknownParametersAreIgnored(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i, client, key := w.instance(), w.client(authz.Client{}), newKey(t)
	a := i.token(client, key, "audience", "https://elsewhere.test", "nonsense", "x", "response_type", "code")
	if aud := verified(t, i, a.string("access_token"))["aud"]; aud != labels {
		t.Errorf("aud is %v", aud)
	}
}

// Of a thousand equal proofs at once, over two instances, one gets a token; and
// so a hundred times over (fewer with -short).
func TestOfAThousandEqualProofsOneGetsAToken(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	client, key := w.client(authz.Client{}), newKey(t)
	instances := []*instance{w.instance(), w.instance()}
	rounds := 100
	if testing.Short() || raceEnabled {
		rounds = 5
	}
	for round := range rounds {
		proof := instances[0].proof(key)
		var issued, refused atomic.Int64
		start := make(chan struct{})
		var wg sync.WaitGroup
		for n := range 50 { // connections, of twenty requests each
			wg.Go(func() {
				<-start
				for range 20 {
					r := instances[n%2].post("/oauth/token", client, clientCredentials)
					r.Header.Set("DPoP", proof)
					switch a, err := instances[n%2].try(r); {
					case err == nil && a.status == http.StatusOK:
						issued.Add(1)
					case err == nil && a.status == http.StatusBadRequest && a.string("error") == "invalid_dpop_proof":
						refused.Add(1)
					default:
						t.Errorf("round %d: %v %d %s", round, err, a.status, a.body)
					}
				}
			})
		}
		close(start)
		wg.Wait()
		if issued.Load() != 1 || refused.Load() != 999 {
			t.Fatalf("round %d: %d tokens, %d refused", round, issued.Load(), refused.Load())
		}
	}
}
