package authz

import (
	"context"
	"errors"
	"net/http"

	"github.com/cargokey/authz/dpopbind"
)

// clientUse is what a request has made of a client that was kept from an earlier
// one, over both of its attempts.
type clientUse struct {
	kept  bool // it has had one
	again bool // it is at its second attempt, and gets none
	// body is what its first attempt has read, and spent tells that it has spent its
	// client assertion.
	body  *string
	spent bool
}

type clientUseKey struct{}

// useOf is nil for what is no request of an endpoint.
func useOf(ctx context.Context) *clientUse {
	use, _ := ctx.Value(clientUseKey{}).(*clientUse)
	return use
}

// twice answers a request, and once more, with its client read anew, where it was
// refused for what was kept of the client: such a refusal may be out of date.
func twice(h handlerFunc) handlerFunc {
	return func(w http.ResponseWriter, r *http.Request, ev *event) error {
		use := &clientUse{}
		r = r.WithContext(context.WithValue(r.Context(), clientUseKey{}, use))
		err := h(w, r, ev)
		if err == nil || !use.kept || settled(err) {
			return err
		}
		use.again = true
		ev.clientID, ev.credential = "", ""
		return h(w, r, ev)
	}
}

// settled tells whether a refusal would be the same whatever has become of the
// client: for its proof; by the Store, which looks at the client first; or since no
// Store answers.
func settled(err error) bool {
	var proof *dpopbind.ProofError
	var known *oauthError
	return errors.As(err, &proof) || errors.Is(err, ErrProofSpent) || errors.Is(err, ErrAssertionSpent) ||
		errors.Is(err, ErrKeyNotAdmitted) || errors.As(err, &known) && known.code == codeUnavailable
}
