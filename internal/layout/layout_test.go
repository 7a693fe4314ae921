// Package layout holds who may import whom: the walls of the house.
package layout

import (
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/cargokey/authz"

// rules say for each package which packages of this module, and which modules
// of others, its code (not its tests) may import. What is not listed may not
// be imported; the standard library always may.
var rules = map[string][]string{
	"migrations":                             {"pgx", "tern"},
	"jwks":                                   {"go-jose"},
	"dpopbind":                               {"go-jose", "internal/strictjose"},
	"dpopbind/prooftest":                     {"dpopbind", "go-jose"},
	"dpopbind/dpopfosite":                    {"dpopbind", "internal/span", "fosite"},
	"authz":                                  {"dpopbind", "dpopbind/dpopfosite", "internal/admission", "internal/allowance", "internal/clientassertion", "internal/clientcert", "internal/jwksuri", "internal/span", "internal/strictjose", "jwks", "fosite", "otel", "prometheus"},
	"storage/postgres":                       {"authz", "internal/behaviour", "internal/span", "internal/watch", "jwks", "migrations", "otel", "pgx"},
	"storage/storetest":                      {"authz", "jwks", "go-cmp"},
	"internal/hsm":                           {"jwks", "pkcs11"},
	"internal/hsm/hsmtest":                   {},
	"internal/pgdev":                         {"pgx", "embedded-postgres"},
	"internal/pgdev/pgtest":                  {"internal/pgdev", "migrations", "pgx"},
	"examples/carrier-api":                   {"dpopbind"},
	"internal/layout":                        {},
	"internal/strictjose":                    {},
	"internal/admission":                     {},
	"internal/allowance":                     {},
	"internal/audittrail":                    {"authz", "jwks", "prometheus"},
	"internal/behaviour":                     {},
	"internal/watch":                         {"authz", "internal/behaviour", "internal/webhook", "prometheus"},
	"internal/webhook":                       {},
	"internal/clientassertion":               {"internal/strictjose"},
	"internal/jwksuri":                       {"internal/strictjose"},
	"internal/clientassertion/assertiontest": {"internal/strictjose"},
	"internal/freeport":                      {},
	"internal/span":                          {"otel"},
	"internal/span/spantest":                 {"otlp", "protobuf"},
	"internal/faulttest":                     {"dpopbind", "pgx"},
	"internal/gatewaytest":                   {"dpopbind", "internal/clientcert/certtest", "internal/freeport", "internal/pgdev/pgtest"},
	"internal/clientcert":                    {"go-jose", "internal/strictjose"},
	// Certificates for tests.
	"internal/clientcert/certtest": {},
	// Configurations, and tests of them.
	"examples/gateway/caddy":   {},
	"examples/gateway/envoy":   {},
	"examples/gateway/haproxy": {},
	"examples/gateway/nginx":   {},
	"examples/gateway/traefik": {},
	"examples/platform":        {},
	"examples/platform/demo":   {"dpopbind"},
	"internal/compose":         {},
	"cmd/authz":                {"authz", "dpopbind", "internal/audittrail", "internal/behaviour", "internal/clientcert", "internal/hsm", "internal/pgdev", "internal/watch", "internal/webhook", "jwks", "migrations", "storage/postgres", "cobra", "envconfig", "otel", "pgx", "prometheus"},
	"internal/monitoring":      {},
	// It registers what it measures, and runs the rest as processes.
	"cmd/authzbench": {"authz", "dpopbind", "internal/pgdev", "migrations", "storage/postgres", "pgx"},
}

// others are the modules of others by their short names.
var others = map[string]string{
	"pgx": "github.com/jackc/pgx/v5", "tern": "github.com/jackc/tern/v2", "go-jose": "github.com/go-jose/go-jose/v4",
	"fosite": "github.com/ory/fosite", "prometheus": "github.com/prometheus/client_golang",
	"go-cmp": "github.com/google/go-cmp", "embedded-postgres": "github.com/fergusstrange/embedded-postgres",
	"cobra": "github.com/spf13/cobra", "envconfig": "github.com/kelseyhightower/envconfig",
	"pkcs11": "github.com/miekg/pkcs11", "otel": "go.opentelemetry.io/otel",
	"otlp": "go.opentelemetry.io/proto/otlp", "protobuf": "google.golang.org/protobuf",
}

type goPackage struct {
	ImportPath string
	Name       string
	Imports    []string
}

func packages(t *testing.T) []goPackage {
	t.Helper()
	return append(packagesOf(t), packagesOf(t, "-tags=pkcs11")...)
}

func packagesOf(t *testing.T, flags ...string) []goPackage {
	t.Helper()
	args := slices.Concat([]string{"list", "-json=ImportPath,Name,Imports"}, flags, []string{module + "/..."})
	c := exec.CommandContext(t.Context(), "go", args...)
	c.Env = append(os.Environ(), "CGO_ENABLED=1") // to list needs no compiler
	out, err := c.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []goPackage
	for decoder := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p goPackage
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

func TestPackagesImportOnlyWhatTheyMay(t *testing.T) {
	seen := map[string]bool{}
	for _, p := range packages(t) {
		name := strings.TrimPrefix(p.ImportPath, module+"/")
		allowed, ok := rules[name]
		if !ok {
			t.Errorf("package %s has no rule here", name)
			continue
		}
		seen[name] = true
		for _, path := range p.Imports {
			if first, _, _ := strings.Cut(path, "/"); !strings.Contains(first, ".") {
				continue // the standard library
			}
			if !slices.ContainsFunc(allowed, func(a string) bool { return covers(a, path) }) {
				t.Errorf("%s imports %s", name, path)
			}
		}
	}
	if len(seen) != len(rules) {
		t.Errorf("%d packages, %d rules: a rule is for no package", len(seen), len(rules))
	}
}

// covers tells whether an entry of rules is for this import path.
func covers(entry, path string) bool {
	if other, ok := others[entry]; ok {
		return path == other || strings.HasPrefix(path, other+"/")
	}
	return path == module+"/"+entry
}

func TestNoPackageIsNamedForNothing(t *testing.T) {
	for _, p := range packages(t) {
		if slices.Contains([]string{"util", "utils", "common", "model", "models", "types", "helpers", "pkg"}, p.Name) {
			t.Errorf("package %s is named for nothing", p.ImportPath)
		}
	}
}

// A document that names a test promises that there is one.
func TestDocumentsNameTestsThatExist(t *testing.T) {
	root := filepath.Join("..", "..")
	defined := map[string]bool{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") && !strings.Contains(path, "storetest") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, m := range regexp.MustCompile(`(?m)^func (Test\w+)\(`).FindAllStringSubmatch(string(text), -1) {
			defined[m[1]] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	pages, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	if err != nil || len(pages) == 0 {
		t.Fatalf("no documents: %v", err)
	}
	named := 0
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile("`(Test\\w+)`").FindAllStringSubmatch(string(text), -1) {
			named++
			if !defined[m[1]] {
				t.Errorf("%s names %s, which is no test", filepath.Base(page), m[1])
			}
		}
	}
	if named < 30 {
		t.Errorf("only %d tests are named", named)
	}
}
