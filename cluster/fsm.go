package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"unsafe"

	"github.com/hashicorp/raft"

	"carillon/blobstore"
	"carillon/cluster/command"
	"carillon/cluster/raftlog"
	"carillon/cluster/snapshot"
)

// Apply is a pure function of the log: no clock, no randomness, no config, and
// no I/O but the shelf. Times and decisions travel in the command; refusals
// happen before a proposal. A command that cannot be understood, or a shelf
// that fails, breaks the machine for good: it applies nothing more, and the
// node stops. Going on would be to disagree with the others in silence.

// breaker is what both machines share.
type breaker struct {
	broken atomic.Pointer[error]
	fatal  func(error) // tells the node, once
	// reads is the newest format of commands that is understood.
	reads   byte
	counter func(index uint64, bytes int)
	places  func(*raft.Log) (blobstore.Kept, bool)
}

func (b *breaker) count(f func(index uint64, bytes int)) { b.counter = f }

func (b *breaker) keep(places func(*raft.Log) (blobstore.Kept, bool)) { b.places = places }

// kept says where the log has the sound that operations of an entry bring.
func (b *breaker) kept(l *raft.Log, ops []blobstore.Op) {
	if b.places == nil {
		return
	}
	entry, ok := b.places(l)
	for i := range ops {
		if off := within(l.Data, ops[i].Data); ok && off >= 0 {
			ops[i].Kept = blobstore.Kept{File: entry.File, Offset: entry.Offset + int64(off)}
		}
	}
}

// within is where in whole a part of it begins, -1 if it is none.
func within(whole, part []byte) int {
	if len(part) == 0 || len(part) > len(whole) {
		return -1
	}
	at := address(part) - address(whole)
	if at > uintptr(len(whole)-len(part)) {
		return -1
	}
	return int(at)
}

func address(p []byte) uintptr {
	return uintptr(unsafe.Pointer(unsafe.SliceData(p))) //nolint:gosec // nothing is read by it
}

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

// failure is why the machine is broken. Such a machine has not applied what
// raft counts as applied: a snapshot would stand for it, and the log would go.
func (b *breaker) failure() error {
	if err := b.broken.Load(); err != nil {
		return *err
	}
	return nil
}

// restored stops the machine if a snapshot cannot be understood: the leader
// would send it again for ever.
func (b *breaker) restored(err error) error {
	if errors.Is(err, blobstore.ErrFormat) {
		b.stop(fmt.Errorf("snapshot: %w", err), 0)
	}
	return err
}

func same(err error, n int) []any {
	out := make([]any, n)
	for i := range out {
		out[i] = err
	}
	return out
}

// catalogMachine applies transactions to the node's catalog, and the sound that
// some of them carry to its shelf.
type catalogMachine struct {
	breaker
	store *blobstore.CatalogStore
	blobs *blobstore.Store
	// fetch brings here what entries carried that a snapshot stands for.
	fetch func() error
}

var _ machine = (*catalogMachine)(nil)

func (m *catalogMachine) check(cmd []byte) error {
	_, err := command.DecodeCatalog(cmd, m.reads)
	return err
}

// Apply applies one entry.
func (m *catalogMachine) Apply(l *raft.Log) any { return m.ApplyBatch([]*raft.Log{l})[0] }

// ApplyBatch applies entries in one transaction and one fsync. Each response is
// a blobstore.TxnResult, or the error that stopped the machine; nil for what
// holds no command.
func (m *catalogMachine) ApplyBatch(logs []*raft.Log) []any {
	if m.broken.Load() != nil {
		return same(*m.broken.Load(), len(logs))
	}
	entries := make([]blobstore.TxnEntry, 0, len(logs))
	var sounds []blobstore.Op
	for _, l := range logs {
		if l.Type != raft.LogCommand {
			continue
		}
		c, err := command.DecodeCatalog(l.Data, m.reads)
		if err != nil {
			return m.stop(fmt.Errorf("catalog entry %d: %w", l.Index, err), len(logs))
		}
		if len(c.Sound) > 0 && m.wants(l.Index, c.Sound[0].ID) {
			m.kept(l, c.Sound)
			sounds = append(sounds, c.Sound...)
		}
		entries = append(entries, blobstore.TxnEntry{Index: l.Index, ID: c.ID, Txn: c.Txn})
	}
	if err := m.shelve(sounds); err != nil {
		return m.stop(err, len(logs))
	}
	results, err := m.store.Apply(entries)
	if errors.Is(err, blobstore.ErrCorrupt) {
		err = fmt.Errorf("%w: %w", ErrDamaged, err)
	}
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
		out[i] = results[next]
		next++
	}
	return out
}

