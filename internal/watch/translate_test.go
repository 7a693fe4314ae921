package watch

import (
	"encoding/json"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cargokey/authz/authz"
	"github.com/cargokey/authz/internal/behaviour"
)

func TestEventsAreReadAsTheyAreWritten(t *testing.T) {
	at := time.Date(2026, 11, 23, 3, 0, 0, 0, time.UTC)
	network := netip.MustParsePrefix("192.0.2.0/24")
	for name, c := range map[string]struct {
		kind   authz.AuditKind
		detail string
		want   behaviour.Event
	}{
		"a token": {
			authz.AuditTokenIssued,
			`{"scope": "label:read label:create", "format": "jwt", "expires_at": "2026-11-23T03:10:00Z", "credential": "5f70bf18", "user_agent": "labels/1.2", "offset_ms": -420}`,
			behaviour.Event{
				Kind: behaviour.TokenIssued, Authenticated: true, Scopes: []string{"label:read", "label:create"}, Credential: "5f70bf18",
				UserAgent: "labels/1.2", Offset: -420 * time.Millisecond, HasOffset: true,
			},
		},
		"a token, with more": {
			authz.AuditTokenIssued, `{"scope":"a","asserted":{"aud":["x"]},"user_agent":"l\u00e9/1"}`,
			behaviour.Event{Kind: behaviour.TokenIssued, Authenticated: true, Scopes: []string{"a"}, UserAgent: "lé/1"},
		},
		"a refusal": {
			authz.AuditTokenRefused, `{"error": "invalid_dpop_proof", "reason": "replay", "authenticated": true, "endpoint": "token", "times": 7}`,
			behaviour.Event{Kind: behaviour.TokenRefused, Authenticated: true, Reason: "replay", Times: 7},
		},
		"a refusal without a reason": {
			authz.AuditEnrolmentRefused, `{"error": "invalid_client"}`, behaviour.Event{Kind: behaviour.TokenRefused, Reason: "invalid_client"},
		},
		"many failures": {
			authz.AuditAuthenticationsLimited, `{"by": "client", "limited": 900, "times": 1, "endpoint": "token"}`,
			behaviour.Event{Kind: behaviour.TokenRefused, Reason: "limited", Times: 900},
		},
		"a retired secret": {
			authz.AuditRetiredSecretUsed, `{"credential": "old", "times": 3}`, behaviour.Event{Kind: behaviour.SecretRetired, Credential: "old", Times: 3},
		},
		"a key":         {authz.AuditDPoPKeyRefused, `{}`, behaviour.Event{Kind: behaviour.KeyRefused, Authenticated: true}},
		"an endorser":   {authz.AuditEndorsementRefused, ``, behaviour.Event{Kind: behaviour.KeyRefused, Authenticated: true}},
		"an enrolment":  {authz.AuditDPoPKeyEnrolled, `{"by": "x"}`, behaviour.Event{Kind: behaviour.KeyEnrolled}},
		"a change":      {authz.AuditClientUpdated, `{"grants": {"a": ["b"]}}`, behaviour.Event{Kind: behaviour.ClientChanged}},
		"an end":        {authz.AuditClientDeleted, ``, behaviour.Event{Kind: behaviour.ClientDeleted}},
		"a wild offset": {authz.AuditTokenIssued, `{"offset_ms": -9223372036854775808}`, behaviour.Event{Kind: behaviour.TokenIssued, Authenticated: true, Offset: -100 * 365 * 24 * time.Hour, HasOffset: true}},
		"no number":     {authz.AuditTokenRefused, `{"times": -5}`, behaviour.Event{Kind: behaviour.TokenRefused}},
	} {
		e := authz.TrailEvent{AuditEvent: authz.AuditEvent{At: at, Kind: c.kind, ClientID: "shop", JKT: "key", RequestID: "r", RemoteAddr: "192.0.2.7"}, RawDetail: []byte(c.detail)}
		c.want.At, c.want.ClientID, c.want.JKT, c.want.RequestID, c.want.ID, c.want.Network = at, "shop", "key", "r", e.ID.String(), network
		got, ok, err := translate(&e)
		if err != nil || !ok {
			t.Errorf("%s: %v, %v", name, ok, err)
		}
		if diff := cmp.Diff(c.want, got, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }), cmp.Transformer("none", func(s []string) []string {
			if len(s) == 0 {
				return nil
			}
			return s
		})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	for _, kind := range []authz.AuditKind{authz.AuditAlertRaised, authz.AuditTokenRevoked, authz.AuditCallVerified} {
		if _, ok, err := translate(&authz.TrailEvent{AuditEvent: authz.AuditEvent{Kind: kind}, RawDetail: []byte(`[`)}); ok || err != nil {
			t.Errorf("%s: %v, %v", kind, ok, err)
		}
	}
}

func TestNetworksAreThoseOfASite(t *testing.T) {
	for remote, want := range map[string]string{
		"192.0.2.7": "192.0.2.0/24", "192.0.2.7:1000": "192.0.2.0/24", "::ffff:192.0.2.7": "192.0.2.0/24", "[::ffff:192.0.2.7]:1": "192.0.2.0/24",
		"2001:db8:1:2::3": "2001:db8:1::/48", "[2001:db8:1:2::3]:1000": "2001:db8:1::/48", "fe80::1%eth0": "fe80::/48",
		"": "", "@": "", "host": "", "192.0.2": "",
	} {
		got := networkOf(remote)
		if want == "" && got.IsValid() || want != "" && got.String() != want {
			t.Errorf("%q is of %v, want %q", remote, got, want)
		}
	}
}

// What is read by hand is what encoding/json reads.
func FuzzDetail(f *testing.F) {
	for _, seed := range []string{
		`{}`, `{"scope": "a b", "offset_ms": -12, "authenticated": true, "times": 3}`, `{"times": 007}`, `{"times": -0}`, `{"scope": null}`, `{"times": 1.5}`,
		`{"Scope": "a", "scope": "b"}`, `{"scope": "a", "scope": "b"}`, `{"scope": "é\n"}`, `{"x": {"scope": "a"}}`, `{"scope": "a",}`, `{,}`, `{"x": 1 "y": 2}`,
		`{"authenticated": truefalse}`, `{"times": 9223372036854775808}`, ` {}`, `{} `, `{"x":true}x`, `{"ſcope": "a"}`, `{"a":-}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		s := scanner{left: raw}
		got, ok := s.detail()
		if !ok {
			return
		}
		var want detail
		if err := json.Unmarshal(raw, &want); err != nil {
			t.Fatalf("%q is read, and is none: %v", raw, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q (-want +got):\n%s", raw, diff)
		}
	})
}

func BenchmarkTranslate(b *testing.B) {
	e := authz.TrailEvent{
		AuditEvent: authz.AuditEvent{Kind: authz.AuditTokenIssued, RemoteAddr: "192.0.2.7"},
		RawDetail:  []byte(`{"scope": "label:read label:create", "format": "jwt", "expires_at": "2026-11-23T03:10:00Z", "credential": "5f70bf18", "user_agent": "labels/1.2", "offset_ms": -420}`),
	}
	for b.Loop() {
		if _, ok, err := translate(&e); !ok || err != nil {
			b.Fatal(err)
		}
	}
}
