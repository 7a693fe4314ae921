package authz

import (
	"context"
	"errors"
	"net/http"

	"github.com/cargokey/authz/dpopbind"
)

// clientUse is what a request has made of a client that was kept from an earlier
// one, over all of its attempts.
type clientUse struct {
	kept  bool // it has had one
	again bool // it is not at its first attempt, and gets none
	asked bool // a Store was asked to do something, or to tell of a token
	spent bool // it has spent its client assertion
}

// useOf is nil for what is no request of an endpoint.
func useOf(ctx context.Context) *clientUse {
	if a := attemptOf(ctx); a != nil {
		return &a.use
	}
	return nil
}

// maxAttempts bounds how often a request is answered anew for a client that changes
// each time meanwhile.
const maxAttempts = 3

// again answers a request, and answers it anew, with its client read anew, where the
// client is not what it was when it was read, or was refused for what was kept of it:
// either may be out of date. Nothing was done till then, and nothing spent but what
// clientUse knows of.
func again(h handlerFunc) handlerFunc {
	return func(w http.ResponseWriter, r *http.Request, ev *event) error {
		use := useOf(r.Context())
		err := h(w, r, ev)
		for attempt := 1; err != nil; attempt++ {
			changed := errors.Is(err, ErrClientChanged)
			switch {
			case !changed && (use.again || !use.kept || use.settled(err)):
				return err
			case attempt == maxAttempts:
				return errUnavailable("reading a client that keeps changing", err)
			}
			use.again = true
			ev.clientID, ev.credential, ev.resource, ev.jkt = "", "", "", ""
			err = h(w, r, ev)
		}
		return nil
	}
}

// settled tells whether a refusal would be the same whatever has become of the
// client: for its proof; by the Store, which looks at the client first; or for want of
// the Store's answer, when nobody knows what was done. What failed before the Store was
// asked may have failed for what was kept, such as a signing key of before.
func (u *clientUse) settled(err error) bool {
	var proof *dpopbind.ProofError
	return errors.As(err, &proof) || errors.Is(err, ErrProofSpent) || errors.Is(err, ErrAssertionSpent) ||
		errors.Is(err, ErrKeyNotAdmitted) || u.asked && answerTo(err).status >= http.StatusInternalServerError
}

// asksStore notes that from here on the Store may have done something.
func asksStore(ctx context.Context) {
	if use := useOf(ctx); use != nil {
		use.asked = true
	}
}
