package authz_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/cargokey/authz/authz"
	"github.com/cargokey/authz/dpopbind"
	"github.com/cargokey/authz/internal/pgdev/pgtest"
	"github.com/cargokey/authz/internal/span/spantest"
	"github.com/cargokey/authz/jwks"
	"github.com/cargokey/authz/storage/postgres"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// The issuer's name is nowhere near the address that the tests connect to: what
// counts is the configuration, never where a request came in.
const (
	issuer        = "https://auth.carrier.test"
	tokenEndpoint = issuer + "/oauth/token"
	labels        = "https://labels.carrier.test"
	rates         = "https://rates.carrier.test"
	labelsURL     = "https://api.carrier.test/v1"
	ratesURL      = "https://api.carrier.test/v1/rates" // within the other's
)

// world is one database and whoever works on it: operators, instances, and
// the secrets that must not be found anywhere else.
type world struct {
	t        testing.TB
	database pgtest.Database
	owner    *postgres.Store
	sealer   *jwks.Sealer
	sealing  string // its key, as the environment has it
	logs     *lockedBuffer
	time     func() time.Time // nil: time.Now

	changed  atomic.Int64 // when a registration was last changed, in Unix milliseconds
	admitted atomic.Int64 // calls that a gateway check let through with a proof
	asserted atomic.Int64 // assertions that were spent by other requests than for a token
	unsure   atomic.Int64 // calls of which nobody knows whether they spent their proof
	named    bool         // metrics name clients
	forgets  bool         // so much time passes that partitions are dropped

	mu      sync.Mutex
	secrets []string // everything that no log, no table and no trace may hold
	traces  []*spantest.Collector
}

// newWorld registers two resources and no client. What always holds is checked
// at the end of the test, over the whole database and all logs.
func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, database: pgtest.New(t), logs: &lockedBuffer{}}
	var err error
	if w.owner, err = postgres.Open(t.Context(), w.database.OwnerURL); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.owner.Close)
	key := make([]byte, jwks.SealingKeySize)
	rand.Read(key)
	if w.sealer, err = jwks.NewSealer(key); err != nil {
		t.Fatal(err)
	}
	w.sealing = base64.StdEncoding.EncodeToString(key)
	w.secret(w.sealing)
	if err := w.owner.Maintain(t.Context(), time.Now()); err != nil {
		t.Fatal(err)
	}
	w.resource(&authz.Resource{URI: labels, Scopes: []string{"label:create", "label:read", "CXS", "shared"}, BaseURLs: []string{labelsURL}})
	w.resource(&authz.Resource{URI: rates, Scopes: []string{"rate:read", "shared"}, TokenTTL: 5 * time.Minute, AllowBearer: true, BaseURLs: []string{ratesURL}})
	t.Cleanup(w.checkInvariants)
	return w
}

func (w *world) resource(r *authz.Resource) {
	w.t.Helper()
	event := operatorEvent(authz.AuditResourceCreated)
	r.CreatedAt, r.UpdatedAt = event.At, event.At
	if err := r.Validate(); err != nil {
		w.t.Fatal(err)
	}
	w.changed.Store(time.Now().UnixMilli())
	if err := w.owner.CreateResource(w.t.Context(), r, event); err != nil {
		w.t.Fatal(err)
	}
}

// registered is a client and the secret it was given.
type registered struct {
	*authz.Client
	secret string
}

// client registers one; an empty ID means "label-service".
func (w *world) client(c authz.Client) registered {
	w.t.Helper()
	if c.ID == "" {
		c.ID = "label-service"
	}
	if c.Grants == nil && c.Introspects == nil {
		c.Grants = []authz.Grant{{Resource: labels, Scopes: []string{"label:create", "label:read", "CXS"}}}
	}
	if err := c.Validate(); err != nil {
		w.t.Fatal(err)
	}
	secret := authz.NewSecret()
	event := operatorEvent(authz.AuditClientCreated)
	if c.CreatedAt = event.At; c.JWKS == nil && c.JWKSURI == "" {
		c.Secrets = []authz.Digest{secret.Digest()}
	}
	w.changed.Store(time.Now().UnixMilli())
	if err := w.owner.CreateClient(w.t.Context(), &c, event); err != nil {
		w.t.Fatal(err)
	}
	w.secret(secret.Reveal())
	return registered{&c, secret.Reveal()}
}

