package storetest

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/cargokey/authz/authz"
)

func secrets() []property {
	return []property{
		{"RotationAddsOneAndEndsTheOthersLater", rotation},
		{"RotationPutsOffNoEnd", rotationPutsOffNoEnd},
		{"RotationAtOnceEndsTheOthersByEveryClock", rotationAtOnce},
		{"ClaimantByASecretThatHasEndedIsToldFromAWrongOne", claimantByEnded},
		{"SecretThatEndedLongAgoIsForgottenByTheNextRotation", endedIsForgotten},
		{"NoTokenIsRecordedByASecretThatWasEndedAtOnce", noTokenByEnded},
		{"GatewaysRotateLikeAnyClient", gatewayRotates},
		{"RotationOfWhatHasNoSecretsIsRefused", rotationRefused},
		{"RotationsAtOnceLeaveTheSecretsOfEach", rotationsAtOnce},
		{"OfManyRotationsThatEndTheOthersOneSecretIsLeft", endingsAtOnce},
		{"RotationLeavesExactlyItsEvent", rotationEvent},
	}
}

// rotating registers a client with one secret, or a gateway of fronts.
func (w *world) rotating(t *testing.T, fronts ...string) *authz.Client {
	t.Helper()
	w.populate(t)
	c := w.client("rotating")
	if len(fronts) > 0 {
		c = w.gateway("rotating", fronts...)
	}
	create(c)(t, w)
	return c
}

// rotate adds a secret at a moment after now; a zero overlap ends the others at once.
func (w *world) rotate(t *testing.T, at, overlap time.Duration) authz.Digest {
	t.Helper()
	secret, e := randomDigest(), w.eventAt(authz.AuditSecretRotated, w.now.Add(at))
	var end time.Time
	if overlap != 0 {
		end = e.At.Add(overlap)
	}
	must(t, w.Operator.RotateSecret(t.Context(), "rotating", secret, end, e))
	return secret
}

// inForce checks which secrets of the client count at a moment, for all who ask.
func (w *world) inForce(t *testing.T, at time.Duration, want ...authz.Digest) {
	t.Helper()
	expected := &authz.Client{Secrets: want}
	sortSecrets(expected)
	for _, s := range []authz.Store{w.Operator, w.Servers[0], w.Servers[1]} {
		got, err := s.Client(t.Context(), "rotating", w.now.Add(at))
		must(t, err)
		sortSecrets(got)
		same(t, expected.Secrets, got.Secrets)
		for _, secret := range want {
			c, err := s.Claimant(t.Context(), "rotating", secret, w.now.Add(at))
			must(t, err)
			if !c.SecretEndedAt.IsZero() || len(c.Grants)+len(c.Introspects) == 0 {
				t.Errorf("%s: by a secret in force: %+v", at, c)
			}
		}
	}
}

// kept checks what is listed: digests by when they end, after now.
func (w *world) kept(t *testing.T, want map[authz.Digest]time.Duration) {
	t.Helper()
	got := map[authz.Digest]time.Duration{}
	listed, err := w.Operator.ClientSecrets(t.Context(), "rotating")
	must(t, err)
	for _, s := range listed {
		got[s.Digest] = never
		if !s.EndsAt.IsZero() {
			got[s.Digest] = s.EndsAt.Sub(w.now)
		}
	}
	if !slices.IsSortedFunc(listed, func(a, b authz.ClientSecret) int { return b.CreatedAt.Compare(a.CreatedAt) }) {
		t.Errorf("not the latest first: %v", listed)
	}
	same(t, want, got)
}

const never = time.Duration(1<<63 - 1)

func rotation(t *testing.T, w *world) {
	old := w.rotating(t).Secrets[0]
	w.kept(t, map[authz.Digest]time.Duration{old: never})
	fresh := w.rotate(t, time.Minute, time.Hour)
	w.inForce(t, time.Minute, old, fresh)
	w.inForce(t, time.Minute+time.Hour-time.Microsecond, old, fresh)
	w.inForce(t, time.Minute+time.Hour, fresh)
	w.inForce(t, 1000*time.Hour, fresh)
	w.kept(t, map[authz.Digest]time.Duration{old: time.Minute + time.Hour, fresh: never})
}

func rotationPutsOffNoEnd(t *testing.T, w *world) {
	first := w.rotating(t).Secrets[0]
	second := w.rotate(t, 0, time.Hour)
	third := w.rotate(t, time.Minute, 24*time.Hour)
	fourth := w.rotate(t, 2*time.Minute, 10*time.Minute)
	w.kept(t, map[authz.Digest]time.Duration{
		first: 12 * time.Minute, second: 12 * time.Minute, third: 12 * time.Minute, fourth: never})
	fifth := w.rotate(t, 3*time.Minute, 100*time.Hour)
	w.kept(t, map[authz.Digest]time.Duration{
		first: 12 * time.Minute, second: 12 * time.Minute, third: 12 * time.Minute, fourth: 100*time.Hour + 3*time.Minute, fifth: never})
	w.inForce(t, time.Hour, fourth, fifth)
}

