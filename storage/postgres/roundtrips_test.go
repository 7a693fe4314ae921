package postgres_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cargokey/authz/authz"
	"github.com/cargokey/authz/internal/pgdev/pgtest"
	"github.com/cargokey/authz/storage/postgres"
)

func TestWhatARequestNeedsIsOneRoundTrip(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	now := clock()
	calls := open(t, db.OwnerURL)
	populate(t, calls, now)
	store, w := openWired(t, db.ServerURL, postgres.AsServer())
	ctx := t.Context()
	token := issue(now)
	must(t, store.RecordToken(ctx, token))
	var revocable []authz.Issue // each once: a second time there is the standby to wait for
	for range 4 {
		revocable = append(revocable, issue(now))
		must(t, store.RecordToken(ctx, revocable[len(revocable)-1]))
	}
	secret, retired := randomDigest(), randomDigest()
	for _, d := range []authz.Digest{retired, secret} { // the second ends the first
		must(t, calls.RotateSecret(ctx, shop, d, time.Time{}, event(authz.AuditSecretRotated, now)))
	}
	claims := func(d authz.Digest) func() error {
		return func() error { _, err := store.Claimant(ctx, shop, d, now); return err }
	}
	admit := func() error {
		_, err := store.AdmitCall(ctx, goodCall(t, calls, token.Token), now)
		return err
	}
	changed, err := store.Client(ctx, shop, now)
	must(t, err)
	owner := changed.Caller()
	issue := func(now time.Time) authz.Issue { // by the secret that is left
		i := issue(now)
		i.Token.Credential, i.Revision = secret.Name(), owner.Revision
		return i
	}
	for name, do := range map[string]func() error{
		"AdmitCall":   admit,
		"RecordToken": func() error { return store.RecordToken(ctx, issue(now)) },
		"RecordToken by an assertion": func() error {
			i := issue(now)
			i.Assertion = &authz.Spending{Digest: randomDigest(), IssuedAt: now, Window: time.Minute}
			return store.RecordToken(ctx, i)
		},
		"SpendAssertion": func() error {
			return store.SpendAssertion(ctx, authz.Spending{Digest: randomDigest(), IssuedAt: now, Window: time.Minute})
		},
		"RecordToken of a bearer token": func() error {
			i := issue(now)
			i.Proof = nil
			return store.RecordToken(ctx, i)
		},
		"ActiveToken":               func() error { _, err := store.ActiveToken(ctx, token.Token.Digest, edgeCaller(), now); return err },
		"Client":                    func() error { _, err := store.Client(ctx, shop, now); return err },
		"Claimant by its secret":    claims(secret),
		"Claimant by a wrong one":   claims(randomDigest()),
		"Claimant by a retired one": claims(retired),
		"Ready":                     func() error { return store.Ready(ctx, now) },
		"RevokeToken": func() error {
			_, err := store.RevokeToken(ctx, revocable[0].Token.Digest, owner, event(authz.AuditTokenRevoked, now))
			revocable = revocable[1:]
			return err
		},
	} {
		must(t, do()) // prepares the statement
		must(t, do()) // and that by what is kept of a token since
		if n := w.count(t, do); n != 1 {
			t.Errorf("%s: %d round trips", name, n)
		}
	}
}

func TestStatementsAreNotPlannedAnewForEachRequest(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	now := clock()
	calls := open(t, db.OwnerURL)
	populate(t, calls, now)
	var conn *pgx.Conn
	store := open(t, db.ServerURL, postgres.AsServer(), postgres.Configure(func(c *pgxpool.Config) {
		c.MaxConns = 1
		lower := c.AfterConnect
		c.AfterConnect = func(ctx context.Context, made *pgx.Conn) error {
			conn = made
			return lower(ctx, made)
		}
	}))
	for range 10 {
		i := issue(now)
		must(t, store.RecordToken(t.Context(), i))
		_, err := store.ActiveToken(t.Context(), i.Token.Digest, edgeCaller(), now)
		must(t, err)
		_, err = store.AdmitCall(t.Context(), goodCall(t, calls, i.Token), now)
		must(t, err)
		_, err = store.Client(t.Context(), shop, now)
		must(t, err)
	}
	plans := list[string](t, conn, `
		select generic_plans || ' kept, ' || custom_plans || ' made anew'
		from pg_prepared_statements where generic_plans + custom_plans >= 10`)
	same(t, []string{"10 kept, 0 made anew", "10 kept, 0 made anew", "10 kept, 0 made anew", "10 kept, 0 made anew"}, plans)
}
