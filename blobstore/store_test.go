package blobstore

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

func testStore(t *testing.T) *Store {
	t.Helper()
	s := openStoreIn(t, t.TempDir())
	t.Cleanup(func() { closeStore(t, s) })
	return s
}

func readBlob(t *testing.T, s *Store, id ID) []byte {
	t.Helper()
	r, err := s.Open(context.Background(), id)
	if err != nil {
		t.Fatal(err)
	}
	p, err := io.ReadAll(r)
	if err := errors.Join(err, r.Close()); err != nil {
		t.Fatal(err)
	}
	return p
}

// eventually waits for background work.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%s did not happen", what)
		}
	}
}

func (s *Store) rowsOf(t *testing.T, kind byte, id ID) int {
	t.Helper()
	txn := s.db.NewTransactionAt(newest, false)
	defer txn.Discard()
	keys, err := keysOf(txn, kind, id)
	if err != nil {
		t.Fatal(err)
	}
	return len(keys)
}

// The pieces of a live blob become chunks, behind Apply; they are deleted by
// the Sync after that, and nobody who reads notices.
func TestMergeOfLivePieces(t *testing.T) {
	s := testStore(t)
	id, p := NewID(), randomBytes(1, 2*ChunkBytesMax+1000)
	mustApply(t, s, Op{Kind: OpBegin, ID: id, Spec: Spec{Live: true}})
	for off := 0; off < len(p); off += 3000 {
		mustApply(t, s, Op{Kind: OpAppend, ID: id, Offset: int64(off), Data: p[off:min(off+3000, len(p))]})
	}
	eventually(t, "the merge of two chunks", func() bool { return s.rowsOf(t, kindChunk, id) == 2 })
	before := s.rowsOf(t, kindPiece, id)
	if !bytes.Equal(readBlob(t, s, id), p) {
		t.Error("merged, but not deleted: other bytes")
	}
	if err := s.Sync(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the deletion of merged pieces", func() bool {
		return s.Sync() == nil && s.rowsOf(t, kindPiece, id) < 3
	})
	if before < 170 || !bytes.Equal(readBlob(t, s, id), p) {
		t.Errorf("%d pieces before; or deleted: other bytes", before)
	}
	mustApply(t, s, Op{Kind: OpSeal, ID: id, Totals: TotalsOf(p)})
	eventually(t, "the last merge", func() bool {
		return s.rowsOf(t, kindChunk, id) == 3 && s.Sync() == nil && s.rowsOf(t, kindPiece, id) == 0
	})
	if !bytes.Equal(readBlob(t, s, id), p) {
		t.Error("sealed and merged: other bytes")
	}
}

// Merging that did not happen before a stop happens after the start.
func TestMergeAfterStart(t *testing.T) {
	dir := t.TempDir()
	s := openStoreIn(t, dir)
	s.stop() // no merger
	s.merger.wait()
	id, p := NewID(), randomBytes(2, ChunkBytesMax+1000)
	mustApply(t, s, Op{Kind: OpBegin, ID: id, Spec: Spec{Live: true}})
	for off := 0; off < len(p); off += 3000 {
		mustApply(t, s, Op{Kind: OpAppend, ID: id, Offset: int64(off), Data: p[off:min(off+3000, len(p))]})
	}
	mustApply(t, s, Op{Kind: OpSeal, ID: id, Totals: TotalsOf(p)})
	if n := s.rowsOf(t, kindChunk, id); n != 0 {
		t.Fatalf("%d chunks without a merger", n)
	}
	if !bytes.Equal(readBlob(t, s, id), p) {
		t.Error("sealed, not merged: other bytes")
	}
	closeStore(t, s)
	s = openStoreIn(t, dir)
	defer closeStore(t, s)
	eventually(t, "the merge", func() bool {
		return s.rowsOf(t, kindChunk, id) == 2 && s.Sync() == nil && s.rowsOf(t, kindPiece, id) == 0
	})
	if !bytes.Equal(readBlob(t, s, id), p) {
		t.Error("merged after the start: other bytes")
	}
	if st := s.Stats(); st.Blobs != 1 || st.Bytes != int64(len(p)) {
		t.Errorf("stats %+v", st)
	}
}

