package jwksuri_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/cargokey/authz/internal/clientassertion/assertiontest"
	"github.com/cargokey/authz/internal/jwksuri"
)

func says(status int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }
}

func writes(document string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte(document)) }
}

// hangsUp breaks the connection off, in the middle of a document.
func hangsUp(w http.ResponseWriter, _ *http.Request) {
	w.Write([]byte(`{"keys":[`))
	w.(http.Flusher).Flush()
	panic(http.ErrAbortHandler)
}

func TestKeysOutliveAnOutageOfTheirHostByFourHours(t *testing.T) {
	t.Parallel()
	for outage, does := range map[string]http.HandlerFunc{
		"503": says(http.StatusServiceUnavailable), "500": says(http.StatusInternalServerError),
		"429": says(http.StatusTooManyRequests), "a broken connection": hangsUp,
	} {
		h, one := newHost(t, ""), assertiontest.NewSigner("ES256")
		h.publishes(one)
		r := newRig(t, nil, loopback, h)
		names(t, r.Keys, h.URL)
		h.does(does)
		for _, d := range []time.Duration{10 * time.Minute, 2 * time.Hour, time.Hour + 49*time.Minute} {
			r.advance(d)
			if got := names(t, r.Keys, h.URL); got != one.Thumbprint() {
				t.Errorf("%s: %s", outage, got)
			}
		}
		r.advance(time.Minute)
		if got := names(t, r.Keys, h.URL); !strings.HasPrefix(got, "error: ") {
			t.Errorf("%s: after four hours: %s", outage, got)
		}
		h.publishes(one)
		r.advance(jwksuri.Interval)
		if got := names(t, r.Keys, h.URL); got != one.Thumbprint() {
			t.Errorf("%s: after the outage: %s", outage, got)
		}
		if !strings.Contains(r.logs.String(), "fetching a client's keys failed") {
			t.Errorf("%s: nothing is logged", outage)
		}
	}
}

// answers are those of a host that is there, and has no keys any more.
func answers() map[string]http.HandlerFunc {
	var many []*assertiontest.Signer
	for range 33 {
		many = append(many, assertiontest.NewSigner("ES256"))
	}
	return map[string]http.HandlerFunc{
		"404": says(http.StatusNotFound), "410": says(http.StatusGone), "403": says(http.StatusForbidden), "204": says(http.StatusNoContent),
		"nothing": writes(""), "an empty object": writes("{}"), "a page": writes("<html>"), "a JWKS twice": writes(`{"keys":[],"keys":[]}`),
		"33 keys": writes(assertiontest.Set(many...)), "65537 bytes": writes(strings.Repeat(" ", 65537)),
		"a redirect elsewhere": redirect("https://login.example.com/"), "a redirect to nowhere": redirect("https://%zz/"),
		"a redirect without end": redirect("/"), "no keys": writes(`{"keys":[]}`),
	}
}

func TestAnAnswerWithoutKeysEndsThemWhenTheyAreNotFresh(t *testing.T) {
	t.Parallel()
	for answer, does := range answers() {
		h, old := newHost(t, ""), assertiontest.NewSigner("ES256")
		h.publishes(old)
		r := newRig(t, nil, loopback, h)
		names(t, r.Keys, h.URL)
		h.does(does)
		r.advance(jwksuri.Fresh)
		if got := names(t, r.Keys, h.URL); strings.Contains(got, old.Thumbprint()) {
			t.Errorf("%s: the withdrawn key is still taken", answer)
		}
		h.publishes(old)
		r.advance(jwksuri.Interval)
		names(t, r.Again, h.URL)
		if got := names(t, r.Keys, h.URL); got != old.Thumbprint() {
			t.Errorf("%s: when it is there again: %s", answer, got)
		}
	}
}

func TestAnOutageDoesNotBringBackWhatTheHostHasTakenAway(t *testing.T) {
	t.Parallel()
	h, old := newHost(t, ""), assertiontest.NewSigner("ES256")
	h.publishes(old)
	r := newRig(t, nil, loopback, h)
	names(t, r.Keys, h.URL)
	h.does(says(http.StatusNotFound))
	r.advance(jwksuri.Interval)
	if got := names(t, r.Again, h.URL); got != old.Thumbprint() { // one answer may be a slip
		t.Errorf("while they are fresh: %s", got)
	}
	h.does(says(http.StatusServiceUnavailable))
	r.advance(jwksuri.Fresh)
	for range 3 {
		if got := names(t, r.Keys, h.URL); got != "error: the answer has the status 503" {
			t.Error(got)
		}
		r.advance(jwksuri.Interval)
	}
}

func TestARegistrationAnewEndsWhatWasReadBefore(t *testing.T) {
	t.Parallel()
	h, old, fresh := newHost(t, ""), assertiontest.NewSigner("ES256"), assertiontest.NewSigner("ES256")
	h.publishes(old)
	r := newRig(t, nil, loopback, h)
	names(t, r.Keys, h.URL)
	h.does(says(http.StatusServiceUnavailable))
	for name, read := range map[string]reader{"Keys": r.Keys, "Again": r.Again} {
		if got := namesAt(t, read, h.URL, 2); !strings.HasPrefix(got, "error: ") {
			t.Errorf("%s: %s", name, got)
		}
	}
	h.publishes(fresh) // and nobody waits for the interval of another revision
	if got := namesAt(t, r.Keys, h.URL, 3); got != fresh.Thumbprint() {
		t.Error(got)
	}
	if got := names(t, r.Keys, h.URL); got != old.Thumbprint() {
		t.Errorf("the first revision, which none asks for: %s", got)
	}
}
