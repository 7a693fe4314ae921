package authz

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ory/fosite"

	"github.com/cargokey/authz/dpopbind"
	"github.com/cargokey/authz/dpopbind/dpopfosite"
	"github.com/cargokey/authz/jwks"
)

// Limits of what can be configured: a spent proof is kept for two hours at
// least, and must outlive its window by far.
const (
	DefaultProofLifetime = 60 * time.Second
	DefaultClockSkew     = 15 * time.Second
	maxProofLifetime     = 10 * time.Minute
	maxClockSkew         = 5 * time.Minute
)

// Config is what New needs. Nothing in it has a hidden default but where it
// says so.
type Config struct {
	// Issuer is the server's issuer identifier (RFC 8414 §2): https, a host,
	// no path, query or fragment. http is admitted for loopback hosts only.
	Issuer string
	// TokenEndpointAliases are further URLs that a client may sign as htu.
	TokenEndpointAliases []string
	// ClientCertificates: see there. The zero value: no client shows any.
	ClientCertificates ClientCertificates
	// ServiceDocumentation is a URL for the metadata; empty: none.
	ServiceDocumentation string
	// ProofLifetime is how long a proof is accepted after its iat, without the
	// skew; 1 s to 10 min.
	ProofLifetime time.Duration
	// ClockSkew is how far a client's clock may be off, either way; 1 s to 5 min.
	ClockSkew time.Duration

	// NonceSecrets are shared by all instances; see dpopbind.NonceConfig for
	// their size and their rotation. At least one.
	NonceSecrets [][]byte
	// RequireNonce asks all clients' proofs for a nonce, and not only those of
	// clients that are registered so.
	RequireNonce bool

	// SigningAlgorithm is what tokens for resources that have not chosen are signed
	// by, and all else; empty: jwks.DefaultAlgorithm.
	SigningAlgorithm jwks.Algorithm
	// KeyRotation is how often a new signing key is made; 0: by hand only. See
	// ValidateKeyRotation.
	KeyRotation time.Duration
	// KeyPublishAhead is how long it is published before it signs; it counts where
	// KeyRotation is not 0.
	KeyPublishAhead time.Duration
	// Device holds the signing keys that are made from now on, and opens those
	// that it has made; nil: there is none.
	Device KeyHolder
	// SealNewKeys has Sealer hold new keys though there is a Device.
	SealNewKeys bool

	// AssertionAudienceTokenEndpoint: the aud of a client assertion may also be one of
	// the token endpoint's URLs, for clients that know no better. What they sign for
	// this server, a server that gives its own endpoint the same URL could use here.
	AssertionAudienceTokenEndpoint bool
	// JWKSURINetworks may be connected to for the keys at clients' jwks_uri, besides
	// public addresses.
	JWKSURINetworks []netip.Prefix
	// JWKSURIAuthorities are those of the certificates there; nil: the system's.
	JWKSURIAuthorities *x509.CertPool

	// TrustedProxies are the networks of the peers whose header X-Forwarded-For or
	// Forwarded (RFC 7239) is believed for the address of a client at the public
	// listener, in the log, the audit trail and the limits of failures: see
	// ValidateProxies. Nobody who is a client may be in one, since it could choose its
	// address there. Nil: a client's address is its peer's.
	TrustedProxies []netip.Prefix

	// InFlight is how many requests are in work at a time, on the public listener and
	// again for gateways; as many more wait, for a second at most, and the rest gets
	// 503. 0: DefaultInFlight for each core.
	InFlight int
	// FailuresPerClient and FailuresPerAddress are how many failed authentications and
	// refused proofs in a minute are answered, and logged, one by one. 0: the defaults.
	FailuresPerClient, FailuresPerAddress int

	// Profile holds the server to more; empty: to nothing more.
	Profile Profile

	// Traces: see there. The zero value: none.
	Traces Traces

	Store   Store
	Sealer  *jwks.Sealer
	Metrics *Metrics
	Log     *slog.Logger
	Now     func() time.Time // the one source of time for all that is decided
}

