package blobstore

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// tableRows is how many rows the catalogs of these tests have: some blocks.
const tableRows = 400

// tableRow is what a row of these tests holds: written twice, so that an older
// version lies in another table.
func tableRow(i, version int) TxnEntry {
	value := bytes.Repeat(fmt.Appendf(nil, "%d.%d ", i, version), 10)
	return putEntry(uint64(version*tableRows+i+1), version*tableRows+i+1, tableKey(i), string(value))
}

func tableKey(i int) string { return fmt.Sprintf("m1/a/%04d", i) }

// catalogOfTables is a catalog whose rows lie in tables, the newest version of each
// in the newest one: closing writes a table. They are not merged unless asked for.
func catalogOfTables(t *testing.T, versions int) (c *CatalogStore, tables []string) {
	t.Helper()
	dir := t.TempDir()
	open := func() *CatalogStore {
		opened, err := OpenCatalog(CatalogConfig{
			Dir: dir, MemtableBytes: 4 << 20, Replayed: true, BootID: "one", still: true,
		}, quiet())
		if err != nil {
			t.Fatal(err)
		}
		return opened
	}
	for version := range versions {
		c = open()
		var all []TxnEntry
		for i := range tableRows {
			all = append(all, tableRow(i, version))
		}
		applyTxns(t, c, all...)
		closeCatalog(t, c)
	}
	c = open()
	t.Cleanup(func() { closeCatalog(t, c) })
	tables, err := filepath.Glob(filepath.Join(dir, "catalog-1", "*.sst"))
	if err != nil || len(tables) != versions {
		t.Fatalf("tables %v: %v", tables, err)
	}
	return c, tables
}

// offsetOf is where a table holds a row of that version; -1: it does not.
func offsetOf(name string, i, version int) int64 {
	b, _ := os.ReadFile(name) // what is not there holds nothing
	return int64(bytes.Index(b, tableRow(i, version).Txn.Put[0].Value))
}

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}

// flipBit changes a file under those who have it mapped.
func flipBit(t *testing.T, name string, at int64, bit uint) {
	t.Helper()
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	var b [1]byte
	_, err = f.ReadAt(b[:], at)
	b[0] ^= 1 << bit
	if err == nil {
		_, err = f.WriteAt(b[:], at)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}

func fileSize(t *testing.T, name string) int64 {
	t.Helper()
	info, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// answersWrong is the first answer of a catalog that is not what was written; it
// may refuse instead.
func answersWrong(t *testing.T, c *CatalogStore, version int) error {
	t.Helper()
	refusal := func(err error) bool { return errors.Is(err, ErrUnavailable) }
	for i := range tableRows {
		want := tableRow(i, version).Txn.Put[0].Value
		row, err := c.Get(t.Context(), tableKey(i))
		if refusal(err) {
			continue
		}
		if err != nil || !bytes.Equal(row.Value, want) {
			return fmt.Errorf("get %s: %q, %w", tableKey(i), row.Value, err)
		}
	}
	n := 0
	for row, err := range c.Scan(t.Context(), "m1/", "") {
		if refusal(err) {
			n = tableRows
			break
		}
		if err != nil || row.Key != tableKey(n) || !bytes.Equal(row.Value, tableRow(n, version).Txn.Put[0].Value) {
			return fmt.Errorf("scan %q: %q, %w", row.Key, row.Value, err)
		}
		n++
	}
	if n != tableRows {
		return fmt.Errorf("a scan of %d rows", n)
	}
	tally, err := c.Tally(t.Context(), "m1/")
	if !refusal(err) && (err != nil || tally.Rows != tableRows) {
		return fmt.Errorf("tally %+v, %w", tally, err)
	}
	return nil
}

// Goal: a bit that flips in a table of an open catalog makes it refuse, and never
// answer with an older row, or with none: while it is read, counted, snapshotted
// or written. Method: bits at random in what the tables hold before their indexes.
func TestFlippedBitUnderOpenCatalog(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	for range 15 {
		c, tables := catalogOfTables(t, 2)
		name := tables[rnd.IntN(len(tables))]
		// The last block ends before the index, which is a seventh of so small a table.
		size := fileSize(t, name)
		at := rnd.Int64N(size / 2)
		flipBit(t, name, at, uint(rnd.IntN(8)))
		what := fmt.Sprintf("%s, byte %d of %d", filepath.Base(name), at, size)
		if err := answersWrong(t, c, 1); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if err := c.Look(t.Context()); !errors.Is(err, ErrCorrupt) && c.CheckTables() == nil {
			t.Errorf("%s: not found: %v", what, err)
			continue
		}
		if _, err := c.Get(t.Context(), tableKey(0)); !errors.Is(err, ErrUnavailable) {
			t.Errorf("%s: a damaged catalog answers: %v", what, err)
		}
		if _, err := c.Apply([]TxnEntry{tableRow(0, 2)}); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: a damaged catalog is written to: %v", what, err)
		}
		s, err := c.Snapshot()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.WriteTo(&bytes.Buffer{}); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: a snapshot of a damaged catalog: %v", what, err)
		}
		s.Release()
	}
}

