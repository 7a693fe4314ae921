package authz_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/cargokey/authz/authz"
	"github.com/cargokey/authz/dpopbind"
	"github.com/cargokey/authz/internal/clientassertion/assertiontest"
)

// recorded is an event as the trail has it.
type recorded struct {
	Kind, Actor, Client, Resource, JKT, Request, Remote string
	Detail                                              map[string]any
}

// recorded returns the events that a condition holds for, once all are written.
func (i *instance) recorded(where string) []recorded {
	i.w.t.Helper()
	i.flush()
	return i.w.recorded(where)
}

func (w *world) recorded(where string) []recorded {
	w.t.Helper()
	ctx := context.WithoutCancel(w.t.Context())
	conn, err := pgx.Connect(ctx, w.database.OwnerURL)
	if err != nil {
		w.t.Fatal(err)
	}
	defer conn.Close(ctx)
	rows, err := conn.Query(ctx, `
		select kind, actor, coalesce(client_id, ''), coalesce(resource, ''), coalesce(jkt, ''), coalesce(request_id, ''), coalesce(remote_addr, ''), detail
		from authz.audit_events where `+where+` order by id`)
	if err != nil {
		w.t.Fatal(err)
	}
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[recorded])
	if err != nil {
		w.t.Fatal(err)
	}
	return all
}

func (w *world) revokedKey(t *testing.T) *dpopbind.Key {
	t.Helper()
	key := newKey(t)
	event := operatorEvent(authz.AuditDPoPKeyRevoked)
	if err := w.owner.RevokeDPoPKey(t.Context(), key.JKT(), event); err != nil {
		t.Fatal(err)
	}
	return key
}

