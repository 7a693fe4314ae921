package dpopbind

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// KeyStays is for EndorseKey: the key that endorses ends no sooner than it does.
const KeyStays time.Duration = -1

// EndorseKey has the Client's key vouch for successor, so that the server admits it
// for this client too: it asks at the dpop_keys_endpoint of the server's metadata,
// with the client's credentials, a proof by successor and an endorsement by the own
// key. That one ends endsIn from now (whole seconds), or KeyStays. The Client itself
// goes on with its own key.
//
// Its errors are a *TokenError where the server refused, the context's own, or a
// failure to reach or to understand the server. It needs an Issuer.
func (c *Client) EndorseKey(ctx context.Context, successor *Key, endsIn time.Duration) error {
	if c.server.issuer == "" || successor == nil {
		return errors.New("dpopbind: endorsing a key: it takes the server's issuer, and the key")
	}
	ctx, cancel := context.WithTimeout(ctx, tokenTimeout)
	defer cancel()
	e := c.server
	address, err := discover(ctx, c.transport, e.issuer, "dpop_keys_endpoint", e.mutualTLS)
	if err != nil {
		return err
	}
	for challenged, nonce := false, e.nonce.get(); ; challenged = true {
		response, answer, err := e.endorse(ctx, address, nonce, successor, endsIn)
		if err == nil {
			return confirmsEndorsement(answer, c.key, successor)
		}
		var refused *TokenError
		if !errors.As(err, &refused) || refused.Code != "use_dpop_nonce" || challenged { // RFC 9449 §8
			return err
		}
		fresh := e.nonce.learn(response.Header)
		if fresh == "" || fresh == nonce {
			return err
		}
		nonce = fresh
	}
}

// endorse makes one attempt, with a proof, an endorsement and an assertion of its own.
func (e *tokenEndpoint) endorse(ctx context.Context, address, nonce string, successor *Key, endsIn time.Duration) (*http.Response, members, error) {
	now := e.client.now()
	proof, err := successor.Proof(http.MethodPost, address, now, ProofOptions{Nonce: nonce})
	if err != nil {
		return nil, nil, err
	}
	endorsement, err := e.client.key.Endorse(e.issuer, e.id, successor.JKT(), now)
	if err != nil {
		return nil, nil, err
	}
	assertion, err := e.assertion()
	if err != nil {
		return nil, nil, err
	}
	form := url.Values{"endorsement": {endorsement}}
	if endsIn >= 0 {
		form.Set("expires_in", strconv.FormatInt(int64(endsIn/time.Second), 10))
	}
	request, err := e.authenticated(ctx, address, form, proof, assertion)
	if err != nil {
		return nil, nil, err
	}
	response, body, err := exchange(e.client.transport, request)
	if err != nil {
		err = withoutSent(withoutSent(err, assertion), endorsement)
		return nil, nil, fmt.Errorf("dpopbind: endorsing a key: %w", err)
	}
	answer, _ := parseMembers(body)
	if response.StatusCode != http.StatusOK {
		return response, nil, e.refused(response, answer, proof, endorsement, assertion)
	}
	return response, answer, nil
}

// confirmsEndorsement holds the answer to what was asked.
func confirmsEndorsement(answer members, key, successor *Key) error {
	if answer.text("jkt") != successor.JKT() || answer.text("endorsed_by") != key.JKT() {
		return errors.New("dpopbind: endorsing a key: the server answered 200 OK, and does not name the two keys")
	}
	return nil
}
