package authz_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"testing"
	"time"

	"github.com/cargokey/authz/authz"
	"github.com/cargokey/authz/internal/clientassertion"
	"github.com/cargokey/authz/internal/clientassertion/assertiontest"
	"github.com/cargokey/authz/internal/clientcert"
	"github.com/cargokey/authz/internal/clientcert/certtest"
)

// others are the clients that authenticate by other than a secret.
type others struct {
	host                       *keyHost
	authority                  *certtest.Authority
	byKey, byURI, bySelfSigned *keyed
	byAuthority                *service
}

// keyed is a service that authenticates by a key of its own.
type keyed struct {
	*service
	signer  *assertiontest.Signer
	publish func(signers ...*assertiontest.Signer) error
	proof   func(*assertiontest.Signer) proof
}

// known configures an instance for them.
func (o *others) known(c *authz.Config) {
	o.host.trusted(c)
	// A proxy ends the clients' TLS, and says which certificates they have shown.
	c.ClientCertificates.Proxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}
	c.ClientCertificates.Authorities = o.authority.Pool
}

func (r *rotatingWorld) registerOthers() {
	r.t.Helper()
	o := &r.others
	o.host, o.authority = newKeyHost(r.t), newLongAuthority(r.t)

	o.byKey = r.keyed(authz.Client{ID: "by-key", AuthMethod: authz.PrivateKeyJWT})
	o.byKey.proof = r.assertionOf("by-key")

	o.byURI = r.keyed(authz.Client{ID: "by-uri", AuthMethod: authz.PrivateKeyJWT, JWKSURI: o.host.URL + "/jwks.json"})
	o.byURI.proof = r.assertionOf("by-uri")
	o.byURI.publish = func(signers ...*assertiontest.Signer) error {
		o.host.publishes(signers...)
		return nil
	}
	o.host.publishes(o.byURI.signer)

	o.bySelfSigned = r.keyed(authz.Client{ID: "by-itself", AuthMethod: authz.SelfSignedTLSClientAuth})
	o.bySelfSigned.proof = func(s *assertiontest.Signer) proof {
		return showing("by-itself", certificateOf(r.t, s))
	}
	for _, k := range []*keyed{o.byKey, o.byURI, o.bySelfSigned} {
		k.use(k.proof(k.signer))
	}

	o.byAuthority = r.register(authz.Client{ID: "by-authority", AuthMethod: authz.TLSClientAuth,
		TLSName: authz.CertificateName{DNS: certifiedName}}, changing)
	o.byAuthority.use(showing("by-authority", o.issue(r.t)))
}

func (r *rotatingWorld) keyed(c authz.Client) *keyed {
	r.t.Helper()
	signer := assertiontest.NewSigner("ES256")
	if c.JWKSURI == "" {
		c.JWKS = []byte(assertiontest.Set(signer))
	}
	id := c.ID
	return &keyed{service: r.register(c, changing), signer: signer, publish: func(signers ...*assertiontest.Signer) error {
		var names []string
		for _, s := range signers {
			names = append(names, s.Thumbprint())
		}
		return r.owner.SetClientKeys(r.t.Context(), id, []byte(assertiontest.Set(signers...)), names, "", r.event(authz.AuditClientUpdated))
	}}
}

// assertionOf is how a client authenticates by private_key_jwt.
func (r *rotatingWorld) assertionOf(id string) func(*assertiontest.Signer) proof {
	return func(s *assertiontest.Signer) proof {
		return func(form url.Values, _ http.Header) {
			at := r.clock.Now()
			text := assertiontest.New(s, id, issuer, at).
				Claim("exp", strconv.FormatInt(at.Add(clientassertion.MaxLifetime).Unix(), 10)).String()
			r.secret(text)
			form.Set("client_assertion_type", clientassertion.Type)
			form.Set("client_assertion", text)
		}
	}
}

// showing is how a client authenticates by a certificate.
func showing(id string, certificate *x509.Certificate) proof {
	return func(form url.Values, h http.Header) {
		form.Set("client_id", id)
		h.Set(clientcert.Header, certtest.Field(certificate))
	}
}

// rotateKeys publishes the next key beside the old one, has the service use it, and
// takes the old one away.
func (r *rotatingWorld) rotateKeys(k *keyed, n int) error {
	next := assertiontest.NewSigner([]string{"ES256", "EdDSA"}[n%2])
	if err := k.publish(k.signer, next); err != nil {
		return err
	}
	// An instance asks a jwks_uri no sooner for a key that it does not know.
	if from := r.clock.Now(); !r.clock.waitUntil(r.ctx, r.lateOrSoon(from, n)) || !r.clock.waitUntil(r.ctx, from.Add(clockStep)) {
		return nil
	}
	k.use(k.proof(next))
	k.signer = next
	if !r.clock.wait(r.ctx, 2*clockStep) { // no request is left with the old one
		return nil
	}
	return k.publish(next)
}

// rotateCertificate has the authority issue another certificate of the same name:
// there is nothing to be done at the server.
func (r *rotatingWorld) rotateCertificate(int) error {
	r.others.byAuthority.use(showing("by-authority", r.others.issue(r.t)))
	return nil
}

// certifiedName is what a client's certificate is for.
const certifiedName = "by-authority.carrier.test"

func (o *others) issue(t *testing.T) *x509.Certificate {
	return o.authority.Issue(t, outliving(x509.Certificate{DNSNames: []string{certifiedName}})).Leaf
}

// certificateOf is a certificate of a key that is registered.
func certificateOf(t *testing.T, s *assertiontest.Signer) *x509.Certificate {
	return certtest.SelfSigned(t, outliving(x509.Certificate{PublicKey: s.Private()})).Leaf
}

func newLongAuthority(t *testing.T) *certtest.Authority {
	return &certtest.Authority{Certificate: certtest.SelfSigned(t, outliving(x509.Certificate{
		Subject: pkix.Name{CommonName: "clients"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}))}
}

// outliving makes a certificate last for longer than the test's days.
func outliving(template x509.Certificate) x509.Certificate {
	template.NotAfter = time.Now().Add(100 * 24 * time.Hour)
	return template
}
