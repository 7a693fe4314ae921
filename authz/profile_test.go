package authz_test

import (
	"encoding/base64"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/cargokey/authz/authz"
	"github.com/cargokey/authz/dpopbind"
	"github.com/cargokey/authz/dpopbind/prooftest"
	"github.com/cargokey/authz/jwks"
)

func fapi2(c *authz.Config) { c.Profile = authz.FAPI2 }

func TestFAPI2RefusesAConfigurationThatItRulesOut(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for name, c := range map[string]struct {
		change func(*authz.Config)
		want   string // "": it is admitted
	}{
		"as it is":       {func(*authz.Config) {}, ""},
		"an http issuer": {func(c *authz.Config) { c.Issuer = "http://127.0.0.1:8080" }, "https issuer"},
		"an http alias of the token endpoint": {func(c *authz.Config) {
			c.TokenEndpointAliases = []string{tokenEndpoint + "/a", "http://127.0.0.1:8080/oauth/token"}
		}, "wants https in the aliases"},
		"an https alias of the token endpoint": {func(c *authz.Config) { c.TokenEndpointAliases = []string{"HTTPS://internal.carrier.test/oauth/token"} }, ""},
		"an http URL for certificates": {func(c *authz.Config) {
			c.ClientCertificates = authz.ClientCertificates{Requested: true, URL: "http://127.0.0.1:8080"}
		}, "wants https in the aliases"},
		"an https URL for certificates": {func(c *authz.Config) {
			c.ClientCertificates = authz.ClientCertificates{Requested: true, URL: mtlsURL}
		}, ""},
		"a skew of 10 seconds":       {func(c *authz.Config) { c.ClockSkew = 10 * time.Second }, ""},
		"a skew of less":             {func(c *authz.Config) { c.ClockSkew = 9 * time.Second }, "clock skew of 10s to 1m0s"},
		"a skew of a minute":         {func(c *authz.Config) { c.ClockSkew = time.Minute }, ""},
		"a skew of more":             {func(c *authz.Config) { c.ClockSkew = 61 * time.Second }, "clock skew of 10s to 1m0s"},
		"RS256":                      {func(c *authz.Config) { c.SigningAlgorithm = jwks.RS256 }, "rules RS256 out"},
		"PS256":                      {func(c *authz.Config) { c.SigningAlgorithm = jwks.PS256 }, ""},
		"aud is the token endpoint":  {func(c *authz.Config) { c.AssertionAudienceTokenEndpoint = true }, "for the issuer only"},
		"a profile that nobody made": {func(c *authz.Config) { c.Profile = "fapi3" }, `may be empty or "fapi2"`},
	} {
		t.Run(name, func(t *testing.T) {
			store := w.instance().store
			config := authz.Config{
				Issuer: issuer, ProofLifetime: authz.DefaultProofLifetime, ClockSkew: authz.DefaultClockSkew, Profile: authz.FAPI2,
				Store: store, Sealer: w.sealer, Metrics: authz.NewMetrics(prometheus.NewRegistry()),
				NonceSecrets: [][]byte{make([]byte, dpopbind.MinNonceSecret)}, Log: slog.New(slog.DiscardHandler), Now: time.Now,
			}
			c.change(&config)
			_, err := authz.New(t.Context(), config)
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

// FAPI 2.0 §5.3.2.1, items 4 and 6.
func TestFAPI2AdmitsNoSecretAndNoBearerToken(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.resource(&authz.Resource{URI: rates + "/open", Scopes: []string{"rate:read"}, AllowBearer: true})
	i, key := w.instance(fapi2), newKey(t)
	secret := w.client(authz.Client{ID: "by-secret"})
	posted := w.client(authz.Client{ID: "by-post", AuthMethod: authz.ClientSecretPost})
	for _, c := range []registered{secret, posted} {
		for _, path := range []string{"/oauth/token", "/oauth/introspect", "/oauth/revoke"} {
			r := i.post(path, c, with(clientCredentials, "token", "azt_x"))
			if c.AuthMethod == authz.ClientSecretPost {
				r = i.post(path, registered{}, with(clientCredentials, "token", "azt_x", "client_id", c.ID, "client_secret", c.secret))
			}
			r.Header.Set("DPoP", i.proof(key))
			a := i.do(r)
			if a.status != http.StatusUnauthorized || a.string("error") != "invalid_client" || !strings.Contains(a.string("error_description"), "not by a secret") {
				t.Errorf("%s by %s: %d %s", path, c.AuthMethod, a.status, a.body)
			}
		}
	}
	if a := i.do(i.enrolRequest(secret, key, i.endorsement(secret, newKey(t), key))); a.status != http.StatusUnauthorized {
		t.Errorf("enrolling a key by a secret: %d %s", a.status, a.body)
	}

	open := w.asserting(authz.Client{ID: "open", AllowBearer: true, Grants: []authz.Grant{{Resource: rates + "/open", Scopes: []string{"rate:read"}}}})
	if a := i.do(i.post("/oauth/token", registered{}, i.asserted(clientCredentials, i.draft(open)))); a.status != http.StatusBadRequest || a.string("error") != "invalid_dpop_proof" {
		t.Errorf("a bearer token: %d %s", a.status, a.body)
	}
	if a := i.assertedToken(open, key); a.status != http.StatusOK || a.string("token_type") != "DPoP" {
		t.Errorf("a bound token: %d %s", a.status, a.body)
	}
}

func TestFAPI2FindsNoTokenActiveThatIsBoundToNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.update(labels, func(r *authz.Resource) { r.AllowBearer = true })
	lax, strict := w.instance(), w.instance(fapi2)
	gateway, client, key := w.asserting(authz.Client{ID: "edge", Introspects: []string{labels}}), w.asserting(authz.Client{AllowBearer: true}), newKey(t)
	bound := lax.assertedToken(client, key).string("access_token")
	bearer := lax.do(lax.post("/oauth/token", registered{}, lax.asserted(clientCredentials, lax.draft(client)))).string("access_token")
	for token, active := range map[string][2]bool{bound: {true, true}, bearer: {true, false}} {
		for n, i := range []*instance{lax, strict} {
			a := i.do(i.post("/oauth/introspect", registered{}, i.asserted(url.Values{"token": {token}}, i.draft(gateway))))
			w.asserted.Add(1)
			if a.status != http.StatusOK || a.json["active"] != active[n] || !active[n] && len(a.json) != 1 {
				t.Errorf("profile %d: %d %s", n, a.status, a.body)
			}
		}
	}
}

func TestFAPI2HoldsGatewaysToItAsWell(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.update(labels, func(r *authz.Resource) { r.AllowBearer = true })
	strict, lax := w.instance(fapi2), w.instance()
	gateway, key := w.gateway(), newKey(t)
	client := w.asserting(authz.Client{AllowBearer: true})
	token := lax.assertedToken(client, key).string("access_token")
	lax.passes(lax.goodCall(gateway, token, key))
	if a := strict.verify(strict.goodCall(gateway, token, key)); a.status != http.StatusInternalServerError || a.string("error") != "invalid_client" {
		t.Errorf("a gateway by its secret: %d %s", a.status, a.body)
	}

	// By a socket of its own: what is bound passes, what is not does not, though it
	// was issued while the server was held to less.
	server := httptest.NewServer(strict.server.GatewayHandler(authz.SocketGateway(gateway.ID)))
	t.Cleanup(server.Close)
	strict.internal = server.URL
	bearer := lax.do(lax.post("/oauth/token", registered{}, lax.asserted(clientCredentials, lax.draft(client)))).string("access_token")
	c := strict.goodCall(registered{Client: gateway.Client}, token, key)
	strict.passes(c)
	c.scheme, c.token, c.proofs = "Bearer", bearer, nil
	if bearer == "" {
		t.Fatal("no bearer token")
	}
	strict.refusedAs(c, 401, "invalid_token")
	c.gateway = gateway
	lax.passes(c)
}

// FAPI 2.0 §5.4.1: PS256, ES256 or EdDSA by Ed25519.
func TestFAPI2AdmitsItsAlgorithmsOnly(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i, client := w.instance(fapi2), w.asserting(authz.Client{})
	seen := map[string]int{}
	for _, c := range prooftest.Cases(i.now(), http.MethodPost, tokenEndpoint) {
		if c.Check != "" {
			continue
		}
		raw, err := base64.RawURLEncoding.DecodeString(strings.Split(c.Headers[0], ".")[0])
		if err != nil {
			continue // of the cases about the header's form
		}
		var header struct{ Alg string }
		if err := json.Unmarshal(raw, &header); err != nil {
			t.Fatal(err)
		}
		seen[header.Alg]++
		r := i.post("/oauth/token", registered{}, i.asserted(clientCredentials, i.draft(client)))
		r.Header["Dpop"] = c.Headers
		a := i.do(r)
		if header.Alg == "RS256" {
			if a.status != http.StatusBadRequest || a.string("error") != "invalid_dpop_proof" {
				t.Errorf("%s: %d %s", c.Name, a.status, a.body)
			}
		} else if a.status != http.StatusOK {
			t.Errorf("%s: %d %s", c.Name, a.status, a.body)
		}
	}
	for _, alg := range []string{"ES256", "PS256", "RS256", "EdDSA", "Ed25519"} {
		if seen[alg] == 0 {
			t.Errorf("no proof by %s in %v", alg, seen)
		}
	}

	w.update(labels, func(r *authz.Resource) { r.SigningAlg = jwks.RS256 })
	key := newKey(t)
	if a := i.assertedToken(client, key); a.status != http.StatusBadRequest || a.string("error") != "invalid_target" {
		t.Errorf("a token by RS256: %d %s", a.status, a.body)
	}
	// No token is to be signed by it, and so there is no key that could: neither where
	// an instance looks after its keys, nor where one begins.
	if err := i.server.LookAfterKeys(t.Context()); err != nil {
		t.Error(err)
	}
	w.instance(fapi2)
	if n := w.count(`select count(*) from authz.signing_keys where alg = 'RS256'`); n != 0 {
		t.Errorf("%d keys of RS256", n)
	}
	opaque := w.asserting(authz.Client{ID: "opaque", TokenFormat: authz.FormatOpaque})
	if a := i.assertedToken(opaque, key); a.status != http.StatusOK {
		t.Errorf("an opaque token, which nobody signs: %d %s", a.status, a.body)
	}
}

// FAPI 2.0 §5.3.2.1, item 13, of assertions and of proofs.
func TestFAPI2AcceptsWhatIsIssuedTenSecondsAhead(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, skew := range []time.Duration{10 * time.Second, time.Minute} {
		i := w.instance(fapi2, func(c *authz.Config) { c.ClockSkew = skew })
		client := w.asserting(authz.Client{ID: "skew-" + skew.String()})
		for ahead, want := range map[time.Duration]int{
			-10 * time.Second: http.StatusOK, 0: http.StatusOK, 9 * time.Second: http.StatusOK, 62 * time.Second: http.StatusUnauthorized,
		} {
			second := func(d time.Duration) string { return jsonTime(i.now().Add(ahead + d)) }
			d := i.draft(client).Claim("iat", second(0)).Claim("nbf", second(0)).Claim("exp", second(time.Minute))
			r := i.tokenRequest(registered{}, newKey(t), i.asserted(clientCredentials, d))
			if a := i.do(r); a.status != want {
				t.Errorf("skew %s, an assertion %s ahead: %d %s", skew, ahead, a.status, a.body)
			}
			r = i.post("/oauth/token", registered{}, i.asserted(clientCredentials, i.draft(client)))
			r.Header.Set("DPoP", prooftest.New(i.now().Add(ahead), http.MethodPost, tokenEndpoint).String())
			if a := i.do(r); (a.status == http.StatusOK) != (want == http.StatusOK) {
				t.Errorf("skew %s, a proof %s ahead: %d %s", skew, ahead, a.status, a.body)
			}
		}
	}
}

func jsonTime(t time.Time) string {
	text, err := json.Marshal(t.Unix())
	if err != nil {
		panic(err)
	}
	return string(text)
}

// FAPI 2.0 §5.3.2.1, item 8: as a string, and the issuer only.
func TestFAPI2AcceptsTheIssuerAsAudienceOnly(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i, client := w.instance(fapi2), w.asserting(authz.Client{})
	for _, aud := range []string{`"` + tokenEndpoint + `"`, `["` + issuer + `"]`, `["` + issuer + `","` + tokenEndpoint + `"]`, `"` + issuer + `/"`} {
		a := i.do(i.tokenRequest(registered{}, newKey(t), i.asserted(clientCredentials, i.draft(client).Claim("aud", aud))))
		if a.status != http.StatusUnauthorized || a.string("error") != "invalid_client" {
			t.Errorf("aud %s: %d %s", aud, a.status, a.body)
		}
	}
}

func TestFAPI2IsWhatTheMetadataTells(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.newSite(fapi2)
	a := s.get("/.well-known/oauth-authorization-server")
	for member, want := range map[string][]any{
		"token_endpoint_auth_methods_supported":         {"private_key_jwt", "tls_client_auth", "self_signed_tls_client_auth"},
		"introspection_endpoint_auth_methods_supported": {"private_key_jwt", "self_signed_tls_client_auth"},
		"revocation_endpoint_auth_methods_supported":    {"private_key_jwt", "tls_client_auth", "self_signed_tls_client_auth"},
		"dpop_signing_alg_values_supported":             {"ES256", "EdDSA", "PS256", "Ed25519"},
	} {
		got, _ := a.json[member].([]any)
		slices.SortFunc(got, func(a, b any) int { return slices.Index(want, a) - slices.Index(want, b) })
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", member, diff)
		}
	}
	algorithms, _ := a.json["token_endpoint_auth_signing_alg_values_supported"].([]any)
	if len(algorithms) == 0 || slices.Contains(algorithms, any("RS256")) || slices.Contains(algorithms, any("none")) {
		t.Errorf("assertions by %v", algorithms)
	}
}
