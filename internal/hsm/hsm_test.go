//go:build pkcs11 && cgo

package hsm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/cargokey/authz/internal/hsm/hsmtest"
	"github.com/cargokey/authz/jwks"
)

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// A module's state is the process's: these tests do not run in parallel.
func newToken(t *testing.T) (*hsmtest.Token, Config) {
	t.Helper()
	token := hsmtest.New(t)
	t.Setenv("SOFTHSM2_CONF", token.Conf)
	return token, Config{Module: token.Module, Token: token.Label, PIN: token.PIN}
}

func open(t *testing.T, c Config) *HSM {
	t.Helper()
	h, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	return h
}

func makeKey(t *testing.T, h *HSM, a jwks.Algorithm) (jwks.SealedKey, *jwks.Key) {
	t.Helper()
	held, err := h.MakeKey(a, epoch, epoch)
	if err != nil {
		t.Fatal(err)
	}
	key, err := h.Open(held)
	if err != nil {
		t.Fatal(err)
	}
	return held, key
}

func set(t *testing.T, key *jwks.Key) *jwks.Set {
	t.Helper()
	s, err := jwks.NewSet([]*jwks.Key{key})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// eventually is for what needs a new connection, of which there is one a second.
func eventually(t *testing.T, do func() error) {
	t.Helper()
	var err error
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if err = do(); err == nil {
			return
		}
	}
	t.Fatal(err)
}

func TestEveryAlgorithmSignsInTheHSM(t *testing.T) {
	_, c := newToken(t)
	h := open(t, c)
	for _, a := range jwks.Algorithms() {
		if err := h.Check(a); err != nil {
			t.Fatal(err)
		}
		held, key := makeKey(t, h, a)
		if held.SealedBy != "pkcs11:token=authz%20test" {
			t.Errorf("held by %s", held.SealedBy)
		}
		s := set(t, key)
		for range 20 { // R and S of every length
			token, kid, err := s.Sign(epoch, a, jwks.TypeAccessToken, []byte("x"))
			if err != nil || kid != held.KID {
				t.Fatalf("%s: by %s: %v", a, kid, err)
			}
			if payload, err := s.Verify(token, jwks.TypeAccessToken); err != nil || string(payload) != "x" {
				t.Fatalf("%s: %q, %v", a, payload, err)
			}
		}
	}
	if err := h.Check("HS256"); err == nil {
		t.Error("an algorithm that is not known passes")
	}
}

func TestPrivateKeyDoesNotLeaveTheHSM(t *testing.T) {
	_, c := newToken(t)
	h := open(t, c)
	for _, a := range jwks.Algorithms() {
		held, _ := makeKey(t, h, a)
		secrets := []uint{pkcs11.CKA_VALUE}
		if a == jwks.PS256 || a == jwks.RS256 {
			secrets = []uint{pkcs11.CKA_PRIVATE_EXPONENT, pkcs11.CKA_PRIME_1, pkcs11.CKA_PRIME_2, pkcs11.CKA_EXPONENT_1, pkcs11.CKA_COEFFICIENT}
		}
		_, err := do(h, signTimeout, pkcs11.CKF_RW_SESSION, func(_ context.Context, s session) (none struct{}, err error) {
			private, err := s.object(pkcs11.CKO_PRIVATE_KEY, held.KID)
			if err != nil {
				return none, err
			}
			for _, attribute := range secrets {
				if v, err := s.read(private, attribute); !errors.Is(err, pkcs11.Error(pkcs11.CKR_ATTRIBUTE_SENSITIVE)) {
					return none, fmt.Errorf("attribute 0x%X: %d values, %v", attribute, len(v), err)
				}
			}
			for attribute, value := range map[uint]bool{pkcs11.CKA_EXTRACTABLE: true, pkcs11.CKA_SENSITIVE: false} {
				if err := s.module.SetAttributeValue(s.handle, private, []*pkcs11.Attribute{pkcs11.NewAttribute(attribute, value)}); err == nil {
					return none, fmt.Errorf("attribute 0x%X can be set to %v", attribute, value)
				}
			}
			return none, nil
		})
		if err != nil {
			t.Errorf("%s: %v", a, err)
		}
	}
}

