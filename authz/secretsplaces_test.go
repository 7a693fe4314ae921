package authz_test

import (
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/cargokey/authz/authz"
	"github.com/cargokey/authz/dpopbind"
)

// Whoever finds his way to the trail, the log or the metrics by a mistake, a secret in
// the wrong field, must not have put it there.

// secretPart is how many characters of a secret in a row are a secret.
const secretPart = 40

// wordings are how a secret may come to be written.
func wordings(secret string) []string {
	all := []string{
		secret, url.QueryEscape(secret), url.PathEscape(secret), hex.EncodeToString([]byte(secret)),
		base64.StdEncoding.EncodeToString([]byte(secret)), base64.RawURLEncoding.EncodeToString([]byte(secret)),
	}
	for skip := 1; skip < 3; skip++ { // as the end of something else, see forms
		all = append(all, base64.StdEncoding.EncodeToString([]byte(strings.Repeat("x", skip) + secret))[4:])
	}
	return all
}

// finder looks for secrets, and for parts of them, in any amount of text.
type finder struct {
	blocks map[string][]place // of half the length of a part: each part has a whole one
	short  []string
}

type place struct {
	text string
	at   int
}

func newFinder(secrets []string) *finder {
	f := &finder{blocks: map[string][]place{}}
	for _, secret := range secrets {
		for _, text := range wordings(secret) {
			if len(text) < secretPart {
				f.short = append(f.short, text)
			}
			for at := 0; at+secretPart/2 <= len(text); at += secretPart / 2 {
				block := text[at : at+secretPart/2]
				f.blocks[block] = append(f.blocks[block], place{text, at})
			}
		}
	}
	return f
}

// find returns what is found, shortened.
func (f *finder) find(text string) (found []string) {
	for _, s := range f.short {
		if strings.Contains(text, s) {
			found = append(found, s[:4]+"…")
		}
	}
	for at := 0; at+secretPart/2 <= len(text); at++ {
		for _, p := range f.blocks[text[at:at+secretPart/2]] {
			from, to := 0, secretPart/2
			for from > -p.at && from > -at && text[at+from-1] == p.text[p.at+from-1] {
				from--
			}
			for p.at+to < len(p.text) && at+to < len(text) && text[at+to] == p.text[p.at+to] {
				to++
			}
			if to-from >= secretPart {
				found = append(found, fmt.Sprintf("%d characters, %.8s…", to-from, text[at+from:]))
			}
		}
	}
	return found
}

func TestFinderFindsSecretsAndPartsOfThem(t *testing.T) {
	secret := authz.NewSecret().Reveal() + authz.NewSecret().Reveal()
	f := newFinder([]string{secret, "short password!"})
	for _, hidden := range []string{
		secret, secret[7:47], secret[54:], hex.EncodeToString([]byte(secret[30:50])), "short password!", url.QueryEscape("short password!"),
		base64.StdEncoding.EncodeToString([]byte("client:" + secret)), base64.RawURLEncoding.EncodeToString([]byte(secret)),
	} {
		if len(f.find("… "+hidden+" …")) == 0 {
			t.Errorf("%q is not found", hidden)
		}
	}
	if found := f.find(secret[:39] + " " + secret[50:89] + "short password"); len(found) != 0 {
		t.Errorf("found %q", found)
	}
}

// everySecret makes one of each kind that there is.
func everySecret(t *testing.T, w *world, i *instance) (c registered, all map[string]string) {
	t.Helper()
	old := w.client(authz.Client{})
	c = w.rotate(old, 0)
	key, next := newKey(t), newKey(t)
	signed := w.asserting(authz.Client{ID: "signing-service"})
	opaque := w.client(authz.Client{ID: "opaque-service", TokenFormat: authz.FormatOpaque})
	nonce := w.client(authz.Client{ID: "nonce-service", RequireNonce: true})
	private, err := key.MarshalPrivateJWK()
	if err != nil {
		t.Fatal(err)
	}
	signing, err := x509.MarshalPKCS8PrivateKey(signed.signer.Private())
	if err != nil {
		t.Fatal(err)
	}
	password := rand.Text() + rand.Text()
	assertion := i.draft(signed).String()
	spentAssertion := i.draft(signed).String()
	i.do(i.tokenRequest(registered{}, key, with(clientCredentials, "client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer", "client_assertion", spentAssertion)))
	all = map[string]string{
		"a client's secret": c.secret, "a secret that has ended": old.secret, "another's secret": opaque.secret,
		"a JWT": i.token(c, key).string("access_token"), "an opaque token": i.token(opaque, key).string("access_token"),
		"an assertion": assertion, "an assertion that is spent": spentAssertion,
		"a proof": i.proof(key), "an endorsement": i.endorsement(c, key, next),
		"a nonce":                 i.do(i.tokenRequest(nonce, key, clientCredentials)).header.Get("DPoP-Nonce"),
		"a DPoP key":              between(t, string(private), `"d":"`, `"`),
		"a client's key":          base64.StdEncoding.EncodeToString(signing),
		"the sealing key":         w.sealing,
		"the database's password": password, "the database's URL": "postgres://authz:" + password + "@db.internal/authz",
		"a cookie or a key of somebody else": hex.EncodeToString([]byte(rand.Text())),
	}
	for name, secret := range all {
		if len(secret) < 20 {
			t.Fatalf("%s is %q", name, secret)
		}
		w.secret(secret)
	}
	return c, all
}

