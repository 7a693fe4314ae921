package dpopbind

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/cargokey/authz/internal/strictjose"
)

// Policy is what a Client makes of a server that issues a bearer token although
// it was sent a proof.
type Policy int

const (
	// Require refuses it, with ErrNotBound.
	Require Policy = iota
	// Prefer uses it as a bearer token. Every token request has a proof, so the
	// first one after the day that the server learns DPoP brings a bound token.
	// Until then a stolen token is worth as much as anywhere else.
	Prefer
)

// ErrNotBound says that the server issued a bearer token where the Policy is
// Require. The token is forgotten.
var ErrNotBound = errors.New(`dpopbind: the server issued a token of type "Bearer", bound to no key: it does not know DPoP`)

// ClientConfig configures a Client. All its URLs are https, or http on a
// loopback host ("localhost", 127.0.0.0/8, ::1). It does not print its secret.
type ClientConfig struct {
	// Issuer is the authorization server, which is discovered (RFC 8414). Its
	// metadata must name exactly this issuer.
	Issuer string
	// TokenEndpoint is instead of Issuer, for a server without metadata. It does
	// not go with ClientKey, which signs for an issuer.
	TokenEndpoint string

	ClientID     string
	ClientSecret string `json:"-"`
	// ClientKey is instead of ClientSecret: the key that signs a ClientAssertion for
	// each token request. Its public half is registered at the server, by its KID if
	// it has one. It should not be the DPoP key: a thief of one has not the other.
	ClientKey *Key
	// AuthMethod is, if empty, ClientSecretBasic, or PrivateKeyJWT with a ClientKey.
	// TLSClientAuth and SelfSignedTLSClientAuth go with neither a secret nor a key,
	// and with a Transport that shows the certificate.
	AuthMethod AuthMethod
	// MutualTLS says that the Transport shows a certificate, whatever the AuthMethod
	// is: where the server has other endpoints for that (RFC 8705 §5,
	// mtls_endpoint_aliases), they are used. The methods by certificate imply it.
	MutualTLS bool
	// Scope are the scopes to ask for. None: what the server gives by default.
	Scope []string
	// Resource is the API that the token is for (RFC 8707 §2), if the server
	// wants to be told.
	Resource string

	// APIs are the origins that the token may be sent to, such as
	// "https://labels.example": scheme, host and port, and no path, because all
	// of an origin sees what is sent to any part of it. A request to another
	// origin is refused and never sent, also when it follows a redirect. With
	// none, the Client only gets tokens.
	APIs []string

	// Key is the DPoP key. Nil: a new one, gone with the process.
	Key    *Key
	Policy Policy
	// Transport sends the requests; nil means http.DefaultTransport. It sees
	// secrets, tokens and proofs, and must not follow redirects.
	Transport http.RoundTripper
	// Now is the clock. Nil means time.Now.
	Now func() time.Time
}

// LogValue keeps the secret out of logs.
func (c ClientConfig) LogValue() slog.Value { return slog.StringValue(c.name()) }

// Format keeps the secret out of messages.
func (c ClientConfig) Format(f fmt.State, _ rune) { fmt.Fprint(f, c.name()) }

func (c ClientConfig) name() string { return "dpopbind client " + strictjose.Quote(c.ClientID) }

// Client is an http.RoundTripper that calls APIs with an access token bound to
// its key. It gets the token by the client credentials grant (RFC 6749 §4.4) at
// the first request, shares it between all requests, and renews it before it
// expires. Each request goes out with a proof of its own (RFC 9449 §7.1).
//
// A request is repeated at most once for a nonce that the API demands, and at
// most once with a new token where the API answers invalid_token; in both cases
// the API has refused it, so that also a POST is safe to repeat. One whose body
// cannot be had again (http.Request.GetBody) is not repeated: the answer is the
// caller's, and the next request has what was learned from it.
//
// It is safe for concurrent use. Errors and logs never hold the secret, a token
// or a proof; nor does Response.Request, which is the caller's own.
type Client struct {
	key       *Key
	policy    Policy
	transport http.RoundTripper
	now       func() time.Time
	server    *tokenEndpoint
	tokens    tokenCache
	// apis holds the last nonce of each origin (RFC 9449 §9). It is fixed but
	// for the nonces, and so as small as the configuration.
	apis map[string]*heldNonce
	name string
}

