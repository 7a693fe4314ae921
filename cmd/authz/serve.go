package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/spf13/cobra"

	"github.com/cargokey/authz/authz"
	"github.com/cargokey/authz/internal/audittrail"
	"github.com/cargokey/authz/jwks"
	"github.com/cargokey/authz/storage/postgres"
)

func (p *program) serveCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "serve",
		Short: "Run the server, configured by the environment",
		Long: `Run the server until SIGINT or SIGTERM. It needs AUTHZ_ISSUER, AUTHZ_DATABASE_URL
and AUTHZ_KEY_ENCRYPTION_KEY, and a schema that "authz migrate" has brought up to
date. It logs to standard error.

Variables, with their defaults:

` + describeVariables() + `
OpenTelemetry's own variables turn traces on: OTEL_EXPORTER_OTLP_ENDPOINT is enough.`,
		Example: `  AUTHZ_ISSUER=https://auth.example.com \
  AUTHZ_DATABASE_URL=postgres://authz_app:…@db/authz \
  AUTHZ_KEY_ENCRYPTION_KEY_FILE=/run/secrets/authz-sealing-key authz serve`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return p.serve(cmd.Context()) },
	}
}

func (p *program) serve(ctx context.Context) error {
	c, err := readConfig()
	if err != nil {
		return err
	}
	if p.json {
		c.LogFormat = "json"
	}
	log, flush := newLateLog(p.err, c.logHandler)
	defer flush()
	// Before anything is missed that was only misspelt.
	for _, name := range unknownVariables(os.Environ()) {
		log.Warn(unknownVariable, "name", name)
	}
	if err := c.validateServe(); err != nil {
		return err
	}
	databaseURL, err := c.database()
	if err != nil {
		return err
	}
	sealingKeys, err := c.sealingKeys(sealingKeyToMake)
	if err != nil {
		return err
	}
	sealer, err := jwks.NewSealer(sealingKeys...)
	if err != nil {
		return err
	}
	nonceSecrets, err := c.nonceSecrets(sealingKeys)
	if err != nil {
		return err
	}
	networks, err := c.jwksURINetworks()
	if err != nil {
		return err
	}
	authorities, err := c.jwksURIAuthorities()
	if err != nil {
		return err
	}
	certificates, err := c.clientCertificates(log)
	if err != nil {
		return err
	}
	trustedProxies, err := c.trustedProxies()
	if err != nil {
		return err
	}
	public, internal, err := c.listeners(log)
	if err != nil {
		return err
	}
	defer public.Close()
	defer internal.Close()
	gateways, err := c.gatewayListeners(log)
	if err != nil {
		return err
	}
	defer closeAll(gateways)
	watching, err := c.watching()
	if err != nil {
		return err
	}
	traces, err := c.traces(ctx, os.Getenv, log)
	if err != nil {
		return err
	}
	i := &instance{
		config: authz.Config{
			Issuer: c.Issuer, TokenEndpointAliases: c.TokenEndpointAliases, ClientCertificates: certificates, TrustedProxies: trustedProxies,
			ServiceDocumentation: c.ServiceDocumentation,
			Profile:              authz.Profile(c.Profile),
			ProofLifetime:        c.ProofLifetime, ClockSkew: c.ClockSkew, Sealer: sealer, Log: log,
			NonceSecrets: nonceSecrets, RequireNonce: c.DpopNonce == "required",
			SigningAlgorithm: jwks.Algorithm(c.SigningAlg), KeyRotation: c.KeyRotation, KeyPublishAhead: c.KeyPublishAhead,
			AssertionAudienceTokenEndpoint: c.AssertionAudienceTokenEndpoint, JWKSURINetworks: networks, JWKSURIAuthorities: authorities,
			InFlight: c.MaxInFlight, FailuresPerClient: c.FailuresPerClient, FailuresPerAddress: c.FailuresPerAddress,
		},
		databaseURL: databaseURL, public: public, internal: internal, gateways: gateways,
		maxConnections: c.MaxConnections, drainDelay: c.DrainDelay, metricsClients: c.MetricsClients, traces: traces,
		watching: watching,
	}
	endHSM, err := c.useHSM(&i.config)
	if err != nil {
		return err
	}
	defer endHSM()
	defer carryBallast()()
	err = i.run(ctx, func() error {
		log.Info("ready", "issuer", c.Issuer, "listen", public.Addr().String(), "internal_listen", internal.Addr().String())
		return nil
	})
	if errors.Is(err, jwks.ErrSealedByAnother) {
		return fmt.Errorf("AUTHZ_KEY_ENCRYPTION_KEY is not the key that sealed this database's signing keys: %w", err)
	}
	if errors.Is(err, jwks.ErrHeld) {
		return fmt.Errorf("AUTHZ_PKCS11_MODULE is not set, and the key that signs is in an HSM: %w", err)
	}
	return err
}

