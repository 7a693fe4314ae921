// Package dpopbind is RFC 9449, Demonstrating Proof of Possession (DPoP), by
// itself and for both sides. There are five ways to use it:
//
//   - protect an API: [Middleware], which does all of what follows;
//   - protect an API behind a gateway that has the authorization server check
//     tokens and proofs: [GatewayMiddleware];
//   - call an API: [Client], an http.RoundTripper that gets bound tokens and
//     proves each request;
//   - check a proof: [Checker], with [Nonces] and a [Replay];
//   - make a proof: [Key].
//
// # Checking a proof
//
// The work is cut in two, so that what costs nothing comes before what costs
// something. [Checker.Check] does every check of RFC 9449 §4.3 but the
// signature: it needs no I/O, no private key and no public-key arithmetic
// beyond decoding the sender's key. [Proof.VerifySignature] does the rest. A
// server can answer a stale or misdirected proof between the two, before it
// authenticates anyone.
//
// # What it assumes of its callers
//
// A [Proof] that Check returned is a claim and no more until VerifySignature
// has returned nil: everything in it is the sender's own word. The caller
//
//   - takes the header with [ProofHeader], which refuses two of them;
//   - builds the [Target] from its own configuration, and never from the Host
//     header or a forwarded one;
//   - verifies the signature before it trusts the key's name ([Proof.JKT]);
//   - gives [Proof.Nonce] to [Nonces.Check], if it demands one;
//   - at a resource, uses [Checker.CheckWithToken] and compares [Proof.JKT]
//     with the token's cnf.jkt (RFC 9449 §4.3, check 12, second half);
//   - spends the proof ([Proof.Spend], with a [Replay]) at the moment of
//     acceptance, or records [Proof.SpendKey] until [Proof.AcceptedUntil] by
//     other means. Without that, each proof can be replayed within its window.
//
// # Whom it does not trust
//
// The sender, wholly: the key, the algorithm and every claim are the sender's
// choice, so whatever two parsers could read in two ways is refused. That means
// duplicate or case-variant JSON members, non-canonical base64, padded integers,
// unusual points, critical extensions. Nor the bytes of the signature, which a
// third party can vary without the key (ECDSA is malleable): no identity is
// derived from them. Any input yields a Proof or a [*ProofError], and no panic.
package dpopbind