// gateway registers a client that may introspect the tokens of labels.
func (w *world) gateway() registered {
	return w.client(authz.Client{ID: "edge-gateway", Introspects: []string{labels}})
}

// secret notes what must be found nowhere.
func (w *world) secret(s string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.secrets = append(w.secrets, s)
}

func operatorEvent(kind authz.AuditKind) authz.AuditEvent {
	return authz.NewAuditEvent(time.Now().UTC().Truncate(time.Microsecond), kind, authz.ActorOperator("test"))
}

// instance is one server over real HTTP, with a clock of its own.
type instance struct {
	w        *world
	url      string
	internal string
	server   *authz.Server
	store    *postgres.Store
	offset   atomic.Int64 // of its clock, in nanoseconds
	close    func()       // once no request is under way; the test's end does
}

func (w *world) instance(options ...func(*authz.Config)) *instance {
	w.t.Helper()
	return w.instanceOf(w.database.ServerURL, options...)
}

func (w *world) instanceOf(databaseURL string, options ...func(*authz.Config)) *instance {
	w.t.Helper()
	store, err := postgres.Open(w.t.Context(), databaseURL, postgres.AsServer())
	if err != nil {
		w.t.Fatal(err)
	}
	i := &instance{w: w, store: store, close: store.Close}
	w.t.Cleanup(func() {
		if i.server != nil {
			i.flush() // so that what is in the trail by now is all that ever will be
		}
		i.close()
	})
	registry := prometheus.NewRegistry()
	w.t.Cleanup(func() { holdNothingIsOther(w.t, registry) })
	var named []authz.MetricsOption
	if w.named {
		named = append(named, authz.NameClients())
	}
	config := authz.Config{
		Issuer: issuer, ProofLifetime: authz.DefaultProofLifetime, ClockSkew: authz.DefaultClockSkew,
		Store: store, Sealer: w.sealer, Metrics: authz.NewMetrics(registry, named...),
		NonceSecrets: [][]byte{make([]byte, dpopbind.MinNonceSecret)},
		Log:          slog.New(slog.NewJSONHandler(w.logs, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Now:          i.now,
		// Tables of bad requests are long.
		FailuresPerClient: 1_000_000, FailuresPerAddress: 1_000_000,
	}
	for _, o := range options {
		o(&config)
	}
	if i.server, err = authz.New(w.t.Context(), config); err != nil {
		w.t.Fatal(err)
	}
	public := httptest.NewServer(i.server.Handler())
	internal := httptest.NewServer(i.server.InternalHandler(promhttp.HandlerFor(registry, promhttp.HandlerOpts{})))
	i.close = func() {
		public.Close()
		internal.Close()
		store.Close()
	}
	i.url, i.internal = public.URL, internal.URL
	return i
}

func (i *instance) now() time.Time {
	now := time.Now
	if i.w.time != nil {
		now = i.w.time
	}
	return now().Add(time.Duration(i.offset.Load()))
}

// advance moves the instance's clock, and makes the partitions that the server
// would have made on the way.
func (i *instance) advance(d time.Duration) {
	i.w.t.Helper()
	i.offset.Add(int64(d))
	if err := i.store.Maintain(i.w.t.Context(), i.now()); err != nil {
		i.w.t.Fatal(err)
	}
}

// answer is an HTTP answer, read whole.
type answer struct {
	status int
	header http.Header
	body   string
	json   map[string]any
}

func (a answer) string(member string) string { s, _ := a.json[member].(string); return s }

// httpClient keeps its connections, unlike http.DefaultClient, of which two a host
// stay.
var httpClient = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 100}}

// do sends a request as it is.
func (i *instance) do(r *http.Request) answer {
	i.w.t.Helper()
	a, err := i.try(r)
	if err != nil {
		i.w.t.Fatal(err)
	}
	return a
}

func (i *instance) try(r *http.Request) (answer, error) { return i.tryBy(httpClient, r) }

