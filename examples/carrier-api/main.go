// Command carrier-api is a small labels API that takes only access tokens bound
// to a key (DPoP, RFC 9449). It shows all that a Go service needs for that: one
// dpopbind.Middleware, or behind a gateway one dpopbind.GatewayMiddleware, and the
// scopes of each route.
package main

import (
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"time"

	"github.com/cargokey/authz/dpopbind"
)

// config is where the API is, and whose tokens it takes. The defaults are for
// "authz dev".
type config struct {
	listen, issuer, jwksURI, resource, baseURL string
	requireNonce, behindGateway                bool
}

func main() {
	var c config
	flag.StringVar(&c.listen, "listen", "127.0.0.1:8090", "address to listen on")
	flag.StringVar(&c.issuer, "issuer", "http://127.0.0.1:8080", "the authorization server whose tokens are taken")
	flag.StringVar(&c.jwksURI, "jwks-uri", "", "where its public keys are (default: discovered at the issuer)")
	flag.StringVar(&c.resource, "resource", "https://labels.carrier.test", "this API's identifier, the tokens' aud")
	flag.StringVar(&c.baseURL, "base-url", "http://127.0.0.1:8090", "the URL that clients reach this API at: the gateway's, behind one")
	flag.BoolVar(&c.requireNonce, "require-nonce", false, "ask for this API's nonce in each proof (RFC 9449 §9)")
	flag.BoolVar(&c.behindGateway, "behind-gateway", false, "take the caller from X-Auth-Assertion, and check no proofs here")
	flag.Parse()
	if err := run(c); err != nil {
		fmt.Fprintln(os.Stderr, "carrier-api:", err)
		os.Exit(1)
	}
}

func run(c config) error {
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	api, err := newAPI(c, log)
	if err != nil {
		return err
	}
	server := &http.Server{
		Addr: c.listen, Handler: api,
		ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 32 << 10,
	}
	log.Info("listening", slog.String("address", c.listen), slog.String("issuer", c.issuer))
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// newAPI puts each route behind the scope that it needs.
func newAPI(c config, log *slog.Logger) (http.Handler, error) {
	mux := http.NewServeMux()
	require, err := c.protect(mux, log)
	if err != nil {
		return nil, err
	}
	labels := newLabels()
	mux.Handle("POST /labels", require("label:create")(http.HandlerFunc(labels.create)))
	mux.Handle("GET /labels/{id}", require("label:read")(http.HandlerFunc(labels.read)))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	return mux, nil
}

// protect returns what lets requests with the scopes through to a handler. An API
// that checks proofs also says so in its metadata; behind a gateway, that is the
// gateway's to say.
func (c config) protect(mux *http.ServeMux, log *slog.Logger) (require func(...string) func(http.Handler) http.Handler, err error) {
	jwksURI, client, err := c.keys()
	if err != nil {
		return nil, err
	}
	// For one process. Several instances share a store of their own.
	replay := dpopbind.NewMemoryReplay(0, nil)
	if c.behindGateway {
		if c.requireNonce {
			return nil, errors.New("-require-nonce is for an API that checks proofs: leave it out with -behind-gateway")
		}
		protect, err := dpopbind.NewGatewayMiddleware(dpopbind.GatewayMiddlewareConfig{
			Issuer: c.issuer, JWKSURI: jwksURI, Resource: c.resource, BaseURLs: []string{c.baseURL},
			Replay: replay, HTTPClient: client, Log: log,
		})
		if err != nil {
			return nil, err
		}
		return protect.Require, nil
	}
	nonces, err := c.nonces()
	if err != nil {
		return nil, err
	}
	protect, err := dpopbind.NewMiddleware(dpopbind.MiddlewareConfig{
		Issuer: c.issuer, JWKSURI: jwksURI, Resource: c.resource, BaseURLs: []string{c.baseURL},
		Replay: replay, // which -require-nonce guards over a restart
		Nonces: nonces, HTTPClient: client, Log: log,
	})
	if err != nil {
		return nil, err
	}
	mux.Handle("GET "+protect.MetadataPath(), protect.Metadata())
	return protect.Require, nil
}

// nonces are nil where none are asked for. Their secret is this process's own;
// several instances share one.
func (c config) nonces() (*dpopbind.Nonces, error) {
	if !c.requireNonce {
		return nil, nil
	}
	secret := make([]byte, dpopbind.MinNonceSecret)
	rand.Read(secret) // never fails (crypto/rand)
	return dpopbind.NewNonces(dpopbind.NonceConfig{Secrets: [][]byte{secret}})
}
