// Package behaviour knows what is normal for each client, and tells of what is not.
//
// It learns from the events of the audit trail, in their order, one at a time, and
// keeps a Baseline of a few kilobytes for each client. It knows neither the database
// nor the clock: time is what the events say, and what Tick is told. Whoever feeds it
// keeps its baselines and its Fleet, and delivers its alerts.
//
// It trusts the trail and nothing else: what a client sent and the server did not
// check (the user agent, a claimed name) is no more than a hint in it.
//
// # What is a departure
//
// A retired secret, a key that is not enrolled, a key that two clients show, and a run
// of proofs that do not hold are departures from the first day. The others are measured
// by what the client was in the weeks before: a new key is nothing at a client that makes
// keys by itself, or uses several at once; a new network is nothing at one that has many
// in the same area, or where its neighbours on the platform go to and fro; what comes
// within two days of an operator's change, or the first key that comes with a new
// credential, is a part of that. A replayed proof is a theft
// where it comes from another network than its key does, or by another program, or often:
// HTTP libraries and proxies send a request again after an error, and that gains nobody
// anything.
//
// What several clients do at once has another cause than a thief with one client's
// credentials: bursts, runs of bad proofs and retries of four clients in six minutes, as
// after an outage, are not told at all, unless one is far beyond its limit; a network to
// which three clients move in half an hour, keys and all, is told once, and so is it where
// ten clients come from new networks of all sorts, since then it is the server that sees
// them by other addresses.
//
// # What a thief can teach it
//
// What raised an alert is not normal for seven days, and all else that is seen with it
// raises alerts in turn. Peaks count from the day after, and rise by half a day at most.
// A flood of names drives out what raised alerts first, and the client's own last. So
// whoever comes for an hour teaches it nothing; who is left alone for a week after his
// alert is taken for normal, since nobody minded.
//
// # What it cannot see
//
// A thief who has the client's own DPoP key and sits in its network, with its program and
// at its pace, is the client. Where a client makes keys by itself, so is one with a key
// of his own; where its networks are a cloud's, so is one in the same part of the cloud;
// enrolled keys take both from him. One replay, from the client's network and with its
// program, is taken for a retry. Clients whose program does not say what it is are known
// to keep a key only after six weeks. Who has the credentials of four clients can make
// them all burst at once, and of three, keys and all, move them to another network at the
// price of one alert; who has those of ten hides new networks for a day. In the first
// weeks of a client nothing but what counts from the first day is told.
package behaviour