// Server is the authorization server of one instance. It is made by New and
// safe for concurrent use.
type Server struct {
	issuer       string
	profile      Profile
	certificates ClientCertificates
	store        Store
	clients      clientCache
	now          func() time.Time
	log          *slog.Logger
	metrics      *Metrics
	tracing      tracing
	keys         keyring
	scopes       scopeList
	tally        *tally
	metadata     metadata
	gateways     gatewayTables
	checker      *dpopbind.Checker
	nonces       *dpopbind.Nonces
	dpop         *dpopfosite.DPoP
	oauth2       fosite.OAuth2Provider
	proofWindow  time.Duration
	assertions   assertionAuth
	// enrolTarget is what the proofs of new DPoP keys are for.
	enrolTarget       dpopbind.Target
	endorsementWindow time.Duration
	// Requests come through public or, those of gateways, through gateway.
	public, gateway *door
	failures        *failures
	// requireNonce: of all proofs.
	requireNonce bool
	draining     atomic.Bool
	// promoted: the timeline of the database is another one than when it was claimed.
	promoted atomic.Bool
}

// New makes a Server and brings the Store to where it can issue: partitions
// around now, and a first signing key where there is none. It fails with
// jwks.ErrSealedByAnother where none of the sealing keys has sealed the key that
// signs, and with jwks.ErrHeld where a device holds it and there is none.
func New(ctx context.Context, c Config) (*Server, error) {
	if err := c.validate(); err != nil {
		return nil, err
	}
	s := &Server{
		issuer: c.Issuer, profile: c.Profile, certificates: c.ClientCertificates, log: c.Log, metrics: c.Metrics,
		tracing: newTracing(c.Traces),
		// Microseconds are what Postgres keeps.
		now:         func() time.Time { return c.Now().UTC().Truncate(time.Microsecond) },
		proofWindow: c.ProofLifetime + 2*c.ClockSkew,
		// As proofWindow, for an endorsement of the longest life.
		endorsementWindow: dpopbind.MaxEndorsementLifetime + 2*c.ClockSkew,
		requireNonce:      c.RequireNonce,
	}
	s.public = newDoor(c.InFlight, newShedding(c.Metrics, c.Log, "public"))
	s.public.proxies = c.TrustedProxies
	s.gateway = newDoor(c.InFlight, newShedding(c.Metrics, c.Log, "gateway"))
	s.failures = newFailures(cmp.Or(c.FailuresPerClient, DefaultFailuresPerClient), cmp.Or(c.FailuresPerAddress, DefaultFailuresPerAddress),
		newShedding(c.Metrics, c.Log, "lookup"))
	s.store = lookups{c.Store, s.failures}
	s.keys = keyring{
		store: c.Store, holders: keyHolders{sealer: c.Sealer, device: c.Device, sealNew: c.SealNewKeys}, now: s.now,
		algorithm: cmp.Or(c.SigningAlgorithm, jwks.DefaultAlgorithm), profile: c.Profile,
		rotation: c.KeyRotation, ahead: c.KeyPublishAhead, metrics: c.Metrics,
	}
	s.scopes = scopeList{store: c.Store, now: s.now}
	s.clients = clientCache{store: s.store}
	s.gateways = gatewayTables{store: c.Store, log: c.Log, profile: c.Profile}
	s.tally = newTally(c.Store, s.now, c.Metrics)

	var err error
	s.checker, err = dpopbind.NewChecker(dpopbind.CheckerConfig{
		Algorithms: c.Profile.proofAlgorithms(), Lifetime: c.ProofLifetime, ClockSkew: c.ClockSkew, Now: s.now,
	})
	if err != nil {
		return nil, fmt.Errorf("configuring proofs: %w", err)
	}
	target, err := dpopbind.NewTarget(http.MethodPost, slices.Concat(c.urlsOf(pathToken), c.TokenEndpointAliases)...)
	if err != nil {
		return nil, fmt.Errorf("configuring proofs: %w", err)
	}
	if s.enrolTarget, err = dpopbind.NewTarget(http.MethodPost, c.urlsOf(pathDPoPKeys)...); err != nil {
		return nil, fmt.Errorf("configuring proofs: %w", err)
	}
	s.nonces, err = dpopbind.NewNonces(dpopbind.NonceConfig{Secrets: c.NonceSecrets, Now: s.now})
	if err != nil {
		return nil, fmt.Errorf("configuring nonces: %w", err)
	}
	if err := s.configureAssertions(c); err != nil {
		return nil, err
	}
	s.dpop, err = dpopfosite.New(dpopfosite.Config{
		Checker: s.checker, Target: target, BearerAdmitted: s.bearerAdmitted,
		Nonces: s.nonces, NonceRequired: nonceRequired(c.RequireNonce),
	})
	if err != nil {
		return nil, err
	}
	s.oauth2 = s.assemble(s.dpop)
	var algorithms []string
	for _, a := range c.Profile.proofAlgorithms() {
		algorithms = append(algorithms, string(a))
	}
	s.metadata = s.fixedMetadata(c.ServiceDocumentation, algorithms)

	if err := s.lookAtDatabase(ctx); err != nil {
		return nil, err
	}
	if err := s.keepPartitions(ctx); err != nil {
		return nil, fmt.Errorf("preparing partitions: %w", err)
	}
	unopened, err := s.keys.start(ctx)
	if err != nil {
		return nil, err
	}
	if unopened != nil {
		s.log.Warn("the server starts without some of its signing keys", "cause", unopened)
	}
	if err := s.gateways.load(ctx); err != nil {
		return nil, err
	}
	if err := s.warnOfRuledOut(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

func (c *Config) validate() error {
	if c.Store == nil || c.Sealer == nil || c.Metrics == nil || c.Log == nil || c.Now == nil {
		return errors.New("authz: Store, Sealer, Metrics, Log and Now are all needed")
	}
	if err := ValidateIssuer(c.Issuer); err != nil {
		return err
	}
	if err := c.ClientCertificates.validate(); err != nil {
		return err
	}
	for _, network := range c.TrustedProxies {
		if err := ValidateProxies(network); err != nil {
			return fmt.Errorf("authz: the trusted proxies %s: %w", network, err)
		}
	}
	if c.ProofLifetime < time.Second || c.ProofLifetime > maxProofLifetime {
		return fmt.Errorf("the lifetime of proofs is %s; it may be 1s to %s", c.ProofLifetime, maxProofLifetime)
	}
	if c.ClockSkew < time.Second || c.ClockSkew > maxClockSkew {
		return fmt.Errorf("the clock skew is %s; it may be 1s to %s", c.ClockSkew, maxClockSkew)
	}
	if c.SigningAlgorithm != "" && !slices.Contains(jwks.Algorithms(), c.SigningAlgorithm) {
		return fmt.Errorf("the signing algorithm is %q; it may be one of %q", c.SigningAlgorithm, jwks.Algorithms())
	}
	if err := c.Profile.validate(c); err != nil {
		return err
	}
	if c.InFlight < 0 || c.InFlight > maxInFlight || c.FailuresPerClient < 0 || c.FailuresPerAddress < 0 {
		return fmt.Errorf("requests in flight are at most %d, and no limit is below 0", maxInFlight)
	}
	if c.KeyRotation != 0 {
		return ValidateKeyRotation(c.KeyRotation, c.KeyPublishAhead)
	}
	return nil
}

// ValidateIssuer holds RFC 8414 §2, and that plain http is for loopback only:
// client secrets and tokens cross this connection.
func ValidateIssuer(issuer string) error {
	u, err := url.Parse(issuer)
	switch {
	case err != nil || !u.IsAbs() || u.Host == "" || u.Hostname() == "":
		return errors.New("not an absolute URL with a host")
	case u.User != nil || u.Path != "" || u.RawQuery != "" || u.ForceQuery || strings.Contains(issuer, "#"):
		return errors.New("an issuer is scheme, host and port only: no user, path, trailing slash, query or fragment")
	case u.Scheme == "https":
		return nil
	case u.Scheme == "http" && isLoopback(u.Hostname()):
		return nil
	default:
		return errors.New("an issuer is https; http is for loopback hosts only (127.0.0.1, [::1], localhost)")
	}
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// Handler serves the public listener.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle(pathToken, s.endpoint(s.public, "token", s.token))
	mux.Handle(pathIntrospect, s.endpoint(s.public, "introspect", s.introspect))
	mux.Handle(pathRevoke, s.endpoint(s.public, "revoke", s.revoke))
	mux.Handle(pathDPoPKeys, s.endpoint(s.public, "dpop_keys", s.enrol))
	mux.Handle(pathMetadata, s.endpoint(s.public, "metadata", s.discover))
	mux.Handle(pathJWKS, s.endpoint(s.public, "jwks", s.jwks))
	return s.certificates.shownTo(mux)
}

// InternalHandler serves the internal listener; metrics is what answers
// /metrics. The check for gateways wants a gateway's credentials here too.
func (s *Server) InternalHandler(metrics http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", healthz)
	mux.HandleFunc("GET /readyz", s.readyz)
	mux.Handle("GET /metrics", metrics)
	return s.gatewayRoutes(mux)
}

// maintainEvery is how often an instance looks after partitions, which are
// made hours ahead.
const maintainEvery = 5 * time.Minute

// gatewaysAge is how often what gateway checks go by is read without a reason.
const gatewaysAge = 30 * time.Second

// lastFlush bounds what Run does once its ctx has ended.
const lastFlush = 800 * time.Millisecond

// Run looks after partitions, keys and the audit trail until ctx ends, and
// returns once it has tried, in less than a second, to record what was counted
// by then: end ctx when no more requests come, and close the Store after Run.
// A failure is logged, counted and tried again at the next turn.
func (s *Server) Run(ctx context.Context) {
	partitions := time.NewTicker(maintainEvery)
	defer partitions.Stop()
	keys := time.NewTicker(keysAge)
	defer keys.Stop()
	gateways := time.NewTicker(gatewaysAge)
	defer gateways.Stop()
	counts := time.NewTicker(tallyEvery)
	defer counts.Stop()
	var watching sync.WaitGroup
	watching.Go(func() { s.watchReadiness(ctx) })
	defer watching.Wait()
	for {
		select {
		case <-ctx.Done():
			s.look(context.WithoutCancel(ctx), taskAudit, func(ctx context.Context) error {
				ctx, cancel := context.WithTimeout(ctx, lastFlush)
				defer cancel()
				return s.tally.flush(ctx)
			})
			return
		case <-counts.C:
			s.look(ctx, taskAudit, s.tally.flush)
		case <-partitions.C:
			s.look(ctx, taskPartitions, s.keepPartitions)
		case <-keys.C:
			s.look(ctx, taskKeys, s.keys.look)
			s.look(ctx, taskDatabase, s.lookAtDatabase)
		case <-gateways.C:
			s.look(ctx, taskGateways, s.gateways.load)
		}
	}
}

// Tasks of upkeep.
const (
	taskAudit      = "audit"
	taskPartitions = "partitions"
	taskKeys       = "keys"
	taskDatabase   = "database"
	taskGateways   = "gateways"
)

func tasks() []string {
	return []string{taskAudit, taskPartitions, taskKeys, taskDatabase, taskGateways}
}

// look runs one task of upkeep, in bounded time.
func (s *Server) look(ctx context.Context, task string, do func(context.Context) error) {
	bounded, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	err := do(bounded)
	s.metrics.maintenance.WithLabelValues(task, outcome(err)).Inc()
	if err != nil && ctx.Err() == nil {
		s.log.Error("upkeep failed", "task", task, "cause", err)
	}
}

// Drain makes the server not ready, so that balancers send it nothing more.
func (s *Server) Drain() {
	s.draining.Store(true)
	s.metrics.ready.Set(0)
}
