package authz

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func issuedForTest() *issuedDetail {
	return &issuedDetail{
		token:  Token{Scope: "label:create label:read", ExpiresAt: time.Unix(1_800_000_000, 0), Credential: "0123456789ab", JKT: "jkt"},
		format: FormatJWT, userAgent: "label-service/2026.11.1", offset: new(-1500 * time.Millisecond),
	}
}

// asMap is the same by encoding/json.
func (d *issuedDetail) asMap() map[string]any {
	m := map[string]any{"scope": d.token.Scope, "format": string(d.format), "expires_at": d.token.ExpiresAt.Unix(), "credential": d.token.Credential}
	if d.token.X5T != "" {
		m["x5t#S256"] = d.token.X5T
	}
	if d.userAgent != "" {
		m["user_agent"] = d.userAgent
	}
	if d.offset != nil {
		m["offset_ms"] = d.offset.Milliseconds()
	}
	return m
}

func TestDetailOfAnIssuedTokenIsWhatAReaderOfJSONFinds(t *testing.T) {
	full, bound, odd := issuedForTest(), issuedForTest(), issuedForTest()
	bound.token.X5T, bound.offset, bound.userAgent = "thumbprint", nil, ""
	odd.token.Scope, odd.token.Credential, odd.userAgent = "a\"b\\c\n\u2028é\xff<>", "\x00", "\x7f"
	for _, d := range []*issuedDetail{full, bound, odd, {}} {
		var got, want map[string]any
		text, err := json.Marshal(d.asMap())
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(text, &want); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal([]byte(d.json()), &got); err != nil {
			t.Fatalf("%s: %v", d.json(), err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
	if n := testing.AllocsPerRun(100, func() { _ = full.json() }); n != 1 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkDetailOfAnIssuedToken(b *testing.B) {
	d := issuedForTest()
	b.Run("without reflection", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_ = d.json()
		}
	})
	// As it was before, when it had neither a user agent nor an offset.
	before := issuedForTest()
	before.userAgent, before.offset = "", nil
	b.Run("as a map, with less in it", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			text, err := json.Marshal(before.asMap())
			if err != nil {
				b.Fatal(err)
			}
			_ = string(text)
		}
	})
}
