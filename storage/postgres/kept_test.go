package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cargokey/authz/authz"
	"github.com/cargokey/authz/internal/pgdev/pgtest"
	"github.com/cargokey/authz/storage/postgres"
	"github.com/cargokey/authz/storage/storetest"
)

// askedBefore is a Store that keeps all that it can of each token that it records, and
// so do its peers.
type askedBefore struct {
	*postgres.Store
	t     *testing.T
	peers []*postgres.Store
}

func (s askedBefore) RecordToken(ctx context.Context, issue authz.Issue) error {
	err := s.Store.RecordToken(ctx, issue)
	if err != nil {
		return err
	}
	for _, peer := range s.peers {
		keep(s.t, peer, issue.Token)
	}
	return nil
}

// keep asks for a token, for each of its gateways and for a call without a proof.
func keep(t testing.TB, s *postgres.Store, token authz.Token) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	table, err := s.GatewayTable(ctx)
	must(t, err)
	for _, g := range table.Gateways {
		if !slices.Contains(g.Fronts, token.Resource) || g.Disabled {
			continue
		}
		c, err := s.Client(ctx, g.ID, token.IssuedAt)
		must(t, err)
		if _, err := s.ActiveToken(ctx, token.Digest, c.Caller(), token.IssuedAt); err != nil && !errors.Is(err, authz.ErrNotFound) {
			t.Error(err)
		}
	}
	call := authz.Call{Revision: table.Revision, Resource: token.Resource, Token: token.Digest}
	for _, r := range table.Resources {
		if r.URI == token.Resource {
			call.Generation = r.Generation
		}
	}
	if _, err := s.AdmitCall(ctx, call, token.IssuedAt); err != nil {
		t.Error(err)
	}
}

// What is kept of tokens changes no answer.
func TestStoreThatWasAskedForEachTokenKeepsItsContract(t *testing.T) {
	t.Parallel()
	var kept atomic.Int64
	t.Run("", func(t *testing.T) {
		storetest.Run(t, func(t *testing.T) storetest.Stores {
			stores, servers := contractStores(t)
			for i, s := range servers {
				stores.Servers[i] = askedBefore{s, t, servers[:]}
				t.Cleanup(func() {
					lookups, calls := s.Kept()
					kept.Add(int64(lookups + calls))
				})
			}
			return stores
		})
	})
	t.Cleanup(func() {
		if kept.Load() == 0 {
			t.Error("nothing was kept")
		}
	})
}

// keeping is a server that keeps what it knows of a token, with an owner's connection.
func keeping(t *testing.T) (s *postgres.Store, admin *pgx.Conn, token authz.Token, now time.Time) {
	t.Helper()
	db := pgtest.New(t)
	now = clock()
	populate(t, open(t, db.OwnerURL), now)
	s = open(t, db.ServerURL, postgres.AsServer(), postgres.Configure(func(c *pgxpool.Config) { c.MaxConns = 1 }))
	i := issue(now)
	must(t, s.RecordToken(t.Context(), i))
	keep(t, s, i.Token)
	return s, connect(t, db.OwnerURL), i.Token, now
}

// revokeUnseen makes a token inactive in a way that no build has: past the triggers.
func revokeUnseen(t *testing.T, admin *pgx.Conn, token authz.Token) {
	t.Helper()
	exec(t, admin, `alter table authz.tokens disable trigger user`)
	exec(t, admin, `update authz.tokens set revoked_at = issued_at where digest = $1`, token.Digest[:])
	exec(t, admin, `alter table authz.tokens enable always trigger tokens_token_revision`)
}

// answers are what a server says of a token: to its gateway, and of a call.
func answers(t *testing.T, s *postgres.Store, token authz.Token, now time.Time) (active, admitted bool) {
	t.Helper()
	_, err := s.ActiveToken(t.Context(), token.Digest, edgeCaller(), now)
	if err != nil && !errors.Is(err, authz.ErrNotFound) {
		t.Fatal(err)
	}
	v, admitErr := s.AdmitCall(t.Context(), goodCallAt(t, s, token, midHour(now)), now)
	must(t, admitErr)
	return err == nil, v.Spent
}

// midHour is a moment for proofs whose window crosses no partition.
func midHour(now time.Time) time.Time { return now.Truncate(time.Hour).Add(30 * time.Minute) }

// Otherwise the tests below show nothing.
func TestTokenThatWasAskedForIsNotReadAnew(t *testing.T) {
	t.Parallel()
	s, admin, token, now := keeping(t)
	revokeUnseen(t, admin, token)
	if active, admitted := answers(t, s, token, now); !active || !admitted {
		t.Errorf("active %v, admitted %v: it was read", active, admitted)
	}
}

