package audittrail

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/cargokey/authz/authz"
)

// Store is what a Sealer needs of the database.
type Store interface {
	// Trail reads final events from after a place on, in the order of their places.
	Trail(ctx context.Context, after authz.TrailPosition, limit int) ([]authz.TrailEvent, error)
	// Follow takes or renews the lease of a follower, and tells where it stands.
	Follow(ctx context.Context, name, holder string, hold time.Duration) (at authz.TrailPosition, held bool, err error)
	// OldestAfter is when the first event after a place was; the zero time: there is none.
	OldestAfter(ctx context.Context, after authz.TrailPosition) (time.Time, error)
	// LastSeal is the number and the digest of the last seal; 0 and zeros: there is none.
	LastSeal(ctx context.Context) (number int64, digest authz.Digest, err error)
	// AddSeals appends seals, and moves the follower of their name on, in one step or not at
	// all: authz.ErrNotHeld where the holder holds it no more, or it stands elsewhere.
	AddSeals(ctx context.Context, name, holder string, from, to authz.TrailPosition, seals []authz.TrailSeal) error
}

const (
	// DefaultEvery is how often the trail is sealed.
	DefaultEvery = 5 * time.Second
	// batch is how many events are read at a time; each is of some hundred bytes.
	batch = 2000
	// headsEvery is how often the log is told where the chain has come to.
	headsEvery = time.Minute
)

// Config is what a Sealer needs.
type Config struct {
	Store   Store
	Keys    Keys
	Metrics *Metrics
	Log     *slog.Logger
	Now     func() time.Time
	Every   time.Duration // 0: DefaultEvery
}

// Sealer seals the trail, on one instance at a time.
type Sealer struct {
	Config
	holder   string
	digester *digester

	head   Head
	day    string // of the head
	logged Head
	at     time.Time // when it was logged
}

// NewSealer makes a Sealer.
func NewSealer(c Config) (*Sealer, error) {
	if c.Store == nil || c.Keys.first == "" || c.Metrics == nil || c.Log == nil || c.Now == nil || c.Every < 0 {
		return nil, errors.New("a Sealer needs a Store, Keys, Metrics, a Log and a clock")
	}
	if c.Every == 0 {
		c.Every = DefaultEvery
	}
	return &Sealer{Config: c, holder: rand.Text(), digester: newDigester()}, nil
}

// Run seals until ctx ends. What fails is tried again, and told of once.
func (s *Sealer) Run(ctx context.Context) {
	tick := time.NewTicker(s.Every)
	defer tick.Stop()
	failing := false
	for {
		err := s.Seal(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil && !failing {
			s.Log.Error("the audit trail is not sealed for now", "error", err.Error())
		}
		failing = err != nil
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// lease is how long a Sealer that says nothing keeps others out.
func (s *Sealer) lease() time.Duration { return min(max(3*s.Every, 2*time.Second), 5*time.Minute) }

// Seal seals all that is final, where no other instance is at it.
func (s *Sealer) Seal(ctx context.Context) error {
	at, held, err := s.Store.Follow(ctx, Follower, s.holder, s.lease())
	for more := held && err == nil; more; {
		if at, more, err = s.sealNext(ctx, at); err != nil || !more {
			break
		}
		_, more, err = s.Store.Follow(ctx, Follower, s.holder, s.lease())
	}
	if errors.Is(err, authz.ErrNotHeld) { // it was slow, and another instance goes on
		err = nil
	}
	if err != nil {
		s.Metrics.unknown(s.Now())
		return err
	}
	oldest, err := s.Store.OldestAfter(ctx, at)
	if err != nil {
		s.Metrics.unknown(s.Now())
		return err
	}
	s.Metrics.unsealedSince(oldest, s.Now())
	s.logHead(false)
	return nil
}

// sealNext seals the next events, and tells whether there may be more.
func (s *Sealer) sealNext(ctx context.Context, from authz.TrailPosition) (at authz.TrailPosition, more bool, err error) {
	events, err := s.Store.Trail(ctx, from, batch)
	if err != nil || len(events) == 0 {
		return from, false, err
	}
	// Not before Follow: the head that goes with where the follower stands, or a later one,
	// with which AddSeals fails.
	head, digest, err := s.Store.LastSeal(ctx)
	if err != nil {
		return from, false, err
	}
	to := events[len(events)-1].Position
	seals := s.chain(Head{head, digest}, from, to, events)
	if err := s.Store.AddSeals(ctx, Follower, s.holder, from, to, seals); err != nil {
		return from, false, fmt.Errorf("sealing the audit trail: %w", err)
	}
	s.Metrics.sealed(len(events))
	for _, seal := range seals {
		if s.day != "" && seal.Day > s.day {
			s.logHead(true)
		}
		s.head, s.day = Head{seal.Number, seal.Digest}, max(s.day, seal.Day)
	}
	return to, len(events) == batch, nil
}

// chain makes a seal for each day that the events are of, the first day first.
func (s *Sealer) chain(head Head, from, to authz.TrailPosition, events []authz.TrailEvent) []authz.TrailSeal {
	days := map[string]int{}
	for _, e := range events {
		days[dayOf(e.At)]++
	}
	var order []string
	for day := range days {
		order = append(order, day)
	}
	slices.Sort(order)
	var seals []authz.TrailSeal
	for _, day := range order {
		seal := authz.TrailSeal{Number: head.Number + 1, Day: day, From: from, Upto: to, Events: days[day], Previous: head.Digest}
		s.digester.begin(seal)
		for _, e := range events {
			if len(days) == 1 || dayOf(e.At) == day {
				s.digester.event(e)
			}
		}
		seal.Digest = s.digester.sum()
		s.Keys.sign(&seal)
		head = Head{seal.Number, seal.Digest}
		seals = append(seals, seal)
	}
	return seals
}

// logHead tells the log where the chain has come to: once a minute at most, and at the
// end of a day.
func (s *Sealer) logHead(dayEnds bool) {
	now := s.Now()
	if s.head == s.logged || !dayEnds && now.Sub(s.at) < headsEvery {
		return
	}
	s.Log.Info("audit trail sealed", "head", s.head.String(), "day", s.day, "day_ended", dayEnds)
	s.logged, s.at = s.head, now
}
