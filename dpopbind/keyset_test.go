package dpopbind_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cargokey/authz/dpopbind"
)

// live is a token that is good for long, by a key of the issuer's.
func (a *api) live(key issuerKey) string {
	d := a.as.token(a.key.JKT()).head("kid", `"`+key.kid+`"`).claim("exp", fmt.Sprint(now.Add(1000*time.Hour).Unix()))
	return signedBy(d, key)
}

func outage(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }

// eventually waits for what happens in the background.
func eventually(t *testing.T, what string, happened func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !happened(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("did not happen: " + what)
		}
	}
}

func TestANewKeyIsFoundAndAWithdrawnOneForgotten(t *testing.T) {
	a := newAPI(t, nil)
	next := newIssuerKey("k2")
	a.present(t, a.live(a.as.key)).expect(t, http.StatusOK, "")
	a.as.publish(a.as.key.jwk(), next.jwk())
	// Too soon for another fetch.
	a.present(t, a.live(next)).expect(t, http.StatusUnauthorized, "invalid_token")
	a.clock.advance(dpopbind.KeysInterval)
	a.present(t, a.live(next)).expect(t, http.StatusOK, "")
	a.as.publish(next.jwk())
	a.clock.advance(dpopbind.KeysFresh)
	a.present(t, a.live(a.as.key)).expect(t, http.StatusUnauthorized, "invalid_token")
	a.present(t, a.live(next)).expect(t, http.StatusOK, "")
}

func TestKeysAreRefreshedInTheBackgroundBeforeTheyExpire(t *testing.T) {
	a := newAPI(t, nil)
	a.present(t, a.live(a.as.key)).expect(t, http.StatusOK, "")
	release := make(chan struct{})
	var once sync.Once
	open := func() { once.Do(func() { close(release) }) }
	t.Cleanup(open)
	next := newIssuerKey("k2")
	a.as.answer(func(w http.ResponseWriter, _ *http.Request) {
		<-release
		fmt.Fprintf(w, `{"keys":[%s]}`, next.jwk())
	})
	a.clock.advance(dpopbind.KeysFresh * 4 / 5)
	for range 20 { // the issuer hangs, and nobody waits for it
		a.present(t, a.live(a.as.key)).expect(t, http.StatusOK, "")
	}
	eventually(t, "a fetch", func() bool { return a.as.fetches.Load() == 2 })
	open()
	eventually(t, "the new key is taken", func() bool { return a.present(t, a.live(next)).status == http.StatusOK })
	if n := a.as.fetches.Load(); n != 2 {
		t.Errorf("%d fetches", n)
	}
}

func TestKeysOutliveAnOutageForAnHourAndNoLonger(t *testing.T) {
	a := newAPI(t, nil)
	token := a.live(a.as.key)
	a.present(t, token).expect(t, http.StatusOK, "")
	a.as.answer(outage)
	a.clock.advance(dpopbind.KeysFresh)
	for range 9 {
		a.present(t, token).expect(t, http.StatusOK, "")
		a.clock.advance(dpopbind.KeysKept / 10)
	}
	a.clock.advance(dpopbind.KeysKept/10 - time.Second)
	a.present(t, token).expect(t, http.StatusOK, "")
	a.clock.advance(time.Second)
	a.present(t, token).expect(t, http.StatusServiceUnavailable, "temporarily_unavailable")
	a.as.publish(a.as.key.jwk())
	a.clock.advance(dpopbind.KeysInterval)
	a.present(t, token).expect(t, http.StatusOK, "")
}

func TestAnOutageFromTheBeginningIsOneFetchAnInterval(t *testing.T) {
	a := newAPI(t, nil)
	a.as.answer(outage)
	for range 3 {
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				a.present(t, a.live(a.as.key)).expect(t, http.StatusServiceUnavailable, "temporarily_unavailable")
			})
		}
		wg.Wait()
		a.clock.advance(dpopbind.KeysInterval)
	}
	if n := a.as.fetches.Load(); n != 3 {
		t.Errorf("%d fetches", n)
	}
	a.as.publish(a.as.key.jwk())
	a.present(t, a.live(a.as.key)).expect(t, http.StatusOK, "")
}

func TestAFloodOfUnknownKeysIsOneFetchAnInterval(t *testing.T) {
	a := newAPI(t, nil)
	a.present(t, a.live(a.as.key)).expect(t, http.StatusOK, "")
	const intervals = 3
	for i := range intervals {
		a.clock.advance(dpopbind.KeysInterval)
		var wg sync.WaitGroup
		for j := range 30 {
			wg.Go(func() {
				unknown := a.as.key
				unknown.kid = fmt.Sprintf("unknown-%d-%d", i, j)
				a.present(t, a.live(unknown)).expect(t, http.StatusUnauthorized, "invalid_token")
				a.present(t, a.live(a.as.key)).expect(t, http.StatusOK, "")
			})
		}
		wg.Wait()
	}
	if n := a.as.fetches.Load(); n != 1+intervals {
		t.Errorf("%d fetches", n)
	}
}

