package authz

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/cargokey/authz/internal/clientcert"
)

// GatewayHandler serves a listener where whoever connects is a gateway, by the
// listener's own means: identify says which, from the connection that a request
// came by and the server's time. It has the gateway check and introspection.
func (s *Server) GatewayHandler(identify func(*http.Request, time.Time) GatewayClaim) http.Handler {
	mux := http.NewServeMux()
	mux.Handle(pathIntrospect, s.endpoint(s.gateway, "introspect", s.introspect))
	handler := s.gatewayRoutes(mux)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		handler.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), claimKey{}, identify(r, s.now()))))
	})
}

// gatewayRoutes puts the check before other. A mux would redirect a path after
// pathVerify that it finds untidy, and what is there is not the server's own.
func (s *Server) gatewayRoutes(other http.Handler) http.Handler {
	verify := s.endpoint(s.gateway, "verify", s.verify)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path, _, _ := strings.Cut(r.RequestURI, "?")
		if path == pathVerify || strings.HasPrefix(path, pathVerify+"/") {
			verify.ServeHTTP(w, r)
			return
		}
		other.ServeHTTP(w, r)
	})
}

// SocketGateway is GatewayHandler's identify for a socket that nobody but the
// gateway can open.
func SocketGateway(clientID string) func(*http.Request, time.Time) GatewayClaim {
	return func(*http.Request, time.Time) GatewayClaim { return GatewayClaim{ClientID: clientID} }
}

// CertificateGateway is GatewayHandler's identify for TLS with certificates of
// clients that were verified (RFC 8705 §2.1). A connection may outlive what it was
// verified by: all of it is to be in its time at each request.
func CertificateGateway(r *http.Request, at time.Time) GatewayClaim {
	if r.TLS == nil {
		return GatewayClaim{}
	}
	verified, err := clientcert.CheckChains(r.TLS.VerifiedChains, at)
	if err != nil {
		return GatewayClaim{}
	}
	names, err := namesOf(r.TLS.VerifiedChains[0][0], verified)
	if err != nil { // then it is nobody's
		return GatewayClaim{}
	}
	return GatewayClaim{Names: names}
}

// GatewayClaim is whom a gateway says to be, and how that is known. It is one of
// three: a ClientID with the digest of a Secret; a ClientID alone, where nobody
// else can open the connection; or the names in a certificate that was verified.
type GatewayClaim struct {
	ClientID string
	Secret   *Digest
	// Names are looked for where ClientID is empty. Where they are several
	// clients', it is none of them.
	Names []CertificateName
}

type claimKey struct{}

// claimedByListener is what the listener says of who sent a request.
func claimedByListener(ctx context.Context) (GatewayClaim, bool) {
	claim, ok := ctx.Value(claimKey{}).(GatewayClaim)
	return claim, ok
}

// gatewayHeader is where a gateway authenticates, since Authorization is its
// caller's.
const gatewayHeader = "X-Gateway-Authorization"

var (
	errNoGateway    = errors.New("no gateway credentials")
	errTwoGateways  = errors.New("several gateway credentials")
	errGatewayBasic = errors.New("the gateway credentials are not HTTP Basic with a client_id and a secret")
)

// readGatewayClaim takes the listener's word, or else the header's. Where the listener
// tells who is there the header is not looked at: a caller may have sent it.
func readGatewayClaim(r *http.Request) (GatewayClaim, error) {
	if claim, ok := claimedByListener(r.Context()); ok {
		if claim.ClientID == "" && len(claim.Names) == 0 {
			return GatewayClaim{}, errNoGateway
		}
		return claim, nil
	}
	switch values := r.Header.Values(gatewayHeader); len(values) {
	case 0:
		return GatewayClaim{}, errNoGateway
	case 1:
		return basicClaim(values[0])
	default:
		return GatewayClaim{}, errTwoGateways
	}
}

// basicClaim reads HTTP Basic (RFC 7617 §2). Nothing is form-encoded in it, as
// RFC 6749 §2.3.1 would have it: neither a client_id nor a secret of this server
// has a character that would differ.
func basicClaim(value string) (GatewayClaim, error) {
	scheme, encoded, _ := strings.Cut(value, " ")
	decoded, err := base64.StdEncoding.Strict().DecodeString(strings.TrimLeft(encoded, " "))
	if err != nil || !strings.EqualFold(scheme, "Basic") {
		return GatewayClaim{}, errGatewayBasic
	}
	id, secret, ok := strings.Cut(string(decoded), ":")
	if !ok || secret == "" || !validClientID(id) {
		return GatewayClaim{}, errGatewayBasic
	}
	return GatewayClaim{ClientID: id, Secret: new(DigestOf(secret))}, nil
}
