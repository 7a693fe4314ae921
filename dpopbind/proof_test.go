package dpopbind_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/cargokey/authz/dpopbind"
	"github.com/cargokey/authz/dpopbind/prooftest"
)

func check(t testing.TB, proof string) *dpopbind.Proof {
	t.Helper()
	p, err := newChecker(t, now).Check(proof, newTarget(t, method, tokenURL, "https://b.example/token"))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestAProofWithItsOtherSIsSpentAsTheSame(t *testing.T) {
	raw := prooftest.New(now, method, tokenURL).String()
	p, q := check(t, raw), check(t, prooftest.OtherS(raw))
	if err := q.VerifySignature(); err != nil {
		t.Fatal(err)
	}
	if p.SpendKey() != q.SpendKey() {
		t.Error("the spend keys differ")
	}
}

func TestAProofIsSpentByItsKeyItsHTUAndItsJTIAlone(t *testing.T) {
	d := func() *prooftest.Draft { return prooftest.New(now, method, tokenURL).Claim("jti", `"one"`) }
	first := check(t, d().String()).SpendKey()
	for name, same := range map[string]*prooftest.Draft{
		"signed again":             d(),
		"another order of members": d().Without("jti").Claim("jti", `"one"`),
		"an escaped jti":           d().Claim("jti", `"\u006fne"`),
		"an unnormalised htu":      d().Claim("htu", `"HTTPS://as.example:443/./oauth2/token?x"`),
		"another iat":              d().Claim("iat", "1759999990"),
		"a kid in the jwk":         d().JWK("kid", `"k"`),
	} {
		if check(t, same.String()).SpendKey() != first {
			t.Errorf("%s: spent as another proof", name)
		}
	}
	for name, other := range map[string]*prooftest.Draft{
		"another jti": d().Claim("jti", `"two"`),
		"another htu": d().Claim("htu", `"https://b.example/token"`),
	} {
		if check(t, other.String()).SpendKey() == first {
			t.Errorf("%s: spent as the same proof", name)
		}
	}
	key, err := dpopbind.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := key.Proof(method, tokenURL, now, dpopbind.ProofOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if p := check(t, raw); p.SpendKey() == first || p.JKT() != key.JKT() {
		t.Error("another key: spent as the same proof")
	}
}

func TestNeitherLogsNorFormatsRevealAProof(t *testing.T) {
	raw := prooftest.New(now, method, tokenURL).Claim("jti", `"jti-secret"`).Claim("nonce", `"nonce-secret"`).String()
	p := check(t, raw)
	var out bytes.Buffer
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", "proof", p, "value", *p)
	slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "proof", p, "value", *p, slog.Group("g", "p", p))
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d", "%x"} {
		fmt.Fprintf(&out, verb+verb, p, *p)
		fmt.Fprintf(&out, verb, struct{ P *dpopbind.Proof }{p})
	}
	if err := json.NewEncoder(&out).Encode([]any{p, *p}); err != nil {
		t.Fatal(err)
	}
	segments := strings.Split(raw, ".")
	for _, secret := range append(segments, "jti-secret", "nonce-secret") {
		if strings.Contains(out.String(), secret) {
			t.Errorf("the output holds %q:\n%s", secret, &out)
		}
	}
	if !strings.Contains(out.String(), p.JKT()) {
		t.Error("the output does not name the key")
	}
	var zero dpopbind.Proof
	fmt.Fprint(&out, zero, zero.LogValue())
}
