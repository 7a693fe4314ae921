package dpopbind

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// assertionLifetime is that of the assertions made here: one request takes less,
// and servers refuse what lives for long.
const assertionLifetime = time.Minute

// ClientAssertion makes an assertion that the client is who it says, by a key that
// is registered for it (private_key_jwt: RFC 7523 §2.2 and §3). It is for one
// server, named by its issuer, for one request, and for a minute from now. It has
// the key's KID, where the key has one.
func (k *Key) ClientAssertion(issuer, clientID string, now time.Time) (string, error) {
	if issuer == "" || clientID == "" {
		return "", errors.New("dpopbind: making a client assertion: the issuer or the client_id is empty")
	}
	header, err := json.Marshal(struct {
		Type      string    `json:"typ"` // draft-ietf-oauth-rfc7523bis: RFC 8725 §3.11
		Algorithm Algorithm `json:"alg"`
		KID       string    `json:"kid,omitempty"`
	}{"client-authentication+jwt", k.alg, k.kid})
	if err != nil {
		return "", fmt.Errorf("dpopbind: making a client assertion: %w", err)
	}
	claims, err := json.Marshal(struct {
		Issuer   string `json:"iss"`
		Subject  string `json:"sub"`
		Audience string `json:"aud"` // one string: FAPI 2.0 Security Profile §5.3.3.1
		ID       string `json:"jti"`
		IssuedAt int64  `json:"iat"`
		Expires  int64  `json:"exp"`
	}{clientID, clientID, issuer, rand.Text(), now.Unix(), now.Add(assertionLifetime).Unix()})
	if err != nil {
		return "", fmt.Errorf("dpopbind: making a client assertion: %w", err)
	}
	input := b64.EncodeToString(header) + "." + b64.EncodeToString(claims)
	signature, err := k.sign([]byte(input))
	if err != nil {
		return "", fmt.Errorf("dpopbind: signing a client assertion: %w", err)
	}
	return input + "." + b64.EncodeToString(signature), nil
}

// withoutSent takes what was sent, an assertion for one, out of an error whose text a
// peer got to write.
func withoutSent(err error, sent string) error {
	if sent == "" || !strings.Contains(err.Error(), sent) {
		return err
	}
	return &redactedError{strings.ReplaceAll(err.Error(), sent, "[redacted]")}
}
