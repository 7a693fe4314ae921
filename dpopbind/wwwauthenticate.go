package dpopbind

import (
	"net/http"
	"slices"
	"strings"
)

// hasChallenge says whether an answer has a challenge of one of the schemes with
// that error.
func hasChallenge(h http.Header, code string, schemes ...string) bool {
	for _, value := range h.Values("WWW-Authenticate") {
		for _, p := range challengeParams(value) {
			if strings.EqualFold(p.name, "error") && p.value == code &&
				slices.ContainsFunc(schemes, func(s string) bool { return strings.EqualFold(s, p.scheme) }) {
				return true
			}
		}
	}
	return false
}

// challengeParam is a parameter of a challenge.
type challengeParam struct{ scheme, name, value string }

// challengeParams reads the challenges of a WWW-Authenticate header (RFC 9110
// §11.6.1): a comma may stand between two challenges or between two parameters
// of one, and what follows a name tells which. What does not fit is stepped over
// up to the next comma.
func challengeParams(s string) []challengeParam {
	var params []challengeParam
	scheme := ""
	for {
		s = strings.TrimLeft(s, " \t,")
		if s == "" {
			return params
		}
		name, rest := takeToken(s)
		rest = strings.TrimLeft(rest, " \t")
		value, isParam := strings.CutPrefix(rest, "=")
		switch {
		case name == "":
			_, s, _ = strings.Cut(s, ",")
		case !isParam:
			scheme, s = name, rest
		default:
			var text string
			text, s = takeValue(strings.TrimLeft(value, " \t"))
			params = append(params, challengeParam{scheme: scheme, name: name, value: text})
		}
	}
}

// takeToken cuts off the token that s begins with (RFC 9110 §5.6.2).
func takeToken(s string) (token, rest string) {
	i := 0
	for i < len(s) && isToken(s[i:i+1]) {
		i++
	}
	return s[:i], s[i:]
}

// takeValue cuts off a token or a quoted-string (RFC 9110 §5.6.4).
func takeValue(s string) (value, rest string) {
	if s == "" || s[0] != '"' {
		return takeToken(s)
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '"':
			return b.String(), s[i+1:]
		case '\\':
			if i++; i == len(s) {
				return "", ""
			}
		}
		b.WriteByte(s[i])
	}
	return "", "" // no closing quote
}
