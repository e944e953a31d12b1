package cluster

import (
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/hashicorp/raft"

	"carillon/blobstore"
)

// Apply is a pure function of the log: no clock, no randomness, no config, and
// no I/O but the shelf. Times and decisions travel in the command; refusals
// happen before a proposal. A command that cannot be understood, or a shelf
// that fails, breaks the machine for good: it applies nothing more, and the
// node stops. Going on would be to disagree with the others in silence.

// breaker is what both machines share.
type breaker struct {
	broken  atomic.Pointer[error]
	fatal   func(error) // tells the node, once
	counter func(index uint64, bytes int)
}

func (b *breaker) count(f func(index uint64, bytes int)) { b.counter = f }

func (b *breaker) counted(logs []*raft.Log) {
	if b.counter == nil {
		return
	}
	for _, l := range logs {
		b.counter(l.Index, len(l.Data))
	}
}

// stop breaks the machine and returns the error for every entry.
func (b *breaker) stop(err error, n int) []any {
	err = fmt.Errorf("%w: %w", errBroken, err)
	if b.broken.CompareAndSwap(nil, &err) {
		b.fatal(err)
	}
	return same(*b.broken.Load(), n)
}

func same(err error, n int) []any {
	out := make([]any, n)
	for i := range out {
		out[i] = err
	}
	return out
}

// catalogMachine applies transactions to the node's catalog.
type catalogMachine struct {
	breaker
	store *blobstore.CatalogStore
}

var _ machine = (*catalogMachine)(nil)

func (m *catalogMachine) check(cmd []byte) error {
	_, _, err := decodeTxn(cmd)
	return err
}

// Apply applies one entry.
func (m *catalogMachine) Apply(l *raft.Log) any { return m.ApplyBatch([]*raft.Log{l})[0] }

// ApplyBatch applies entries in one transaction and one fsync. Each response is
// an error or nil.
func (m *catalogMachine) ApplyBatch(logs []*raft.Log) []any {
	if m.broken.Load() != nil {
		return same(*m.broken.Load(), len(logs))
	}
	entries := make([]blobstore.TxnEntry, 0, len(logs))
	for _, l := range logs {
		if l.Type != raft.LogCommand {
			continue
		}
		id, txn, err := decodeTxn(l.Data)
		if err != nil {
			return m.stop(fmt.Errorf("catalog entry %d: %w", l.Index, err), len(logs))
		}
		entries = append(entries, blobstore.TxnEntry{Index: l.Index, ID: id, Txn: txn})
	}
	results, err := m.store.Apply(entries)
	if err != nil {
		return m.stop(fmt.Errorf("apply to catalog: %w", err), len(logs))
	}
	m.counted(logs)
	out := make([]any, len(logs))
	next := 0
	for i, l := range logs {
		if l.Type != raft.LogCommand {
			continue
		}
		if results[next] != nil {
			out[i] = results[next]
		}
		next++
	}
	return out
}

// Snapshot pins an exact view of the catalog.
func (m *catalogMachine) Snapshot() (raft.FSMSnapshot, error) {
	s, err := m.store.Snapshot()
	if err != nil {
		return nil, fmt.Errorf("snapshot of catalog: %w", err)
	}
	return catalogSnapshot{s}, nil
}

// Restore replaces the catalog by a leader's snapshot.
func (m *catalogMachine) Restore(r io.ReadCloser) error {
	err := m.store.Restore(r)
	return errors.Join(err, r.Close())
}

// recover restores the newest snapshot again if the catalog is behind it, as
// after a crash in the middle of Restore: raft is told not to restore at
// start, because the catalog is on disk already.
func (m *catalogMachine) recover(snapshots raft.SnapshotStore) error {
	list, err := snapshots.List()
	if err != nil {
		return fmt.Errorf("list snapshots: %w", err)
	}
	if len(list) == 0 || m.store.Applied() >= list[0].Index {
		return nil
	}
	_, r, err := snapshots.Open(list[0].ID)
	if err != nil {
		return fmt.Errorf("open snapshot %s: %w", list[0].ID, err)
	}
	return m.Restore(r)
}

