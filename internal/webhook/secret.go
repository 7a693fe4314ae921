package webhook

import (
	"encoding/base64"
	"errors"
	"log/slog"
	"strings"
)

// Secret is what messages are signed by: between MinSecret and MaxSecret random bytes
// that the receiver has too. It is never printed.
type Secret struct{ bytes []byte }

// The sizes of a Secret, in bytes (Standard Webhooks, "Signature scheme").
const (
	MinSecret = 24
	MaxSecret = 64
)

const secretPrefix = "whsec_"

// ParseSecret reads a secret as it is handed out: whsec_ and base64. Its errors do not
// repeat what it was given.
func ParseSecret(text string) (Secret, error) {
	encoded, ok := strings.CutPrefix(text, secretPrefix)
	if !ok {
		return Secret{}, errors.New("it does not begin with " + secretPrefix)
	}
	b, err := base64.StdEncoding.Strict().DecodeString(encoded)
	if err != nil {
		return Secret{}, errors.New("what follows " + secretPrefix + " is not base64")
	}
	if len(b) < MinSecret || len(b) > MaxSecret {
		return Secret{}, errors.New("it is not of 24 to 64 bytes")
	}
	return Secret{b}, nil
}

func (Secret) String() string       { return "REDACTED" }
func (Secret) GoString() string     { return "REDACTED" }
func (Secret) LogValue() slog.Value { return slog.StringValue("REDACTED") }
