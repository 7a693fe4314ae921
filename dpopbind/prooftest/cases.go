// Package prooftest is a table of good and bad proofs. It serves any code that
// takes proofs: a checker by itself, or an endpoint over HTTP.
package prooftest

import (
	"fmt"
	neturl "net/url"
	"strings"
	"time"

	"github.com/cargokey/authz/dpopbind"
)

// Case is one proof and what has to become of it.
type Case struct {
	Name string
	// Headers are the values of the DPoP headers to send, nil for none.
	Headers []string
	// Token is the access token to send, of CasesWithToken.
	Token string
	// Check is the check that refuses the proof, "" when it is accepted.
	// Without any header, which ProofHeader answers with ErrNoProof, it is
	// CheckHeaderCount.
	Check dpopbind.Check
	// Description is what the ProofError's description has to contain.
	Description string
}

// Cases returns the table for one request. Every proof in it is new, so that an
// endpoint that spends proofs accepts the good ones once.
//
// It assumes the default algorithms, lifetime and clock skew, a clock within
// some seconds of now, that no nonce is demanded, and that no access token comes
// with the proof. The url is the absolute URL that the checker demands,
// normalised, with a letter in its path. All values can be sent over HTTP.
func Cases(now time.Time, method, url string) []Case {
	return newTable(now, method, url, nil)
}

// CasesWithToken is Cases for a protected resource: every good proof comes with
// an access token and is bound to it by its ath. The token of a row is what
// token returns for the name of the proof's key, to which it has to be bound.
func CasesWithToken(now time.Time, method, url string, token func(jkt string) string) []Case {
	return newTable(now, method, url, token)
}

func newTable(now time.Time, method, url string, token func(jkt string) string) []Case {
	u, err := neturl.Parse(url)
	if err != nil || u.Host == "" || !strings.ContainsAny(u.Path, letters) {
		panic("prooftest: the URL must be absolute, with a letter in its path")
	}
	t := &table{now: now, method: method, url: url, parsed: u, token: token}
	t.transport()
	t.encoding()
	t.json()
	t.header()
	t.keyTypes()
	t.ec()
	t.okp()
	t.rsa()
	t.htm()
	t.htu()
	t.jti()
	t.times()
	t.optionalClaims()
	t.signatures()
	return t.cases
}

const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

type table struct {
	now    time.Time
	method string
	url    string
	parsed *neturl.URL
	token  func(jkt string) string // nil: no access tokens
	cases  []Case
}

// draft is a new good proof.
func (t *table) draft() *Draft { return t.with(keyES256()) }

func (t *table) with(key signer) *Draft {
	d := newDraft(key, t.now, t.method, t.url)
	if token := t.tokenOf(key); token != "" {
		d.Claim("ath", text(hash(token)))
	}
	return d
}

func (t *table) tokenOf(key signer) string {
	if t.token == nil {
		return ""
	}
	return t.token(key.jkt())
}

func (t *table) good(name string, d *Draft) {
	t.cases = append(t.cases, Case{Name: name, Headers: []string{d.String()}, Token: t.tokenOf(d.key)})
}

func (t *table) bad(name string, check dpopbind.Check, description string, d *Draft) {
	t.cases = append(t.cases, Case{
		Name: name, Headers: []string{d.String()}, Token: t.tokenOf(d.key), Check: check, Description: description,
	})
}

func (t *table) headers(name string, check dpopbind.Check, description string, values ...string) {
	t.cases = append(t.cases, Case{
		Name: name, Headers: values, Token: t.tokenOf(keyES256()), Check: check, Description: description,
	})
}

// claim spoils one claim; an empty value removes it.
func (t *table) claim(name string, check dpopbind.Check, description, claim, value string) {
	d := t.draft()
	if value == "" {
		d.Without(claim)
	} else {
		d.Claim(claim, value)
	}
	t.bad(name, check, description, d)
}

// seconds is a NumericDate some seconds from now.
func (t *table) seconds(offset int64) string { return fmt.Sprint(t.now.Unix() + offset) }

