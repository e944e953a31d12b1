package forms

import (
	"container/list"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"carillon/blobstore"
)

// A finished file is the form's bytes, the CRC-32C of each of their blocks, and
// a tail of tailBytes: magic and version, the size, the CRC-32C of the sums and
// the tail before it. All numbers are little endian.
const (
	tailMagic  = "CFORM\x00\x00\x01"
	tailBytes  = len(tailMagic) + 8 + 4
	sumBytes   = 4
	partSuffix = ".part"
	// markEvery: the file's time, by which a restarted node knows what was used
	// last, is not written at each use.
	markEvery = time.Hour
)

var (
	// errFile is returned when a file is not what was written.
	errFile = errors.New("file of a form is damaged")
	// errAhead is returned for bytes that will be made much later.
	errAhead = errors.New("not made yet")
)

// file is one form, being made or finished.
type file struct {
	key    Key
	size   int64              // of the form, announced from the start
	cancel context.CancelFunc // of its maker

	refs  int           // guarded by Cache.mu
	place *list.Element // in Cache.used; nil when dropped

	mu      sync.Mutex // guards the fields below
	fd      *os.File   // nil while nobody reads
	have    int64      // bytes that can be read
	sums    []uint32   // of the blocks of have that are whole
	done    bool
	err     error         // why it will never be done
	changed chan struct{} // made by the first who waits
	marked  time.Time
}

func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

func (c *Cache) path(k Key) string { return filepath.Join(c.cfg.Dir, k.String()) }

// create begins a file.
func (c *Cache) create(r Recipe) (*file, error) {
	name := c.path(r.Key) + partSuffix
	// One of a maker that is being dropped, which keeps it open.
	_ = os.Remove(name)
	const flags = os.O_RDWR | os.O_CREATE | os.O_EXCL
	fd, err := os.OpenFile(name, flags, 0o600) //nolint:gosec // the name is a hash in our own directory
	if err != nil {
		return nil, fmt.Errorf("create: %w", err)
	}
	return &file{key: r.Key, size: r.Size, fd: fd, marked: time.Now()}, nil
}

// found makes a file of a directory entry, by its name and length alone: it is
// checked when it is opened.
func (c *Cache) found(e os.DirEntry) (*file, bool) {
	f := &file{done: true}
	raw, err := hex.DecodeString(e.Name())
	if err != nil || len(raw) != len(f.key) || !e.Type().IsRegular() {
		return nil, false
	}
	copy(f.key[:], raw)
	info, err := e.Info()
	if err != nil {
		return nil, false
	}
	f.marked = info.ModTime()
	f.size, err = sizeOf(info.Size())
	f.have = f.size
	return f, err == nil
}

func sortNewest(files []*file) {
	slices.SortFunc(files, func(a, b *file) int { return b.marked.Compare(a.marked) })
}

// sizeOf is the size of the form in a file of n bytes.
func sizeOf(n int64) (int64, error) {
	n -= int64(tailBytes)
	blocks := (n + blobstore.BlockBytes + sumBytes - 1) / (blobstore.BlockBytes + sumBytes)
	size := n - blocks*sumBytes
	if size < 0 || blocksOf(size) != blocks {
		return 0, errFile
	}
	return size, nil
}

func blocksOf(size int64) int64 { return (size + blobstore.BlockBytes - 1) / blobstore.BlockBytes }

// open makes a finished file readable; Cache.mu is held.
func (f *file) open(c *Cache) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.done {
		return f.err
	}
	if now := time.Now(); now.Sub(f.marked) > markEvery {
		f.marked = now
		_ = os.Chtimes(c.path(f.key), now, now)
	}
	if f.fd != nil {
		return nil
	}
	fd, err := os.Open(c.path(f.key))
	if err != nil {
		return fmt.Errorf("open form: %w", err)
	}
	if f.sums, err = readSums(fd, f.size); err != nil {
		_ = fd.Close()
		return err
	}
	f.fd = fd
	return nil
}

// readSums reads and checks what follows the form's bytes.
func readSums(fd *os.File, size int64) ([]uint32, error) {
	n := blocksOf(size) * sumBytes
	b := make([]byte, n+int64(tailBytes))
	if _, err := fd.ReadAt(b, size); err != nil {
		return nil, fmt.Errorf("read sums: %w", err)
	}
	le := binary.LittleEndian
	end := len(b) - 4
	tail := b[n:]
	if string(tail[:len(tailMagic)]) != tailMagic || int64(le.Uint64(tail[len(tailMagic):])) != size ||
		le.Uint32(b[end:]) != crc32.Checksum(b[:end], castagnoli()) {
		return nil, errFile
	}
	sums := make([]uint32, n/sumBytes)
	for i := range sums {
		sums[i] = le.Uint32(b[i*sumBytes:])
	}
	return sums, nil
}

// remove takes the file from the disk; Cache.mu is held.
func (f *file) remove(c *Cache) {
	f.mu.Lock()
	name := c.path(f.key)
	if !f.done {
		name += partSuffix
	}
	f.mu.Unlock()
	if err := os.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
		c.log.Warn("form not removed", "error", err)
	}
}

func (f *file) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fd != nil && (f.done || f.err != nil) {
		_ = f.fd.Close()
		f.fd, f.sums = nil, nil
	}
}

func (f *file) finished() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.done || f.err != nil
}

// await returns how far the file can be read, once that is beyond off, and the
// sum of the block at off if that is whole.
func (f *file) await(ctx context.Context, off int64) (have int64, sum uint32, whole bool, err error) {
	for {
		f.mu.Lock()
		if f.err == nil && f.have > off {
			have = f.have
			if i := off / blobstore.BlockBytes; i < int64(len(f.sums)) {
				sum, whole = f.sums[i], true
			}
			f.mu.Unlock()
			return have, sum, whole, nil
		}
		if f.err != nil || f.done {
			err = f.err
			f.mu.Unlock()
			if err == nil {
				err = io.EOF
			}
			return 0, 0, false, err
		}
		if off-f.have > aheadBytesMax {
			f.mu.Unlock()
			return 0, 0, false, errAhead
		}
		if f.changed == nil {
			f.changed = make(chan struct{})
		}
		changed := f.changed
		f.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return 0, 0, false, ctx.Err()
		}
	}
}

// update changes the progress under the lock and wakes who waits.
func (f *file) update(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
	if f.changed != nil {
		close(f.changed)
		f.changed = nil
	}
}
