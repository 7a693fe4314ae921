package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/cargokey/authz/authz"
)

const (
	gatewayRevisionSQL = `select revision from authz.gateway_revision where only_row`
	generationsSQL     = `select uri, generation from authz.resources`
	// A client of a certificate is proven by nothing else, whatever secrets it has.
	gatewaysSQL = `
select c.id, c.disabled_at is not null, c.tls_client_auth_subject_dn, c.tls_client_auth_san_dns, c.tls_client_auth_san_uri,
  c.tls_client_auth_san_ip, c.tls_client_auth_san_email,
  array(select f.resource from authz.gateway_resources f where f.client_id = c.id order by f.resource collate "C"),
  array(select s.digest from authz.client_secrets s
        where s.client_id = c.id and c.token_endpoint_auth_method <> 'tls_client_auth' order by s.digest),
  array(select coalesce(s.expires_at, 'infinity') from authz.client_secrets s
        where s.client_id = c.id and c.token_endpoint_auth_method <> 'tls_client_auth' order by s.digest),
  array(select s.ended from authz.client_secrets s
        where s.client_id = c.id and c.token_endpoint_auth_method <> 'tls_client_auth' order by s.digest)
from authz.clients c
where exists (select from authz.gateway_resources f where f.client_id = c.id)
order by c.id collate "C"`
)

// GatewayRevision is authz.Store's.
func (s *Store) GatewayRevision(ctx context.Context) (int64, error) {
	var revision int64
	if err := s.pool.QueryRow(ctx, gatewayRevisionSQL).Scan(&revision); err != nil {
		return 0, fmt.Errorf("reading the gateway revision: %w", err)
	}
	return revision, nil
}

// GatewayTable is authz.Store's. All of it is of one snapshot.
func (s *Store) GatewayTable(ctx context.Context) (*authz.GatewayTable, error) {
	var t authz.GatewayTable
	options := pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}
	err := pgx.BeginTxFunc(ctx, s.pool, options, func(tx pgx.Tx) error {
		if err := tx.QueryRow(ctx, gatewayRevisionSQL).Scan(&t.Revision); err != nil {
			return err
		}
		resources, err := readResources(ctx, tx, "")
		if err != nil {
			return err
		}
		generations, err := readGenerations(ctx, tx)
		if err != nil {
			return err
		}
		for _, r := range resources {
			t.Resources = append(t.Resources, authz.FrontedResource{Resource: r, Generation: generations[r.URI]})
		}
		t.Gateways, err = readGateways(ctx, tx)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("reading what gateway checks go by: %w", err)
	}
	return &t, nil
}

func readGenerations(ctx context.Context, tx pgx.Tx) (map[string]int64, error) {
	rows, err := tx.Query(ctx, generationsSQL)
	if err != nil {
		return nil, err
	}
	generations := map[string]int64{}
	var uri string
	var generation int64
	_, err = pgx.ForEachRow(rows, []any{&uri, &generation}, func() error {
		generations[uri] = generation
		return nil
	})
	return generations, err
}

func readGateways(ctx context.Context, tx pgx.Tx) ([]authz.Gateway, error) {
	rows, err := tx.Query(ctx, gatewaysSQL)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (authz.Gateway, error) {
		var (
			g       authz.Gateway
			name    [5]*string
			digests [][]byte
			ends    []pgtype.Timestamptz
			ended   []bool
		)
		if err := row.Scan(&g.ID, &g.Disabled, &name[0], &name[1], &name[2], &name[3], &name[4], &g.Fronts, &digests, &ends, &ended); err != nil {
			return authz.Gateway{}, err
		}
		g.TLSName = certificateName(name)
		for i, digest := range digests {
			switch end := ends[i]; end.InfinityModifier {
			case pgtype.Infinity:
				g.Secrets = append(g.Secrets, authz.EndingDigest{Digest: authz.Digest(digest)})
			case pgtype.Finite:
				g.Secrets = append(g.Secrets, authz.EndingDigest{Digest: authz.Digest(digest), EndsAt: end.Time, Ended: ended[i]})
			} // else it has never been in force
		}
		return g, nil
	})
}
