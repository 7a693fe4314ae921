package authz

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ory/fosite"

	"github.com/cargokey/authz/jwks"
)

// claims of an access token (RFC 9068 §2.2, RFC 9449 §6).
type claims struct {
	Issuer   string        `json:"iss"`
	Subject  string        `json:"sub"`
	Audience string        `json:"aud"`
	ClientID string        `json:"client_id"`
	Scope    string        `json:"scope"`
	IssuedAt int64         `json:"iat"`
	Expires  int64         `json:"exp"`
	JTI      JTI           `json:"jti"`
	Confirm  *confirmation `json:"cnf,omitempty"`
}

// confirmation is RFC 7800's cnf with RFC 9449 §6.1's member or RFC 8705 §3.1's.
type confirmation struct {
	JKT string `json:"jkt,omitempty"`
	X5T string `json:"x5t#S256,omitempty"`
}

func confirm(t Token) *confirmation {
	if t.JKT == "" && t.X5T == "" {
		return nil
	}
	return &confirmation{JKT: t.JKT, X5T: t.X5T}
}

// minter makes access tokens: fosite's AccessTokenStrategy. fosite's own JWT
// strategy writes another typ and another scope, and another jti at each look.
type minter struct{ server *Server }

// GenerateAccessToken mints the token that the session was granted. Everything
// that the Store will record is fixed here, before the token exists.
func (m minter) GenerateAccessToken(ctx context.Context, request fosite.Requester) (token, signature string, err error) {
	ctx, minting := m.server.step(ctx, "mint")
	defer func() { minting.end(err) }()
	s, ok := request.GetSession().(*session)
	if !ok {
		return "", "", errors.New("minting: not a session of this server")
	}
	now := m.server.now()
	s.token = Token{
		JTI:      NewJTI(now),
		ClientID: s.client.ID,
		Resource: s.grant.Resource,
		Scope:    strings.Join(s.scopes, " "),
		IssuedAt: now,
		// Whole seconds, as exp has them: the Store and the token agree on the end.
		ExpiresAt: now.Truncate(time.Second).Add(s.grant.TokenTTL),
	}
	if s.proof != nil {
		s.token.JKT = s.proof.JKT()
	} else {
		s.token.X5T = s.x5t
	}
	if s.client.TokenFormat == FormatOpaque {
		token = random(OpaqueTokenPrefix)
	} else if token, s.token.KID, err = m.signed(ctx, s.token, s.grant.SigningAlg); err != nil {
		return "", "", err
	}
	s.token.Digest = DigestOf(token)
	return token, hex.EncodeToString(s.token.Digest[:]), nil
}

func (m minter) signed(ctx context.Context, t Token, a jwks.Algorithm) (token, kid string, err error) {
	payload, err := json.Marshal(claims{
		Issuer: m.server.issuer, Subject: t.ClientID, Audience: t.Resource, ClientID: t.ClientID,
		Scope: t.Scope, IssuedAt: t.IssuedAt.Unix(), Expires: t.ExpiresAt.Unix(), JTI: t.JTI,
		Confirm: confirm(t),
	})
	if err != nil {
		return "", "", fmt.Errorf("encoding the claims: %w", err)
	}
	token, kid, err = m.server.keys.sign(ctx, t.IssuedAt, a, jwks.TypeAccessToken, payload)
	if err != nil {
		return "", "", fmt.Errorf("minting: %w", err)
	}
	return token, kid, nil
}

// AccessTokenSignature is what fosite calls a token's name: its digest.
func (minter) AccessTokenSignature(_ context.Context, token string) string {
	d := DigestOf(token)
	return hex.EncodeToString(d[:])
}

// ValidateAccessToken is part of fosite's interface; no flow of this server
// calls it, since the digest alone tells a token.
func (minter) ValidateAccessToken(context.Context, fosite.Requester, string) error {
	return errors.New("tokens are validated by their digest")
}
