package blobstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
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
	v, err := openValues(t.TempDir(), 1<<20, new(atomic.Int64), quiet())
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

// Goal: a store of the first format, which had its rows in Badger's own value log, is
// read as it is, also after collections; a release of then refuses it.
func TestFirstFormat(t *testing.T) {
	dir := t.TempDir()
	s := openStoreIn(t, dir)
	const blobs = 5
	for n := range blobs {
		p := randomBytes(uint64(n), ChunkBytesMax)
		mustApply(t, s, putOf(n, p))
		txn := s.db.NewTransactionAt(newest, true)
		row := appendChunk(p)
		mark := oldMark(kindChunk, row[:len(row)-len(p)])
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
	for range 2 {
		s = openStoreIn(t, dir)
		mustCollect(t, s)
		for n := range blobs {
			if !bytes.Equal(readBlob(t, s, numberedID(n)), randomBytes(uint64(n), ChunkBytesMax)) {
				t.Errorf("blob %d has other bytes", n)
			}
		}
		// What is written from now on lies in our own.
		mustApply(t, s, putOf(blobs, randomBytes(blobs, ChunkBytesMax)))
		closeStore(t, s)
	}
	if files := valueFiles(t, dir); len(files) != 1 {
		t.Errorf("files %v", files)
	}
	line, err := os.ReadFile(format)
	if want := fmt.Sprintf("carillon blobs %d\n", BlobsFormat); err != nil || string(line) != want {
		t.Errorf("%q, %v", line, err)
	}
}

// Goal: more files than six digits can name are read at the next start.
func TestMillionthValueFile(t *testing.T) {
	dir := t.TempDir()
	open := func() *valueLog {
		v, err := openValues(dir, 4<<20, new(atomic.Int64), quiet())
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	v := open()
	v.last = 999_999
	if _, _, err := v.append(randomBytes(1, BlockBytes)); err != nil {
		t.Fatal(err)
	}
	v.close()
	v = open()
	defer v.close()
	if err := v.read(1_000_000, 0, make([]byte, BlockBytes)); err != nil {
		t.Errorf("what was written: %v", err)
	}
	if file, _, err := v.append(randomBytes(1, BlockBytes)); err != nil || file != 1_000_001 {
		t.Errorf("the next: %d, %v", file, err)
	}
}

// Goal: a store that cannot be opened leaves no files open.
func TestOpenLeavesNoFiles(t *testing.T) {
	dir := t.TempDir()
	s := openStoreIn(t, dir)
	mustApply(t, s, putOf(1, randomBytes(1, ChunkBytesMax)))
	txn := s.db.NewTransactionAt(newest, true)
	if err := txn.Set(metaKey(numberedID(2)), []byte("none")); err != nil {
		t.Fatal(err)
	}
	if err := s.commit(txn); err != nil {
		t.Fatal(err)
	}
	closeStore(t, s)
	if _, err := OpenStore(StoreConfig{Dir: dir}, quiet()); !errors.Is(err, ErrFormat) {
		t.Fatal(err)
	}
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		name, _ := os.Readlink("/proc/self/fd/" + fd.Name()) // it may be closed by now
		if strings.HasPrefix(name, dir) {
			t.Errorf("%s is open", name)
		}
	}
}
