package authz

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/cargokey/authz/jwks"
)

// Lifetimes of access tokens.
const (
	DefaultTokenTTL = 10 * time.Minute
	MaxTokenTTL     = jwks.LongestLife // for as long as what signs them is published
)

// Resource is an internal API that tokens are for.
type Resource struct {
	URI         string        // absolute, without fragment (RFC 8707 §2); the token's aud
	Scopes      []string      // what it defines, sorted
	TokenTTL    time.Duration // whole seconds, MaxTokenTTL at most
	AllowBearer bool          // admits tokens that are bound to no key
	// AllowCertificateBound: admits tokens that are bound to a certificate (RFC 8705
	// §3), and to no DPoP key.
	AllowCertificateBound bool
	// RequireNonce: proofs of calls to it must carry the server's nonce, also
	// where the server does not ask that of all.
	RequireNonce bool
	// SigningAlg is what its tokens are signed by; empty: the server's default.
	SigningAlg jwks.Algorithm
	// BaseURLs are the public URLs that its gateways are called at, normalised,
	// without a slash at the end, sorted. None: no gateway check passes.
	BaseURLs []string
	// Routes say what calls need, sorted. None: what the gateway says.
	Routes    []Route
	CreatedAt time.Time
	UpdatedAt time.Time
	// Revision is the Store's: another one after each change.
	Revision int64
}

// AuthMethod is how a client authenticates: an RFC 7591 §2
// token_endpoint_auth_method. A client is registered for exactly one.
type AuthMethod string

// The methods that this server knows.
const (
	ClientSecretBasic AuthMethod = "client_secret_basic"
	ClientSecretPost  AuthMethod = "client_secret_post"
	// PrivateKeyJWT is RFC 7523 §2.2.
	PrivateKeyJWT AuthMethod = "private_key_jwt"
	// TLSClientAuth is RFC 8705 §2.1.
	TLSClientAuth AuthMethod = "tls_client_auth"
	// SelfSignedTLSClientAuth is RFC 8705 §2.2.
	SelfSignedTLSClientAuth AuthMethod = "self_signed_tls_client_auth"
)

// AuthMethods lists the methods that this server knows.
func AuthMethods() []AuthMethod {
	return []AuthMethod{ClientSecretBasic, ClientSecretPost, PrivateKeyJWT, TLSClientAuth, SelfSignedTLSClientAuth}
}

// publicAuthMethods are those of the public listener.
func publicAuthMethods() []AuthMethod {
	return []AuthMethod{ClientSecretBasic, ClientSecretPost, PrivateKeyJWT}
}

// TokenFormat is the form of a client's access tokens.
type TokenFormat string

// The formats that this server issues.
const (
	FormatJWT    TokenFormat = "jwt"    // RFC 9068
	FormatOpaque TokenFormat = "opaque" // OpaqueTokenPrefix and 256 random bits
)

// TokenFormats lists the formats that this server issues.
func TokenFormats() []TokenFormat { return []TokenFormat{FormatJWT, FormatOpaque} }

// Grant is what a client may ask of one resource. A Grant that was read from
// the Store carries the resource's terms.
type Grant struct {
	Resource    string
	Scopes      []string // sorted
	TokenTTL    time.Duration
	AllowBearer bool           // the resource's
	SigningAlg  jwks.Algorithm // the resource's

	AllowCertificateBound bool // the resource's

	Revision int64 // the resource's
}

