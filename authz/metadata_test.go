package authz_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cargokey/authz/authz"
	"github.com/cargokey/authz/jwks"
)

var update = flag.Bool("update", false, "rewrite golden files")

func (i *instance) get(path string, headers ...string) answer {
	i.w.t.Helper()
	r, err := http.NewRequestWithContext(i.w.t.Context(), http.MethodGet, i.url+path, nil)
	if err != nil {
		i.w.t.Fatal(err)
	}
	for n := 0; n < len(headers); n += 2 {
		r.Header.Set(headers[n], headers[n+1])
	}
	return i.do(r)
}

func TestMetadataIsThatOfRFC8414(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i := w.instance(func(c *authz.Config) { c.ServiceDocumentation = "https://docs.carrier.test/auth" })
	a := i.get("/.well-known/oauth-authorization-server")
	if a.status != http.StatusOK || a.header.Get("Content-Type") != "application/json" {
		t.Fatal(a.status, a.header)
	}
	var got bytes.Buffer
	if err := json.Indent(&got, []byte(a.body+"\n"), "", "  "); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join("testdata", "metadata.json")
	if *update {
		if err := os.WriteFile(file, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if a := w.instance().get("/.well-known/oauth-authorization-server"); a.json["service_documentation"] != nil {
		t.Error("service_documentation where none is configured")
	}
}

func TestJWKSHoldsPublicKeysOnlyAndCanBeCached(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i := w.instance()
	a := i.get("/.well-known/jwks.json")
	keys, _ := a.json["keys"].([]any)
	if a.status != http.StatusOK || len(keys) != 1 {
		t.Fatal(a.status, a.body)
	}
	key := keys[0].(map[string]any)
	var members []string
	for name := range key {
		members = append(members, name)
	}
	slices.Sort(members)
	if diff := cmp.Diff([]string{"alg", "crv", "kid", "kty", "use", "x", "y"}, members); diff != "" {
		t.Errorf("members (-want +got):\n%s", diff)
	}
	if key["alg"] != "ES256" || key["use"] != "sig" || key["kid"] == "" {
		t.Errorf("%v", key)
	}
	etag := a.header.Get("ETag")
	if etag == "" || a.header.Get("Cache-Control") != "public, max-age=300" || a.header.Get("Content-Type") != "application/jwk-set+json" {
		t.Errorf("headers: %v", a.header)
	}
	for _, match := range []string{etag, "W/" + etag, `"other", ` + etag, "*"} {
		if a := i.get("/.well-known/jwks.json", "If-None-Match", match); a.status != http.StatusNotModified || a.body != "" {
			t.Errorf("If-None-Match %s: %d %s", match, a.status, a.body)
		}
	}
	if a := i.get("/.well-known/jwks.json", "If-None-Match", `"other"`); a.status != http.StatusOK {
		t.Errorf("another ETag: %d", a.status)
	}
}

func TestPublicDocumentsAreReadOnly(t *testing.T) {
	t.Parallel()
	i := newWorld(t).instance()
	for _, path := range []string{"/.well-known/jwks.json", "/.well-known/oauth-authorization-server"} {
		r, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, i.url+path, nil)
		if a := i.do(r); a.status != http.StatusMethodNotAllowed || a.header.Get("Allow") != "GET, HEAD" {
			t.Errorf("%s: %d %v", path, a.status, a.header)
		}
	}
	for _, path := range []string{"/", "/oauth", "/oauth/token/", "/metrics", "/readyz", "/healthz"} {
		if a := i.get(path); a.status != http.StatusNotFound {
			t.Errorf("%s on the public listener: %d", path, a.status)
		}
	}
}

func TestInstancesThatStartTogetherShareOneKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	instances := make(chan *instance, 4)
	for range cap(instances) {
		go func() { instances <- w.instance() }()
	}
	published := map[string]bool{}
	for range cap(instances) {
		published[(<-instances).get("/.well-known/jwks.json").body] = true
	}
	if len(published) != 1 {
		t.Errorf("%d different sets of keys", len(published))
	}
}

func TestTokensFromBeforeARotationStayGood(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	client, gateway, key := w.client(authz.Client{}), w.gateway(), newKey(t)
	before := w.instance()
	old := before.token(client, key).string("access_token")

	w.addSigningKey(time.Now())
	after := w.instance()
	fresh := after.token(client, key).string("access_token")
	for name, token := range map[string]string{"old": old, "new": fresh} {
		if verified(t, after, token)["client_id"] != client.ID {
			t.Errorf("the %s token does not verify", name)
		}
		if !after.active(gateway, token) || !before.active(gateway, token) {
			t.Errorf("the %s token is inactive", name)
		}
	}
	if header(t, old)["kid"] == header(t, fresh)["kid"] {
		t.Error("the new key does not sign")
	}
	if keys := after.get("/.well-known/jwks.json").json["keys"].([]any); len(keys) != 2 {
		t.Errorf("%d keys are published", len(keys))
	}
}

// addSigningKey stores a further key, sealed like the first.
func (w *world) addSigningKey(signsFrom time.Time) {
	w.t.Helper()
	key, err := jwks.Generate(jwks.ES256, signsFrom, signsFrom)
	if err != nil {
		w.t.Fatal(err)
	}
	sealed, err := w.sealer.Seal(key)
	if err != nil {
		w.t.Fatal(err)
	}
	w.exec(`insert into authz.signing_keys (kid, alg, public_jwk, sealed_private, sealed_by, created_at, signs_from)
		values ($1, $2, $3, $4, $5, $6, $7)`,
		sealed.KID, sealed.Algorithm, sealed.PublicJWK, sealed.Sealed, sealed.SealedBy, sealed.CreatedAt, sealed.SignsFrom)
	w.exec(`insert into authz.audit_events (id, at, kind, actor, detail) values (gen_random_uuid(), now(), 'signing_key.created', 'operator:test', jsonb_build_object('kid', $1::text))`, sealed.KID)
}

func TestAnotherSealingKeyStopsTheStart(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i := w.instance()
	other, err := jwks.NewSealer(make([]byte, jwks.SealingKeySize))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := authz.New(t.Context(), w.config(i, other)); err == nil || !errorsIs(err, jwks.ErrSealedByAnother) {
		t.Errorf("the start was not stopped: %v", err)
	}
}
