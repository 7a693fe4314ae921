package storetest

import (
	"testing"

	"github.com/cargokey/authz/authz"
)

func clientKeys() []property {
	return []property{
		{"KeysAreReplaced", keysReplaced},
		{"KeysAreForClientsThatHaveSome", keysRefused},
		{"NoTokenIsRecordedByAKeyThatWasTakenAway", noTokenByTakenKey},
		{"NoTokenIsRecordedByTheSecretOfAnEarlierClientOfThatName", noTokenByEarlierClient},
		{"CertificateBoundTokenIsKnownByItsCertificate", certificateBound},
	}
}

// keyed registers a client with two keys of its own.
func (w *world) keyed(t *testing.T) *authz.Client {
	t.Helper()
	w.populate(t)
	c := w.client("keyed")
	c.AuthMethod, c.Secrets = authz.PrivateKeyJWT, nil
	c.JWKS, c.KeyNames = []byte(`{"keys": []}`), []string{"one", "two"}
	create(c)(t, w)
	return c
}

func (w *world) registeredClient(t *testing.T, id string) *authz.Client {
	t.Helper()
	c, err := w.Servers[0].Client(t.Context(), id, w.now)
	must(t, err)
	return c
}

func keysReplaced(t *testing.T, w *world) {
	c := w.keyed(t)
	same(t, c, w.registeredClient(t, c.ID))
	set := func(jwks []byte, names []string, uri string) {
		t.Helper()
		e := w.event(authz.AuditClientUpdated)
		written := e
		written.ClientID = c.ID
		w.writes(t, func() error { return w.Operator.SetClientKeys(t.Context(), c.ID, jwks, names, uri, e) }, written)
		got := w.registeredClient(t, c.ID)
		if got.AuthRevision == c.AuthRevision {
			t.Error("the AuthRevision is that of before")
		}
		c.JWKS, c.KeyNames, c.JWKSURI, c.AuthRevision = jwks, names, uri, got.AuthRevision
		same(t, c, got)
	}
	set(nil, nil, "https://keyed.example.com/jwks")
	set(nil, nil, "https://keyed.example.com/jwks") // the same anew
	set([]byte(`{"keys": [1]}`), []string{"three"}, "")
}

func keysRefused(t *testing.T, w *world) {
	w.populate(t)
	for id, want := range map[string]error{shop: authz.ErrNoKeys, edge: authz.ErrNoKeys, "nobody": authz.ErrNotFound} {
		w.refuses(t, want, func() error {
			return w.Operator.SetClientKeys(t.Context(), id, nil, nil, "https://keyed.example.com/jwks", w.event(authz.AuditClientUpdated))
		})
	}
	c := w.client("keyed")
	c.AuthMethod, c.Secrets, c.JWKSURI = authz.PrivateKeyJWT, nil, "https://keyed.example.com/jwks"
	create(c)(t, w)
	w.refuses(t, authz.ErrNoSecrets, func() error {
		e := w.event(authz.AuditSecretRotated)
		return w.Operator.RotateSecret(t.Context(), c.ID, randomDigest(), e.At, e)
	})
}

func noTokenByTakenKey(t *testing.T, w *world) {
	c := w.keyed(t)
	by := func(name string) authz.Issue {
		i := w.issueFor(c.ID, w.now)
		i.Token.Credential, i.Assertion = name, w.assertion()
		return i
	}
	must(t, w.Servers[0].RecordToken(t.Context(), by("one")))
	late := []authz.Issue{by("one"), bearer(by("one")), by("two")}
	must(t, w.Operator.SetClientKeys(t.Context(), c.ID, c.JWKS, []string{"two"}, "", w.event(authz.AuditClientUpdated)))
	w.recordsNothing(t, authz.ErrClientChanged, late...)
	must(t, w.Servers[0].RecordToken(t.Context(), by("two")))
}

func noTokenByEarlierClient(t *testing.T, w *world) {
	w.populate(t)
	late := []authz.Issue{w.issue(), bearer(w.issue())}
	must(t, w.Operator.DeleteClient(t.Context(), shop, w.event(authz.AuditClientDeleted)))
	c := w.client(shop)
	c.Secrets = []authz.Digest{randomDigest()}
	must(t, w.Operator.CreateClient(t.Context(), c, w.event(authz.AuditClientCreated)))
	w.recordsNothing(t, authz.ErrClientChanged, late...)
}

func certificateBound(t *testing.T, w *world) {
	w.populate(t)
	i := bearer(w.issue())
	i.Token.X5T = newJKT()
	must(t, w.Servers[0].RecordToken(t.Context(), i))
	got, err := w.Servers[1].ActiveToken(t.Context(), i.Token.Digest, w.caller(edge), w.now)
	must(t, err)
	same(t, &i.Token, got)
}
