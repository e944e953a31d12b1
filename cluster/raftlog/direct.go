package raftlog

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"unsafe"

	walfs "github.com/hashicorp/raft-wal/fs"
	"github.com/hashicorp/raft-wal/types"
	"golang.org/x/sys/unix"
)

// blockBytes is the unit of direct writes: no disk of today has a larger sector,
// and what has is written through the page cache.
const blockBytes = 4096

// Files is the file layer of the operating system for a log. What is written goes
// to the disk past the page cache (O_DIRECT), where the file system can: nobody
// reads an entry from the file but a node that starts and a follower that is far
// behind, so its pages would only push media out of memory, and cost as much
// processor time as the write itself where a virtual machine has to get them from
// its host first (BENCHMARKS.md). It is read through the page cache.
func Files() types.VFS { return files{walfs.New()} }

type files struct{ *walfs.FS }

// Create makes a file of size bytes, allocated at once.
func (fs files) Create(dir, name string, size uint64) (types.WritableFile, error) {
	f, err := fs.FS.Create(dir, name, size)
	if err != nil {
		return nil, err //nolint:wrapcheck // raft-wal compares this error
	}
	return openDirect(f, filepath.Join(dir, name))
}

// OpenWriter opens a file that is there.
func (fs files) OpenWriter(dir, name string) (types.WritableFile, error) {
	f, err := fs.FS.OpenWriter(dir, name)
	if err != nil {
		return nil, err //nolint:wrapcheck // raft-wal compares this error
	}
	return openDirect(f, filepath.Join(dir, name))
}

// A directFile is a file that is only ever written at its end. One goroutine
// writes at a time, others may read.
type directFile struct {
	types.WritableFile // reads, and syncs what the direct one wrote: one inode

	direct *os.File // nil: written through the page cache
	room   []byte   // aligned, of whole blocks: what is written next
	end    int64    // what is written ends here; 0: nothing was
	last   [blockBytes]byte
}

// openDirect opens the same file for direct writes. A file system that has none
// says EINVAL, or that it has none.
func openDirect(f types.WritableFile, path string) (types.WritableFile, error) {
	direct, err := os.OpenFile(path, os.O_WRONLY|unix.O_DIRECT, 0) //nolint:gosec // raft-wal's path
	switch {
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.EOPNOTSUPP):
		return f, nil
	case err != nil:
		return nil, errors.Join(fmt.Errorf("open for direct writes: %w", err), f.Close())
	}
	return &directFile{WritableFile: f, direct: direct}, nil
}

// Close closes both.
func (f *directFile) Close() error {
	err := f.WritableFile.Close()
	if f.direct != nil {
		err = errors.Join(err, f.direct.Close())
	}
	return err //nolint:wrapcheck // raft-wal's caller wraps it
}

// WriteAt writes whole blocks: before p what the first of them holds already, and
// zeros behind it, where a log has nothing or the remains of a write that a crash
// cut short.
func (f *directFile) WriteAt(p []byte, off int64) (int, error) {
	if f.direct == nil {
		return f.WritableFile.WriteAt(p, off) //nolint:wrapcheck // raft-wal compares this error
	}
	head := int(off % blockBytes)
	start := off - int64(head)
	buf := f.reserve(head + len(p))
	if err := f.before(buf[:head], start); err != nil {
		return 0, err
	}
	clear(buf[head+copy(buf[head:], p):])
	_, err := f.direct.WriteAt(buf, start)
	if errors.Is(err, unix.EINVAL) { // larger sectors, or a file system that says so only now
		err = f.direct.Close()
		if f.direct, f.room = nil, nil; err == nil {
			return f.WritableFile.WriteAt(p, off) //nolint:wrapcheck // as above
		}
	}
	if err != nil {
		f.end = 0
		return 0, err //nolint:wrapcheck // says enough
	}
	f.end = off + int64(len(p))
	copy(f.last[:], buf[len(buf)-blockBytes:])
	return len(p), nil
}

// before reads what the block at start begins with.
func (f *directFile) before(head []byte, start int64) error {
	if f.end > 0 && start == f.end-f.end%blockBytes && start+int64(len(head)) <= f.end {
		copy(head, f.last[:])
		return nil
	}
	n, err := f.ReadAt(head, start)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	clear(head[n:])
	return nil
}

// reserve is memory for n bytes in whole blocks, aligned as direct writes need it.
func (f *directFile) reserve(n int) []byte {
	n = (n + blockBytes - 1) / blockBytes * blockBytes
	if len(f.room) >= n {
		return f.room[:n]
	}
	raw := make([]byte, n+blockBytes)
	skip := -uintptr(unsafe.Pointer(unsafe.SliceData(raw))) % blockBytes //nolint:gosec // for its address only
	buf := raw[skip : skip+uintptr(n)]
	if n <= roomBytesMax {
		f.room = buf
	}
	return buf
}