// Client is a service: its metadata, its credentials and its grants.
type Client struct {
	ID          string
	AuthMethod  AuthMethod
	TokenFormat TokenFormat
	AllowBearer bool
	// RequireNonce: its proofs must carry the server's nonce, also where the
	// server does not ask that of all clients.
	RequireNonce bool
	// DPoPKeys: with any other policy than AnyKey, a stolen secret alone yields
	// nothing, and bearer tokens neither.
	DPoPKeys DPoPKeyPolicy
	// TLSName is the one name in its certificate that it is known by, where its
	// method is TLSClientAuth.
	TLSName CertificateName
	// JWKS are its public keys (RFC 7517 §5) where its method is PrivateKeyJWT or
	// SelfSignedTLSClientAuth and JWKSURI does not say where they are. Validate leaves
	// what is read of them, and nothing else.
	JWKS    []byte
	JWKSURI string
	// KeyNames are the thumbprints (RFC 7638) of JWKS, sorted.
	KeyNames []string
	// CertificateBound: where it proves no DPoP key, its tokens are bound to the
	// certificate that it shows (RFC 8705 §3.4,
	// tls_client_certificate_bound_access_tokens).
	CertificateBound bool

	// Generation is the Store's: another one with each registration, with each
	// disabling, and when its tokens are revoked.
	Generation int64
	// AuthRevision is the Store's: another one with each change of its keys or of its
	// certificate's name.
	AuthRevision int64
	// Revision is the Store's: another one with each change of anything that is read
	// with a client but for the terms of the resources that it has grants for, which
	// have their own.
	Revision int64
	// Kept: it was read for an earlier request.
	Kept bool

	CreatedAt   time.Time
	DisabledAt  time.Time // zero: enabled
	Secrets     []Digest  // those in force
	Grants      []Grant   // by resource
	Introspects []string  // the resources that it may introspect as their gateway

	// SecretEndsAt is when the secret that it has authenticated with ends; the zero
	// time: it is not known to.
	SecretEndsAt time.Time
	// Credential names what it has authenticated with: a secret by Digest.Name, a
	// key by its thumbprint (RFC 7638), a certificate by its own (RFC 8705 §3.1).
	Credential string
	// Assertion is what it has authenticated with, to be spent together with what it
	// asked for; nil: it was something else.
	Assertion *Spending
	// SecretEndedAt is when the secret that a Claimant came with ended; zero: it is
	// in force, or none of the client's.
	SecretEndedAt time.Time
}

// CertificateName is the one name in a certificate that a client is known by: one
// of the five (RFC 8705 §2.1.2).
type CertificateName struct {
	SubjectDN string // tls_client_auth_subject_dn, as RFC 4514 writes it
	DNS       string // tls_client_auth_san_dns
	URI       string // tls_client_auth_san_uri
	IP        string // tls_client_auth_san_ip
	Email     string // tls_client_auth_san_email
}

// Disabled tells whether the client is disabled.
func (c *Client) Disabled() bool { return !c.DisabledAt.IsZero() }

// Validate checks what an operator wrote, fills in defaults, and brings it to
// its stored form. The error says what is wrong and what may be.
func (r *Resource) Validate() error {
	if err := validateResourceURI(r.URI); err != nil {
		return err
	}
	scopes, err := validateScopes(r.Scopes)
	if err != nil {
		return fmt.Errorf("resource %s: %w", r.URI, err)
	}
	r.Scopes = scopes
	if r.TokenTTL == 0 {
		r.TokenTTL = DefaultTokenTTL
	}
	if r.TokenTTL < time.Second || r.TokenTTL > MaxTokenTTL || r.TokenTTL%time.Second != 0 {
		return fmt.Errorf("resource %s: the lifetime of tokens is %s; it may be 1s to %s, in whole seconds", r.URI, r.TokenTTL, MaxTokenTTL)
	}
	if r.SigningAlg != "" && !slices.Contains(jwks.Algorithms(), r.SigningAlg) {
		return fmt.Errorf("resource %s: signing algorithm %q is not known; it may be one of %q", r.URI, r.SigningAlg, jwks.Algorithms())
	}
	if err := r.validateBaseURLs(); err != nil {
		return err
	}
	return r.validateRoutes()
}

