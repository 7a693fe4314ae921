package authz

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/cargokey/authz/jwks"
)

// assertionTTL is how long, at most, an API may take an assertion of its caller:
// as long as it takes a gateway to hand it on, and for clocks to differ.
const assertionTTL = 30 * time.Second

// assertionClaims tell the API behind a gateway who called, and what was called,
// so that it need not trust the network between. The type keeps it from being
// taken for an access token (RFC 8725 §3.11), htm and htu from being taken for
// another call.
type assertionClaims struct {
	Issuer   string        `json:"iss"`
	Audience string        `json:"aud"`
	Subject  string        `json:"sub"`
	ClientID string        `json:"client_id"`
	Scope    string        `json:"scope"`
	Confirm  *confirmation `json:"cnf,omitempty"`
	TokenJTI JTI           `json:"token_jti"`
	Method   string        `json:"htm"` // RFC 9449 §4.2
	URL      string        `json:"htu"`
	IssuedAt int64         `json:"iat"`
	Expires  int64         `json:"exp"`
	JTI      JTI           `json:"jti"`
}

func (s *Server) assertion(ctx context.Context, call *gatewayCall, t *Token) (string, error) {
	now := s.now()
	expires := now.Add(assertionTTL)
	if t.ExpiresAt.Before(expires) {
		expires = t.ExpiresAt
	}
	// What the token is bound to, and this call was held to: without it, the API would
	// take a token that is bound to a certificate for one that is bound to nothing.
	payload, err := compactJSON(assertionClaims{
		Issuer: s.issuer, Audience: t.Resource, Subject: t.ClientID, ClientID: t.ClientID, Scope: t.Scope,
		Confirm: confirm(*t), TokenJTI: t.JTI, Method: call.original.method, URL: call.original.url,
		IssuedAt: now.Unix(), Expires: expires.Unix(), JTI: NewJTI(now),
	})
	if err != nil {
		return "", fmt.Errorf("encoding the claims: %w", err)
	}
	signed, _, err := s.keys.sign(ctx, now, "", jwks.TypeGatewayAssertion, payload)
	return signed, err
}

// compactJSON leaves & in URLs as it is: escaped for HTML it would take six bytes.
func compactJSON(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}
