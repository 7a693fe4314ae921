// Package hsmtest makes HSMs for tests: SoftHSM's tokens.
package hsmtest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Token is an initialised token in a folder of its own. Its files are in Folder
// while it is there.
type Token struct {
	Module, Label, PIN string
	// Conf is for SOFTHSM2_CONF, which names the token's folder to the module.
	Conf   string
	Folder string
}

// modules are where distributions have SoftHSM's module.
var modules = []string{
	"/usr/lib/softhsm/libsofthsm2.so", "/usr/lib64/softhsm/libsofthsm2.so",
	"/usr/local/lib/softhsm/libsofthsm2.so", "/opt/homebrew/lib/softhsm/libsofthsm2.so",
}

// New makes a token. Where there is no SoftHSM the test is skipped, or fails if
// AUTHZ_TEST_PKCS11 is set.
func New(t testing.TB) *Token {
	t.Helper()
	tool, err := exec.LookPath("softhsm2-util")
	var module string
	for _, path := range modules {
		if _, err := os.Stat(path); err == nil && module == "" {
			module = path
		}
	}
	if err != nil || module == "" {
		if os.Getenv("AUTHZ_TEST_PKCS11") != "" {
			t.Fatal("SoftHSM is not installed, and AUTHZ_TEST_PKCS11 is set")
		}
		t.Skip("SoftHSM is not installed (Debian's package softhsm2)")
	}
	dir := t.TempDir()
	k := &Token{
		Module: module, Label: "authz test", PIN: "sesame-pin-81349",
		Conf: filepath.Join(dir, "softhsm2.conf"), Folder: filepath.Join(dir, "tokens"),
	}
	if err := os.Mkdir(k.Folder, 0o700); err != nil {
		t.Fatal(err)
	}
	conf := fmt.Sprintf("directories.tokendir = %s\nobjectstore.backend = file\nlog.level = ERROR\n", k.Folder)
	if err := os.WriteFile(k.Conf, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	k.Tool(t, tool, "--init-token", "--free", "--label", k.Label, "--so-pin", "so-"+k.PIN, "--pin", k.PIN)
	return k
}

// Tool runs softhsm2-util on the token's folder.
func (k *Token) Tool(t testing.TB, tool string, args ...string) {
	t.Helper()
	c := exec.CommandContext(t.Context(), tool, args...)
	c.Env = append(os.Environ(), "SOFTHSM2_CONF="+k.Conf)
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("softhsm2-util %s: %v\n%s", args[0], err, out)
	}
}

// TakeAway makes the token vanish, as one that is unplugged.
func (k *Token) TakeAway(t testing.TB) {
	t.Helper()
	if err := os.Rename(k.Folder, k.Folder+".away"); err != nil {
		t.Fatal(err)
	}
}

// BringBack ends TakeAway.
func (k *Token) BringBack(t testing.TB) {
	t.Helper()
	if err := os.Rename(k.Folder+".away", k.Folder); err != nil {
		t.Fatal(err)
	}
}
