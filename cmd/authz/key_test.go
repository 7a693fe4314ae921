package main

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cargokey/authz/jwks"
)

func TestKeyListSaysWhatEachKeyDoes(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	at := func(hours int) time.Time { return now.Add(time.Duration(hours) * time.Hour) }
	key := func(kid string, created, signsFrom int, ends ...int) jwks.SealedKey { // retired, revoked
		k := jwks.SealedKey{Info: jwks.Info{KID: kid, Algorithm: jwks.ES256, CreatedAt: at(created), SignsFrom: at(signsFrom)}}
		if len(ends) > 0 && ends[0] < 0 {
			k.RetiredAt = at(ends[0])
		}
		if len(ends) > 1 {
			k.RevokedAt = at(ends[1])
		}
		return k
	}
	for _, c := range []struct {
		name string
		keys []jwks.SealedKey
		want string // of each: name, state, signs from, signs until, in hours from now
	}{
		{"one signs", []jwks.SealedKey{key("a", -48, -48)}, "a signing -48h -"},
		{"the next one waits", []jwks.SealedKey{key("a", -48, -48), key("b", -1, 23)}, "a signing -48h 23h; b published 23h -"},
		{"the next one has taken over", []jwks.SealedKey{key("a", -48, -48), key("b", -25, -1)}, "a retired -48h -1h; b signing -1h -"},
		{"and the one before is over", []jwks.SealedKey{key("a", -48, -48), key("b", -29, -5)}, "a removed -48h -5h; b signing -5h -"},
		{"the next one was called off", []jwks.SealedKey{key("a", -48, -48), key("b", -2, 22, -1)}, "a signing -48h -; b retired never -"},
		{"and is over", []jwks.SealedKey{key("a", -48, -48), key("b", -9, 15, -5)}, "a signing -48h -; b removed never -"},
		{"and would have begun", []jwks.SealedKey{key("a", -48, -48), key("b", -26, -2, -3)}, "a signing -48h -; b retired never -"},
		{"retired by hand: the next one signs before its time", []jwks.SealedKey{key("a", -48, -48, -2), key("b", -3, 21)}, "a retired -48h -2h; b signing -2h -"},
		{"and was retired as well, with another there", []jwks.SealedKey{key("a", -48, -48, -4), key("b", -5, 19, -2), key("c", -3, 22)},
			"a removed -48h -4h; b retired -4h -2h; c signing -2h -"},
		{"replaced at once", []jwks.SealedKey{key("a", -48, -48, 0, -1), key("b", -2, 22, 0, -1), key("c", -1, -1)},
			"a revoked -48h -1h; b revoked never -; c signing -1h -"},
		{"revoked, and the next one signs before its time", []jwks.SealedKey{key("a", -48, -48, 0, -1), key("b", -2, 22)}, "a revoked -48h -1h; b signing -1h -"},
		{"revoked after it was superseded", []jwks.SealedKey{key("a", -48, -48, 0, -1), key("b", -26, -2)}, "a revoked -48h -2h; b signing -2h -"},
		{"retired, then revoked", []jwks.SealedKey{key("a", -48, -48, -2, -1), key("b", -3, -3)}, "a revoked -48h -3h; b signing -3h -"},
		{"none is left", []jwks.SealedKey{key("a", -48, -48, -2)}, "a retired -48h -2h"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var infos []jwks.Info
			for _, k := range c.keys {
				infos = append(infos, k.Info)
			}
			var got []string
			for _, v := range viewKeys(c.keys, jwks.NewTimeline(infos), now) {
				from, until := "never", "-"
				if v.SignsFrom != nil {
					from = hours(v.SignsFrom.Sub(now))
				}
				if v.SignsUntil != nil {
					until = hours(v.SignsUntil.Sub(now))
				}
				got = append(got, strings.Join([]string{v.KID, string(v.State), from, until}, " "))
			}
			if diff := cmp.Diff(c.want, strings.Join(got, "; ")); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func hours(d time.Duration) string { return strings.TrimSuffix(d.String(), "0m0s") }
