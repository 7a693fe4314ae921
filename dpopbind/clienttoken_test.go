package dpopbind_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestATokenIsRenewedBeforeItExpires(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		expiresIn    string
		still, ended time.Duration
	}{
		{"3600", 3500 * time.Second, 3601 * time.Second},
		{"10", 8 * time.Second, 11 * time.Second},
		{`"600"`, 500 * time.Second, 601 * time.Second}, // as some servers write it
		{"", 4 * time.Minute, 6 * time.Minute},
		{"0", 4 * time.Minute, 6 * time.Minute},
		{"-1", 4 * time.Minute, 6 * time.Minute},
		{"null", 4 * time.Minute, 6 * time.Minute},
		{"1e300", 364 * 24 * time.Hour, 366 * 24 * time.Hour},
	} {
		p := newPlatform(t)
		p.set(func() { p.expiresIn = row.expiresIn })
		client := p.client()
		p.expectOK(client)
		p.advance(row.still)
		p.expectOK(client)
		p.expect(1, 2)
		p.advance(row.ended - row.still)
		p.expectOK(client)
		p.expect(2, 3)
	}
}

func TestATokenNearItsEndIsUsedWhileItIsRenewed(t *testing.T) {
	t.Parallel()
	p := newPlatform(t)
	client := p.client()
	first := must(client.Token(t.Context()))
	p.advance(3580 * time.Second)
	hold := make(chan struct{})
	p.set(func() { p.hold = hold })
	p.expectOK(client)
	if token := must(client.Token(t.Context())); token.AccessToken != first.AccessToken {
		t.Error("the token was replaced already")
	}
	close(hold)
	for must(client.Token(t.Context())).AccessToken == first.AccessToken {
		time.Sleep(time.Millisecond)
	}
	p.expect(2, 1)
}

func TestAWaiterThatLeavesDoesNotFailTheOthers(t *testing.T) {
	t.Parallel()
	p := newPlatform(t)
	hold := make(chan struct{})
	p.set(func() { p.hold = hold })
	client := p.client()
	ctx, cancel := context.WithCancel(t.Context())
	first, second := make(chan error, 1), make(chan error, 1)
	go func() { _, err := client.Token(ctx); first <- err }()
	for tokens, _ := p.counts(); tokens == 0; tokens, _ = p.counts() {
		time.Sleep(time.Millisecond)
	}
	go func() { _, err := client.Token(t.Context()); second <- err }()
	cancel()
	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	close(hold)
	if err := <-second; err != nil {
		t.Error(err)
	}
	p.expect(1, 0)
}

func TestAFailureIsSharedForASecondOrAsLongAsTheServerAsks(t *testing.T) {
	t.Parallel()
	for retryAfter, hold := range map[string]time.Duration{"": time.Second, "20": 20 * time.Second, "3600": time.Minute} {
		p := newPlatform(t)
		p.set(func() {
			p.frozen = time.Now()
			p.answer = func(w http.ResponseWriter) bool {
				w.Header().Set("Retry-After", retryAfter)
				w.WriteHeader(http.StatusBadGateway)
				return true
			}
		})
		client := p.client()
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				if _, err := client.Token(t.Context()); err == nil {
					t.Error("a token came")
				}
			})
		}
		wg.Wait()
		p.advance(hold - 1)
		if _, err := client.Token(t.Context()); err == nil {
			t.Error("a token came")
		}
		p.expect(1, 0)
		p.set(func() { p.answer = nil })
		p.advance(1)
		p.expectOK(client)
	}
}

func TestAFailedRenewalLeavesATokenThatHasNotExpired(t *testing.T) {
	t.Parallel()
	p := newPlatform(t)
	client := p.client()
	p.expectOK(client)
	p.set(func() {
		p.answer = func(w http.ResponseWriter) bool { w.WriteHeader(http.StatusBadGateway); return true }
	})
	p.advance(3580 * time.Second)
	for tokens, _ := p.counts(); tokens < 2; tokens, _ = p.counts() {
		p.expectOK(client)
	}
	p.advance(time.Minute)
	if _, err := client.Token(t.Context()); err == nil {
		t.Error("an expired token was given out")
	}
}

func TestManyRequestsWithARevokedTokenShareOneTokenRequest(t *testing.T) {
	t.Parallel()
	p := newPlatform(t)
	client := p.client()
	p.expectOK(client)
	p.set(func() { p.invalid["token-1~value"] = true })
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			response, err := client.RoundTrip(get(t, p.api.URL+"/labels"))
			if err != nil {
				t.Error(err)
				return
			}
			response.Body.Close()
			if response.StatusCode != http.StatusOK {
				t.Errorf("status %d", response.StatusCode)
			}
		})
	}
	wg.Wait()
	if tokens, _ := p.counts(); tokens != 2 {
		t.Errorf("there were %d token requests", tokens)
	}
}

func TestARevokedTokenIsDroppedAlsoWhereTheRequestCannotBeRepeated(t *testing.T) {
	t.Parallel()
	p := newPlatform(t)
	client := p.client()
	p.expectOK(client)
	p.set(func() { p.invalid["token-1~value"] = true })
	r := must(http.NewRequest(http.MethodPost, p.api.URL+"/labels", io.NopCloser(strings.NewReader("x"))))
	if status, body := call(t, client, r); status != http.StatusUnauthorized || body != "invalid_token" {
		t.Errorf("%d %q", status, body)
	}
	p.expect(1, 2)
	p.expectOK(client)
	p.expect(2, 3)
}

func TestWithoutANewTokenTheAnswerIsTheAPIs(t *testing.T) {
	t.Parallel()
	p := newPlatform(t)
	client := p.client()
	p.expectOK(client)
	p.set(func() {
		p.invalid["token-1~value"] = true
		p.answer = func(w http.ResponseWriter) bool { w.WriteHeader(http.StatusBadGateway); return true }
	})
	if status, body := call(t, client, get(t, p.api.URL)); status != http.StatusUnauthorized || body != "invalid_token" {
		t.Errorf("%d %q", status, body)
	}
}
