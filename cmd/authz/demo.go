package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/cargokey/authz/authz"
	"github.com/cargokey/authz/jwks"
	"github.com/cargokey/authz/migrations"
	"github.com/cargokey/authz/storage/postgres"
)

const (
	demoResource = "https://labels.carrier.test"
	demoClient   = "demo-client"
	demoGateway  = "demo-gateway"
)

// demoBaseURLs are where the gateways of examples/gateway listen.
func demoBaseURLs() []string { return []string{"http://127.0.0.1:8000", "http://localhost:8000"} }

// demo is what "authz dev" keeps between runs: the sealing key of its database
// and the secrets of the demo clients, in a file that only its owner can read.
type demo struct {
	SealingKey    []byte `json:"sealing_key"`
	ClientSecret  string `json:"client_secret"`
	GatewaySecret string `json:"gateway_client_secret"`

	sealer *jwks.Sealer
	file   string
	kept   bool            // from an earlier run
	known  map[string]bool // the clients whose secret is the one that is kept
}

// prepareDemo brings the database to where the demo can begin.
func prepareDemo(ctx context.Context, databaseURL, dir string, fresh bool) (*demo, error) {
	d, err := readDemo(filepath.Join(dir, "demo.json"), fresh)
	if err != nil {
		return nil, err
	}
	conn, err := pgx.Connect(ctx, databaseURL)
	if err != nil {
		return nil, fmt.Errorf("connecting to the database: %w", err)
	}
	err = migrations.Up(ctx, conn)
	if err := errors.Join(err, conn.Close(ctx)); err != nil {
		return nil, ownerNeeded(err)
	}
	store, err := postgres.Open(ctx, databaseURL)
	if err != nil {
		return nil, err
	}
	defer store.Close()
	if err := store.Maintain(ctx, now()); err != nil {
		return nil, ownerNeeded(err)
	}
	if err := d.opens(ctx, store); err != nil {
		return nil, err
	}
	return d, ownerNeeded(d.register(ctx, store))
}

// opens fails where the database's signing keys are not the demo's: what
// belongs to another server is not to be changed.
func (d *demo) opens(ctx context.Context, s *postgres.Store) error {
	keys, err := s.SigningKeys(ctx)
	if err != nil {
		return ownerNeeded(err)
	}
	for _, key := range keys {
		if key.Ended() {
			continue
		}
		if _, err := d.sealer.Open(key); err != nil {
			return err
		}
	}
	return nil
}

// readDemo reads the file, or makes it. It is there before anything is sealed
// or registered with what it holds.
func readDemo(file string, fresh bool) (*demo, error) {
	d := &demo{file: file, known: map[string]bool{}}
	text, err := os.ReadFile(file)
	switch {
	case err == nil && !fresh:
		if json.Unmarshal(text, d) != nil || len(d.SealingKey) != jwks.SealingKeySize || d.ClientSecret == "" || d.GatewaySecret == "" {
			return nil, fmt.Errorf("%s is damaged: start over with --fresh", file)
		}
		d.kept = true
	case err == nil || errors.Is(err, os.ErrNotExist):
		d.SealingKey = make([]byte, jwks.SealingKeySize)
		rand.Read(d.SealingKey) // never fails (crypto/rand)
		d.ClientSecret, d.GatewaySecret = authz.NewSecret().Reveal(), authz.NewSecret().Reveal()
		if err := d.write(); err != nil {
			return nil, err
		}
	default:
		return nil, fmt.Errorf("reading the state: %w", err)
	}
	d.sealer, err = jwks.NewSealer(d.SealingKey)
	return d, err
}

// write replaces the file whole.
func (d *demo) write() error {
	text, err := json.Marshal(d)
	if err != nil {
		return err
	}
	if err := os.WriteFile(d.file+".new", text, 0o600); err != nil {
		return fmt.Errorf("keeping the state: %w", err)
	}
	return os.Rename(d.file+".new", d.file)
}

// register makes what is missing, and leaves as it is what an operator has changed.
func (d *demo) register(ctx context.Context, s *postgres.Store) error {
	resource, err := registerDemoResource(ctx, s)
	if err != nil {
		return err
	}
	client := &authz.Client{ID: demoClient, Grants: []authz.Grant{{Resource: demoResource, Scopes: resource.Scopes}}}
	if err := d.registerClient(ctx, s, client, &d.ClientSecret); err != nil {
		return err
	}
	return d.registerClient(ctx, s, &authz.Client{ID: demoGateway, Introspects: []string{demoResource}}, &d.GatewaySecret)
}

// registerDemoResource leaves one that is there as it is, but for base URLs where
// it has none, as one that an earlier version made.
func registerDemoResource(ctx context.Context, s *postgres.Store) (*authz.Resource, error) {
	event := operatorEvent(authz.AuditResourceCreated)
	resource := &authz.Resource{
		URI: demoResource, Scopes: []string{"label:create", "label:read", "CXS"}, BaseURLs: demoBaseURLs(),
		CreatedAt: event.At, UpdatedAt: event.At,
	}
	if err := resource.Validate(); err != nil {
		return nil, err
	}
	err := s.CreateResource(ctx, resource, event)
	if !errors.Is(err, authz.ErrExists) {
		return resource, err
	}
	if resource, err = s.Resource(ctx, demoResource); err != nil || len(resource.BaseURLs) > 0 {
		return resource, err
	}
	event = operatorEvent(authz.AuditResourceUpdated)
	resource.BaseURLs, resource.UpdatedAt = demoBaseURLs(), event.At
	event.Detail = resourceDetail(resource)
	return resource, s.UpdateResource(ctx, resource, event)
}

// registerClient brings no secret back that an operator has ended: not where it was
// rotated, and not where its client was deleted.
func (d *demo) registerClient(ctx context.Context, s *postgres.Store, c *authz.Client, secret *string) error {
	found, err := s.Client(ctx, c.ID, now())
	if err == nil {
		d.known[c.ID] = slices.Contains(found.Secrets, authz.DigestOf(*secret))
		return nil
	}
	if !errors.Is(err, authz.ErrNotFound) {
		return err
	}
	if d.kept {
		*secret = authz.NewSecret().Reveal()
		if err := d.write(); err != nil {
			return err
		}
	}
	if err := c.Validate(); err != nil {
		return err
	}
	c.Secrets = []authz.Digest{authz.DigestOf(*secret)}
	_, err = registerClient(ctx, s, c)
	d.known[c.ID] = err == nil
	return err
}

// view is what "authz dev" shows of the demo and of its server.
func (d *demo) view(issuer, internal, databaseURL string) devView {
	v := devView{
		Issuer: issuer, TokenEndpoint: issuer + "/oauth/token", IntrospectionEndpoint: issuer + "/oauth/introspect",
		RevocationEndpoint: issuer + "/oauth/revoke", JWKSURI: issuer + "/.well-known/jwks.json", InternalURL: internal,
		ClientID: demoClient, ClientSecret: d.ClientSecret,
		GatewayClientID: demoGateway, GatewayClientSecret: d.GatewaySecret, DatabaseURL: databaseURL,
	}
	if !d.known[demoClient] {
		v.ClientSecret = ""
	}
	if !d.known[demoGateway] {
		v.GatewayClientSecret = ""
	}
	return v
}
