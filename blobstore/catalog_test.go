package blobstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func openCatalogIn(tb fataler, dir string) *CatalogStore {
	c, err := OpenCatalog(CatalogConfig{Dir: dir, MemtableBytes: 4 << 20}, quiet())
	if err != nil {
		tb.Fatalf("open catalog: %v", err)
	}
	return c
}

func closeCatalog(tb fataler, c *CatalogStore) {
	if err := c.Close(); err != nil {
		tb.Fatalf("close catalog: %v", err)
	}
}

func mustDigest(tb fataler, c *CatalogStore) Digest {
	d, err := c.Digest()
	if err != nil {
		tb.Fatalf("digest: %v", err)
	}
	return d
}

func applyTxns(tb fataler, c *CatalogStore, entries ...TxnEntry) []TxnResult {
	results, err := c.Apply(entries)
	if err != nil {
		tb.Fatalf("apply: %v", err)
	}
	return results
}

func txnID(n int) [16]byte { return [16]byte(numberedID(n)) }

func putEntry(index uint64, id int, key, value string, conds ...Cond) TxnEntry {
	e := TxnEntry{Index: index, Txn: Txn{If: conds, Put: []Row{{Key: key, Value: []byte(value)}}}}
	if id > 0 {
		e.ID = txnID(id)
	}
	return e
}

// A later entry of a batch sees the earlier ones; a failed one leaves nothing.
func TestCatalogBatch(t *testing.T) {
	c := openCatalogIn(t, t.TempDir())
	defer closeCatalog(t, c)
	results := applyTxns(t, c,
		putEntry(5, 0, "a", "1", Cond{Key: "a"}),
		putEntry(6, 0, "a", "2", Cond{Key: "a"}),
		putEntry(7, 0, "a", "3", Cond{Key: "a", Revision: 5}),
		TxnEntry{Index: 8, Txn: Txn{Put: []Row{{Key: ""}}}},
		TxnEntry{Index: 9, Txn: Txn{If: []Cond{{"a", 7}}, Delete: []string{"a"}}},
		putEntry(10, 0, "a", "4", Cond{Key: "a"}),
	)
	for i, want := range []error{nil, ErrConflict, nil, ErrTooLarge, nil, nil} {
		if r := results[i]; r.Index != uint64(5+i) || !errors.Is(r.Err, want) {
			t.Errorf("entry %d: %v, want %v", i, r, want)
		}
	}
	row, err := c.Get(context.Background(), "a")
	if err != nil || string(row.Value) != "4" || row.Revision != 10 || c.Applied() != 10 {
		t.Errorf("row %+v, %v, applied %d", row, err, c.Applied())
	}
}

// An entry is applied once: not again at its index, and not under a second
// index with the same id, also after a start and in a restored copy.
func TestCatalogAppliesOnce(t *testing.T) {
	dir := t.TempDir()
	c := openCatalogIn(t, dir)
	applyTxns(t, c, putEntry(1, 1, "a", "1", Cond{Key: "a"}), putEntry(2, 2, "a", "x", Cond{Key: "a"}))
	check := func(c *CatalogStore) {
		t.Helper()
		before := mustDigest(t, c)
		next := c.Applied() + 1
		results := applyTxns(t, c,
			putEntry(1, 1, "a", "1", Cond{Key: "a"}), // replay
			putEntry(next, 1, "a", "1", Cond{Key: "a"}),
			putEntry(next+1, 2, "a", "x", Cond{Key: "a"}),
			putEntry(next+1, 0, "a", "y"), // an index that was applied
		)
		for i, want := range []TxnResult{{1, nil}, {1, nil}, {2, ErrConflict}, {next + 1, nil}} {
			if r := results[i]; r.Index != want.Index || !errors.Is(r.Err, want.Err) {
				t.Errorf("entry %d again: %v, want %v", i, r, want)
			}
		}
		if mustDigest(t, c) != before {
			t.Error("repeated entries changed the catalog")
		}
	}
	check(c)
	closeCatalog(t, c)
	c = openCatalogIn(t, dir)
	check(c)
	other := openCatalogIn(t, t.TempDir())
	restore(t, other, snapshotOf(t, c))
	check(other)
	closeCatalog(t, c)
	closeCatalog(t, other)
}

