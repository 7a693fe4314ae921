package storetest

import (
	"context"
	"testing"
	"time"

	"github.com/cargokey/authz/authz"
)

func revoking() []property {
	return []property{
		{"OwnerOperatorAndNameRevoke", whoRevokes},
		{"AnotherClientsTokenStaysAsItIs", notOwner},
		{"UnknownTokenIsNotFound", revokeUnknown},
		{"ExpiredTokenIsNotFound", revokeExpired},
		{"RevokedTokenStaysAsItIs", revokeTwice},
		{"OfManyRevocationsOneLeavesAnEvent", revokeAtOnce},
		{"TokenOfADisabledOrDeletedClientCanBeRevoked", revokeOfGone},
	}
}

// ways are those in which shop's token may be revoked.
func (w *world) ways() map[string]func(context.Context, authz.Token, authz.AuditEvent) (*authz.Token, error) {
	return map[string]func(context.Context, authz.Token, authz.AuditEvent) (*authz.Token, error){
		"its owner": func(ctx context.Context, token authz.Token, e authz.AuditEvent) (*authz.Token, error) {
			return w.Servers[0].RevokeToken(ctx, token.Digest, w.caller(shop), e)
		},
		"an operator": func(ctx context.Context, token authz.Token, e authz.AuditEvent) (*authz.Token, error) {
			return w.Operator.RevokeToken(ctx, token.Digest, authz.Caller{}, e)
		},
		"its name": func(ctx context.Context, token authz.Token, e authz.AuditEvent) (*authz.Token, error) {
			return w.Operator.RevokeTokenByJTI(ctx, token.JTI, e)
		},
	}
}

// revocation is the event of revoking token, as given and as written.
func (w *world) revocation(token authz.Token) (given, written authz.AuditEvent) {
	given = w.event(authz.AuditTokenRevoked)
	given.RemoteAddr, given.Detail = "192.0.2.9", map[string]any{"why": "stolen"}
	written = given
	written.ClientID, written.Resource, written.JTI, written.JKT = token.ClientID, token.Resource, token.JTI, token.JKT
	return given, written
}

func whoRevokes(t *testing.T, w *world) {
	w.populate(t)
	for by, revoke := range w.ways() {
		for _, form := range []func(authz.Issue) authz.Issue{bearer, func(i authz.Issue) authz.Issue { return i }} {
			i := form(w.issue())
			must(t, w.Servers[0].RecordToken(t.Context(), i))
			given, written := w.revocation(i.Token)
			w.writes(t, func() error {
				got, err := revoke(t.Context(), i.Token, given)
				want := i.Token
				want.RevokedAt = given.At
				same(t, &want, got)
				return err
			}, written)
			if w.isActive(t, i.Token) {
				t.Errorf("active after it was revoked by %s", by)
			}
		}
	}
}

func notOwner(t *testing.T, w *world) {
	w.populate(t)
	token := w.record(t)
	revoke := func(by string) func() error {
		return func() error {
			_, err := w.Servers[0].RevokeToken(t.Context(), token.Digest, w.caller(by), w.event(authz.AuditTokenRevoked))
			return err
		}
	}
	for _, by := range []string{other, edge} {
		w.refuses(t, authz.ErrNotOwner, revoke(by))
	}
	if !w.isActive(t, token) {
		t.Error("inactive after others tried to revoke it")
	}
	must(t, revoke(shop)())
	w.refuses(t, authz.ErrNotOwner, revoke(other))
}

func revokeUnknown(t *testing.T, w *world) {
	w.populate(t)
	w.record(t)
	unknown := authz.Token{JTI: authz.NewJTI(w.now), Digest: randomDigest()}
	for _, revoke := range w.ways() {
		w.refuses(t, authz.ErrNotFound, func() error {
			_, err := revoke(t.Context(), unknown, w.event(authz.AuditTokenRevoked))
			return err
		})
	}
}

func revokeExpired(t *testing.T, w *world) {
	w.populate(t)
	token := w.record(t)
	for _, late := range []time.Duration{10 * time.Minute, 2 * time.Hour} {
		for _, revoke := range w.ways() {
			w.refuses(t, authz.ErrNotFound, func() error {
				_, err := revoke(t.Context(), token, w.eventAt(authz.AuditTokenRevoked, token.ExpiresAt.Add(late)))
				return err
			})
		}
	}
	// Around its end too, since by another instance's clock it may be active.
	for _, late := range []time.Duration{-time.Microsecond, 0, 9 * time.Minute} {
		for _, revoke := range w.ways() {
			token := w.record(t)
			if _, err := revoke(t.Context(), token, w.eventAt(authz.AuditTokenRevoked, token.ExpiresAt.Add(late))); err != nil {
				t.Error(err)
			}
		}
	}
}

func revokeTwice(t *testing.T, w *world) {
	w.populate(t)
	token := w.record(t)
	if _, err := w.Servers[0].RevokeToken(t.Context(), token.Digest, w.caller(shop), w.event(authz.AuditTokenRevoked)); err != nil {
		t.Fatal(err)
	}
	before := w.contents(t)
	for _, revoke := range w.ways() {
		got, err := revoke(t.Context(), token, w.eventAt(authz.AuditTokenRevoked, w.now.Add(time.Minute)))
		must(t, err)
		want := token
		want.RevokedAt = w.now
		same(t, &want, got)
	}
	same(t, before, w.contents(t))
}

func revokeAtOnce(t *testing.T, w *world) {
	w.populate(t)
	token := w.record(t)
	before := len(w.Events(t))
	counts := atOnce(t, 16, func(ctx context.Context, i int) error {
		_, err := w.Servers[i%2].RevokeToken(ctx, token.Digest, w.caller(shop), w.event(authz.AuditTokenRevoked))
		return err
	})
	same(t, []int{16}, counts)
	if n := len(w.Events(t)) - before; n != 1 {
		t.Errorf("%d events, want 1", n)
	}
}

func revokeOfGone(t *testing.T, w *world) {
	w.populate(t)
	disabled, deleted := w.issueFor(shop, w.now), w.issueFor(other, w.now)
	must(t, w.Servers[0].RecordToken(t.Context(), disabled))
	must(t, w.Servers[0].RecordToken(t.Context(), deleted))
	must(t, w.Operator.SetClientDisabled(t.Context(), shop, true, w.event(authz.AuditClientDisabled)))
	must(t, w.Operator.DeleteClient(t.Context(), other, w.event(authz.AuditClientDeleted)))
	for _, token := range []authz.Token{disabled.Token, deleted.Token} {
		given, written := w.revocation(token)
		w.writes(t, func() error {
			_, err := w.Operator.RevokeToken(t.Context(), token.Digest, authz.Caller{}, given)
			return err
		}, written)
	}
}
