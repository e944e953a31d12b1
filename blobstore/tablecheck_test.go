package blobstore

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// Goal: a flipped bit in any byte of a table is found, without a panic, and so is an
// end that is missing. Method: all bytes of a table of Badger's own making.
func TestDamagedTable(t *testing.T) {
	t.Parallel()
	_, tables := catalogOfTables(t, 1)
	whole, err := os.ReadFile(tables[0])
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "1.sst")
	if err := os.WriteFile(name, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := checkTable(name); err != nil {
		t.Fatalf("a whole table: %v", err)
	}
	for at := range int64(len(whole)) {
		flipBit(t, name, at, uint(at%8))
		if err := checkTable(name); !errors.Is(err, ErrCorrupt) {
			t.Errorf("bit %d of byte %d of %d: %v", at%8, at, len(whole), err)
		}
		flipBit(t, name, at, uint(at%8))
	}
	for _, size := range []int{len(whole) - 1, len(whole) / 2, 100, 4, 1, 0} {
		if err := os.WriteFile(name, whole[:size], 0o600); err != nil {
			t.Fatal(err)
		}
		if err := checkTable(name); !errors.Is(err, ErrCorrupt) {
			t.Errorf("cut at %d of %d: %v", size, len(whole), err)
		}
	}
	if err := errors.Join(os.Remove(name), checkTable(name)); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a table that is gone: %v", err)
	}
}

// Goal: a number in a block that Badger would believe, and end the process, is found
// before Badger sees it: a merge begins as soon as a database is open.
func TestDamagedBlockBeforeMerge(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := openStoreIn(t, dir)
	fill(t, s, 2000, func(n int) []byte { return randomBytes(uint64(n), storeValueThreshold) })
	closeStore(t, s)
	table := firstTable(t, dir)
	flipBit(t, table, entryCount(t, table), 6)
	if s, err := OpenStore(StoreConfig{Dir: dir}, quiet()); !errors.Is(err, ErrCorrupt) {
		t.Errorf("opened as %v: %v", s, err)
	}
}
