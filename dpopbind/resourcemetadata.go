package dpopbind

import (
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// MetadataPath is where the Metadata handler is to be mounted: RFC 9728 §3.1 has
// it between the host and the path of the resource.
func (m *Middleware) MetadataPath() string {
	path := "/.well-known/oauth-protected-resource"
	if u, err := url.Parse(m.verifier.resource); err == nil && u.Host != "" {
		path += strings.TrimSuffix(u.EscapedPath(), "/")
	}
	return path
}

// Metadata answers with the protected resource's metadata (RFC 9728 §2), so that
// a client can find the authorization server and learn that its tokens must be
// bound. It says nothing that is not public. The scopes are those of all calls
// of Require so far.
func (m *Middleware) Metadata() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "Send a GET request.", http.StatusMethodNotAllowed)
			return
		}
		// It only fails for what JSON cannot hold.
		body, _ := json.MarshalIndent(struct {
			Resource             string      `json:"resource"`
			AuthorizationServers []string    `json:"authorization_servers"`
			Scopes               []string    `json:"scopes_supported,omitempty"`
			BearerMethods        []string    `json:"bearer_methods_supported"`
			DPoPAlgorithms       []Algorithm `json:"dpop_signing_alg_values_supported"`
			DPoPRequired         bool        `json:"dpop_bound_access_tokens_required"`
		}{
			Resource:             m.verifier.resource,
			AuthorizationServers: []string{m.verifier.issuer},
			Scopes:               m.knownScopes(),
			BearerMethods:        []string{"header"}, // RFC 6750 §2.1
			DPoPAlgorithms:       m.checker.algorithms,
			DPoPRequired:         !m.allowBearer,
		}, "", "  ")
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "public, max-age=300")
		_, _ = w.Write(append(body, '\n'))
	})
}

func (m *Middleware) addScopes(scopes []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.scopes = append(m.scopes, scopes...)
	slices.Sort(m.scopes)
	m.scopes = slices.Compact(m.scopes)
}

func (m *Middleware) knownScopes() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.scopes)
}
