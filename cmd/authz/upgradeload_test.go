package main

import (
	"fmt"
	"net/http"
	"net/url"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cargokey/authz/dpopbind"
)

// round is what a token lives through: issued, introspected, used, revoked, and
// known by all to be so.
func (u *upgrade) round(t *testing.T, key *dpopbind.Key) error {
	proof, err := key.Proof(http.MethodPost, u.issuer+"/oauth/token", time.Now(), dpopbind.ProofOptions{})
	if err != nil {
		return err
	}
	issued, err := u.postForm(t, "/oauth/token", u.client, proof, tokenForm)
	if err != nil {
		return err
	}
	token, _ := issued["access_token"].(string)
	u.mu.Lock()
	if len(u.secrets) < 50 { // each is looked for in all that was printed
		u.secrets = append(u.secrets, proof, token)
	}
	u.mu.Unlock()
	for range 2 {
		answer, err := u.postForm(t, "/oauth/introspect", u.gateway, "", url.Values{"token": {token}})
		if err != nil || answer["active"] != true {
			return fmt.Errorf("introspection: %v, %w", answer, err)
		}
		if status, err := u.verify(t, key, token); err != nil || status != http.StatusOK {
			return fmt.Errorf("a call: %d, %w", status, err)
		}
	}
	if _, err := u.postForm(t, "/oauth/revoke", u.client, "", url.Values{"token": {token}}); err != nil {
		return err
	}
	answer, err := u.postForm(t, "/oauth/introspect", u.gateway, "", url.Values{"token": {token}})
	if err != nil || answer["active"] != false {
		return fmt.Errorf("introspection of what is revoked: %v, %w", answer, err)
	}
	if status, err := u.verify(t, key, token); err != nil || status != http.StatusUnauthorized {
		return fmt.Errorf("a call with what is revoked: %d, %w", status, err)
	}
	return nil
}

// rounds are what several clients do again and again.
type rounds struct {
	done    []atomic.Int64
	stop    chan struct{}
	failed  chan error
	running sync.WaitGroup
}

func (u *upgrade) load(t *testing.T, clients int) *rounds {
	t.Helper()
	l := &rounds{done: make([]atomic.Int64, clients), stop: make(chan struct{}), failed: make(chan error, clients)}
	for i := range clients {
		key := newKey(t)
		l.running.Go(func() {
			for {
				select {
				case <-l.stop:
					return
				default:
				}
				if err := u.round(t, key); err != nil {
					l.failed <- err
					return
				}
				l.done[i].Add(1)
			}
		})
	}
	t.Cleanup(l.running.Wait)
	t.Cleanup(func() { l.halt() })
	return l
}

func (l *rounds) halt() {
	select {
	case <-l.stop:
	default:
		close(l.stop)
	}
}

// goOn returns once each client has done two more rounds, of which the second began
// after it was called; or many more.
func (l *rounds) goOn(t *testing.T) {
	t.Helper()
	more := int64(2)
	if os.Getenv("AUTHZ_TEST_LONG") != "" {
		more = 20
	}
	for i := range l.done {
		for until := l.done[i].Load() + more; l.done[i].Load() < until; {
			select {
			case err := <-l.failed:
				t.Fatalf("a request failed: %v", err)
			case <-time.After(2 * time.Millisecond):
			}
		}
	}
}

func (l *rounds) end(t *testing.T) {
	t.Helper()
	l.halt()
	l.running.Wait()
	select {
	case err := <-l.failed:
		t.Errorf("a request failed: %v", err)
	default:
	}
}
