//go:build linux || darwin

package pgdev

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// fetchVariable asks for the test that downloads.
const fetchVariable = "AUTHZ_TEST_FETCH"

func TestFetchedBinariesRun(t *testing.T) {
	if os.Getenv(fetchVariable) == "" {
		t.Skipf("it downloads Postgres; set %s=1 to run it", fetchVariable)
	}
	cache := filepath.Join(folder(t), "cache")
	results := make(chan error, 2)
	for range 2 { // of which one downloads
		go func() {
			_, err := fetchInto(t.Context(), cache)
			results <- err
		}()
	}
	for range 2 {
		if err := <-results; err != nil {
			t.Fatal(err)
		}
	}
	begun := time.Now()
	bin, err := fetchInto(t.Context(), cache)
	if err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begun); took > 100*time.Millisecond {
		t.Errorf("the cache is not used: it took %v", took)
	}
	left, err := filepath.Glob(filepath.Join(cache, "*"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{filepath.Dir(bin), filepath.Join(cache, "postgres.lock")}, left); diff != "" {
		t.Errorf("the cache holds (-want +got):\n%s", diff)
	}
	m := testMachine()
	m.search = search{fetch: func(ctx context.Context, _ account) (string, error) { return fetchInto(ctx, cache) }}
	p := beginOn(t, Options{Dir: filepath.Join(folder(t), "data")}, m)
	if got := query(t, p, "show server_version"); got != p.binaries.version || !strings.HasPrefix(got, "18.") {
		t.Errorf("it is version %s, from %s", got, p.Source())
	}
}