// Validate is for a client what it is for a Resource.
func (c *Client) Validate() error {
	if !validClientID(c.ID) {
		return fmt.Errorf("client %q: an ID is 1 to 64 letters, digits, dots, dashes and underscores, and begins with a letter or a digit", c.ID)
	}
	if c.AuthMethod == "" {
		c.AuthMethod = ClientSecretBasic
	}
	if !slices.Contains(AuthMethods(), c.AuthMethod) {
		return fmt.Errorf("client %s: authentication method %q is not known; it may be one of %q", c.ID, c.AuthMethod, AuthMethods())
	}
	if err := c.validateTLSName(); err != nil {
		return err
	}
	if err := c.validateKeys(); err != nil {
		return err
	}
	if c.TokenFormat == "" {
		c.TokenFormat = FormatJWT
	}
	if !slices.Contains(TokenFormats(), c.TokenFormat) {
		return fmt.Errorf("client %s: token format %q is not known; it may be one of %q", c.ID, c.TokenFormat, TokenFormats())
	}
	if c.DPoPKeys == "" {
		c.DPoPKeys = AnyKey
	}
	if err := c.DPoPKeys.Validate(); err != nil {
		return fmt.Errorf("client %s: %w", c.ID, err)
	}
	if c.DPoPKeys != AnyKey && c.AllowBearer {
		return fmt.Errorf("client %s: with DPoP keys %q it gets no bearer tokens; leave one of the two out", c.ID, string(c.DPoPKeys))
	}
	if err := c.validateBinding(); err != nil {
		return err
	}
	if len(c.Grants) == 0 && len(c.Introspects) == 0 {
		return fmt.Errorf("client %s: give it at least one grant, or a resource to introspect", c.ID)
	}
	for i := range c.Grants {
		g := &c.Grants[i]
		scopes, err := validateScopes(g.Scopes)
		if err != nil {
			return fmt.Errorf("client %s: grant of %s: %w", c.ID, g.Resource, err)
		}
		g.Scopes = scopes
	}
	slices.SortFunc(c.Grants, func(a, b Grant) int { return strings.Compare(a.Resource, b.Resource) })
	for i := 1; i < len(c.Grants); i++ {
		if c.Grants[i].Resource == c.Grants[i-1].Resource {
			return fmt.Errorf("client %s: two grants of %s; write its scopes into one", c.ID, c.Grants[i].Resource)
		}
	}
	slices.Sort(c.Introspects)
	c.Introspects = slices.Compact(c.Introspects)
	return nil
}

// validateBinding holds that CertificateBound goes with what else the client is.
func (c *Client) validateBinding() error {
	switch {
	case c.CertificateBound && c.DPoPKeys != AnyKey:
		return fmt.Errorf("client %s: with DPoP keys %q it gets no tokens that are bound to a certificate alone; leave one of the two out", c.ID, string(c.DPoPKeys))
	case c.CertificateBound && c.AllowBearer:
		return fmt.Errorf("client %s: its tokens are bound to its certificate or are bearer tokens; leave one of the two out", c.ID)
	}
	return nil
}

// validClientID bounds what is looked up: anything else cannot be registered.
func validClientID(id string) bool {
	if id == "" || len(id) > 64 {
		return false
	}
	for i, c := range []byte(id) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		case i > 0 && (c == '.' || c == '-' || c == '_'):
		default:
			return false
		}
	}
	return true
}

// validateResourceURI holds RFC 8707 §2: an absolute URI without a fragment.
func validateResourceURI(uri string) error {
	u, err := url.Parse(uri)
	switch {
	case err != nil || !u.IsAbs():
		return fmt.Errorf("resource %q: not an absolute URI, such as https://labels.example.com", uri)
	case strings.Contains(uri, "#"):
		return fmt.Errorf("resource %q: a resource has no fragment (RFC 8707 §2)", uri)
	case len(uri) > 255:
		return fmt.Errorf("resource %q: longer than 255 bytes", uri)
	case strings.ContainsFunc(uri, func(r rune) bool { return r <= ' ' || r > '~' || r == '"' || r == '\\' }):
		return fmt.Errorf("resource %q: only visible ASCII, without quotes and backslashes", uri)
	}
	return nil
}

// validateScopes sorts scope-tokens (RFC 6749 §3.3) and drops doubles.
func validateScopes(scopes []string) ([]string, error) {
	if len(scopes) == 0 {
		return nil, errors.New("name at least one scope")
	}
	out := slices.Clone(scopes)
	for _, s := range out {
		if !validScope(s) {
			return nil, fmt.Errorf("scope %q: 1 to 128 visible ASCII characters, without comma, quote and backslash", s)
		}
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

// validScope is a scope-token of RFC 6749 §3.3, less the comma, which the
// command line separates scopes by.
func validScope(s string) bool {
	return s != "" && len(s) <= 128 && !strings.ContainsFunc(s, func(r rune) bool {
		return r <= ' ' || r > '~' || r == '"' || r == '\\' || r == ','
	})
}
