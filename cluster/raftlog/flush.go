package raftlog

import (
	"context"
	"errors"
	"fmt"

	"github.com/hashicorp/raft"
)

// Raft v1.8.0 writes a leader's entries to its own disk and only then sends them, so
// that a write waits for two fsyncs in a row. Raft itself does not ask for that: a
// leader may write beside its followers (Ongaro's thesis, 10.2.1) if it counts itself
// among those who hold an entry only once it does. raft counts it when StoreLogs
// returns, so StoreLogs of a leader returns at once, and everything by which others
// could learn that it counted waits for the disk instead:
//
//   - the state machine is given an entry, and the client its answer, after [Store.Synced];
//   - a follower is told a commit position of at most [Store.SyncedTo];
//   - a member that led and now follows acknowledges entries after [Store.Synced];
//   - what raft acts upon without its state machine, a change of members above all, is
//     not written ahead: such an entry and all before it are on the disk when StoreLogs
//     returns.
//
// A leader that dies before its disk has an entry thus forgets what nobody was told. What
// is written ahead is bounded, and beyond the bound StoreLogs waits for the disk.

const (
	// aheadBytesMax and aheadEntriesMax bound what is not on the disk yet.
	aheadBytesMax   = 4 << 20
	aheadEntriesMax = 512
	// flushBytesMax bounds what is written with one fsync: four chunks.
	flushBytesMax = 1 << 20
)

var (
	// ErrGivenUp is returned to who waits for an entry that the disk refuses, while the log
	// is being closed.
	ErrGivenUp = errors.New("raft log: entry is not on disk and the log is being closed")
	// ErrOverruled is returned to who waits for an entry that was deleted meanwhile.
	ErrOverruled = errors.New("raft log: entry was overruled before it was on disk")
)

// ahead is what the log holds and the disk does not. Guarded by Store.mu.
type ahead struct {
	pending []*raft.Log   // the end of the log, without a gap
	bytes   int           // of pending
	synced  uint64        // the newest entry that was here and is on the disk now
	failed  error         // why they cannot be written; nil: they can
	givenUp bool          // nobody waits for what the disk refuses
	changed chan struct{} // closed when any of these changes; nil if nobody waits
}

// Lead lets StoreLogs of commands return before they are on the disk, as long as leads says
// that this node leads. refused is told when the disk refuses them, which raft does not hear
// before it stores the next: it should be given something to store. Lead is called once.
func (s *Store) Lead(leads func() bool, refused func(error)) {
	s.leading.Store(&leading{leads: leads, refused: refused})
	s.flusher.Go(s.flushLoop)
}

type leading struct {
	leads   func() bool
	refused func(error)
}

// writesAhead says whether these entries may be stored before they are on the disk. raft
// changes its state before it stores what another leader sent, in the loop that calls this.
func (s *Store) writesAhead(logs []*raft.Log) bool {
	l := s.leading.Load()
	if l == nil || !l.leads() {
		return false
	}
	for _, e := range logs {
		if e.Type != raft.LogCommand {
			return false
		}
	}
	return true
}

// enqueue stores entries in memory and has them written. It says no where there are too
// many already, and fails while the disk refuses what came before.
func (s *Store) enqueue(logs []*raft.Log, bytes int) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.ahead.failed != nil:
		return false, s.ahead.failed
	case s.ahead.bytes+bytes > aheadBytesMax || len(s.ahead.pending)+len(logs) > aheadEntriesMax:
		return false, nil
	}
	s.ahead.pending = append(s.ahead.pending, logs...)
	s.ahead.bytes += bytes
	s.gone.index = 0
	for _, l := range logs {
		s.remember(l)
	}
	select {
	case s.wake <- struct{}{}:
	default: // it is awake already
	}
	return true, nil
}

// flushLoop writes what is ahead of the disk. What it cannot write stays in the log, and is
// not tried again: raft-wal v0.4.0 takes nothing more after a write that failed, until it is
// opened again.
func (s *Store) flushLoop() {
	for {
		select {
		case <-s.wake:
		case <-s.closing:
			return
		}
		if err := s.flush(); err != nil {
			s.leading.Load().refused(err)
		}
	}
}

func (s *Store) flush() error {
	s.writing.take()
	defer s.writing.pass()
	return s.drain()
}

// drain writes all that is ahead of the disk. Callers hold writing.
func (s *Store) drain() error {
	for {
		now, err := s.nextFlush()
		if len(now) == 0 || err != nil {
			return err
		}
		err = s.write(now)
		if s.flushed(now, err); err != nil {
			return err
		}
	}
}

