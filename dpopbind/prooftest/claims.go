package prooftest

import (
	"fmt"
	"net"
	"strings"

	"github.com/cargokey/authz/dpopbind"
)

func (t *table) htm() {
	const check = dpopbind.CheckHTM
	want := "must be the HTTP method, '" + t.method + "'"
	t.claim("htm missing", check, "htm: is missing", "htm", "")
	t.claim("htm a number", check, "htm: must be a string", "htm", "1")
	t.claim("htm null", check, "htm: must be a string", "htm", "null")
	t.claim("htm a list", check, "htm: must be a string", "htm", `["`+t.method+`"]`)
	t.claim("htm empty", check, want, "htm", `""`)
	t.claim("htm in another case", check, want, "htm", text(swapCase(t.method)))
	t.claim("htm of another method", check, "htm: is 'DELETE' and "+want, "htm", `"DELETE"`)
	t.claim("htm with a space", check, want, "htm", text(t.method+" "))
	t.claim("htm with a control character", check, "htm: is '"+t.method+"?' and "+want, "htm", text(t.method+`\u0000`))
	t.claim("htm of a thousand letters", check, strings.Repeat("A", 157)+"...' and "+want, "htm", text(strings.Repeat("A", 1000)))
}

func swapCase(s string) string {
	if lower := strings.ToLower(s); lower != s {
		return lower
	}
	return strings.ToUpper(s)
}

// htu are the rows of RFC 9449 §4.3, check 9, around the table's own URL.
func (t *table) htu() {
	u, check, want := t.parsed, dpopbind.CheckHTU, "must be '"+t.url+"'"
	base, path := u.Scheme+"://"+u.Host, u.EscapedPath()
	good := func(name, htu string) { t.good("htu "+name, t.draft().Claim("htu", text(htu))) }
	other := func(name, htu string) { t.claim("htu "+name, check, want, "htu", text(htu)) }
	refused := func(name, description, htu string) { t.claim("htu "+name, check, description, "htu", text(htu)) }

	t.claim("htu missing", check, "htu: is missing; it must be '"+t.url+"'", "htu", "")
	t.claim("htu a number", check, "htu: must be a string, '"+t.url+"'", "htu", "1")
	t.claim("htu a list", check, "htu: must be a string", "htu", `["`+t.url+`"]`)
	good("with scheme and host in capitals", strings.ToUpper(base)+path)
	good("with a query", t.url+"?a=b&c=/../")
	good("with an empty query", t.url+"?")
	good("with a fragment", t.url+"#top")
	good("with a question mark in its fragment", t.url+"#a?b")
	good("with dot segments", base+"/./a/b/../.."+path)
	good("with encoded dot segments", base+"/a/%2e%2E"+path)
	i := strings.IndexAny(path, letters)
	good("with a letter percent-encoded", base+path[:i]+fmt.Sprintf("%%%x", path[i])+path[i+1:])
	other("with a letter percent-encoded twice", base+path[:i]+fmt.Sprintf("%%25%x", path[i])+path[i+1:])
	if u.Port() == "" {
		port := map[string]string{"https": "443", "http": "80"}[u.Scheme]
		good("with the default port", base+":"+port+path)
		good("with an empty port", base+":"+path)
		other("with the default port of another scheme", base+":8080"+path)
	}
	other("of another host", u.Scheme+"://evil.example"+path)
	if net.ParseIP(u.Hostname()) == nil {
		other("of a subdomain", u.Scheme+"://a."+u.Host+path)
		other("of a host with a dot at its end", u.Scheme+"://"+net.JoinHostPort(u.Hostname()+".", "443")+path)
	}
	other("of another scheme", map[string]string{"https": "http", "http": "https"}[u.Scheme]+"://"+u.Host+path)
	other("of another port", u.Scheme+"://"+net.JoinHostPort(u.Hostname(), "8444")+path)
	other("of another path", base+"/other"+path)
	other("of a longer path", t.url+"/more")
	other("with a slash at its end", t.url+"/")
	other("with an encoded slash", base+"/%2F"+path[1:])
	other("with a doubled slash", base+"/"+path)
	other("with its path in another case", base+path[:i]+swapCase(path[i:i+1])+path[i+1:])
	other("of the host alone", base)

	const it = "; it "
	refused("empty", it+"is not absolute", "")
	refused("relative", it+"is not absolute", path)
	refused("without a scheme", it+"is not absolute", "//as.example"+path)
	refused("without slashes", it+"has no host", u.Scheme+":"+path)
	refused("without a host", it+"has no host", u.Scheme+"://"+path)
	refused("with a port and no host", it+"has no host", u.Scheme+"://:443"+path)
	refused("with userinfo", it+"has userinfo", u.Scheme+"://"+u.Host+"@"+u.Host+path)
	refused("with an empty userinfo", it+"has userinfo", u.Scheme+"://@"+u.Host+path)
	refused("of the scheme ftp", it+"is neither https nor http", "ftp://"+u.Host+path)
	refused("with a space before it", it+"has a character", " "+t.url)
	refused("with a line break", it+"has a character", t.url+`\n`)
	refused("with a NUL", it+"has a character", t.url+`\u0000`)
	refused("with a non-ASCII character", it+"has a character", t.url+`é`)
	refused("with a backslash", it+"has a path character", base+`/a\\..`+path)
	refused("with a bad percent-encoding", it+"has a bad percent-encoding", t.url+"%zz")
	refused("with a cut percent-encoding", it+"has a bad percent-encoding", t.url+"%4")
	refused("with a percent sign in the host", it+"has a host that is neither", u.Scheme+"://a%2e"+u.Host+path)
	refused("with the port 0", it+"has a port", u.Scheme+"://as.example:0"+path)
	refused("with the port 65536", it+"has a port", u.Scheme+"://as.example:65536"+path)
	refused("with a port after a zero", it+"has a port", u.Scheme+"://as.example:0443"+path)
	refused("with a port of letters", it+"has a port", u.Scheme+"://as.example:https"+path)
	refused("with a bad IPv6 address", it+"has a host in brackets", u.Scheme+"://[::g]"+path)
	refused("with a zone", it+"has a host in brackets", u.Scheme+"://[fe80::1%25eth0]"+path)
	refused("longer than 2048 bytes", it+"is longer than 2048 bytes", base+"/"+strings.Repeat("a", 2048))
}

