// Package authz is an OAuth 2.0 authorization server for machine clients: it
// issues access tokens by the client_credentials grant (RFC 6749 §4.4) that
// are bound to a key the client holds (DPoP, RFC 9449), and answers
// introspection (RFC 7662), revocation (RFC 7009) and metadata (RFC 8414).
//
// The package is a library of HTTP handlers over a Store, which it declares;
// whoever runs it gives it the Store, the clock, the logger and the listeners.
//
// It trusts the Store to be durable and atomic as its contract says, the
// sealing key to be secret, and the clock to be within the configured skew of
// its clients'. It trusts no client and nothing that a request carries: not
// the Host, not forwarded headers, not the order or the number of anything.
// A check that cannot be made refuses.
package authz
