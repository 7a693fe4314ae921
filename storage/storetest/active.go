package storetest

import (
	"testing"
	"time"

	"github.com/cargokey/authz/authz"
)

func active() []property {
	return []property{
		{"TokenIsActiveUntilItExpires", untilItExpires},
		{"OnlyAGatewayOfTheResourceFindsATokenActive", onlyItsGateway},
		{"UnknownTokenIsNotFound", unknownToken},
		{"RevokedTokenIsInactiveOnEveryInstance", revokedToken},
		{"TokensOfADisabledClientAreInactiveAtOnce", disabledClient},
		{"EnablingAClientBringsNoTokenBack", enabledClient},
		{"EnablingAnEnabledClientChangesNoToken", enabledTwice},
		{"RegisteringAClientAnewBringsNoTokenBack", clientAnew},
		{"RegisteringAResourceAnewBringsNoTokenBack", resourceAnew},
		{"UpdatingAResourceLeavesItsTokensActive", updatedResource},
		{"TimesComeBackToTheMicrosecond", microseconds},
	}
}

// clocks are how far an operator's clock may be from a server's.
func clocks() []time.Duration {
	return []time.Duration{0, -5 * time.Minute, 5 * time.Minute}
}

func untilItExpires(t *testing.T, w *world) {
	w.populate(t)
	for _, ttl := range []time.Duration{time.Second, authz.DefaultTokenTTL, authz.MaxTokenTTL} {
		i := w.issue()
		i.Token.ExpiresAt = i.Token.IssuedAt.Add(ttl)
		must(t, w.Servers[0].RecordToken(t.Context(), i))
		for at, want := range map[time.Duration]bool{
			0:                       true,
			ttl - time.Microsecond:  true,
			ttl - time.Nanosecond:   true,
			ttl:                     false,
			ttl + time.Microsecond:  false,
			ttl + 24*time.Hour:      false,
			-time.Minute:            true, // another instance's clock
			ttl + 1*time.Nanosecond: false,
		} {
			if got := w.activeFor(t, i.Token, edge, w.now.Add(at)); got != want {
				t.Errorf("token of %s, %s after its issue: active is %v", ttl, at, got)
			}
		}
	}
}

func onlyItsGateway(t *testing.T, w *world) {
	w.populate(t)
	token := w.record(t)
	for gateway, want := range map[string]bool{edge: true, yard: false, shop: false, "never-registered": false, "": false} {
		if got := w.activeFor(t, token, gateway, w.now); got != want {
			t.Errorf("for gateway %q: active is %v", gateway, got)
		}
	}
	must(t, w.Operator.DeleteClient(t.Context(), edge, w.event(authz.AuditClientDeleted)))
	if w.isActive(t, token) {
		t.Error("active for a gateway that is no longer registered")
	}
	if len(w.Events(t)) == 0 {
		t.Error("the audit trail is empty")
	}
}

func unknownToken(t *testing.T, w *world) {
	w.populate(t)
	token := w.record(t)
	for bit := range 8 {
		altered := token
		altered.Digest[31] ^= 1 << bit
		if w.isActive(t, altered) {
			t.Errorf("with bit %d of its digest flipped: active", bit)
		}
	}
	if w.isActive(t, authz.Token{}) {
		t.Error("no digest at all: active")
	}
}

func revokedToken(t *testing.T, w *world) {
	w.populate(t)
	token, bystander := w.record(t), w.record(t)
	if _, err := w.Servers[1].RevokeToken(t.Context(), token.Digest, w.caller(shop), w.event(authz.AuditTokenRevoked)); err != nil {
		t.Fatal(err)
	}
	if w.isActive(t, token) {
		t.Error("active after its revocation")
	}
	if !w.isActive(t, bystander) {
		t.Error("another token became inactive")
	}
}

func disabledClient(t *testing.T, w *world) {
	w.populate(t)
	token, bystander := w.record(t), w.issueFor(other, w.now)
	must(t, w.Servers[0].RecordToken(t.Context(), bystander))
	must(t, w.Operator.SetClientDisabled(t.Context(), shop, true, w.event(authz.AuditClientDisabled)))
	if w.isActive(t, token) {
		t.Error("active after its client was disabled")
	}
	if !w.isActive(t, bystander.Token) {
		t.Error("another client's token became inactive")
	}
}

