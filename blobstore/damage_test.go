package blobstore_test

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"carillon/blobstore"
)

// spoil changes a file in one of several ways.
func spoil(t *testing.T, name, how string) {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	switch how {
	case "flip start":
		b[min(8, len(b)-1)] ^= 1
	case "flip middle":
		b[len(b)/2] ^= 1
	case "flip end":
		b[len(b)-6] ^= 1
	case "cut":
		b = b[:len(b)/2]
	case "empty":
		b = nil
	case "gone":
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
		return
	}
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func firstFile(t *testing.T, pattern string) string {
	t.Helper()
	all, err := filepath.Glob(pattern)
	if err != nil || len(all) == 0 {
		t.Fatalf("no %s: %v", pattern, err)
	}
	return all[0]
}

// Goal: whatever happens to a table or the manifest, a store says that it is
// damaged: it neither opens without what was lost, nor ends the process.
func TestDamagedStoreIsNotOpened(t *testing.T) {
	t.Parallel()
	for _, file := range []string{"*.sst", "MANIFEST"} {
		for _, how := range []string{"flip start", "flip middle", "flip end", "cut", "empty", "gone"} {
			t.Run(file+" "+how, func(t *testing.T) {
				t.Parallel()
				dir := t.TempDir()
				cfg := blobstore.StoreConfig{Dir: filepath.Join(dir, "blobs")}
				s, err := blobstore.OpenStore(cfg, slog.New(slog.DiscardHandler))
				if err != nil {
					t.Fatal(err)
				}
				for i := range 300 {
					p := fmt.Appendf(nil, "%d", i)
					if err := s.Apply([]blobstore.Op{{
						Kind: blobstore.OpPut, ID: blobstore.NewID(), Data: p, Totals: blobstore.TotalsOf(p),
					}})[0]; err != nil {
						t.Fatal(err)
					}
				}
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				spoil(t, firstFile(t, filepath.Join(cfg.Dir, file)), how)
				s, err = blobstore.OpenStore(cfg, slog.New(slog.DiscardHandler))
				if err == nil && s.Stats().Blobs == 300 {
					_ = s.Close()
					return // what was changed means nothing
				}
				if !errors.Is(err, blobstore.ErrCorrupt) {
					t.Fatalf("opened, or: %v", err)
				}
				aside, err := blobstore.SetAside(cfg.Dir, time.Now())
				if err != nil {
					t.Fatal(err)
				}
				if s, err = blobstore.OpenStore(cfg, slog.New(slog.DiscardHandler)); err != nil {
					t.Fatal(err)
				}
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				if _, err := os.Stat(aside); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// Goal: damage while a store is open is found by looking; a catalog that can be
// built again begins empty, and the old one is kept.
func TestDamagedCatalogIsPutAside(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cfg := blobstore.CatalogConfig{Dir: dir, Replayed: true, BootID: "one"}
	open := func() *blobstore.CatalogStore {
		t.Helper()
		c, err := blobstore.OpenCatalog(cfg, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	c := open()
	for i := range 300 {
		if _, err := c.Apply([]blobstore.TxnEntry{{
			Index: uint64(i + 1), Txn: blobstore.Txn{Put: []blobstore.Row{{Key: strconv.Itoa(i), Value: []byte("v")}}},
		}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	table := firstFile(t, filepath.Join(dir, "catalog-1", "*.sst"))
	spoil(t, table, "flip start")
	c = open()
	if c.Applied() != 0 {
		t.Errorf("applied %d, want an empty catalog", c.Applied())
	}
	firstFile(t, filepath.Join(dir, "damaged-*", "*.sst"))
	if err := c.CheckTables(); err != nil {
		t.Error(err)
	}
	if err := c.Condemn("a test"); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	c = open()
	defer func() { _ = c.Close() }()
	if all, _ := filepath.Glob(filepath.Join(dir, "damaged-*")); len(all) != 2 {
		t.Errorf("put aside: %v", all)
	}
}
