package authz

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/cargokey/authz/dpopbind"
	"github.com/cargokey/authz/jwks"
)

// Profile holds the whole server to more than it would demand by itself.
type Profile string

// The profiles that this server knows.
const (
	NoProfile Profile = ""
	// FAPI2 is the FAPI 2.0 Security Profile, as far as it touches
	// client_credentials: docs/rfc-conformance.md goes through its clauses.
	FAPI2 Profile = "fapi2"
)

// Profiles lists the profiles that this server knows.
func Profiles() []Profile { return []Profile{NoProfile, FAPI2} }

// Bounds of a clock skew under FAPI2 (FAPI 2.0 §5.3.2.1, item 13): what is issued 10
// seconds ahead is accepted, and what is issued more than 60 ahead is not.
const (
	minFAPI2Skew = 10 * time.Second
	maxFAPI2Skew = 60 * time.Second
)

// validate refuses a configuration that the profile rules out.
func (p Profile) validate(c *Config) error {
	if !slices.Contains(Profiles(), p) {
		return fmt.Errorf("the profile is %q; it may be empty or %q", string(p), string(FAPI2))
	}
	if p != FAPI2 {
		return nil
	}
	switch {
	case !strings.HasPrefix(c.Issuer, "https://"): // §5.2.1
		return errors.New("the profile fapi2 wants an https issuer, on loopback too")
	case slices.ContainsFunc(append(slices.Clone(c.TokenEndpointAliases), c.ClientCertificates.URL), isPlain):
		return errors.New("the profile fapi2 wants https in the aliases of the token endpoint and in the URL for clients with certificates, on loopback too")
	case c.ClockSkew < minFAPI2Skew || c.ClockSkew > maxFAPI2Skew:
		return fmt.Errorf("the profile fapi2 wants a clock skew of %s to %s; it is %s", minFAPI2Skew, maxFAPI2Skew, c.ClockSkew)
	case !p.signs(c.SigningAlgorithm):
		return fmt.Errorf("the profile fapi2 rules %s out: sign by ES256, EdDSA or PS256", c.SigningAlgorithm)
	case c.AssertionAudienceTokenEndpoint: // §5.3.2.1, item 8
		return errors.New("the profile fapi2 wants assertions for the issuer only, and not for the token endpoint's URL")
	}
	return nil
}

// isPlain tells whether an absolute URL, if there is one, is without TLS.
func isPlain(absolute string) bool {
	return absolute != "" && !strings.HasPrefix(strings.ToLower(absolute), "https://")
}

// signs tells whether tokens may be signed so (FAPI 2.0 §5.4.1).
func (p Profile) signs(a jwks.Algorithm) bool { return p != FAPI2 || a != jwks.RS256 }

// proofAlgorithms are those that DPoP proofs may be signed by.
func (p Profile) proofAlgorithms() []dpopbind.Algorithm {
	return slices.DeleteFunc(dpopbind.DefaultAlgorithms(), func(a dpopbind.Algorithm) bool {
		return p == FAPI2 && a == dpopbind.RS256 // FAPI 2.0 §5.4.1
	})
}

// admitsMethod tells whether clients may authenticate so (FAPI 2.0 §5.3.2.1, item
// 6).
func (p Profile) admitsMethod(m AuthMethod) bool {
	return p != FAPI2 || m != ClientSecretBasic && m != ClientSecretPost
}

// admitsBearer tells whether tokens may be bound to nothing (FAPI 2.0 §5.3.2.1,
// item 4).
func (p Profile) admitsBearer() bool { return p != FAPI2 }

// holds tells whether a token is one that is issued. What was issued before the
// profile was set may not be.
func (p Profile) holds(t *Token) bool { return p.admitsBearer() || t.JKT != "" || t.X5T != "" }

// authMethods are those of all that the profile admits.
func (p Profile) authMethods(all []AuthMethod) []AuthMethod {
	return slices.DeleteFunc(all, func(m AuthMethod) bool { return !p.admitsMethod(m) })
}

// errRuledOut says what a client is to authenticate by instead of a secret, to
// whoever asks: the secret is not looked at. The log names a client that is
// registered, since it is one that was forgotten.
func (s *Server) errRuledOut(ctx context.Context, clientID string) *oauthError {
	return &oauthError{
		status: http.StatusUnauthorized, code: codeInvalidClient, header: basicChallenge(),
		description: "This server holds to the FAPI 2.0 Security Profile: a client authenticates by private_key_jwt or by a certificate, and not by a secret.",
		cause:       s.aboutClient(ctx, clientID, errSecretRuledOut),
	}
}

var errSecretRuledOut = errors.New("the profile fapi2 rules secrets out")

// errAlgorithmRuledOut is for tokens that the resource wants signed otherwise.
func errAlgorithmRuledOut(resource string, a jwks.Algorithm) *oauthError {
	e := errInvalidTarget("This resource wants its tokens signed by an algorithm that the FAPI 2.0 Security Profile rules out, which this server holds to. Ask an operator.")
	e.cause = fmt.Errorf("resource %s: the profile fapi2 rules %s out", resource, a)
	return e
}
