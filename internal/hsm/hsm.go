// Package hsm keeps the server's signing keys in a PKCS #11 token: they are made
// there, sign there, and never leave it.
//
// The module is C code in this process: it is in builds with the tag pkcs11 and
// cgo only. In all others Open fails with ErrNotBuilt.
//
// The package trusts the module and the token. It does not trust them to be there:
// what cannot be signed fails with ErrUnavailable, and the next attempt connects
// anew. It never gives a PIN to the token again that the token has refused, since
// that would lock it.
package hsm

import (
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"unicode/utf8"
)

// Errors that callers can branch on.
var (
	// ErrNotBuilt: this program cannot load modules.
	ErrNotBuilt = errors.New("this build has no PKCS #11: build authz with CGO_ENABLED=1 and -tags pkcs11 (docs/operations.md)")
	// ErrUnavailable: the module or the token does not answer, or not in time.
	ErrUnavailable = errors.New("the HSM is unavailable")
	// ErrPIN: the token has refused the PIN, or is about to lock itself. Until the
	// program starts again, nothing asks it anew.
	ErrPIN = errors.New("the HSM does not take the PIN")
	// ErrNoKey: the token answers, and has no such key.
	ErrNoKey = errors.New("the HSM has no such key")
)

// Config is what Open needs. It does not print its PIN.
type Config struct {
	Module string // path of the PKCS #11 module, a shared library
	Token  string // the token's label: 1 to 32 bytes (PKCS #11 2.40 §3.2, CK_TOKEN_INFO)
	PIN    string // of the token's user (CKU_USER)
}

const maxTokenLabel = 32

// Validate tells what is missing.
func (c Config) Validate() error {
	switch {
	case c.Module == "" || c.PIN == "":
		return errors.New("a module and a PIN are needed")
	case c.Token == "" || len(c.Token) > maxTokenLabel || !utf8.ValidString(c.Token):
		return fmt.Errorf("a token's label has 1 to %d bytes", maxTokenLabel)
	}
	return nil
}

// URI names the token (RFC 7512 §2.3).
func (c Config) URI() string { return "pkcs11:token=" + url.PathEscape(c.Token) }

// LogValue keeps the PIN out of logs.
func (c Config) LogValue() slog.Value { return slog.StringValue(c.URI()) }

// String keeps the PIN out of messages.
func (c Config) String() string { return c.URI() }

// GoString keeps the PIN out of %#v.
func (c Config) GoString() string { return c.URI() }