// by sends a request by another connection.
func (i *instance) by(c *http.Client, r *http.Request) answer {
	i.w.t.Helper()
	a, err := i.tryBy(c, r)
	if err != nil {
		i.w.t.Fatal(err)
	}
	return a
}

func (i *instance) tryBy(c *http.Client, r *http.Request) (answer, error) {
	response, err := c.Do(r)
	if err != nil {
		return answer{}, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return answer{}, err
	}
	a := answer{status: response.StatusCode, header: response.Header, body: string(body)}
	if strings.Contains(response.Header.Get("Content-Type"), "json") {
		if err := json.Unmarshal(body, &a.json); err != nil {
			return answer{}, err
		}
	}
	if token := a.string("access_token"); token != "" {
		i.w.secret(token)
	}
	switch isCheck := strings.HasPrefix(r.URL.Path, "/gateway/verify"); {
	case isCheck && a.status == http.StatusOK && a.header.Get("X-Auth-Jkt") != "":
		i.w.admitted.Add(1)
	case isCheck && a.status == http.StatusServiceUnavailable:
		i.w.unsure.Add(1)
	}
	return a, nil
}

// post makes a form request authenticated by HTTP Basic, where c is not empty.
func (i *instance) post(path string, c registered, form url.Values) *http.Request {
	i.w.t.Helper()
	r, err := http.NewRequestWithContext(context.WithoutCancel(i.w.t.Context()), http.MethodPost, i.url+path, strings.NewReader(form.Encode()))
	if err != nil {
		i.w.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if c.secret != "" {
		r.SetBasicAuth(c.ID, c.secret)
	}
	return r
}

var clientCredentials = url.Values{"grant_type": {"client_credentials"}}

// with adds parameters to a form: name, value, name, value.
func with(form url.Values, pairs ...string) url.Values {
	out := url.Values{}
	for name, values := range form {
		out[name] = values
	}
	for i := 0; i < len(pairs); i += 2 {
		out.Set(pairs[i], pairs[i+1])
	}
	return out
}

// tokenRequest is a request for a token with a new proof by key.
func (i *instance) tokenRequest(c registered, key *dpopbind.Key, form url.Values) *http.Request {
	r := i.post("/oauth/token", c, form)
	if key != nil {
		r.Header.Set("DPoP", i.proof(key))
	}
	return r
}

func (i *instance) proof(key *dpopbind.Key) string {
	i.w.t.Helper()
	return i.proofAt(key, tokenEndpoint)
}

// proofAt is a proof for another URL of the token endpoint.
func (i *instance) proofAt(key *dpopbind.Key, url string) string {
	i.w.t.Helper()
	proof, err := key.Proof(http.MethodPost, url, i.now(), dpopbind.ProofOptions{})
	if err != nil {
		i.w.t.Fatal(err)
	}
	i.w.secret(proof)
	return proof
}

// token gets a bound token, which must succeed.
func (i *instance) token(c registered, key *dpopbind.Key, pairs ...string) answer {
	i.w.t.Helper()
	a := i.do(i.tokenRequest(c, key, with(clientCredentials, pairs...)))
	if a.status != http.StatusOK {
		i.w.t.Fatalf("token: %d %s", a.status, a.body)
	}
	return a
}

func (i *instance) introspect(gateway registered, token string) answer {
	i.w.t.Helper()
	a := i.do(i.post("/oauth/introspect", gateway, url.Values{"token": {token}}))
	if a.status != http.StatusOK {
		i.w.t.Fatalf("introspect: %d %s", a.status, a.body)
	}
	return a
}

// active tells whether a token is, and holds that an inactive one gets one
// fixed answer.
func (i *instance) active(gateway registered, token string) bool {
	i.w.t.Helper()
	a := i.introspect(gateway, token)
	active, _ := a.json["active"].(bool)
	if !active && a.body != `{"active":false}` {
		i.w.t.Errorf("an inactive token's answer says more: %s", a.body)
	}
	return active
}

func newKey(t testing.TB) *dpopbind.Key {
	t.Helper()
	key, err := dpopbind.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// lockedBuffer takes the logs of several instances.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// infoLog is the log of a server in production.
func infoLog(b *lockedBuffer) *slog.Logger {
	return slog.New(slog.NewJSONHandler(b, nil))
}
