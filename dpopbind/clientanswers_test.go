package dpopbind_test

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cargokey/authz/dpopbind"
)

// remoteSigner is a signer that is none of the standard library's, as that of a
// KMS is.
type remoteSigner struct{ inner crypto.Signer }

func (s remoteSigner) Public() crypto.PublicKey { return s.inner.Public() }

func (s remoteSigner) Sign(r io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return s.inner.Sign(r, digest, opts)
}

func TestARefusalIsATokenErrorWithoutSecrets(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		status     int
		body       string
		retryAfter string
		want       dpopbind.TokenError
	}{
		{401, `{"error":"invalid_client","error_description":"bad secret ` + clientSecret + `\n\u0000\"x"}`, "",
			dpopbind.TokenError{Code: "invalid_client", Description: "bad secret [redacted]???x"}},
		{429, `{"error":"slow_down"}`, "7", dpopbind.TokenError{Code: "slow_down", RetryAfter: 7 * time.Second}},
		{503, "<html>no</html>", "99999999", dpopbind.TokenError{RetryAfter: 24 * time.Hour}},
		{503, "", "-1", dpopbind.TokenError{}},
		{400, `{"error":7,"error_description":["x"]}`, "", dpopbind.TokenError{}},
		{400, `{"ERROR":"invalid_client"}`, "soon", dpopbind.TokenError{}},
		{200, `{"error":"` + clientSecret + `"}`, "", dpopbind.TokenError{Code: "[redacted]"}},
		{201, `{"access_token":"x","token_type":"DPoP"}`, "", dpopbind.TokenError{}},
	} {
		p := newPlatform(t)
		p.set(func() {
			p.answer = func(w http.ResponseWriter) bool {
				if row.retryAfter != "" {
					w.Header().Set("Retry-After", row.retryAfter)
				}
				w.WriteHeader(row.status)
				io.WriteString(w, row.body)
				return true
			}
		})
		_, err := p.client().Token(t.Context())
		var got *dpopbind.TokenError
		if !errors.As(err, &got) {
			t.Errorf("%s: %v", row.body, err)
			continue
		}
		row.want.Status = row.status
		if diff := cmp.Diff(row.want, *got); diff != "" {
			t.Errorf("%s: %s", row.body, diff)
		}
		p.expectNoSecret(err.Error())
	}
}

func TestAWrongSecretThatIsRepeatedBackIsNotInTheError(t *testing.T) {
	t.Parallel()
	p := newPlatform(t)
	_, err := p.client(func(c *dpopbind.ClientConfig) { c.ClientSecret = "another-secret" }).Token(t.Context())
	if err == nil || strings.Contains(err.Error(), "another-secret") {
		t.Error(err)
	}
}

func TestAnAnswerThatIsNoTokenIsAnError(t *testing.T) {
	t.Parallel()
	huge := strings.Repeat("a", 2<<20)
	for _, row := range []struct{ body, want string }{
		{"<html>", "not in JSON"},
		{"", "not in JSON"},
		{"[]", "not in JSON"},
		{"null", "not in JSON"},
		{"{}", "no access_token"},
		{`{"access_token":7,"token_type":"DPoP"}`, "no access_token"},
		{`{"Access_Token":"x","token_type":"DPoP"}`, "no access_token"},
		{`{"access_token":"a\r\nX: y","token_type":"DPoP"}`, "characters"},
		{`{"access_token":"a b","token_type":"DPoP"}`, "characters"},
		{`{"access_token":"é","token_type":"DPoP"}`, "characters"},
		{`{"access_token":"the-token"}`, "neither DPoP nor Bearer"},
		{`{"access_token":"the-token","token_type":"mac the-token"}`, "neither DPoP nor Bearer"},
		{`{"access_token":"` + huge + `","token_type":"DPoP"}`, "longer than"},
	} {
		p := newPlatform(t)
		p.set(func() {
			p.answer = func(w http.ResponseWriter) bool { io.WriteString(w, row.body); return true }
		})
		_, err := p.client().Token(t.Context())
		if err == nil || !strings.Contains(err.Error(), row.want) || strings.Contains(err.Error(), "the-token") {
			t.Errorf("%.80s: %v", row.body, err)
		}
	}
}

