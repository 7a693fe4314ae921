package authz

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/cargokey/authz/dpopbind"
)

// errNotThisGateway is one cause for all: an unknown gateway, a wrong secret, a
// disabled one, a certificate of nobody.
var errNotThisGateway = errors.New("not a registered and enabled gateway, or a wrong secret or certificate")

// errGatewayUnknown is a 500: that a gateway is set up wrongly is not for its
// caller to mend, and a challenge to authenticate would reach the caller.
func errGatewayUnknown(cause error) *oauthError {
	return &oauthError{status: http.StatusInternalServerError, code: codeInvalidClient, cause: cause,
		description: "The gateway could not authenticate itself to the authorization server. Its operator has to check its credentials."}
}

// errGatewayRequest is errGatewayUnknown's kin, for a request that the gateway
// has made wrongly. The description is a sentence about the gateway.
func errGatewayRequest(description string) *oauthError {
	return &oauthError{status: http.StatusInternalServerError, code: "invalid_gateway_request",
		description: "The gateway is not set up for this check. " + description}
}

// refuseForbidden is a 403 for a call that no token would make good.
func refuseForbidden(description string) *dpopbind.Refusal {
	return &dpopbind.Refusal{Status: http.StatusForbidden, Code: "invalid_request", Description: description}
}

// refuseOriginal answers what readOriginalRequest fails with.
func (s *Server) refuseOriginal(err error) error {
	if errors.Is(err, errNotForwarded) || errors.Is(err, errNoScheme) {
		return errGatewayRequest("It" + strings.TrimPrefix(err.Error(), "the gateway") + ".")
	}
	return s.refuseCall(&gatewayCall{}, refuseForbidden("The call cannot be checked: "+err.Error()+"."))
}

// refuseNotFronted is one answer for a URL that no resource has, and for one
// whose resource this gateway does not front.
func (s *Server) refuseNotFronted(call *gatewayCall) error {
	call.api = nil
	refused := refuseForbidden("No API of this gateway is registered at this URL. Its operator has to add the base URL to the resource, and the resource to the gateway.")
	// The path is left out: it may hold what the API keeps secret.
	scheme, rest, _ := strings.Cut(call.original.url, "://")
	host, _, _ := strings.Cut(rest, "/")
	refused.Cause = fmt.Errorf("a call at %s://%s is under no base URL of what the gateway fronts, which are %q", scheme, host, call.table.baseURLsOf(call.gateway))
	return s.refuseCall(call, refused)
}

// refuseCall answers as the protected resource itself would (RFC 6750 §3, RFC
// 9449 §7.1). A 400 becomes a 401: some gateways hand on to their caller nothing
// but 401 and 403.
func (s *Server) refuseCall(call *gatewayCall, refused *dpopbind.Refusal) *oauthError {
	if refused.Status == http.StatusServiceUnavailable {
		return errUnavailable("checking the call", refused.Cause)
	}
	realm, bearer := s.issuer, false
	if call.api != nil {
		realm, bearer = call.api.URI, call.api.AllowBearer || call.api.AllowCertificateBound
	}
	if refused.Scheme == "" {
		refused.Scheme = call.presented.Scheme
	}
	e := &oauthError{
		status: refused.Status, code: refused.Code, description: refused.Description, cause: refused.Cause,
		header: http.Header{"Www-Authenticate": refused.Challenges(realm, s.profile.proofAlgorithms(), bearer)},
	}
	if e.status == http.StatusBadRequest {
		e.status = http.StatusUnauthorized
	}
	switch {
	case refused.Code == "": // RFC 6750 §3.1: no error without credentials
		e.code = "no_credentials"
	case refused.Code == codeUseNonce: // RFC 9449 §9
		e.header.Set("DPoP-Nonce", s.nonces.Current())
	}
	if refused.Check != "" {
		e.cause = loggedProofError(call, refused)
	}
	return e
}

// loggedProofError is what the log and the metrics get of a refused proof: not the
// URLs, whose paths may hold what the API keeps secret.
func loggedProofError(call *gatewayCall, refused *dpopbind.Refusal) *dpopbind.ProofError {
	e := &dpopbind.ProofError{Check: refused.Check, Description: refused.Description, Offset: call.proofOffset}
	if e.Check == dpopbind.CheckHTU || e.Check == dpopbind.CheckHTM {
		e.Description = "not for the URL or the method of this call; its sender was told both"
	}
	return e
}
