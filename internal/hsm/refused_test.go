//go:build pkcs11 && cgo

package hsm

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/cargokey/authz/jwks"
)

func TestWrongPINIsGivenOnce(t *testing.T) {
	token, c := newToken(t)
	wrong := c
	wrong.PIN = "sesame-wrong-4711"
	if _, err := Open(wrong); !errors.Is(err, ErrPIN) || strings.Contains(err.Error(), "sesame") {
		t.Fatalf("a wrong PIN: %v", err)
	}
	h := open(t, c)
	_, key := makeKey(t, h, jwks.ES256)
	// The PIN is changed while the token is in use, and the login is lost.
	_, err := do(h, signTimeout, pkcs11.CKF_RW_SESSION, func(_ context.Context, s session) (none struct{}, _ error) {
		return none, s.module.SetPIN(s.handle, c.PIN, "sesame-new-90210")
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := h.module.Logout(h.link.anchor); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(10 * time.Second)
	for err = key.Probe(); !errors.Is(err, ErrPIN); err = key.Probe() {
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(50 * time.Millisecond)
	}
	// Whoever logs in rightly clears what the token remembers of a wrong PIN.
	login(t, h, "sesame-new-90210")
	time.Sleep(connectEvery + 100*time.Millisecond)
	for range 3 {
		if err := key.Probe(); !errors.Is(err, ErrPIN) || strings.Contains(err.Error(), "sesame") {
			t.Errorf("after the token has refused the PIN: %v", err)
		}
	}
	if info, err := tokenInfo(h, token.Label); err != nil || info.Flags&pkcs11.CKF_USER_PIN_COUNT_LOW != 0 {
		t.Errorf("the PIN was given again: flags 0x%X, %v", info.Flags, err)
	}
}

func login(t *testing.T, h *HSM, pin string) {
	t.Helper()
	if info, err := tokenInfo(h, h.config.Token); err != nil || info.Flags&pkcs11.CKF_USER_PIN_COUNT_LOW == 0 {
		t.Fatalf("the token does not remember a wrong PIN: flags 0x%X, %v", info.Flags, err)
	}
	slot, _, err := findToken(h.module, h.config.Token)
	if err != nil {
		t.Fatal(err)
	}
	s, err := h.module.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(h.module.Login(s, pkcs11.CKU_USER, pin), h.module.Logout(s), h.module.CloseSession(s)); err != nil {
		t.Fatal(err)
	}
}

func tokenInfo(h *HSM, label string) (pkcs11.TokenInfo, error) {
	_, info, err := findToken(h.module, label)
	return info, err
}

func TestWhatCannotBeOpenedIsRefused(t *testing.T) {
	_, c := newToken(t)
	for name, bad := range map[string]struct {
		config Config
		is     error
		says   string
	}{
		"no module":        {Config{filepath.Join(t.TempDir(), "none.so"), c.Token, c.PIN}, ErrUnavailable, "none.so"},
		"not a module":     {Config{"/lib/x86_64-linux-gnu/libc.so.6", c.Token, c.PIN}, ErrUnavailable, "cannot be loaded"},
		"another token":    {Config{c.Module, "none", c.PIN}, ErrUnavailable, `no token has the label "none"`},
		"no PIN":           {Config{c.Module, c.Token, ""}, nil, "a PIN"},
		"a label too long": {Config{c.Module, strings.Repeat("x", 33), c.PIN}, nil, "1 to 32 bytes"},
	} {
		h, err := Open(bad.config)
		if err == nil {
			h.Close()
		}
		if err == nil || bad.is != nil && !errors.Is(err, bad.is) || !strings.Contains(err.Error(), bad.says) || strings.Contains(err.Error(), "sesame") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTwoTokensOfOneLabelAreRefused(t *testing.T) {
	token, c := newToken(t)
	token.Tool(t, "softhsm2-util", "--init-token", "--free", "--label", token.Label, "--so-pin", "so-"+token.PIN, "--pin", token.PIN)
	if h, err := Open(c); !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "2 tokens") {
		h.Close()
		t.Error(err)
	}
}
