package cluster

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
	"sync"

	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
	walfs "github.com/hashicorp/raft-wal/fs"
	"github.com/hashicorp/raft-wal/metadb"
	"github.com/hashicorp/raft-wal/types"

	"carillon/internal/hlog"
)

const (
	// walSegmentBytes is the size of a segment of the raft log. The file is
	// allocated at once, so nine groups cost nine of these on an empty node;
	// raft-wal's own default of 64 MiB would be half a gigabyte.
	walSegmentBytes = 16 << 20
	// logTailBytesMax bounds the newest entries a group keeps in memory. They
	// are what the leader sends to its followers a moment after it wrote them;
	// without this each would be read back from the file twice. Counted in
	// bytes, since an entry may be 100 bytes or 256 KiB.
	logTailBytesMax = 2 << 20
	// logTailEntriesMax bounds the same by number: it is the length of the ring.
	logTailEntriesMax = 512
)

// logStore is a group's raft log on raft-wal with its newest entries in memory.
// It is the raft.LogStore and the raft.StableStore of one group.
type logStore struct {
	*wal.WAL

	meta     *metadb.BoltMetaDB
	segments *segments
	// room is asked before entries are written; nil: there always is.
	room  func(bytes int) error
	stall *stall
	tail  *tail

	mu    sync.Mutex
	ring  [logTailEntriesMax]*raft.Log // guarded by mu, by index modulo its length
	low   uint64                       // guarded by mu: first index in ring, 0 if empty
	high  uint64                       // guarded by mu: last index in ring
	bytes int                          // guarded by mu
	gone  emptied                      // guarded by mu
}

var (
	_ raft.LogStore          = (*logStore)(nil)
	_ raft.StableStore       = (*logStore)(nil)
	_ raft.MonotonicLogStore = (*logStore)(nil)
)

// openLogStore opens a log that nobody watches.
func openLogStore(dir string, log *slog.Logger) (*logStore, error) {
	return openWatchedLog(dir, walfs.New(), newStall(DiskStallDefault), log)
}

func openWatchedLog(dir string, fs types.VFS, watch *stall, log *slog.Logger) (_ *logStore, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("raft log directory: %w", err)
	}
	s := &logStore{meta: &metadb.BoltMetaDB{}, stall: watch, segments: newSegments(dir, fs, log)}
	defer func() {
		if p := recover(); p != nil { // the meta store's library panics at damage
			err = fmt.Errorf("open raft log in %s: %w: %v", dir, errLogDamaged, p)
		}
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	// A fault in a mapped file becomes a panic, which ends here.
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	if err = checkMetaStore(dir); err != nil {
		return nil, err
	}
	if s.tail, err = openTail(dir); err != nil {
		return nil, err
	}
	s.WAL, err = wal.Open(dir, wal.WithSegmentSize(walSegmentBytes), wal.WithLogger(hlog.HCLog(log, "wal")),
		wal.WithMetaStore(codecMeta{s.meta}), wal.WithSegmentFiler(s.segments),
		wal.WithCodec(checkedCodec{}))
	if err != nil {
		return nil, fmt.Errorf("open raft log in %s: %w", dir, logError(err))
	}
	if err = s.check(log); err != nil {
		return nil, fmt.Errorf("raft log in %s: %w", dir, err)
	}
	return s, nil
}

// Close closes the log and its meta store, which raft-wal leaves open and
// locked: a node that is opened again in the same process would wait for ever.
func (s *logStore) Close() error {
	var err error
	if s.WAL != nil {
		err = s.WAL.Close()
	}
	s.segments.close()
	if s.tail != nil {
		err = errors.Join(err, s.tail.f.Close())
	}
	return errors.Join(err, s.meta.Close())
}

// GetLog reads an entry, from memory if it is among the newest.
func (s *logStore) GetLog(index uint64, out *raft.Log) error {
	s.mu.Lock()
	if s.low != 0 && index >= s.low && index <= s.high {
		*out = *s.ring[index%logTailEntriesMax]
		s.mu.Unlock()
		return nil
	}
	answered := s.gone.get(index, out)
	s.mu.Unlock()
	if answered {
		return nil
	}
	return s.WAL.GetLog(index, out) //nolint:wrapcheck // raft compares this error
}

// StoreLog stores one entry; it is on the disk when it returns.
func (s *logStore) StoreLog(l *raft.Log) error { return s.StoreLogs([]*raft.Log{l}) }

// StoreLogs stores entries in one write and one fsync.
func (s *logStore) StoreLogs(logs []*raft.Log) error {
	if s.room != nil {
		bytes := 0
		for _, l := range logs {
			bytes += len(l.Data)
		}
		if err := s.room(bytes); err != nil {
			return err
		}
	}
	written := s.stall.enter(&s.stall.writing)
	err := s.WAL.StoreLogs(logs)
	if written(); err != nil {
		s.forget()
		return err //nolint:wrapcheck // raft compares this error
	}
	if err := s.tail.note(logs[len(logs)-1].Index, false); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gone.index = 0
	for _, l := range logs {
		s.remember(l)
	}
	return nil
}

// remember adds an entry to the ring and drops the oldest beyond the bounds.
// Callers hold mu.
func (s *logStore) remember(l *raft.Log) {
	if s.low == 0 || l.Index != s.high+1 {
		s.clear()
		s.low = l.Index
	} else if s.high-s.low+1 == logTailEntriesMax {
		s.dropOldest()
	}
	s.ring[l.Index%logTailEntriesMax] = l
	s.high = l.Index
	s.bytes += len(l.Data)
	for s.bytes > logTailBytesMax && s.low < s.high {
		s.dropOldest()
	}
}

func (s *logStore) dropOldest() {
	slot := s.low % logTailEntriesMax
	s.bytes -= len(s.ring[slot].Data)
	s.ring[slot] = nil
	s.low++
}

func (s *logStore) clear() {
	clear(s.ring[:])
	s.low, s.high, s.bytes = 0, 0, 0
}

func (s *logStore) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clear()
}

// DeleteRange removes entries; raft calls it after a snapshot and when a new
// leader overrules what was not committed.
func (s *logStore) DeleteRange(low, high uint64) error {
	was, err := s.emptying(low, high)
	if err != nil {
		return err
	}
	s.mu.Lock()
	if s.low != 0 && high >= s.low {
		s.clear()
	}
	if was.index != 0 {
		s.gone.index, s.gone.term = was.index, was.term
	}
	s.mu.Unlock()
	if err := s.shorten(low, high); err != nil {
		return err
	}
	return s.WAL.DeleteRange(low, high) //nolint:wrapcheck // raft compares this error
}

// shorten notes a new end of the log, before it has it.
func (s *logStore) shorten(low, high uint64) error {
	first, err := s.FirstIndex()
	if err != nil {
		return err //nolint:wrapcheck // raft compares this error
	}
	last, err := s.LastIndex()
	switch {
	case err != nil:
		return err //nolint:wrapcheck // as above
	case high < last:
		return nil
	case low <= first:
		return s.tail.note(0, true)
	}
	return s.tail.note(low-1, true)
}