func enabledClient(t *testing.T, w *world) {
	w.populate(t)
	ctx := t.Context()
	for _, skew := range clocks() {
		before := w.record(t)
		at := w.now.Add(skew)
		must(t, w.Operator.SetClientDisabled(ctx, shop, true, w.eventAt(authz.AuditClientDisabled, at)))
		must(t, w.Operator.SetClientDisabled(ctx, shop, true, w.eventAt(authz.AuditClientDisabled, at)))
		must(t, w.Operator.SetClientDisabled(ctx, shop, false, w.eventAt(authz.AuditClientEnabled, at)))
		if w.isActive(t, before) {
			t.Errorf("operator's clock off by %s: a token from before is active", skew)
		}
		if !w.isActive(t, w.record(t)) {
			t.Errorf("operator's clock off by %s: a new token is not active", skew)
		}
	}
}

func enabledTwice(t *testing.T, w *world) {
	w.populate(t)
	token := w.record(t)
	must(t, w.Operator.SetClientDisabled(t.Context(), shop, false, w.eventAt(authz.AuditClientEnabled, w.now.Add(time.Second))))
	if !w.isActive(t, token) {
		t.Error("inactive after its client, enabled all the time, was enabled")
	}
}

func clientAnew(t *testing.T, w *world) {
	w.populate(t)
	ctx := t.Context()
	var old []authz.Token
	for _, skew := range clocks() {
		old = append(old, w.record(t))
		at := w.now.Add(skew)
		must(t, w.Operator.DeleteClient(ctx, shop, w.eventAt(authz.AuditClientDeleted, at)))
		for _, token := range old {
			if w.isActive(t, token) {
				t.Error("active after its client was deleted")
			}
		}
		must(t, w.Operator.CreateClient(ctx, w.client(shop), w.eventAt(authz.AuditClientCreated, at)))
		for _, token := range old {
			if w.isActive(t, token) {
				t.Errorf("operator's clock off by %s: an earlier client's token is active", skew)
			}
		}
		if !w.isActive(t, w.record(t)) {
			t.Errorf("operator's clock off by %s: a new token is not active", skew)
		}
	}
}

func resourceAnew(t *testing.T, w *world) {
	w.populate(t)
	ctx := t.Context()
	for _, skew := range clocks() {
		// Of other, which keeps its name but, with the resource, its grant.
		i := w.issueFor(other, w.now)
		must(t, w.Servers[0].RecordToken(ctx, i))
		at := w.now.Add(skew)
		for _, id := range []string{shop, other, edge} {
			must(t, w.Operator.DeleteClient(ctx, id, w.eventAt(authz.AuditClientDeleted, at)))
		}
		must(t, w.Operator.DeleteResource(ctx, labels, w.eventAt(authz.AuditResourceDeleted, at)))
		must(t, w.Operator.CreateResource(ctx, w.resource(labels), w.eventAt(authz.AuditResourceCreated, at)))
		for _, c := range []*authz.Client{w.client(shop), w.client(other), w.gateway(edge, labels)} {
			must(t, w.Operator.CreateClient(ctx, c, w.eventAt(authz.AuditClientCreated, at)))
		}
		if w.isActive(t, i.Token) {
			t.Errorf("operator's clock off by %s: an earlier resource's token is active", skew)
		}
		if !w.isActive(t, w.record(t)) {
			t.Errorf("operator's clock off by %s: a new token is not active", skew)
		}
	}
}

func updatedResource(t *testing.T, w *world) {
	w.populate(t)
	token := w.record(t)
	r := w.registered(t, labels)
	r.TokenTTL, r.Scopes = time.Minute, append(r.Scopes, "zones")
	must(t, w.Operator.UpdateResource(t.Context(), r, w.event(authz.AuditResourceUpdated)))
	if !w.isActive(t, token) {
		t.Error("inactive after its resource was updated")
	}
}

func microseconds(t *testing.T, w *world) {
	w.populate(t)
	at := w.now.Truncate(time.Second)
	for _, offset := range []time.Duration{0, time.Microsecond, 123456 * time.Microsecond, 999999 * time.Microsecond} {
		i := w.issueFor(shop, at.Add(offset))
		must(t, w.Servers[0].RecordToken(t.Context(), i))
		if !w.isActive(t, i.Token) { // compares what is found with what was recorded
			t.Errorf("issued %s into a second: not active", offset)
		}
	}
}
