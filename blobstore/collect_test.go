package blobstore

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
)

// fill stores n blobs, numbered from 0.
func fill(t *testing.T, s *Store, n int, content func(n int) []byte) {
	t.Helper()
	for i := range n {
		mustApply(t, s, putOf(i, content(i)))
	}
}

// thin removes those of n blobs that are not multiples of keep.
func thin(t *testing.T, s *Store, n, keep int) {
	t.Helper()
	for i := range n {
		if i%keep != 0 {
			mustApply(t, s, Op{Kind: OpRemove, ID: numberedID(i)})
		}
	}
}

// intact compares those that thin leaves.
func intact(t *testing.T, s *Store, n, keep int, content func(n int) []byte) {
	t.Helper()
	for i := 0; i < n; i += keep {
		if !bytes.Equal(readBlob(t, s, numberedID(i)), content(i)) {
			t.Errorf("blob %d has other bytes", i)
		}
	}
}

// wholeChunk is a chunk of bytes of its own for each number.
func wholeChunk(n int) []byte { return randomBytes(uint64(n), ChunkBytesMax) }

// mustCollect collects, in a test that is not parallel: damage in any database of the
// process keeps all of them from it until they have looked, and others' tests make some.
func mustCollect(t *testing.T, s *Store) {
	t.Helper()
	t.Setenv("CARILLON_COLLECTS", "alone") // ends a test that is parallel
	if err := s.RunGC(t.Context()); err != nil {
		t.Fatal(err)
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
	mustCollect(t, s)
	if files := valueFiles(t, dir); len(files) != 1 {
		t.Errorf("files %v", files)
	}
	intact(t, s, starts, 1, func(int) []byte { return p })
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
		mustCollect(t, s)
	}
	wg.Wait()
	s.garbage.Add(s.cfg.ValueLogFileBytes)
	mustCollect(t, s)
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
	fill(t, s, blobs, content)
	thin(t, s, blobs, 4)
	for n := range 32 { // fill it up, so that the first is finished
		mustApply(t, s, putOf(blobs+n, randomBytes(1, ChunkBytesMax)))
	}
	mustCollect(t, s)
	if exists(filepath.Join(dir, valuesDir, "000001.vlog")) {
		t.Error("not collected")
	}
	intact(t, s, blobs, 4, content)
}

// watched is a context that looks at something whenever it is asked.
type watched struct {
	context.Context

	look func()
}

func (w watched) Err() error {
	w.look()
	return w.Context.Err()
}

// Goal: a collection frees as it goes: it does not need room for all that it moves.
func TestCollectNeedsLittleRoom(t *testing.T) {
	s := testStore(t) // of files of 4 MiB
	const blobs = 256 // 16 files
	fill(t, s, blobs, wholeChunk)
	thin(t, s, blobs, 4)
	before := s.values.bytes()
	most := before
	ctx := watched{t.Context(), func() { most = max(most, s.values.bytes()) }}
	if err := s.RunGC(ctx); err != nil {
		t.Fatal(err)
	}
	if moved := int64(blobs / 4 * ChunkBytesMax); most > before+moved/4 || s.values.bytes() > before/2 {
		t.Errorf("%d bytes, at most %d while %d were moved, then %d", before, most, moved, s.values.bytes())
	}
	intact(t, s, blobs, 4, wholeChunk)
}