// NewClient refuses a configuration that is incomplete or unsafe. It does not
// connect to anything.
func NewClient(cfg ClientConfig) (*Client, error) {
	c := &Client{
		key: cfg.Key, policy: cfg.Policy, transport: cfg.Transport, now: cfg.Now,
		apis: make(map[string]*heldNonce, len(cfg.APIs)), name: cfg.name(),
	}
	if c.transport == nil {
		c.transport = http.DefaultTransport
	}
	if c.now == nil {
		c.now = time.Now
	}
	if c.policy != Require && c.policy != Prefer {
		return nil, errors.New("dpopbind: a client's policy is Require or Prefer")
	}
	for _, api := range cfg.APIs {
		origin, err := parseOrigin(api)
		if err != nil {
			return nil, err
		}
		c.apis[origin] = &heldNonce{}
	}
	if c.key == nil {
		var err error
		if c.key, err = GenerateKey(); err != nil {
			return nil, err
		}
	}
	var err error
	if c.server, err = newTokenEndpoint(cfg, c); err != nil {
		return nil, err
	}
	c.tokens.now, c.tokens.request = c.now, c.server.token
	return c, nil
}

// parseOrigin returns the normal form of an API's origin.
func parseOrigin(api string) (string, error) {
	u, err := parseSafeURL(api)
	if err != nil {
		return "", fmt.Errorf("dpopbind: the API %s %w", quoteURL(api), err)
	}
	if u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" {
		return "", fmt.Errorf("dpopbind: the API %s has more than scheme, host and port", quoteURL(api))
	}
	return originOf(u)
}

// originOf returns the normal form of a URL's origin.
func originOf(u *url.URL) (string, error) { return NormalizeURL(u.Scheme + "://" + u.Host) }

// Token returns the token that requests go out with: the held one, or a new one.
// Its errors are a *TokenError where the server refused, ErrNotBound, the
// context's own, or a failure to reach or to understand the server.
func (c *Client) Token(ctx context.Context) (Token, error) { return c.tokens.get(ctx) }

// CloseIdleConnections does that in the Transport, if it can.
func (c *Client) CloseIdleConnections() {
	if t, ok := c.transport.(interface{ CloseIdleConnections() }); ok {
		t.CloseIdleConnections()
	}
}

// LogValue keeps secrets out of logs.
func (c *Client) LogValue() slog.Value { return slog.StringValue(c.name) }

// Format keeps secrets out of messages.
func (c *Client) Format(f fmt.State, _ rune) { fmt.Fprint(f, c.name) }

// RoundTrip sends a request with the token and a proof. It refuses one that has
// an Authorization or DPoP header already, and one to an origin that is not
// among the APIs. It does not follow redirects; where an http.Client does, each
// of them comes back here and is judged anew.
func (c *Client) RoundTrip(r *http.Request) (*http.Response, error) {
	nonces, err := c.admit(r)
	if err != nil {
		closeBody(r.Body)
		return nil, err
	}
	token, err := c.Token(r.Context())
	if err != nil {
		closeBody(r.Body)
		return nil, err
	}
	body, challenged, renewed := r.Body, false, false
	for {
		nonce := nonces.get()
		response, err := c.send(r, body, token, nonce)
		if err != nil {
			return nil, err
		}
		response.Request = r // and not the one with the token, which gets logged
		fresh := nonces.learn(response.Header)
		if response.StatusCode != http.StatusUnauthorized {
			return response, nil
		}
		switch {
		case !challenged && token.bound() && fresh != "" && fresh != nonce &&
			hasChallenge(response.Header, "use_dpop_nonce", typeDPoP): // RFC 9449 §9
			challenged = true
			if body, err = rewind(r); err != nil {
				return response, nil
			}
		case !renewed && hasChallenge(response.Header, "invalid_token", typeDPoP, typeBearer): // RFC 6750 §3.1
			renewed = true
			var again bool
			if token, body, again = c.renew(r, token); !again {
				return response, nil
			}
		default:
			return response, nil
		}
		discard(response.Body)
	}
}

