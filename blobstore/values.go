package blobstore

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
)

// The value log: bytes of rows too long for the tree, back to back in files that are
// only appended to. The tree keeps the head of such a row, which holds the CRCs of the
// bytes, and where they are. Badger has a value log of its own, which writes through
// a mapping; DESIGN.md, "The value log", says what that cost.

const (
	// valuesDir holds the files, below the directory of the blobs database.
	valuesDir = "values"
	// valuesPattern is the name of a file by its number, from 1 on; beyond 999,999 it
	// is longer.
	valuesPattern = "%06d.vlog"
)

// errNoFile: a file that is named is not there. It was collected since the name was
// looked up, or it is lost.
var errNoFile = errors.New("no such value-log file")

// valueFile is a file of the value log.
type valueFile struct {
	number uint32
	file   *os.File
	refs   atomic.Int64 // the log's, and one for each use; closed with the last
	size   atomic.Int64 // given away; its file may be shorter, after a loss
	// written and synced count bytes: the file is dirty while they differ.
	written, synced atomic.Int64
}

func newValueFile(number uint32, file *os.File, size int64) *valueFile {
	f := &valueFile{number: number, file: file}
	f.size.Store(size)
	f.refs.Store(1)
	return f
}

func (f *valueFile) release() {
	if f.refs.Add(-1) == 0 {
		_ = f.file.Close() // what it has is synced by name of Sync, and not by this
	}
}

// valueLog is the value log of a store. All methods may be called concurrently.
type valueLog struct {
	dir       string
	fileBytes int64
	filesMax  int // with files of a log in it
	early     *writeback
	garbage   *atomic.Int64 // as the Store's
	log       *slog.Logger

	unlinkable sync.Once // said that a file of a log has no name here

	mu     sync.RWMutex
	files  map[uint32]*valueFile // guarded by mu
	active *valueFile            // the newest, nil before the first row; guarded by mu
	last   uint32                // the newest number, guarded by mu
	named  uint32                // the newest number whose name was synced, guarded by mu
	links  map[string]*link      // by the directory of a log, guarded by mu
	failed error                 // of a sync, guarded by mu
}

// openValues opens the value log below dir. It never appends to a file of an
// earlier start: what a power cut took from one stays a hole.
func openValues(dir string, fileBytes int64, garbage *atomic.Int64, log *slog.Logger) (*valueLog, error) {
	v := &valueLog{
		dir: filepath.Join(dir, valuesDir), fileBytes: fileBytes, filesMax: filesMax(),
		files: make(map[uint32]*valueFile), links: make(map[string]*link),
		early: newWriteback(log), garbage: garbage, log: log,
	}
	if err := os.MkdirAll(v.dir, 0o750); err != nil {
		return nil, fmt.Errorf("open value log: %w", err)
	}
	entries, err := os.ReadDir(v.dir)
	if err != nil {
		return nil, fmt.Errorf("open value log: %w", err)
	}
	for _, e := range entries {
		var number uint32
		if _, err := fmt.Sscanf(e.Name(), "%d.vlog", &number); err != nil || e.Name() != v.name(number) {
			continue // not ours; it is left alone
		}
		if err := v.openFile(number); err != nil {
			v.close()
			return nil, err
		}
	}
	return v, nil
}

func (v *valueLog) name(number uint32) string { return fmt.Sprintf(valuesPattern, number) }

func (v *valueLog) path(number uint32) string { return filepath.Join(v.dir, v.name(number)) }

// openFile opens a file of an earlier start, or removes it if nothing is in it.
func (v *valueLog) openFile(number uint32) error {
	v.last = max(v.last, number)
	file, err := os.Open(v.path(number))
	if err != nil {
		return fmt.Errorf("open value log: %w", err)
	}
	info, err := file.Stat()
	if err != nil {
		return errors.Join(fmt.Errorf("open value log: %w", err), file.Close())
	}
	if info.Size() == 0 {
		if err := errors.Join(file.Close(), os.Remove(v.path(number))); err != nil {
			return fmt.Errorf("open value log: %w", err)
		}
		return nil
	}
	f := newValueFile(number, file, info.Size())
	f.written.Store(1) // whoever wrote it may not have synced it
	v.files[number] = f
	return nil
}

// close gives all files up.
func (v *valueLog) close() {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, f := range v.files {
		f.release()
	}
	clear(v.files)
	v.active = nil
}

