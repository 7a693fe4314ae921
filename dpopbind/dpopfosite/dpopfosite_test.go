package dpopfosite_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/ory/fosite"
	"github.com/ory/fosite/handler/oauth2"
	"github.com/ory/fosite/storage"
	"github.com/ory/fosite/token/hmac"

	"github.com/cargokey/authz/dpopbind"
	"github.com/cargokey/authz/dpopbind/dpopfosite"
)

const endpoint = "https://auth.example.com/oauth2/token"

// session is what another server's session would be.
type session struct {
	*fosite.DefaultSession
	proof *dpopbind.Proof
}

func (s *session) SetProof(p *dpopbind.Proof) { s.proof = p }
func (s *session) Proof() *dpopbind.Proof     { return s.proof }

// otherServer is a server of fosite's own parts, which knows nothing of this
// project but the package.
func otherServer(t *testing.T, bearer func(context.Context, fosite.AccessRequester) bool, newSession func() fosite.Session) http.Handler {
	t.Helper()
	return configured(t, dpopfosite.Config{BearerAdmitted: bearer}, newSession)
}

func configured(t *testing.T, dpopConfig dpopfosite.Config, newSession func() fosite.Session) http.Handler {
	t.Helper()
	checker, err := dpopbind.NewChecker(dpopbind.CheckerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	target, err := dpopbind.NewTarget(http.MethodPost, endpoint)
	if err != nil {
		t.Fatal(err)
	}
	dpopConfig.Checker, dpopConfig.Target = checker, target
	dpop, err := dpopfosite.New(dpopConfig)
	if err != nil {
		t.Fatal(err)
	}
	store := storage.NewMemoryStore()
	store.Clients["svc"] = &fosite.DefaultClient{
		ID: "svc", Secret: []byte(`$2a$04$6SB8Mi7Q6bJsR8ZUrMyoLuCDw1KwLCXmqYGwhXOAqbVuOCYTLOLhO`), // bcrypt of "secret"
		GrantTypes: []string{"client_credentials"}, Scopes: []string{"a"},
	}
	config := &fosite.Config{GlobalSecret: []byte("a secret of 32 bytes, for a test"), ClientSecretsHasher: plain{}}
	provider := fosite.NewOAuth2Provider(store, config)
	config.ClientAuthenticationStrategy = dpop.ClientAuthentication(provider.DefaultClientAuthenticationStrategy)
	config.TokenEndpointHandlers.Append(dpop.Handler(&oauth2.ClientCredentialsGrantHandler{
		HandleHelper: &oauth2.HandleHelper{
			AccessTokenStrategy: oauth2.NewHMACSHAStrategy(&hmac.HMACStrategy{Config: config}, config),
			AccessTokenStorage:  store, Config: config,
		},
		Config: config,
	}))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		carrier := newSession()
		request, err := provider.NewAccessRequest(r.Context(), r, carrier)
		if s, ok := carrier.(dpopfosite.Session); ok {
			if nonce := dpop.Nonce(s, err); nonce != "" {
				w.Header().Set(dpopfosite.NonceHeader, nonce)
			}
		}
		if err != nil {
			provider.WriteAccessError(r.Context(), w, request, err)
			return
		}
		response, err := provider.NewAccessResponse(r.Context(), request)
		if err != nil {
			provider.WriteAccessError(r.Context(), w, request, err)
			return
		}
		provider.WriteAccessResponse(r.Context(), w, request, response)
	})
}

// plain spares the test bcrypt.
type plain struct{}

func (plain) Compare(_ context.Context, _, data []byte) error {
	if string(data) != "secret" {
		return errors.New("wrong")
	}
	return nil
}
func (plain) Hash(_ context.Context, data []byte) ([]byte, error) { return data, nil }

func newSession() fosite.Session { return &session{DefaultSession: &fosite.DefaultSession{}} }

type result struct {
	status int
	nonce  string
	json   map[string]any
}

func send(t *testing.T, h http.Handler, grant, secret string, proofs ...string) result {
	t.Helper()
	form := url.Values{"grant_type": {grant}, "scope": {"a"}}
	r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.SetBasicAuth("svc", secret)
	r.Header["Dpop"] = proofs
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	res := result{status: w.Code, nonce: w.Header().Get(dpopfosite.NonceHeader)}
	if err := json.Unmarshal(w.Body.Bytes(), &res.json); err != nil {
		t.Fatalf("%v: %s", err, w.Body)
	}
	return res
}

func proof(t *testing.T, url string) string { return proofWith(t, url, "") }

