package authz

import (
	"time"

	"github.com/ory/fosite"

	"github.com/cargokey/authz/dpopbind"
)

// session carries one token request through fosite: who asks, what is granted,
// and the token once it is minted. It lives for the request and is never
// stored.
type session struct {
	event  *event
	asked  asked
	client *Client
	grant  Grant
	scopes []string
	proof  *dpopbind.Proof
	x5t    string // of the certificate that the token is bound to, where there is no proof
	token  Token  // complete once the token is minted
}

// SetProof and Proof make it a dpopfosite.Session.
func (s *session) SetProof(p *dpopbind.Proof) { s.proof = p }
func (s *session) Proof() *dpopbind.Proof     { return s.proof }

// The lifetime is the grant's: what fosite computes is not used.
func (s *session) SetExpiresAt(fosite.TokenType, time.Time) {}
func (s *session) GetExpiresAt(fosite.TokenType) time.Time  { return s.token.ExpiresAt }
func (s *session) GetUsername() string                      { return "" }
func (s *session) GetSubject() string                       { return s.token.ClientID }
func (s *session) Clone() fosite.Session                    { c := *s; return &c }

// fositeClient shows a Client to fosite.
type fositeClient struct{ *Client }

func (c fositeClient) GetID() string                      { return c.ID }
func (c fositeClient) GetHashedSecret() []byte            { return nil } // fosite authenticates no one here
func (c fositeClient) GetRedirectURIs() []string          { return nil }
func (c fositeClient) GetGrantTypes() fosite.Arguments    { return fosite.Arguments{grantType} }
func (c fositeClient) GetResponseTypes() fosite.Arguments { return nil }
func (c fositeClient) IsPublic() bool                     { return false }

func (c fositeClient) GetScopes() fosite.Arguments {
	var all fosite.Arguments
	for _, g := range c.Grants {
		all = append(all, g.Scopes...)
	}
	return all
}

func (c fositeClient) GetAudience() fosite.Arguments {
	var all fosite.Arguments
	for _, g := range c.Grants {
		all = append(all, g.Resource)
	}
	return all
}
