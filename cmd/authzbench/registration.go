package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cargokey/authz/authz"
	"github.com/cargokey/authz/dpopbind"
	"github.com/cargokey/authz/migrations"
	"github.com/cargokey/authz/storage/postgres"
)

// What is registered for the benchmark. The clients differ in one thing each.
const (
	resourceURI = "https://authzbench.carrier.test"
	scope       = "label:create"
	callURL     = resourceURI + "/labels"

	clientPrefix = "authzbench-"
	boundClient  = clientPrefix + "bound"
	opaqueClient = clientPrefix + "opaque"
	bearerClient = clientPrefix + "bearer"
	keyClient    = clientPrefix + "key" // private_key_jwt
	gateway      = clientPrefix + "gateway"
)

// registered is what the load needs of it.
type registered struct {
	secrets map[string]string // by client_id
	own     *dpopbind.Key     // of keyClient
	dpop    *dpopbind.Key
	private *ecdsa.PrivateKey // dpop's
}

// register brings the schema up to date and registers everything anew.
func register(ctx context.Context, databaseURL string) (*registered, error) {
	conn, err := pgx.Connect(ctx, databaseURL)
	if err != nil {
		return nil, fmt.Errorf("connecting to the database: %w", err)
	}
	err = migrations.Up(ctx, conn)
	if err := errors.Join(err, conn.Close(ctx)); err != nil {
		return nil, err
	}
	store, err := postgres.Open(ctx, databaseURL)
	if err != nil {
		return nil, err
	}
	defer store.Close()
	if err := store.Maintain(ctx, now()); err != nil {
		return nil, err
	}
	if err := unregister(ctx, store); err != nil { // what a run left behind that was cut short
		return nil, err
	}
	return registerAll(ctx, store)
}

func registerAll(ctx context.Context, store *postgres.Store) (*registered, error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	r := &registered{secrets: map[string]string{}, private: private}
	if r.dpop, err = dpopbind.NewKey(private, dpopbind.ES256); err != nil {
		return nil, err
	}
	if r.own, err = dpopbind.GenerateKey(); err != nil {
		return nil, err
	}
	e := event(authz.AuditResourceCreated)
	resource := &authz.Resource{
		URI: resourceURI, Scopes: []string{scope}, TokenTTL: authz.MaxTokenTTL, AllowBearer: true,
		BaseURLs: []string{resourceURI}, CreatedAt: e.At, UpdatedAt: e.At,
	}
	if err := resource.Validate(); err != nil {
		return nil, err
	}
	if err := store.CreateResource(ctx, resource, e); err != nil {
		return nil, err
	}
	grants := []authz.Grant{{Resource: resourceURI, Scopes: []string{scope}}}
	for _, c := range []*authz.Client{
		{ID: boundClient, Grants: grants},
		{ID: opaqueClient, Grants: grants, TokenFormat: authz.FormatOpaque},
		{ID: bearerClient, Grants: grants, AllowBearer: true},
		{ID: keyClient, Grants: grants, AuthMethod: authz.PrivateKeyJWT, JWKS: fmt.Appendf(nil, `{"keys":[%s]}`, r.own.PublicJWK())},
		{ID: gateway, Introspects: []string{resourceURI}},
	} {
		if err := c.Validate(); err != nil {
			return nil, err
		}
		if c.AuthMethod != authz.PrivateKeyJWT {
			secret := authz.NewSecret()
			c.Secrets, r.secrets[c.ID] = []authz.Digest{secret.Digest()}, secret.Reveal()
		}
		e := event(authz.AuditClientCreated)
		c.CreatedAt = e.At
		if err := store.CreateClient(ctx, c, e); err != nil {
			return nil, fmt.Errorf("client %s: %w", c.ID, err)
		}
	}
	return r, nil
}

// unregister removes what is there of it.
func unregister(ctx context.Context, store *postgres.Store) error {
	for _, id := range []string{boundClient, opaqueClient, bearerClient, keyClient, gateway} {
		if err := store.DeleteClient(ctx, id, event(authz.AuditClientDeleted)); err != nil && !errors.Is(err, authz.ErrNotFound) {
			return fmt.Errorf("client %s: %w", id, err)
		}
	}
	err := store.DeleteResource(ctx, resourceURI, event(authz.AuditResourceDeleted))
	if err != nil && !errors.Is(err, authz.ErrNotFound) {
		return fmt.Errorf("resource %s: %w", resourceURI, err)
	}
	return nil
}

// clean leaves a database that is not ours as it was, but for what expires.
func clean(ctx context.Context, databaseURL string) error {
	store, err := postgres.Open(ctx, databaseURL)
	if err != nil {
		return err
	}
	defer store.Close()
	conn, err := pgx.Connect(ctx, databaseURL)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, dropFloorTablesSQL)
	return errors.Join(err, unregister(ctx, store))
}

// makeDatabase makes a database beside the one that a URL names, and returns its
// URL and what drops it. A used one would not do: its signing keys are sealed.
func makeDatabase(ctx context.Context, databaseURL string) (made string, drop func() error, err error) {
	u, err := url.Parse(databaseURL)
	if err != nil || u.Scheme == "" {
		return "", nil, errors.New("--database-url is not a URL") // url's own error would quote the password
	}
	name := "authzbench_" + strings.ToLower(rand.Text())
	if err := execute(ctx, databaseURL, "create database "+name); err != nil {
		return "", nil, err
	}
	u.Path = "/" + name
	return u.String(), func() error {
		return execute(context.WithoutCancel(ctx), databaseURL, "drop database "+name+" with (force)")
	}, nil
}

// now is at the precision that Postgres keeps.
func now() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }

func event(kind authz.AuditKind) authz.AuditEvent {
	return authz.NewAuditEvent(now(), kind, authz.ActorOperator("authzbench"))
}

// jwtOf tells a JWT from an opaque token.
func jwtOf(token string) bool { return !strings.HasPrefix(token, authz.OpaqueTokenPrefix) }