func rotationAtOnce(t *testing.T, w *world) {
	first := w.rotating(t).Secrets[0]
	second := w.rotate(t, 0, time.Hour)
	third := w.rotate(t, time.Minute, 0)
	for _, clock := range []time.Duration{-24 * time.Hour, -time.Hour, 0, time.Minute, time.Hour} {
		w.inForce(t, clock, third)
	}
	w.kept(t, map[authz.Digest]time.Duration{first: time.Minute, second: time.Minute, third: never})
	// What has ended by one clock has not by another that is behind: here it does.
	fourth := w.rotate(t, time.Hour, time.Minute)
	fifth := w.rotate(t, 2*time.Hour, 0)
	w.inForce(t, 0, fifth)
	w.kept(t, map[authz.Digest]time.Duration{
		first: time.Minute, second: time.Minute, third: time.Hour + time.Minute, fourth: 2 * time.Hour, fifth: never})
	// It does not come back.
	sixth := w.rotate(t, 3*time.Hour, time.Hour)
	w.inForce(t, 0, fifth, sixth)
}

func claimantByEnded(t *testing.T, w *world) {
	first := w.rotating(t).Secrets[0]
	second := w.rotate(t, 0, time.Hour)
	claim := func(secret authz.Digest, at time.Duration, want time.Time) {
		t.Helper()
		for _, s := range w.Servers {
			got, err := s.Claimant(t.Context(), "rotating", secret, w.now.Add(at))
			must(t, err)
			if !got.SecretEndedAt.Equal(want) || len(got.Grants) != 0 || len(got.Introspects) != 0 || slices.Contains(got.Secrets, secret) {
				t.Errorf("%s: %+v, want the end %s", at, got, want)
			}
		}
	}
	claim(first, time.Hour, w.now.Add(time.Hour))
	claim(first, 100*time.Hour, w.now.Add(time.Hour))
	claim(randomDigest(), time.Hour, time.Time{})
	third := w.rotate(t, time.Minute, 0)
	claim(first, 0, w.now.Add(time.Minute))
	claim(second, 0, w.now.Add(time.Minute))
	w.inForce(t, 0, third)
	// One client's secret is nothing of another's.
	got, err := w.Servers[0].Claimant(t.Context(), shop, first, w.now)
	must(t, err)
	if !got.SecretEndedAt.IsZero() {
		t.Errorf("%+v", got)
	}
	if _, err := w.Servers[0].Claimant(t.Context(), "nobody", first, w.now); !errors.Is(err, authz.ErrNotFound) {
		t.Error(err)
	}
}

func endedIsForgotten(t *testing.T, w *world) {
	first := w.rotating(t).Secrets[0]
	second := w.rotate(t, 0, time.Hour)
	third := w.rotate(t, time.Minute, time.Hour)
	w.ExpireSecret(t, "rotating", first, w.now.Add(-authz.SecretsKept))
	w.ExpireSecret(t, "rotating", second, w.now.Add(-authz.SecretsKept-time.Microsecond))
	w.kept(t, map[authz.Digest]time.Duration{first: -authz.SecretsKept, second: -authz.SecretsKept - time.Microsecond, third: never})
	fourth := w.rotate(t, 0, time.Hour)
	w.kept(t, map[authz.Digest]time.Duration{first: -authz.SecretsKept, third: time.Hour, fourth: never})
	for secret, want := range map[authz.Digest]time.Time{first: w.now.Add(-authz.SecretsKept), second: {}} {
		got, err := w.Servers[0].Claimant(t.Context(), "rotating", secret, w.now)
		must(t, err)
		if !got.SecretEndedAt.Equal(want) {
			t.Errorf("%s: its end is %s, want %s", secret.Name(), got.SecretEndedAt, want)
		}
	}
}

func noTokenByEnded(t *testing.T, w *world) {
	first := w.rotating(t).Secrets[0]
	second := w.rotate(t, 0, time.Hour)
	by := func(secret authz.Digest) authz.Issue {
		i := w.issueFor("rotating", w.now)
		i.Token.Credential = secret.Name()
		return i
	}
	for _, secret := range []authz.Digest{first, second} {
		i := by(secret)
		must(t, w.Servers[0].RecordToken(t.Context(), i))
		must(t, w.Servers[1].RecordToken(t.Context(), bearer(by(secret))))
		if !w.isActive(t, i.Token) { // and tells the credential
			t.Error("a token by a secret in force is inactive")
		}
	}
	late := []authz.Issue{by(first), bearer(by(first)), by(second), bearer(by(second))}
	third := w.rotate(t, 0, 0)
	w.recordsNothing(t, authz.ErrClientChanged, late...)
	must(t, w.Servers[0].RecordToken(t.Context(), by(third)))
}

