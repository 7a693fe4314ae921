package dpopbind_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/cargokey/authz/dpopbind"
	"github.com/cargokey/authz/internal/clientassertion"
)

// assert checks an assertion as a server does, and takes each once.
func (p *platform) assert(r *http.Request) error {
	text := r.PostFormValue("client_assertion")
	p.set(func() { p.secrets = append(p.secrets, text) })
	if r.Header.Get("Authorization") != "" || r.PostFormValue("client_secret") != "" {
		return errors.New("two methods in one request")
	}
	if r.PostFormValue("client_assertion_type") != clientassertion.Type || r.PostFormValue("client_id") != clientID {
		return errors.New("another type or client_id")
	}
	checker, err := clientassertion.New(clientassertion.Config{Audiences: []string{p.as.URL}, Now: p.now})
	if err != nil {
		return err
	}
	a, err := checker.Check(text)
	if err != nil {
		return err
	}
	kid := ""
	if p.clientKey.KID() != "" {
		kid = fmt.Sprintf(`"kid":%q,`, p.clientKey.KID())
	}
	keys, err := clientassertion.Keys([]byte(`{"keys":[{` + kid + strings.TrimPrefix(string(p.clientKey.PublicJWK()), "{") + `]}`))
	if err != nil {
		return err
	}
	if _, err := a.VerifyBy(keys); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.asserted[a.SpendKey()] || a.ClientID() != clientID || a.Expires().Sub(time.Now().Add(p.skew)) > time.Minute {
		return errors.New("used before, by another client, or of a long life")
	}
	p.asserted[a.SpendKey()] = true
	return nil
}

// assertingPlatform knows the client by a key, and the client has it.
func assertingPlatform(t *testing.T, key *dpopbind.Key) (*platform, func(*dpopbind.ClientConfig)) {
	p := newPlatform(t)
	p.clientKey, p.asserted = key, map[[32]byte]bool{}
	return p, func(c *dpopbind.ClientConfig) { c.ClientSecret, c.ClientKey = "", key }
}

func TestClientAuthenticatesByAKeyOfItsOwn(t *testing.T) {
	t.Parallel()
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	withKID := must(dpopbind.ParseKey([]byte(strings.Replace(string(must(must(dpopbind.GenerateKey()).MarshalPrivateJWK())), "{", `{"kid":"a \"name\"",`, 1))))
	if withKID.KID() != `a "name"` || must(dpopbind.ParseKey(must(withKID.MarshalPrivateJWK()))).KID() != withKID.KID() {
		t.Error("the kid does not come back")
	}
	for name, key := range map[string]*dpopbind.Key{
		"ES256":    must(dpopbind.GenerateKey()),
		"EdDSA":    must(dpopbind.NewKey(ed, "")),
		"PS256":    must(dpopbind.NewKey(must(rsa.GenerateKey(rand.Reader, 2048)), "")),
		"with kid": withKID,
	} {
		p, change := assertingPlatform(t, key)
		p.asNonce = "n-1" // so that each first request is repeated
		client := p.client(change)
		p.expectOK(client)
		p.expect(2, 1)
		if len(p.asserted) != 2 {
			t.Errorf("%s: %d assertions for two requests", name, len(p.asserted))
		}
		p.advance(time.Hour)
		p.expectOK(client)
	}
}

func TestNoErrorHoldsAnAssertion(t *testing.T) {
	t.Parallel()
	p, change := assertingPlatform(t, must(dpopbind.GenerateKey()))
	client := p.client(change, func(c *dpopbind.ClientConfig) { c.ClientKey = must(dpopbind.GenerateKey()) })
	_, err := client.Token(t.Context()) // the server repeats what it was sent
	var refused *dpopbind.TokenError
	if !errors.As(err, &refused) || refused.Code != "invalid_client" || !strings.Contains(refused.Description, "[redacted]") {
		t.Errorf("%v", err)
	}
	p.expectNoSecret(fmt.Sprintf("%v %+v %#v", err, err, refused))
}

func TestClientHasASecretOrAKey(t *testing.T) {
	t.Parallel()
	key := must(dpopbind.GenerateKey())
	for name, change := range map[string]func(*dpopbind.ClientConfig){
		"both":    func(c *dpopbind.ClientConfig) { c.ClientKey = key },
		"neither": func(c *dpopbind.ClientConfig) { c.ClientSecret = "" },
		"a key, for a secret": func(c *dpopbind.ClientConfig) {
			c.ClientSecret, c.ClientKey, c.AuthMethod = "", key, dpopbind.ClientSecretPost
		},
		"a secret, for a key": func(c *dpopbind.ClientConfig) { c.AuthMethod = dpopbind.PrivateKeyJWT },
		"a key, and no issuer": func(c *dpopbind.ClientConfig) {
			c.ClientSecret, c.ClientKey, c.TokenEndpoint, c.Issuer = "", key, c.Issuer, ""
		},
		"a method that is not known": func(c *dpopbind.ClientConfig) { c.AuthMethod = "client_secret_jwt" },
	} {
		c := newPlatform(t).config()
		change(&c)
		if client, err := dpopbind.NewClient(c); err == nil {
			t.Errorf("%s: %v is made", name, client)
		}
	}
}