// nextFlush is what one fsync is to bring to the disk, or why nothing can be any more.
func (s *Store) nextFlush() ([]*raft.Log, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	bytes, n := 0, 0
	for _, l := range s.ahead.pending {
		if bytes += len(l.Data); bytes > flushBytesMax && n > 0 {
			break
		}
		n++
	}
	return s.ahead.pending[:n:n], s.ahead.failed
}

// flushed notes what became of a write.
func (s *Store) flushed(logs []*raft.Log, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ahead.failed = err; err == nil {
		s.ahead.synced = logs[len(logs)-1].Index
		s.ahead.drop(len(logs))
	}
	s.ahead.tell()
}

// drop forgets the first n of what is pending.
func (a *ahead) drop(n int) {
	for _, l := range a.pending[:n] {
		a.bytes -= len(l.Data)
	}
	clear(a.pending[:n])
	if a.pending = a.pending[n:]; len(a.pending) == 0 {
		a.pending = nil
	}
}

func (a *ahead) tell() {
	if a.changed != nil {
		close(a.changed)
		a.changed = nil
	}
}

// from is the position in pending of the first entry at or beyond index.
func (a *ahead) from(index uint64) int {
	if len(a.pending) == 0 || index <= a.pending[0].Index {
		return 0
	}
	return min(int(index-a.pending[0].Index), len(a.pending))
}

// get finds an entry that is not on the disk yet.
func (a *ahead) get(index uint64, out *raft.Log) bool {
	i := a.from(index)
	if i >= len(a.pending) || a.pending[i].Index != index {
		return false
	}
	*out = *a.pending[i]
	return true
}

// SyncedTo returns the index up to which index is on the disk: itself if it is.
func (s *Store) SyncedTo(index uint64) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.ahead.pending) == 0 {
		return index
	}
	return min(index, s.ahead.pending[0].Index-1)
}

// Synced waits until the log is on the disk up to index. Where the disk refuses, it waits
// until the context ends, the log is given up ([ErrGivenUp]) or the entry is deleted
// ([ErrOverruled]).
func (s *Store) Synced(ctx context.Context, index uint64) error {
	changed, err := s.waitsFor(index)
	if changed == nil {
		return err
	}
	for changed != nil {
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("entry %d is not on disk: %w", index, ctx.Err())
		}
		changed, err = s.waitsFor(index)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil && index > s.ahead.synced {
		err = fmt.Errorf("entry %d: %w", index, ErrOverruled)
	}
	return err
}

// waitsFor returns what is closed when the log may be on the disk up to index; nil: it is,
// or never will be.
func (s *Store) waitsFor(index uint64) (<-chan struct{}, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := &s.ahead
	switch {
	case len(a.pending) == 0 || index < a.pending[0].Index:
		return nil, nil //nolint:nilnil // there is nothing to wait for
	case a.givenUp && a.failed != nil:
		return nil, fmt.Errorf("entry %d: %w: %w", index, ErrGivenUp, a.failed)
	case a.changed == nil:
		a.changed = make(chan struct{})
	}
	return a.changed, nil
}

// GiveUp lets nobody wait any more for what the disk refuses: the log is to be closed.
func (s *Store) GiveUp() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ahead.givenUp = true
	s.ahead.tell()
}

// overrule drops what is ahead of the disk from low on, if high is its end or beyond. Who
// calls it holds writing, too.
func (a *ahead) overrule(low, high uint64) {
	n := len(a.pending)
	if n == 0 || high < a.pending[n-1].Index {
		return
	}
	keep := a.from(low)
	for _, l := range a.pending[keep:] {
		a.bytes -= len(l.Data)
	}
	clear(a.pending[keep:])
	if a.pending = a.pending[:keep]; keep == 0 {
		a.pending, a.failed = nil, nil
	}
	a.tell()
}

// drainBefore writes what is ahead of the disk if a range that ends before its end would leave
// nothing of the log on the disk: where the log ended is noted there. A snapshot may be of all
// that is on the disk. Callers hold writing.
func (s *Store) drainBefore(high uint64) error {
	s.mu.Lock()
	p := s.ahead.pending
	within := len(p) > 0 && high >= p[0].Index-1 && high < p[len(p)-1].Index
	s.mu.Unlock()
	if !within {
		return nil
	}
	return s.drain()
}
