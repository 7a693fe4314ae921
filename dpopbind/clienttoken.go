package dpopbind

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/cargokey/authz/internal/strictjose"
)

const (
	typeDPoP   = "DPoP"
	typeBearer = "Bearer"

	// tokenTimeout bounds a token request, with its discovery and its repetition.
	tokenTimeout = 30 * time.Second
	// assumedLifetime is that of a token without expires_in.
	assumedLifetime = 5 * time.Minute
	// maxMargin is how long before its end a token is renewed, at most; a short
	// one is renewed in its last tenth.
	maxMargin = time.Minute
	// failureHold is how long a failed request is the answer to all who ask: a
	// server in trouble gets one request in that time and not thousands. The
	// server can ask for more, up to maxFailureHold.
	failureHold    = time.Second
	maxFailureHold = time.Minute
	// dropInterval is how often a token can be dropped: an API that calls every
	// token invalid does not make each of its requests one for a new token.
	dropInterval = time.Second
)

// Token is an access token. It neither prints, logs nor marshals its text.
type Token struct {
	AccessToken string `json:"-"`
	// Type is "DPoP" or "Bearer".
	Type string
	// Expiry is zero where the server did not tell.
	Expiry time.Time
	// Scope are the scopes granted, space-separated.
	Scope string
	// JKT names the key that the token is bound to; empty for a bearer token.
	JKT string
}

func (t Token) bound() bool { return t.Type == typeDPoP }

// LogValue leaves out the token itself.
func (t Token) LogValue() slog.Value {
	return slog.GroupValue(slog.String("type", t.Type), slog.String("scope", t.Scope),
		slog.Time("expiry", t.Expiry), slog.String("jkt", t.JKT))
}

// Format prints the same for every verb, so that none reveals the token.
func (t Token) Format(f fmt.State, _ rune) {
	_, _ = fmt.Fprintf(f, "%s token (scope %s, jkt %s)", t.Type, strictjose.Quote(t.Scope), t.JKT)
}

// tokenCache holds one token and sees that one request at a time is made for
// its successor, however many ask.
type tokenCache struct {
	now     func() time.Time
	request func(context.Context) (Token, error)

	mu        sync.Mutex
	token     Token
	renewAt   time.Time // from then on a successor is asked for
	until     time.Time // from then on the token is not used
	renewal   *renewal  // under way, or nil
	failure   error
	holdUntil time.Time
	droppedAt time.Time
}

// renewal is a token request and its outcome, to be read when done is closed.
type renewal struct {
	done  chan struct{}
	token Token
	err   error
}

// get returns the held token, or waits for a new one for as long as ctx allows.
// While a token nears its end it is still given out, and renewed meanwhile.
func (t *tokenCache) get(ctx context.Context) (Token, error) {
	if err := ctx.Err(); err != nil {
		return Token{}, err
	}
	held, r, err := t.look()
	if r == nil || err != nil {
		return held, err
	}
	select {
	case <-r.done:
		return r.token, r.err
	case <-ctx.Done():
		return Token{}, ctx.Err()
	}
}

// look returns a token, a failure, or what to wait for.
func (t *tokenCache) look() (Token, *renewal, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	usable := t.token.AccessToken != "" && now.Before(t.until)
	if usable && now.Before(t.renewAt) {
		return t.token, nil, nil
	}
	held := t.renewal == nil && now.Before(t.holdUntil)
	if t.renewal == nil && !held {
		t.renewal = &renewal{done: make(chan struct{})}
		go t.renew(t.renewal)
	}
	switch {
	case usable:
		return t.token, nil, nil
	case held:
		return Token{}, nil, t.failure
	default:
		return Token{}, t.renewal, nil
	}
}

// renew runs apart from whoever caused it: that one may leave, and the others
// still wait.
func (t *tokenCache) renew(r *renewal) {
	ctx, cancel := context.WithTimeout(context.Background(), tokenTimeout)
	defer cancel()
	r.token, r.err = t.request(ctx)

	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	if r.err != nil {
		hold := failureHold
		var refused *TokenError
		if errors.As(r.err, &refused) {
			hold = min(max(hold, refused.RetryAfter), maxFailureHold)
		}
		t.failure, t.holdUntil = r.err, now.Add(hold)
	} else {
		t.token, t.until = r.token, r.token.Expiry
		if t.until.IsZero() {
			t.until = now.Add(assumedLifetime)
		}
		t.renewAt = t.until.Add(-min(t.until.Sub(now)/10, maxMargin))
	}
	t.renewal = nil
	close(r.done)
}

// drop forgets a token that an API called invalid, and says whether asking for
// another has a point.
func (t *tokenCache) drop(accessToken string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.token.AccessToken != accessToken {
		return true // it has a successor already
	}
	now := t.now()
	if now.Sub(t.droppedAt) < dropInterval {
		return false
	}
	t.droppedAt, t.token = now, Token{}
	return true
}