// Outcomes are forgotten in order, the same on every node.
func TestCatalogForgetsOldOutcomes(t *testing.T) {
	c := openCatalogIn(t, t.TempDir())
	defer closeCatalog(t, c)
	n := 0
	for n < outcomesMax+10 {
		var entries []TxnEntry
		for range 1000 {
			n++
			entries = append(entries, putEntry(uint64(n), n, "k", "v"))
		}
		applyTxns(t, c, entries...)
	}
	next, oldest := uint64(n+1), n-outcomesMax+1
	again := applyTxns(t, c, putEntry(next, oldest, "k", "v"), putEntry(next+1, oldest-1, "k", "v"))
	if got := again[0].Index; got != uint64(oldest) {
		t.Errorf("the oldest outcome is of %d, want %d", got, oldest)
	}
	if got := again[1].Index; got != next+1 {
		t.Errorf("an outcome beyond the limit is remembered: %d", got)
	}
	if len(c.known) != outcomesMax {
		t.Errorf("%d outcomes are known", len(c.known))
	}
}

func snapshotOf(tb fataler, c *CatalogStore) []byte {
	s, err := c.Snapshot()
	if err != nil {
		tb.Fatalf("snapshot: %v", err)
	}
	defer s.Release()
	var b bytes.Buffer
	n, err := s.WriteTo(&b)
	if err != nil || n != int64(b.Len()) {
		tb.Fatalf("write snapshot: %d of %d bytes, %v", n, b.Len(), err)
	}
	return b.Bytes()
}

func restore(tb fataler, c *CatalogStore, snapshot []byte) {
	if err := c.Restore(bytes.NewReader(snapshot)); err != nil {
		tb.Fatalf("restore: %v", err)
	}
}

func filledCatalog(tb fataler, dir string, rows int, value string) *CatalogStore {
	c := openCatalogIn(tb, dir)
	entries := make([]TxnEntry, rows)
	for i := range entries {
		entries[i] = putEntry(uint64(i+1), i+1, fmt.Sprintf("%s/%05d", value, i), value)
	}
	applyTxns(tb, c, entries...)
	return c
}

// A restored catalog is the original, and the old rows are gone; a view taken
// before stays what it was.
func TestCatalogRestore(t *testing.T) {
	src := filledCatalog(t, t.TempDir(), 3000, "new")
	dir := t.TempDir()
	dst := filledCatalog(t, dir, 100, "old")
	view, err := dst.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	changed, cancel := dst.Watch("old/00001")
	defer cancel()
	snapshot := snapshotOf(t, src)
	restore(t, dst, snapshot)
	select {
	case <-changed:
	default:
		t.Error("a watch did not fire")
	}
	if mustDigest(t, src) != mustDigest(t, dst) || dst.Applied() != src.Applied() {
		t.Errorf("restored catalog differs, applied %d and %d", dst.Applied(), src.Applied())
	}
	rows := 0
	if err := view.each(func(key, _ []byte) error {
		if key[1] == kindRow {
			rows++
		}
		return nil
	}); err != nil || rows != 100 {
		t.Errorf("the old view has %d rows, %v", rows, err)
	}
	view.Release()
	view.Release()
	applyTxns(t, dst, putEntry(4000, 0, "more", "1"))
	closeCatalog(t, dst)
	dst = openCatalogIn(t, dir)
	if _, err := dst.Get(context.Background(), "more"); err != nil || dst.Applied() != 4000 {
		t.Errorf("after a start: %v, applied %d", err, dst.Applied())
	}
	if names, err := filepath.Glob(filepath.Join(dir, generationPrefix+"*")); err != nil || len(names) != 1 {
		t.Errorf("directories left: %v, %v", names, err)
	}
	restore(t, dst, snapshot)
	if mustDigest(t, src) != mustDigest(t, dst) {
		t.Error("restored again, catalog differs")
	}
	closeCatalog(t, dst)
	closeCatalog(t, src)
}

