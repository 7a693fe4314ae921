package storetest

import (
	"testing"
	"time"

	"github.com/cargokey/authz/authz"
)

func callers() []property {
	return []property{
		{"NothingIsDoneForAClientThatIsNotWhatItWas", callerGone},
	}
}

// authenticated is a client that may do all that clients do, and what names what
// it authenticates by.
type authenticated struct {
	client     func(w *world) *authz.Client
	credential string
}

const keysAt = "https://caller.example.com/jwks"

func authenticatedBy() map[string]authenticated {
	by := func(credential string, method authz.AuthMethod, set func(*authz.Client)) authenticated {
		return authenticated{func(w *world) *authz.Client {
			c := w.client("caller")
			c.Introspects = []string{labels}
			if c.AuthMethod = method; method != authz.ClientSecretBasic {
				c.Secrets = nil
			}
			set(c)
			return c
		}, credential}
	}
	uri := func(c *authz.Client) { c.JWKSURI = keysAt }
	return map[string]authenticated{
		"a secret": by(secretOf("caller").Name(), authz.ClientSecretBasic, func(*authz.Client) {}),
		"a key": by("one", authz.PrivateKeyJWT, func(c *authz.Client) {
			c.JWKS, c.KeyNames = []byte(`{"keys":[]}`), []string{"one", "two"}
		}),
		"a published key":                 by("one", authz.PrivateKeyJWT, uri),
		"a published certificate":         by("one", authz.SelfSignedTLSClientAuth, uri),
		"a certificate of an authority":   by("certificate", authz.TLSClientAuth, func(c *authz.Client) { c.TLSName.DNS = "caller.example.com" }),
		"its connection, with secrets":    by("", authz.ClientSecretBasic, func(*authz.Client) {}),
		"its connection, as a name there": by("", authz.TLSClientAuth, func(c *authz.Client) { c.TLSName.DNS = "caller.example.com" }),
	}
}

func setKeys(jwks string, names []string, uri string) step {
	return func(t *testing.T, w *world) {
		t.Helper()
		must(t, w.Operator.SetClientKeys(t.Context(), "caller", []byte(jwks), names, uri, w.event(authz.AuditClientUpdated)))
	}
}

func rotateAtOnce(t *testing.T, w *world) {
	t.Helper()
	must(t, w.Operator.RotateSecret(t.Context(), "caller", randomDigest(), time.Time{}, w.event(authz.AuditSecretRotated)))
}

func revokeTokens(t *testing.T, w *world) {
	t.Helper()
	must(t, w.Operator.RevokeClientTokens(t.Context(), "caller", w.event(authz.AuditClientRevoked)))
}

// asks are all that a client can ask for that is not told by its registration alone.
func (w *world) asks(t *testing.T, a authenticated, caller authz.Caller, theirs, own authz.Token) map[string]func() error {
	issue := func() authz.Issue {
		i := w.issueFor(caller.ClientID, w.now)
		i.Token.Credential, i.Revision = a.credential, caller.Revision
		return i
	}
	asserted := issue()
	asserted.Assertion = w.assertion()
	endorsement := w.endorsement(newJKT(), newJKT())
	endorsement.Caller = caller
	s, ctx := w.Servers[0], t.Context()
	asks := map[string]func() error{
		"introspection": func() error { _, err := s.ActiveToken(ctx, theirs.Digest, caller, w.now); return err },
		"introspection of nothing": func() error {
			if _, err := s.ActiveToken(ctx, randomDigest(), caller, w.now); err != authz.ErrNotFound {
				return err
			}
			return nil
		},
		"revocation": func() error {
			_, err := s.RevokeToken(ctx, own.Digest, caller, w.event(authz.AuditTokenRevoked))
			return err
		},
	}
	if a.credential != "" { // no listener that knows clients by their connection gives tokens
		asks["a token"] = func() error { return s.RecordToken(ctx, issue()) }
		asks["a bearer token"] = func() error { return s.RecordToken(ctx, bearer(issue())) }
		asks["a token by an assertion"] = func() error { return s.RecordToken(ctx, asserted) }
		asks["an enrolment"] = func() error {
			if err := s.EndorseKey(ctx, endorsement, w.event(authz.AuditDPoPKeyEnrolled)); err != authz.ErrNotEndorsed {
				return err
			}
			return nil
		}
	}
	return asks
}

// authenticates registers the client, and gives it a token.
func (w *world) authenticates(t *testing.T, a authenticated) (caller authz.Caller, theirs, own authz.Token) {
	t.Helper()
	c := a.client(w)
	create(c)(t, w)
	c.Credential = a.credential
	i := w.issueFor(c.ID, w.now)
	i.Token.Credential = a.credential
	if a.credential == "" {
		i = w.issue()
	}
	must(t, w.Servers[0].RecordToken(t.Context(), i))
	return c.Caller(), w.record(t), i.Token
}

func callerGone(t *testing.T, w *world) {
	w.populate(t)
	for by, a := range authenticatedBy() {
		anew := func(t *testing.T, w *world) { create(a.client(w))(t, w) }
		changes := map[string]step{
			"it is disabled":             disable("caller", true),
			"it is disabled and enabled": all(disable("caller", true), disable("caller", false)),
			"it is deleted":              remove("caller"),
			"it is registered anew":      all(remove("caller"), anew),
			"its tokens are revoked":     revokeTokens,
		}
		switch by {
		case "a secret":
			changes["it has another secret"] = rotateAtOnce
		case "a key":
			changes["it has other keys"] = setKeys(`{"keys":[]}`, []string{"two"}, "")
			changes["its keys are at a URL"] = setKeys("", nil, keysAt)
		case "a published key", "a published certificate":
			changes["its keys are at another URL"] = setKeys("", nil, keysAt+"/2")
			changes["its URL is set anew"] = setKeys("", nil, keysAt)
			changes["it has other keys"] = setKeys(`{"keys":[]}`, []string{"two"}, "")
		}
		for change, do := range changes {
			caller, theirs, own := w.authenticates(t, a)
			do(t, w)
			for what, ask := range w.asks(t, a, caller, theirs, own) {
				t.Logf("by %s; %s; %s", by, change, what)
				w.refuses(t, authz.ErrClientChanged, ask)
			}
			if change != "it is deleted" {
				remove("caller")(t, w)
			}
		}
	}
}
