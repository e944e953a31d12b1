package blobstore

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// fakeLogBytes is a file of a log in these tests.
const fakeLogBytes = 16 * ChunkBytesMax

// A fakeLog is a log with files of rows, one behind the other, with something around each.
type fakeLog struct {
	tb    fataler
	dir   string
	bytes int64 // of a file; 1: each row has its own
	path  string
	file  *LogFile
	end   int64
	made  int
}

func newFakeLog(t *testing.T) *fakeLog {
	t.Helper()
	return &fakeLog{tb: t, dir: t.TempDir(), bytes: fakeLogBytes}
}

// put is an operation that the log has.
func (l *fakeLog) put(n int, p []byte) Op {
	op := putOf(n, p)
	op.Kept = l.write(p)
	return op
}

// write appends to the log.
func (l *fakeLog) write(p []byte) Kept {
	if l.file == nil || l.end+int64(len(p)) > l.bytes {
		l.made++
		l.path = filepath.Join(l.dir, fmt.Sprintf("%d.wal", l.made))
		l.file, l.end = &LogFile{l.path, l.bytes}, 13
	}
	f, err := os.OpenFile(l.path, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		l.tb.Fatalf("log: %v", err)
	}
	_, err = f.WriteAt(p, l.end)
	if err = errors.Join(err, f.Close()); err != nil {
		l.tb.Fatalf("log: %v", err)
	}
	kept := Kept{l.file, l.end}
	l.end += int64(len(p)) + 11
	return kept
}

// cut removes the files of the log but the newest.
func (l *fakeLog) cut() {
	for n := 1; n < l.made; n++ {
		if err := os.RemoveAll(filepath.Join(l.dir, fmt.Sprintf("%d.wal", n))); err != nil {
			l.tb.Fatalf("log: %v", err)
		}
	}
}

// written is what a store has in value-log files of its own, and linked how many of a log
// it has.
func written(s *Store) (bytes int64, linked int) {
	s.values.mu.RLock()
	defer s.values.mu.RUnlock()
	for _, f := range s.values.files {
		if n := f.written.Load(); n > 0 {
			bytes += n
		} else {
			linked++
		}
	}
	return bytes, linked
}

// Goal: what a log has on the disk is not written again, from its second file on, is read
// where it is, also after the log was cut and after a start, and goes when it is removed.
func TestKeptRows(t *testing.T) {
	dir := t.TempDir()
	s := openStoreIn(t, dir)
	l := newFakeLog(t)
	const blobs = 40 // 15 to a file
	for i := range blobs {
		mustApply(t, s, l.put(i, wholeChunk(i)))
	}
	n, linked := written(s)
	if n != 15*ChunkBytesMax || linked != 2 {
		t.Errorf("%d bytes written, %d files of the log", n, linked)
	}
	intact(t, s, blobs, 1, wholeChunk)
	if err := s.Sync(); err != nil {
		t.Fatal(err)
	}
	l.cut()
	intact(t, s, blobs, 1, wholeChunk)
	mustCollect(t, s)
	if _, linked := written(s); linked != 2 {
		t.Errorf("%d files of the log after a collection of nothing", linked)
	}
	thin(t, s, blobs, 4)
	mustCollect(t, s)
	if _, linked := written(s); linked != 1 { // the newest, which the log still writes into
		t.Errorf("%d files of the log after a collection", linked)
	}
	intact(t, s, blobs, 4, wholeChunk)
	for i := blobs; i < blobs+3; i++ {
		mustApply(t, s, l.put(i, wholeChunk(i)))
	}
	closeStore(t, s)
	l.cut()
	if err := os.Remove(l.path); err != nil {
		t.Fatal(err)
	}
	s = openStoreIn(t, dir)
	defer closeStore(t, s)
	intact(t, s, blobs+3, 4, wholeChunk)
	if !bytes.Equal(readBlob(t, s, numberedID(blobs+1)), wholeChunk(blobs+1)) {
		t.Error("the newest blob has other bytes")
	}
	files := len(valueFiles(t, dir))
	for i := range blobs + 3 {
		mustApply(t, s, Op{Kind: OpRemove, ID: numberedID(i)})
	}
	mustCollect(t, s)
	if now := len(valueFiles(t, dir)); now >= files || now > 1 {
		t.Errorf("%d files of %d left, of nothing", now, files)
	}
}

// Goal: a log that has mostly other things in it is not kept for the rows between.
func TestKeptRowsAreMost(t *testing.T) {
	t.Parallel()
	s := openStoreIn(t, t.TempDir())
	defer closeStore(t, s)
	l := newFakeLog(t)
	const blobs = 40
	for i := range blobs {
		mustApply(t, s, l.put(i, wholeChunk(i)))
		l.end += ChunkBytesMax / 2
	}
	if n, linked := written(s); n != blobs*ChunkBytesMax || linked != 0 {
		t.Errorf("%d bytes written, %d files of the log", n, linked)
	}
}

// Goal: where a log does not have what it says, or cannot have a second name, the row is
// written, and nothing is left behind.
func TestKeptElsewhere(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(s *Store, op *Op){
		"other bytes":  func(_ *Store, op *Op) { op.Kept.Offset++ },
		"beyond":       func(_ *Store, op *Op) { op.Kept.Offset = fakeLogBytes },
		"another file": func(_ *Store, op *Op) { op.Kept.File.Path += ".gone" },
		"many files":   func(s *Store, _ *Op) { s.values.filesMax = 0 },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			s := openStoreIn(t, dir)
			defer closeStore(t, s)
			l := newFakeLog(t)
			const blobs = 20
			for i := range blobs {
				op := l.put(i, wholeChunk(i))
				if l.made == 2 {
					spoil(s, &op)
				}
				mustApply(t, s, op)
			}
			if n, linked := written(s); n != blobs*ChunkBytesMax || linked != 0 {
				t.Errorf("%d bytes written, %d files of the log", n, linked)
			}
			intact(t, s, blobs, 1, wholeChunk)
			for _, name := range valueFiles(t, dir) {
				if fileSize(t, name) > 4<<20 {
					t.Errorf("%s is left of the log", name)
				}
			}
		})
	}
}

// Goal: pieces of recordings, which are merged soon, and short rows are written as ever.
func TestKeptShort(t *testing.T) {
	t.Parallel()
	s := openStoreIn(t, t.TempDir())
	defer closeStore(t, s)
	file := &LogFile{Path: "nowhere", Bytes: 1}
	p := randomBytes(1, keptBytesMin-1)
	op := putOf(1, p)
	op.Kept = Kept{File: file}
	mustApply(t, s, op, Op{Kind: OpBegin, ID: numberedID(2), Spec: Spec{Live: true}},
		Op{Kind: OpAppend, ID: numberedID(2), Data: p, Kept: Kept{File: file}})
	if len(s.values.links) != 0 {
		t.Error("a short row, or a piece, was looked for in the log")
	}
	if !bytes.Equal(readBlob(t, s, numberedID(1)), p) {
		t.Error("other bytes")
	}
}