// A snapshot that is cut short or has any byte changed leaves the catalog as
// it was.
func TestCatalogRestoreRefusesDamage(t *testing.T) {
	src := filledCatalog(t, t.TempDir(), 20, "new")
	good := snapshotOf(t, src)
	closeCatalog(t, src)
	dst := filledCatalog(t, t.TempDir(), 5, "old")
	defer closeCatalog(t, dst)
	before := mustDigest(t, dst)
	refuse := func(what string, p []byte) {
		t.Helper()
		err := dst.Restore(bytes.NewReader(p))
		if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v", what, err)
		}
		if mustDigest(t, dst) != before {
			t.Fatalf("%s changed the catalog", what)
		}
	}
	for i := 0; i < len(good); i += 97 {
		bad := bytes.Clone(good)
		bad[i] ^= 0x10
		refuse(fmt.Sprintf("byte %d of %d", i, len(good)), bad)
		refuse(fmt.Sprintf("cut at %d", i), good[:i])
	}
	refuse("last byte missing", good[:len(good)-1])
}

// Whatever a crash leaves of a Restore, the next start has the old catalog or
// the new one, and clears the rest away.
func TestCatalogRestoreCrash(t *testing.T) {
	src := filledCatalog(t, t.TempDir(), 50, "new")
	snapshot, newDigest := snapshotOf(t, src), mustDigest(t, src)
	closeCatalog(t, src)
	crash := func(name string, half func(c *CatalogStore) error, want func(before Digest) Digest) {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			c := filledCatalog(t, dir, 10, "old")
			before := mustDigest(t, c)
			if err := half(c); err != nil {
				t.Fatal(err)
			}
			left := filepath.Join(t.TempDir(), "left")
			copyTree(t, dir, left)
			closeCatalog(t, c)
			c = openCatalogIn(t, left)
			defer closeCatalog(t, c)
			if mustDigest(t, c) != want(before) {
				t.Error("neither the old catalog nor the new one")
			}
			restore(t, c, snapshot)
			if mustDigest(t, c) != newDigest {
				t.Error("restored again, catalog differs")
			}
		})
	}
	old := func(before Digest) Digest { return before }
	next := generationPrefix + "2"
	crash("building", func(c *CatalogStore) error {
		err := c.build(next, bytes.NewReader(snapshot[:len(snapshot)/2]))
		if !errors.Is(err, ErrCorrupt) {
			return err
		}
		return nil
	}, old)
	crash("built", func(c *CatalogStore) error { return c.build(next, bytes.NewReader(snapshot)) }, old)
	crash("before the rename", func(c *CatalogStore) error {
		tmp := filepath.Join(c.cfg.Dir, currentFile+".tmp")
		return errors.Join(c.build(next, bytes.NewReader(snapshot)), os.WriteFile(tmp, []byte("cat"), 0o600))
	}, old)
	crash("switched", func(c *CatalogStore) error {
		return errors.Join(c.build(next, bytes.NewReader(snapshot)), c.setCurrent(next))
	}, func(Digest) Digest { return newDigest })
}

// Noop moves the applied index and wakes those who wait for it; the index is
// written down with the next transaction.
func TestCatalogNoopAndWait(t *testing.T) {
	c := openCatalogIn(t, t.TempDir())
	defer closeCatalog(t, c)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	waited := make(chan error, 1)
	go func() { waited <- c.WaitApplied(ctx, 3) }()
	c.Noop(2)
	c.Noop(3)
	c.Noop(1)
	if err := <-waited; err != nil || c.Applied() != 3 {
		t.Errorf("waited: %v, applied %d", err, c.Applied())
	}
	ended, end := context.WithCancel(ctx)
	end()
	if err := c.WaitApplied(ended, 4); !errors.Is(err, context.Canceled) {
		t.Errorf("wait with an ended context: %v", err)
	}
	if snapshot := snapshotOf(t, c); snapshot[len(snapshotMagic)+2] != 3 {
		t.Error("a snapshot does not carry the index of a noop")
	}
}