func TestATokenThatIsBadOtherwiseFetchesNothing(t *testing.T) {
	a := newAPI(t, nil)
	a.present(t, a.as.token(a.key.JKT()).claim("iss", `"https://evil.example"`).String())
	a.present(t, a.as.token(a.key.JKT()).claim("aud", `"x"`).String())
	a.present(t, a.as.token(a.key.JKT()).head("alg", `"HS256"`).String())
	a.present(t, a.as.token(a.key.JKT()).claim("exp", "0").String())
	a.get(t, "/labels", "Authorization", "DPoP "+a.token())
	if n := a.as.fetches.Load(); n != 0 {
		t.Errorf("%d fetches", n)
	}
}

func TestAConcurrentStartIsOneFetch(t *testing.T) {
	a := newAPI(t, nil)
	a.as.answer(func(w http.ResponseWriter, _ *http.Request) {
		time.Sleep(100 * time.Millisecond)
		fmt.Fprintf(w, `{"keys":[%s]}`, a.as.key.jwk())
	})
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() { a.present(t, a.live(a.as.key)).expect(t, http.StatusOK, "") })
	}
	wg.Wait()
	if n := a.as.fetches.Load(); n != 1 {
		t.Errorf("%d fetches", n)
	}
}

func TestMaxAgeIsObeyedWithinItsBounds(t *testing.T) {
	for _, row := range []struct {
		header string
		fresh  time.Duration
	}{
		{"", dpopbind.KeysFresh},
		{"public, max-age=600, must-revalidate", 10 * time.Minute},
		{"PUBLIC,Max-Age=600", 10 * time.Minute},
		{`max-age="600"`, 10 * time.Minute},
		{"max-age=86400", dpopbind.KeysFreshMax},
		{"max-age=1", dpopbind.KeysFreshMin},
		{"max-age=0", dpopbind.KeysFreshMin},
		{"no-store", dpopbind.KeysFreshMin},
		{"no-cache, max-age=600", dpopbind.KeysFreshMin},
		{"max-age=x", dpopbind.KeysFresh},
		{"max-age=-1", dpopbind.KeysFresh},
		{"max-age=99999999999999999999", dpopbind.KeysFresh},
	} {
		a := newAPI(t, nil)
		a.as.answer(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Cache-Control", row.header)
			fmt.Fprintf(w, `{"keys":[%s]}`, a.as.key.jwk())
		})
		token := a.live(a.as.key)
		a.present(t, token).expect(t, http.StatusOK, "")
		a.clock.advance(row.fresh*4/5 - 1)
		a.present(t, token).expect(t, http.StatusOK, "")
		if n := a.as.fetches.Load(); n != 1 {
			t.Errorf("%q: %d fetches too early", row.header, n)
		}
		a.clock.advance(row.fresh)
		a.present(t, token).expect(t, http.StatusOK, "")
		if n := a.as.fetches.Load(); n != 2 {
			t.Errorf("%q: %d fetches after %v", row.header, n, row.fresh)
		}
	}
}

func TestAnAnswerThatIsNoJWKSOfTheIssuerIsNotTaken(t *testing.T) {
	evil := httptest.NewServer(nil)
	t.Cleanup(evil.Close)
	var asked atomic.Int64 // of the other origin
	var jwk string
	evil.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		fmt.Fprintf(w, `{"keys":[%s]}`, jwk)
	})
	write := func(body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(body)) }
	}
	for name, serve := range map[string]func(keys string) http.HandlerFunc{
		"garbage":    func(string) http.HandlerFunc { return write("\x00\xff<html>") },
		"empty":      func(string) http.HandlerFunc { return write("") },
		"an array":   func(keys string) http.HandlerFunc { return write("[" + keys + "]") },
		"no keys":    func(string) http.HandlerFunc { return write("{}") },
		"keys twice": func(keys string) http.HandlerFunc { return write(`{"keys":[],"keys":[` + keys + `]}`) },
		"keys an object": func(keys string) http.HandlerFunc {
			return write(`{"keys":` + keys + `}`)
		},
		"cut": func(keys string) http.HandlerFunc { return write(`{"keys":[` + keys) },
		"too many keys": func(keys string) http.HandlerFunc {
			return write(`{"keys":[` + strings.Repeat(keys+",", 100) + keys + `]}`)
		},
		"huge": func(keys string) http.HandlerFunc {
			return write(`{"keys":[` + keys + `],"pad":"` + strings.Repeat("a", 512<<10) + `"}`)
		},
		"without end": func(string) http.HandlerFunc {
			return func(w http.ResponseWriter, _ *http.Request) {
				for {
					if _, err := w.Write(make([]byte, 1<<16)); err != nil {
						return
					}
				}
			}
		},
		"slow": func(string) http.HandlerFunc {
			return func(_ http.ResponseWriter, r *http.Request) {
				select {
				case <-r.Context().Done():
				case <-time.After(5 * time.Second):
				}
			}
		},
		"another status": func(keys string) http.HandlerFunc {
			return func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(http.StatusAccepted)
				fmt.Fprintf(w, `{"keys":[%s]}`, keys)
			}
		},
		"a redirect to another origin": func(string) http.HandlerFunc {
			return func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, evil.URL, http.StatusFound) }
		},
		"redirects without end": func(string) http.HandlerFunc {
			return func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/keys", http.StatusFound) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			a := newAPI(t, func(cfg *dpopbind.MiddlewareConfig) { cfg.HTTPClient = &http.Client{Timeout: 500 * time.Millisecond} })
			jwk = a.as.key.jwk()
			a.as.answer(serve(a.as.key.jwk()))
			a.present(t, a.live(a.as.key)).expect(t, http.StatusServiceUnavailable, "temporarily_unavailable")
			if asked.Load() != 0 {
				t.Error("the other origin was asked")
			}
			// And nothing is lost of what was there before.
			a.as.publish(a.as.key.jwk())
			a.clock.advance(dpopbind.KeysInterval)
			a.present(t, a.live(a.as.key)).expect(t, http.StatusOK, "")
			a.as.answer(serve(a.as.key.jwk()))
			a.clock.advance(dpopbind.KeysFresh)
			a.present(t, a.live(a.as.key)).expect(t, http.StatusOK, "")
		})
	}
}

