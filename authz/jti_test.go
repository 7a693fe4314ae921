package authz

import (
	"testing"
	"time"
)

func TestJTIsAreOrderedByTimeAndRandomInAllTheRest(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 678_000_000, time.UTC)
	seen := map[JTI]bool{}
	var ones, zeros JTI
	for range 2000 {
		j := NewJTI(now)
		if seen[j] {
			t.Fatal("the same twice")
		}
		seen[j] = true
		for i := range j {
			ones[i] |= j[i]
			zeros[i] |= ^j[i]
		}
		if floor, next := JTIFloor(now), JTIFloor(now.Add(time.Millisecond)); j.String() < floor.String() || j.String() >= next.String() {
			t.Fatalf("%s is not of %s", j, now)
		}
	}
	// Each bit but those of time, version and variant has been 0 and 1.
	for i := 6; i < 16; i++ {
		want := map[int]byte{6: 0x0f, 8: 0x3f}[i]
		if want == 0 {
			want = 0xff
		}
		if both := ones[i] & zeros[i]; both != want {
			t.Errorf("byte %d: bits %08b are random, want %08b", i, both, want)
		}
	}
}

func TestJTISurvivesItsText(t *testing.T) {
	j := NewJTI(time.Now())
	if got, err := ParseJTI(j.String()); err != nil || got != j {
		t.Errorf("%v, %v", got, err)
	}
	for _, bad := range []string{"", "x", j.String()[1:], j.String() + "0", "zzzzzzzz-zzzz-zzzz-zzzz-zzzzzzzzzzzz", "0193b0c45a4e7c3a8f6e2d1f0a9b8c7d00000"} {
		if _, err := ParseJTI(bad); err == nil {
			t.Errorf("%q is a UUID", bad)
		}
	}
}
