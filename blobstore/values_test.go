package blobstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/dgraph-io/badger/v4"
	"pgregory.net/rapid"
)

func valueFiles(t *testing.T, dir string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, valuesDir, "*.vlog"))
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func putOf(n int, p []byte) Op {
	return Op{Kind: OpPut, ID: numberedID(n), Data: p, Totals: TotalsOf(p)}
}

// Goal: any part of a blob reads as it was written, wherever it begins and ends,
// also twice, through one reader.
func TestReadParts(t *testing.T) {
	s := testStore(t)
	p := randomBytes(1, 2*ChunkBytesMax+BlockBytes+77)
	mustApply(t, s, Op{Kind: OpBegin, ID: numberedID(1)})
	for off := 0; off < len(p); off += ChunkBytesMax {
		mustApply(t, s, Op{
			Kind: OpAppend, ID: numberedID(1), Offset: int64(off), Data: p[off:min(off+ChunkBytesMax, len(p))],
		})
	}
	mustApply(t, s, Op{Kind: OpSeal, ID: numberedID(1), Totals: TotalsOf(p)})
	v, err := s.View(t.Context(), numberedID(1))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = v.Close() }()
	rapid.Check(t, func(t *rapid.T) {
		off := rapid.IntRange(0, len(p)-1).Draw(t, "offset")
		if rapid.Bool().Draw(t, "at a block") {
			off -= off % BlockBytes
		}
		sizes := rapid.SampledFrom([]int{1, 77, BlockBytes, 4 * BlockBytes, ChunkBytesMax})
		buf := make([]byte, sizes.Draw(t, "size"))
		n, err := v.Read(context.Background(), int64(off), buf)
		if err != nil || n == 0 || !bytes.Equal(buf[:n], p[off:off+n]) {
			t.Errorf("%d bytes at %d: %d, %v", len(buf), off, n, err)
		}
	})
}

// Goal: a file that is gone, cut, or another one under its name is found out by the
// read, and the same bytes again repair it.
func TestLostValueFile(t *testing.T) {
	p, other := randomBytes(1, ChunkBytesMax), randomBytes(2, ChunkBytesMax)
	for name, lose := range map[string]func(file string) error{
		"gone": os.Remove,
		"cut":  func(file string) error { return os.Truncate(file, 100) },
		"zero": func(file string) error { return os.WriteFile(file, make([]byte, 2*ChunkBytesMax), 0o600) },
		"another": func(file string) error {
			return os.WriteFile(file, other, 0o600)
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := openStoreIn(t, dir)
			mustApply(t, s, putOf(1, p))
			closeStore(t, s)
			if err := lose(valueFiles(t, dir)[0]); err != nil {
				t.Fatal(err)
			}
			s = openStoreIn(t, dir)
			defer closeStore(t, s)
			r, err := s.Open(t.Context(), numberedID(1))
			if err != nil {
				t.Fatal(err)
			}
			if n, err := io.Copy(io.Discard, r); !errors.Is(err, ErrCorrupt) || n != 0 {
				t.Errorf("read %d bytes: %v", n, err)
			}
			if err := r.Close(); err != nil {
				t.Error(err)
			}
			bad, err := s.Scrub(t.Context(), numberedID(1), func(context.Context, int) error { return nil })
			if err != nil || len(bad) != 1 {
				t.Errorf("scrub %v: %v", bad, err)
			}
			mustApply(t, s, putOf(1, p))
			if !bytes.Equal(readBlob(t, s, numberedID(1)), p) {
				t.Error("not repaired")
			}
		})
	}
}

// Goal: a file is never appended to by a later start, and one that nothing was
// written to does not stay.
func TestValueFilesOfStarts(t *testing.T) {
	dir := t.TempDir()
	p := randomBytes(1, BlockBytes)
	for n := range 3 {
		s := openStoreIn(t, dir)
		mustApply(t, s, putOf(n, p))
		closeStore(t, s)
	}
	if files := valueFiles(t, dir); len(files) != 3 {
		t.Errorf("files %v", files)
	}
	empty := filepath.Join(dir, valuesDir, "000009.vlog")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s := openStoreIn(t, dir)
	defer closeStore(t, s)
	mustApply(t, s, putOf(9, p))
	if files := valueFiles(t, dir); len(files) != 4 || exists(empty) {
		t.Errorf("files %v", files)
	}
	for _, n := range []int{0, 1, 2, 9} {
		if !bytes.Equal(readBlob(t, s, numberedID(n)), p) {
			t.Errorf("blob %d has other bytes", n)
		}
	}
}

