package authz

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/ory/fosite"
	"github.com/ory/fosite/handler/oauth2"

	"github.com/cargokey/authz/dpopbind/dpopfosite"
)

// grantType is the one grant of this server (RFC 6749 §4.4).
const grantType = "client_credentials"

// assemble puts fosite together by named parts: the client_credentials handler
// between this server's choice of a grant and the DPoP handler. fosite's
// defaults for everything else are either unused or replaced here.
func (s *Server) assemble(dpop *dpopfosite.DPoP) fosite.OAuth2Provider {
	config := &fosite.Config{
		ScopeStrategy:            fosite.ExactScopeStrategy,
		AudienceMatchingStrategy: fosite.ExactAudienceMatchingStrategy,
		// fosite puts the text of inner errors into debug messages.
		SendDebugMessagesToClients: false,
		ClientAuthenticationStrategy: dpop.ClientAuthentication(
			func(ctx context.Context, r *http.Request, form url.Values) (fosite.Client, error) {
				client, err := s.authenticateClient(ctx, r.Header, form)
				if err != nil {
					return nil, err
				}
				return fositeClient{client}, nil
			}),
	}
	stock := &oauth2.ClientCredentialsGrantHandler{
		HandleHelper: &oauth2.HandleHelper{
			AccessTokenStrategy: minter{s},
			AccessTokenStorage:  recorder{s},
			Config:              config,
		},
		Config: config,
	}
	config.TokenEndpointHandlers.Append(dpop.Handler(&grantHandler{stock, s}))
	return fosite.NewOAuth2Provider(noStorage{}, config)
}

// bearerAdmitted holds that a token without a binding needs the leave of both
// the resource and the client, and that a client whose keys are enrolled gets
// none. One that is bound to a certificate needs no proof besides: bindCertificate
// has found what it needs.
func (s *Server) bearerAdmitted(_ context.Context, request fosite.AccessRequester) bool {
	state, ok := request.GetSession().(*session)
	if !ok || state.client.DPoPKeys != AnyKey {
		return false
	}
	if state.client.CertificateBound {
		return state.x5t != ""
	}
	return state.client.AllowBearer && state.grant.AllowBearer && s.profile.admitsBearer()
}

// nonceRequired tells whose proofs must carry a nonce: everyone's, or those of
// clients that are registered so, once the client is known.
func nonceRequired(everyone bool) func(context.Context, fosite.AccessRequester) bool {
	return func(_ context.Context, request fosite.AccessRequester) bool {
		client, ok := request.GetClient().(fositeClient)
		return everyone || ok && client.RequireNonce
	}
}

// grantHandler chooses the grant before fosite's own handler checks the request
// against the client, and grants what was chosen, which that one leaves to
// others.
type grantHandler struct {
	*oauth2.ClientCredentialsGrantHandler
	server *Server
}

func (h *grantHandler) HandleTokenEndpointRequest(ctx context.Context, request fosite.AccessRequester) error {
	s, ok := request.GetSession().(*session)
	client, okClient := request.GetClient().(fositeClient)
	if !ok || !okClient {
		return errors.New("not a request of this server")
	}
	s.client = client.Client
	s.event.clientID, s.event.credential = client.ID, client.Credential
	var err error
	if s.grant, s.scopes, err = resolveGrant(s.client, s.asked); err != nil {
		return err
	}
	s.event.resource = s.grant.Resource
	if a := cmp.Or(s.grant.SigningAlg, h.server.keys.algorithm); s.client.TokenFormat == FormatJWT && !h.server.profile.signs(a) {
		return errAlgorithmRuledOut(s.grant.Resource, a)
	}
	if err := h.server.bindCertificate(ctx, s); err != nil {
		return err
	}
	request.SetRequestedScopes(s.scopes)
	request.SetRequestedAudience(fosite.Arguments{s.grant.Resource})
	if err := h.ClientCredentialsGrantHandler.HandleTokenEndpointRequest(ctx, request); err != nil {
		return err
	}
	for _, scope := range s.scopes {
		request.GrantScope(scope)
	}
	request.GrantAudience(s.grant.Resource)
	return nil
}

// recorder is fosite's AccessTokenStorage: the one moment at which a token
// comes to be.
type recorder struct{ server *Server }

func (r recorder) CreateAccessTokenSession(ctx context.Context, _ string, request fosite.Requester) error {
	s, ok := request.GetSession().(*session)
	if !ok {
		return errors.New("not a session of this server")
	}
	return r.server.recordToken(ctx, s)
}

// fosite's introspection and revocation, which would call these, are not used.

func (recorder) GetAccessTokenSession(context.Context, string, fosite.Session) (fosite.Requester, error) {
	return nil, fosite.ErrNotFound
}

func (recorder) DeleteAccessTokenSession(context.Context, string) error { return fosite.ErrNotFound }

// noStorage is fosite's own storage, which it asks for in flows that are not
// used: it finds nothing and accepts nothing.
type noStorage struct{}

func (noStorage) GetClient(context.Context, string) (fosite.Client, error) {
	return nil, fosite.ErrNotFound
}
func (noStorage) ClientAssertionJWTValid(context.Context, string) error { return fosite.ErrJTIKnown }
func (noStorage) SetClientAssertionJWT(context.Context, string, time.Time) error {
	return fosite.ErrJTIKnown
}
