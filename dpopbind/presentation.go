package dpopbind

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
)

// Schemes of the Authorization header. They are compared without regard to case
// (RFC 9110 §11.1).
const (
	SchemeDPoP   = "DPoP"   // RFC 9449 §7.1
	SchemeBearer = "Bearer" // RFC 6750 §2.1
)

// Presentation is how a request presents an access token. It neither prints nor
// logs the token.
type Presentation struct {
	Scheme string // SchemeDPoP, SchemeBearer, or "" for no access token at all
	Token  string
}

// LogValue leaves out the token.
func (p Presentation) LogValue() slog.Value { return slog.StringValue(p.Scheme) }

// Format prints the same for every verb, so that none reveals the token.
func (p Presentation) Format(f fmt.State, _ rune) {
	_, _ = fmt.Fprintf(f, "access token by the scheme %q", p.Scheme)
}

// ReadPresentation reads the headers and the query of a request. Whatever could be read as two
// tokens, or as another one elsewhere, is refused: RFC 6750 §2 has one method a
// request, and §3.1 invalid_request for the rest. A token in a form is not
// looked for: the body is the handler's, and nothing in it is ever taken for a
// token here. The proof is not read: see ProofHeader.
func ReadPresentation(h http.Header, rawQuery string) (Presentation, *Refusal) {
	if hasQueryToken(rawQuery) {
		// RFC 9700 §2.6, RFC 6750 §5.3: it is in logs by now.
		return Presentation{}, RefuseRequest("Send the access token in the Authorization header, never in the URL; " +
			"replace this token, for URLs are logged.")
	}
	values := h.Values("Authorization")
	switch len(values) {
	case 0:
		return Presentation{}, nil
	case 1:
		return parseAuthorization(values[0])
	}
	return Presentation{}, RefuseRequest("Send exactly one Authorization header.")
}

// hasQueryToken looks for RFC 6750 §2.3's access_token. A query that cannot be
// parsed in full may hold it too: some other parser may find it.
func hasQueryToken(query string) bool {
	if query == "" {
		return false
	}
	values, err := url.ParseQuery(query)
	if values.Has("access_token") {
		return true
	}
	return err != nil && strings.Contains(query, "access_token")
}

// parseAuthorization reads credentials of the form scheme SP token68 (RFC 9110
// §11.4). Another scheme than the two is none at all: RFC 6750 §3.1 has it
// answered as a request without credentials.
func parseAuthorization(value string) (Presentation, *Refusal) {
	scheme, token, _ := strings.Cut(value, " ")
	var p Presentation
	switch {
	case strings.EqualFold(scheme, SchemeDPoP):
		p.Scheme = SchemeDPoP
	case strings.EqualFold(scheme, SchemeBearer):
		p.Scheme = SchemeBearer
	case isToken(scheme) && token != "" && !mentionsToken(token):
		return Presentation{}, nil
	default:
		return Presentation{}, RefuseRequest("The Authorization header must be: DPoP, one space, and the access token.")
	}
	p.Token = strings.TrimLeft(token, " ") // RFC 9110 §11.4: 1*SP
	if !isToken68(p.Token) {
		return Presentation{}, RefuseRequest("The Authorization header must have one access token after its scheme, and nothing else.")
	}
	return p, nil
}

// mentionsToken says whether the credentials of another scheme go on with those
// of ours, after a comma: an intermediary joined two headers (RFC 9110 §5.3).
func mentionsToken(credentials string) bool {
	for part := range strings.SplitSeq(credentials, ",") {
		scheme, _, _ := strings.Cut(strings.TrimSpace(part), " ")
		if strings.EqualFold(scheme, SchemeDPoP) || strings.EqualFold(scheme, SchemeBearer) {
			return true
		}
	}
	return false
}

// isToken68 is RFC 9110 §11.2, and RFC 6750 §2.1's b64token.
func isToken68(s string) bool {
	s = strings.TrimRight(s, "=")
	for i := 0; i < len(s); i++ {
		if c := s[i]; !isUnreserved(c) && c != '+' && c != '/' {
			return false
		}
	}
	return s != ""
}