// renew drops a token that an API called invalid, and says whether the request
// is to be repeated, and with what. Without a successor it is not: the API's
// answer says more than a failure to get one.
func (c *Client) renew(r *http.Request, old Token) (token Token, body io.ReadCloser, again bool) {
	// Also where the request cannot be repeated the token is of no more use.
	if !c.tokens.drop(old.AccessToken) {
		return old, nil, false
	}
	body, err := rewind(r)
	if err != nil {
		return old, nil, false
	}
	token, err = c.Token(r.Context())
	if err != nil || token.AccessToken == old.AccessToken {
		closeBody(body)
		return old, nil, false
	}
	return token, body, true
}

// admit judges a request before anything is sent, and returns where the nonces
// of its origin are held.
func (c *Client) admit(r *http.Request) (*heldNonce, error) {
	if r.URL == nil {
		return nil, errors.New("dpopbind: the request has no URL")
	}
	for name := range r.Header {
		if canonical := http.CanonicalHeaderKey(name); canonical == "Authorization" || canonical == "Dpop" {
			return nil, fmt.Errorf("dpopbind: the request has its own %s header, which is the client's to set", canonical)
		}
	}
	if r.URL.User != nil || r.URL.Opaque != "" || strings.ContainsAny(r.URL.Host+r.Host, `/?#@\`) {
		return nil, errors.New("dpopbind: the request's URL has userinfo or no host")
	}
	origin, err := originOf(r.URL)
	if err != nil {
		return nil, fmt.Errorf("dpopbind: the request's URL %w", err)
	}
	nonces := c.apis[origin]
	if nonces == nil {
		return nil, fmt.Errorf("dpopbind: the token is not for %s, which is not among the client's APIs", strictjose.Quote(origin))
	}
	// The proof is for the URL, and a server may take the Host for its own name.
	if r.Host != "" && r.Host != r.URL.Host {
		if host, err := NormalizeURL(r.URL.Scheme + "://" + r.Host); err != nil || host != origin {
			return nil, errors.New("dpopbind: the request's Host is not that of its URL")
		}
	}
	return nonces, nil
}

// send makes one attempt, with a proof of its own.
func (c *Client) send(r *http.Request, body io.ReadCloser, token Token, nonce string) (*http.Response, error) {
	attempt := r.Clone(r.Context())
	attempt.Body = body
	if attempt.Header == nil {
		attempt.Header = http.Header{}
	}
	if !token.bound() {
		attempt.Header.Set("Authorization", "Bearer "+token.AccessToken)
		return roundTrip(c.transport, attempt)
	}
	method := r.Method
	if method == "" {
		method = http.MethodGet
	}
	proof, err := c.key.Proof(method, r.URL.String(), c.now(), ProofOptions{AccessToken: token.AccessToken, Nonce: nonce})
	if err != nil {
		closeBody(body)
		return nil, err
	}
	attempt.Header.Set("Authorization", "DPoP "+token.AccessToken)
	attempt.Header.Set("DPoP", proof)
	return roundTrip(c.transport, attempt)
}

// rewind returns the request's body once more.
func rewind(r *http.Request) (io.ReadCloser, error) {
	if r.Body == nil || r.Body == http.NoBody {
		return r.Body, nil
	}
	if r.GetBody == nil {
		return nil, errors.New("dpopbind: the body cannot be had again")
	}
	return r.GetBody()
}

func closeBody(body io.Closer) {
	if body != nil {
		body.Close()
	}
}

// discard lets the connection be used again where little is left to read.
func discard(body io.ReadCloser) {
	io.CopyN(io.Discard, body, 16<<10)
	body.Close()
}
