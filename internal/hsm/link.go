//go:build pkcs11 && cgo

package hsm

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/miekg/pkcs11"
)

// link is one logged-in connection with the token, from C_Initialize on. All of
// its handles end with it.
type link struct {
	module *pkcs11.Ctx
	slot   uint
	made   time.Time
	// anchor keeps the login, which ends with a program's last session
	// (PKCS #11 2.40 §5.6, C_CloseSession). Nothing else uses it.
	anchor pkcs11.SessionHandle

	mu      sync.Mutex
	idle    []pkcs11.SessionHandle         // read-only
	handles map[string]pkcs11.ObjectHandle // of private keys, by KID
	missing map[string]bool                // KIDs that are believed to be missing
}

// connect initialises the module and logs in: with one attempt, and with none
// where a wrong PIN would be the last that the token allows.
func connect(module *pkcs11.Ctx, c Config) (*link, error) {
	if err := module.Initialize(); err != nil {
		return nil, fmt.Errorf("%w: initialising the module: %w", ErrUnavailable, err)
	}
	slot, info, err := findToken(module, c.Token)
	if err != nil {
		return nil, err
	}
	switch {
	case info.Flags&pkcs11.CKF_USER_PIN_INITIALIZED == 0:
		return nil, fmt.Errorf("%w: no user PIN is set on the token", ErrPIN)
	case info.Flags&pkcs11.CKF_USER_PIN_LOCKED != 0:
		return nil, fmt.Errorf("%w: the token has locked it", ErrPIN)
	case info.Flags&pkcs11.CKF_USER_PIN_FINAL_TRY != 0:
		return nil, fmt.Errorf("%w: one more wrong one would lock the token, so it was not given; log in by the vendor's tool first", ErrPIN)
	}
	anchor, err := module.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION)
	if err != nil {
		return nil, fmt.Errorf("%w: opening a session: %w", ErrUnavailable, err)
	}
	err = module.Login(anchor, pkcs11.CKU_USER, c.PIN)
	switch {
	case err == nil || errors.Is(err, pkcs11.Error(pkcs11.CKR_USER_ALREADY_LOGGED_IN)):
	case isPIN(err):
		return nil, fmt.Errorf("%w: %w", ErrPIN, err)
	default:
		return nil, fmt.Errorf("%w: logging in: %w", ErrUnavailable, err)
	}
	return &link{
		module: module, slot: slot, made: time.Now(), anchor: anchor,
		handles: map[string]pkcs11.ObjectHandle{}, missing: map[string]bool{},
	}, nil
}

func isPIN(err error) bool {
	for _, code := range []uint{pkcs11.CKR_PIN_INCORRECT, pkcs11.CKR_PIN_INVALID, pkcs11.CKR_PIN_LEN_RANGE, pkcs11.CKR_PIN_EXPIRED, pkcs11.CKR_PIN_LOCKED} {
		if errors.Is(err, pkcs11.Error(code)) {
			return true
		}
	}
	return false
}

// findToken finds the one token of this label: with two it cannot be told which
// is to get the PIN.
func findToken(module *pkcs11.Ctx, label string) (slot uint, found pkcs11.TokenInfo, err error) {
	slots, err := module.GetSlotList(true)
	if err != nil {
		return 0, found, fmt.Errorf("%w: listing the slots: %w", ErrUnavailable, err)
	}
	tokens := 0
	for _, s := range slots {
		info, err := module.GetTokenInfo(s)
		if err != nil || info.Label != label { // another's token may be broken
			continue
		}
		tokens++
		slot, found = s, info
	}
	switch tokens {
	case 1:
		return slot, found, nil
	case 0:
		return 0, found, fmt.Errorf("%w: no token has the label %q", ErrUnavailable, label)
	default:
		return 0, found, fmt.Errorf("%w: %d tokens have the label %q", ErrUnavailable, tokens, label)
	}
}

// take is an idle session, or a new one.
func (l *link) take() (pkcs11.SessionHandle, error) {
	l.mu.Lock()
	if n := len(l.idle); n > 0 {
		s := l.idle[n-1]
		l.idle = l.idle[:n-1]
		l.mu.Unlock()
		return s, nil
	}
	l.mu.Unlock()
	return l.open(0)
}

func (l *link) open(flags uint) (pkcs11.SessionHandle, error) {
	return l.module.OpenSession(l.slot, pkcs11.CKF_SERIAL_SESSION|flags)
}

func (l *link) put(s pkcs11.SessionHandle) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.idle = append(l.idle, s)
}

// drop closes a session that an operation has failed in, which may still be under
// way there.
func (l *link) drop(s pkcs11.SessionHandle) { l.module.CloseSession(s) }

// forget drops all that was kept and may have become invalid.
func (l *link) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.idle {
		l.module.CloseSession(s)
	}
	l.idle = nil
	clear(l.handles)
}

// absentError is ErrNoKey. A module whose token went away may find nothing, and so
// it is believed only of a connection that was made a moment ago, or anew for it.
type absentError struct {
	kid      string
	believed bool
}

func (e *absentError) Error() string { return ErrNoKey.Error() + ": " + e.kid }

func (e *absentError) Unwrap() error { return ErrNoKey }

// believe notes that a key is missing, where err says so.
func (l *link) believe(err error) {
	var absent *absentError
	if errors.As(err, &absent) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.missing[absent.kid] = true
	}
}

// object finds a key's object. The CKA_ID of both of a key's objects is its KID.
func (s session) object(class uint, kid string) (pkcs11.ObjectHandle, error) {
	err := s.module.FindObjectsInit(s.handle, []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, class),
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true),
		pkcs11.NewAttribute(pkcs11.CKA_ID, kid),
	})
	if err != nil {
		return 0, fmt.Errorf("looking for signing key %s: %w", kid, err)
	}
	found, _, err := s.module.FindObjects(s.handle, 2)
	if err := errors.Join(err, s.module.FindObjectsFinal(s.handle)); err != nil {
		return 0, fmt.Errorf("looking for signing key %s: %w", kid, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch len(found) {
	case 1:
		delete(s.missing, kid)
		return found[0], nil
	case 0:
		return 0, &absentError{kid, s.missing[kid] || time.Since(s.made) < connectEvery}
	default:
		return 0, fmt.Errorf("the HSM has several objects of the name %s", kid)
	}
}

// private is object for a private key, and looks once.
func (s session) private(kid string) (pkcs11.ObjectHandle, error) {
	s.mu.Lock()
	handle, ok := s.handles[kid]
	s.mu.Unlock()
	if ok {
		return handle, nil
	}
	handle, err := s.object(pkcs11.CKO_PRIVATE_KEY, kid)
	if err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.handles[kid] = handle
	return handle, nil
}
