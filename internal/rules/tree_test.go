package rules_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const (
	root   = "../.."
	module = "carillon"
)

// source is one parsed Go file.
type source struct {
	path  string // from the root, with slashes
	pkg   string // directory from the root
	test  bool
	file  *ast.File
	fset  *token.FileSet
	lines int
}

// sources parses every Go file of the product's module.
func sources(t *testing.T) []source {
	t.Helper()
	fset := token.NewFileSet()
	var all []source
	for _, path := range files(t, ".go") {
		text, err := os.ReadFile(filepath.Join(root, path))
		if err != nil {
			t.Fatal(err)
		}
		file, err := parser.ParseFile(fset, path, text, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, source{
			path: path, pkg: filepath.ToSlash(filepath.Dir(path)), test: strings.HasSuffix(path, "_test.go"),
			file: file, fset: fset, lines: strings.Count(string(text), "\n"),
		})
	}
	if len(all) == 0 {
		t.Fatal("no Go files found")
	}
	return all
}

// files lists the files with that extension, those of testdata left out.
func files(t *testing.T, ext string) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != root &&
			(strings.HasPrefix(d.Name(), ".") || slices.Contains([]string{"testdata", "bin", "tools"}, d.Name())):
			return filepath.SkipDir
		case strings.HasSuffix(path, ext):
			rel, relErr := filepath.Rel(root, path)
			all = append(all, filepath.ToSlash(rel))
			return relErr
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}
