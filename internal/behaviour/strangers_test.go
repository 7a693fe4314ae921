package behaviour_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/cargokey/authz/internal/behaviour"
)

// Names of clients are no secret: who knows four, and has the credentials of none, is not
// to hide what somebody does with a client's credentials.
func TestRefusalsOfStrangersHideNoRunOfBadProofs(t *testing.T) {
	w, at := settledWatch(t, 20)
	told := 0
	count := func(alerts []behaviour.Alert) {
		for _, a := range alerts {
			if a.Kind == behaviour.BadProofs && a.ClientID == "labels" {
				told++
			}
		}
	}
	for i := range 40 {
		for c := range 5 {
			count(w.Observe(behaviour.Event{
				Kind: behaviour.TokenRefused, At: start.Add(at), ClientID: fmt.Sprint("other", c), Reason: "signature", Times: 80,
			}))
		}
		if i >= 10 {
			count(w.Observe(behaviour.Event{
				Kind: behaviour.TokenRefused, At: start.Add(at), ClientID: "labels", Reason: "signature", Authenticated: true,
			}))
		}
		at += 10 * time.Second
	}
	count(w.Tick(start.Add(at + time.Hour)))
	if told != 1 {
		t.Errorf("%d alerts tell of it", told)
	}
}