// Calls after Close say so, and Close lets those inside finish.
func TestCatalogClosed(t *testing.T) {
	c := filledCatalog(t, t.TempDir(), 10, "v")
	seen := 0
	closed := make(chan error, 1)
	for _, err := range c.Scan(context.Background(), "", "") {
		if err != nil {
			t.Fatal(err)
		}
		if seen == 0 {
			go func() { closed <- c.Close() }()
			if err := c.WaitApplied(context.Background(), 99); !errors.Is(err, ErrClosed) {
				t.Errorf("wait: %v", err)
			}
			// Must not wait for the loop that it is called in.
			if _, err := c.Apply([]TxnEntry{putEntry(99, 0, "k", "v")}); !errors.Is(err, ErrClosed) {
				t.Errorf("apply: %v", err)
			}
		}
		seen++
	}
	if err := <-closed; err != nil || seen != 10 {
		t.Errorf("close: %v after %d rows", err, seen)
	}
	if _, err := c.Get(context.Background(), "v/00000"); !errors.Is(err, ErrClosed) {
		t.Errorf("get: %v", err)
	}
	if err := c.Restore(bytes.NewReader(nil)); !errors.Is(err, ErrClosed) {
		t.Errorf("restore: %v", err)
	}
	if err := c.Close(); err != nil {
		t.Errorf("close again: %v", err)
	}
}

// Nodes that apply the same entries in other batches, one of them with starts
// and a restore in between, have the same rows, outcomes and digest.
func TestCatalogReplicasAgree(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		root, err := os.MkdirTemp("", "catalog") //nolint:usetesting // one for each check, and gone with it
		if err != nil {
			t.Fatalf("%v", err)
		}
		defer func() { _ = os.RemoveAll(root) }()
		a := openCatalogIn(t, filepath.Join(root, "a"))
		b := openCatalogIn(t, filepath.Join(root, "b"))
		model := make(map[string]Row)
		var entries []TxnEntry
		for i := range rapid.IntRange(1, 40).Draw(t, "entries") {
			entries = append(entries, genEntry(t, uint64(i+1)))
		}
		outcomes := make(map[[16]byte]error)
		for i, r := range applyTxns(t, a, entries...) {
			if want := applyModel(model, outcomes, entries[i]); !errors.Is(r.Err, want) {
				t.Fatalf("entry %d: %v, want %v", i, r, want)
			}
		}
		for rest := entries; len(rest) > 0; {
			n := rapid.IntRange(1, len(rest)).Draw(t, "batch")
			applyTxns(t, b, rest[:n]...)
			rest = rest[n:]
			switch rapid.IntRange(0, 4).Draw(t, "event") {
			case 0:
				closeCatalog(t, b)
				b = openCatalogIn(t, filepath.Join(root, "b"))
			case 1:
				restore(t, b, snapshotOf(t, b))
			case 2:
				applyTxns(t, b, entries[:len(entries)-len(rest)]...) // all again
			}
		}
		same := mustDigest(t, a) == mustDigest(t, b)
		applyTxns(t, b, entries...) // a start may forget the index of entries that changed nothing
		if !same || mustDigest(t, a) != mustDigest(t, b) || a.Applied() != b.Applied() {
			t.Fatalf("replicas differ, applied %d and %d", a.Applied(), b.Applied())
		}
		n := 0
		for row, err := range b.Scan(context.Background(), "", "") {
			want, ok := model[row.Key]
			if err != nil || !ok || !bytes.Equal(row.Value, want.Value) ||
				row.Revision != want.Revision || row.Weight != want.Weight {
				t.Fatalf("row %+v, %v; want %+v", row, err, want)
			}
			n++
		}
		if n != len(model) {
			t.Fatalf("%d rows, want %d", n, len(model))
		}
		checkTallies(t, a, model)
		checkTallies(t, b, model)
		closeCatalog(t, a)
		closeCatalog(t, b)
	})
}

