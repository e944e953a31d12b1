package blobstore

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// What an upload brings is in the raft log before it is applied: on the disk, in a file
// that is only appended to. Such bytes are not written a second time. The log's file gets a
// second name, in the value log (a hard link), and a row says where in it its bytes are.
// When the log is cut its name goes, and the bytes stay until the value log is collected.
// See DESIGN.md, "The value log".

const (
	// keptBytesMin is the smallest row that stays where the log has it.
	keptBytesMin = 16 << 10
	// keptShare is how much of a log's file must have been such rows for those in the
	// next to stay there: what else is in it stays as well, until it is collected.
	keptShare = 0.75
	// keptFilesShare of the files that the process may have open may be the value log's:
	// a log's files are smaller than its own.
	keptFilesShare = 4
)

// errNotKept: a row must be written.
var errNotKept = errors.New("bytes are not where the log says")

// LogFile is a file of a log. Another file is another LogFile, though it may have the same
// path later.
type LogFile struct {
	Path  string
	Bytes int64 // that it has room for
}

// Kept says where in a file of a log the bytes of an operation lie, durably. The zero
// value: nowhere.
type Kept struct {
	File   *LogFile
	Offset int64
}

// link is what the value log knows of the newest file of one log.
type link struct {
	file   *LogFile
	stays  bool   // rows in it stay there
	bytes  int64  // of rows in it that stay, or could have
	number uint32 // in the value log, 0 before it has a name there
}

// keep finds a row in the value log that a log has on the disk. errNotKept: it is to be
// appended. Calls for one log come in its order, one at a time.
func (v *valueLog) keep(kept Kept, data []byte) (file uint32, off int64, err error) {
	if kept.File == nil || len(data) < keptBytesMin {
		return 0, 0, errNotKept
	}
	v.mu.Lock()
	l, failed := v.linkOf(kept.File), v.failed
	l.bytes += int64(len(data))
	v.mu.Unlock()
	if failed != nil {
		return 0, 0, failed
	}
	if l.stays && l.number == 0 {
		if err := v.linkFile(l, kept.Offset, data); err != nil {
			l.stays = false
			v.unlinkable.Do(func() {
				v.log.Warn("sound stays not where the raft log has it, but is written again",
					"file", kept.File.Path, "error", err)
			})
		}
	}
	if !l.stays {
		return 0, 0, errNotKept
	}
	return l.number, kept.Offset, nil
}

// linkOf is the link of a log's newest file; the caller holds mu.
func (v *valueLog) linkOf(file *LogFile) *link {
	dir := filepath.Dir(file.Path)
	was := v.links[dir]
	if was != nil && was.file == file {
		return was
	}
	now := &link{file: file}
	if was != nil {
		now.stays = float64(was.bytes) >= keptShare*float64(was.file.Bytes)
		if was.number > 0 {
			v.garbage.Add(max(was.file.Bytes-was.bytes, 0))
		}
	}
	v.links[dir] = now
	return now
}

// linkFile gives a log's file a name in the value log, and compares the first row that is
// to stay there with what is there.
func (v *valueLog) linkFile(l *link, off int64, data []byte) error {
	number, err := v.linkName(l.file.Path)
	if err != nil {
		return err
	}
	path := v.path(number)
	file, err := os.Open(path) //nolint:gosec // below our own directory
	if err != nil {
		return errors.Join(fmt.Errorf("file of the log: %w", err), os.Remove(path))
	}
	info, err := file.Stat()
	there := make([]byte, len(data))
	if err == nil {
		_, err = file.ReadAt(there, off)
	}
	if err == nil && !bytes.Equal(there, data) {
		err = errNotKept
	}
	if err != nil {
		return errors.Join(fmt.Errorf("file of the log: %w", err), file.Close(), os.Remove(path))
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	l.number = number
	v.files[number] = newValueFile(number, file, max(info.Size(), l.file.Bytes)) // all in it is on the disk
	return nil
}

// linkName makes the name.
func (v *valueLog) linkName(path string) (uint32, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.files) >= v.filesMax {
		return 0, fmt.Errorf("%d files: %w", len(v.files), syscall.EMFILE)
	}
	number := v.last + 1
	if err := os.Link(path, v.path(number)); err != nil {
		return 0, fmt.Errorf("name for a file of the log: %w", err)
	}
	v.last = number
	return number, nil
}

// growing says whether a log may write into a file yet, and rows that are not in the tree
// yet may come to lie in it. The caller holds mu.
func (v *valueLog) growing(number uint32) bool {
	if v.active != nil && number == v.active.number {
		return true
	}
	for _, l := range v.links {
		if l.number != number {
			continue
		}
		_, err := os.Lstat(l.file.Path) // gone: the log was cut beyond it
		return err == nil
	}
	return false
}

// filesMax is how many files of the value log may be open before no log's are added.
func filesMax() int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0
	}
	return int(min(limit.Cur/keptFilesShare, 1<<30))
}