// listeners opens both, before anything else is begun.
func (c *config) listeners(log *slog.Logger) (public, internal net.Listener, err error) {
	if public, err = net.Listen("tcp", c.Listen); err != nil {
		return nil, nil, fmt.Errorf("AUTHZ_LISTEN: %w", err)
	}
	if c.TLSCertFile != "" {
		if public, err = tlsListener(public, c.TLSCertFile, c.TLSKeyFile, c.tlsClientAuth(), log); err != nil {
			return nil, nil, err
		}
	}
	if internal, err = net.Listen("tcp", c.InternalListen); err != nil {
		public.Close()
		return nil, nil, fmt.Errorf("AUTHZ_INTERNAL_LISTEN: %w", err)
	}
	return public, internal, nil
}

// instance is one running server: "authz serve", and the server of "authz dev".
type instance struct {
	config           authz.Config // Store, Metrics and Now are filled in
	databaseURL      string
	public, internal net.Listener
	gateways         []gatewayListener
	watching         watching
	traces           *traces
	maxConnections   int // of each listener; 0: defaultConnections
	metricsClients   bool
	// drainDelay is how long it goes on when it is to stop, and says that it is not ready.
	drainDelay time.Duration
	stopped    time.Time // when it was told to
}

// startTimeout bounds the start, the database's answers included.
const startTimeout = 30 * time.Second

// run serves until ctx ends, and calls ready once it does.
func (i *instance) run(ctx context.Context, ready func() error) error {
	starting, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	options := []postgres.Option{postgres.AsServer()}
	if i.traces != nil {
		i.config.Traces, options = i.traces.config, append(options, postgres.Traced())
		defer func() { i.end("traces", i.traces.end) }()
	}
	store, err := postgres.Open(starting, i.databaseURL, options...)
	if err != nil {
		return err
	}
	defer func() { i.end("the database's connections", store.Close) }()
	registry := i.registry(store)
	i.config.Store, i.config.Now = store, time.Now
	server, err := authz.New(starting, i.config)
	if err != nil {
		return err
	}

	// Upkeep records who asked for what, and so it ends after the last request
	// and before the Store is closed.
	upkeep, endUpkeep := context.WithCancel(context.WithoutCancel(ctx))
	sealer, err := i.trailSealer(store, registry)
	if err != nil {
		endUpkeep()
		return err
	}
	upkept := make(chan struct{})
	go func() {
		defer close(upkept)
		var sealing sync.WaitGroup
		sealing.Go(func() { sealer.Run(upkeep) })
		server.Run(upkeep)
		sealing.Wait()
	}()
	defer func() { endUpkeep(); i.end("upkeep", func() { <-upkept }) }()
	endWatch, err := i.watch(upkeep, store, registry)
	if err != nil {
		return err
	}
	defer endWatch()

	served := i.serve(ctx, server, registry, ready)
	go i.traces.end() // beside all else that ends
	return served
}

// trailSealer seals the audit trail, where no other instance does.
func (i *instance) trailSealer(store *postgres.Store, registry *prometheus.Registry) (*audittrail.Sealer, error) {
	keys, err := audittrail.NewKeys(i.config.Sealer)
	if err != nil {
		return nil, err
	}
	return audittrail.NewSealer(audittrail.Config{
		Store: store, Keys: keys, Metrics: audittrail.NewMetrics(registry, time.Now), Log: i.config.Log, Now: time.Now,
	})
}

// end does one of the last things, until endTimeout after the server was stopped.
func (i *instance) end(what string, end func()) {
	if i.stopped.IsZero() { // it has not come to serve
		i.stopped = time.Now()
	}
	endIn(time.Until(i.stopped.Add(endTimeout)), i.config.Log, what, end)
}

// serve answers on all listeners until ctx ends or one of them fails.
func (i *instance) serve(ctx context.Context, server *authz.Server, registry *prometheus.Registry, ready func() error) error {
	failed := make(chan error, len(i.gateways)+3)
	limit := connectionLimit(i.maxConnections, len(i.gateways)+2, i.config.Log)
	closed := newClosedMetric(registry)
	var all []listening
	start := func(name string, l net.Listener, h http.Handler) {
		s := listening{httpServer(h, i.config.Log), newConnections(name, limit, closed)}
		s.connections.keep(s.Server)
		all = append(all, s)
		go func() { failed <- s.Serve(l) }()
	}
	start("public", i.public, server.Handler())
	for _, g := range i.gateways {
		start("gateway", g.Listener, server.GatewayHandler(g.identify))
	}
	start("internal", i.internal, server.InternalHandler(promhttp.HandlerFor(registry, promhttp.HandlerOpts{})))
	if err := ready(); err != nil {
		failed <- err
	}
	select {
	case err := <-failed:
		i.stopped = time.Now()
		return errors.Join(err, stop(server, all, 0))
	case <-ctx.Done():
		i.stopped = time.Now()
		return stop(server, all, i.drainDelay)
	}
}

// httpServer bounds what a slow or greedy client can hold.
func httpServer(h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      20 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    32 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}
