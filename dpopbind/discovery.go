package dpopbind

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"github.com/cargokey/authz/internal/strictjose"
)

// maxAnswer bounds what is read of an authorization server's answer, in bytes.
const maxAnswer = 1 << 20

// parseSafeURL reads an absolute URL that may be sent secrets. Its error is the
// predicate of a sentence about the URL, and never holds it.
func parseSafeURL(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	if err != nil || !u.IsAbs() || u.Host == "" {
		return nil, errors.New("is not an absolute URL")
	}
	if _, err := NormalizeURL(raw); err != nil {
		return nil, err
	}
	// RFC 6749 §3.2 demands TLS; what goes to a loopback host stays on it.
	if u.Scheme != "https" && !isLoopback(u.Hostname()) {
		return nil, errors.New("must be https, or http on a loopback host")
	}
	return u, nil
}

// quoteURL quotes a URL without the parts that may hold a secret.
func quoteURL(raw string) string {
	raw = withoutQuery(raw)
	return strictjose.Quote(raw[strings.LastIndexByte(raw, '@')+1:])
}

func isLoopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.IsLoopback()
}

// wellKnown returns where an issuer's metadata is: the well-known path goes
// between its host and its path (RFC 8414 §3).
func wellKnown(issuer string) (string, error) {
	u, err := parseSafeURL(issuer)
	if err != nil {
		return "", fmt.Errorf("dpopbind: the issuer %s %w", quoteURL(issuer), err)
	}
	if u.RawQuery != "" || u.ForceQuery || u.Fragment != "" { // RFC 8414 §2
		return "", errors.New("dpopbind: the issuer has a query or a fragment")
	}
	return u.Scheme + "://" + u.Host + "/.well-known/oauth-authorization-server" +
		strings.TrimSuffix(u.EscapedPath(), "/"), nil
}

// discover finds an endpoint of an issuer, by its name in the metadata: the one for
// mutual TLS, where that is meant and there is one (RFC 8705 §5). The request holds no
// secret, and a redirect is not followed.
func discover(ctx context.Context, transport http.RoundTripper, issuer, name string, mutualTLS bool) (string, error) {
	address, err := wellKnown(issuer)
	if err != nil {
		return "", err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return "", err
	}
	request.Header.Set("Accept", "application/json")
	response, body, err := exchange(transport, request)
	if err != nil {
		return "", fmt.Errorf("dpopbind: discovering the server: %w", err)
	}
	complain := func(what string) error {
		return fmt.Errorf("dpopbind: discovering the server: %s answered %s, and %s", address, statusText(response.StatusCode), what)
	}
	metadata, ok := parseMembers(body)
	if !ok {
		return "", complain("not in JSON")
	}
	named, endpoint := metadata.text("issuer"), metadata.text(name)
	if response.StatusCode != http.StatusOK || metadata.text("token_endpoint") == "" {
		return "", complain("no metadata of an authorization server")
	}
	if aliases, ok := parseMembers(metadata["mtls_endpoint_aliases"]); ok && mutualTLS && aliases.text(name) != "" {
		endpoint = aliases.text(name)
	}
	if endpoint == "" {
		return "", complain("its metadata has no " + name)
	}
	if named != issuer { // RFC 8414 §3.3: identical, and no less
		return "", fmt.Errorf("dpopbind: the server at %s says its issuer is %q: use that one", issuer, strictjose.Printable(named, maxQuoted))
	}
	u, err := parseSafeURL(endpoint)
	if err != nil {
		return "", complain("its " + name + " " + err.Error())
	}
	if u.Scheme != "https" && strings.HasPrefix(address, "https:") {
		return "", complain("its " + name + " is not https")
	}
	return endpoint, nil
}

// exchange sends a request, follows no redirect, and reads an answer of bounded
// size. Only the context bounds the time.
func exchange(transport http.RoundTripper, request *http.Request) (*http.Response, []byte, error) {
	response, err := roundTrip(transport, request)
	if err != nil {
		return nil, nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	if err != nil {
		return nil, nil, fmt.Errorf("reading the answer: %w", err)
	}
	if len(body) > maxAnswer {
		return nil, nil, fmt.Errorf("the answer is longer than %d bytes", maxAnswer)
	}
	return response, body, nil
}

// statusText is a status without the reason phrase, which the server chose.
func statusText(status int) string {
	return strings.TrimSpace(fmt.Sprintf("%d %s", status, http.StatusText(status)))
}

// members are those of a JSON object, by their exact names: encoding/json would
// also take others that differ in case for a struct's fields. They need not be
// as strict as a proof's: the server is the one that is trusted.
type members map[string]json.RawMessage

func parseMembers(body []byte) (members, bool) {
	var m members
	err := json.Unmarshal(body, &m)
	return m, err == nil && m != nil
}

// text returns a member that is a string, "" for any other.
func (m members) text(name string) string {
	var s string
	if json.Unmarshal(m[name], &s) != nil {
		return ""
	}
	return s
}
