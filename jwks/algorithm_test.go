package jwks_test

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"github.com/cargokey/authz/jwks"
)

func kidsOf(t *testing.T, document []byte) []string {
	t.Helper()
	var published jose.JSONWebKeySet
	if err := json.Unmarshal(document, &published); err != nil {
		t.Fatal(err)
	}
	var kids []string
	for _, k := range published.Keys {
		kids = append(kids, k.KeyID)
	}
	return kids
}

// What a key signs verifies by the JWKS alone, by another's code, as its own
// algorithm and as no other; also after it was sealed and opened.
func TestEveryAlgorithmSignsWhatTheJWKSVerifies(t *testing.T) {
	var keys []*jwks.Key
	for _, a := range jwks.Algorithms() {
		key, err := jwks.Generate(a, epoch, epoch)
		if err != nil {
			t.Fatal(err)
		}
		sealed, err := sealer(t, 1).Seal(key)
		if err != nil {
			t.Fatal(err)
		}
		if key, err = sealer(t, 1).Open(sealed); err != nil {
			t.Fatal(err)
		}
		keys = append(keys, key)
	}
	s := set(t, keys...)
	document, _ := s.Published(epoch)
	var published jose.JSONWebKeySet
	if err := json.Unmarshal(document, &published); err != nil {
		t.Fatal(err)
	}
	for i, a := range jwks.Algorithms() {
		token, kid, err := s.Sign(epoch, a, jwks.TypeAccessToken, []byte("x"))
		if err != nil || kid != keys[i].KID {
			t.Fatalf("%s: by %s, %v", a, kid, err)
		}
		if payload, err := s.Verify(token, jwks.TypeAccessToken); err != nil || string(payload) != "x" {
			t.Errorf("%s: %q, %v", a, payload, err)
		}
		if payload, err := set(t, keys[i]).Verify(token, jwks.TypeAccessToken); err != nil || string(payload) != "x" {
			t.Errorf("%s: %q, %v", a, payload, err)
		}
		public := published.Key(kid)
		if len(public) != 1 || public[0].Algorithm != string(a) || public[0].Use != "sig" || !public[0].IsPublic() {
			t.Fatalf("%s is published as %+v", a, public)
		}
		for _, b := range jwks.Algorithms() {
			jws, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.SignatureAlgorithm(b)})
			if (err == nil) != (a == b) {
				t.Errorf("%s as %s: %v", a, b, err)
			}
			if a == b {
				if h := jws.Signatures[0].Protected; h.KeyID != kid || h.Algorithm != string(a) || h.ExtraHeaders["typ"] != jwks.TypeAccessToken {
					t.Errorf("%s: header %+v", a, h)
				}
				if payload, err := jws.Verify(public[0].Key); err != nil || string(payload) != "x" {
					t.Errorf("%s, by its published key: %q, %v", a, payload, err)
				}
			}
		}
		if public, ok := public[0].Key.(*rsa.PublicKey); ok && public.N.BitLen() != 3072 {
			t.Errorf("%s: %d bits", a, public.N.BitLen())
		}
		if public, ok := public[0].Key.(*rsa.PublicKey); ok && a == jwks.PS256 { // RFC 7518 §3.5: a salt of the hash's length
			at := strings.LastIndex(token, ".")
			signature, _ := base64.RawURLEncoding.DecodeString(token[at+1:])
			digest := sha256.Sum256([]byte(token[:at]))
			if err := rsa.VerifyPSS(public, crypto.SHA256, digest[:], signature, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}); err != nil {
				t.Error(err)
			}
		}
		if public, ok := public[0].Key.(ed25519.PublicKey); a == jwks.EdDSA && !ok {
			t.Errorf("EdDSA by a %T", public)
		}
	}
	// One RSA key's signature by the other algorithm is none.
	ps, _, _ := s.Sign(epoch, jwks.PS256, jwks.TypeAccessToken, []byte("x"))
	rs, _, _ := s.Sign(epoch, jwks.RS256, jwks.TypeAccessToken, []byte("x"))
	head, _, _ := strings.Cut(rs, ".")
	_, tail, _ := strings.Cut(ps, ".")
	if _, err := s.Verify(head+"."+tail, jwks.TypeAccessToken); !errors.Is(err, jwks.ErrInvalidToken) {
		t.Errorf("PS256 under the name of RS256: %v", err)
	}
	if _, err := jwks.Generate("HS256", epoch, epoch); err == nil {
		t.Error("a key for HS256 was made")
	}
}

func TestFirstSealingKeySealsAndAllOpen(t *testing.T) {
	raw := func(fill byte) []byte { return []byte(strings.Repeat(string(rune(fill)), jwks.SealingKeySize)) }
	both, err := jwks.NewSealer(raw(1), raw(2))
	if err != nil {
		t.Fatal(err)
	}
	first, second := sealer(t, 1), sealer(t, 2)
	if both.ID() != first.ID() || first.ID() == second.ID() {
		t.Errorf("it is named %s; the two are %s and %s", both.ID(), first.ID(), second.ID())
	}
	key := generate(t, epoch)
	old, err := second.Seal(key)
	if err != nil {
		t.Fatal(err)
	}
	opened, err := both.Open(old)
	if err != nil {
		t.Fatal(err)
	}
	anew, err := both.Seal(opened)
	if err != nil || anew.SealedBy != first.ID() {
		t.Fatalf("sealed by %s, %v", anew.SealedBy, err)
	}
	if _, err := first.Open(anew); err != nil {
		t.Error(err)
	}
	// What is missing is named as it is stored.
	if _, err := first.Open(old); !errors.Is(err, jwks.ErrSealedByAnother) || !strings.Contains(err.Error(), second.ID()) || !strings.Contains(err.Error(), first.ID()) {
		t.Errorf("%v", err)
	}
	if _, err := jwks.NewSealer(); err == nil {
		t.Error("a sealer without keys was made")
	}
	if _, err := jwks.NewSealer(raw(1), raw(2)[1:]); err == nil {
		t.Error("a second key of 31 bytes is taken")
	}
}
