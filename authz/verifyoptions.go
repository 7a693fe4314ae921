package authz

import (
	"net/http"
	"net/url"
	"strings"
)

// verifyOptions are what a gateway asks of the check.
type verifyOptions struct {
	scopes    []string // that the call needs, beside its route's
	resource  string   // that the URL has to belong to; empty: any that the gateway fronts
	assertion bool     // return X-Auth-Assertion
	// clientCert: the header Client-Cert is the gateway's own word. A gateway that
	// does not say so lets through what its callers send under that name.
	clientCert bool
}

// parametersHeader is where the options are if the query is the call's own.
const parametersHeader = "X-Gateway-Parameters"

// readVerifyOptions reads the options from the query of the check's URL, or from
// the header where the call's own path and query follow that URL. Elsewhere the
// header is not looked at: a caller may have sent it. In the header all options but
// client_cert are taken: no other one lets more through than none.
func readVerifyOptions(r *http.Request) (verifyOptions, error) {
	text, inHeader := r.URL.RawQuery, strings.HasPrefix(r.RequestURI, pathVerify+"/")
	if inHeader {
		values := r.Header.Values(parametersHeader)
		if len(values) > 1 {
			return verifyOptions{}, errGatewayRequest("It sends " + parametersHeader + " twice.")
		}
		text = strings.Join(values, "")
	}
	if text == "" {
		return verifyOptions{}, nil
	}
	parameters, err := url.ParseQuery(text)
	if err != nil {
		return verifyOptions{}, errGatewayRequest("Its parameters are malformed.")
	}
	var o verifyOptions
	for name, values := range parameters {
		value := values[0]
		// A variable of the gateway's that is not set must not lift a restriction.
		if len(values) > 1 || strings.TrimSpace(value) == "" {
			return verifyOptions{}, errGatewayRequest("One of its parameters is repeated or has no value.")
		}
		switch name {
		case "scope":
			o.scopes = scopeTokens(value)
			if len(value) > maxScopeBytes || len(o.scopes) > maxScopeTokens {
				return verifyOptions{}, errGatewayRequest("Its parameter scope is longer than 4 KiB or has more than 64 scopes.")
			}
		case "resource":
			o.resource = value
		case "assertion":
			if value != "true" && value != "false" {
				return verifyOptions{}, errGatewayRequest("Its parameter assertion is neither true nor false.")
			}
			o.assertion = value == "true"
		case "client_cert":
			// Where the gateway leaves that header alone it is its caller's, who would say
			// so himself and show the certificate of whom he has robbed: it is public.
			if inHeader {
				return verifyOptions{}, errGatewayRequest("It asks for client_cert in " + parametersHeader + ", which may be its caller's word. Ask with the method and URL in X-Forwarded-* headers, and the parameter in the query.")
			}
			if value != "true" && value != "false" {
				return verifyOptions{}, errGatewayRequest("Its parameter client_cert is neither true nor false.")
			}
			o.clientCert = value == "true"
		default:
			return verifyOptions{}, errGatewayRequest("It sends a parameter that is none of scope, resource, assertion and client_cert.")
		}
	}
	return o, nil
}
