package rules_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Goal: links between the documents lead somewhere.
func TestDocumentLinks(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)\s]+)\)`)
	for _, doc := range files(t, ".md") {
		for _, m := range link.FindAllStringSubmatch(read(t, doc), -1) {
			target, _, _ := strings.Cut(m[1], "#")
			if target == "" || strings.Contains(target, "://") {
				continue
			}
			if _, err := os.Stat(filepath.Join(root, filepath.Dir(doc), target)); err != nil {
				t.Errorf("%s: link to %s: %v", doc, m[1], err)
			}
		}
	}
}

// Goal: what the documents tell people to type exists.
func TestDocumentCommands(t *testing.T) {
	targets := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^([a-z-]+):`).FindAllStringSubmatch(read(t, "Makefile"), -1) {
		targets[m[1]] = true
	}
	if !targets["test"] {
		t.Fatal("no target test in the Makefile")
	}
	command := regexp.MustCompile("(?m)(?:^ *|`)make ([a-z-]+)")
	for _, doc := range files(t, ".md") {
		for _, m := range command.FindAllStringSubmatch(read(t, doc), -1) {
			if !targets[m[1]] {
				t.Errorf("%s: there is no make %s", doc, m[1])
			}
		}
		for _, m := range regexp.MustCompile(`go run (\./[a-z/]+)`).FindAllStringSubmatch(read(t, doc), -1) {
			if _, err := os.Stat(filepath.Join(root, m[1])); err != nil {
				t.Errorf("%s: go run %s: %v", doc, m[1], err)
			}
		}
	}
}

// Goal: every environment variable that is read is documented. Those of the
// settings have a test of their own in internal/config.
func TestEnvironmentDocumented(t *testing.T) {
	documents := read(t, "README.md") + read(t, "config.example.toml")
	quoted := regexp.MustCompile(`"(CARILLON_[A-Z_]*[A-Z])"`)
	found := 0
	for _, s := range sources(t) {
		if s.test || strings.HasPrefix(s.pkg, "systemtest") || slices.Contains(owners()["testing"], s.pkg) {
			continue
		}
		for _, m := range quoted.FindAllStringSubmatch(read(t, s.path), -1) {
			found++
			if !strings.Contains(documents, m[1]) {
				t.Errorf("%s reads %s, which neither README.md nor config.example.toml names", s.path, m[1])
			}
		}
	}
	if found == 0 {
		t.Error("no variable found: the pattern is wrong")
	}
}
