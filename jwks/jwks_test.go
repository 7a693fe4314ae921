package jwks_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"

	"github.com/cargokey/authz/jwks"
)

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func sealer(t *testing.T, fill byte) *jwks.Sealer {
	t.Helper()
	s, err := jwks.NewSealer(bytes.Repeat([]byte{fill}, jwks.SealingKeySize))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func generate(t *testing.T, signsFrom time.Time) *jwks.Key {
	t.Helper()
	k, err := jwks.Generate(jwks.ES256, signsFrom, signsFrom)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func set(t *testing.T, keys ...*jwks.Key) *jwks.Set {
	t.Helper()
	s, err := jwks.NewSet(keys)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func sign(t *testing.T, s *jwks.Set, now time.Time, payload string) string {
	t.Helper()
	token, _, err := s.Sign(now, jwks.ES256, jwks.TypeAccessToken, []byte(payload))
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func TestSealedKeyOpensAndSignsTheSame(t *testing.T) {
	s, key := sealer(t, 1), generate(t, epoch)
	sealed, err := s.Seal(key)
	if err != nil {
		t.Fatal(err)
	}
	opened, err := s.Open(sealed)
	if err != nil {
		t.Fatal(err)
	}
	if opened.KID != key.KID || !opened.SignsFrom.Equal(key.SignsFrom) || !opened.CreatedAt.Equal(key.CreatedAt) {
		t.Errorf("opened %+v, sealed %+v", opened, key)
	}
	if _, err := set(t, key).Verify(sign(t, set(t, opened), epoch, "x"), jwks.TypeAccessToken); err != nil {
		t.Errorf("the opened key is another one: %v", err)
	}
	again, err := s.Seal(key)
	if err != nil || bytes.Equal(again.Sealed, sealed.Sealed) {
		t.Error("a nonce was used twice")
	}
}

func TestAlteredSealedKeyDoesNotOpen(t *testing.T) {
	s := sealer(t, 1)
	sealed, err := s.Seal(generate(t, epoch))
	if err != nil {
		t.Fatal(err)
	}
	other, err := s.Seal(generate(t, epoch))
	if err != nil {
		t.Fatal(err)
	}
	for i := range sealed.Sealed {
		altered := sealed
		altered.Sealed = bytes.Clone(sealed.Sealed)
		altered.Sealed[i] ^= 1
		if _, err := s.Open(altered); err == nil {
			t.Fatalf("byte %d altered: it opens", i)
		}
	}
	for name, alter := range map[string]func(*jwks.SealedKey){
		"empty":              func(k *jwks.SealedKey) { k.Sealed = nil },
		"cut to the nonce":   func(k *jwks.SealedKey) { k.Sealed = k.Sealed[:12] },
		"another's name":     func(k *jwks.SealedKey) { k.KID = other.KID },
		"another's content":  func(k *jwks.SealedKey) { k.Sealed = other.Sealed },
		"another algorithm":  func(k *jwks.SealedKey) { k.Algorithm = jwks.EdDSA },
		"none we know":       func(k *jwks.SealedKey) { k.Algorithm = "HS256" },
		"another sealed it":  func(k *jwks.SealedKey) { k.SealedBy = "x" },
		"made earlier":       func(k *jwks.SealedKey) { k.CreatedAt = k.CreatedAt.Add(-time.Hour) },
		"signing earlier":    func(k *jwks.SealedKey) { k.SignsFrom = k.SignsFrom.Add(-time.Hour) },
		"with one byte more": func(k *jwks.SealedKey) { k.Sealed = append(bytes.Clone(k.Sealed), 0) },
	} {
		altered := sealed
		alter(&altered)
		if _, err := s.Open(altered); err == nil {
			t.Errorf("%s: it opens", name)
		}
	}
}

func TestAnotherSealingKeyIsNamedInTheError(t *testing.T) {
	sealed, err := sealer(t, 1).Seal(generate(t, epoch))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := sealer(t, 2).Open(sealed); !errors.Is(err, jwks.ErrSealedByAnother) {
		t.Errorf("%v", err)
	}
	for _, size := range []int{0, 16, 31, 33} {
		if _, err := jwks.NewSealer(make([]byte, size)); err == nil {
			t.Errorf("a sealing key of %d bytes is taken", size)
		}
	}
}

func TestTheLatestKeyThatMaySignSigns(t *testing.T) {
	first, second := generate(t, epoch), generate(t, epoch.Add(time.Hour))
	s := set(t, second, first)
	for _, c := range []struct {
		name string
		now  time.Time
		want *jwks.Key
	}{
		{"a clock behind all keys", epoch.Add(-time.Hour), first},
		{"at the first", epoch, first},
		{"a moment before the second", epoch.Add(time.Hour - 1), first},
		{"at the second", epoch.Add(time.Hour), second},
		{"long after", epoch.Add(1000 * time.Hour), second},
	} {
		token, kid, err := s.Sign(c.now, jwks.ES256, jwks.TypeAccessToken, []byte("x"))
		if err != nil || kid != c.want.KID {
			t.Errorf("%s: named %s, %v; want %s", c.name, kid, err, c.want.KID)
		}
		jws, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.ES256})
		if err != nil {
			t.Fatal(err)
		}
		if got := jws.Signatures[0].Protected.KeyID; got != c.want.KID {
			t.Errorf("%s: signed by %s, want %s", c.name, got, c.want.KID)
		}
		if payload, err := s.Verify(token, jwks.TypeAccessToken); err != nil || string(payload) != "x" {
			t.Errorf("%s: %q, %v", c.name, payload, err)
		}
	}
}

func TestVerifyRefusesWhatTheSetDidNotSignSo(t *testing.T) {
	s := set(t, generate(t, epoch))
	token := sign(t, s, epoch, `{"a":1}`)
	parts := strings.Split(token, ".")
	encode := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
	kid := s2kid(t, s)
	for name, bad := range map[string]string{
		"empty":               "",
		"a line break":        parts[0] + "\n." + parts[1] + "." + parts[2],
		"a space":             token + " ",
		"no signature":        parts[0] + "." + parts[1] + ".",
		"alg none":            encode(`{"alg":"none","typ":"at+jwt","kid":"`+kid+`"}`) + "." + parts[1] + ".",
		"alg HS256":           encode(`{"alg":"HS256","typ":"at+jwt","kid":"`+kid+`"}`) + "." + parts[1] + "." + parts[2],
		"other claims":        parts[0] + "." + encode(`{"a":2}`) + "." + parts[2],
		"another key's token": sign(t, set(t, generate(t, epoch)), epoch, `{"a":1}`),
		"JSON serialization":  `{"payload":"` + parts[1] + `","protected":"` + parts[0] + `","signature":"` + parts[2] + `"}`,
	} {
		if _, err := s.Verify(bad, jwks.TypeAccessToken); !errors.Is(err, jwks.ErrInvalidToken) && !errors.Is(err, jwks.ErrUnknownKey) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := s.Verify(token, "JWT"); !errors.Is(err, jwks.ErrInvalidToken) {
		t.Errorf("another type: %v", err)
	}
	if _, _, err := s.Sign(epoch, jwks.ES256, "JWT", nil); err == nil {
		t.Error("a type that is not known was signed")
	}
}

func TestNoTypeVerifiesAsAnother(t *testing.T) {
	s := set(t, generate(t, epoch))
	for _, signed := range jwks.Types() {
		token, _, err := s.Sign(epoch, jwks.ES256, signed, []byte("x"))
		if err != nil {
			t.Fatal(err)
		}
		for _, asked := range append(jwks.Types(), "JWT", "", strings.ToUpper(signed), "application/"+signed) {
			payload, err := s.Verify(token, asked)
			if asked == signed {
				if err != nil || string(payload) != "x" {
					t.Errorf("%s: %q, %v", signed, payload, err)
				}
			} else if !errors.Is(err, jwks.ErrInvalidToken) {
				t.Errorf("%s verifies as %q: %v", signed, asked, err)
			}
		}
	}
}

func s2kid(t *testing.T, s *jwks.Set) string {
	t.Helper()
	document, _ := s.Published(epoch)
	var published jose.JSONWebKeySet
	if err := json.Unmarshal(document, &published); err != nil {
		t.Fatal(err)
	}
	return published.Keys[0].KeyID
}

func TestPublishedSetIsPublicAndItsETagFollowsIt(t *testing.T) {
	one, two := generate(t, epoch), generate(t, epoch.Add(time.Hour))
	document, etag := set(t, one, two).Published(epoch)
	var raw struct{ Keys []map[string]any }
	if err := json.Unmarshal(document, &raw); err != nil {
		t.Fatal(err)
	}
	var kids []string
	for _, k := range raw.Keys {
		if k["d"] != nil || k["use"] != "sig" || k["alg"] != "ES256" {
			t.Errorf("%v", k)
		}
		kids = append(kids, k["kid"].(string))
	}
	if diff := cmp.Diff([]string{one.KID, two.KID}, kids); diff != "" {
		t.Errorf("kids (-want +got):\n%s", diff)
	}
	if _, same := set(t, two, one).Published(epoch); same != etag {
		t.Error("the order of loading changes the ETag")
	}
	if _, other := set(t, one).Published(epoch); other == etag {
		t.Error("another set has the same ETag")
	}
	if _, err := jwks.NewSet(nil); err == nil {
		t.Error("a set without keys was made")
	}
}

func TestKeysDoNotPrintThemselves(t *testing.T) {
	key, s := generate(t, epoch), sealer(t, 7)
	sealed, err := s.Seal(key)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "key", key, "sealer", s)
	fmt.Fprintf(&out, "%v %+v %#v %s %v %+v %#v", key, key, key, key, s, s, s)
	for _, secret := range []string{"PrivateKey", "\x07\x07", "0x7, 0x7", "7 7 7", base64.StdEncoding.EncodeToString(sealed.Sealed)} {
		if strings.Contains(out.String(), secret) {
			t.Errorf("%q is in %s", secret, out.String())
		}
	}
}

func FuzzVerify(f *testing.F) {
	key, err := jwks.Generate(jwks.ES256, epoch, epoch)
	if err != nil {
		f.Fatal(err)
	}
	s, err := jwks.NewSet([]*jwks.Key{key})
	if err != nil {
		f.Fatal(err)
	}
	good, _, err := s.Sign(epoch, jwks.ES256, jwks.TypeAccessToken, []byte(`{"a":1}`))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add("..")
	f.Add(`{"payload":"","signatures":[]}`)
	f.Fuzz(func(t *testing.T, token string) {
		payload, err := s.Verify(token, jwks.TypeAccessToken)
		if err == nil && string(payload) != `{"a":1}` {
			t.Errorf("%q verifies as %q", token, payload)
		}
	})
}

func BenchmarkSign(b *testing.B) {
	key, _ := jwks.Generate(jwks.ES256, epoch, epoch)
	s, _ := jwks.NewSet([]*jwks.Key{key})
	payload := bytes.Repeat([]byte("x"), 300)
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := s.Sign(epoch, jwks.ES256, jwks.TypeAccessToken, payload); err != nil {
			b.Fatal(err)
		}
	}
}
