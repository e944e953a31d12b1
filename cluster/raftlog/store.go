package raftlog

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
	"github.com/hashicorp/raft-wal/metadb"
	"github.com/hashicorp/raft-wal/types"

	"carillon/internal/hlog"
)

const (
	// SegmentBytes is the size of a segment of the raft log. The file is
	// allocated at once, so nine groups cost nine of these on an empty node;
	// raft-wal's own default of 64 MiB would be half a gigabyte.
	SegmentBytes = 16 << 20
	// tailBytesMax bounds the newest entries a group keeps in memory. They
	// are what the leader sends to its followers a moment after it wrote them;
	// without this each would be read back from the file twice. Counted in
	// bytes, since an entry may be 100 bytes or 256 KiB.
	tailBytesMax = 2 << 20
	// tailEntriesMax bounds the same by number: it is the length of the ring.
	tailEntriesMax = 512
	// roomBytesMax is how much room a group keeps for encoding, and as much again for
	// its direct writes: what a leader writes at a time, with what is around entries.
	roomBytesMax = flushBytesMax + 64<<10
)

// Store is a group's raft log on raft-wal with its newest entries in memory.
// It is the raft.LogStore and the raft.StableStore of one group.
type Store struct {
	*wal.WAL

	meta     *metadb.BoltMetaDB
	codec    *checkedCodec // of writes; guarded by writing
	writing  turn          // one write at a time
	segments *segments
	cfg      Config
	tail     *tail
	places   places

	refused atomic.Pointer[error] // why writes fail, from the first of them on
	leading atomic.Pointer[leading]
	wake    chan struct{} // tells flushLoop that there is something
	closing chan struct{} // closed by Close
	flusher sync.WaitGroup

	mu    sync.Mutex
	ring  [tailEntriesMax]*raft.Log // guarded by mu, by index modulo its length
	low   uint64                    // guarded by mu: first index in ring, 0 if empty
	high  uint64                    // guarded by mu: last index in ring
	bytes int                       // guarded by mu
	gone  emptied                   // guarded by mu
	ahead ahead                     // guarded by mu
}

var (
	_ raft.LogStore          = (*Store)(nil)
	_ raft.StableStore       = (*Store)(nil)
	_ raft.MonotonicLogStore = (*Store)(nil)
)

// turn is a mutex that is held while a disk works: one that a test in virtual time, whose
// disks take their time, can see somebody wait for.
type turn chan struct{}

func (t turn) take() { t <- struct{}{} }

func (t turn) pass() { <-t }

// Config is what a log needs from its group. The zero value is a log that
// nobody watches, on the operating system's files.
type Config struct {
	// FS is the file layer; nil: the operating system's.
	FS types.VFS
	// SegmentBytes is the size of a segment; 0: [SegmentBytes].
	SegmentBytes int
	// Writing is called before each write to the disk, and what it returns
	// when the write has ended; nil: nothing is.
	Writing func() (ended func())
	// Room is asked before entries of so many bytes are written, and its error
	// is the write's; nil: there always is room.
	Room func(bytes int) error
	// Snapshot is index and term of the group's newest snapshot, 0 for none;
	// nil: it has none. See emptied.go.
	Snapshot func() (index, term uint64)
}

