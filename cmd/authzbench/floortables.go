package main

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/jackc/pgx/v5"
)

// The tables of the floors have the columns, the checks and the indexes of ours,
// and are not partitioned.
const (
	dropFloorTablesSQL = `drop schema if exists authzbench cascade`

	makeFloorTablesSQL = dropFloorTablesSQL + `;
create schema authzbench;
create table authzbench.tokens (like authz.tokens including all);
create table authzbench.spent_proofs (like authz.spent_proofs including all);
create unique index on authzbench.spent_proofs (digest)`

	// What is introspected here is introspected there.
	copyTokensSQL = `
insert into authzbench.tokens
select t.* from authz.tokens t where t.client_id in ('` + boundClient + `', '` + opaqueClient + `')`
)

// One statement each, and each of them durable that writes.
const (
	floorTokenSQL = `
with spent as (
  insert into authzbench.spent_proofs (digest, iat) values ($1, $2) on conflict do nothing returning digest
)
insert into authzbench.tokens
  (jti, digest, client_id, resource, scope, jkt, issued_at, expires_at, kid, credential, client_generation, resource_generation)
select $3, $4, $5, $6, $7, $8, $2, $9, $10, $11, 1, 1 from spent`

	floorReadSQL = `select client_id, scope, expires_at from authzbench.tokens where digest = $1`

	floorVerifySQL = `
with spent as (
  insert into authzbench.spent_proofs (digest, iat) values ($1, $2) on conflict do nothing returning digest
)
select t.client_id, t.scope, t.expires_at from authzbench.tokens t, spent where t.digest = $3`
)

func execute(ctx context.Context, databaseURL string, statements ...string) error {
	conn, err := pgx.Connect(ctx, databaseURL)
	if err != nil {
		return fmt.Errorf("connecting to the database: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	for _, sql := range statements {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return err
		}
	}
	return nil
}

// startFloor starts this program once more, as a floor, and returns its address.
func startFloor(ctx context.Context, dir string, o options, databaseURL string, r *registered) (*child, string, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, "", err
	}
	private, err := x509.MarshalECPrivateKey(r.private)
	if err != nil {
		return nil, "", err
	}
	config, err := json.Marshal(floorConfig{DatabaseURL: databaseURL, Connections: int32(o.floorPool), Private: private})
	if err != nil {
		return nil, "", err
	}
	c, err := startChild(dir, "floor", self, []string{"PATH=" + os.Getenv("PATH")}, floorCommand)
	if err != nil {
		return nil, "", err
	}
	address := ""
	_, err = c.stdin.Write(config)
	err = errors.Join(err, c.await(ctx, func() bool {
		text, _ := os.ReadFile(c.out.Name())
		line, _, whole := strings.Cut(string(text), "\n")
		address = line
		return whole
	}))
	if err != nil {
		c.stop()
		return nil, "", fmt.Errorf("a floor: %w", err)
	}
	return c, address, nil
}
