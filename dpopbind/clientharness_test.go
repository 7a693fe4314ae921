package dpopbind_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cargokey/authz/dpopbind"
)

const (
	clientID     = "label service"
	clientSecret = "azs_s3cr3t/with+signs&more"
)

// platform is an authorization server and an API on two origins. Both check
// proofs in full, and remember what they have seen.
type platform struct {
	t       *testing.T
	as, api *httptest.Server
	checker *dpopbind.Checker
	spent   *dpopbind.MemoryReplay

	mu            sync.Mutex
	skew          time.Duration // of the client's clock and the servers'
	frozen        time.Time     // where the clock stands, if it does
	tokens        map[string]string
	invalid       map[string]bool
	tokenRequests int
	discoveries   int
	apiRequests   int
	bodies        []string
	allInvalid    bool
	noMetadata    bool
	bearer        bool   // the server does not know DPoP
	asNonce       string // demanded, if there is one
	apiNonce      string
	expiresIn     string                                            // JSON; "" leaves it out
	clientKey     *dpopbind.Key                                     // instead of the secret
	asserted      map[[32]byte]bool                                 // assertions that were used
	hold          chan struct{}                                     // token requests wait for it
	answer        func(w http.ResponseWriter) bool                  // instead of the token endpoint's own
	apiAnswer     func(w http.ResponseWriter, r *http.Request) bool // after all checks
	secrets       []string                                          // that no error may hold
}

func newPlatform(t *testing.T) *platform {
	t.Helper()
	p := &platform{t: t, tokens: map[string]string{}, invalid: map[string]bool{}, expiresIn: "3600"}
	p.checker = must(dpopbind.NewChecker(dpopbind.CheckerConfig{Now: p.now}))
	p.spent = dpopbind.NewMemoryReplay(0, p.now)
	as := http.NewServeMux()
	as.HandleFunc("GET /.well-known/oauth-authorization-server", func(w http.ResponseWriter, _ *http.Request) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.discoveries++
		if p.noMetadata {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintf(w, `{"issuer":%q,"token_endpoint":%q}`, p.as.URL, p.as.URL+"/oauth/token")
	})
	as.HandleFunc("POST /oauth/token", p.serveToken)
	p.as = newServer(t, as)
	p.api = newServer(t, http.HandlerFunc(p.serveAPI))
	return p
}

func newServer(t *testing.T, h http.Handler) *httptest.Server {
	s := httptest.NewUnstartedServer(h)
	s.Start()
	t.Cleanup(s.Close)
	return s
}

func (p *platform) now() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.frozen.IsZero() {
		return p.frozen.Add(p.skew)
	}
	return time.Now().Add(p.skew)
}

func (p *platform) set(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
}

func (p *platform) advance(d time.Duration) { p.set(func() { p.skew += d }) }

func (p *platform) counts() (tokenRequests, apiRequests int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.tokenRequests, p.apiRequests
}

func (p *platform) expect(tokenRequests, apiRequests int) {
	p.t.Helper()
	if tokens, calls := p.counts(); tokens != tokenRequests || calls != apiRequests {
		p.t.Errorf("there were %d token requests and %d of the API, want %d and %d", tokens, calls, tokenRequests, apiRequests)
	}
}

func (p *platform) config() dpopbind.ClientConfig {
	return dpopbind.ClientConfig{
		Issuer: p.as.URL, ClientID: clientID, ClientSecret: clientSecret, APIs: []string{p.api.URL}, Now: p.now,
	}
}

func (p *platform) client(change ...func(*dpopbind.ClientConfig)) *dpopbind.Client {
	p.t.Helper()
	cfg := p.config()
	for _, c := range change {
		c(&cfg)
	}
	client, err := dpopbind.NewClient(cfg)
	if err != nil {
		p.t.Fatal(err)
	}
	return client
}

// prove checks a proof in full, and answers where it fails.
func (p *platform) prove(r *http.Request, address, nonce, token string) (jkt, code string, err error) {
	raw, err := dpopbind.ProofHeader(r.Header)
	if err != nil {
		return "", "invalid_dpop_proof", err
	}
	p.set(func() { p.secrets = append(p.secrets, raw) })
	target, err := dpopbind.NewTarget(r.Method, address)
	if err != nil {
		return "", "invalid_dpop_proof", err
	}
	var proof *dpopbind.Proof
	if token == "" {
		proof, err = p.checker.Check(raw, target)
	} else {
		proof, err = p.checker.CheckWithToken(raw, target, token)
	}
	if err == nil {
		err = proof.VerifySignature()
	}
	if err != nil {
		return "", "invalid_dpop_proof", err
	}
	if nonce != "" && proof.Nonce() != nonce {
		return "", "use_dpop_nonce", fmt.Errorf("the nonce is not the current one")
	}
	if err := proof.Spend(r.Context(), p.spent); err != nil {
		return "", "invalid_dpop_proof", err
	}
	return proof.JKT(), "", nil
}

