package authz_test

import (
	"errors"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/cargokey/authz/authz"
)

// Postgres is killed again and again in the middle of checks. No call that passed
// passes again.
func TestKilledPostgresForgetsNoCallThatPassed(t *testing.T) {
	t.Parallel()
	w, pg := newMortalWorld(t)
	instances := []*instance{w.instance(), w.instance()}
	client, gateway, key := w.client(authz.Client{}), w.gateway(), newKey(t)
	token := instances[0].token(client, key).string("access_token")

	var mu sync.Mutex
	var passed []call
	for kill := 1; kill <= 3; kill++ {
		stop := make(chan struct{})
		var wg sync.WaitGroup
		for n := range 8 {
			wg.Go(func() {
				for i := instances[n%2]; ; {
					select {
					case <-stop:
						return
					default:
					}
					c := i.goodCall(gateway, token, key)
					a, err := i.try(i.checkRequest(c))
					switch {
					case err != nil:
						t.Error(err)
					case a.status == http.StatusOK:
						mu.Lock()
						passed = append(passed, c)
						mu.Unlock()
					case a.status != http.StatusServiceUnavailable:
						t.Errorf("%d %s", a.status, a.body)
					}
				}
			})
		}
		for enough := false; !enough && !t.Failed(); time.Sleep(50 * time.Millisecond) {
			mu.Lock()
			enough = len(passed) >= 20*kill
			mu.Unlock()
		}
		err := pg.Kill()
		close(stop)
		wg.Wait()
		if err := errors.Join(err, pg.Restart(t.Context())); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d calls passed over 3 kills", len(passed))
	time.Sleep(1100 * time.Millisecond) // see TestKilledPostgresLosesNoIssuedToken
	for n, c := range passed[:min(len(passed), 200)] {
		if a := instances[n%2].verify(c); a.status != http.StatusUnauthorized {
			t.Fatalf("a call passed again: %d %s", a.status, a.body)
		}
	}
}