func gatewayRotates(t *testing.T, w *world) {
	old := w.rotating(t, labels).Secrets[0]
	before := w.table(t)
	fresh := w.rotate(t, 0, time.Hour)
	again := w.rotate(t, time.Minute, 0)
	after := w.table(t)
	if before.Revision == after.Revision {
		t.Error("a table of before is held to be the one of now")
	}
	end := w.now.Add(time.Minute)
	want := []authz.EndingDigest{{Digest: old, EndsAt: end, Ended: true}, {Digest: fresh, EndsAt: end, Ended: true}, {Digest: again}}
	slices.SortFunc(want, byDigest)
	for _, g := range after.Gateways {
		if g.ID == "rotating" {
			slices.SortFunc(g.Secrets, byDigest)
			same(t, want, g.Secrets)
		}
	}
}

func rotationRefused(t *testing.T, w *world) {
	taken := w.rotating(t).Secrets[0]
	create(w.certified("by-dns", authz.CertificateName{DNS: "gw.example.com"}, labels))(t, w)
	ctx := t.Context()
	for id, want := range map[string]error{"": authz.ErrNotFound, "nobody": authz.ErrNotFound, "by-dns": authz.ErrNoSecrets, "rotating": authz.ErrExists} {
		for _, end := range []time.Time{{}, w.now.Add(time.Hour)} {
			w.refuses(t, want, func() error {
				return w.Operator.RotateSecret(ctx, id, taken, end, w.event(authz.AuditSecretRotated))
			})
		}
	}
	if _, err := w.Operator.ClientSecrets(ctx, "nobody"); !errors.Is(err, authz.ErrNotFound) {
		t.Error(err)
	}
	none, err := w.Operator.ClientSecrets(ctx, "by-dns")
	must(t, err)
	same(t, []authz.ClientSecret{}, none)
	// Only operators rotate.
	w.refuses(t, nil, func() error {
		return w.Servers[0].RotateSecret(ctx, "rotating", randomDigest(), time.Time{}, w.event(authz.AuditSecretRotated))
	})
}

func rotationsAtOnce(t *testing.T, w *world) {
	all := w.rotating(t).Secrets
	for range 12 {
		all = append(all, randomDigest())
	}
	counts := atOnce(t, 16, func(ctx context.Context, i int) error {
		if i >= 12 { // somebody else changes the same client meanwhile
			return w.Operator.SetClientDisabled(ctx, "rotating", i%2 == 0, w.event(authz.AuditClientDisabled))
		}
		return w.Operator.RotateSecret(ctx, "rotating", all[1+i], w.now.Add(time.Hour), w.event(authz.AuditSecretRotated))
	})
	same(t, []int{16}, counts)
	w.inForce(t, 0, all...)
	if last, err := w.Operator.Client(t.Context(), "rotating", w.now.Add(time.Hour)); err != nil || len(last.Secrets) != 1 {
		t.Errorf("when all have ended but the last: %v, %v", last, err)
	}
}

func endingsAtOnce(t *testing.T, w *world) {
	w.rotating(t)
	counts := atOnce(t, 12, func(ctx context.Context, _ int) error {
		return w.Operator.RotateSecret(ctx, "rotating", randomDigest(), time.Time{}, w.event(authz.AuditSecretRotated))
	})
	same(t, []int{12}, counts)
	c, err := w.Servers[0].Client(t.Context(), "rotating", w.now)
	must(t, err)
	if len(c.Secrets) != 1 {
		t.Errorf("%d secrets are in force", len(c.Secrets))
	}
	counts = atOnce(t, 8, func(ctx context.Context, i int) error {
		if i == 4 {
			return w.Operator.DeleteClient(ctx, "rotating", w.event(authz.AuditClientDeleted))
		}
		return w.Operator.RotateSecret(ctx, "rotating", randomDigest(), time.Time{}, w.event(authz.AuditSecretRotated))
	}, authz.ErrNotFound)
	if counts[0] < 1 {
		t.Errorf("%v", counts)
	}
}

func rotationEvent(t *testing.T, w *world) {
	w.rotating(t)
	for _, end := range []time.Time{{}, w.now.Add(time.Hour)} {
		given := w.event(authz.AuditSecretRotated)
		given.Detail = map[string]any{"credential": "0123456789ab"}
		written := given
		written.ClientID = "rotating"
		w.writes(t, func() error {
			return w.Operator.RotateSecret(t.Context(), "rotating", randomDigest(), end, given)
		}, written)
	}
}
