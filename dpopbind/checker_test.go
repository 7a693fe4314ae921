package dpopbind_test

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cargokey/authz/dpopbind"
	"github.com/cargokey/authz/dpopbind/prooftest"
)

const (
	method   = "POST"
	tokenURL = "https://as.example/oauth2/token"
)

var now = time.Unix(1_760_000_000, 0)

func newChecker(t testing.TB, at time.Time) *dpopbind.Checker {
	t.Helper()
	c, err := dpopbind.NewChecker(dpopbind.CheckerConfig{Now: func() time.Time { return at }})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func newTarget(t testing.TB, method string, urls ...string) dpopbind.Target {
	t.Helper()
	target, err := dpopbind.NewTarget(method, urls...)
	if err != nil {
		t.Fatal(err)
	}
	return target
}

// accept takes the whole way of a proof at a token endpoint.
func accept(c *dpopbind.Checker, headers []string, target dpopbind.Target) (*dpopbind.Proof, error) {
	h := http.Header{}
	for _, v := range headers {
		h.Add("DPoP", v)
	}
	raw, err := dpopbind.ProofHeader(h)
	if err != nil {
		return nil, err
	}
	p, err := c.Check(raw, target)
	if err != nil {
		return nil, err
	}
	return p, p.VerifySignature()
}

func TestEachProofOfTheTableIsJudgedAsItSays(t *testing.T) {
	for _, url := range []string{tokenURL, "http://127.0.0.1:8080/token", "https://[2001:db8::1]/t/"} {
		cases := prooftest.Cases(now, method, url)
		if len(cases) < 120 {
			t.Fatalf("the table has %d rows, too few to be whole", len(cases))
		}
		c, target := newChecker(t, now), newTarget(t, method, url)
		names, checks := map[string]bool{}, map[dpopbind.Check]bool{}
		for _, row := range cases {
			if names[row.Name] {
				t.Errorf("two rows are named %q", row.Name)
			}
			names[row.Name], checks[row.Check] = true, true
			t.Run(row.Name, func(t *testing.T) { judge(t, c, target, row) })
		}
		for _, check := range dpopbind.Checks() {
			// A replay is Spend's to see, and no proof's own fault.
			if !checks[check] && check != dpopbind.CheckReplay {
				t.Errorf("no row fails the check %q", check)
			}
		}
	}
}

func judge(t *testing.T, c *dpopbind.Checker, target dpopbind.Target, row prooftest.Case) {
	_, err := accept(c, row.Headers, target)
	if row.Check == "" {
		if err != nil {
			t.Fatalf("refused: %v", err)
		}
		return
	}
	if len(row.Headers) == 0 {
		if err != dpopbind.ErrNoProof {
			t.Fatalf("got %v, want ErrNoProof", err)
		}
		return
	}
	e := asProofError(t, err)
	if e.Check != row.Check || !strings.Contains(e.Description, row.Description) {
		t.Errorf("got %s: %s\nwant %s: %s", e.Check, e.Description, row.Check, row.Description)
	}
	if row.Description == "" {
		t.Error("the row pins no description")
	}
}

// asProofError also holds every error to what may be sent.
func asProofError(t testing.TB, err error) *dpopbind.ProofError {
	t.Helper()
	var e *dpopbind.ProofError
	if !errors.As(err, &e) {
		t.Fatalf("got %v, want a *ProofError", err)
	}
	if n := len(e.Description); n == 0 || n > 512 {
		t.Errorf("the description has %d characters", n)
	}
	for _, r := range e.Description {
		if r < 0x20 || r == '"' || r == '\\' || r > 0x7e {
			t.Errorf("the description has %q: %q", r, e.Description)
		}
	}
	return e
}

// Rows that HTTP cannot carry, since it trims or refuses them, and those that
// have to be a Checker's own.
func TestWhatAHeaderCannotCarryIsRefusedToo(t *testing.T) {
	c, target := newChecker(t, now), newTarget(t, method, tokenURL)
	good := func() string { return prooftest.New(now, method, tokenURL).String() }
	for name, proof := range map[string]string{
		"space before":       " " + good(),
		"space after":        good() + " ",
		"line break after":   good() + "\n",
		"line break within":  strings.Replace(good(), ".", ".\r\n", 1),
		"line break in text": good()[:20] + "\n" + good()[20:],
		"NUL":                good() + "\x00",
		"vertical tab":       good() + "\v",
		"empty":              "",
		"comma":              good() + "," + good(),
		"too long":           strings.Repeat("a", 8193),
	} {
		_, err := c.Check(proof, target)
		if e := asProofError(t, err); e.Check != dpopbind.CheckFormat && e.Check != dpopbind.CheckHeaderCount {
			t.Errorf("%s: refused by the check %q", name, e.Check)
		}
	}
}

func TestNoProofIsForTheZeroTarget(t *testing.T) {
	d := prooftest.New(now, "", "").String()
	if _, err := newChecker(t, now).Check(d, dpopbind.Target{}); err == nil {
		t.Error("accepted")
	}
}

func TestAProofIsAcceptedFromSkewBeforeItsIATToSkewAfterItsLife(t *testing.T) {
	target := newTarget(t, method, tokenURL)
	for _, w := range []struct {
		lifetime, skew   time.Duration
		earliest, latest time.Duration
	}{
		{0, 0, -15 * time.Second, 75 * time.Second},
		{time.Second, time.Nanosecond, -time.Nanosecond, time.Second + time.Nanosecond},
		{10 * time.Minute, 5 * time.Minute, -5 * time.Minute, 15 * time.Minute},
	} {
		proof := prooftest.New(now, method, tokenURL).String()
		at := func(offset time.Duration) (*dpopbind.Proof, error) {
			c, err := dpopbind.NewChecker(dpopbind.CheckerConfig{
				Lifetime: w.lifetime, ClockSkew: w.skew, Now: func() time.Time { return now.Add(offset) },
			})
			if err != nil {
				t.Fatal(err)
			}
			return c.Check(proof, target)
		}
		for _, offset := range []time.Duration{w.earliest, 0, w.latest} {
			p, err := at(offset)
			if err != nil {
				t.Fatalf("at %v: %v", offset, err)
			}
			if p.Offset() != offset || !p.AcceptedUntil().Equal(now.Add(w.latest)) || !p.IssuedAt().Equal(now) {
				t.Errorf("at %v: offset %v, accepted until %v, issued at %v", offset, p.Offset(), p.AcceptedUntil(), p.IssuedAt())
			}
		}
		for _, offset := range []time.Duration{
			w.earliest - 1, w.earliest - time.Second, w.latest + 1, w.latest + time.Second,
		} {
			_, err := at(offset)
			if e := asProofError(t, err); e.Check != dpopbind.CheckIAT || e.Offset != offset {
				t.Errorf("at %v: check %q, offset %v", offset, e.Check, e.Offset)
			}
		}
	}
}

func TestAnIATErrorSaysHowFarAndWhichWay(t *testing.T) {
	target := newTarget(t, method, tokenURL)
	proof := prooftest.New(now, method, tokenURL).String()
	for offset, want := range map[time.Duration]string{
		76 * time.Second: "iat: the proof was issued 76 s ago by this server's clock, and is accepted for 75 s: " +
			"1 s too late (iat 1760000000); make a new proof for each request, and check the clocks",
		-20500 * time.Millisecond: "iat: the proof was issued 21 s in the future by this server's clock, and 15 s are allowed: " +
			"6 s too early (iat 1760000000); check the clocks",
	} {
		_, err := newChecker(t, now.Add(offset)).Check(proof, target)
		if diff := cmp.Diff(want, asProofError(t, err).Description); diff != "" {
			t.Error(diff)
		}
	}
}

func TestNbfAndExpNarrowTheWindowByTheirOwnEdges(t *testing.T) {
	target := newTarget(t, method, tokenURL)
	for _, row := range []struct {
		claim  string
		offset int64 // of the claim from now
		nanos  time.Duration
		ok     bool
	}{
		{"nbf", 15, 0, true}, {"nbf", 15, -1, false}, {"nbf", 16, 0, false},
		{"exp", -14, 0, true}, {"exp", -15, -1, true}, {"exp", -15, 0, false},
	} {
		proof := prooftest.New(now, method, tokenURL).Claim(row.claim, strconv.FormatInt(now.Unix()+row.offset, 10)).String()
		_, err := newChecker(t, now.Add(row.nanos)).Check(proof, target)
		if (err == nil) != row.ok {
			t.Errorf("%s at %d seconds and %d ns: %v", row.claim, row.offset, row.nanos, err)
		}
	}
}

func TestAFractionalIATIsKeptToTheMicrosecond(t *testing.T) {
	proof := prooftest.New(now, method, tokenURL).Claim("iat", "1760000000.1234567").String()
	p, err := newChecker(t, now).Check(proof, newTarget(t, method, tokenURL))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := p.IssuedAt(), now.Add(123457*time.Microsecond); !got.Equal(want) || !got.Equal(got.Truncate(time.Microsecond)) {
		t.Errorf("issued at %v, want %v", got, want)
	}
}

func TestAnAccessTokenNeedsItsOwnHash(t *testing.T) {
	const token = "Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU"
	const ath = "fUHyO2r2Z3DZ53EsNrWBb0xWXoaNy59IiKCAqksmQEo" // RFC 9449 §7.1
	c, target := newChecker(t, now), newTarget(t, "GET", tokenURL)
	for _, row := range []struct{ name, token, ath, want string }{
		{"right", token, `"` + ath + `"`, ""},
		{"missing", token, "", "ath: is missing"},
		{"of another token", token + "x", `"` + ath + `"`, "ath: must be the base64url encoding"},
		{"padded", token, `"` + ath + `="`, "ath: must be the base64url encoding"},
		{"cut", token, `"` + ath[:42] + `"`, "ath: must be the base64url encoding"},
		{"the token itself", token, `"` + token + `"`, "ath: must be the base64url encoding"},
		{"empty", token, `""`, "ath: is empty"},
		{"a number", token, `1`, "ath: must be a string"},
		{"null", token, `null`, "ath: must be a string"},
		{"too long", token, `"` + strings.Repeat("a", 257) + `"`, "ath: is longer than 256 bytes"},
		{"of no token", "", `"47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU"`, "ath: must be the base64url encoding"},
	} {
		d := prooftest.New(now, "GET", tokenURL)
		if row.ath != "" {
			d.Claim("ath", row.ath)
		}
		_, err := c.CheckWithToken(d.String(), target, row.token)
		if row.want == "" {
			if err != nil {
				t.Errorf("%s: %v", row.name, err)
			}
			continue
		}
		if e := asProofError(t, err); e.Check != dpopbind.CheckATH || !strings.Contains(e.Description, row.want) {
			t.Errorf("%s: %v", row.name, err)
		}
	}
}

// The proofs of RFC 9449 §4.1 and §7.1, whose key's thumbprint is the jkt of
// §6.1.
func TestTheProofsOfTheRFCAreAcceptedAtTheirTime(t *testing.T) {
	const jkt = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"
	for _, row := range []struct {
		file, method, url, jti, token string
		iat                           int64
	}{
		{"rfc9449-token.jwt", "POST", "https://server.example.com/token", "-BwC3ESc6acc2lTc", "", 1562262616},
		{"rfc9449-resource.jwt", "GET", "https://resource.example.org/protectedresource", "e1j3V_bKic8-LAEB",
			"Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU", 1562262618},
	} {
		raw, err := os.ReadFile("testdata/" + row.file)
		if err != nil {
			t.Fatal(err)
		}
		iat := time.Unix(row.iat, 0)
		c, target := newChecker(t, iat), newTarget(t, row.method, row.url)
		check := c.Check
		if row.token != "" {
			check = func(proof string, t dpopbind.Target) (*dpopbind.Proof, error) {
				return c.CheckWithToken(proof, t, row.token)
			}
		}
		p, err := check(strings.TrimSpace(string(raw)), target)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.VerifySignature(); err != nil {
			t.Error(err)
		}
		got := fmt.Sprintln(p.JKT(), p.JTI(), p.HTU(), p.IssuedAt().Unix(), p.AcceptedUntil().Unix(), p.Algorithm(), p.Nonce())
		want := fmt.Sprintln(jkt, row.jti, row.url, row.iat, row.iat+75, dpopbind.ES256, "")
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	}
}

func TestATargetTakesEachOfItsURLsAndNamesTheFirst(t *testing.T) {
	target := newTarget(t, method, "HTTPS://AS.example:443/token?x#y", "https://alias.example/token")
	c := newChecker(t, now)
	for _, url := range []string{"https://as.example/token", "https://ALIAS.example/token"} {
		if _, err := c.Check(prooftest.New(now, method, url).String(), target); err != nil {
			t.Errorf("%s: %v", url, err)
		}
	}
	_, err := c.Check(prooftest.New(now, method, "https://other.example/token").String(), target)
	want := "htu: is 'https://other.example/token' and must be 'https://as.example/token'"
	if diff := cmp.Diff(want, asProofError(t, err).Description); diff != "" {
		t.Error(diff)
	}
}

func TestAnHTUWithAPasswordIsNotRepeated(t *testing.T) {
	proof := prooftest.New(now, method, "https://user:hunter2@as.example/token").String()
	_, err := newChecker(t, now).Check(proof, newTarget(t, method, tokenURL))
	if e := asProofError(t, err); strings.Contains(e.Error(), "hunter2") {
		t.Errorf("the error repeats it: %v", e)
	}
}

func TestTargetsThatNoProofCouldMeetAreRefused(t *testing.T) {
	for name, make := range map[string]func() (dpopbind.Target, error){
		"no method":    func() (dpopbind.Target, error) { return dpopbind.NewTarget("", tokenURL) },
		"bad method":   func() (dpopbind.Target, error) { return dpopbind.NewTarget("PO ST", tokenURL) },
		"no URL":       func() (dpopbind.Target, error) { return dpopbind.NewTarget(method) },
		"relative URL": func() (dpopbind.Target, error) { return dpopbind.NewTarget(method, tokenURL, "/token") },
	} {
		if _, err := make(); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestACheckerRefusesAnUnsafeConfiguration(t *testing.T) {
	for name, cfg := range map[string]dpopbind.CheckerConfig{
		"unknown algorithm":  {Algorithms: []dpopbind.Algorithm{"HS256"}},
		"no algorithm":       {Algorithms: []dpopbind.Algorithm{""}},
		"repeated algorithm": {Algorithms: []dpopbind.Algorithm{"ES256", "RS256", "ES256"}},
		"negative lifetime":  {Lifetime: -1},
		"tiny lifetime":      {Lifetime: time.Millisecond},
		"long lifetime":      {Lifetime: time.Hour},
		"negative skew":      {ClockSkew: -1},
		"long skew":          {ClockSkew: time.Hour},
	} {
		if _, err := dpopbind.NewChecker(cfg); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestOnlyTheOfferedAlgorithmsAreTaken(t *testing.T) {
	c, err := dpopbind.NewChecker(dpopbind.CheckerConfig{Algorithms: []dpopbind.Algorithm{dpopbind.EdDSA, dpopbind.PS256}})
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Check(prooftest.New(time.Now(), method, tokenURL).String(), newTarget(t, method, tokenURL))
	if diff := cmp.Diff("alg: must be one of EdDSA, PS256", asProofError(t, err).Description); diff != "" {
		t.Error(diff)
	}
}
