package dpopbind

import (
	"crypto/sha256"
	"crypto/subtle"
	"math"
	"slices"
	"time"

	"github.com/cargokey/authz/internal/strictjose"
)

// Bounds on the strings of the claims, in bytes after unescaping.
const (
	maxJTI   = 256
	maxNonce = 512
	maxATH   = 256
)

// claims are what a proof says, once it has been checked.
type claims struct {
	jti      string
	htu      string // normalised
	nonce    string
	issuedAt time.Time
	offset   time.Duration
}

// checkClaims makes the checks of RFC 9449 §4.3 on the payload: 8 to 12 and the
// payload's part of 3. Without an access token, ath is not compared.
func (c *Checker) checkClaims(o object, t Target, accessToken *string) (*claims, error) {
	var (
		cl  claims
		err error
	)
	if err := checkHTM(o.Get("htm"), t); err != nil {
		return nil, err
	}
	if cl.htu, err = checkHTU(o.Get("htu"), t); err != nil {
		return nil, err
	}
	// RFC 9449 §4.2: jti identifies the proof. Its length is bounded as §11.1
	// advises; here it is only hashed.
	if cl.jti, err = requiredString(o, CheckJTI, maxJTI); err != nil {
		return nil, err
	}
	if cl.issuedAt, cl.offset, err = c.checkTimes(o); err != nil {
		return nil, err
	}
	// RFC 9449 §4.3, check 10: which nonce is right is for the caller to say.
	if cl.nonce, err = optionalString(o, CheckNonce, maxNonce); err != nil {
		return nil, err
	}
	if err := checkATH(o, accessToken); err != nil {
		return nil, err
	}
	return &cl, nil
}

// checkHTM is RFC 9449 §4.3, check 8. Methods are case-sensitive (RFC 9110
// §9.1).
func checkHTM(raw []byte, t Target) error {
	htm, ok := strictjose.AsString(raw)
	switch {
	case raw == nil:
		return refuse(CheckHTM, "htm: is missing; it must be the HTTP method, %s", strictjose.Quote(t.method))
	case !ok:
		return refuse(CheckHTM, "htm: must be a string, the HTTP method %s", strictjose.Quote(t.method))
	case htm == "" || htm != t.method:
		return refuse(CheckHTM, "htm: is %s and must be the HTTP method, %s", strictjose.Quote(htm), strictjose.Quote(t.method))
	}
	return nil
}

// checkHTU is RFC 9449 §4.3, check 9: compared without query and fragment, after
// normalization. It returns the normalised htu.
func checkHTU(raw []byte, t Target) (string, error) {
	want := ""
	if len(t.urls) > 0 {
		want = t.urls[0]
	}
	htu, ok := strictjose.AsString(raw)
	switch {
	case raw == nil:
		return "", refuse(CheckHTU, "htu: is missing; it must be %s", strictjose.Quote(want))
	case !ok:
		return "", refuse(CheckHTU, "htu: must be a string, %s", strictjose.Quote(want))
	}
	got, err := NormalizeURL(htu)
	if err != nil {
		// The URL is not repeated: it may hold a password.
		return "", refuse(CheckHTU, "htu: must be an absolute URL, %s; it %v", strictjose.Quote(want), err)
	}
	if !slices.Contains(t.urls, got) {
		return "", refuse(CheckHTU, "htu: is %s and must be %s", strictjose.Quote(got), strictjose.Quote(want))
	}
	return got, nil
}

// checkATH is RFC 9449 §4.3, check 12, first half. Without an access token an
// ath means nothing (§4.2 defines it for the presentation of one), and a claim
// that means nothing is ignored (RFC 7519 §4), but not when it is of the wrong
// type: then the sender is confused about what it signs.
func checkATH(o object, accessToken *string) error {
	if accessToken == nil {
		_, err := optionalString(o, CheckATH, maxATH)
		return err
	}
	ath, err := requiredString(o, CheckATH, maxATH)
	if err != nil {
		return err
	}
	sum := sha256.Sum256([]byte(*accessToken))
	want := b64.EncodeToString(sum[:])
	if *accessToken == "" || subtle.ConstantTimeCompare([]byte(ath), []byte(want)) != 1 {
		return refuse(CheckATH, "ath: must be the base64url encoding of the SHA-256 hash of the access token that comes with the proof")
	}
	return nil
}

