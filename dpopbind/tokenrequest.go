package dpopbind

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cargokey/authz/internal/strictjose"
)

const (
	// discoveredFor is how long an endpoint that was discovered is used.
	discoveredFor = time.Hour
	// maxExpiresIn bounds expires_in, so that no sum overflows.
	maxExpiresIn = 365 * 24 * time.Hour
	// maxRetryAfter bounds what TokenError says of it.
	maxRetryAfter = 24 * time.Hour
)

// TokenError is the refusal of a token request (RFC 6749 §5.2). Its texts are
// bounded and printable, and hold neither the secret nor the proof, whatever the
// server repeats.
type TokenError struct {
	// Code is the OAuth error, such as invalid_client; empty if the answer had
	// none.
	Code string
	// Description is the server's sentence, if any.
	Description string
	// Status is that of the answer.
	Status int
	// RetryAfter is what the server asks to wait, 24 hours at most; 0 if it asks
	// nothing.
	RetryAfter time.Duration
}

func (e *TokenError) Error() string {
	text := "dpopbind: the token endpoint refused: " + e.Code
	if e.Code == "" {
		text = "dpopbind: the token endpoint answered " + statusText(e.Status) + ", and no OAuth error"
	}
	if e.Description != "" {
		text += ": " + e.Description
	}
	return text
}

// tokenEndpoint is where tokens come from. It is used by one goroutine at a
// time, which the tokenCache sees to.
type tokenEndpoint struct {
	client       *Client
	issuer       string // empty: the endpoint is configured
	url          string
	discoveredAt time.Time
	nonce        heldNonce // RFC 9449 §8; kept apart from an API's on the same origin

	id, secret string
	assertKey  *Key // instead of the secret
	method     AuthMethod
	scope      string
	resource   string
	mutualTLS  bool // RFC 8705 §5
}

func newTokenEndpoint(cfg ClientConfig, c *Client) (*tokenEndpoint, error) {
	e := &tokenEndpoint{
		client: c, issuer: cfg.Issuer, url: cfg.TokenEndpoint, id: cfg.ClientID, secret: cfg.ClientSecret,
		assertKey: cfg.ClientKey, method: cfg.AuthMethod, scope: strings.Join(cfg.Scope, " "), resource: cfg.Resource,
		mutualTLS: cfg.MutualTLS || cfg.AuthMethod.byCertificate(),
	}
	if (e.issuer == "") == (e.url == "") {
		return nil, errors.New("dpopbind: a client needs either an issuer or a token endpoint")
	}
	if e.url != "" {
		u, err := parseSafeURL(e.url)
		if err != nil {
			return nil, fmt.Errorf("dpopbind: the token endpoint %s %w", quoteURL(e.url), err)
		}
		if u.Fragment != "" { // RFC 6749 §3.2
			return nil, errors.New("dpopbind: the token endpoint has a fragment")
		}
	} else if _, err := wellKnown(e.issuer); err != nil {
		return nil, err
	}
	return e, e.checkCredentials(cfg.Transport != nil)
}

// token asks for a token, and once more where the server demands a nonce.
func (e *tokenEndpoint) token(ctx context.Context) (Token, error) {
	if err := e.discover(ctx); err != nil {
		return Token{}, err
	}
	for challenged := false; ; challenged = true {
		nonce := e.nonce.get()
		proof, err := e.client.key.Proof(http.MethodPost, e.url, e.client.now(), ProofOptions{Nonce: nonce})
		if err != nil {
			return Token{}, err
		}
		assertion, err := e.assertion()
		if err != nil {
			return Token{}, err
		}
		request, err := e.request(ctx, proof, assertion)
		if err != nil {
			return Token{}, err
		}
		asked := e.client.now() // the token's lifetime began no earlier
		response, body, err := exchange(e.client.transport, request)
		if err != nil {
			return Token{}, fmt.Errorf("dpopbind: asking for a token: %w", withoutSent(err, assertion))
		}
		fresh := e.nonce.learn(response.Header)
		token, err := e.read(response, body, asked, proof, assertion)
		var refused *TokenError
		if errors.As(err, &refused) && refused.Code == "use_dpop_nonce" && // RFC 9449 §8
			!challenged && fresh != "" && fresh != nonce {
			continue
		}
		return token, err
	}
}

// discover sees that the endpoint is known. What was found once serves on where
// it cannot be found again.
func (e *tokenEndpoint) discover(ctx context.Context) error {
	now := e.client.now()
	if e.issuer == "" || e.url != "" && now.Sub(e.discoveredAt) < discoveredFor {
		return nil
	}
	found, err := discover(ctx, e.client.transport, e.issuer, "token_endpoint", e.mutualTLS)
	if err != nil {
		if e.url != "" {
			e.discoveredAt = now
			return nil
		}
		return err
	}
	if found != e.url {
		e.nonce.last.Store(nil) // a nonce is for the server that sent it
	}
	e.url, e.discoveredAt = found, now
	return nil
}