// wants says whether the sound of an entry is to be stored. At a replay the
// catalog is ahead of the entry: what it refers to no more was freed since.
func (m *catalogMachine) wants(index uint64, id blobstore.ID) bool {
	if index > m.store.Applied() {
		return true
	}
	for row, err := range m.store.Scan(context.Background(), blobstore.RefKey(id, ""), "") {
		return err != nil || row.Key != ""
	}
	return false
}

// shelve stores what entries carry, before their rows can be seen. A refusal is
// no outcome of a transaction: it was checked before it was proposed, and the
// name is new, so it means that this shelf holds something else.
func (m *catalogMachine) shelve(sounds []blobstore.Op) error {
	if len(sounds) == 0 {
		return nil
	}
	for i, err := range m.blobs.Apply(sounds) {
		if err != nil {
			return fmt.Errorf("apply sound %s to shelf: %w", sounds[i].ID, err)
		}
	}
	return nil
}

// Snapshot pins an exact view of the catalog.
func (m *catalogMachine) Snapshot() (raft.FSMSnapshot, error) {
	if err := m.failure(); err != nil {
		return nil, err
	}
	s, err := m.store.Snapshot()
	if err != nil {
		return nil, fmt.Errorf("snapshot of catalog: %w", err)
	}
	return catalogSnapshot{CatalogSnapshot: s, blobs: m.blobs}, nil
}

// Restore replaces the catalog by a leader's snapshot and fetches the sound
// that came with its rows: raft then counts this node as a copy of both.
func (m *catalogMachine) Restore(r io.ReadCloser) error {
	if err := m.restoreRows(r); err != nil {
		return m.restored(err)
	}
	return m.fetch()
}

func (m *catalogMachine) restoreRows(r io.ReadCloser) error {
	return errors.Join(m.store.Restore(r), r.Close())
}

// recover restores the newest snapshot again if the catalog is behind it, as
// after a crash in the middle of Restore: raft is told not to restore at
// start, because the catalog is on disk already. Sound is not fetched: when the
// snapshot was made, or restored from a leader, the shelf had it durably.
// raftlog.ErrDamaged: the snapshot is not what was written.
func (m *catalogMachine) recover(snapshots raft.SnapshotStore) error {
	list, err := snapshots.List()
	if err != nil {
		return fmt.Errorf("list snapshots: %w", err)
	}
	if len(list) == 0 || m.store.Applied() >= list[0].Index {
		return nil
	}
	_, r, err := snapshots.Open(list[0].ID)
	if err == nil {
		err = m.restoreRows(r)
	}
	if snapshot.IsDamage(err) {
		err = fmt.Errorf("%w: %w", raftlog.ErrDamaged, err)
	}
	if err != nil {
		return fmt.Errorf("snapshot %s: %w", list[0].ID, err)
	}
	return nil
}

type catalogSnapshot struct {
	*blobstore.CatalogSnapshot

	blobs *blobstore.Store
}

// Persist streams the view, after what the entries before it carried is durable
// in the shelf: raft drops them next.
func (s catalogSnapshot) Persist(sink raft.SnapshotSink) error {
	err := s.blobs.Sync()
	if err == nil {
		_, err = s.WriteTo(sink)
	}
	if err != nil {
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
	pull func(manifest *snapshot.Manifest) error
}

var _ machine = (*blobMachine)(nil)

func (m *blobMachine) check(cmd []byte) error {
	_, err := command.DecodeBlobs(cmd, m.reads)
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
		ops, err := command.DecodeBlobs(l.Data, m.reads)
		if err != nil {
			return m.stop(fmt.Errorf("blob entry %d: %w", l.Index, err), len(logs))
		}
		for k := range ops {
			ops[k].Index = l.Index
		}
		m.kept(l, ops)
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
	if err := m.failure(); err != nil {
		return nil, err
	}
	return blobSnapshot{store: m.store, owns: m.owns}, nil
}

// Restore fetches what the manifest names and this node lacks, and returns when
// all of it is here and on disk: raft then counts this node as a copy.
func (m *blobMachine) Restore(r io.ReadCloser) error {
	manifest, err := snapshot.OpenManifest(r)
	if err == nil {
		err = m.pull(manifest)
	}
	return m.restored(errors.Join(err, r.Close()))
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
		err = snapshot.WriteManifest(sink, s.store, s.owns)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write manifest: %w", err), sink.Cancel())
	}
	return sink.Close() //nolint:wrapcheck // raft logs it
}

// Release frees nothing.
func (blobSnapshot) Release() {}