func TestWhatIsKeptOfATokenEndsWith(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(t *testing.T, s *postgres.Store, admin *pgx.Conn){
		"a minute": func(_ *testing.T, s *postgres.Store, _ *pgx.Conn) { s.AgeKept(postgres.KeptFor + time.Second) },
		"a new connection": func(t *testing.T, _ *postgres.Store, admin *pgx.Conn) {
			exec(t, admin, `select pg_terminate_backend(pid, 10000) from pg_stat_activity
				where datname = current_database() and pid <> pg_backend_pid() and application_name = 'authz'`)
		},
		"another of its slot": func(t *testing.T, s *postgres.Store, admin *pgx.Conn) {
			exec(t, admin, `update authz.token_revisions set revision = revision + 1 where slot >= 0`)
		},
		"any change of a gateway": func(t *testing.T, _ *postgres.Store, admin *pgx.Conn) {
			exec(t, admin, `update authz.clients set disabled_at = null where id = 'edge'`)
			exec(t, admin, `alter table authz.clients disable trigger clients_revision`)
			exec(t, admin, `update authz.clients set revision = 2 where id = 'edge'`)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, admin, token, now := keeping(t)
			revokeUnseen(t, admin, token)
			end(t, s, admin)
			for range 5 { // where connections were ended, the first to find out fails
				if _, err := s.ActiveToken(t.Context(), randomDigest(), edgeCaller(), now); errors.Is(err, authz.ErrNotFound) {
					break
				}
			}
			if active, admitted := answers(t, s, token, now); active || admitted {
				t.Errorf("active %v, admitted %v", active, admitted)
			}
		})
	}
}

func TestNothingIsKeptBehindAPooler(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	setLogin(t, db)
	now := clock()
	populate(t, open(t, db.OwnerURL), now)
	s := open(t, through(t, pooler(t, db), db.ServerURL), postgres.AsServer())
	i := issue(now)
	must(t, s.RecordToken(t.Context(), i))
	keep(t, s, i.Token)
	if lookups, calls := s.Kept(); lookups+calls != 0 {
		t.Errorf("%d and %d tokens", lookups, calls)
	}
	if active, admitted := answers(t, s, i.Token, now); !active || !admitted {
		t.Errorf("active %v, admitted %v", active, admitted)
	}
}

func TestWhatIsKeptIsBounded(t *testing.T) {
	t.Parallel()
	for _, scope := range []int{10, 4000} {
		tokens, callers, weight := postgres.KeepMany(20_000, scope)
		if weight > postgres.MaxKeptWeight || tokens*(500+scope) > 2*postgres.MaxKeptWeight || callers > 1024 {
			t.Errorf("%d tokens of %d bytes of scope, %d callers, %d bytes", tokens, scope, callers, weight)
		}
		if tokens < 500 {
			t.Errorf("%d tokens of %d bytes of scope", tokens, scope)
		}
	}
}