func TestARedirectWithinTheOriginIsFollowed(t *testing.T) {
	a := newAPI(t, nil)
	a.as.answer(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.RawQuery == "" {
			http.Redirect(w, r, "/keys?v=2", http.StatusFound)
			return
		}
		fmt.Fprintf(w, `{"keys":[%s]}`, a.as.key.jwk())
	})
	a.present(t, a.live(a.as.key)).expect(t, http.StatusOK, "")
}

func TestTheIssuersMetadataMustBeItsOwn(t *testing.T) {
	for name, row := range map[string]struct {
		path, metadata string // of the issuer; %[1]s is its URL
		status         int
	}{
		"its own":                {"", `{"issuer":"%[1]s","jwks_uri":"%[1]s/keys"}`, http.StatusOK},
		"its own, with a path":   {"/tenant", `{"issuer":"%[1]s/tenant","jwks_uri":"%[1]s/keys"}`, http.StatusOK},
		"of another issuer":      {"", `{"issuer":"https://evil.example","jwks_uri":"%[1]s/keys"}`, http.StatusServiceUnavailable},
		"of a longer issuer":     {"", `{"issuer":"%[1]s/","jwks_uri":"%[1]s/keys"}`, http.StatusServiceUnavailable},
		"without issuer":         {"", `{"jwks_uri":"%[1]s/keys"}`, http.StatusServiceUnavailable},
		"without jwks_uri":       {"", `{"issuer":"%[1]s"}`, http.StatusServiceUnavailable},
		"with jwks_uri twice":    {"", `{"issuer":"%[1]s","jwks_uri":"%[1]s/keys","jwks_uri":"x"}`, http.StatusServiceUnavailable},
		"with jwks_uri by http":  {"", `{"issuer":"%[1]s","jwks_uri":"http://as.example/keys"}`, http.StatusServiceUnavailable},
		"with jwks_uri relative": {"", `{"issuer":"%[1]s","jwks_uri":"/keys"}`, http.StatusServiceUnavailable},
		"garbage":                {"", `<html>`, http.StatusServiceUnavailable},
		"longer than 128 KiB":    {"", `{"issuer":"%[1]s","jwks_uri":"%[1]s/keys","x":"` + strings.Repeat("a", 128<<10) + `"}`, http.StatusServiceUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			mux := http.NewServeMux()
			as := httptest.NewServer(mux)
			t.Cleanup(as.Close)
			a := newAPI(t, func(cfg *dpopbind.MiddlewareConfig) { cfg.Issuer = as.URL + row.path })
			mux.HandleFunc("/.well-known/oauth-authorization-server"+row.path, func(w http.ResponseWriter, _ *http.Request) {
				fmt.Fprintf(w, row.metadata, as.URL)
			})
			mux.HandleFunc("/keys", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintf(w, `{"keys":[%s]}`, a.as.key.jwk()) })
			token := a.as.token(a.key.JKT()).claim("iss", `"`+as.URL+row.path+`"`).String()
			if got := a.present(t, token); got.status != row.status {
				t.Errorf("got %d %s (%s)\n%s", got.status, got.code, got.description, a.log)
			}
		})
	}
}

func TestAConfiguredJWKSNeedsNoMetadata(t *testing.T) {
	jwks := httptest.NewServer(nil)
	t.Cleanup(jwks.Close)
	a := newAPI(t, func(cfg *dpopbind.MiddlewareConfig) { cfg.JWKSURI = jwks.URL })
	other := newIssuerKey("k9")
	jwks.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintf(w, `{"keys":[%s]}`, other.jwk()) })
	a.present(t, a.live(other)).expect(t, http.StatusOK, "")
	a.present(t, a.live(a.as.key)).expect(t, http.StatusUnauthorized, "invalid_token")
	if a.as.fetches.Load() != 0 {
		t.Error("the issuer was asked")
	}
}
