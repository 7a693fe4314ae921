package main

import (
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"github.com/cargokey/authz/authz"
)

// tlsFlags are what a client of mutual TLS is registered with (RFC 8705).
type tlsFlags struct {
	name  authz.CertificateName
	bound bool
}

// certificateFlags are those of tlsFlags.
var certificateFlags = []string{"tls-subject-dn", "tls-san-dns", "tls-san-uri", "tls-san-ip", "tls-san-email", "certificate-bound"}

func (f *tlsFlags) flags(c *cobra.Command) {
	c.Flags().StringVar(&f.name.SubjectDN, "tls-subject-dn", "", "the subject of its certificate (RFC 4514, such as CN=labels,O=Example), for tls_client_auth")
	c.Flags().StringVar(&f.name.DNS, "tls-san-dns", "", "or the DNS name in its certificate")
	c.Flags().StringVar(&f.name.URI, "tls-san-uri", "", "or the URI")
	c.Flags().StringVar(&f.name.IP, "tls-san-ip", "", "or the IP address")
	c.Flags().StringVar(&f.name.Email, "tls-san-email", "", "or the email address")
	c.MarkFlagsMutuallyExclusive(certificateFlags[:5]...) // the names
	c.Flags().BoolVar(&f.bound, "certificate-bound", false, "bind its tokens to the certificate that it connects with, where it sends no DPoP proof and the resource admits that")
}

// change returns terms as the flags that were given change them.
func (f *tlsFlags) change(c *cobra.Command, terms authz.CertificateTerms) authz.CertificateTerms {
	if slices.ContainsFunc(certificateFlags[:5], c.Flags().Changed) {
		terms.Name = f.name
	}
	if c.Flags().Changed("certificate-bound") {
		terms.Bound = f.bound
	}
	return terms
}

// warnUnbindable says for which of its resources a client gets no token by its
// certificate, although it is registered so.
func (p *program) warnUnbindable(c *authz.Client) {
	for _, g := range c.Grants {
		if c.CertificateBound && !g.AllowCertificateBound {
			p.warn(fmt.Sprintf("%s admits no tokens that are bound to a certificate: without a DPoP proof %s gets none for it; authz resource update %s --allow-certificate-bound lets it",
				g.Resource, c.ID, g.Resource))
		}
	}
}

// tlsView is a client's part of mutual TLS, by the names of RFC 8705 §2.1.2 and
// §3.4.
type tlsView struct {
	SubjectDN string `json:"tls_client_auth_subject_dn,omitempty"`
	SANDNS    string `json:"tls_client_auth_san_dns,omitempty"`
	SANURI    string `json:"tls_client_auth_san_uri,omitempty"`
	SANIP     string `json:"tls_client_auth_san_ip,omitempty"`
	SANEmail  string `json:"tls_client_auth_san_email,omitempty"`
	Bound     bool   `json:"tls_client_certificate_bound_access_tokens,omitempty"`
}

func viewTLS(c *authz.Client) tlsView {
	n := c.TLSName
	return tlsView{n.SubjectDN, n.DNS, n.URI, n.IP, n.Email, c.CertificateBound}
}

func (v tlsView) text(w io.Writer) {
	for _, one := range []struct{ kind, name string }{
		{"subject", v.SubjectDN}, {"DNS name", v.SANDNS}, {"URI", v.SANURI}, {"IP address", v.SANIP}, {"email address", v.SANEmail},
	} {
		if one.name != "" {
			fmt.Fprintf(w, "certificate    %s (%s)\n", one.name, one.kind)
		}
	}
}

// tokensOf says what a client's tokens are bound to.
func tokensOf(v clientView) string {
	switch {
	case v.Bound:
		return "bound; to its certificate where the resource admits that and there is no proof"
	case v.BoundTokens:
		return "bound only"
	default:
		return "bound; bearer where the resource admits it"
	}
}
