package raftlog

import (
	"errors"

	"github.com/hashicorp/raft"
)

// emptied is what raft v1.8.0 forgets when a leader's snapshot replaces the log
// of a follower. It empties the log store, as it must with one like raft-wal, but
// goes on believing in the last entry that was in it: if that was at or beyond
// the snapshot's index, it looks for entries that are gone, or compares a term of
// theirs, refuses all that follows the snapshot, and is sent the same snapshot
// again until it is restarted or the leader has a later one (the neighbour of
// hashicorp/raft#697, see UPSTREAM.md).
//
// So the store answers for what it held: the entry that the snapshot ends with
// has the snapshot's term, those behind it have none, which no leader's entry
// has, so that raft overrules them. The next entry that is stored ends that.
type emptied struct {
	index, term uint64 // of the last entry that was there; 0: nothing to answer for
}

// get answers for an entry that is gone. The newest snapshot is the one for which
// the log was emptied.
func (e *emptied) get(newest func() (index, term uint64), index uint64, out *raft.Log) bool {
	if e.index == 0 || index > e.index || newest == nil {
		return false
	}
	at, term := newest()
	switch {
	case at == 0 || index < at:
		return false
	case index == at:
		*out = raft.Log{Index: index, Term: term, Type: raft.LogNoop}
	default:
		*out = raft.Log{Index: index, Type: raft.LogNoop}
	}
	return true
}

// emptying notes what is lost when a range is deleted, and says that it is all.
func (s *Store) emptying(low, high uint64) (emptied, error) {
	first, err := s.FirstIndex()
	if err != nil {
		return emptied{}, err //nolint:wrapcheck // raft compares this error
	}
	last, err := s.LastIndex()
	if err != nil || last == 0 || low > first || high < last {
		return emptied{}, err //nolint:wrapcheck // as above
	}
	var l raft.Log
	s.mu.Lock()
	found := s.ahead.get(last, &l)
	s.mu.Unlock()
	if found {
		return emptied{index: last, term: l.Term}, nil
	}
	if err := s.WAL.GetLog(last, &l); err != nil && !errors.Is(err, raft.ErrLogNotFound) {
		return emptied{}, err //nolint:wrapcheck // as above
	}
	return emptied{index: last, term: l.Term}, nil
}

// Mend makes a message that follows the snapshot acceptable to raft, where raft
// would compare the term of its last entry that is gone.
func (s *Store) Mend(r *raft.AppendEntriesRequest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone.index == 0 || r.PrevLogEntry != s.gone.index || s.cfg.Snapshot == nil {
		return
	}
	if at, term := s.cfg.Snapshot(); at == r.PrevLogEntry && term == r.PrevLogTerm {
		r.PrevLogTerm = s.gone.term
	}
}
