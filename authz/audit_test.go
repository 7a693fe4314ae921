package authz_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cargokey/authz/authz"
)

// declaredKinds are the constants of audit.go.
func declaredKinds(t *testing.T) []authz.AuditKind {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "audit.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var kinds []authz.AuditKind
	ast.Inspect(file, func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok {
			if typ, ok := spec.Type.(*ast.Ident); ok && typ.Name == "AuditKind" {
				text, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
				if err != nil {
					t.Fatal(err)
				}
				kinds = append(kinds, authz.AuditKind(text))
			}
		}
		return true
	})
	return kinds
}

func TestEveryKindOfEventIsListedAndExplained(t *testing.T) {
	t.Parallel()
	declared, listed := declaredKinds(t), authz.AuditKinds()
	slices.Sort(declared)
	slices.Sort(listed)
	if len(declared) < 20 || !slices.Equal(declared, listed) {
		t.Errorf("declared: %q\nlisted: %q", declared, listed)
	}
	page, err := os.ReadFile("../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range listed {
		if n := strings.Count(string(page), "\n| `"+string(kind)+"` | "); n != 1 {
			t.Errorf("docs/operations.md has %d lines for %s", n, kind)
		}
	}
}