func requiredString(o object, name Check, limit int) (string, error) {
	if o.Get(string(name)) == nil {
		return "", refuse(name, "%s: is missing", name)
	}
	return optionalString(o, name, limit)
}

// optionalString returns "" for a missing member, and only then.
func optionalString(o object, name Check, limit int) (string, error) {
	raw := o.Get(string(name))
	if raw == nil {
		return "", nil
	}
	s, ok := strictjose.AsString(raw)
	switch {
	case !ok:
		return "", refuse(name, "%s: must be a string", name)
	case s == "":
		return "", refuse(name, "%s: is empty", name)
	case len(s) > limit:
		return "", refuse(name, "%s: is longer than %d bytes", name, limit)
	}
	return s, nil
}

// checkTimes is RFC 9449 §4.3, check 11: the proof is accepted from
// iat - ClockSkew to iat + Lifetime + ClockSkew, both included. The optional nbf
// and exp can only narrow that.
func (c *Checker) checkTimes(o object) (iat time.Time, offset time.Duration, err error) {
	now := c.now()
	iat, err = requiredTime(o, CheckIAT)
	if err != nil {
		return time.Time{}, 0, err
	}
	// Sub saturates; the least duration has no negation.
	offset = max(now.Sub(iat), -math.MaxInt64)
	if offset < -c.skew || offset > c.lifetime+c.skew {
		return time.Time{}, 0, c.errIAT(iat, offset)
	}
	// RFC 7519 §4.1.5: not before nbf.
	if o.Get("nbf") != nil {
		nbf, err := requiredTime(o, CheckNBF)
		if err != nil {
			return time.Time{}, 0, err
		}
		if now.Before(nbf.Add(-c.skew)) {
			return time.Time{}, 0, refuse(CheckNBF, "nbf: the proof is not valid yet; check the clocks")
		}
	}
	// RFC 7519 §4.1.4: not on or after exp.
	if o.Get("exp") != nil {
		exp, err := requiredTime(o, CheckExp)
		if err != nil {
			return time.Time{}, 0, err
		}
		if !now.Before(exp.Add(c.skew)) {
			return time.Time{}, 0, refuse(CheckExp, "exp: the proof has expired; make a new one, and check the clocks")
		}
	}
	return iat, offset, nil
}

func requiredTime(o object, name Check) (time.Time, error) {
	raw := o.Get(string(name))
	if raw == nil {
		return time.Time{}, refuse(name, "%s: is missing; it must be the time in seconds since 1970", name)
	}
	t, ok := strictjose.AsTime(raw)
	if !ok {
		return time.Time{}, refuse(name, "%s: must be a number, the time in seconds since 1970", name)
	}
	return t, nil
}

func (c *Checker) errIAT(iat time.Time, offset time.Duration) *ProofError {
	var e *ProofError
	if offset > 0 {
		e = refuse(CheckIAT, "iat: the proof was issued %d s ago by this server's clock, and is accepted for %d s: "+
			"%d s too late (iat %d); make a new proof for each request, and check the clocks",
			seconds(offset), seconds(c.lifetime+c.skew), seconds(offset-c.lifetime-c.skew), iat.Unix())
	} else {
		e = refuse(CheckIAT, "iat: the proof was issued %d s in the future by this server's clock, and %d s are allowed: "+
			"%d s too early (iat %d); check the clocks",
			seconds(-offset), seconds(c.skew), seconds(-offset-c.skew), iat.Unix())
	}
	e.Offset = offset
	return e
}

// seconds rounds up, so that nothing refused is said to be off by 0 s.
func seconds(d time.Duration) int64 {
	s := int64(d / time.Second)
	if d%time.Second > 0 {
		s++
	}
	return s
}
