package blobstore

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Badger maps what it reads: a sector that the disk cannot read any more is no error
// there, but a signal that ends the process, at each start again. So the files that it
// reads when it opens a database are read by us before, and one that has such a sector
// is replaced by a copy with zeros there, which is to Badger where its log ends.

const (
	// salvageBlock is what is given up around a byte that cannot be read: a sector of
	// today's disks.
	salvageBlock = 4096
	// salvageRead is read at a time as long as all can be.
	salvageRead = 1 << 20
)

// salvageAll makes readable what Badger reads to open a database, besides its tables: the
// write-ahead files and the newest file of its value log.
func salvageAll(dir string, log *slog.Logger) error {
	for _, pattern := range []string{"*.mem", "*.vlog", "DISCARD"} {
		names, _ := filepath.Glob(filepath.Join(dir, pattern)) // sorted, and the pattern is well formed
		if pattern == "*.vlog" && len(names) > 1 {
			names = names[len(names)-1:] // of the others nothing is read now
		}
		for _, name := range names {
			lost, err := salvage(name)
			if err != nil {
				return err
			}
			if lost > 0 {
				log.Error("parts of a file cannot be read any more: it was copied without them",
					"file", filepath.Base(name), "lost_bytes", lost)
			}
		}
	}
	return nil
}

// salvage puts a copy with zeros for what cannot be read in the place of a file, which stays
// beside as NAME.damaged-TIME, and says how many bytes those are; 0: the file is as it was.
func salvage(name string) (lost int64, err error) {
	f, err := os.Open(name) //nolint:gosec // below our own directory
	if err != nil {
		return 0, fmt.Errorf("salvage: %w", err)
	}
	defer func() { _ = f.Close() }() // it was only read
	lost, err = readThrough(f, func([]byte, int64) error { return nil })
	if err == nil && lost > 0 {
		err = replaceReadable(f, name)
	}
	if err != nil {
		return lost, fmt.Errorf("salvage: %w", err)
	}
	return lost, nil
}

// replaceReadable writes what can be read of f anew, and gives that its name.
func replaceReadable(f *os.File, name string) error {
	whole := name + ".salvaged"                                              // a name that nobody looks for
	to, err := os.OpenFile(whole, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600) //nolint:gosec // as above
	if err != nil {
		return err
	}
	_, err = readThrough(f, func(p []byte, off int64) error {
		_, err := to.WriteAt(p, off)
		return err
	})
	var size int64
	if err == nil {
		size, err = f.Seek(0, io.SeekEnd)
	}
	if err = errors.Join(err, to.Truncate(size), to.Sync(), to.Close()); err != nil {
		return errors.Join(err, os.Remove(whole))
	}
	// The old file stays beside: a disk may yet give more of it to somebody who is patient.
	// Where it cannot have a second name it goes; all that can be read is in the copy.
	_ = os.Link(name, name+"."+asidePrefix+asideTime(time.Now()))
	if err := os.Rename(whole, name); err != nil {
		return err
	}
	return syncPath(filepath.Dir(name))
}

// readable is a file, as far as salvage needs one.
type readable interface {
	io.ReaderAt
	io.Seeker
}

// readThrough reads what is in a file besides holes, and returns how many bytes of it
// the disk cannot read.
func readThrough(f readable, fn func(p []byte, off int64) error) (lost int64, err error) {
	buf := make([]byte, salvageRead)
	for off, end := int64(0), int64(0); ; {
		if off >= end {
			if off, end, err = nextData(f, end); err != nil || off == end {
				return lost, err
			}
		}
		n, err := f.ReadAt(buf[:min(int64(len(buf)), end-off)], off)
		switch {
		case n > 0: // what is behind is met next
		case errors.Is(err, syscall.EIO) && len(buf) > salvageBlock:
			buf = buf[:salvageBlock]
			continue
		case errors.Is(err, syscall.EIO):
			n = int(min(salvageBlock-off%salvageBlock, end-off))
			off, lost = off+int64(n), lost+int64(n)
			continue
		default:
			return lost, err
		}
		if err := fn(buf[:n], off); err != nil {
			return lost, err
		}
		if off += int64(n); off%salvageBlock == 0 {
			buf = buf[:cap(buf)]
		}
	}
}

// nextData is where in a file there is something from off on; twice the same: nowhere.
func nextData(f readable, off int64) (from, to int64, err error) {
	from, err = f.Seek(off, unix.SEEK_DATA)
	if errors.Is(err, syscall.ENXIO) {
		return off, off, nil
	}
	if err == nil {
		to, err = f.Seek(from, unix.SEEK_HOLE)
	}
	return from, to, err
}
