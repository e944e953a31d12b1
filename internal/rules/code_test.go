package rules_test

import (
	"go/ast"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// fileLinesMax is about as much as one subject needs.
const fileLinesMax = 500

// Goal: every package says what it owns, once, in doc.go.
func TestPackageComments(t *testing.T) {
	commented := map[string][]string{}
	for _, s := range sources(t) {
		name := strings.TrimSuffix(s.file.Name.Name, "_test")
		if _, seen := commented[s.pkg]; !seen {
			commented[s.pkg] = nil
		}
		if s.file.Doc == nil {
			continue
		}
		commented[s.pkg] = append(commented[s.pkg], path.Base(s.path))
		text := s.file.Doc.Text()
		begins := strings.HasPrefix(text, "Package "+name+" ") ||
			name == "main" && strings.HasPrefix(text, "Command "+path.Base(s.pkg)+" ")
		if !begins {
			t.Errorf("%s: the package comment does not begin with the package's name", s.path)
		}
	}
	for pkg, where := range commented {
		if len(where) != 1 || where[0] != "doc.go" {
			t.Errorf("%s: package comments in %q, want one in doc.go", pkg, where)
		}
	}
}

// Goal: nothing happens before main, and nobody waits for time to pass; tests
// wait for conditions, or sleep in the virtual time of testing/synctest.
func TestNoInitNoSleep(t *testing.T) {
	for _, s := range sources(t) {
		virtual := s.test && slices.ContainsFunc(s.file.Imports, func(i *ast.ImportSpec) bool {
			return i.Path.Value == `"testing/synctest"`
		})
		ast.Inspect(s.file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncDecl:
				if n.Recv == nil && n.Name.Name == "init" {
					t.Errorf("%s: init", s.fset.Position(n.Pos()))
				}
			case *ast.SelectorExpr:
				if x, ok := n.X.(*ast.Ident); ok && x.Name == "time" && n.Sel.Name == "Sleep" && !virtual {
					t.Errorf("%s: time.Sleep", s.fset.Position(n.Pos()))
				}
			}
			return true
		})
	}
}

// Goal: a file that grew a second subject is noticed.
func TestFileLength(t *testing.T) {
	for _, s := range sources(t) {
		if !s.test && s.lines > fileLinesMax {
			t.Errorf("%s has %d lines, more than %d: look for the noun that wants to leave",
				s.path, s.lines, fileLinesMax)
		}
	}
}

// Goal: every fuzz target begins where others left off, also in `go test`.
func TestFuzzCorpora(t *testing.T) {
	targets := 0
	for _, s := range sources(t) {
		for _, d := range s.file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || !s.test || f.Recv != nil || !strings.HasPrefix(f.Name.Name, "Fuzz") {
				continue
			}
			targets++
			corpus := filepath.Join(root, s.pkg, "testdata", "fuzz", f.Name.Name)
			if inputs, err := os.ReadDir(corpus); err != nil || len(inputs) == 0 {
				t.Errorf("%s: no corpus in %s: %v", s.fset.Position(f.Pos()), corpus, err)
			}
		}
	}
	if targets < 40 {
		t.Errorf("%d fuzz targets were found", targets)
	}
}
