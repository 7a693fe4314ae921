//go:build pkcs11 && cgo

package main

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cargokey/authz/internal/hsm/hsmtest"
)

// newHSMSite is a site whose servers and operator have an HSM.
func newHSMSite(t *testing.T, server ...string) (*site, *hsmtest.Token) {
	t.Helper()
	token, s := hsmtest.New(t), newSite(t)
	s.secrets = append(s.secrets, token.PIN)
	s.env = append(s.env, pkcs11(token)...)
	s.server = append(append(s.server, pkcs11(token)...), server...)
	return s, token
}

func pkcs11(token *hsmtest.Token) []string {
	return []string{
		"SOFTHSM2_CONF=" + token.Conf, "AUTHZ_PKCS11_MODULE=" + token.Module,
		"AUTHZ_PKCS11_TOKEN=" + token.Label, "AUTHZ_PKCS11_PIN=" + token.PIN,
	}
}

func (s *site) keys(t *testing.T) (views []keyView) {
	t.Helper()
	if err := json.Unmarshal([]byte(runAuthz(t, s.program, s.env, "key", "list", "--json")), &views); err != nil {
		t.Fatal(err)
	}
	return views
}

// refuses runs a command that must fail, and say why.
func (s *site) refuses(t *testing.T, env []string, says string, args ...string) {
	t.Helper()
	p := startAuthz(t, s.program, env, args...)
	s.printers = append(s.printers, p)
	if code, err := p.wait(); err != nil || code == 0 || !strings.Contains(p.errOut.String(), says) {
		t.Errorf("authz %q: exit code %d, %v, want %q in:\n%s", args, code, err, says, &p.errOut)
	}
}

// without is an environment without the variables that begin so.
func without(env []string, prefix string) []string {
	return slices.DeleteFunc(slices.Clone(env), func(v string) bool { return strings.HasPrefix(v, prefix) })
}

func kidOf(t *testing.T, token string) string {
	t.Helper()
	encoded, _, _ := strings.Cut(token, ".")
	text, err := base64.RawURLEncoding.DecodeString(encoded)
	if err != nil {
		t.Fatal(err)
	}
	var header struct{ KID string }
	if err := json.Unmarshal(text, &header); err != nil {
		t.Fatal(err)
	}
	return header.KID
}

// awaitKey waits until an instance signs by a key.
func (s *site) awaitKey(t *testing.T, at *serving, kid string) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(200 * time.Millisecond) {
		token, _, jkt := s.token(t, at)
		if got := kidOf(t, token); got == kid {
			if !s.isActive(t, at, token, jkt) {
				t.Errorf("a token signed by %s is not active", kid)
			}
			return
		} else if time.Now().After(deadline) {
			t.Fatalf("signed by %s, want %s", got, kid)
		}
	}
}

func TestInstancesSignByOneHSM(t *testing.T) {
	t.Parallel()
	s, token := newHSMSite(t)
	one, two := s.start(t), s.start(t)
	keys := s.keys(t)
	if len(keys) != 1 || keys[0].SealedBy != "pkcs11:token=authz%20test" {
		t.Fatalf("keys: %+v", keys)
	}
	for _, at := range []*serving{one, two} {
		s.awaitKey(t, at, keys[0].KID)
	}

	// By hand, at once: what is over is destroyed, and not before.
	first := keys[0].KID
	s.refuses(t, s.env, "is signing; revoke it, or wait until it is removed", "key", "destroy", first)
	var done rotated
	if err := json.Unmarshal([]byte(runAuthz(t, s.program, s.env, "key", "rotate", "--now", "--json")), &done); err != nil {
		t.Fatal(err)
	}
	for _, at := range []*serving{one, two} {
		s.awaitKey(t, at, done.KID)
	}
	runAuthz(t, s.program, s.env, "key", "destroy", first)
	s.refuses(t, s.env, "the HSM has no such key", "key", "destroy", first)
	s.refuses(t, s.env, "is signing", "key", "destroy", done.KID)
	s.refuses(t, without(s.env, "AUTHZ_PKCS11"), "set AUTHZ_PKCS11_MODULE", "key", "destroy", first)

	// An operator who has forgotten the HSM does not leave it.
	kek := append(without(s.env, "AUTHZ_PKCS11"), "AUTHZ_KEY_ENCRYPTION_KEY="+s.secrets[0])
	s.refuses(t, kek, "the next one would not be", "key", "rotate", "--now")
	runAuthz(t, s.program, kek, "key", "reseal")
	if held := s.keys(t)[1]; held.KID != done.KID || !strings.HasPrefix(held.SealedBy, "pkcs11:") {
		t.Errorf("sealed anew: %+v", held)
	}

	// The way back, with the HSM and then without it.
	token.TakeAway(t)
	if err := json.Unmarshal([]byte(runAuthz(t, s.program, append(kek, "AUTHZ_PKCS11_NEW_KEYS=sealed"), "key", "rotate", "--now", "--json")), &done); err != nil {
		t.Fatal(err)
	}
	for _, at := range []*serving{one, two} {
		s.awaitIssuing(t, at)
		s.awaitKey(t, at, done.KID)
	}
	s.server = without(s.server, "AUTHZ_PKCS11")
	s.awaitKey(t, s.start(t), done.KID)
	s.checkSilence(t)
}