func TestEachRefusalIsAnEventThatSaysWhoseItIsAndWhy(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i, key := w.instance(), newKey(t)
	client := w.client(authz.Client{})
	off := w.client(authz.Client{ID: "off-service"})
	if err := w.owner.SetClientDisabled(t.Context(), off.ID, true, operatorEvent(authz.AuditClientDisabled)); err != nil {
		t.Fatal(err)
	}
	signed := w.asserting(authz.Client{ID: "signing-service"})
	nonce := w.client(authz.Client{ID: "nonce-service", RequireNonce: true})
	enrolled := w.client(authz.Client{ID: "enrolled-service", DPoPKeys: authz.EnrolledKey})
	w.enrol(enrolled, key, time.Time{})
	credential := authz.DigestOf(client.secret).Name()
	spent := i.tokenRequest(client, key, clientCredentials)
	if a := i.do(spent); a.status != http.StatusOK {
		t.Fatalf("%d %s", a.status, a.body)
	}
	late := func() *http.Request {
		r := i.post("/oauth/token", client, clientCredentials)
		proof, err := key.Proof(http.MethodPost, tokenEndpoint, i.now().Add(-10*time.Minute), proofOptions)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("DPoP", proof)
		return r
	}
	replayed := i.post("/oauth/token", client, clientCredentials)
	replayed.Header.Set("DPoP", spent.Header.Get("DPoP"))
	forged := i.post("/oauth/token", client, clientCredentials)
	forged.Header.Set("DPoP", forgedProof(t, i.proof(key)))
	others := i.token(w.client(authz.Client{ID: "other-service"}), key).string("access_token")
	assertion := func(d *assertiontest.Draft) *http.Request {
		return i.tokenRequest(registered{}, key, i.asserted(clientCredentials, d))
	}
	revoked := w.revokedKey(t)
	known := func(scope, resource string) url.Values {
		return with(clientCredentials, "scope", scope, "resource", resource)
	}

	const stranger, byClient = "server", "client:"
	for _, row := range []struct {
		name    string
		request *http.Request
		want    recorded
	}{
		{"a wrong secret", i.tokenRequest(w.wrong(client), key, clientCredentials), recorded{Actor: stranger, Client: client.ID,
			Detail: map[string]any{"error": "invalid_client", "reason": "invalid_client", "offset_ms": float64(0)}}},
		{"an unknown client", i.tokenRequest(unknown("nobody"), key, known("label:create", labels)), recorded{Actor: stranger, Resource: labels,
			Detail: map[string]any{"error": "invalid_client", "reason": "invalid_client", "scope": "label:create", "offset_ms": float64(0)}}},
		{"no credentials", i.tokenRequest(registered{}, key, with(clientCredentials, "client_id", client.ID)), recorded{Actor: stranger, Client: client.ID,
			Detail: map[string]any{"error": "invalid_client", "reason": "invalid_client", "offset_ms": float64(0)}}},
		{"a disabled client", i.tokenRequest(off, key, clientCredentials), recorded{Actor: byClient + off.ID, Client: off.ID,
			Detail: map[string]any{"error": "invalid_client", "reason": "invalid_client", "authenticated": true, "offset_ms": float64(0)}}},
		{"an unknown scope and resource", i.tokenRequest(client, key, known("label:create unknown", "https://unknown.test")), recorded{Actor: byClient + client.ID, Client: client.ID, JKT: key.JKT(),
			Detail: map[string]any{"error": "invalid_target", "reason": "invalid_target", "authenticated": true, "credential": credential, "scope": "label:create", "offset_ms": float64(0)}}},
		{"a scope that is not granted", i.tokenRequest(client, key, known("shared label:read", labels)), recorded{Actor: byClient + client.ID, Client: client.ID, JKT: key.JKT(), Resource: labels,
			Detail: map[string]any{"error": "invalid_scope", "reason": "invalid_scope", "authenticated": true, "credential": credential, "scope": "shared label:read", "offset_ms": float64(0)}}},
		{"a late proof", late(), recorded{Actor: stranger,
			Detail: map[string]any{"error": "invalid_dpop_proof", "reason": "iat", "offset_ms": float64(600_000)}}},
		{"a replayed proof", replayed, recorded{Actor: byClient + client.ID, Client: client.ID, JKT: key.JKT(), Resource: labels,
			Detail: map[string]any{"error": "invalid_dpop_proof", "reason": "replay", "authenticated": true, "credential": credential, "offset_ms": float64(0)}}},
		{"a proof that somebody else signed", forged, recorded{Actor: byClient + client.ID, Client: client.ID, // and whose key it names, nobody knows
			Detail: map[string]any{"error": "invalid_dpop_proof", "reason": "signature", "authenticated": true, "credential": credential, "offset_ms": float64(0)}}},
		{"no proof", i.tokenRequest(client, nil, clientCredentials), recorded{Actor: byClient + client.ID, Client: client.ID, Resource: labels,
			Detail: map[string]any{"error": "invalid_dpop_proof", "reason": "missing", "authenticated": true, "credential": credential}}},
		{"no nonce", i.tokenRequest(nonce, key, clientCredentials), recorded{Actor: byClient + nonce.ID, Client: nonce.ID,
			Detail: map[string]any{"error": "use_dpop_nonce", "reason": "nonce", "authenticated": true, "credential": authz.DigestOf(nonce.secret).Name(), "offset_ms": float64(0)}}},
		{"a key that is not enrolled", i.tokenRequest(enrolled, revoked, clientCredentials), recorded{Actor: byClient + enrolled.ID, Client: enrolled.ID, JKT: revoked.JKT(), Resource: labels,
			Detail: map[string]any{"error": "unauthorized_client", "reason": "unauthorized_client", "authenticated": true, "credential": authz.DigestOf(enrolled.secret).Name(), "offset_ms": float64(0)}}},
		{"another grant", i.tokenRequest(client, key, url.Values{"grant_type": {"password"}}), recorded{Actor: stranger,
			Detail: map[string]any{"error": "unsupported_grant_type", "reason": "unsupported_grant_type"}}},
		{"an assertion for elsewhere", assertion(i.draft(signed).Claim("aud", `"https://elsewhere.test"`)), recorded{Actor: stranger,
			Detail: map[string]any{"error": "invalid_client", "reason": "assertion_aud", "offset_ms": float64(0)}}},
		{"an assertion by a stranger", assertion(i.draft(asserting{signed.Client, assertiontest.NewSigner("ES256")})), recorded{Actor: stranger, Client: signed.ID,
			Detail: map[string]any{"error": "invalid_client", "reason": "assertion_key", "offset_ms": float64(0)}}},
		{"a revocation of another's token", i.post("/oauth/revoke", client, url.Values{"token": {others}}), recorded{Kind: "token.revocation_refused", Actor: byClient + client.ID, Client: client.ID,
			Detail: map[string]any{"error": "unauthorized_client", "reason": "unauthorized_client", "authenticated": true, "credential": credential, "endpoint": "revoke"}}},
		{"an enrolment without an endorsement", i.enrolRequest(enrolled, newKey(t), ""), recorded{Kind: "dpop_key.enrolment_refused", Actor: stranger,
			Detail: map[string]any{"error": "invalid_request", "reason": "invalid_request", "endpoint": "dpop_keys", "offset_ms": float64(0)}}},
	} {
		row.request.Header.Set("User-Agent", "label-service/1.2 (by hand)")
		a := i.do(row.request)
		if a.status == http.StatusOK {
			t.Errorf("%s: %d", row.name, a.status)
			continue
		}
		row.want.Remote, row.want.Request, row.want.Detail["user_agent"] = "127.0.0.1", a.header.Get("X-Request-Id"), "label-service/1.2"
		if row.want.Kind == "" {
			row.want.Kind, row.want.Detail["endpoint"] = "token.refused", "token"
		}
		if row.want.Detail["authenticated"] == nil {
			row.want.Detail["authenticated"] = false
		}
		// Clocks are alike, and the proof is as old as the request took.
		alike := cmp.FilterPath(func(p cmp.Path) bool { return strings.Contains(p.GoString(), "offset_ms") }, cmp.Comparer(func(a, b any) bool {
			x, okX := a.(float64)
			y, okY := b.(float64)
			return okX == okY && max(x-y, y-x) < 30_000
		}))
		got := i.recorded(fmt.Sprintf("request_id = '%s' and kind like '%%refused' and kind <> 'dpop_key.refused'", row.want.Request))
		if diff := cmp.Diff([]recorded{row.want}, got, alike); diff != "" {
			t.Errorf("%s (-want +got):\n%s", row.name, diff)
		}
	}
}