// Whoever writes in one of these tables by hand, or by another build, ends what instances
// keep of tokens, in the moment of the change and with it.
func TestEachTableThatTokensDependOnHasItsTrigger(t *testing.T) {
	t.Parallel()
	s, admin, token, now := keeping(t)
	exec(t, admin, `insert into authz.revoked_dpop_keys values (repeat('k', 43), now())`)
	exec(t, admin, `insert into authz.signing_keys (kid, alg, public_jwk, sealed_private, sealed_by, created_at, signs_from)
		values ('kid', 'ES256', '{}', '', 'x', now(), now())`)
	second := issue(now)
	must(t, s.RecordToken(t.Context(), second))
	revisions := func() map[int16]int64 {
		t.Helper()
		all := map[int16]int64{}
		rows, err := admin.Query(t.Context(), `select slot, revision from authz.token_revisions`)
		must(t, err)
		var slot int16
		var revision int64
		_, err = pgx.ForEachRow(rows, []any{&slot, &revision}, func() error { all[slot] = revision; return nil })
		must(t, err)
		same(t, list[int64](t, admin, `select revision from authz.gateway_revision`), []int64{all[postgres.SlotOfAll]})
		return all
	}
	digest := fmt.Sprintf(`'\x%x'`, token.Digest[:])
	own, everything := []int16{postgres.SlotOf(token.Digest)}, []int16{postgres.SlotOfAll}
	for statement, want := range map[string][]int16{
		`update authz.tokens set revoked_at = issued_at where digest = ` + digest: own,
		`delete from authz.tokens where digest = ` + digest:                       own,
		`update authz.tokens set scope = 'less' where digest = ` + digest:         own,
		`truncate authz.tokens`: everything,
		`insert into authz.revoked_dpop_keys values (repeat('l', 43), now())`: everything,
		`update authz.revoked_dpop_keys set jkt = repeat('l', 43)`:            everything,
		`delete from authz.revoked_dpop_keys`:                                 everything,
		`truncate authz.revoked_dpop_keys`:                                    everything,
		`update authz.signing_keys set revoked_at = now()`:                    everything,
		`delete from authz.signing_keys`:                                      everything,
		`truncate authz.signing_keys`:                                         everything,
		`insert into authz.signing_keys select 'k2', alg, public_jwk, sealed_private, sealed_by, created_at, signs_from, null, now() from authz.signing_keys`: everything,
		`insert into authz.signing_keys select 'k2', alg, public_jwk, sealed_private, sealed_by, created_at, signs_from from authz.signing_keys`:              nil,
		`insert into authz.grants select 'edge', resource, scope from authz.grants limit 1`:                                                                   everything,
		`update authz.grants set client_id = 'edge' where ctid = (select min(ctid) from authz.grants)`:                                                        everything,
		`delete from authz.grants`:                                        nil, // of no gateway
		`truncate authz.grants cascade`:                                   everything,
		`update authz.clients set disabled_at = now() where id = 'shop'`:  everything,
		`update authz.clients set generation = default where id = 'shop'`: everything,
		`update authz.clients set require_nonce = true where id = 'shop'`: everything,
		`update authz.resources set generation = default`:                 everything,
		`delete from authz.client_secrets where client_id = 'edge'`:       everything,
		`delete from authz.gateway_resources`:                             everything,
		`select`:                                                          nil,
	} {
		for _, role := range []string{"origin", "replica"} { // the latter passes by what is not always enabled
			before := revisions()
			exec(t, admin, `begin`)
			exec(t, admin, `set local session_replication_role = `+role)
			exec(t, admin, statement)
			var changed []int16
			for slot, revision := range revisions() {
				if before[slot] != revision {
					changed = append(changed, slot)
				}
			}
			if !slices.Equal(changed, want) {
				t.Errorf("as %s: %s: changes %v, want %v", role, statement, changed, want)
			}
			exec(t, admin, `rollback`)
			same(t, before, revisions())
		}
	}
	// Those of partitions too.
	same(t, []string{"A"}, list[string](t, admin, `
		select distinct coalesce(g.tgenabled::text, 'none') from pg_partition_tree('authz.tokens') p
		left join pg_trigger g on g.tgrelid = p.relid and g.tgname = 'tokens_token_revision' where p.isleaf`))
}

// A revocation counts from the moment that it is answered, whatever others ask for at
// that moment.
func TestNobodyIsToldThatARevokedTokenIsActive(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	now := clock()
	operator := open(t, db.OwnerURL)
	populate(t, operator, now)
	many := postgres.Configure(func(c *pgxpool.Config) { c.MaxConns = 4 })
	servers := []*postgres.Store{open(t, db.ServerURL, postgres.AsServer(), many), open(t, db.ServerURL, postgres.AsServer(), many)}
	ctx := t.Context()
	const rounds = 60
	type state struct {
		token   authz.Token
		revoked atomic.Bool
	}
	var current atomic.Pointer[state]
	next := func() *state {
		i := issue(now)
		must(t, servers[0].RecordToken(ctx, i))
		st := &state{token: i.Token}
		for _, s := range servers {
			keep(t, s, i.Token)
		}
		current.Store(st)
		return st
	}
	next()
	stop := make(chan struct{})
	var asked, wrong, found atomic.Int64
	var asking sync.WaitGroup
	for n := range 8 {
		s := servers[n%2]
		table, err := s.GatewayTable(ctx)
		must(t, err)
		asking.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				st := current.Load()
				before := st.revoked.Load()
				asked.Add(1)
				if n < 4 {
					_, err := s.ActiveToken(ctx, st.token.Digest, edgeCaller(), now)
					if err == nil {
						found.Add(1)
					}
					if err == nil && before {
						wrong.Add(1)
					}
					continue
				}
				call := authz.Call{
					Revision: table.Revision, AnyRevision: true, Resource: st.token.Resource, Token: st.token.Digest, JKT: st.token.JKT,
					Generation: table.Resources[0].Generation,
					Proof:      &authz.Spending{Digest: randomDigest(), IssuedAt: midHour(now), Window: 90 * time.Second},
				}
				if v, err := s.AdmitCall(ctx, call, now); err == nil && (v.Spent || v.Token != nil) {
					found.Add(1)
					if before {
						wrong.Add(1)
					}
				}
			}
		})
	}
	for range rounds {
		st := next()
		time.Sleep(3 * time.Millisecond)
		_, err := servers[1].RevokeToken(ctx, st.token.Digest, shopCaller(), event(authz.AuditTokenRevoked, now))
		must(t, err)
		st.revoked.Store(true)
		time.Sleep(3 * time.Millisecond)
	}
	close(stop)
	asking.Wait()
	if wrong.Load() > 0 || found.Load() < rounds {
		t.Errorf("of %d, %d found it active, %d of these after its revocation", asked.Load(), found.Load(), wrong.Load())
	}
}
