// Package storetest is what every authz.Store must do, as a test suite that
// takes one: the sentences of the contract, each as a property.
//
// It assumes that the Store keeps times to the microsecond, and that each call
// of open begins with nothing in it.
package storetest

import (
	"testing"
	"time"

	"github.com/cargokey/authz/authz"
)

// Stores are one set of data, through the eyes of those who use it, and what
// the contract gives no method for.
type Stores struct {
	Operator authz.Store    // as commands use it
	Servers  [2]authz.Store // as two instances of the server use it

	// Events reads the whole audit trail, in any order.
	Events func(t *testing.T) []authz.AuditEvent
	// SpentProofs counts the proofs that are kept.
	SpentProofs func(t *testing.T) int
	// ExpireSecret sets the moment from which a secret is no longer in force.
	ExpireSecret func(t *testing.T, clientID string, secret authz.Digest, at time.Time)
}

// property is a sentence of the contract and how it is checked.
type property struct {
	name  string
	check func(t *testing.T, w *world)
}

// Run checks all properties, each on fresh data, in parallel.
func Run(t *testing.T, open func(t *testing.T) Stores) {
	families := map[string][]property{
		"RecordToken":        recording(),
		"ActiveToken":        active(),
		"AdmitCall":          admitting(),
		"GatewayTable":       gateways(),
		"Registrations":      together(),
		"RevokeToken":        revoking(),
		"Tokens":             listing(),
		"DPoPKeys":           dpopKeys(),
		"Revocation":         revocation(),
		"Clients":            clients(),
		"Secrets":            secrets(),
		"ClientKeys":         clientKeys(),
		"ClientCertificates": clientCertificates(),
		"Assertions":         assertions(),
		"Callers":            callers(),
		"Client revisions":   clientRevisions(),
		"Resources":          resources(),
		"SigningKeys":        signingKeys(),
		"Upkeep":             upkeep(),
		"Events":             recordedEvents(),
	}
	for name, properties := range families {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, p := range properties {
				t.Run(p.name, func(t *testing.T) {
					t.Parallel()
					p.check(t, &world{Stores: open(t), now: time.Now().Truncate(time.Microsecond)})
				})
			}
		})
	}
}
