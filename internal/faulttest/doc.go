// Package faulttest holds servers and their Postgres to what always holds
// (docs/security-model.md) while a test breaks one or the other.
//
// A World is who is registered and where the servers are. Its Load is clients
// that ask for tokens, introspect, verify calls and revoke, on all instances at
// once, and that keep in mind what they were answered. After a fault, Replay
// sends all that was accepted once more, and what was not answered again, and
// Check compares what the clients know with the whole database; Invariants is
// the part of it that needs no clients.
//
// The test starts the servers and the Postgres, and it is the test that breaks
// them.
package faulttest