// forgedProof is a proof whose signature is that of other text.
func forgedProof(t *testing.T, proof string) string {
	t.Helper()
	at := strings.LastIndexByte(proof, '.') + 1
	signature, err := base64Decode(proof[at:])
	if err != nil {
		t.Fatal(err)
	}
	signature[0] ^= 1
	return proof[:at] + base64Encode(signature)
}

func TestEachTokensEventTellsTheClientsSoftwareAndClock(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i, client, key := w.instance(), w.client(authz.Client{}), newKey(t)
	w.resource(&authz.Resource{URI: "https://open.test", Scopes: []string{"open"}, AllowBearer: true})
	bearer := w.client(authz.Client{ID: "bearer-service", AllowBearer: true, Grants: []authz.Grant{{Resource: "https://open.test", Scopes: []string{"open"}}}})
	for _, row := range []struct {
		name, agent string
		by          registered
		ahead       time.Duration
		want        any // the user agent
	}{
		{"bound", "label-service/1.2 linux", client, 0, "label-service/1.2"},
		{"of a clock that is late", "label-service/1.2", client, -20 * time.Second, "label-service/1.2"},
		{"of a clock that is ahead", "", client, 10 * time.Second, nil},
		{"by a secret for a name", client.secret, client, 0, nil},
		{"to a bearer", "label-service", bearer, 0, "label-service"},
	} {
		r := i.post("/oauth/token", row.by, clientCredentials)
		if row.by.ID == client.ID {
			proof, err := key.Proof(http.MethodPost, tokenEndpoint, i.now().Add(row.ahead), proofOptions)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("DPoP", proof)
		}
		r.Header.Set("User-Agent", row.agent)
		a := i.do(r)
		if a.status != http.StatusOK {
			t.Fatalf("%s: %d %s", row.name, a.status, a.body)
		}
		events := i.recorded(fmt.Sprintf("request_id = '%s'", a.header.Get("X-Request-Id")))
		if len(events) != 1 || events[0].Kind != "token.issued" {
			t.Fatalf("%s: %+v", row.name, events)
		}
		d := events[0].Detail
		offset, bound := d["offset_ms"].(float64)
		if lag := offset + float64(row.ahead.Milliseconds()); bound != (row.by.ID == client.ID) || bound && (lag < 0 || lag > 30_000) {
			t.Errorf("%s: offset %v", row.name, d["offset_ms"])
		}
		if d["user_agent"] != row.want || d["scope"] != a.string("scope") || d["format"] != "jwt" || d["credential"] != authz.DigestOf(row.by.secret).Name() {
			t.Errorf("%s: %v", row.name, d)
		}
	}
}

// While the database is away requests are refused, and nothing of them is lost but what
// each one said: that, too, is bounded.
func TestRefusalsAreRecordedOnceTheDatabaseIsBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i, client := w.instance(), w.client(authz.Client{})
	i.flush()
	before := len(w.recorded("kind = 'token.refused'"))
	w.exec("alter table authz.audit_events rename to elsewhere")
	const refused = 100
	for n := range refused {
		if a := i.do(i.tokenRequest(client, nil, clientCredentials)); a.status == http.StatusOK {
			t.Fatalf("%d %s", a.status, a.body)
		}
		if n%10 == 0 {
			i.flush() // which fails, and keeps what there is
		}
	}
	w.exec("alter table authz.elsewhere rename to audit_events")
	i.flush()
	events := i.recorded("kind = 'token.refused'")[before:]
	var total, further float64
	for _, e := range events {
		if times, ok := e.Detail["times"].(float64); ok {
			total += times
			further += times
		} else {
			total++
		}
	}
	if total != refused || len(events) > 40 || further == 0 {
		t.Errorf("%d events stand for %v", len(events), total)
	}
	if n := i.metric("authz_audit_events_dropped_total"); float64(n) != further {
		t.Errorf("%v are counted as without an event of their own, and are %v", n, further)
	}
	if kinds := slices.DeleteFunc(events, func(e recorded) bool { return e.Client == client.ID && e.Detail["authenticated"] == true }); len(kinds) != 0 {
		text, _ := json.Marshal(kinds)
		t.Errorf("%s", text)
	}
}