// Space of removed blobs comes back, what lives is moved and stays readable,
// also when the machine stops right after.
func TestRunGC(t *testing.T) {
	dir := t.TempDir()
	s := openStoreIn(t, dir)
	p := randomBytes(3, ChunkBytesMax)
	totals := TotalsOf(p)
	const blobs = 120
	for i := range blobs {
		mustApply(t, s, Op{Kind: OpPut, ID: numberedID(i), Data: p, Totals: totals})
	}
	for i := range blobs {
		if i%8 != 0 {
			mustApply(t, s, Op{Kind: OpRemove, ID: numberedID(i)})
		}
	}
	files := func() int {
		names, err := filepath.Glob(filepath.Join(dir, valuesDir, "*.vlog"))
		if err != nil {
			t.Fatal(err)
		}
		return len(names)
	}
	before := files()
	if err := s.RunGC(context.Background()); err != nil {
		t.Fatal(err)
	}
	if after := files(); after >= before {
		t.Errorf("%d value-log files before, %d after", before, after)
	}
	cut := filepath.Join(t.TempDir(), "cut")
	copyTree(t, dir, cut)
	for i := 0; i < blobs; i += 8 {
		if !bytes.Equal(readBlob(t, s, numberedID(i)), p) {
			t.Errorf("blob %d has other bytes", i)
		}
	}
	closeStore(t, s)
	s = openStoreIn(t, cut)
	defer closeStore(t, s)
	for i := 0; i < blobs; i += 8 {
		if !bytes.Equal(readBlob(t, s, numberedID(i)), p) {
			t.Errorf("after the stop, blob %d has other bytes", i)
		}
	}
}