// append writes p and returns where. It is durable after sync.
func (v *valueLog) append(p []byte) (file uint32, off int64, err error) {
	n := int64(len(p))
	f, off, err := v.reserve(n)
	if err != nil {
		return 0, 0, err
	}
	defer f.release()
	if _, err := f.file.WriteAt(p, off); err != nil {
		return 0, 0, fmt.Errorf("append to value log: %w", err)
	}
	f.written.Add(n)
	v.early.wrote(f, n)
	return f.number, off, nil
}

// reserve gives n bytes of the newest file to the caller, who releases it.
func (v *valueLog) reserve(n int64) (*valueFile, int64, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.failed != nil {
		return nil, 0, v.failed
	}
	if v.active == nil || v.active.size.Load()+n > v.fileBytes {
		if err := v.rotate(); err != nil {
			return nil, 0, err
		}
	}
	f := v.active
	f.refs.Add(1)
	return f, f.size.Add(n) - n, nil
}

// rotate makes the next file; the caller holds mu.
func (v *valueLog) rotate() error {
	number := v.last + 1
	file, err := os.OpenFile(v.path(number), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("make value-log file: %w", err)
	}
	v.last = number
	v.active = newValueFile(number, file, 0)
	v.files[number] = v.active
	return nil
}

// use returns a file to be released, or errNoFile.
func (v *valueLog) use(number uint32) (*valueFile, error) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	f, ok := v.files[number]
	if !ok {
		return nil, fmt.Errorf("file %d: %w", number, errNoFile)
	}
	f.refs.Add(1)
	return f, nil
}

// read fills p with what lies at off of a file. ErrCorrupt: the disk does not have
// it. errNoFile: as said there.
func (v *valueLog) read(file uint32, off int64, p []byte) error {
	f, err := v.use(file)
	if err != nil {
		return err
	}
	defer f.release()
	if _, err := f.file.ReadAt(p, off); err != nil {
		return fmt.Errorf("value-log file %d at %d: %w: %w", file, off, err, ErrCorrupt)
	}
	return nil
}

// sync makes durable what was appended before the call. After a failure nothing is
// appended or durable any more: the kernel may have dropped what it could not write,
// and says so only once.
func (v *valueLog) sync() error {
	dirty, newest, err := v.dirty()
	if err != nil {
		return err
	}
	var errs []error
	for _, f := range dirty {
		written := f.written.Load()
		err := f.file.Sync()
		if err == nil {
			f.synced.Store(written)
		}
		errs = append(errs, err)
		f.release()
	}
	if newest > 0 {
		errs = append(errs, syncPath(v.dir))
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if err := errors.Join(errs...); err != nil {
		v.failed = fmt.Errorf("sync value log: %w", err)
		return v.failed
	}
	v.named = max(v.named, newest)
	return nil
}

// dirty returns the files to be synced, to be released, and the newest of their
// names, 0 if all were.
func (v *valueLog) dirty() (files []*valueFile, newest uint32, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.failed != nil {
		return nil, 0, v.failed
	}
	for _, f := range v.files {
		if f.written.Load() != f.synced.Load() {
			f.refs.Add(1)
			files = append(files, f)
		}
	}
	if v.named != v.last {
		newest = v.last
	}
	return files, newest, nil
}

// bytes is what all files have.
func (v *valueLog) bytes() int64 {
	v.mu.RLock()
	defer v.mu.RUnlock()
	var total int64
	for _, f := range v.files {
		total += f.size.Load()
	}
	return total
}

// finished is how large each file is that nothing is appended to any more.
func (v *valueLog) finished() map[uint32]int64 {
	v.mu.RLock()
	defer v.mu.RUnlock()
	sizes := make(map[uint32]int64, len(v.files))
	for number, f := range v.files {
		if !v.growing(number) {
			sizes[number] = f.size.Load()
		}
	}
	return sizes
}

// remove gives a file up that nothing in the tree names any more.
func (v *valueLog) remove(number uint32) error {
	v.mu.Lock()
	f, ok := v.files[number]
	delete(v.files, number)
	v.mu.Unlock()
	if !ok {
		return nil
	}
	defer f.release()
	if err := os.Remove(v.path(number)); err != nil {
		return fmt.Errorf("remove value-log file: %w", err)
	}
	return nil
}