func TestASlowServerIsWaitedForNoLongerThanTheContextSays(t *testing.T) {
	t.Parallel()
	p := newPlatform(t)
	hold := make(chan struct{})
	defer close(hold)
	p.set(func() { p.hold = hold })
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	r := get(t, p.api.URL).WithContext(ctx)
	if _, err := p.client().RoundTrip(r); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

func TestMetadataThatCannotBeTrustedIsRefused(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		status         int
		body, expected string
	}{
		"another issuer":   {200, `{"issuer":"https://other.example","token_endpoint":"URL/token"}`, "says its issuer is"},
		"a slash more":     {200, `{"issuer":"URL/","token_endpoint":"URL/token"}`, "says its issuer is"},
		"another case":     {200, `{"Issuer":"URL","token_endpoint":"URL/token"}`, "says its issuer is"},
		"no endpoint":      {200, `{"issuer":"URL"}`, "no metadata"},
		"not found":        {404, `{"issuer":"URL","token_endpoint":"URL/token"}`, "no metadata"},
		"HTML":             {200, `<html>`, "not in JSON"},
		"plain http":       {200, `{"issuer":"URL","token_endpoint":"http://as.example/token"}`, "must be https"},
		"no http":          {200, `{"issuer":"URL","token_endpoint":"file:///token"}`, "not an absolute URL"},
		"a relative URL":   {200, `{"issuer":"URL","token_endpoint":"/token"}`, "not an absolute URL"},
		"a URL with a tab": {200, `{"issuer":"URL","token_endpoint":"https://as.example/\t"}`, "not an absolute URL"},
		"a huge answer":    {200, strings.Repeat(" ", 2<<20), "longer than"},
	} {
		server := newServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/.well-known/oauth-authorization-server" {
				t.Errorf("%s: %s was reached", name, r.URL)
			}
			w.WriteHeader(row.status)
			io.WriteString(w, strings.ReplaceAll(row.body, "URL", "http://"+r.Host))
		}))
		client := must(dpopbind.NewClient(dpopbind.ClientConfig{Issuer: server.URL, ClientID: "a", ClientSecret: "b"}))
		if _, err := client.Token(t.Context()); err == nil || !strings.Contains(err.Error(), row.expected) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAnIssuerWithAPathIsDiscoveredAtTheRFCsPlace(t *testing.T) {
	t.Parallel()
	var asked string
	server := newServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = r.URL.Path
		fmt.Fprint(w, "{}")
	}))
	client := must(dpopbind.NewClient(dpopbind.ClientConfig{Issuer: server.URL + "/tenant/1", ClientID: "a", ClientSecret: "b"}))
	client.Token(t.Context())
	if want := "/.well-known/oauth-authorization-server/tenant/1"; asked != want {
		t.Errorf("%s was asked, want %s", asked, want)
	}
}

func TestAnEndpointIsDiscoveredOnceAnHourAndKeptWhereItCannotBe(t *testing.T) {
	t.Parallel()
	p := newPlatform(t)
	p.set(func() { p.expiresIn = "60" })
	client := p.client()
	for range 5 {
		p.advance(2 * time.Minute)
		p.expectOK(client)
	}
	if p.discoveries != 1 {
		t.Errorf("%d discoveries", p.discoveries)
	}
	p.advance(2 * time.Hour)
	p.expectOK(client)
	if p.discoveries != 2 {
		t.Errorf("%d discoveries", p.discoveries)
	}
	p.set(func() { p.noMetadata = true })
	p.advance(2 * time.Hour)
	p.expectOK(client)
	if p.discoveries != 3 {
		t.Errorf("%d discoveries", p.discoveries)
	}
}

func TestAClientRefusesAnUnsafeConfiguration(t *testing.T) {
	t.Parallel()
	valid := func() dpopbind.ClientConfig {
		return dpopbind.ClientConfig{
			Issuer: "https://as.example", ClientID: "a", ClientSecret: "the-secret", APIs: []string{"https://api.example"},
		}
	}
	if _, err := dpopbind.NewClient(valid()); err != nil {
		t.Fatal(err)
	}
	type config = dpopbind.ClientConfig
	for name, change := range map[string]func(*config){
		"no issuer":                   func(c *config) { c.Issuer = "" },
		"two":                         func(c *config) { c.TokenEndpoint = "https://as.example/token" },
		"http":                        func(c *config) { c.Issuer = "http://as.example" },
		"a loopback lookalike":        func(c *config) { c.Issuer = "http://localhost.example" },
		"an address in disguise":      func(c *config) { c.Issuer = "http://127.0.0.1.example" },
		"userinfo":                    func(c *config) { c.Issuer = "https://u:the-secret@as.example" },
		"a query":                     func(c *config) { c.Issuer = "https://as.example?x" },
		"a relative issuer":           func(c *config) { c.Issuer = "as.example" },
		"an http endpoint":            func(c *config) { c.Issuer, c.TokenEndpoint = "", "http://as.example/token" },
		"an endpoint with a fragment": func(c *config) { c.Issuer, c.TokenEndpoint = "", "https://as.example/token#x" },
		"no ID":                       func(c *config) { c.ClientID = "" },
		"no secret":                   func(c *config) { c.ClientSecret = "" },
		"an unknown method":           func(c *config) { c.AuthMethod = "none" },
		"an unknown policy":           func(c *config) { c.Policy = 2 },
		"an http API":                 func(c *config) { c.APIs = []string{"http://api.example"} },
		"an API with a path":          func(c *config) { c.APIs = []string{"https://api.example/v1"} },
		"an API with a query":         func(c *config) { c.APIs = []string{"https://api.example?the-secret"} },
		"any API":                     func(c *config) { c.APIs = []string{"*"} },
		"an empty API":                func(c *config) { c.APIs = []string{""} },
	} {
		cfg := valid()
		change(&cfg)
		if _, err := dpopbind.NewClient(cfg); err == nil || strings.Contains(err.Error(), "the-secret") {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, loopback := range []string{"http://localhost:8080", "http://127.0.0.1", "http://127.9.9.9:1", "http://[::1]:8080"} {
		cfg := valid()
		cfg.Issuer, cfg.APIs = loopback, []string{loopback + "/", "HTTPS://API.example:443"}
		if _, err := dpopbind.NewClient(cfg); err != nil {
			t.Errorf("%s: %v", loopback, err)
		}
	}
}
