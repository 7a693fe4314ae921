package authz

import (
	"errors"
	"net/http"
	"strings"

	"github.com/cargokey/authz/dpopbind"
)

// originalRequest is the call that a gateway asks about, as the gateway tells it.
type originalRequest struct {
	method string
	url    string // normalised, without the query
	query  string
	target dpopbind.Target // what its proof must be for: method and url
}

// Errors of readOriginalRequest. The first two are the gateway's fault: it has to
// set these headers. The others can be its caller's.
var (
	errNotForwarded   = errors.New("the gateway does not say what it was asked: it has to send X-Forwarded-Method, -Proto, -Host and -Uri, or X-Original-Method and -URL, each once, or the original path after " + pathVerify)
	errNoScheme       = errors.New("the gateway does not say by which scheme it was asked: it has to send X-Forwarded-Proto, once, as http or https")
	errTwoForms       = errors.New("the request brings forwarded headers of its own")
	errOddURL         = errors.New("the URL of the call is not in its normal form")
	errOddPath        = errors.New("the path of the call could be read in two ways: it has a double or an encoded slash, a semicolon, an encoded percent sign or control character, or a segment that ends in a dot or a space")
	errOddMethod      = errors.New("the method of the call is not one of HTTP, or has small letters")
	errForwardedTwice = errors.New("a forwarded header came twice")
)

// readOriginalRequest reads one of three forms: X-Forwarded-*, X-Original-*, or
// the path after that of the check. A client can only have brought headers that
// its gateway did not overwrite; those of another form than the gateway's own
// would make it unclear whose word counts, so two forms at once are refused, and
// so is a list.
func readOriginalRequest(r *http.Request) (originalRequest, error) {
	forwarded := r.Header["X-Forwarded-Method"] != nil || r.Header["X-Forwarded-Uri"] != nil
	original := r.Header["X-Original-Method"] != nil || r.Header["X-Original-Url"] != nil
	below, isBelow := strings.CutPrefix(r.RequestURI, pathVerify+"/")
	switch {
	case isBelow && (forwarded || original), forwarded && original:
		return originalRequest{}, errTwoForms
	case isBelow:
		return readBelow(r, "/"+below)
	case forwarded:
		return readForwarded(r.Header)
	case original:
		return readOriginal(r.Header)
	}
	return originalRequest{}, errNotForwarded
}

// readForwarded is what Caddy and Traefik send by themselves.
func readForwarded(h http.Header) (originalRequest, error) {
	method, errMethod := once(h, "X-Forwarded-Method")
	proto, errProto := once(h, "X-Forwarded-Proto")
	host, errHost := once(h, "X-Forwarded-Host")
	uri, errURI := once(h, "X-Forwarded-Uri")
	if err := errors.Join(errMethod, errProto, errHost, errURI); err != nil {
		return originalRequest{}, firstOf(err)
	}
	return composeURL(method, proto, host, uri)
}

// readOriginal is what the ingress controller of nginx sends.
func readOriginal(h http.Header) (originalRequest, error) {
	method, errMethod := once(h, "X-Original-Method")
	url, errURL := once(h, "X-Original-URL")
	if err := errors.Join(errMethod, errURL); err != nil {
		return originalRequest{}, firstOf(err)
	}
	proto, rest, _ := strings.Cut(url, "://")
	at := strings.IndexByte(rest, '/')
	if at < 0 {
		return originalRequest{}, errOddURL
	}
	return composeURL(method, proto, rest[:at], rest[at:])
}

// readBelow is what Envoy's ext_authz sends: the call itself, its path after a
// prefix.
func readBelow(r *http.Request, uri string) (originalRequest, error) {
	proto, err := once(r.Header, "X-Forwarded-Proto")
	if errors.Is(err, errNotForwarded) {
		return originalRequest{}, errNoScheme
	}
	if err != nil {
		return originalRequest{}, err
	}
	return composeURL(r.Method, proto, r.Host, uri)
}

// once returns a header that is there exactly once.
func once(h http.Header, name string) (string, error) {
	switch values := h.Values(name); {
	case len(values) > 1:
		return "", errForwardedTwice
	case len(values) == 0 || values[0] == "":
		return "", errNotForwarded
	default:
		return values[0], nil
	}
}

// firstOf makes one of several errors: what a client can have caused comes first.
func firstOf(err error) error {
	if errors.Is(err, errForwardedTwice) {
		return errForwardedTwice
	}
	return errNotForwarded
}

// composeURL puts the parts together. None of them may bring a part of the URL
// that is not its own; the rest is RequestURL's to refuse.
func composeURL(method, proto, host, uri string) (originalRequest, error) {
	if !strings.EqualFold(proto, "https") && !strings.EqualFold(proto, "http") ||
		strings.ContainsAny(host, "/?#@,\\") || uri[0] != '/' || strings.Contains(uri, "#") {
		return originalRequest{}, errOddURL
	}
	path, query, _ := strings.Cut(uri, "?")
	url, err := dpopbind.RequestURL(proto + "://" + host + path)
	if err != nil {
		return originalRequest{}, errOddURL
	}
	_, rest, _ := strings.Cut(url, "://")
	if _, path, _ := strings.Cut(rest, "/"); !plainPath("/" + path) {
		return originalRequest{}, errOddPath
	}
	// RFC 9110 §9.1: methods are case-sensitive, and none is registered with small
	// letters. Some APIs take delete for DELETE all the same.
	target, err := dpopbind.NewTarget(method, url)
	if err != nil || strings.ToUpper(method) != method {
		return originalRequest{}, errOddMethod
	}
	return originalRequest{method: method, url: url, query: query, target: target}, nil
}