func (s *site) awaitIssuing(t *testing.T, at *serving) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(200 * time.Millisecond) {
		proof, _ := s.proof(t)
		status, answer := at.post(t, "/oauth/token", s.client, proof, tokenForm)
		if status == http.StatusOK {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("no token: %d %v", status, answer)
		}
	}
}

func TestSealedKeysMoveIntoTheHSMByRotation(t *testing.T) {
	t.Parallel()
	s, _ := newHSMSite(t)
	with := s.server
	s.server = without(with, "AUTHZ_PKCS11")
	before := s.start(t)
	token, _, jkt := s.token(t, before)
	s.server = with
	after := s.start(t)
	s.awaitKey(t, after, kidOf(t, token)) // the sealed one goes on
	var done rotated
	if err := json.Unmarshal([]byte(runAuthz(t, s.program, s.env, "key", "rotate", "--json")), &done); err != nil {
		t.Fatal(err)
	}
	keys := s.keys(t)
	if len(keys) != 2 || strings.HasPrefix(keys[0].SealedBy, "pkcs11:") || keys[1].KID != done.KID || !strings.HasPrefix(keys[1].SealedBy, "pkcs11:") {
		t.Errorf("keys: %+v", keys)
	}
	s.awaitKey(t, after, kidOf(t, token)) // until the next one's time comes
	if !s.isActive(t, after, token, jkt) {
		t.Error("what was signed before is not active")
	}
	// One that has no HSM goes on too, and says what it lacks.
	if err := before.await(&before.errOut, "the signing key is in a device: key "+done.KID); err != nil {
		t.Error(err)
	}
	s.awaitKey(t, before, kidOf(t, token))
	runAuthz(t, s.program, s.env, "key", "revoke", keys[0].KID, "--reason", "test")
	s.awaitKey(t, after, done.KID)
	if code, err := before.end(syscall.SIGTERM); code != 0 || err != nil {
		t.Error(code, err)
	}
	s.refuses(t, append(without(with, "AUTHZ_PKCS11"), "AUTHZ_LISTEN=127.0.0.1:0", "AUTHZ_INTERNAL_LISTEN=127.0.0.1:0"),
		"AUTHZ_PKCS11_MODULE is not set, and the key that signs is in an HSM", "serve")
	s.checkSilence(t)
}

func TestEveryAlgorithmIsSignedByTheHSM(t *testing.T) {
	t.Parallel()
	for _, alg := range []string{"EdDSA", "PS256", "RS256"} {
		s, _ := newHSMSite(t, "AUTHZ_SIGNING_ALG="+alg)
		i := s.start(t)
		keys := s.keys(t)
		if len(keys) != 1 || string(keys[0].Algorithm) != alg || !strings.HasPrefix(keys[0].SealedBy, "pkcs11:") {
			t.Errorf("keys: %+v", keys)
		}
		s.awaitKey(t, i, keys[0].KID)
		s.checkSilence(t)
	}
}

func TestHSMThatIsAwayIsA503UntilItIsBack(t *testing.T) {
	t.Parallel()
	s, token := newHSMSite(t)
	i := s.start(t)
	before, _, jkt := s.token(t, i)
	token.TakeAway(t)
	for range 3 {
		proof, _ := s.proof(t)
		status, answer := i.post(t, "/oauth/token", s.client, proof, tokenForm)
		if status != http.StatusServiceUnavailable || answer["error"] != "temporarily_unavailable" {
			t.Errorf("without the HSM: %d %v", status, answer)
		}
		time.Sleep(700 * time.Millisecond) // connected anew once a second
	}
	if status := i.ready(t); status != http.StatusServiceUnavailable {
		t.Errorf("readiness without the HSM: %d", status)
	}
	if !s.isActive(t, i, before, jkt) {
		t.Error("what was signed before is not active")
	}
	token.BringBack(t)
	s.awaitIssuing(t, i)
	time.Sleep(1100 * time.Millisecond) // readiness is looked at once a second
	if status := i.ready(t); status != http.StatusOK {
		t.Errorf("readiness with the HSM: %d", status)
	}
	s.checkSilence(t)
}

func (i *serving) ready(t *testing.T) int {
	t.Helper()
	found := regexp.MustCompile(`"internal_listen":"([^"]+)"`).FindStringSubmatch(i.errOut.String())
	if found == nil {
		t.Fatal("it does not say where it listens")
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+found[1]+"/readyz", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	return response.StatusCode
}

func TestServerThatCannotUseItsHSMDoesNotStart(t *testing.T) {
	t.Parallel()
	s, token := newHSMSite(t)
	s.secrets = append(s.secrets, "sesame-wrong-4711")
	listen := append(s.server, "AUTHZ_LISTEN=127.0.0.1:0", "AUTHZ_INTERNAL_LISTEN=127.0.0.1:0")
	s.refuses(t, append(without(listen, "AUTHZ_PKCS11_PIN"), "AUTHZ_PKCS11_PIN=sesame-wrong-4711"), "the HSM does not take the PIN", "serve")
	s.refuses(t, append(without(listen, "AUTHZ_PKCS11_TOKEN"), "AUTHZ_PKCS11_TOKEN=none"), `no token has the label "none"`, "serve")
	token.TakeAway(t)
	s.refuses(t, listen, "the HSM is unavailable", "serve")
	s.checkSilence(t)
}
