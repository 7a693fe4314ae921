package postgres_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cargokey/authz/authz"
	"github.com/cargokey/authz/internal/pgdev"
	"github.com/cargokey/authz/migrations"
	"github.com/cargokey/authz/storage/postgres"
)

func TestWhatWasAnsweredSurvivesTheDeathOfPostgres(t *testing.T) {
	t.Parallel()
	p, err := pgdev.Start(t.Context(), pgdev.Options{})
	must(t, err)
	t.Cleanup(func() {
		if err := p.Stop(context.Background()); err != nil {
			t.Errorf("stopping Postgres: %v", err)
		}
	})
	owner, err := pgx.Connect(t.Context(), p.URL())
	must(t, err)
	must(t, migrations.Up(t.Context(), owner))
	must(t, owner.Close(t.Context()))
	now := clock()
	populate(t, open(t, p.URL()), now)
	many := postgres.Configure(func(c *pgxpool.Config) { c.MaxConns = 16 })
	store := open(t, p.URL(), postgres.AsServer(), many)

	// Each recorder goes on until Postgres is gone.
	const recorders = 16
	var (
		mu               sync.Mutex
		answered, broken []authz.Issue
		wg               sync.WaitGroup
	)
	enough := make(chan struct{})
	for range recorders {
		wg.Go(func() {
			for {
				i := issue(now)
				err := store.RecordToken(t.Context(), i)
				mu.Lock()
				if err != nil {
					broken = append(broken, i)
					mu.Unlock()
					return
				}
				if answered = append(answered, i); len(answered) == 200 {
					close(enough)
				}
				mu.Unlock()
			}
		})
	}
	select {
	case <-enough:
	case <-time.After(20 * time.Second):
	}
	must(t, p.Kill())
	wg.Wait()
	must(t, p.Restart(t.Context()))

	admin := connect(t, p.URL())
	there := map[authz.JTI]bool{}
	for _, jti := range list[[16]byte](t, admin, `select jti from authz.tokens`) {
		there[jti] = true
	}
	for _, i := range answered {
		if !there[i.Token.JTI] {
			t.Errorf("token %s was answered for and is gone", i.Token.JTI)
		}
	}
	consistent(t, admin, len(answered))
	store = open(t, p.URL(), postgres.AsServer(), many)
	again := func(old authz.Issue) error {
		next := issue(now)
		next.Proof = old.Proof
		return store.RecordToken(t.Context(), next)
	}
	for _, i := range answered[:min(len(answered), 50)] {
		if err := again(i); !errors.Is(err, authz.ErrProofSpent) {
			t.Errorf("a proof that was answered for, again: %v", err)
		}
	}
	for _, i := range broken {
		want := error(nil)
		if there[i.Token.JTI] {
			want = authz.ErrProofSpent
		}
		if err := again(i); !errors.Is(err, want) {
			t.Errorf("a proof whose token is there (%v), again: %v", there[i.Token.JTI], err)
		}
	}
	consistent(t, admin, len(answered))
	t.Logf("%d answered, %d broken off", len(answered), len(broken))
}

// consistent checks that each token has its proof and its event, and no proof
// and no event is without a token.
func consistent(t *testing.T, admin *pgx.Conn, atLeast int) {
	t.Helper()
	tokens, proofs := count(t, admin, "tokens"), count(t, admin, "spent_proofs")
	events := list[int](t, admin, `select count(*)::int from authz.audit_events e join authz.tokens using (jti) where e.kind = 'token.issued'`)[0]
	all := list[int](t, admin, `select count(*)::int from authz.audit_events where kind = 'token.issued'`)[0]
	if tokens < atLeast || proofs != tokens || events != tokens || all != tokens {
		t.Errorf("%d tokens, %d spent proofs, %d events, %d of them of a token that is there; at least %d tokens were answered for",
			tokens, proofs, all, events, atLeast)
	}
}
