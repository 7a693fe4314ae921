package dpopbind_test

import (
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cargokey/authz/dpopbind"
	"github.com/cargokey/authz/dpopbind/prooftest"
)

const endorsementIssuer = "https://as.example"

// endorsementDraft is a good endorsement, to be spoiled.
func endorsementDraft(jkt string) *prooftest.Draft {
	return prooftest.New(now, method, tokenURL).Without("htm").Without("htu").
		Header("typ", `"dpop-key-endorsement+jwt"`).
		Claim("iss", `"shop"`).Claim("aud", `"`+endorsementIssuer+`"`).Claim("jkt", `"`+jkt+`"`).
		Claim("exp", unix(now.Add(time.Minute)))
}

func unix(t time.Time) string { return strconv.FormatInt(t.Unix(), 10) }

func generated(t testing.TB) *dpopbind.Key {
	t.Helper()
	k, err := dpopbind.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestAnEndorsementThatAKeyMakesIsAccepted(t *testing.T) {
	c, old, next := newChecker(t, now), generated(t), generated(t)
	text, err := old.Endorse(endorsementIssuer, "shop", next.JKT(), now)
	if err != nil {
		t.Fatal(err)
	}
	e, err := c.CheckEndorsement(text, endorsementIssuer)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.VerifySignature(); err != nil {
		t.Fatal(err)
	}
	if e.ClientID() != "shop" || e.By() != old.JKT() || e.JKT() != next.JKT() || !e.IssuedAt().Equal(now.Truncate(time.Second)) {
		t.Errorf("it says %q by %s for %s at %s", e.ClientID(), e.By(), e.JKT(), e.IssuedAt())
	}
	for _, at := range []time.Duration{-dpopbind.DefaultClockSkew, time.Minute + dpopbind.DefaultClockSkew - time.Second} {
		if _, err := newChecker(t, now.Add(at)).CheckEndorsement(text, endorsementIssuer); err != nil {
			t.Errorf("%s after: %v", at, err)
		}
	}
}

func TestAnEndorsementAndAProofAreNotTakenForEachOther(t *testing.T) {
	c, key := newChecker(t, now), generated(t)
	text, err := key.Endorse(endorsementIssuer, "shop", generated(t).JKT(), now)
	if err != nil {
		t.Fatal(err)
	}
	var refused *dpopbind.ProofError
	if _, err := c.Check(text, newTarget(t, method, tokenURL)); !errors.As(err, &refused) || refused.Check != dpopbind.CheckTyp {
		t.Errorf("as a proof: %v", err)
	}
	if _, err := c.CheckEndorsement(prooftest.New(now, method, tokenURL).String(), endorsementIssuer); err == nil {
		t.Error("a proof is an endorsement")
	}
}

func TestBadEndorsementsAreRefusedByTheirSentence(t *testing.T) {
	c, next := newChecker(t, now), generated(t).JKT()
	own := check(t, prooftest.New(now, method, tokenURL).String()).JKT()
	for _, row := range []struct{ name, endorsement, want string }{
		{"empty", "", "compact serialization"},
		{"too long", strings.Repeat("a", 9000), "compact serialization"},
		{"two segments", "e30.e30", "compact serialization"},
		{"with a line break", endorsementDraft(next).String() + "\n", "compact serialization"},
		{"not canonical base64", "e31.e30.e30", "canonical"},
		{"no JSON", "e3s.e30.e30", "JSON"},
		{"a proof's typ", endorsementDraft(next).Header("typ", `"dpop+jwt"`).String(), "typ"},
		{"typ in capitals", endorsementDraft(next).Header("typ", `"DPOP-KEY-ENDORSEMENT+JWT"`).String(), "typ"},
		{"no typ", endorsementDraft(next).Without("typ").String(), "typ"},
		{"alg none", endorsementDraft(next).Header("alg", `"none"`).String(), "alg"},
		{"a MAC", endorsementDraft(next).Header("alg", `"HS256"`).String(), "alg"},
		{"another algorithm than the key's", endorsementDraft(next).Header("alg", `"EdDSA"`).String(), "jwk"},
		{"crit", endorsementDraft(next).Header("crit", `[]`).String(), "critical"},
		{"b64", endorsementDraft(next).Header("b64", `false`).String(), "critical"},
		{"no jwk", endorsementDraft(next).Header("jwk", `"x"`).String(), "JWK object"},
		{"a private jwk", endorsementDraft(next).JWK("d", `"AA"`).String(), "public key"},
		{"a short signature", endorsementDraft(next).Signature(func(string) []byte { return []byte("short") }).String(), "signature"},
		{"claims twice", endorsementDraft(next).AlsoClaim("iss", `"other"`).String(), "ambiguous"},
		{"no iss", endorsementDraft(next).Without("iss").String(), "iss"},
		{"iss is a number", endorsementDraft(next).Claim("iss", "1").String(), "iss"},
		{"another server", endorsementDraft(next).Claim("aud", `"https://other.example"`).String(), "aud"},
		{"the issuer with a slash", endorsementDraft(next).Claim("aud", `"`+endorsementIssuer+`/"`).String(), "aud"},
		{"a list of audiences", endorsementDraft(next).Claim("aud", `["`+endorsementIssuer+`"]`).String(), "aud"},
		{"no jkt", endorsementDraft(next).Without("jkt").String(), "jkt"},
		{"a short jkt", endorsementDraft(next[:42]).String(), "jkt"},
		{"a jkt of another encoding", endorsementDraft(next[:42] + "_").String(), "jkt"},
		{"no jti", endorsementDraft(next).Without("jti").String(), "jti"},
		{"a long jti", endorsementDraft(next).Claim("jti", `"`+strings.Repeat("a", 257)+`"`).String(), "jti"},
		{"no iat", endorsementDraft(next).Without("iat").String(), "iat"},
		{"no exp", endorsementDraft(next).Without("exp").String(), "iat and exp"},
		{"exp is text", endorsementDraft(next).Claim("exp", `"soon"`).String(), "iat and exp"},
		{"too long a life", endorsementDraft(next).Claim("exp", unix(now.Add(301*time.Second))).String(), "5 minutes"},
		{"no life", endorsementDraft(next).Claim("exp", unix(now)).String(), "after its iat"},
		{"from the future", endorsementDraft(next).Claim("iat", unix(now.Add(16*time.Second))).String(), "future"},
		{"expired", endorsementDraft(next).Claim("iat", unix(now.Add(-200*time.Second))).Claim("exp", unix(now.Add(-15*time.Second))).String(), "expired"},
		{"for itself", endorsementDraft(own).String(), "itself"},
	} {
		e, err := c.CheckEndorsement(row.endorsement, endorsementIssuer)
		if err == nil {
			t.Errorf("%s: accepted, by %s", row.name, e.By())
			continue
		}
		var refused dpopbind.EndorsementError
		if !errors.As(err, &refused) || !strings.Contains(string(refused), row.want) {
			t.Errorf("%s: %v, want a sentence about %s", row.name, err, row.want)
		}
	}
	e, err := c.CheckEndorsement(endorsementDraft(next).Signature(func(string) []byte { return make([]byte, 64) }).String(), endorsementIssuer)
	if err != nil {
		t.Fatal(err)
	}
	var refused dpopbind.EndorsementError
	if err := e.VerifySignature(); !errors.As(err, &refused) {
		t.Errorf("a signature of nothing: %v", err)
	}
}

func TestAnEndorsementIsSpentByItsKeyAndItsJTIAlone(t *testing.T) {
	c := newChecker(t, now)
	spend := func(d *prooftest.Draft) [32]byte {
		t.Helper()
		e, err := c.CheckEndorsement(d.Claim("jti", `"one"`).String(), endorsementIssuer)
		if err != nil {
			t.Fatal(err)
		}
		return e.SpendKey()
	}
	first := spend(endorsementDraft(generated(t).JKT()))
	if spend(endorsementDraft(generated(t).JKT()).Claim("exp", unix(now.Add(2*time.Minute)))) != first {
		t.Error("another key and another end make it another one")
	}
	if check(t, prooftest.New(now, method, tokenURL).Claim("jti", `"one"`).String()).SpendKey() == first {
		t.Error("a proof of the same jti is the same")
	}
}

func TestAnEndorsementIsNotMadeOfWhatCannotBeOne(t *testing.T) {
	key, next := generated(t), generated(t).JKT()
	for _, row := range [][3]string{
		{"", "shop", next}, {endorsementIssuer, "", next}, {endorsementIssuer, "shop", ""}, {endorsementIssuer, "shop", next + "A"},
		{endorsementIssuer, `a","jkt":"b`, next}, {endorsementIssuer + "\n", "shop", next},
	} {
		if _, err := key.Endorse(row[0], row[1], row[2], now); err == nil {
			t.Errorf("%q: made", row)
		}
	}
}

func FuzzCheckEndorsement(f *testing.F) {
	jkt := generated(f).JKT()
	f.Add(endorsementDraft(jkt).String())
	f.Add(endorsementDraft(jkt).Claim("jti", `"\u006fne"`).String())
	f.Add(endorsementDraft(jkt).Claim("aud", `[]`).String())
	f.Add(prooftest.New(now, method, tokenURL).String())
	c, target := newChecker(f, now), newTarget(f, method, tokenURL)
	f.Fuzz(func(t *testing.T, text string) {
		e, err := c.CheckEndorsement(text, endorsementIssuer)
		if err != nil {
			var refused dpopbind.EndorsementError
			if !errors.As(err, &refused) || e != nil {
				t.Errorf("%v, %v", e, err)
			}
			return
		}
		if e.ClientID() == "" || len(e.By()) != 43 || len(e.JKT()) != 43 || e.By() == e.JKT() || e.IssuedAt().IsZero() {
			t.Errorf("accepted with odd claims: %v", e)
		}
		if _, err := c.Check(text, target); err == nil {
			t.Error("it is a proof too")
		}
		if e.VerifySignature() != nil {
			return
		}
		other, err := c.CheckEndorsement(prooftest.OtherS(text), endorsementIssuer)
		if err == nil && other.SpendKey() != e.SpendKey() {
			t.Error("with its other s it is another one")
		}
	})
}
