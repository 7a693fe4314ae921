package authz_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cargokey/authz/authz"
	"github.com/cargokey/authz/jwks"
)

func TestFAPI2TellsAtItsStartWhatItRulesOut(t *testing.T) {
	t.Parallel()
	type some struct {
		Count int
		First []string
	}
	type warning struct {
		Level    string
		Msg      string
		Profile  string
		BySecret some `json:"clients_by_secret"`
		Bearer   some `json:"resources_with_bearer_tokens"`
		RS256    some `json:"resources_by_rs256"`
	}
	w := newWorld(t)
	start := func() (found []warning) {
		t.Helper()
		before := len(w.logs.String())
		w.instance(fapi2)
		for line := range strings.Lines(w.logs.String()[before:]) {
			var v warning
			if err := json.Unmarshal([]byte(line), &v); err == nil && strings.HasPrefix(v.Msg, "the profile rules out") {
				found = append(found, v)
			}
		}
		return found
	}
	w.asserting(authz.Client{ID: "by-key"})
	w.update(rates, func(r *authz.Resource) { r.AllowBearer = false })
	if found := start(); len(found) != 0 {
		t.Errorf("with nothing to tell: %+v", found)
	}
	var ids []string
	for n := range 7 {
		ids = append(ids, fmt.Sprint("secret-", n))
		w.client(authz.Client{ID: ids[n]})
	}
	gone := w.client(authz.Client{ID: "a-disabled-one"})
	if err := w.owner.SetClientDisabled(t.Context(), gone.ID, true, operatorEvent(authz.AuditClientDisabled)); err != nil {
		t.Fatal(err)
	}
	w.resource(&authz.Resource{URI: rates + "/open", Scopes: []string{"rate:read"}, AllowBearer: true})
	w.resource(&authz.Resource{URI: rates + "/old", Scopes: []string{"rate:read"}, SigningAlg: jwks.RS256})
	found := start()
	if len(found) != 1 {
		t.Fatalf("%d warnings", len(found))
	}
	slices.Sort(found[0].BySecret.First)
	want := warning{
		Level: "WARN", Msg: found[0].Msg, Profile: "fapi2", BySecret: some{7, ids[:5]},
		Bearer: some{1, []string{rates + "/open"}}, RS256: some{1, []string{rates + "/old"}},
	}
	if diff := cmp.Diff(want, found[0]); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
