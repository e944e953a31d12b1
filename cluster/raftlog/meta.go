package raftlog

import (
	"bytes"
	"fmt"
	"reflect"
	"slices"

	"github.com/hashicorp/raft-wal/metadb"
	"github.com/hashicorp/raft-wal/types"
)

// What raft keeps beside the log: its term and its vote.
const (
	keyTerm     = "CurrentTerm"
	keyVoteTerm = "LastVoteTerm"
	keyVote     = "LastVoteCand"
)

// codecMeta and segments say which codec was used: raft-wal v0.4.0 notes its own
// whatever it is given, and refuses the log at the next start.
type codecMeta struct {
	*metadb.BoltMetaDB

	segments *segments
}

// CommitState writes down which segments there are.
func (m codecMeta) CommitState(state types.PersistentState) error {
	state.Segments = slices.Clone(state.Segments)
	for i := range state.Segments {
		state.Segments[i].Codec = checkedCodecID
	}
	return m.BoltMetaDB.CommitState(state) //nolint:wrapcheck // raft-wal compares this error
}

// Load reads which segments there are, and tries the store by writing that again. A
// damaged list of free pages is not looked at before the first write, which then
// panics, or takes a page that is in use: better here, where a panic is damage, than
// in the midst of an election.
func (m codecMeta) Load(dir string) (types.PersistentState, error) {
	state, err := m.BoltMetaDB.Load(dir)
	if err != nil || len(state.Segments) == 0 {
		return state, err //nolint:wrapcheck // raft-wal compares this error
	}
	before, err := m.stable()
	if err != nil {
		return state, err
	}
	if err := m.BoltMetaDB.CommitState(state); err != nil {
		return state, err //nolint:wrapcheck // as above
	}
	for i, key := range stableKeys() {
		if before[i] == nil {
			continue
		}
		if err := m.SetStable([]byte(key), before[i]); err != nil {
			return state, err //nolint:wrapcheck // as above
		}
	}
	again, err := m.BoltMetaDB.Load(dir)
	if err != nil {
		return state, err //nolint:wrapcheck // as above
	}
	after, err := m.stable()
	if err == nil && (!reflect.DeepEqual(again, state) || !slices.EqualFunc(after, before, bytes.Equal)) {
		err = fmt.Errorf("meta store does not keep what it is given: %w", ErrDamaged)
	}
	if err != nil {
		return state, err
	}
	whole, err := m.segments.finishSeal(again)
	if err == nil && len(whole.Segments) > len(state.Segments) {
		err = m.CommitState(whole)
	}
	return whole, err
}

func stableKeys() []string { return []string{keyTerm, keyVoteTerm, keyVote} }

// stable is what raft keeps, in the order of stableKeys; nil for what there is not.
func (m codecMeta) stable() (values [][]byte, err error) {
	for _, key := range stableKeys() {
		value, err := m.GetStable([]byte(key))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
		values = append(values, value)
	}
	return values, nil
}
