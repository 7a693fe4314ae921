package jwks_test

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cargokey/authz/jwks"
)

const (
	rotation = 30 * 24 * time.Hour
	ahead    = 24 * time.Hour
	kept     = jwks.LongestLife + jwks.ClockMargin
)

// info is a key of which only the times matter here.
func info(kid string, a jwks.Algorithm, signsFrom time.Time, ends ...time.Time) jwks.Info {
	k := jwks.Info{KID: kid, Algorithm: a, CreatedAt: signsFrom.Add(-ahead), SignsFrom: signsFrom}
	if len(ends) > 0 {
		k.RetiredAt = ends[0]
	}
	if len(ends) > 1 {
		k.RevokedAt = ends[1]
	}
	return k
}

func TestStateFollowsFromTimestampsAndTheClock(t *testing.T) {
	second := epoch.Add(rotation)
	never := time.Time{}
	plain := []jwks.Info{info("1", jwks.ES256, epoch), info("2", jwks.ES256, second), info("e", jwks.EdDSA, epoch.Add(time.Hour))}
	for _, c := range []struct {
		name   string
		keys   []jwks.Info
		now    time.Time
		states string // of the keys, in their order
		signer string // by ES256
	}{
		{"before the first", plain, epoch.Add(-1), "published published published", "1"},
		{"the first begins", plain, epoch, "signing published published", "1"},
		{"before the second", plain, second.Add(-1), "signing published signing", "1"},
		{"the second begins", plain, second, "retired signing signing", "2"},
		{"the last of the first's tokens lives", plain, second.Add(time.Hour - 1), "retired signing signing", "2"},
		{"before the first is removed", plain, second.Add(kept - 1), "retired signing signing", "2"},
		{"the first is removed", plain, second.Add(kept), "removed signing signing", "2"},
		{"long after", plain, second.Add(1000 * rotation), "removed signing signing", "2"},

		{"retired while the next one waits", []jwks.Info{info("1", jwks.ES256, epoch, epoch.Add(time.Hour)), plain[1]},
			epoch.Add(time.Hour), "retired published", "2"},
		{"retired, by a clock that is behind", []jwks.Info{info("1", jwks.ES256, epoch, epoch.Add(time.Hour)), plain[1]},
			epoch.Add(time.Minute), "retired published", "2"},
		{"retired, and removed before the next begins", []jwks.Info{info("1", jwks.ES256, epoch, epoch.Add(time.Hour)), plain[1]},
			epoch.Add(time.Hour + kept), "removed published", "2"},
		{"retired before it begins", []jwks.Info{plain[0], info("2", jwks.ES256, second, second.Add(-time.Hour))},
			second.Add(time.Hour), "signing retired", "1"},
		{"retired before it begins, and removed", []jwks.Info{plain[0], info("2", jwks.ES256, second, second.Add(-time.Hour))},
			second.Add(kept), "signing removed", "1"},
		{"the successor retires: what it superseded stays so", []jwks.Info{plain[0], info("2", jwks.ES256, second, second.Add(time.Minute))},
			second.Add(2 * time.Minute), "retired retired", ""},

		{"revoked", []jwks.Info{info("1", jwks.ES256, epoch, never, epoch.Add(time.Hour)), info("2", jwks.ES256, epoch.Add(time.Hour))},
			epoch.Add(time.Hour), "revoked signing", "2"},
		{"revoked, by a clock that is behind", []jwks.Info{info("1", jwks.ES256, epoch, never, epoch.Add(time.Hour)), info("2", jwks.ES256, epoch.Add(time.Hour))},
			epoch.Add(time.Minute), "revoked published", "2"},
		{"revoked after it was superseded", []jwks.Info{info("1", jwks.ES256, epoch, never, second.Add(time.Hour)), plain[1]},
			second.Add(time.Hour), "revoked signing", "2"},
		{"the successor is revoked: what it superseded stays so", []jwks.Info{plain[0], info("2", jwks.ES256, second, never, second.Add(time.Minute))},
			second.Add(2 * time.Minute), "retired revoked", ""},
		{"revoked before it begins", []jwks.Info{plain[0], info("2", jwks.ES256, second, never, second.Add(-time.Hour))},
			second.Add(time.Hour), "signing revoked", "1"},
		{"revoked, and none is left", []jwks.Info{info("1", jwks.ES256, epoch, never, epoch)}, epoch, "revoked", ""},

		{"two that begin together", []jwks.Info{info("1", jwks.ES256, epoch), info("2", jwks.ES256, epoch)}, epoch, "retired signing", "2"},
		{"another algorithm alone", []jwks.Info{info("e", jwks.EdDSA, epoch)}, epoch, "signing", ""},
	} {
		timeline := jwks.NewTimeline(c.keys)
		var states string
		for i, k := range c.keys {
			if i > 0 {
				states += " "
			}
			states += string(timeline.State(k, c.now))
			s := timeline.State(k, c.now)
			if timeline.Listed(k, c.now) != (s == jwks.Published || s == jwks.Signing || s == jwks.Retired) {
				t.Errorf("%s: %s is %s, listed: %t", c.name, k.KID, s, timeline.Listed(k, c.now))
			}
		}
		if diff := cmp.Diff(c.states, states); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
		signer, ok := timeline.Signer(jwks.ES256, c.now)
		if signer.KID != c.signer || ok != (c.signer != "") {
			t.Errorf("%s: %q signs, want %q", c.name, signer.KID, c.signer)
		}
	}
}

