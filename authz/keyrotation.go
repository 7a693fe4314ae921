package authz

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cargokey/authz/jwks"
)

// Limits of the rotation of signing keys. The Store holds them as well, for
// whoever has the server's rights in the database.
const (
	DefaultKeyRotation     = 30 * 24 * time.Hour
	MinKeyRotation         = 24 * time.Hour
	DefaultKeyPublishAhead = 24 * time.Hour
	MinKeyPublishAhead     = jwks.ClockMargin
	MaxKeyPublishAhead     = 30 * 24 * time.Hour
)

// ValidateKeyRotation holds how often keys change (0: never by themselves), and
// how long each is published before it signs.
func ValidateKeyRotation(rotation, ahead time.Duration) error {
	switch {
	case ahead < MinKeyPublishAhead || ahead > MaxKeyPublishAhead:
		return fmt.Errorf("a signing key is published %s before it signs; it may be %s to %s", ahead, MinKeyPublishAhead, MaxKeyPublishAhead)
	case rotation == 0:
		return nil
	case rotation < MinKeyRotation || rotation < 2*ahead:
		return fmt.Errorf("signing keys change every %s; it may be 0 (never), or %s or more, and twice the time that they are published before they sign",
			rotation, MinKeyRotation)
	}
	return nil
}

// errDatabaseClock: nothing else keeps the Store from adding a key that is due.
var errDatabaseClock = errors.New("a signing key is due, and the database does not take it: its clock and this one's are hours apart")

// makeDue makes the keys that are due: the first of each algorithm in use, and
// the next one in time for it to be known everywhere before it signs. Several
// instances that do so at once end up with one key.
func (k *keyring) makeDue(ctx context.Context) (made bool, err error) {
	stored, err := k.store.SigningKeys(ctx)
	if err != nil {
		return false, fmt.Errorf("reading the signing keys: %w", err)
	}
	algorithms, err := k.algorithms(ctx)
	if err != nil {
		return false, err
	}
	unsettled := k.holders.settle(ctx, k.store)
	k.inUse.Store(&algorithms)
	now, timeline := k.now(), timelineOf(stored)
	for _, a := range algorithms {
		newest, ok := timeline.Newest(a)
		var failed error
		switch {
		case !ok:
			failed = k.makeFirst(ctx, a, now)
		case k.rotation > 0 && !now.Before(newest.SignsFrom.Add(k.rotation-k.ahead)):
			failed = k.makeNext(ctx, newest, now)
		default:
			continue
		}
		made, err = made || failed == nil, errors.Join(err, failed)
	}
	return made, errors.Join(err, unsettled)
}

// algorithms are those in use, the default first. What the profile rules out no
// token is signed by, and so there is to be no key of it.
func (k *keyring) algorithms(ctx context.Context) ([]jwks.Algorithm, error) {
	resources, err := k.store.Resources(ctx)
	if err != nil {
		return nil, fmt.Errorf("reading which algorithms resources use: %w", err)
	}
	all := []jwks.Algorithm{k.algorithm}
	for _, r := range resources {
		if r.SigningAlg != "" && k.profile.signs(r.SigningAlg) && !slices.Contains(all, r.SigningAlg) {
			all = append(all, r.SigningAlg)
		}
	}
	return all, nil
}

func (k *keyring) makeFirst(ctx context.Context, a jwks.Algorithm, now time.Time) error {
	sealed, event, err := MakeSigningKey(k.holders.maker(), a, now, now, ActorServer)
	if err != nil {
		return err
	}
	if err = k.store.AddFirstSigningKey(ctx, sealed, event); err != nil {
		err = fmt.Errorf("storing the first signing key: %w", err)
	}
	if err := errors.Join(err, k.holders.settle(ctx, k.store, sealed)); err != nil {
		return err
	}
	stored, err := k.store.SigningKeys(ctx)
	if err != nil {
		return fmt.Errorf("reading the signing keys: %w", err)
	}
	if _, ok := timelineOf(stored).Newest(a); !ok {
		return errDatabaseClock
	}
	return nil
}

func (k *keyring) makeNext(ctx context.Context, newest jwks.Info, now time.Time) error {
	sealed, event, err := MakeSigningKey(k.holders.maker(), newest.Algorithm, now, now.Add(k.ahead), ActorServer)
	if err != nil {
		return err
	}
	added, err := k.store.AddNextSigningKey(ctx, sealed, newest.KID, event)
	if err != nil {
		err = fmt.Errorf("storing the next signing key: %w", err)
	}
	if added {
		return nil
	}
	if err := errors.Join(err, k.holders.settle(ctx, k.store, sealed)); err != nil {
		return err
	}
	stored, err := k.store.SigningKeys(ctx)
	if err != nil {
		return fmt.Errorf("reading the signing keys: %w", err)
	}
	if still, ok := timelineOf(stored).Newest(newest.Algorithm); ok && still.KID == newest.KID {
		return errDatabaseClock
	}
	return nil // another instance was first
}

// MakeSigningKey makes a key and the event of its making.
func MakeSigningKey(holder KeyHolder, a jwks.Algorithm, now, signsFrom time.Time, actor string) (jwks.SealedKey, AuditEvent, error) {
	sealed, err := holder.MakeKey(a, now, signsFrom)
	if err != nil {
		return jwks.SealedKey{}, AuditEvent{}, err
	}
	event := NewAuditEvent(now, AuditKeyCreated, actor)
	event.Detail = map[string]any{"kid": sealed.KID, "alg": string(a), "signs_from": signsFrom.UTC().Format(time.RFC3339), "sealed_by": sealed.SealedBy}
	return sealed, event, nil
}
