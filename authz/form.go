package authz

import (
	"errors"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// maxBody is the size in bytes of the largest request body that is read.
const maxBody = 64 << 10

// maxParameters bounds the parameters of a request, unknown ones included.
const maxParameters = 64

// parseForm reads the parameters of a POST. It is stricter than fosite and
// net/http, which both silently take the first of repeated parameters: a
// request that two readers could read in two ways is refused. Parameters
// without a value are as if they were left out (RFC 6749 §3.2).
func parseForm(r *http.Request) (url.Values, error) {
	if r.Method != http.MethodPost {
		err := errHTTP(http.StatusMethodNotAllowed, "Send a POST request, with the parameters in its body.")
		err.header = http.Header{"Allow": {http.MethodPost}}
		return nil, err
	}
	if len(r.Header.Values("Content-Type")) != 1 {
		return nil, errHTTP(http.StatusUnsupportedMediaType, "Send one Content-Type header: application/x-www-form-urlencoded.")
	}
	if !isForm(r.Header.Get("Content-Type")) {
		return nil, errHTTP(http.StatusUnsupportedMediaType, "Send the parameters as application/x-www-form-urlencoded.")
	}
	// RFC 6749 §2.3.1: credentials MUST NOT be in the request URI; URIs end up in logs.
	if r.URL.RawQuery != "" {
		return nil, errInvalidRequest("Send the parameters in the body, not in the URL.")
	}
	a := attemptOf(r.Context()) // its door has read the body
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(a.bodyErr, &tooLarge):
		return nil, errHTTP(http.StatusRequestEntityTooLarge, "The body is longer than 64 KiB.")
	case a.bodyErr != nil:
		return nil, errInvalidRequest("The body could not be read.")
	}
	return parseParameters(a.body)
}

// parse is parseForm, as a step of the request.
func (s *Server) parse(r *http.Request) (url.Values, error) {
	_, parsing := s.step(r.Context(), "parse")
	form, err := parseForm(r)
	parsing.end(err)
	return form, err
}

const formType = "application/x-www-form-urlencoded"

func isForm(contentType string) bool {
	if contentType == formType { // as nearly everyone writes it
		return true
	}
	media, _, err := mime.ParseMediaType(contentType)
	return err == nil && media == formType
}

// parseParameters decodes a form, each name at most once.
func parseParameters(body string) (url.Values, error) {
	form := make(url.Values, 8)
	seen := make([]string, 0, 8) // few: to look through them is cheaper than to hash one
	for pair := range strings.SplitSeq(body, "&") {
		if pair == "" {
			continue
		}
		rawName, rawValue, _ := strings.Cut(pair, "=")
		name, err := url.QueryUnescape(rawName)
		if err != nil {
			return nil, errInvalidRequest("The body is not well-formed: a percent sign is not followed by two hexadecimal digits.")
		}
		value, err := url.QueryUnescape(rawValue)
		if err != nil {
			return nil, errInvalidRequest("The body is not well-formed: a percent sign is not followed by two hexadecimal digits.")
		}
		if slices.Contains(seen, name) { // RFC 6749 §3.2: parameters MUST NOT be included more than once
			return nil, errInvalidRequest(repeated(name))
		}
		if len(seen) == maxParameters {
			return nil, errInvalidRequest("The body has more than 64 parameters.")
		}
		seen = append(seen, name)
		if value != "" {
			form[name] = []string{value}
		}
	}
	return form, nil
}

// repeated names a parameter only where the name is one of ours: what a client
// invents is not echoed.
func repeated(name string) string {
	switch name {
	case "resource":
		return "The parameter resource is repeated. A token is for one resource: ask for one token each."
	case "grant_type", "scope", "client_id", "client_secret", "client_assertion", "client_assertion_type", "token", "token_type_hint":
		return "The parameter " + name + " is repeated. Send each parameter once."
	default:
		return "A parameter is repeated. Send each parameter once."
	}
}
