// Package audittrail seals the audit trail, so that a later change of it shows, and
// checks the seals.
//
// The trail lies in Postgres, in a partition for each day (UTC), and each event has a
// place in it (authz.TrailPosition). Every few seconds one instance reads the events that
// have become final since, and appends for each day that they are of one seal: the number
// of the seal, between which places its events lie, how many there are, and a digest over
// all of that, the events and the digest of the seal before. So the seals of all days are
// one chain, and the last seal of a day stands for the day and all before it.
//
// Whoever owns the database could make the chain anew after changing the trail. So each
// digest has a MAC under a key that is derived from the sealing key, which the database
// never has. What no chain shows is that its end is gone: so the number and the digest of
// the last seal (the head) go to the log, of which a copy should be kept elsewhere.
//
// The package trusts the database to tell which transactions have ended, and who reads
// the seals to have the sealing key. Whoever has the sealing key and owns the database
// can make up a trail; only heads that were kept elsewhere then tell.
//
// # Encoding
//
// The digest of a seal is SHA-256 over these, one after another. Numbers are big-endian,
// of the size in bytes that is given; an id is the 16 bytes of a UUID; a text is its length
// in bytes (4), then its UTF-8. What an event does not have is an empty text, or an id of
// zeros.
//
//	"authz audit seal 1\n"
//	digest of the seal before (32 bytes; zeros: there is none)
//	number of the seal (8)
//	day (10 characters, 2006-01-02)
//	place that the events lie after: recorded_in (8), id
//	place that they lie up to: recorded_in (8), id
//	how many there are (8)
//	each event, in the order of recorded_in and id:
//	    recorded_in (8), id
//	    at, in microseconds since 1970 (8)
//	    jti (an id)
//	    the texts kind, actor, client_id, resource, jkt, request_id, remote_addr, recorded_by
//	    and detail, as Postgres writes out jsonb
//
// The MAC is HMAC-SHA-256 over all of these but the events, and the digest. Its key is
// HKDF-SHA-256 (RFC 5869) of the sealing key, without salt, with the info "authz audit
// seals", 32 bytes long; mac_key is the name of the sealing key, as `authz key list` shows
// it.
package audittrail

// Follower is the name of the follower of the trail that seals it.
const Follower = "seals"

// format begins what is digested and what is authenticated. Another encoding would be
// another format.
const format = "authz audit seal 1\n"