type catalogSnapshot struct{ *blobstore.CatalogSnapshot }

// Persist streams the view.
func (s catalogSnapshot) Persist(sink raft.SnapshotSink) error {
	if _, err := s.WriteTo(sink); err != nil {
		return errors.Join(fmt.Errorf("write catalog snapshot: %w", err), sink.Cancel())
	}
	return sink.Close() //nolint:wrapcheck // raft logs it
}

// blobMachine applies blob operations to the node's shelf, for one group.
type blobMachine struct {
	breaker
	store *blobstore.Store
	// owns says whether a blob belongs to this group.
	owns func(blobstore.ID) bool
	// pull fetches from another member what a manifest names and this node
	// does not hold.
	pull func(manifest *manifestReader) error
}

var _ machine = (*blobMachine)(nil)

func (m *blobMachine) check(cmd []byte) error {
	_, err := decodeBlobs(cmd)
	return err
}

// Apply applies one entry.
func (m *blobMachine) Apply(l *raft.Log) any { return m.ApplyBatch([]*raft.Log{l})[0] }

// ApplyBatch applies entries in one write. Each response is []error, one for
// each operation of the entry.
func (m *blobMachine) ApplyBatch(logs []*raft.Log) []any {
	if m.broken.Load() != nil {
		return same(*m.broken.Load(), len(logs))
	}
	var all []blobstore.Op
	counts := make([]int, len(logs))
	for i, l := range logs {
		if l.Type != raft.LogCommand {
			continue
		}
		ops, err := decodeBlobs(l.Data)
		if err != nil {
			return m.stop(fmt.Errorf("blob entry %d: %w", l.Index, err), len(logs))
		}
		for k := range ops {
			ops[k].Index = l.Index
		}
		counts[i] = len(ops)
		if all == nil {
			all = ops
		} else {
			all = append(all, ops...)
		}
	}
	results := m.store.Apply(all)
	for _, err := range results {
		if !blobstore.IsOutcome(err) {
			return m.stop(fmt.Errorf("apply to shelf: %w", err), len(logs))
		}
	}
	m.counted(logs)
	out := make([]any, len(logs))
	for i, n := range counts {
		out[i], results = results[:n:n], results[n:]
	}
	return out
}

// Snapshot pins nothing: the manifest may be newer than the position it is for,
// because every operation can be replayed on a later state.
func (m *blobMachine) Snapshot() (raft.FSMSnapshot, error) {
	return blobSnapshot{store: m.store, owns: m.owns}, nil
}

// Restore fetches what the manifest names and this node lacks, and returns when
// all of it is here and on disk: raft then counts this node as a copy.
func (m *blobMachine) Restore(r io.ReadCloser) error {
	manifest, err := openManifest(r)
	if err == nil {
		err = m.pull(manifest)
	}
	return errors.Join(err, r.Close())
}

// recover has nothing to do: an interrupted Restore left raft without the
// snapshot, so the leader sends it again.
func (m *blobMachine) recover(raft.SnapshotStore) error { return nil }

type blobSnapshot struct {
	store *blobstore.Store
	owns  func(blobstore.ID) bool
}

// Persist makes everything applied durable in the shelf and writes the
// manifest. Only after that does raft drop the log: until then the log is the
// durable copy (the invariant of design section 3).
func (s blobSnapshot) Persist(sink raft.SnapshotSink) error {
	err := s.store.Sync()
	if err == nil {
		err = writeManifest(sink, s.store, s.owns)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write manifest: %w", err), sink.Cancel())
	}
	return sink.Close() //nolint:wrapcheck // raft logs it
}

// Release frees nothing.
func (blobSnapshot) Release() {}