func between(t *testing.T, text, before, after string) string {
	t.Helper()
	_, text, _ = strings.Cut(text, before)
	text, _, ok := strings.Cut(text, after)
	if !ok {
		t.Fatal("not there")
	}
	return text
}

// wrongPlaces are the fields of a request that a secret does not belong in, and those it
// does belong in where another is expected.
func wrongPlaces(i *instance, c registered, key *dpopbind.Key, secret string) map[string]*http.Request {
	header := func(name, value string) *http.Request {
		r := i.tokenRequest(c, nil, clientCredentials)
		r.Header.Set(name, value)
		return r
	}
	form := func(path string, by registered, pairs ...string) *http.Request {
		r := i.post(path, by, with(clientCredentials, pairs...))
		if by.secret != "" && path == "/oauth/token" {
			r.Header.Set("DPoP", i.proof(key))
		}
		return r
	}
	places := map[string]*http.Request{
		"User-Agent": header("User-Agent", secret), "a product of User-Agent": header("User-Agent", "curl/"+secret), "User-Agent's second": header("User-Agent", "curl/8 "+secret),
		"DPoP": header("DPoP", secret), "X-Request-Id": header("X-Request-Id", secret), "Cookie": header("Cookie", secret),
		"X-Forwarded-For": header("X-Forwarded-For", secret), "Forwarded": header("Forwarded", `for="`+secret+`"`), "Host": header("X-Forwarded-Host", secret),
		"Accept": header("Accept", secret), "Bearer": header("Authorization", "Bearer "+secret), "Client-Cert": header("Client-Cert", secret),
		"Basic's ID": i.post("/oauth/token", unknown(secret), clientCredentials), "Basic's secret": i.post("/oauth/token", registered{c.Client, secret}, clientCredentials),
		"a parameter of the URL": i.post("/oauth/token?"+url.QueryEscape(secret)+"="+url.QueryEscape(secret), c, clientCredentials), "the path": i.post("/"+url.PathEscape(secret), c, clientCredentials),
		"the name of a parameter": form("/oauth/token", c, secret, "x"), "grant_type": i.post("/oauth/token", c, url.Values{"grant_type": {secret}}),
		"a secret in the body": form("/oauth/token", registered{}, "client_id", c.ID, "client_secret", secret),
		"an ID in the body":    form("/oauth/token", registered{}, "client_id", secret, "client_secret", c.secret), "an ID alone": form("/oauth/token", registered{}, "client_id", secret),
		"another ID": form("/oauth/token", c, "client_id", secret), "client_assertion_type": form("/oauth/token", registered{}, "client_assertion_type", secret),
		"client_assertion": form("/oauth/token", registered{}, "client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer", "client_assertion", secret),
		"an endorsement":   i.enrolRequest(c, key, secret), "expires_in": i.enrolRequest(c, key, "x.y.z", "expires_in", secret),
		"a token to revoke": form("/oauth/revoke", c, "token", secret), "token_type_hint": form("/oauth/revoke", c, "token", "x", "token_type_hint", secret),
		"a token to introspect": form("/oauth/introspect", c, "token", secret), "who revokes": form("/oauth/revoke", registered{}, "token", "x", "client_id", secret, "client_secret", secret),
	}
	for _, name := range []string{"scope", "resource", "audience", "client_id"} {
		for what, value := range map[string]string{"": secret, " with more": "label:create " + secret, " in a URL": "https://x.test/" + url.PathEscape(secret)} {
			places[name+what] = form("/oauth/token", c, name, value)
			places[name+what+", of a stranger"] = form("/oauth/token", unknown("nobody"), name, value)
		}
	}
	return places
}

func TestSecretInAnyWrongPlaceReachesNeitherTheTrailNorTheLogNorTheMetrics(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i := w.instance(behindTrusted)
	c, secrets := everySecret(t, w, i)
	key, proxy := newKey(t), from(t, "127.0.0.2")
	before, answered := len(i.recorded("true")), 0
	f := newFinder(w.secrets)
	for what, secret := range secrets {
		for where, r := range wrongPlaces(i, c, key, secret) {
			response, err := proxy.Do(r)
			if err != nil {
				t.Fatalf("%s in %s: %v", what, where, err)
			}
			body, err := io.ReadAll(response.Body)
			response.Body.Close()
			if err != nil {
				t.Fatal(err)
			}
			if answered++; response.StatusCode >= 300 {
				if found := f.find(string(body)); len(found) > 0 {
					t.Errorf("%s in %s comes back: %q", what, where, found)
				}
			}
			if response.StatusCode >= 500 {
				t.Errorf("%s in %s: %d %s", what, where, response.StatusCode, body)
			}
			if answered%100 == 0 {
				i.flush() // or all but the first are folded
			}
		}
	}
	events := fmt.Sprint(i.recorded("true"))
	for name, text := range map[string]string{"the log": w.logs.String(), "the trail": events, "/metrics": i.internalGet("/metrics").body} {
		if found := f.find(text); len(found) > 0 {
			t.Errorf("%d parts of secrets are in %s: %.200q", len(found), name, found)
		}
	}
	t.Logf("%d answers, %d refusals in the trail", answered, len(w.recorded("kind like '%refused'")))
	if refused := len(w.recorded("kind like '%refused'")); answered < 500 || refused < 300 || len(w.recorded("true")) < before+300 {
		t.Errorf("%d answers, %d refusals in the trail", answered, refused)
	}
}