// Goal: after a sync that failed nothing is taken as durable, nor taken at all.
func TestValueLogAfterFailedSync(t *testing.T) {
	v, err := openValues(t.TempDir(), 1<<20, quiet())
	if err != nil {
		t.Fatal(err)
	}
	defer v.close()
	if _, _, err := v.append([]byte("before")); err != nil {
		t.Fatal(err)
	}
	if err := v.active.file.Close(); err != nil { // no disk fails on demand
		t.Fatal(err)
	}
	if err := v.sync(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("sync: %v", err)
	}
	if v.active.file, err = os.OpenFile(v.path(1), os.O_RDWR, 0); err != nil {
		t.Fatal(err)
	}
	if err := v.sync(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("the next sync: %v", err)
	}
	if _, _, err := v.append([]byte("after")); !errors.Is(err, os.ErrClosed) {
		t.Errorf("append: %v", err)
	}
}

// Goal: the small files of many starts become few.
func TestCollectSmallFiles(t *testing.T) {
	dir := t.TempDir()
	p := randomBytes(1, BlockBytes)
	const starts = gcSmallFiles + 3
	for n := range starts {
		s := openStoreIn(t, dir)
		mustApply(t, s, putOf(n, p))
		closeStore(t, s)
	}
	s := openStoreIn(t, dir)
	defer closeStore(t, s)
	if err := s.RunGC(t.Context()); err != nil {
		t.Fatal(err)
	}
	if files := valueFiles(t, dir); len(files) != 1 {
		t.Errorf("files %v", files)
	}
	for n := range starts {
		if !bytes.Equal(readBlob(t, s, numberedID(n)), p) {
			t.Errorf("blob %d has other bytes", n)
		}
	}
}