func TestManySignAtOnce(t *testing.T) {
	_, c := newToken(t)
	h := open(t, c)
	var sets []*jwks.Set
	for _, a := range []jwks.Algorithm{jwks.ES256, jwks.PS256} {
		_, key := makeKey(t, h, a)
		sets = append(sets, set(t, key))
	}
	var wg sync.WaitGroup
	for i := range 2 * maxSessions {
		wg.Go(func() {
			s, a := sets[i%2], []jwks.Algorithm{jwks.ES256, jwks.PS256}[i%2]
			for range 10 {
				token, _, err := s.Sign(epoch, a, jwks.TypeAccessToken, fmt.Append(nil, i))
				if err == nil {
					_, err = s.Verify(token, jwks.TypeAccessToken)
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if n := len(h.link.idle); n == 0 || n > maxSessions {
		t.Errorf("%d sessions are kept", n)
	}
}

func TestKeyOpensAfterARestartAndByAnotherLabelOfTheRow(t *testing.T) {
	_, c := newToken(t)
	h := open(t, c)
	held, _ := makeKey(t, h, jwks.ES256)
	h.Close()
	h = open(t, c)
	held.SealedBy = "pkcs11:token=elsewhere" // where it was copied from
	if _, err := h.Open(held); err != nil {
		t.Error(err)
	}
}

func TestBrokenSessionIsReplaced(t *testing.T) {
	_, c := newToken(t)
	h := open(t, c)
	_, key := makeKey(t, h, jwks.ES256)
	connection := h.link
	for _, s := range connection.idle {
		if err := h.module.CloseSession(s); err != nil {
			t.Fatal(err)
		}
	}
	if err := key.Probe(); err != nil || h.link != connection {
		t.Errorf("sessions that were closed: %v, connected anew: %v", err, h.link != connection)
	}
	if err := h.module.Logout(connection.anchor); err != nil {
		t.Fatal(err)
	}
	eventually(t, key.Probe)
	if err := h.module.CloseAllSessions(h.link.slot); err != nil {
		t.Fatal(err)
	}
	eventually(t, key.Probe)
	if err := h.module.Finalize(); err != nil {
		t.Fatal(err)
	}
	eventually(t, key.Probe)
}

func TestTokenThatIsAwayFailsAndComesBackByItself(t *testing.T) {
	token, c := newToken(t)
	h := open(t, c)
	held, key := makeKey(t, h, jwks.ES256)
	token.TakeAway(t)
	for range 5 {
		if err := key.Probe(); err == nil {
			t.Error("it signs without its token")
		}
		if _, err := h.MakeKey(jwks.ES256, epoch, epoch); err == nil {
			t.Error("it makes a key without its token")
		}
		time.Sleep(connectEvery / 3)
	}
	if err := key.Probe(); !errors.Is(err, ErrUnavailable) {
		t.Errorf("signing without the token: %v", err)
	}
	if err := h.Destroy(held.KID); !errors.Is(err, ErrUnavailable) {
		t.Errorf("destroying without the token: %v", err)
	}
	token.BringBack(t)
	eventually(t, key.Probe)
	if _, err := h.Open(held); err != nil {
		t.Error(err)
	}
}

func TestDestroyedKeySignsNoMoreAndOthersDo(t *testing.T) {
	_, c := newToken(t)
	h := open(t, c)
	held, key := makeKey(t, h, jwks.ES256)
	_, other := makeKey(t, h, jwks.ES256)
	if err := h.Destroy(held.KID); err != nil {
		t.Fatal(err)
	}
	if err := key.Probe(); !errors.Is(err, ErrNoKey) {
		t.Errorf("a destroyed key: %v", err)
	}
	if err := h.Destroy(held.KID); !errors.Is(err, ErrNoKey) {
		t.Errorf("destroyed twice: %v", err)
	}
	if err := h.Discard(held); err != nil {
		t.Errorf("discarded after it was destroyed: %v", err)
	}
	if err := other.Probe(); err != nil {
		t.Error(err)
	}
	time.Sleep(connectEvery) // the connection is not new any more
	eventually(t, func() error {
		if err := key.Probe(); !errors.Is(err, ErrNoKey) {
			return fmt.Errorf("a destroyed key: %w", err)
		}
		return nil
	})
	connection := h.link
	if err := key.Probe(); !errors.Is(err, ErrNoKey) || h.link != connection {
		t.Errorf("asked again: %v, connected anew: %v", err, h.link != connection)
	}
	if n := objects(t, h); n != 2 {
		t.Errorf("%d objects are left, of one pair", n)
	}
}

// objects counts what is on the token.
func objects(t *testing.T, h *HSM) int {
	t.Helper()
	n, err := do(h, signTimeout, 0, func(_ context.Context, s session) (int, error) {
		if err := s.module.FindObjectsInit(s.handle, nil); err != nil {
			return 0, err
		}
		found, _, err := s.module.FindObjects(s.handle, 100)
		return len(found), errors.Join(err, s.module.FindObjectsFinal(s.handle))
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestKeyThatCannotBeMadeWholeLeavesNothing(t *testing.T) {
	_, c := newToken(t)
	h := open(t, c)
	late, cancel := context.WithCancel(context.Background())
	cancel()
	k, err := kindOf(jwks.ES256)
	if err != nil {
		t.Fatal(err)
	}
	_, err = do(h, signTimeout, pkcs11.CKF_RW_SESSION, func(ctx context.Context, s session) (none struct{}, _ error) {
		_, err := s.generate(late, k, jwks.ES256)
		for errors.Is(err, errDash) {
			_, err = s.generate(late, k, jwks.ES256)
		}
		if !errors.Is(err, ErrUnavailable) {
			t.Errorf("nobody waits any more: %v", err)
		}
		if _, err := s.generate(ctx, k, jwks.PS256); err == nil {
			t.Error("an EC key is taken for an RSA key")
		}
		return none, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if n := objects(t, h); n != 0 {
		t.Errorf("%d objects are left", n)
	}
}

func TestKeyThatCouldLeaveIsRefused(t *testing.T) {
	_, c := newToken(t)
	h := open(t, c)
	k, err := kindOf(jwks.ES256)
	if err != nil {
		t.Fatal(err)
	}
	for name, private := range map[string][]*pkcs11.Attribute{
		"extractable":   {pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, true), pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, true)},
		"not sensitive": {pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, false), pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, false)},
	} {
		_, err := do(h, signTimeout, pkcs11.CKF_RW_SESSION, func(_ context.Context, s session) (made, error) {
			public, private, err := s.module.GenerateKeyPair(s.handle, []*pkcs11.Mechanism{pkcs11.NewMechanism(k.generate, nil)}, k.public, private)
			if err != nil {
				t.Fatal(err)
			}
			return s.name(jwks.ES256, public, private)
		})
		if err == nil || !strings.Contains(err.Error(), "can leave it") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A module that does not answer holds up nobody for longer than the timeout.
func TestModuleThatHangsHoldsNobodyUp(t *testing.T) {
	_, c := newToken(t)
	h := open(t, c)
	release := make(chan struct{})
	const timeout = 50 * time.Millisecond
	hang := func(context.Context, session) (none struct{}, _ error) { <-release; return none, nil }
	var wg sync.WaitGroup
	for range maxSessions {
		wg.Go(func() {
			if _, err := do(h, timeout, 0, hang); !errors.Is(err, ErrUnavailable) {
				t.Errorf("no answer: %v", err)
			}
		})
	}
	wg.Wait()
	if _, err := do(h, timeout, 0, hang); !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "busy") {
		t.Errorf("all sessions in use: %v", err)
	}
	close(release)
	eventually(t, func() error {
		_, err := do(h, timeout, 0, hang)
		return err
	})
}

func TestConfigDoesNotPrintItsPIN(t *testing.T) {
	c := Config{Module: "m", Token: "t", PIN: "sesame"}
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "config", c)
	if text := fmt.Sprintf("%v %+v %#v %s", c, c, c, log.String()); strings.Contains(text, "sesame") {
		t.Error(text)
	}
}

func TestSignatureOfAnotherLengthIsRefused(t *testing.T) {
	for _, n := range []int{0, 63, 65, 70, 96} {
		if _, err := ecdsaDER(make([]byte, n)); err == nil {
			t.Errorf("%d bytes are taken for R and S", n)
		}
	}
}
