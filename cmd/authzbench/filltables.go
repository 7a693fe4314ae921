package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cargokey/authz/authz"
)

// fill writes all of it, with the indexes as they are, so that they come to look as
// requests would leave them, and by no request. What autovacuum does in the course
// of hours is done at the end.
func (f *filled) fill(ctx context.Context, databaseURL string) (err error) {
	if f.generations, err = f.fillClients(ctx, databaseURL); err != nil {
		return fmt.Errorf("filling the clients: %w", err)
	}
	for _, one := range []struct {
		table   string
		columns []string
		n       int
		row     func(i int) ([]any, error)
	}{
		{"tokens", tokenColumns, f.Tokens, func(i int) ([]any, error) {
			return f.tokenRow(f.issuedAt(i), authz.DigestOf(f.token(i)), f.owner(i)), nil
		}},
		{"spent_proofs", proofColumns, f.Proofs, func(i int) ([]any, error) { return proofRow(f.spread(i, f.Proofs)), nil }},
		{"audit_events", eventColumns, f.Events, func(i int) ([]any, error) { return f.eventRow(f.spread(i, f.Events), f.owner(i)) }},
	} {
		if err := copyRows(ctx, databaseURL, one.table, one.columns, one.n, one.row); err != nil {
			return fmt.Errorf("filling %s: %w", one.table, err)
		}
	}
	return execute(ctx, databaseURL, `vacuum (analyze)`)
}

var (
	tokenColumns = []string{"jti", "digest", "client_id", "resource", "scope", "jkt", "issued_at", "expires_at", "kid", "credential",
		"client_generation", "resource_generation"}
	proofColumns = []string{"digest", "iat"}
	eventColumns = []string{"id", "at", "kind", "actor", "client_id", "resource", "jti", "jkt", "request_id", "remote_addr", "detail"}
)

func (f *filled) tokenRow(at time.Time, digest authz.Digest, owner int) []any {
	secret := authz.DigestOf(f.secret(owner))
	var kid any // an opaque token is signed by none
	if f.format(owner) == authz.FormatJWT {
		kid = f.kid
	}
	return []any{[16]byte(authz.NewJTI(at)), digest[:], f.clientID(owner), resourceURI, scope, f.jkt, at, at.Add(authz.MaxTokenTTL), kid,
		secret.Name(), f.generations[owner], f.generations[f.Clients]}
}

func proofRow(at time.Time) []any {
	digest := make([]byte, 32)
	rand.Read(digest) // never fails (crypto/rand)
	return []any{digest, at.Truncate(time.Second)}
}

func (f *filled) eventRow(at time.Time, owner int) ([]any, error) {
	request := make([]byte, 12)
	rand.Read(request) // never fails (crypto/rand)
	secret := authz.DigestOf(f.secret(owner))
	detail, err := json.Marshal(map[string]any{
		"scope": scope, "format": string(f.format(owner)), "expires_at": at.Add(authz.MaxTokenTTL).Unix(), "credential": secret.Name(),
	})
	id := f.clientID(owner)
	return []any{[16]byte(authz.NewJTI(at)), at, string(authz.AuditTokenIssued), "client:" + id, id, resourceURI, [16]byte(authz.NewJTI(at)), f.jkt,
		fmt.Sprintf("%x", request), "10.20.30.40", detail}, err
}

// fillHour writes tokens and proofs of an hour that is over.
func (f *filled) fillHour(ctx context.Context, databaseURL string, hour time.Time) error {
	each := time.Hour / time.Duration(max(f.Hourly, 1))
	err := copyRows(ctx, databaseURL, "tokens", tokenColumns, f.Hourly, func(i int) ([]any, error) {
		at := hour.Add(time.Duration(i) * each).Truncate(time.Microsecond)
		return f.tokenRow(at, authz.DigestOf(authz.NewJTI(at).String()), f.owner(i)), nil
	})
	if err != nil {
		return err
	}
	return copyRows(ctx, databaseURL, "spent_proofs", proofColumns, f.Hourly, func(i int) ([]any, error) {
		return proofRow(hour.Add(time.Duration(i) * each)), nil
	})
}

// fillClients registers clients, and returns their generations by number, and the
// resource's after them.
func (f *filled) fillClients(ctx context.Context, databaseURL string) ([]int64, error) {
	for _, one := range []struct {
		table   string
		columns []string
		row     func(c int) ([]any, error)
	}{
		{"clients", []string{"id", "token_endpoint_auth_method", "token_format", "allow_bearer", "created_at"}, func(c int) ([]any, error) {
			return []any{f.clientID(c), string(authz.ClientSecretBasic), string(f.format(c)), false, f.begun}, nil
		}},
		{"client_secrets", []string{"client_id", "digest", "created_at"}, func(c int) ([]any, error) {
			digest := authz.DigestOf(f.secret(c))
			return []any{f.clientID(c), digest[:], f.begun}, nil
		}},
		{"grants", []string{"client_id", "resource", "scope"}, func(c int) ([]any, error) {
			return []any{f.clientID(c), resourceURI, scope}, nil
		}},
	} {
		if err := copyRows(ctx, databaseURL, one.table, one.columns, f.Clients, one.row); err != nil {
			return nil, err
		}
	}
	conn, err := pgx.Connect(ctx, databaseURL)
	if err != nil {
		return nil, fmt.Errorf("connecting to the database: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	rows, err := conn.Query(ctx, `
		(select generation from authz.clients where starts_with(id, $1) order by id collate "C")
		union all (select generation from authz.resources where uri = $2)`, clientPrefix+"client-", resourceURI)
	if err != nil {
		return nil, err
	}
	generations, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err == nil && len(generations) != f.Clients+1 {
		err = fmt.Errorf("%d rows of %d", len(generations), f.Clients+1)
	}
	return generations, err
}

// copyRows writes n rows, over as many connections as there are cores.
func copyRows(ctx context.Context, databaseURL, table string, columns []string, n int, row func(i int) ([]any, error)) error {
	parts := min(runtime.NumCPU(), n)
	failed := make([]error, parts)
	var workers sync.WaitGroup
	for p := range parts {
		workers.Go(func() { failed[p] = copyPart(ctx, databaseURL, table, columns, n*p/parts, n*(p+1)/parts, row) })
	}
	workers.Wait()
	return errors.Join(failed...)
}

func copyPart(ctx context.Context, databaseURL, table string, columns []string, from, to int, row func(i int) ([]any, error)) error {
	conn, err := pgx.Connect(ctx, databaseURL)
	if err != nil {
		return fmt.Errorf("connecting to the database: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	_, err = conn.CopyFrom(ctx, pgx.Identifier{"authz", table}, columns, pgx.CopyFromFunc(func() ([]any, error) {
		if from == to {
			return nil, nil
		}
		from++
		return row(from - 1)
	}))
	return err
}
