//go:build pkcs11 && cgo

package hsm

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/miekg/pkcs11"
)

const (
	// maxSessions is how many operations are under way at once at most.
	maxSessions = 16
	// signTimeout is shorter than a caller's patience: a token request.
	signTimeout = 5 * time.Second
	// makeTimeout is for RSA keys on slow devices; upkeep waits for 30 s.
	makeTimeout = 25 * time.Second
	// connectEvery spares a module that fails.
	connectEvery = time.Second
)

// HSM is a token that this program is logged in to. It is safe for concurrent use.
// A process has one for each module: a module's state is the process's.
type HSM struct {
	config Config
	module *pkcs11.Ctx
	slots  chan struct{} // one for each operation under way

	mu      sync.RWMutex // held for reading by operations, for writing by who connects
	link    *link        // nil: not connected
	tried   time.Time    // when it was connected last
	failed  error        // why not
	refused error        // ErrPIN, once
	closed  bool
}

// Open loads the module and logs in, once. It fails with ErrPIN, and with
// ErrUnavailable.
func Open(c Config) (*HSM, error) {
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("opening the HSM: %w", err)
	}
	module := pkcs11.New(c.Module)
	if module == nil {
		return nil, fmt.Errorf("%w: %s cannot be loaded as a PKCS #11 module", ErrUnavailable, c.Module)
	}
	h := &HSM{config: c, module: module, slots: make(chan struct{}, maxSessions)}
	if err := h.reconnect(nil); err != nil {
		h.Close()
		return nil, err
	}
	return h, nil
}

// Close ends the connection, after the operations under way. One that hangs is left
// to the end of the process.
func (h *HSM) Close() {
	for deadline := time.Now().Add(signTimeout); !h.mu.TryLock(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			return
		}
	}
	defer h.mu.Unlock()
	if !h.closed {
		h.closed, h.link = true, nil
		h.module.Finalize() // which ends all sessions
		h.module.Destroy()
	}
}

// session is one for the length of an operation.
type session struct {
	*link
	handle pkcs11.SessionHandle
}

// operation is what do runs: more than once where the connection had broken, and
// to its end where nobody waits any more (then ctx has ended).
type operation[T any] func(ctx context.Context, s session) (T, error)

// do runs an operation in a session of its own. A module's call cannot be
// cancelled: when the time is over, do returns, and the operation keeps its slot
// until the module answers.
func do[T any](h *HSM, timeout time.Duration, flags uint, op operation[T]) (T, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	type outcome struct {
		value T
		err   error
	}
	done := make(chan outcome, 1)
	var none T
	select {
	case h.slots <- struct{}{}:
	case <-ctx.Done():
		cancel()
		return none, fmt.Errorf("%w: all sessions are busy", ErrUnavailable)
	}
	go func() {
		defer cancel()
		defer func() { <-h.slots }()
		value, err := persist(ctx, h, flags, op)
		done <- outcome{value, err}
	}()
	select {
	case o := <-done:
		return o.value, o.err
	case <-ctx.Done():
		select { // cancelled by the operation's end
		case o := <-done:
			return o.value, o.err
		default:
			return none, fmt.Errorf("%w: no answer within %s", ErrUnavailable, timeout)
		}
	}
}

// persist tries an operation on a session that is there, on a new one, and on a
// new connection, as far as the failure could be the old one's.
func persist[T any](ctx context.Context, h *HSM, flags uint, op operation[T]) (value T, err error) {
	for attempt := 1; ; attempt++ {
		var l *link
		value, l, err = once(ctx, h, flags, op)
		if err == nil || isFinal(err) || ctx.Err() != nil {
			return value, err
		}
		switch {
		case attempt == 1 && l != nil:
			l.forget()
		case attempt < 3:
			attempt = 2
			if err := h.reconnect(l); err != nil {
				return value, err
			}
		default:
			if l != nil {
				l.believe(err)
			}
			return value, unavailable(err)
		}
	}
}

// unavailable is an error that nothing else is known about.
func unavailable(err error) error {
	if errors.Is(err, ErrUnavailable) || errors.Is(err, ErrNoKey) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}

var errNotConnected = fmt.Errorf("%w: not connected", ErrUnavailable)

// once runs an operation, and says on which connection.
func once[T any](ctx context.Context, h *HSM, flags uint, op operation[T]) (value T, l *link, err error) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	if l = h.link; l == nil {
		return value, nil, errNotConnected
	}
	pooled := flags == 0
	var handle pkcs11.SessionHandle
	if pooled {
		handle, err = l.take()
	} else {
		handle, err = l.open(flags)
	}
	if err != nil {
		return value, l, fmt.Errorf("opening a session: %w", err)
	}
	value, err = op(ctx, session{l, handle})
	if err == nil && pooled {
		l.put(handle)
	} else {
		l.drop(handle)
	}
	return value, l, err
}

// reconnect makes a new connection, unless another has replaced the failed one
// already.
func (h *HSM) reconnect(failed *link) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.closed:
		return fmt.Errorf("%w: closed", ErrUnavailable)
	case h.link != failed:
		return nil
	case h.refused != nil:
		return h.refused
	case time.Since(h.tried) < connectEvery && h.failed != nil:
		return h.failed
	case time.Since(h.tried) < connectEvery && !h.tried.IsZero():
		return fmt.Errorf("%w: it fails though it was connected a moment ago", ErrUnavailable)
	}
	if !h.tried.IsZero() {
		h.module.Finalize() // fails where the module has lost its state
	}
	h.link, h.failed = connect(h.module, h.config)
	h.tried = time.Now()
	if errors.Is(h.failed, ErrPIN) {
		h.refused = h.failed
	}
	return h.failed
}

// finals are answers that another connection would give as well.
var finals = []pkcs11.Error{
	pkcs11.CKR_MECHANISM_INVALID, pkcs11.CKR_MECHANISM_PARAM_INVALID, pkcs11.CKR_FUNCTION_NOT_SUPPORTED,
	pkcs11.CKR_ATTRIBUTE_READ_ONLY, pkcs11.CKR_ATTRIBUTE_SENSITIVE, pkcs11.CKR_ATTRIBUTE_TYPE_INVALID, pkcs11.CKR_ATTRIBUTE_VALUE_INVALID,
	pkcs11.CKR_TEMPLATE_INCOMPLETE, pkcs11.CKR_TEMPLATE_INCONSISTENT, pkcs11.CKR_KEY_SIZE_RANGE, pkcs11.CKR_KEY_TYPE_INCONSISTENT,
	pkcs11.CKR_KEY_FUNCTION_NOT_PERMITTED, pkcs11.CKR_DATA_INVALID, pkcs11.CKR_DATA_LEN_RANGE, pkcs11.CKR_DEVICE_MEMORY,
	pkcs11.CKR_TOKEN_WRITE_PROTECTED, pkcs11.CKR_SESSION_COUNT, pkcs11.CKR_DOMAIN_PARAMS_INVALID, pkcs11.CKR_CURVE_NOT_SUPPORTED,
}

// isFinal tells whether to try again is useless.
func isFinal(err error) bool {
	var absent *absentError
	if errors.As(err, &absent) {
		return absent.believed
	}
	var code pkcs11.Error
	if errors.As(err, &code) {
		return slices.Contains(finals, code)
	}
	return !errors.Is(err, errNotConnected)
}