// A flipped bit is found by whoever reads its block, and by nobody else; the
// same bytes again repair it.
func TestReadFindsFlippedBit(t *testing.T) {
	dir := t.TempDir()
	s := openStoreIn(t, dir)
	id, p := NewID(), randomBytes(4, ChunkBytesMax)
	put := Op{Kind: OpPut, ID: id, Data: p, Totals: TotalsOf(p)}
	mustApply(t, s, put)
	defer closeStore(t, s)
	flip(t, dir, p[5*BlockBytes:][:32])
	r, err := s.Open(context.Background(), id)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.WriteRange(io.Discard, 0, 5*BlockBytes); err != nil {
		t.Errorf("before the block: %v", err)
	}
	if _, err := r.WriteRange(io.Discard, 6*BlockBytes, 5*BlockBytes); err != nil {
		t.Errorf("behind the block: %v", err)
	}
	if _, err := r.WriteRange(io.Discard, 6*BlockBytes-1, 1); !errors.Is(err, ErrCorrupt) {
		t.Errorf("in the block: %v", err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	other := put
	other.Data = randomBytes(5, ChunkBytesMax)
	if err := s.Apply([]Op{{Kind: OpAppend, ID: id, Data: other.Data}})[0]; !errors.Is(err, ErrConflict) {
		t.Errorf("other bytes over the damage: %v", err)
	}
	mustApply(t, s, put)
	if !bytes.Equal(readBlob(t, s, id), p) {
		t.Error("not repaired")
	}
}

// A check of a copy finds what a reader of that part would, and says so.
func TestCheckReplica(t *testing.T) {
	dir := t.TempDir()
	s := openStoreIn(t, dir)
	p := randomBytes(3, 7*BlockBytes+5)
	mustApply(t, s, Op{Kind: OpPut, ID: numberedID(1), Data: p, Totals: TotalsOf(p)})
	mustApply(t, s, Op{Kind: OpBegin, ID: numberedID(2)})
	defer closeStore(t, s)
	if c := s.CheckReplica(t.Context(), numberedID(1)); c.State != ReplicaOK || c.Size != int64(len(p)) ||
		c.SHA256 != TotalsOf(p).SHA256.String() {
		t.Errorf("%+v", c)
	}
	flip(t, dir, p[5*BlockBytes:][:32])
	for id, want := range map[ID]ReplicaState{
		numberedID(1): ReplicaCorrupt, numberedID(2): ReplicaOpen, numberedID(3): ReplicaMissing,
	} {
		if c := s.CheckReplica(t.Context(), id); c.State != want {
			t.Errorf("%+v, want %s", c, want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if c := s.CheckReplica(ctx, numberedID(1)); c.State != ReplicaSlow {
		t.Errorf("%+v", c)
	}
}

// flip changes one bit of the content in the value log.
func flip(t *testing.T, dir string, content []byte) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, valuesDir, "*.vlog"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		p, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if i := bytes.Index(p, content); i >= 0 {
			f, err := os.OpenFile(name, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			_, err = f.WriteAt([]byte{p[i] ^ 4}, int64(i))
			if err := errors.Join(err, f.Close()); err != nil {
				t.Fatal(err)
			}
			return
		}
	}
	t.Fatal("content not found in the value log")
}

// Chunks ahead of a gap can be listed and read: a copy of an open blob needs
// them.
func TestAhead(t *testing.T) {
	s := testStore(t)
	id, p := NewID(), randomBytes(6, 3*ChunkBytesMax)
	mustApply(t, s, Op{Kind: OpBegin, ID: id},
		Op{Kind: OpAppend, ID: id, Offset: 2 * ChunkBytesMax, Data: p[2*ChunkBytesMax:][:99]},
		Op{Kind: OpAppend, ID: id, Offset: 0, Data: p[:ChunkBytesMax]})
	ahead, err := s.Ahead(context.Background(), id)
	if err != nil || len(ahead) != 1 || ahead[0] != (Extent{2 * ChunkBytesMax, 99}) {
		t.Errorf("ahead %v, %v", ahead, err)
	}
	buf := make([]byte, ChunkBytesMax)
	for _, off := range []int{0, 2 * ChunkBytesMax} {
		n, err := s.ReadChunk(context.Background(), id, int64(off), buf)
		if err != nil || !bytes.Equal(buf[:n], p[off:off+n]) || n == 0 {
			t.Errorf("chunk at %d: %d bytes, %v", off, n, err)
		}
	}
	if _, err := s.ReadChunk(context.Background(), id, ChunkBytesMax, buf); !errors.Is(err, ErrNotFound) {
		t.Errorf("the gap: %v", err)
	}
}

// Many followers of many live blobs, over merges and syncs, each see exactly
// what was appended.
func TestManyFollowers(t *testing.T) {
	s := testStore(t)
	const blobs, followers, appends, size = 20, 3, 150, 2100
	var wg sync.WaitGroup
	for i := range blobs {
		id := numberedID(i)
		mustApply(t, s, Op{Kind: OpBegin, ID: id, Spec: Spec{Live: true}})
		want := randomBytes(uint64(i), appends*size)
		for range followers {
			r, err := s.Open(context.Background(), id)
			if err != nil {
				t.Fatal(err)
			}
			r.SetFollow(true)
			wg.Go(func() {
				var got bytes.Buffer
				_, err := r.WriteTo(&got)
				if err = errors.Join(err, r.Close()); err != nil || !bytes.Equal(got.Bytes(), want) {
					t.Errorf("blob %d: followed %d of %d bytes: %v", i, got.Len(), len(want), err)
				}
			})
		}
	}
	for n := range appends {
		ops := make([]Op, blobs)
		for i := range ops {
			p := randomBytes(uint64(i), appends*size)
			ops[i] = Op{Kind: OpAppend, ID: numberedID(i), Offset: int64(n * size), Data: p[n*size:][:size]}
		}
		mustApply(t, s, ops...)
		if n%40 == 0 {
			if err := s.Sync(); err != nil {
				t.Fatal(err)
			}
		}
	}
	for i := range blobs {
		mustApply(t, s, Op{Kind: OpSeal, ID: numberedID(i), Totals: TotalsOf(randomBytes(uint64(i), appends*size))})
	}
	wg.Wait()
	if st := s.Stats(); st.Following != 0 {
		t.Errorf("%d blobs are still followed", st.Following)
	}
}

// After Close every call says so, those that wait too.
func TestStoreClosed(t *testing.T) {
	s := openStoreIn(t, t.TempDir())
	id := NewID()
	mustApply(t, s, Op{Kind: OpBegin, ID: id, Spec: Spec{Live: true}})
	r, err := s.Open(context.Background(), id)
	if err != nil {
		t.Fatal(err)
	}
	r.SetFollow(true)
	read := make(chan error, 1)
	go func() { _, err := r.Read(make([]byte, 1)); read <- err }()
	closeStore(t, s)
	closeStore(t, s)
	if err := <-read; !errors.Is(err, ErrClosed) {
		t.Errorf("follower: %v", err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	for name, err := range map[string]error{
		"apply": s.Apply([]Op{{Kind: OpBegin, ID: id}})[0],
		"sync":  s.Sync(),
		"gc":    s.RunGC(context.Background()),
		"stat":  func() error { _, err := s.Stat(context.Background(), id); return err }(),
		"open":  func() error { _, err := s.Open(context.Background(), id); return err }(),
		"blobs": func() error {
			for _, err := range s.Blobs(context.Background()) {
				return err
			}
			return nil
		}(),
	} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