func (p *platform) serveToken(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	p.tokenRequests++
	n, nonce, bearer, hold, answer, expiresIn := p.tokenRequests, p.asNonce, p.bearer, p.hold, p.answer, p.expiresIn
	p.mu.Unlock()
	if hold != nil {
		select {
		case <-hold:
		case <-r.Context().Done():
		}
	}
	if answer != nil && answer(w) {
		return
	}
	refuse := func(status int, code, text string) {
		w.WriteHeader(status)
		json.NewEncoder(w).Encode(map[string]string{"error": code, "error_description": text})
	}
	if nonce != "" {
		w.Header().Set("DPoP-Nonce", nonce)
	}
	id, secret, ok := r.BasicAuth()
	if !ok {
		id, secret = r.PostFormValue("client_id"), r.PostFormValue("client_secret")
	} else {
		id, secret = unescape(id), unescape(secret)
	}
	if p.clientKey != nil {
		if err := p.assert(r); err != nil {
			refuse(http.StatusUnauthorized, "invalid_client", err.Error()+": "+r.PostFormValue("client_assertion"))
			return
		}
	} else if id != clientID || secret != clientSecret {
		refuse(http.StatusUnauthorized, "invalid_client", "no such client: "+id+":"+secret)
		return
	}
	if r.PostFormValue("grant_type") != "client_credentials" {
		refuse(http.StatusBadRequest, "unsupported_grant_type", "")
		return
	}
	token := fmt.Sprintf("token-%d~value", n)
	kind, jkt := "DPoP", ""
	if bearer {
		kind = "Bearer"
		if r.Header.Get("DPoP") == "" {
			p.t.Error("a token request has no proof")
		}
	} else {
		var code string
		var err error
		if jkt, code, err = p.prove(r, p.as.URL+"/oauth/token", nonce, ""); err != nil {
			refuse(http.StatusBadRequest, code, err.Error())
			return
		}
	}
	p.set(func() { p.tokens[token] = jkt; p.secrets = append(p.secrets, token) })
	members := map[string]any{"access_token": token, "token_type": kind}
	if expiresIn != "" {
		members["expires_in"] = json.RawMessage(expiresIn)
	}
	if scope := r.PostFormValue("scope"); scope != "" {
		members["scope"] = scope + " more"
	}
	json.NewEncoder(w).Encode(members)
}

func unescape(s string) string {
	s, err := url.QueryUnescape(s)
	if err != nil {
		return ""
	}
	return s
}

func (p *platform) serveAPI(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	kind, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	p.mu.Lock()
	p.apiRequests++
	p.bodies = append(p.bodies, string(body))
	jkt, known := p.tokens[token]
	known = known && !p.invalid[token] && !p.allInvalid
	nonce, answer := p.apiNonce, p.apiAnswer
	p.mu.Unlock()
	if nonce != "" {
		w.Header().Set("DPoP-Nonce", nonce)
	}
	refuse := func(code string) {
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Basic realm="a, b", %s realm="x", error=%q, algs="ES256"`, kind, code))
		w.WriteHeader(http.StatusUnauthorized)
		io.WriteString(w, code)
	}
	switch {
	case !known:
		refuse("invalid_token")
		return
	case jkt == "": // a bearer token
		if kind != "Bearer" || r.Header.Get("DPoP") != "" {
			p.t.Errorf("a bearer token came as %s with proof %q", kind, r.Header.Get("DPoP"))
		}
	default:
		got, code, err := p.prove(r, p.api.URL+r.URL.EscapedPath(), nonce, token)
		if err != nil || got != jkt || kind != "DPoP" {
			refuse(code)
			return
		}
	}
	if answer == nil || !answer(w, r) {
		io.WriteString(w, "hello")
	}
}

// call makes a request and returns its status and body.
func call(t *testing.T, client *dpopbind.Client, r *http.Request) (int, string) {
	t.Helper()
	response, err := client.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	if response.Request != r {
		t.Error("Response.Request is not the caller's")
	}
	return response.StatusCode, string(body)
}

func get(t *testing.T, address string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// expectOK calls the API once.
func (p *platform) expectOK(client *dpopbind.Client) {
	p.t.Helper()
	if status, body := call(p.t, client, get(p.t, p.api.URL+"/labels?id=7#x")); status != http.StatusOK || body != "hello" {
		p.t.Fatalf("the API answers %d %q", status, body)
	}
}

// expectNoSecret looks for secrets in a text.
func (p *platform) expectNoSecret(text string) {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, secret := range append([]string{clientSecret, url.QueryEscape(clientSecret)}, p.secrets...) {
		if strings.Contains(text, secret) {
			p.t.Errorf("a secret is in %q", text)
		}
	}
}