func genEntry(t *rapid.T, index uint64) TxnEntry {
	key := rapid.SampledFrom([]string{"a", "b", "c/1", "c/2"})
	e := TxnEntry{Index: index}
	if n := rapid.IntRange(0, 9).Draw(t, "id"); n > 0 {
		e.ID = txnID(n) // some are retries
	}
	for range rapid.IntRange(0, 2).Draw(t, "conditions") {
		rev := uint64(rapid.IntRange(0, int(index)).Draw(t, "revision"))
		e.Txn.If = append(e.Txn.If, Cond{key.Draw(t, "if"), rev})
	}
	for range rapid.IntRange(0, 2).Draw(t, "puts") {
		value := rapid.SliceOfN(rapid.Byte(), 0, 9).Draw(t, "v")
		weight := rapid.Uint64Range(0, 99).Draw(t, "weight")
		e.Txn.Put = append(e.Txn.Put, Row{Key: key.Draw(t, "put"), Value: value, Weight: weight})
	}
	for range rapid.IntRange(0, 2).Draw(t, "appends") {
		e.Txn.Append = append(e.Txn.Append, Row{Key: "s/", Value: []byte{byte(index)}})
	}
	for range rapid.IntRange(0, 1).Draw(t, "deletes") {
		e.Txn.Delete = append(e.Txn.Delete, key.Draw(t, "delete"))
	}
	return e
}

func applyModel(rows map[string]Row, outcomes map[[16]byte]error, e TxnEntry) error {
	if e.ID != ([16]byte{}) {
		if err, ok := outcomes[e.ID]; ok {
			return err
		}
	}
	err := func() error {
		for _, c := range e.Txn.If {
			if rows[c.Key].Revision != c.Revision {
				return ErrConflict
			}
		}
		for _, r := range e.Txn.Put {
			rows[r.Key] = Row{r.Key, r.Value, e.Index, r.Weight}
		}
		for i, r := range e.Txn.Append {
			key := AppendedKey(r.Key, e.Index, i)
			rows[key] = Row{key, r.Value, e.Index, r.Weight}
		}
		for _, k := range e.Txn.Delete {
			delete(rows, k)
		}
		return nil
	}()
	outcomes[e.ID] = err
	return err
}

// TestCatalogTrust opens a catalog that was not closed: at the same boot it is
// used as it is, unless it was writing a table, at another one it starts empty, and
// after an orderly close any boot uses it.
func TestCatalogTrust(t *testing.T) {
	for _, c := range []struct {
		name    string
		orderly bool
		logs    int
		boot    string
		want    uint64
	}{
		{"process died", false, 1, "boot 1", 7},
		{"process died in a flush", false, 2, "boot 1", 0},
		{"power cut", false, 1, "boot 2", 0},
		{"closed in order", true, 0, "boot 2", 7},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			cfg := CatalogConfig{Dir: dir, Replayed: true, BootID: "boot 1"}
			first, err := OpenCatalog(cfg, quiet())
			if err != nil {
				t.Fatal(err)
			}
			txn := Txn{Put: []Row{{Key: "k", Value: []byte("v")}}}
			if _, err := first.Apply([]TxnEntry{{Index: 7, Txn: txn}}); err != nil {
				t.Fatal(err)
			}
			mark, err := os.ReadFile(filepath.Join(dir, openFile))
			if err != nil {
				t.Fatal(err)
			}
			if err := first.Close(); err != nil {
				t.Fatal(err)
			}
			if _, err := os.Stat(filepath.Join(dir, openFile)); !errors.Is(err, os.ErrNotExist) {
				t.Fatalf("mark after an orderly close: %v", err)
			}
			if !c.orderly {
				if err := os.WriteFile(filepath.Join(dir, openFile), mark, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			for n := range c.logs { // what a process that dies leaves of them is not empty
				name := filepath.Join(dir, generationPrefix+"1", fmt.Sprintf("%05d.mem", n+1))
				if err := os.WriteFile(name, make([]byte, 100), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			cfg.BootID = c.boot
			second, err := OpenCatalog(cfg, quiet())
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := second.Close(); err != nil {
					t.Error(err)
				}
			}()
			if got := second.Applied(); got != c.want {
				t.Errorf("applied %d, want %d", got, c.want)
			}
			if _, err := second.Get(t.Context(), "k"); (err == nil) != (c.want > 0) {
				t.Errorf("row: %v", err)
			}
		})
	}
}
