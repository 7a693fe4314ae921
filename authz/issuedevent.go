package authz

import (
	"encoding/json"
	"strconv"
	"time"
)

// issuedDetail is the detail of a token.issued event. There is one for each token, and
// so it is written without reflection.
type issuedDetail struct {
	token     Token
	format    TokenFormat
	userAgent string         // see product
	offset    *time.Duration // see event.proofOffset; nil: the token is bound to no DPoP key
}

// json is the detail as an object.
func (d *issuedDetail) json() string {
	var room [512]byte // as most need
	b := append(room[:0], `{"scope":`...)
	b = appendString(b, d.token.Scope)
	b = append(b, `,"format":`...)
	b = appendString(b, string(d.format))
	b = append(b, `,"expires_at":`...)
	b = strconv.AppendInt(b, d.token.ExpiresAt.Unix(), 10)
	b = append(b, `,"credential":`...)
	b = appendString(b, d.token.Credential)
	if d.token.X5T != "" {
		b = append(b, `,"x5t#S256":`...)
		b = appendString(b, d.token.X5T)
	}
	if d.userAgent != "" {
		b = append(b, `,"user_agent":`...)
		b = appendString(b, d.userAgent)
	}
	if d.offset != nil {
		b = append(b, `,"offset_ms":`...)
		b = strconv.AppendInt(b, d.offset.Milliseconds(), 10)
	}
	return string(append(b, '}'))
}

// appendString appends s as JSON. All that comes here is plain, but for what nobody has
// foreseen.
func appendString(b []byte, s string) []byte {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			text, err := json.Marshal(s)
			if err != nil { // of no string
				panic("authz: a text that cannot be encoded: " + err.Error())
			}
			return append(b, text...)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}