func (t *table) transport() {
	one := func() string { return t.draft().String() }
	t.headers("no header", dpopbind.CheckHeaderCount, "")
	same := one()
	t.headers("two headers", dpopbind.CheckHeaderCount, "has 2 DPoP headers", one(), one())
	t.headers("the same header twice", dpopbind.CheckHeaderCount, "has 2 DPoP headers", same, same)
	t.headers("a good and an empty header", dpopbind.CheckHeaderCount, "has 2 DPoP headers", one(), "")
	t.headers("three headers", dpopbind.CheckHeaderCount, "has 3 DPoP headers", one(), one(), one())
	t.headers("proofs joined by a comma", dpopbind.CheckHeaderCount, "joined by commas", one()+","+one())
	t.headers("proofs joined by comma and space", dpopbind.CheckHeaderCount, "joined by commas", one()+", "+one())
	t.headers("a comma at the end", dpopbind.CheckHeaderCount, "joined by commas", one()+",")
	t.headers("an empty header", dpopbind.CheckFormat, "the proof is empty", "")
	t.bad("longer than 8192 bytes", dpopbind.CheckFormat, "longer than 8192 bytes",
		t.draft().Claim("pad", text(strings.Repeat("a", 6500))))
	t.headers("a bare word", dpopbind.CheckFormat, "has 1 segments", "proof")
	t.headers("an authorization scheme before it", dpopbind.CheckFormat, "white space", "DPoP "+one())
	t.headers("quotes around it", dpopbind.CheckFormat, "not base64url", `"`+one()+`"`)
	t.headers("JSON serialization", dpopbind.CheckFormat, "not base64url", `{"protected":"e30"}`)
	t.headers("only dots", dpopbind.CheckJSON, "header is not valid JSON", "..")
}

func (t *table) encoding() {
	edit := func(f func(h, p, s string) string) *Draft {
		return t.draft().Rewrite(func(proof string) string {
			part := strings.Split(proof, ".")
			return f(part[0], part[1], part[2])
		})
	}
	bad := func(name, description string, f func(h, p, s string) string) {
		t.bad(name, dpopbind.CheckFormat, description, edit(f))
	}
	bad("two segments", "has 2 segments", func(h, p, _ string) string { return h + "." + p })
	bad("four segments", "has 4 segments", func(h, p, s string) string { return h + "." + p + "." + s + ".e30" })
	bad("five segments, as a JWE", "has 5 segments", func(h, p, s string) string { return h + "." + p + "." + s + ".e30.e30" })
	bad("padding", "has base64 padding", func(h, p, s string) string { return h + "." + p + "." + s + "==" })
	bad("a space within", "white space", func(h, p, s string) string { return h + ". " + p + "." + s })
	bad("a tab within", "white space", func(h, p, s string) string { return h + "." + p[:8] + "\t" + p[8:] + "." + s })
	bad("a percent sign", "not base64url", func(h, p, s string) string { return h + "%." + p + "." + s })
	bad("a plus of standard base64", "not base64url", func(h, p, s string) string { return h + "." + p + "." + "+" + s[1:] })
	bad("a slash of standard base64", "not base64url", func(h, p, s string) string { return h + "." + p + "." + "/" + s[1:] })
	bad("a non-ASCII character", "not base64url", func(h, p, s string) string { return h + "." + p + "é." + s })
	bad("stray bits in the header", "header is not canonical base64url", func(_, p, s string) string {
		return "e31." + p + "." + s
	})
	bad("stray bits in the signature", "signature is not canonical base64url", func(h, p, s string) string {
		return h + "." + p + "." + stray(s)
	})
	bad("stray bits in the payload", "payload is not canonical base64url", func(h, _, s string) string {
		return h + ".e31." + s
	})
	bad("an impossible length", "payload is not canonical base64url", func(h, p, s string) string {
		return h + "." + strings.Repeat("A", 5) + "." + s
	})
	t.bad("an empty header segment", dpopbind.CheckJSON, "header is not valid JSON",
		edit(func(_, p, s string) string { return "." + p + "." + s }))
	t.bad("an empty payload segment", dpopbind.CheckJSON, "payload is not valid JSON",
		edit(func(h, _, s string) string { return h + ".." + s }))
	t.bad("an empty signature segment", dpopbind.CheckSignature, "is of 0",
		edit(func(h, p, _ string) string { return h + "." + p + "." }))
}

// stray sets an unused bit of the last character of some base64url.
func stray(s string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	last := strings.IndexByte(alphabet, s[len(s)-1])
	return s[:len(s)-1] + string(alphabet[last^1])
}
