package behaviour

import (
	"slices"
	"time"
)

// AlertKind says what departs from the normal. It is a label of a metric.
type AlertKind string

// The kinds of alerts.
const (
	NewKey         AlertKind = "new_key"
	NewNetwork     AlertKind = "new_network"
	Burst          AlertKind = "burst"
	ReplayedProof  AlertKind = "replayed_proof"
	RetiredSecret  AlertKind = "retired_secret"
	KeyNotEnrolled AlertKind = "key_not_enrolled"
	BadProofs      AlertKind = "bad_proofs"
	NewScope       AlertKind = "new_scope"
	SharedKey      AlertKind = "shared_key"
	AwokenClient   AlertKind = "awoken_client"
	ClockDrift     AlertKind = "clock_drift"
)

// AlertKinds are all of them.
func AlertKinds() []AlertKind {
	return slices.Clone(alertKinds[:])
}

// alertKinds is AlertKinds, to index by.
var alertKinds = [...]AlertKind{NewKey, NewNetwork, Burst, ReplayedProof, RetiredSecret, KeyNotEnrolled, BadProofs, NewScope, SharedKey, AwokenClient, ClockDrift}

// Alert is one departure. Its text is for whoever is woken by it: it alone says enough
// to act on, and nothing in it is secret.
type Alert struct {
	Kind     AlertKind
	ClientID string
	At       time.Time // of the event that gave rise to it
	// Subject tells alike ones apart from others: the key, the network, the scope.
	// Alerts of one client, kind and subject are folded into one by who keeps them.
	Subject string
	Normal  string // what was normal: a sentence
	Seen    string // what was seen
	Why     string // why it matters
	Do      string // what to type: commands, one a line, and lines of comment, which begin with "#"

	EventID   string // of the audit trail
	RequestID string
	Other     string // another client that it concerns
}
