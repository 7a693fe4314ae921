package dpopbind_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/cargokey/authz/dpopbind"
)

func newNonces(t testing.TB, now func() time.Time, secrets ...string) *dpopbind.Nonces {
	t.Helper()
	cfg := dpopbind.NonceConfig{Now: now}
	for _, secret := range secrets {
		cfg.Secrets = append(cfg.Secrets, []byte(strings.Repeat(secret, dpopbind.MinNonceSecret)))
	}
	return must(dpopbind.NewNonces(cfg))
}

func TestANonceLivesFromOneStepBeforeItsOwnToOneAfter(t *testing.T) {
	server, other := newClock(), newClock() // two instances' clocks
	checks, mints := newNonces(t, server.now, "a"), newNonces(t, other.now, "a")
	const step = dpopbind.DefaultNonceStep
	for steps, want := range map[time.Duration]dpopbind.NonceState{
		-100: dpopbind.NonceInvalid, -3: dpopbind.NonceInvalid, -2: dpopbind.NonceInvalid, -1: dpopbind.NonceAging,
		0: dpopbind.NonceFresh, 1: dpopbind.NonceFresh, 2: dpopbind.NonceInvalid, 100: dpopbind.NonceInvalid,
	} {
		other.at.Store(server.at.Load())
		other.advance(steps * step)
		if got := checks.Check(mints.Current()); got != want {
			t.Errorf("a nonce of %d steps away: %v, want %v", steps, got, want)
		}
	}
}

func TestOneNonceIsHandedOutForAWholeStep(t *testing.T) {
	c := &clock{}
	c.at.Store(now.Truncate(dpopbind.DefaultNonceStep).UnixNano())
	n := newNonces(t, c.now, "a")
	first := n.Current()
	c.advance(dpopbind.DefaultNonceStep - 1)
	if n.Current() != first {
		t.Error("it changed within its step")
	}
	c.advance(1)
	if n.Current() == first {
		t.Error("it did not change with the step")
	}
}

func TestANonceThatWasNotMadeHereIsInvalid(t *testing.T) {
	at := func() time.Time { return now }
	n := newNonces(t, at, "a")
	good := n.Current()
	for name, nonce := range map[string]string{
		"empty": "", "short": "A", "cut": good[:len(good)-1], "extended": good + "A", "padded": good + "=", "line break": good + "\n",
		"line break within": good[:8] + "\n" + good[8:], "of another secret": newNonces(t, at, "b").Current(),
		"zeros": strings.Repeat("A", 32), "a space": " " + good, "long": strings.Repeat(good, 100), "not base64url": strings.Repeat("+", 32),
	} {
		if n.Check(nonce) != dpopbind.NonceInvalid {
			t.Errorf("%s: accepted", name)
		}
	}
	raw := must(base64.RawURLEncoding.DecodeString(good))
	for bit := range len(raw) * 8 {
		tampered := bytes.Clone(raw)
		tampered[bit/8] ^= 1 << (bit % 8)
		if n.Check(base64.RawURLEncoding.EncodeToString(tampered)) != dpopbind.NonceInvalid {
			t.Errorf("accepted with bit %d flipped", bit)
		}
	}
}

func TestSecretsAreRotatedWithoutAnInvalidMoment(t *testing.T) {
	c := newClock()
	// Two instances, one of which is configured before the other at each step.
	stages := [][]string{{"a"}, {"a", "b"}, {"b", "a"}, {"b"}}
	for i := range len(stages) - 1 {
		before, after := newNonces(t, c.now, stages[i]...), newNonces(t, c.now, stages[i+1]...)
		minted := before.Current()
		if i == len(stages)-2 { // the old secret goes when its last nonce is too old
			c.advance(2 * dpopbind.DefaultNonceStep)
		}
		for _, pair := range [][2]*dpopbind.Nonces{{before, after}, {after, before}} {
			if pair[1].Check(pair[0].Current()) != dpopbind.NonceFresh {
				t.Errorf("stage %d: an instance refuses the other's nonce", i)
			}
		}
		if i < len(stages)-2 && after.Check(minted) != dpopbind.NonceFresh {
			t.Errorf("stage %d: a nonce from before is refused", i)
		}
	}
}

func TestANonceHasOnlyTheCharactersThatTheRFCAllows(t *testing.T) {
	c := newClock()
	n := newNonces(t, c.now, "a")
	for range 500 {
		nonce := n.Current()
		if nonce == "" || len(nonce) > 64 || strings.ContainsFunc(nonce, func(r rune) bool { // RFC 9449 §8.1: NQCHAR
			return r != 0x21 && (r < 0x23 || r > 0x5b) && (r < 0x5d || r > 0x7e)
		}) {
			t.Fatalf("%q", nonce)
		}
		c.advance(dpopbind.DefaultNonceStep)
	}
}

func TestNonceSecretsAreNotPrinted(t *testing.T) {
	secret := strings.Repeat("hunter2.", 4)
	n := must(dpopbind.NewNonces(dpopbind.NonceConfig{Secrets: [][]byte{[]byte(secret)}}))
	var out bytes.Buffer
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", "n", n, "value", *n)
	slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "n", n, "value", *n)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d", "%x"} {
		fmt.Fprintf(&out, verb+verb, n, *n)
	}
	if err := json.NewEncoder(&out).Encode([]any{n, *n}); err != nil {
		t.Fatal(err)
	}
	if text := out.String(); strings.Contains(text, "hunter2") || strings.Contains(text, hex.EncodeToString([]byte("hunter2"))) || len(text) > 1000 {
		t.Errorf("the output is %s", text)
	}
}

func TestNoncesRefuseAnUnsafeConfiguration(t *testing.T) {
	good := make([]byte, dpopbind.MinNonceSecret)
	for name, cfg := range map[string]dpopbind.NonceConfig{
		"no secret":         {},
		"an empty secret":   {Secrets: [][]byte{nil}},
		"a short secret":    {Secrets: [][]byte{good[1:]}},
		"a second short":    {Secrets: [][]byte{good, good[1:]}},
		"a short step":      {Secrets: [][]byte{good}, Step: time.Millisecond},
		"a negative step":   {Secrets: [][]byte{good}, Step: -time.Minute},
		"a step of 2 hours": {Secrets: [][]byte{good}, Step: 2 * time.Hour},
	} {
		if _, err := dpopbind.NewNonces(cfg); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
