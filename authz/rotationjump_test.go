package authz_test

import (
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/cargokey/authz/authz"
	"github.com/cargokey/authz/dpopbind"
	"github.com/cargokey/authz/jwks"
)

// Through a whole rotation, again and again, the clock of one instance is an hour
// ahead, then an hour behind, then right again; then the other's. The instance whose
// clock is right serves all the while as if nothing were. The other one goes on for
// who goes by its clock, refuses the others' proofs and tokens, and is as before once
// it is right. No key comes, signs or goes early for it: whatever lives by the true
// time verifies by what either instance publishes.
func TestClockThatJumpsAnHourStopsNobodyAndRetiresNothing(t *testing.T) {
	t.Parallel()
	step := 30 * time.Minute
	if testing.Short() || raceEnabled {
		step = 50 * time.Minute // a token of the step before still lives
	}
	r := newRotatingWorld(t)
	for _, node := range r.nodes {
		node.at.offset.Store(0)
	}
	first := newestOf(t, r)
	// From before the next key is due, by any of the clocks, to after the first one
	// is removed.
	r.clock.advanceBy(t, authz.MinKeyRotation-authz.MinKeyPublishAhead-2*time.Hour)
	r.upkeep()
	j := &jumping{rotatingWorld: r}
	for end := first.SignsFrom.Add(authz.MinKeyRotation + jwks.LongestLife + jwks.ClockMargin + 2*time.Hour); r.clock.Now().Before(end) && !t.Failed(); {
		for n := range r.nodes {
			j.jump(n, time.Hour)
			j.jump(n, -time.Hour)
		}
		r.clock.advanceBy(t, step)
		r.upkeep()
	}
	infos := byAlgorithm(r, jwks.ES256)
	if len(infos) != 2 || infos[1].SignsFrom.Before(first.SignsFrom.Add(authz.MinKeyRotation)) {
		t.Fatalf("the keys are %+v", infos)
	}
	for _, node := range r.nodes { // by the end the first one is gone
		if set := node.at.jwksNow(); len(set.Key(first.KID)) != 0 || len(set.Key(infos[1].KID)) != 1 {
			t.Errorf("%d keys are published in the end", len(set.Keys))
		}
	}
	t.Logf("%d tokens", j.tokens)
}

func byAlgorithm(r *rotatingWorld, a jwks.Algorithm) (infos []jwks.Info) {
	for _, k := range jwks.NewTimeline(r.keyInfos()).Keys() {
		if k.Algorithm == a {
			infos = append(infos, k)
		}
	}
	return infos
}

func newestOf(t *testing.T, r *rotatingWorld) jwks.Info {
	t.Helper()
	k, ok := jwks.NewTimeline(r.keyInfos()).Newest(jwks.ES256)
	if !ok {
		t.Fatal("there is no key")
	}
	return k
}

type jumping struct {
	*rotatingWorld
	tokens int
	alive  []liveToken // by the true time
}

// jump has the clock of an instance be wrong for a while.
func (j *jumping) jump(n int, by time.Duration) {
	j.t.Helper()
	wrong, right := j.nodes[n].at, j.nodes[1-n].at
	before := right.jwksNow()
	wrong.offset.Store(int64(by))
	j.upkeep() // by the wrong clock too
	j.everything(right)
	published := wrong.jwksNow()
	for _, t := range j.alive { // also for who reads the keys where the clock is wrong
		j.verifiedBy(t.text, published)
	}
	// It refuses what is from another time, and tells why.
	s := j.services[0]
	request, _ := j.tokenRequest(s, "")
	if a := wrong.do(request(wrong)); a.status != http.StatusBadRequest || a.string("error") != "invalid_dpop_proof" {
		j.t.Errorf("a clock %s off: %d %s", by, a.status, a.body)
	}
	// It issues to those who are as far off, by a key that all have known for long.
	c, key := s.now()
	q := wrong.post("/oauth/token", c, with(clientCredentials, "resource", s.resource))
	q.Header.Set("DPoP", wrong.proof(key))
	a := wrong.do(q)
	token := a.string("access_token")
	gateway, _ := j.gateway.now()
	if a.status != http.StatusOK || !wrong.active(gateway, token) {
		j.t.Errorf("a clock %s off, and a client's: %d %s", by, a.status, a.body)
	}
	j.verifiedBy(token, before, right.jwksNow(), published)
	wrong.offset.Store(0)
	j.upkeep()
	j.everything(wrong)
	j.everything(right)
}

// verifiedBy holds that a token is good by each of these.
func (j *jumping) verifiedBy(token string, sets ...jose.JSONWebKeySet) {
	j.t.Helper()
	for n, set := range sets {
		if kid, err := verifies(token, set); err != nil {
			j.t.Errorf("at %s: signed by %s, and JWKS %d: %v", j.clock.Now(), kid, n, err)
		}
	}
}

// everything is all that an instance whose clock is right has to do: for a new token,
// and for those that live.
func (j *jumping) everything(i *instance) {
	j.t.Helper()
	s := j.services[2*(j.tokens%2)] // their keys are by two algorithms
	request, key := j.tokenRequest(s, "")
	a := i.do(request(i))
	if a.status != http.StatusOK {
		j.t.Fatalf("at %s: token: %d %s", j.clock.Now(), a.status, a.body)
	}
	j.tokens++
	j.alive = slices.DeleteFunc(j.alive, func(t liveToken) bool { return !j.clock.Now().Before(t.expires) })
	j.alive = append(j.alive, liveToken{a.string("access_token"), key, j.clock.Now().Add(55 * time.Minute), s.url})
	gateway, _ := j.gateway.now()
	set := i.jwksNow()
	for n, t := range j.alive {
		j.verifiedBy(t.text, set)
		if n > 0 && n < len(j.alive)-1 {
			continue // the oldest and the newest are used
		}
		if !i.active(gateway, t.text) {
			j.t.Errorf("at %s: a token of %s is inactive", j.clock.Now(), t.url)
		}
		i.passes(call{gateway: gateway, method: http.MethodGet, url: t.url, token: t.text,
			proofs: []string{j.proof(t.key, http.MethodGet, t.url, dpopbind.ProofOptions{AccessToken: t.text})}})
	}
}