func proofWith(t *testing.T, url, nonce string) string {
	t.Helper()
	key, err := dpopbind.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	p, err := key.Proof(http.MethodPost, url, time.Now(), dpopbind.ProofOptions{Nonce: nonce})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestAnyFositeServerIssuesDPoPTokens(t *testing.T) {
	h := otherServer(t, nil, newSession)
	got := send(t, h, "client_credentials", "secret", proof(t, endpoint))
	if got.status != http.StatusOK || got.json["token_type"] != "DPoP" {
		t.Errorf("%+v", got)
	}
}

func TestProofIsRefusedBeforeAndAfterTheClientIsKnown(t *testing.T) {
	h := otherServer(t, nil, newSession)
	good := proof(t, endpoint)
	badSignature := good[:len(good)-4] + "AAAA"
	for _, c := range []struct {
		name, secret string
		proofs       []string
		status       int
		code         string
	}{
		{"for another URL, wrong secret", "wrong", []string{proof(t, "https://other.test/")}, 400, "invalid_dpop_proof"},
		{"two proofs", "secret", []string{good, good}, 400, "invalid_dpop_proof"},
		{"an empty proof", "secret", []string{""}, 400, "invalid_dpop_proof"},
		{"bad signature, wrong secret: the client comes first", "wrong", []string{badSignature}, 401, "invalid_client"},
		{"bad signature", "secret", []string{badSignature}, 400, "invalid_dpop_proof"},
		{"none, and bearer not admitted", "secret", nil, 400, "invalid_dpop_proof"},
	} {
		if got := send(t, h, "client_credentials", c.secret, c.proofs...); got.status != c.status || got.json["error"] != c.code {
			t.Errorf("%s: %+v", c.name, got)
		}
	}
}

func TestBearerIsIssuedOnlyWhereAdmitted(t *testing.T) {
	h := otherServer(t, func(context.Context, fosite.AccessRequester) bool { return true }, newSession)
	if got := send(t, h, "client_credentials", "secret"); got.status != http.StatusOK || got.json["token_type"] != "bearer" {
		t.Errorf("%+v", got)
	}
	// Two headers never read as none.
	if got := send(t, h, "client_credentials", "secret", "", ""); got.status != http.StatusBadRequest {
		t.Errorf("%+v", got)
	}
}

func TestUnknownGrantDoesNotSucceed(t *testing.T) {
	h := otherServer(t, nil, newSession)
	for _, grant := range []string{"password", "client_credentials password", "urn:x"} {
		if got := send(t, h, grant, "secret", proof(t, endpoint)); got.status != http.StatusBadRequest || got.json["access_token"] != nil {
			t.Errorf("%s: %+v", grant, got)
		}
	}
}

func TestSessionThatCannotCarryAProofIsAnError(t *testing.T) {
	h := otherServer(t, nil, func() fosite.Session { return &fosite.DefaultSession{} })
	if got := send(t, h, "client_credentials", "secret", proof(t, endpoint)); got.status < 400 || got.json["access_token"] != nil {
		t.Errorf("%+v", got)
	}
	if _, err := dpopfosite.New(dpopfosite.Config{}); err == nil {
		t.Error("a DPoP without a Checker was made")
	}
}

func TestNonceIsAskedForAndTaken(t *testing.T) {
	now := time.Now()
	nonces, err := dpopbind.NewNonces(dpopbind.NonceConfig{
		Secrets: [][]byte{make([]byte, dpopbind.MinNonceSecret)}, Now: func() time.Time { return now },
	})
	if err != nil {
		t.Fatal(err)
	}
	h := configured(t, dpopfosite.Config{Nonces: nonces}, newSession)
	got := send(t, h, "client_credentials", "wrong", proof(t, endpoint))
	if got.status != http.StatusBadRequest || got.json["error"] != "use_dpop_nonce" || got.nonce != nonces.Current() {
		t.Fatalf("%+v", got)
	}
	if got := send(t, h, "client_credentials", "secret", proofWith(t, endpoint, got.nonce)); got.status != http.StatusOK || got.nonce != "" {
		t.Errorf("%+v", got)
	}
	old := got.nonce
	now = now.Add(dpopbind.DefaultNonceStep)
	if got := send(t, h, "client_credentials", "secret", proofWith(t, endpoint, old)); got.status != http.StatusOK || got.nonce != nonces.Current() {
		t.Errorf("an aging nonce: %+v", got)
	}
	if _, err := dpopfosite.New(dpopfosite.Config{NonceRequired: func(context.Context, fosite.AccessRequester) bool { return true }}); err == nil {
		t.Error("nonces are required and there are none")
	}
}

func TestProofIsSpentInTheReplay(t *testing.T) {
	h := configured(t, dpopfosite.Config{Replay: dpopbind.NewMemoryReplay(2, nil)}, newSession)
	once := proof(t, endpoint)
	if got := send(t, h, "client_credentials", "secret", once); got.status != http.StatusOK {
		t.Fatalf("%+v", got)
	}
	if got := send(t, h, "client_credentials", "secret", once); got.status != http.StatusBadRequest || got.json["error"] != "invalid_dpop_proof" {
		t.Errorf("a second time: %+v", got)
	}
	if got := send(t, h, "client_credentials", "secret", proof(t, endpoint)); got.status != http.StatusOK {
		t.Errorf("%+v", got)
	}
	// Full: it cannot tell, and refuses.
	if got := send(t, h, "client_credentials", "secret", proof(t, endpoint)); got.status != http.StatusServiceUnavailable || got.json["access_token"] != nil {
		t.Errorf("a full memory: %+v", got)
	}
}