// Open opens or creates the log in dir and reads all of it. ErrDamaged: it does
// not hold what was written. blobstore.ErrFormat: another version wrote it.
func Open(dir string, cfg Config, log *slog.Logger) (_ *Store, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("raft log directory: %w", err)
	}
	if cfg.FS == nil {
		cfg.FS = Files()
	}
	cfg.SegmentBytes = cmp.Or(cfg.SegmentBytes, SegmentBytes)
	if cfg.Writing == nil {
		cfg.Writing = func() func() { return func() {} }
	}
	s := &Store{
		meta: &metadb.BoltMetaDB{}, codec: &checkedCodec{}, cfg: cfg, writing: make(turn, 1),
		wake: make(chan struct{}, 1), closing: make(chan struct{}),
	}
	s.segments = newSegments(dir, placing{cfg.FS, &s.places, int64(cfg.SegmentBytes)}, log)
	defer func() {
		if p := recover(); p != nil { // the meta store's library panics at damage
			err = fmt.Errorf("open raft log in %s: %w: %v", dir, ErrDamaged, p)
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
	s.WAL, err = wal.Open(dir, wal.WithSegmentSize(cfg.SegmentBytes), wal.WithLogger(hlog.HCLog(log, "wal")),
		wal.WithMetaStore(codecMeta{s.meta, s.segments}), wal.WithSegmentFiler(s.segments),
		wal.WithCodec(s.codec))
	if err != nil {
		return nil, fmt.Errorf("open raft log in %s: %w", dir, toError(err))
	}
	if err = s.check(log); err != nil {
		return nil, fmt.Errorf("raft log in %s: %w", dir, err)
	}
	return s, nil
}

// Close writes what is ahead of the disk, and closes the log and its meta store, which
// raft-wal leaves open and locked: a node that is opened again in the same process would
// wait for ever.
func (s *Store) Close() error {
	s.GiveUp()
	close(s.closing)
	s.flusher.Wait()
	err := s.flush()
	if s.WAL != nil {
		err = errors.Join(err, s.WAL.Close())
	}
	s.segments.close()
	if s.tail != nil {
		err = errors.Join(err, s.tail.f.Close())
	}
	return errors.Join(err, s.meta.Close())
}

// GetLog reads an entry, from memory if it is among the newest.
func (s *Store) GetLog(index uint64, out *raft.Log) error {
	s.mu.Lock()
	if s.low != 0 && index >= s.low && index <= s.high {
		*out = *s.ring[index%tailEntriesMax]
		s.mu.Unlock()
		return nil
	}
	answered := s.gone.get(s.cfg.Snapshot, index, out) || s.ahead.get(index, out)
	s.mu.Unlock()
	if answered {
		return nil
	}
	return s.WAL.GetLog(index, out) //nolint:wrapcheck // raft compares this error
}

// FirstIndex is the index of the oldest entry, 0 if there is none.
func (s *Store) FirstIndex() (uint64, error) {
	first, err := s.WAL.FirstIndex()
	if err != nil || first != 0 {
		return first, err //nolint:wrapcheck // raft compares this error
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.ahead.pending; len(p) > 0 {
		first = p[0].Index
	}
	return first, nil
}

// LastIndex is the index of the newest entry, 0 if there is none.
func (s *Store) LastIndex() (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.ahead.pending; len(p) > 0 {
		return p[len(p)-1].Index, nil
	}
	return s.WAL.LastIndex() //nolint:wrapcheck // raft compares this error
}

// StoreLog is StoreLogs of one entry.
func (s *Store) StoreLog(l *raft.Log) error { return s.StoreLogs([]*raft.Log{l}) }

// StoreLogs stores entries. They are on the disk when it returns, with one fsync, unless
// this node leads (see [Store.Lead]).
func (s *Store) StoreLogs(logs []*raft.Log) error {
	bytes := 0
	for _, l := range logs {
		bytes += len(l.Data)
	}
	if s.cfg.Room != nil {
		if err := s.cfg.Room(bytes); err != nil {
			return err
		}
	}
	if s.writesAhead(logs) {
		if done, err := s.enqueue(logs, bytes); done || err != nil {
			return err
		}
	}
	s.writing.take()
	defer s.writing.pass()
	if err := s.drain(); err != nil {
		return err
	}
	if err := s.write(logs); err != nil {
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

// write brings entries to the disk in one write and one fsync. Callers hold writing.
func (s *Store) write(logs []*raft.Log) error {
	ended := s.cfg.Writing()
	s.codec.reserve(logs)
	err := s.WAL.StoreLogs(logs)
	s.codec.release()
	if ended(); err != nil {
		s.refused.CompareAndSwap(nil, &err)
		s.forget()
		return err //nolint:wrapcheck // raft compares this error
	}
	s.refused.Store(nil)
	return s.tail.note(logs[len(logs)-1].Index, false)
}

// Refused is why the disk did not take the last entries, nil if it did. raft-wal v0.4.0
// takes nothing more after that until the log is opened again.
func (s *Store) Refused() error {
	if err := s.refused.Load(); err != nil {
		return *err
	}
	return nil
}

// remember adds an entry to the ring and drops the oldest beyond the bounds.
// Callers hold mu.
func (s *Store) remember(l *raft.Log) {
	if s.low == 0 || l.Index != s.high+1 {
		s.clear()
		s.low = l.Index
	} else if s.high-s.low+1 == tailEntriesMax {
		s.dropOldest()
	}
	s.ring[l.Index%tailEntriesMax] = l
	s.high = l.Index
	s.bytes += len(l.Data)
	for s.bytes > tailBytesMax && s.low < s.high {
		s.dropOldest()
	}
}

func (s *Store) dropOldest() {
	slot := s.low % tailEntriesMax
	s.bytes -= len(s.ring[slot].Data)
	s.ring[slot] = nil
	s.low++
}

func (s *Store) clear() {
	clear(s.ring[:])
	s.low, s.high, s.bytes = 0, 0, 0
}

func (s *Store) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clear()
}

// Set stores a value of the stable store; it is on the disk when it returns.
func (s *Store) Set(key, value []byte) error {
	s.writing.take()
	defer s.writing.pass()
	defer s.cfg.Writing()()
	return s.WAL.Set(key, value) //nolint:wrapcheck // raft compares this error
}

// SetUint64 stores a number of the stable store, as Set does.
func (s *Store) SetUint64(key []byte, value uint64) error {
	s.writing.take()
	defer s.writing.pass()
	defer s.cfg.Writing()()
	return s.WAL.SetUint64(key, value) //nolint:wrapcheck // raft compares this error
}

// DeleteRange removes entries; raft calls it after a snapshot and when a new
// leader overrules what was not committed.
func (s *Store) DeleteRange(low, high uint64) error {
	s.writing.take()
	defer s.writing.pass()
	if err := s.drainBefore(high); err != nil {
		return err
	}
	was, err := s.emptying(low, high)
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.ahead.overrule(low, high)
	if s.low != 0 && high >= s.low {
		s.clear()
	}
	if was.index != 0 {
		s.gone.index, s.gone.term = was.index, was.term
	}
	s.mu.Unlock()
	return s.deleteWritten(low, high)
}

// deleteWritten removes entries from the disk.
func (s *Store) deleteWritten(low, high uint64) error {
	first, err := s.WAL.FirstIndex()
	if err != nil {
		return err //nolint:wrapcheck // raft compares this error
	}
	last, err := s.WAL.LastIndex()
	switch {
	case err != nil:
		return err //nolint:wrapcheck // as above
	case low > last:
		return nil
	case high < last: // the end stays where it is
	case low <= first:
		err = s.tail.note(0, true)
	default:
		err = s.tail.note(low-1, true)
	}
	if err != nil {
		return err
	}
	return s.WAL.DeleteRange(low, high) //nolint:wrapcheck // as above
}
