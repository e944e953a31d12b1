package blobstore

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A directory that a later release wrote is refused, with an advice, and left
// as it is.
func TestFormatFile(t *testing.T) {
	dir := t.TempDir()
	for range 2 {
		closeCatalog(t, openCatalogIn(t, dir))
	}
	path := filepath.Join(dir, formatFile)
	for text, want := range map[string]string{
		"carillon catalog 3\n":   "format 3, this version reads up to 2, install a newer one",
		"carillon catalog 1\n":   "format 1, this version reads from 2 on",
		"carillon blobs 2\n":     "does not begin with",
		"":                       "does not begin with",
		"carillon catalog -1":    "does not begin with",
		strings.Repeat("x", 999): "does not begin with",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := OpenCatalog(CatalogConfig{Dir: dir}, quiet())
		if !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), want) {
			t.Errorf("%.30q: %v, want %q", text, err, want)
		}
		if err == nil {
			closeCatalog(t, c)
		}
	}
	if err := os.WriteFile(path, []byte("carillon catalog 2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	closeCatalog(t, openCatalogIn(t, dir))
}