// Goal: a transaction whose condition lies in a damaged block decides nothing, as
// the first that touches it.
func TestFlippedBitBeforeCondition(t *testing.T) {
	t.Parallel()
	c, tables := catalogOfTables(t, 1)
	flipBit(t, tables[0], offsetOf(tables[0], 7, 0), 3)
	e := tableRow(7, 1)
	e.Txn.If = []Cond{{Key: tableKey(7), Revision: tableRow(7, 0).Index}}
	if results, err := c.Apply([]TxnEntry{e}); !errors.Is(err, ErrCorrupt) {
		t.Errorf("%v, %v", results, err)
	}
}

// Goal: rows that a compaction left out, because it met a damaged block, are missed
// although every table that is left can be read.
func TestCompactionMeetsFlippedBit(t *testing.T) {
	t.Parallel()
	c, tables := catalogOfTables(t, 3)
	last := tables[len(tables)-1]
	flipBit(t, last, offsetOf(last, 7, 2), 3)
	db := c.current.Load().db
	if err := db.Flatten(1); err != nil {
		t.Fatal(err)
	}
	if exists(last) {
		t.Fatal("not merged")
	}
	if err := checkTables(db); err != nil {
		t.Fatalf("the merge kept a damaged block: %v", err)
	}
	if err := answersWrong(t, c, 2); err != nil {
		t.Error(err)
	}
	if err := c.Look(t.Context()); !errors.Is(err, ErrCorrupt) {
		t.Errorf("what a merge left out is not missed: %v", err)
	}
}

// Goal: a flipped bit in an index, which no read checks, is found by a look at the
// indexes, each bit of it.
func TestFlippedBitInIndex(t *testing.T) {
	t.Parallel()
	c, tables := catalogOfTables(t, 1)
	db := c.current.Load().db
	size := fileSize(t, tables[0])
	for at := size - 60; at < size; at++ {
		flipBit(t, tables[0], at, uint(at%8))
		if err := checkIndexes(db); !errors.Is(err, ErrCorrupt) {
			t.Errorf("byte %d of %d: %v", at, size, err)
		}
		flipBit(t, tables[0], at, uint(at%8))
	}
	if err := checkIndexes(db); err != nil {
		t.Fatal(err)
	}
	flipBit(t, tables[0], size-40, 0)
	if err := c.CheckIndexes(); !errors.Is(err, ErrCorrupt) {
		t.Error(err)
	}
	if _, err := c.Get(t.Context(), tableKey(0)); !errors.Is(err, ErrUnavailable) {
		t.Errorf("a damaged catalog answers: %v", err)
	}
}

// Goal: what is damaged in one database of a process makes the others look, and
// go on.
func TestMismatchElsewhere(t *testing.T) {
	t.Parallel()
	c, _ := catalogOfTables(t, 2)
	errMismatch.seen.Add(1)
	if err := answersWrong(t, c, 1); err != nil {
		t.Error(err)
	}
	if _, err := c.Get(t.Context(), tableKey(0)); err != nil {
		t.Error(err)
	}
	if err := c.Look(t.Context()); err != nil {
		t.Error(err)
	}
	applyTxns(t, c, tableRow(0, 2))
	s := openStoreIn(t, t.TempDir())
	defer func() { _ = s.Close() }()
	errMismatch.seen.Add(1)
	if doubted, err := s.Look(); !doubted || err != nil {
		t.Error(doubted, err)
	}
}