// Goal: collections in the midst of writes, removals and reads take nothing away.
func TestCollectBesideTraffic(t *testing.T) {
	s := testStore(t) // of files of 4 MiB
	const writers, rounds = 4, 60
	content := func(w, n int) []byte { return randomBytes(uint64(w*rounds+n), ChunkBytesMax-n) }
	id := func(w, n int) int { return w*rounds + n }
	var wg sync.WaitGroup
	var running atomic.Int64
	running.Store(writers)
	for w := range writers {
		wg.Go(func() {
			defer running.Add(-1)
			for n := range rounds {
				if err := s.Apply([]Op{putOf(id(w, n), content(w, n))})[0]; err != nil {
					t.Error(err)
				}
				if n%4 != 0 {
					if err := s.Apply([]Op{{Kind: OpRemove, ID: numberedID(id(w, n))}})[0]; err != nil {
						t.Error(err)
					}
				}
				if !bytes.Equal(readBlob(t, s, numberedID(id(w, n-n%4))), content(w, n-n%4)) {
					t.Errorf("blob %d of %d has other bytes", n-n%4, w)
				}
			}
		})
	}
	for running.Load() > 0 {
		s.garbage.Add(s.cfg.ValueLogFileBytes)
		if err := s.RunGC(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	wg.Wait()
	s.garbage.Add(s.cfg.ValueLogFileBytes)
	if err := s.RunGC(t.Context()); err != nil {
		t.Fatal(err)
	}
	// A quarter lives, in files that are at most half garbage, and the newest.
	if most := int64(writers*rounds/4*ChunkBytesMax*2) + s.cfg.ValueLogFileBytes; s.values.bytes() > most {
		t.Errorf("%d bytes are left, want %d at most", s.values.bytes(), most)
	}
	for w := range writers {
		for n := 0; n < rounds; n += 4 {
			if !bytes.Equal(readBlob(t, s, numberedID(id(w, n))), content(w, n)) {
				t.Errorf("after all, blob %d of %d has other bytes", n, w)
			}
		}
	}
}

// Goal: a file of more rows than are moved at a time is removed when all of them are.
func TestCollectInParts(t *testing.T) {
	dir := t.TempDir()
	s := openStoreIn(t, dir)
	defer closeStore(t, s)
	s.collect.rowsMax = 3
	const blobs = 120
	content := func(n int) []byte { return randomBytes(uint64(n), 2*BlockBytes+n) }
	for n := range blobs {
		mustApply(t, s, putOf(n, content(n)))
	}
	for n := range blobs {
		if n%4 != 0 {
			mustApply(t, s, Op{Kind: OpRemove, ID: numberedID(n)})
		}
	}
	for n := range 32 { // fill it up, so that the first is finished
		mustApply(t, s, putOf(blobs+n, randomBytes(1, ChunkBytesMax)))
	}
	if err := s.RunGC(t.Context()); err != nil {
		t.Fatal(err)
	}
	if exists(filepath.Join(dir, valuesDir, "000001.vlog")) {
		t.Error("not collected")
	}
	for n := 0; n < blobs; n += 4 {
		if !bytes.Equal(readBlob(t, s, numberedID(n)), content(n)) {
			t.Errorf("blob %d has other bytes", n)
		}
	}
}

// Goal: another row where one should be is none, also after its file was collected:
// the new place does not vouch for it.
func TestCollectDamagedRow(t *testing.T) {
	dir := t.TempDir()
	s := openStoreIn(t, dir)
	for n := range 20 {
		mustApply(t, s, putOf(n, randomBytes(uint64(n), ChunkBytesMax)))
	}
	for n := range 19 {
		mustApply(t, s, Op{Kind: OpRemove, ID: numberedID(n + 1)})
	}
	// The first file begins with the row of blob 0.
	f, err := os.OpenFile(valueFiles(t, dir)[0], os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt(randomBytes(99, ChunkBytesMax), 0)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	if err := s.RunGC(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer closeStore(t, s)
	if first := filepath.Join(dir, valuesDir, "000001.vlog"); exists(first) {
		t.Error("not collected")
	}
	if c := s.CheckReplica(t.Context(), numberedID(0)); c.State != ReplicaCorrupt {
		t.Errorf("%+v", c)
	}
	if r, err := s.Open(t.Context(), numberedID(0)); err != nil {
		t.Error(err)
	} else if _, err := io.Copy(io.Discard, r); !errors.Is(err, ErrCorrupt) || r.Close() != nil {
		t.Errorf("another blob's bytes: %v", err)
	}
}

// Goal: while a table is doubted nothing is collected: what it does not name any more
// may live.
func TestCollectNothingInDoubt(t *testing.T) {
	dir := t.TempDir()
	s := openStoreIn(t, dir)
	defer closeStore(t, s)
	for n := range 40 {
		mustApply(t, s, putOf(n, randomBytes(uint64(n), ChunkBytesMax)))
	}
	for n := range 40 {
		mustApply(t, s, Op{Kind: OpRemove, ID: numberedID(n)})
	}
	before := len(valueFiles(t, dir))
	errMismatch.seen.Add(1)
	if err := s.RunGC(t.Context()); !errors.Is(err, errDoubted) || len(valueFiles(t, dir)) != before {
		t.Errorf("%v, %d of %d files", err, len(valueFiles(t, dir)), before)
	}
	if _, err := s.Look(); err != nil {
		t.Fatal(err)
	}
	if err := s.RunGC(t.Context()); err != nil || len(valueFiles(t, dir)) >= before {
		t.Errorf("%v, %d of %d files", err, len(valueFiles(t, dir)), before)
	}
}

// Goal: a store of the first format, which had its rows in Badger's own value log, is
// read as it is, and its rows move over; a release of then refuses it.
func TestFirstFormat(t *testing.T) {
	dir := t.TempDir()
	s := openStoreIn(t, dir)
	const blobs = 5
	for n := range blobs {
		p := randomBytes(uint64(n), ChunkBytesMax)
		mustApply(t, s, putOf(n, p))
		txn := s.db.NewTransactionAt(newest, true)
		row := appendChunk(p)
		mark := chunkMark(row[:len(row)-len(p)])
		entry := badger.NewEntry(chunkKey(numberedID(n), 0), row).WithMeta(mark)
		if err := txn.SetEntry(entry); err != nil {
			t.Fatal(err)
		}
		if err := s.commit(txn); err != nil {
			t.Fatal(err)
		}
	}
	closeStore(t, s)
	if err := os.RemoveAll(filepath.Join(dir, valuesDir)); err != nil {
		t.Fatal(err)
	}
	format := filepath.Join(dir, formatFile)
	if err := os.WriteFile(format, []byte("carillon blobs 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	check := func(what string) {
		for n := range blobs {
			if !bytes.Equal(readBlob(t, s, numberedID(n)), randomBytes(uint64(n), ChunkBytesMax)) {
				t.Errorf("%s, blob %d has other bytes", what, n)
			}
		}
	}
	s = openStoreIn(t, dir)
	check("as it was")
	if err := s.RunGC(t.Context()); err != nil {
		t.Fatal(err)
	}
	check("moved")
	use, err := s.countRows(t.Context())
	if err != nil || use[0].rows != 0 || len(valueFiles(t, dir)) != 1 {
		t.Errorf("rows %v in %v: %v", use, valueFiles(t, dir), err)
	}
	closeStore(t, s)
	s = openStoreIn(t, dir)
	defer closeStore(t, s)
	check("after another start")
	line, err := os.ReadFile(format)
	if want := fmt.Sprintf("carillon blobs %d\n", BlobsFormat); err != nil || string(line) != want {
		t.Errorf("%q, %v", line, err)
	}
}
