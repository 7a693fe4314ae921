package webhook

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func secretOf(t *testing.T, seed string) Secret {
	t.Helper()
	s, err := ParseSecret(secretText(seed))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func secretText(seed string) string {
	return secretPrefix + base64.StdEncoding.EncodeToString([]byte(strings.Repeat(seed, 32)[:32]))
}

// The example of the specification's libraries.
func TestSignatureIsThatOfTheSpecification(t *testing.T) {
	s, err := ParseSecret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	if err != nil {
		t.Fatal(err)
	}
	got := sign(s, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", []byte(`{"test": 2432232314}`))
	if want := "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestBadSecretsAreRefusedAndNotRepeated(t *testing.T) {
	for text, says := range map[string]string{
		"":                                    "does not begin with whsec_",
		"sesame":                              "does not begin with whsec_",
		"whsec_":                              "not of 24 to 64 bytes",
		"whsec_sesame!":                       "not base64",
		"whsec_" + strings.Repeat("c2Vz", 7):  "not of 24 to 64 bytes",
		"whsec_" + strings.Repeat("c2Vz", 22): "not of 24 to 64 bytes",
	} {
		_, err := ParseSecret(text)
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v, want %q", text, err, says)
		} else if rest := strings.TrimPrefix(text, secretPrefix); rest != "" && strings.Contains(err.Error(), rest) {
			t.Errorf("%v repeats the secret", err)
		}
	}
	s := secretOf(t, "a")
	if shown := fmt.Sprintf("%v %+v %#v %s", s, s, s, s); strings.Contains(shown, "aaa") || strings.Contains(shown, "97") {
		t.Errorf("a secret is printed: %s", shown)
	}
}

func TestBadURLsAreRefusedAndNotRepeated(t *testing.T) {
	for _, u := range []string{
		"", "hooks.test/x", "//hooks.test/x", "http://hooks.test/sesame", "ftp://hooks.test/sesame", "mailto:sesame@hooks.test",
		"https://sesame@hooks.test/", "https://hooks.test/#sesame", "https://hooks.test:port/sesame", "https://[::1/sesame", "http://10.0.0.1/sesame",
	} {
		if err := ValidateURL(u); err == nil || strings.Contains(err.Error(), "sesame") {
			t.Errorf("%q: %v", u, err)
		}
	}
	for _, u := range []string{"https://hooks.test/a?b=c", "http://localhost:8080/", "http://127.0.0.2/", "http://[::1]:80/x"} {
		if err := ValidateURL(u); err != nil {
			t.Errorf("%q: %v", u, err)
		}
	}
	if _, err := New(Config{URL: "https://hooks.test/"}); err == nil {
		t.Error("an endpoint without a secret")
	}
}

// receiver is a receiver with TLS, and an Endpoint that leads to it.
func receiver(t *testing.T, secrets []Secret, h http.HandlerFunc) *Endpoint {
	t.Helper()
	s := httptest.NewTLSServer(h)
	t.Cleanup(s.Close)
	e, err := New(Config{URL: s.URL + "/sesame", Secrets: secrets, Authorities: s.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs, UserAgent: "authz/test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	return e
}

func TestWhoHasAnyOfTheSecretsVerifiesAMessageAndNobodyElse(t *testing.T) {
	now := time.Now()
	one, two, other := secretOf(t, "1"), secretOf(t, "2"), secretOf(t, "3")
	got := make(chan error, 1)
	e := receiver(t, []Secret{one, two}, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		altered := r.Header.Clone()
		altered.Set("Webhook-Id", "m-2")
		got <- errors.Join(err, Verify(one, r.Header, body, now), Verify(two, r.Header, body, now),
			wants(ErrSignature, Verify(other, r.Header, body, now)),
			wants(ErrSignature, Verify(one, r.Header, append(body, ' '), now)),
			wants(ErrSignature, Verify(one, altered, body, now)),
			wants(ErrTimestamp, Verify(one, r.Header, body, now.Add(6*time.Minute))),
			wants(ErrTimestamp, Verify(one, http.Header{}, body, now)))
	})
	if err := e.Send(t.Context(), "m-1", now, []byte(`{"a":1}`)); err != nil {
		t.Error(err)
	}
	if err := <-got; err != nil {
		t.Error(err)
	}
}

func wants(want, err error) error {
	if errors.Is(err, want) {
		return nil
	}
	return fmt.Errorf("%v, want %v", err, want)
}

func TestWhatIsNotTakenIsAnErrorThatNamesNoURL(t *testing.T) {
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		is     error
	}{
		"no":   {func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusInternalServerError) }, ErrAnswered},
		"gone": {func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusGone) }, ErrAnswered},
		"dies": {func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) }, nil},
		"elsewhere": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/other", http.StatusTemporaryRedirect)
		}, ErrAnswered},
		"big header": {func(w http.ResponseWriter, r *http.Request) { w.Header().Set("X", strings.Repeat("x", 1<<20)) }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			e := receiver(t, []Secret{secretOf(t, "1")}, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/sesame" {
					t.Errorf("it follows to %s", r.URL)
				}
				c.answer(w, r)
			})
			err := e.Send(t.Context(), "m-1", time.Now(), []byte(`{}`))
			if err == nil || c.is != nil && !errors.Is(err, c.is) || strings.Contains(err.Error(), "sesame") {
				t.Errorf("%v", err)
			}
		})
	}
	stranger, err := New(Config{URL: "https://127.0.0.1:1/sesame", Secrets: []Secret{secretOf(t, "1")}})
	if err != nil {
		t.Fatal(err)
	}
	if err := stranger.Send(t.Context(), "m-1", time.Now(), nil); err == nil || strings.Contains(err.Error(), "sesame") {
		t.Errorf("%v", err)
	}
}

func TestOnlyTrustedAuthoritiesVouchForAReceiver(t *testing.T) {
	s := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("it has been sent") }))
	defer s.Close()
	s.Config.ErrorLog = nil
	e, err := New(Config{URL: s.URL, Secrets: []Secret{secretOf(t, "1")}})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Send(t.Context(), "m-1", time.Now(), nil); err == nil || !strings.Contains(err.Error(), "authority") {
		t.Errorf("%v", err)
	}
}

// What a receiver says at length is not read, and one that says nothing is left.
func TestAReceiverHoldsNothingUp(t *testing.T) {
	release := make(chan struct{})
	defer close(release)
	e := receiver(t, []Secret{secretOf(t, "1")}, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Webhook-Id") == "hangs" {
			<-release
			return
		}
		w.WriteHeader(http.StatusOK)
		w.(http.Flusher).Flush()
		for {
			if _, err := w.Write(make([]byte, 1<<16)); err != nil {
				return
			}
		}
	})
	if err := e.Send(t.Context(), "talks", time.Now(), nil); err != nil {
		t.Errorf("endless answer: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := e.Send(ctx, "hangs", time.Now(), nil); err == nil || !strings.Contains(err.Error(), "in time") {
		t.Errorf("no answer: %v", err)
	}
}