// At every moment of three rotations, by three clocks an hour apart either way:
// what one instance signs, every other one publishes, for as long as any
// verifier's clock finds it alive, and published it before for longer than
// anyone keeps the JWKS.
func TestClocksAnHourOffNeitherSignUnpublishedNorRetireEarly(t *testing.T) {
	const cached = 10 * time.Minute // longer than the JWKS may be kept, and read late
	offsets := []time.Duration{-time.Hour, 0, time.Hour}
	stoodIn := false
	for _, made := range offsets { // by the clock of the instance that made the keys
		var keys []jwks.Info
		for i, kid := range []string{"1", "2", "3"} {
			from := epoch.Add(time.Duration(i) * rotation).Add(made)
			keys = append(keys, jwks.Info{KID: kid, Algorithm: jwks.ES256, CreatedAt: from.Add(-jwks.ClockMargin), SignsFrom: from})
		}
		keys[0].CreatedAt = keys[0].SignsFrom
		timeline := jwks.NewTimeline(keys)
		for now := epoch; now.Before(epoch.Add(3 * rotation)); now = now.Add(13 * time.Minute) {
			for _, signing := range offsets {
				signer, ok := timeline.Signer(jwks.ES256, now.Add(signing))
				if !ok {
					t.Fatalf("%s: nobody signs", now)
				}
				if known := now.Add(-cached).Add(made); signer.KID != "1" && signer.CreatedAt.After(known) {
					t.Fatalf("%s by a clock %s off: %s signs, and caches do not know it", now, signing, signer.KID)
				}
				signers := []jwks.Info{signer}
				for _, k := range keys { // who stands in for a key that does not open
					until := timeline.SignsUntil(k)
					if at := now.Add(signing); !until.IsZero() && !at.Before(until) && at.Before(until.Add(jwks.StandIn)) {
						signers = append(signers, k)
						stoodIn = true
					}
				}
				expires := now.Add(signing).Add(jwks.LongestLife)
				for _, verifying := range offsets {
					alive := expires.Add(-verifying) // until then, truly
					for _, publishing := range offsets {
						for _, at := range []time.Time{now, alive} {
							for _, k := range signers {
								if !timeline.Listed(k, at.Add(publishing)) {
									t.Fatalf("signed %s with %s by a clock %s off, and not listed at %s by one %s off", now, k.KID, signing, at, publishing)
								}
							}
						}
					}
				}
			}
		}
	}
	if !stoodIn {
		t.Error("no key ever stood in for another")
	}
}

