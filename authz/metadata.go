package authz

import (
	"context"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cargokey/authz/internal/clientassertion"
)

// The paths of the public listener.
const (
	pathToken      = "/oauth/token"
	pathIntrospect = "/oauth/introspect"
	pathRevoke     = "/oauth/revoke"
	pathDPoPKeys   = "/oauth/dpop-keys"
	pathMetadata   = "/.well-known/oauth-authorization-server"
	pathJWKS       = "/.well-known/jwks.json"
)

// metadata is RFC 8414 §2 and RFC 9449 §5.1.
type metadata struct {
	Issuer                   string       `json:"issuer"`
	TokenEndpoint            string       `json:"token_endpoint"`
	IntrospectionEndpoint    string       `json:"introspection_endpoint"`
	RevocationEndpoint       string       `json:"revocation_endpoint"`
	JWKSURI                  string       `json:"jwks_uri"`
	ScopesSupported          []string     `json:"scopes_supported,omitempty"`
	ResponseTypesSupported   []string     `json:"response_types_supported"` // REQUIRED, though there is no authorization endpoint
	GrantTypesSupported      []string     `json:"grant_types_supported"`
	TokenAuthMethods         []AuthMethod `json:"token_endpoint_auth_methods_supported"`
	IntrospectionAuthMethods []AuthMethod `json:"introspection_endpoint_auth_methods_supported"`
	RevocationAuthMethods    []AuthMethod `json:"revocation_endpoint_auth_methods_supported"`
	IntrospectionAlgorithms  []string     `json:"introspection_signing_alg_values_supported"` // RFC 9701 §7
	DPoPAlgorithms           []string     `json:"dpop_signing_alg_values_supported"`
	DPoPKeysEndpoint         string       `json:"dpop_keys_endpoint"`                                   // this server's own
	CertificateBound         bool         `json:"tls_client_certificate_bound_access_tokens,omitempty"` // RFC 8705 §3.3
	MTLSAliases              *mtlsAliases `json:"mtls_endpoint_aliases,omitempty"`
	ServiceDocumentation     string       `json:"service_documentation,omitempty"`

	// Of client assertions.
	TokenAuthAlgorithms         []string `json:"token_endpoint_auth_signing_alg_values_supported"`
	IntrospectionAuthAlgorithms []string `json:"introspection_endpoint_auth_signing_alg_values_supported"`
	RevocationAuthAlgorithms    []string `json:"revocation_endpoint_auth_signing_alg_values_supported"`
}

// mtlsAliases is RFC 8705 §5: where clients with certificates go instead.
type mtlsAliases struct {
	TokenEndpoint         string `json:"token_endpoint"`
	IntrospectionEndpoint string `json:"introspection_endpoint"`
	RevocationEndpoint    string `json:"revocation_endpoint"`
	DPoPKeysEndpoint      string `json:"dpop_keys_endpoint"`
}

func (c *ClientCertificates) aliases() *mtlsAliases {
	if c.URL == "" {
		return nil
	}
	return &mtlsAliases{c.URL + pathToken, c.URL + pathIntrospect, c.URL + pathRevoke, c.URL + pathDPoPKeys}
}

// discover answers GET /.well-known/oauth-authorization-server (RFC 8414 §3).
func (s *Server) discover(w http.ResponseWriter, r *http.Request, _ *event) error {
	if err := readOnly(w, r); err != nil {
		return err
	}
	scopes, err := s.scopes.get(r.Context())
	if err != nil {
		return errUnavailable("reading the scopes", err)
	}
	document := s.metadata
	document.ScopesSupported = scopes
	writeJSONCached(w, document)
	return nil
}

func (s *Server) fixedMetadata(documentation string, algorithms []string) metadata {
	methods := s.profile.authMethods(s.certificates.authMethods())
	return metadata{
		Issuer:                   s.issuer,
		TokenEndpoint:            s.issuer + pathToken,
		IntrospectionEndpoint:    s.issuer + pathIntrospect,
		RevocationEndpoint:       s.issuer + pathRevoke,
		JWKSURI:                  s.issuer + pathJWKS,
		ResponseTypesSupported:   []string{},
		GrantTypesSupported:      []string{grantType},
		TokenAuthMethods:         methods,
		IntrospectionAuthMethods: withoutNames(methods),
		RevocationAuthMethods:    methods,
		IntrospectionAlgorithms:  []string{string(s.keys.algorithm)},
		DPoPAlgorithms:           algorithms,
		DPoPKeysEndpoint:         s.issuer + pathDPoPKeys,
		CertificateBound:         s.certificates.enabled(),
		MTLSAliases:              s.certificates.aliases(),
		ServiceDocumentation:     documentation,

		TokenAuthAlgorithms:         clientassertion.Algorithms(),
		IntrospectionAuthAlgorithms: clientassertion.Algorithms(),
		RevocationAuthAlgorithms:    clientassertion.Algorithms(),
	}
}

// withoutNames leaves out what introspects nothing here: a gateway that is known by a
// name in its certificate has a listener of its own.
func withoutNames(methods []AuthMethod) []AuthMethod {
	return slices.DeleteFunc(slices.Clone(methods), func(m AuthMethod) bool { return m == TLSClientAuth })
}

// scopeList is the scopes of all resources, read at most once in scopesAge, so
// that a flood of requests for the metadata is not one on the database.
type scopeList struct {
	store Store
	now   func() time.Time

	reading sync.Mutex
	read    atomic.Pointer[scopesRead]
}

// scopesRead is what was read, and when. It is not changed.
type scopesRead struct {
	scopes []string
	at     time.Time
}

const scopesAge = 5 * time.Second

// get returns the last list while another request reads a new one, or while
// none can be read: it decides nothing.
func (l *scopeList) get(ctx context.Context) ([]string, error) {
	last := l.read.Load()
	if last != nil {
		if age := l.now().Sub(last.at); age >= 0 && age < scopesAge || !l.reading.TryLock() {
			return last.scopes, nil
		}
		defer l.reading.Unlock()
	}
	resources, err := l.store.Resources(ctx)
	switch {
	case err != nil && last != nil:
		return last.scopes, nil
	case err != nil:
		return nil, err
	}
	scopes := []string{}
	for _, r := range resources {
		scopes = append(scopes, r.Scopes...)
	}
	slices.Sort(scopes)
	scopes = slices.Compact(scopes)
	l.read.Store(&scopesRead{scopes, l.now()})
	return scopes, nil
}

// readOnly admits GET and HEAD.
func readOnly(w http.ResponseWriter, r *http.Request) error {
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		return nil
	}
	err := errHTTP(http.StatusMethodNotAllowed, "Send a GET request.")
	err.header = http.Header{"Allow": {"GET, HEAD"}}
	return err
}
