package raftlog

import (
	"bytes"
	"errors"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/hashicorp/raft"
	"github.com/hashicorp/raft-wal/types"
)

// appended writes pieces of random lengths one behind the other, now and then
// from an earlier end on, as raft-wal does behind the remains of a crash, and
// compares the file with what is to be in it after each.
func appended(t *testing.T, dir string, direct bool, open func() types.WritableFile) {
	t.Helper()
	rng := rand.New(rand.NewPCG(1, 2))
	var want []byte
	f := open()
	defer func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}()
	for range 400 {
		if rng.IntN(20) == 0 {
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
			f = open()
			want = want[:rng.IntN(len(want)+1)]
		}
		piece := make([]byte, 1+rng.IntN(1<<(1+rng.IntN(15))))
		for i := range piece {
			piece[i] = 1 + byte(rng.IntN(255))
		}
		n, err := f.WriteAt(piece, int64(len(want)))
		if err != nil || n != len(piece) {
			t.Fatalf("write of %d: %d, %v", len(piece), n, err)
		}
		if err := f.Sync(); err != nil {
			t.Fatal(err)
		}
		want = append(want, piece...)
		got, err := os.ReadFile(filepath.Join(dir, "log"))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got[:len(want)], want) {
			t.Fatalf("the file does not hold what was written, %d bytes", len(want))
		}
		block := (len(want) + blockBytes - 1) / blockBytes * blockBytes
		behind := got[len(want):min(len(got), block)]
		if direct && !bytes.Equal(behind, make([]byte, len(behind))) {
			t.Fatalf("remains behind the end at %d", len(want))
		}
		read := make([]byte, len(piece))
		if _, err := f.ReadAt(read, int64(len(want)-len(piece))); err != nil || !bytes.Equal(read, piece) {
			t.Fatalf("read through the file: %v", err)
		}
	}
}

// opener creates the file at first and opens it from then on.
func opener(t *testing.T, dir string) func() types.WritableFile {
	t.Helper()
	made := false
	return func() types.WritableFile {
		t.Helper()
		open := func() (types.WritableFile, error) { return Files().OpenWriter(dir, "log") }
		if !made {
			open = func() (types.WritableFile, error) { return Files().Create(dir, "log", 1<<20) }
		}
		f, err := open()
		if err != nil {
			t.Fatal(err)
		}
		made = true
		if _, is := f.(*directFile); !is {
			t.Fatalf("opened as %T", f)
		}
		return f
	}
}

func TestDirect(t *testing.T) {
	dir := onDisk(t)
	appended(t, dir, true, opener(t, dir))
}

// onDisk is a directory beside the sources: temporary files may be in memory, where
// older kernels have no direct writes.
func onDisk(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("testdata", "direct") //nolint:usetesting // see above
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// TestDirectRefused is a disk whose sectors are too large for us: it opens the
// file and refuses the write, as the kernel does here for memory at an odd address.
func TestDirectRefused(t *testing.T) {
	dir := onDisk(t)
	open := opener(t, dir)
	var last *directFile
	appended(t, dir, false, func() types.WritableFile {
		f := open()
		last = f.(*directFile) //nolint:forcetypeassert // opener saw to it
		last.room = make([]byte, 1<<17)[1:]
		return f
	})
	if last.direct != nil {
		t.Fatal("written directly")
	}
}

// TestDirectUnknown opens a file where no direct writes are to be had.
func TestDirectUnknown(t *testing.T) {
	below, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	f, err := openDirect(below, "/proc/self/comm")
	if err != nil || f != types.WritableFile(below) {
		t.Fatalf("%T, %v", f, err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := openDirect(below, filepath.Join(t.TempDir(), "gone")); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("file that is not there: %v", err)
	}
}

// TestDirectReadBeside reads entries from the file, the newest first of all, while others
// are written beside them: the pages that it reads are those that the next write makes
// stale. What a follower that is far behind needs of its leader is read like that.
func TestDirectReadBeside(t *testing.T) {
	s, err := Open(onDisk(t), Config{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	entry := func(i uint64) []byte { return bytes.Repeat([]byte{byte(i), byte(i >> 8)}, 1+int(i%1500)) }
	const entries = 1500
	var written atomic.Uint64
	var readers sync.WaitGroup
	for turn := range uint64(3) {
		readers.Go(func() {
			for n := turn; written.Load() < entries; n++ {
				last := written.Load()
				if last == 0 {
					continue
				}
				i := last - min(last-1, n%7)
				var l raft.Log
				if err := s.WAL.GetLog(i, &l); err != nil || !bytes.Equal(l.Data, entry(i)) {
					t.Errorf("entry %d of %d: %d bytes, %v", i, last, len(l.Data), err)
					return
				}
			}
		})
	}
	for i := uint64(1); i <= entries; i++ {
		if err := s.StoreLog(&raft.Log{Index: i, Data: entry(i)}); err != nil {
			t.Error(err)
			break
		}
		written.Store(i)
	}
	written.Store(entries)
	readers.Wait()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func BenchmarkStore64KiB(b *testing.B) {
	s, err := Open(b.TempDir(), Config{}, slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	data := make([]byte, 64<<10)
	b.SetBytes(int64(len(data)))
	first := uint64(1)
	for i := uint64(1); b.Loop(); i++ {
		if err := s.StoreLog(&raft.Log{Index: i, Data: data}); err != nil {
			b.Fatal(err)
		}
		if i%1000 == 0 {
			if err := s.DeleteRange(first, i-500); err != nil {
				b.Fatal(err)
			}
			first = i - 499
		}
	}
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
}