// Goal: another row where one should be is none, also after its file was collected:
// the new place does not vouch for it.
func TestCollectDamagedRow(t *testing.T) {
	dir := t.TempDir()
	s := openStoreIn(t, dir)
	const blobs = 20
	fill(t, s, blobs, wholeChunk)
	thin(t, s, blobs, blobs)
	// The first file begins with the row of blob 0.
	f, err := os.OpenFile(valueFiles(t, dir)[0], os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt(randomBytes(99, ChunkBytesMax), 0)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	mustCollect(t, s)
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
	const blobs = 40
	fill(t, s, blobs, wholeChunk)
	thin(t, s, blobs, blobs)
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

// Goal: a power cut in the midst of a collection, which keeps of the tree all and of
// the value log what was synced, takes nothing away.
func TestCollectPowerCut(t *testing.T) {
	dir, cut := t.TempDir(), filepath.Join(t.TempDir(), "cut")
	s := openStoreIn(t, dir)
	const blobs = 40
	fill(t, s, blobs, wholeChunk)
	thin(t, s, blobs, 8)
	if err := s.Sync(); err != nil { // and the raft log is cut
		t.Fatal(err)
	}
	rows, _, err := s.livingRows(t.Context(), []uint32{1})
	if err != nil || len(rows[1]) == 0 {
		t.Fatalf("rows %v: %v", rows, err)
	}
	copies, err := s.copyRows(t.Context(), rows[1])
	if err != nil {
		t.Fatal(err)
	}
	unsynced := func() (names []string) {
		for number, f := range s.values.files {
			if f.written.Load() != f.synced.Load() {
				names = append(names, s.values.name(number))
			}
		}
		return names
	}
	for i, row := range rows[1] {
		if err := s.movePlace(row, copies[i]); err != nil {
			t.Fatal(err)
		}
	}
	copyTree(t, dir, cut)
	for _, name := range unsynced() {
		if err := os.Remove(filepath.Join(cut, valuesDir, name)); err != nil {
			t.Fatal(err)
		}
	}
	closeStore(t, s)
	s = openStoreIn(t, cut)
	defer closeStore(t, s)
	intact(t, s, blobs, 8, wholeChunk)
}

// Goal: a flipped bit in the number of entries of a table's block, which Badger
// believes before it checks the block, ends a collection and nothing else.
func TestCollectOverDamagedTable(t *testing.T) {
	dir := t.TempDir()
	s := openStoreIn(t, dir)
	fill(t, s, 2000, func(n int) []byte { return randomBytes(uint64(n), storeValueThreshold) })
	closeStore(t, s)
	s, err := OpenStore(StoreConfig{Dir: dir, still: true}, quiet())
	if err != nil {
		t.Fatal(err)
	}
	defer closeStore(t, s)
	table := firstTable(t, dir)
	flipBit(t, table, entryCount(t, table), 6)
	if err := s.RunGC(t.Context()); !errors.Is(err, ErrCorrupt) && !errors.Is(err, errDoubted) {
		t.Errorf("%v", err)
	}
}

func firstTable(t *testing.T, dir string) string {
	t.Helper()
	tables, err := filepath.Glob(filepath.Join(dir, "*.sst"))
	if err != nil || len(tables) == 0 {
		t.Fatal(tables, err)
	}
	return tables[0]
}

// entryCount is where the first block of a table that can be found says how many
// entries it has: their offsets, the count, a checksum and its length end a block, all
// in big endian but the offsets.
func entryCount(t *testing.T, table string) int64 {
	t.Helper()
	b, err := os.ReadFile(table)
	if err != nil {
		t.Fatal(err)
	}
	for i := 64; i+4 < len(b); i++ {
		sum := int(binary.BigEndian.Uint32(b[i:]))
		if sum < 6 || sum > 14 {
			continue
		}
		at := i - sum - 4
		n := int(binary.BigEndian.Uint32(b[at:]))
		first := at - 4*n
		if n >= 2 && n <= 500 && first >= 0 && binary.LittleEndian.Uint32(b[first:]) == 0 &&
			binary.LittleEndian.Uint32(b[first+4:]) != 0 {
			return int64(at)
		}
	}
	t.Fatal("no block found")
	return 0
}

// Goal: pieces that were merged are garbage, which is looked for.
func TestCollectMergedPieces(t *testing.T) {
	s := testStore(t) // of files of 4 MiB
	mustCollect(t, s) // the first of a start always looks
	const size = 24 << 20
	mustApply(t, s, Op{Kind: OpBegin, ID: numberedID(1), Spec: Spec{Live: true}})
	p := randomBytes(1, LivePieceBytesMax)
	for off := int64(0); off < size; off += int64(len(p)) {
		mustApply(t, s, Op{Kind: OpAppend, ID: numberedID(1), Offset: off, Data: p})
	}
	eventually(t, "all is merged", func() bool {
		return s.merger.backlog() == 0 && s.Sync() == nil && s.rowsOf(t, kindPiece, numberedID(1)) == 0
	})
	mustCollect(t, s)
	if most := int64(size*3/2) + s.cfg.ValueLogFileBytes; s.values.bytes() > most {
		t.Errorf("%d MiB on the disk for %d MiB", s.values.bytes()>>20, size>>20)
	}
}