// request makes a token request (RFC 6749 §4.4.2), with an assertion where that is
// not "" (RFC 7521 §4.2).
func (e *tokenEndpoint) request(ctx context.Context, proof, assertion string) (*http.Request, error) {
	form := url.Values{"grant_type": {"client_credentials"}}
	if e.scope != "" {
		form.Set("scope", e.scope)
	}
	if e.resource != "" {
		form.Set("resource", e.resource)
	}
	return e.authenticated(ctx, e.url, form, proof, assertion)
}

// read turns an answer into a token. No error holds what was sent.
func (e *tokenEndpoint) read(response *http.Response, body []byte, asked time.Time, sent ...string) (Token, error) {
	answer, isObject := parseMembers(body)
	access := answer.text("access_token")
	if response.StatusCode != http.StatusOK || access == "" && answer.text("error") != "" {
		return Token{}, e.refused(response, answer, sent...)
	}
	switch {
	case !isObject:
		return Token{}, errors.New("dpopbind: the token endpoint answered 200 OK, and not in JSON")
	case access == "":
		return Token{}, errors.New("dpopbind: the token endpoint's answer has no access_token")
	case !isHeaderSafe(access):
		return Token{}, errors.New("dpopbind: the token endpoint's access_token has characters that RFC 6749 does not allow")
	}
	token := Token{AccessToken: access, Scope: e.scope}
	if scope := answer.text("scope"); scope != "" { // RFC 6749 §5.1: else it is the one asked for
		token.Scope = scope
	}
	if lifetime := expiresIn(answer["expires_in"]); lifetime > 0 {
		token.Expiry = asked.Add(lifetime)
	}
	kind := answer.text("token_type") // RFC 6749 §5.1: case does not count
	switch {
	case strings.EqualFold(kind, typeDPoP): // RFC 9449 §5
		token.Type, token.JKT = typeDPoP, e.client.key.JKT()
	case !strings.EqualFold(kind, typeBearer):
		return Token{}, fmt.Errorf("dpopbind: the token endpoint's token_type %s is neither DPoP nor Bearer", strictjose.Quote(e.redact(kind, access)))
	case e.client.policy != Prefer:
		return Token{}, ErrNotBound
	default:
		token.Type = typeBearer
	}
	return token, nil
}

// refused is what the server says in a refusal.
func (e *tokenEndpoint) refused(response *http.Response, answer members, sent ...string) *TokenError {
	return &TokenError{
		Code:        e.code(answer.text("error"), sent),
		Description: strictjose.Printable(e.redact(answer.text("error_description"), sent...), maxDescription),
		Status:      response.StatusCode,
		RetryAfter:  retryAfter(response.Header.Get("Retry-After"), e.client.now()),
	}
}

// code returns an error code. A known one stays whole, also where a weak secret
// is a part of it: it decides what happens next.
func (e *tokenEndpoint) code(code string, sent []string) string {
	known := []string{
		"invalid_request", "invalid_client", "invalid_grant", "unauthorized_client", // RFC 6749 §5.2
		"unsupported_grant_type", "invalid_scope",
		"invalid_target",                       // RFC 8707 §2
		"invalid_dpop_proof", "use_dpop_nonce", // RFC 9449 §12.2
		"invalid_endorsement", // EndorseKey
	}
	if slices.Contains(known, code) {
		return code
	}
	return strictjose.Printable(e.redact(code, sent...), maxQuoted)
}

// redact takes what this client sent, and what else it is told, out of a text
// that the server wrote.
func (e *tokenEndpoint) redact(text string, others ...string) string {
	escaped := url.QueryEscape(e.secret)
	basic := base64.StdEncoding.EncodeToString([]byte(url.QueryEscape(e.id) + ":" + escaped))
	secrets := others
	if e.secret != "" {
		secrets = slices.Concat(others, []string{basic, e.secret, escaped})
	}
	for _, secret := range secrets {
		if secret != "" {
			text = strings.ReplaceAll(text, secret, "[redacted]")
		}
	}
	return text
}

// isHeaderSafe says whether s has only the characters of an access token (RFC
// 6749 §A.12), less the space, which would end it in a header.
func isHeaderSafe(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
}

// expiresIn reads seconds, which some servers write as a string. It is 0 where
// there is no lifetime to be read.
func expiresIn(raw []byte) time.Duration {
	seconds, err := strconv.ParseFloat(strings.Trim(string(raw), `"`), 64)
	if err != nil || !(seconds > 0) {
		return 0
	}
	return time.Duration(min(seconds, maxExpiresIn.Seconds()) * float64(time.Second))
}

// retryAfter reads seconds or a date (RFC 9110 §10.2.3).
func retryAfter(value string, now time.Time) time.Duration {
	wait := time.Duration(0)
	if seconds, err := strconv.ParseUint(value, 10, 31); err == nil {
		wait = time.Duration(seconds) * time.Second
	} else if at, err := http.ParseTime(value); err == nil {
		wait = at.Sub(now)
	}
	return min(max(wait, 0), maxRetryAfter)
}