func TestKeyThatDoesNotOpenIsStoodInForWhileThatIsSafe(t *testing.T) {
	first, second, third := generate(t, epoch), generate(t, epoch.Add(time.Hour)), generate(t, epoch.Add(2*time.Hour))
	retired := first.Info
	retired.RetiredAt = epoch.Add(30 * time.Minute)
	for _, c := range []struct {
		name   string
		keys   []*jwks.Key
		others []jwks.Info
		at     time.Duration
		signer string // empty: none
		lacks  bool
		gap    time.Duration // negative: none
	}{
		{"before it begins", []*jwks.Key{first}, []jwks.Info{second.Info}, time.Hour - 1, first.KID, false, time.Hour},
		{"when it begins", []*jwks.Key{first}, []jwks.Info{second.Info}, time.Hour, first.KID, true, time.Hour},
		{"for as long as is safe", []*jwks.Key{first}, []jwks.Info{second.Info}, time.Hour + jwks.StandIn - 1, first.KID, true, time.Hour + jwks.StandIn - 1},
		{"no longer", []*jwks.Key{first}, []jwks.Info{second.Info}, time.Hour + jwks.StandIn, "", true, time.Hour + jwks.StandIn},
		{"the next but one opens", []*jwks.Key{first, third}, []jwks.Info{second.Info}, 2 * time.Hour, third.KID, false, -1},
		{"the last one does not open", []*jwks.Key{first, second}, []jwks.Info{third.Info}, 2 * time.Hour, second.KID, true, 2 * time.Hour},
		{"what was retired stands in for none", []*jwks.Key{first.Ending(retired)}, []jwks.Info{second.Info}, time.Hour, "", true, time.Hour},
		{"all open", []*jwks.Key{first, second}, nil, 0, first.KID, false, -1},
		{"none of the algorithm", nil, []jwks.Info{info("e", jwks.EdDSA, epoch)}, 0, "", false, 0},
	} {
		s, err := jwks.NewSet(c.keys, c.others...)
		if err != nil {
			t.Fatal(err)
		}
		at := epoch.Add(c.at)
		if _, kid, err := s.Sign(at, jwks.ES256, jwks.TypeAccessToken, nil); kid != c.signer || (err == nil) != (c.signer != "") {
			t.Errorf("%s: signed by %q, %v; want %q", c.name, kid, err, c.signer)
		}
		if s.Lacks(jwks.ES256, at) != c.lacks {
			t.Errorf("%s: lacks the key that signs: %t", c.name, !c.lacks)
		}
		if gap, ok := s.Gap(jwks.ES256, at); ok != (c.gap >= 0) || ok && !gap.Equal(epoch.Add(c.gap)) {
			t.Errorf("%s: a gap at %s, %t", c.name, gap, ok)
		}
	}
}

func TestSetPublishesWhatItsTimelineLists(t *testing.T) {
	first, second := generate(t, epoch), generate(t, epoch.Add(time.Hour))
	s := set(t, second, first)
	published := func(at time.Time) int { d, _ := s.Published(at); return len(kidsOf(t, d)) }
	for at, want := range map[time.Time]int{epoch: 2, epoch.Add(time.Hour + kept - 1): 2, epoch.Add(time.Hour + kept): 1} {
		if got := published(at); got != want {
			t.Errorf("%s: %d keys, want %d", at, got, want)
		}
	}
	token := sign(t, s, epoch, "x")
	revoked := first.Info
	revoked.RevokedAt = epoch.Add(time.Minute)
	s = set(t, first.Ending(revoked), second)
	if got := published(epoch); got != 1 {
		t.Errorf("%d keys are published beside a revoked one", got)
	}
	if _, err := s.Verify(token, jwks.TypeAccessToken); !errors.Is(err, jwks.ErrUnknownKey) {
		t.Errorf("by a revoked key: %v", err)
	}
	if _, kid, err := s.Sign(epoch, jwks.ES256, jwks.TypeAccessToken, nil); err != nil || kid != second.KID {
		t.Errorf("signed by %s, %v", kid, err)
	}
	alone, err := jwks.NewSet(nil, revoked)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := alone.Sign(epoch, jwks.ES256, jwks.TypeAccessToken, nil); !errors.Is(err, jwks.ErrNoSigner) {
		t.Errorf("with no key: %v", err)
	}
	if document, _ := alone.Published(epoch); string(document) != `{"keys":[]}` {
		t.Errorf("with no key: %s", document)
	}
}
