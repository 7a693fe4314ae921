package dpopbind

import (
	"net/http"
	"sync/atomic"
)

// maxHeldNonce bounds a nonce, in bytes: the proof has to fit into a header.
const maxHeldNonce = 1024

// heldNonce is the last nonce that one server sent.
type heldNonce struct{ last atomic.Pointer[string] }

func (n *heldNonce) get() string {
	if last := n.last.Load(); last != nil {
		return *last
	}
	return ""
}

// learn keeps the nonce of an answer, of whatever status (RFC 9449 §8.2), and
// returns it. What is no nonce, and two of them, are as none.
func (n *heldNonce) learn(h http.Header) string {
	sent := h.Values("DPoP-Nonce")
	if len(sent) != 1 || sent[0] == "" || len(sent[0]) > maxHeldNonce || !isNonce(sent[0]) {
		return ""
	}
	nonce := sent[0] // and not a place in a header that is the caller's to change
	n.last.Store(&nonce)
	return nonce
}
