package postgres

import (
	"context"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/cargokey/authz/authz"
)

// Whoever authenticated a moment before by the old name is not the client of this
// revision.
const setClientCertificateSQL = `
update authz.clients set (tls_client_auth_subject_dn, tls_client_auth_san_dns, tls_client_auth_san_uri, tls_client_auth_san_ip,
  tls_client_auth_san_email, tls_client_certificate_bound_access_tokens, auth_revision) = ($2, $3, $4, $5, $6, $7, default)
where id = $1
  and (tls_client_auth_subject_dn, tls_client_auth_san_dns, tls_client_auth_san_uri, tls_client_auth_san_ip,
    tls_client_auth_san_email, tls_client_certificate_bound_access_tokens)
    is not distinct from ($8::text, $9::text, $10::text, $11::text, $12::text, $13::boolean)`

// SetClientCertificate is authz.Store's.
func (s *Store) SetClientCertificate(ctx context.Context, id string, from, to authz.CertificateTerms, event authz.AuditEvent) error {
	event.ClientID = id
	args := slices.Concat([]any{id}, certificateColumns(to), certificateColumns(from))
	err := s.inTx(ctx, event, func(tx pgx.Tx) error {
		changed, err := tx.Exec(ctx, setClientCertificateSQL, args...)
		if err != nil || changed.RowsAffected() == 1 {
			return err
		}
		var exists bool
		if err := tx.QueryRow(ctx, clientExistsSQL, id).Scan(&exists); err != nil {
			return err
		}
		if exists {
			return authz.ErrChanged
		}
		return authz.ErrNotFound
	})
	if isNameTaken(err) {
		return authz.ErrNameTaken
	}
	return unless("changing a client's certificate", err, authz.ErrNotFound, authz.ErrChanged)
}

// certificateColumns is certificateName the other way round.
func certificateColumns(terms authz.CertificateTerms) []any {
	n := terms.Name
	return []any{orNull(n.SubjectDN), orNull(n.DNS), orNull(n.URI), orNull(n.IP), orNull(n.Email), terms.Bound}
}

// isNameTaken tells whether another client has the name.
func isNameTaken(err error) bool {
	return slices.ContainsFunc([]string{"subject_dn", "san_dns", "san_uri", "san_ip", "san_email"}, func(kind string) bool {
		return violates(err, "clients_tls_client_auth_"+kind+"_key")
	})
}
