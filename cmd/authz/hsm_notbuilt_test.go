//go:build !pkcs11 || !cgo

package main

import (
	"errors"
	"strings"
	"testing"

	"github.com/cargokey/authz/internal/hsm"
)

func TestBuildWithoutPKCS11RefusesAnHSM(t *testing.T) {
	unsetAll(t)
	t.Setenv("AUTHZ_PKCS11_MODULE", "/usr/lib/softhsm/libsofthsm2.so")
	t.Setenv("AUTHZ_PKCS11_TOKEN", "authz")
	t.Setenv("AUTHZ_PKCS11_PIN", "sesame")
	c, err := readConfig()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.openHSM(); !errors.Is(err, hsm.ErrNotBuilt) || !strings.Contains(err.Error(), "-tags pkcs11") || strings.Contains(err.Error(), "sesame") {
		t.Error(err)
	}
}