func (t *table) jti() {
	const check = dpopbind.CheckJTI
	t.claim("jti missing", check, "jti: is missing", "jti", "")
	t.claim("jti empty", check, "jti: is empty", "jti", `""`)
	t.claim("jti a number", check, "jti: must be a string", "jti", "1")
	t.claim("jti null", check, "jti: must be a string", "jti", "null")
	t.claim("jti of 257 bytes", check, "jti: is longer than 256 bytes", "jti", text(strings.Repeat("j", 257)))
	t.claim("jti of 257 bytes, escaped", check, "jti: is longer than 256 bytes", "jti",
		text(strings.Repeat("j", 254)+`\u20ac`))
	t.good("jti of 256 bytes", t.draft().Claim("jti", text(strings.Repeat("j", 230)+t.draft().claims.get("jti"))))
}

func (t *table) times() {
	const iat, nbf, exp = dpopbind.CheckIAT, dpopbind.CheckNBF, dpopbind.CheckExp
	const number = "must be a number, the time in seconds since 1970"
	t.claim("iat missing", iat, "iat: is missing", "iat", "")
	for _, value := range []string{
		text(t.seconds(0)), "null", "true", "[]", "-1", "1e300", "1e999", "253402300800", t.seconds(0) + "." + strings.Repeat("0", 40),
	} {
		t.claim("iat "+value, iat, "iat: "+number, "iat", value)
	}
	t.claim("iat in milliseconds", iat, "iat: "+number, "iat", t.seconds(0)+"000")
	t.claim("iat two minutes ago", iat, "(iat "+t.seconds(-120)+")", "iat", t.seconds(-120))
	t.claim("iat in one minute", iat, "(iat "+t.seconds(60)+")", "iat", t.seconds(60))
	t.claim("iat zero", iat, "too late (iat 0)", "iat", "0")
	t.claim("iat in the year 9999", iat, "too early (iat 253402300799)", "iat", "253402300799")
	t.good("iat with a fraction", t.draft().Claim("iat", t.seconds(0)+".25"))
	t.good("iat with an exponent", t.draft().Claim("iat", fmt.Sprintf("%.9e", float64(t.now.Unix()))))
	t.good("iat half a minute ago", t.draft().Claim("iat", t.seconds(-30)))

	t.claim("nbf a string", nbf, "nbf: "+number, "nbf", text(t.seconds(0)))
	t.claim("nbf in one minute", nbf, "nbf: the proof is not valid yet", "nbf", t.seconds(60))
	t.good("nbf now", t.draft().Claim("nbf", t.seconds(0)))
	t.claim("exp a string", exp, "exp: "+number, "exp", text(t.seconds(60)))
	t.claim("exp one minute ago", exp, "exp: the proof has expired", "exp", t.seconds(-60))
	t.good("exp in an hour", t.draft().Claim("exp", t.seconds(3600)))
}

func (t *table) optionalClaims() {
	for _, c := range []struct {
		check dpopbind.Check
		limit int
	}{{dpopbind.CheckNonce, 512}, {dpopbind.CheckATH, 256}} {
		name := string(c.check)
		t.claim(name+" a number", c.check, name+": must be a string", name, "1")
		t.claim(name+" null", c.check, name+": must be a string", name, "null")
		t.claim(name+" empty", c.check, name+": is empty", name, `""`)
		t.claim(name+" too long", c.check, fmt.Sprintf("%s: is longer than %d bytes", name, c.limit), name,
			text(strings.Repeat("n", c.limit+1)))
	}
	const other = `"fUHyO2r2Z3DZ53EsNrWBb0xWXoaNy59IiKCAqksmQEo"` // of the token in RFC 9449 §7.1
	if t.token == nil {
		t.good("ath without an access token", t.draft().Claim("ath", other))
	} else {
		t.claim("ath missing", dpopbind.CheckATH, "ath: is missing", "ath", "")
		t.claim("ath of another token", dpopbind.CheckATH, "ath: must be the base64url encoding", "ath", other)
		t.claim("ath padded", dpopbind.CheckATH, "ath: must be the base64url encoding", "ath",
			text(t.draft().claims.get("ath")+"="))
	}
	t.good("unknown claims", t.draft().Claim("iss", `"x"`).Claim("aud", `["y"]`).Claim("sub", "1").Claim("z", `{"a":{}}`))
}
