package blobstore

import (
	"errors"
	"fmt"

	"github.com/dgraph-io/badger/v4"
)

const (
	// rowOverheadBytes is what Badger counts for a row beside its value when
	// it decides whether a transaction is full; generously.
	rowOverheadBytes = 64
	// opRowsMax is how many rows an operation writes at most, removal apart:
	// two pieces and a meta row.
	opRowsMax = 3
)

// batch is one transaction for many operations. It belongs to one goroutine,
// which has the turn of the lanes.
type batch struct {
	s     *Store
	lanes laneSet
	txn   *badger.Txn
	rows  int64 // in txn
	size  int64 // as Badger counts it, about

	first, next int    // operations in txn: [first, next)
	index       uint64 // of the log entry that is applied
	number      int    // of the operation in it

	metas   map[ID]*meta       // as changed in this batch; nil for removed
	changes []change           // to publish after the commit
	merges  []chunkRef         // for the merger after the commit
	head    [headBytesMax]byte // of the chunk that is written
}

// change is what followers are told; data is what a live blob grew by.
type change struct {
	info    Info
	removed bool
	offset  int64
	data    []byte
}

func newBatch(s *Store, ops int, set laneSet) *batch {
	return &batch{
		s:       s,
		lanes:   set,
		txn:     s.db.NewTransactionAt(newest, true),
		metas:   make(map[ID]*meta, ops),
		changes: make([]change, 0, ops),
	}
}

func (b *batch) release() { b.txn.Discard() }

// makeRoom commits what is there when op might not fit any more.
func (b *batch) makeRoom(op *Op) error {
	size := int64(metaHeadBytes+metaTotalsBytes+8*aheadMax) + opRowsMax*rowOverheadBytes
	if n := int64(len(op.Data)); n < storeValueThreshold+pieceHeadBytes {
		size += 2 * n
	}
	return b.reserve(opRowsMax, size)
}

// reserve makes room for rows of together size bytes.
func (b *batch) reserve(rows, size int64) error {
	if b.rows+rows < b.s.db.MaxBatchCount()-1 && b.size+size < b.s.db.MaxBatchSize()-rowOverheadBytes {
		return nil
	}
	if err := b.commit(); err != nil {
		return err
	}
	b.txn = b.s.db.NewTransactionAt(newest, true)
	return nil
}

// commit writes the transaction and tells followers and merger.
func (b *batch) commit() error {
	if b.rows > 0 {
		if err := b.s.commit(b.txn); err != nil {
			return err
		}
	}
	for i := range b.changes {
		b.s.publish(&b.changes[i])
	}
	b.s.merger.add(b.merges)
	b.rows, b.size, b.first = 0, 0, b.next
	b.changes, b.merges = b.changes[:0], b.merges[:0]
	return nil
}

// setRow is Store.setRow in this transaction.
func (b *batch) setRow(key, head, data []byte) error { return b.setKept(key, head, data, Kept{}) }

// setKept is Store.setKept in this transaction.
func (b *batch) setKept(key, head, data []byte, kept Kept) error {
	b.rows++
	b.size += rowOverheadBytes
	if n := len(head) + len(data); n < storeValueThreshold {
		b.size += int64(n)
	} else {
		b.size += placeHeadBytes + int64(len(head))
	}
	return b.s.setKept(b.txn, key, head, data, kept)
}

func (b *batch) delete(key []byte) error {
	b.rows++
	b.size += rowOverheadBytes
	if err := b.txn.Delete(key); err != nil {
		return fmt.Errorf("write blobs database: %w", err)
	}
	return nil
}

// meta returns a blob as this batch leaves it, nil if there is none. The
// caller may change it only together with setMeta.
func (b *batch) meta(id ID) (*meta, error) {
	if m, ok := b.metas[id]; ok {
		return m, nil
	}
	if m := b.s.lanes.recall(id); m != nil {
		return m, nil
	}
	m, err := txnMeta(b.txn, id)
	if errors.Is(err, ErrNotFound) {
		return nil, nil //nolint:nilnil // no blob is not a failure here
	}
	if err != nil {
		return nil, brokenRow(err)
	}
	b.metas[id] = m
	return m, nil
}

// brokenRow hides the sentinel of a row that cannot be read where it would
// pass for the outcome of an operation.
func brokenRow(err error) error { return fmt.Errorf("%w: %s", ErrUnreadable, err.Error()) }

func (b *batch) setMeta(id ID, m *meta) error {
	b.changes = append(b.changes, change{info: m.info(id)})
	return b.writeMeta(id, m)
}

func (b *batch) writeMeta(id ID, m *meta) error {
	b.metas[id] = m
	if m.live && !m.sealed {
		b.s.lanes.remember(id, m)
	} else {
		b.s.lanes.forget(id)
	}
	return b.setRow(metaKey(id), m.encode(), nil)
}

// grow is setMeta for a live blob, with the bytes that it grew by.
func (b *batch) grow(id ID, m *meta, offset int64, p []byte) error {
	b.s.counted(id, 0, int64(len(p)))
	b.changes = append(b.changes, change{info: m.info(id), offset: offset, data: p})
	first, end := chunkOf(offset), chunkOf(offset+int64(len(p)))
	for c := first; c < end; c++ {
		b.merges = append(b.merges, chunkRef{id, c})
	}
	return b.writeMeta(id, m)
}

// merge hands the last pieces of a sealed live blob to the merger.
func (b *batch) merge(id ID, m *meta) {
	if m.live && m.sum.size > 0 {
		b.merges = append(b.merges, chunkRef{id, chunkOf(m.sum.size - 1)})
	}
}

// chunkHead makes the head of a chunk's row, valid until the next, and adds the
// chunk to sum.
func (b *batch) chunkHead(p []byte, sum *RootSum) []byte {
	head := appendChunkHead(b.head[:0], p)
	if sum != nil && len(p) > 0 {
		sum.addBlocks(head[chunkHeadBytes:], len(p))
	}
	return head
}

func (b *batch) putChunk(op *Op, chunk uint32, sum *RootSum) error {
	if sum != nil {
		b.s.counted(op.ID, 0, int64(len(op.Data)))
	}
	return b.setKept(chunkKey(op.ID, chunk), b.chunkHead(op.Data, sum), op.Data, op.Kept)
}

// putPieces writes p as pieces that do not cross the end of a chunk.
func (b *batch) putPieces(id ID, off int64, p []byte) error {
	for len(p) > 0 {
		n := min(int64(len(p)), chunkStart(chunkOf(off)+1)-off)
		if err := b.setRow(pieceKey(id, off), pieceHead(p[:n]), p[:n]); err != nil {
			return err
		}
		off, p = off+n, p[n:]
	}
	return nil
}

// closeGap makes the chunks contiguous that were ahead and are no longer.
func (b *batch) closeGap(id ID, m *meta) error {
	for len(m.ahead) > 0 && chunkStart(m.ahead[0].chunk) == m.sum.size {
		a := m.ahead[0]
		n, crcs, err := b.s.chunkSums(b.txn, chunkKey(id, a.chunk))
		if err == nil && n != int(a.bytes) {
			err = fmt.Errorf("chunk of %d bytes, counted as %d: %w", n, a.bytes, ErrCorrupt)
		}
		if err != nil {
			return brokenRow(err)
		}
		m.sum.addBlocks(crcs, n)
		b.s.counted(id, 0, int64(a.bytes))
		m.ahead = m.ahead[1:]
	}
	return nil
}

func (b *batch) readRow(key []byte, fn func(row []byte) error) error {
	return b.s.readRow(b.txn, key, fn)
}

// deleteBlob deletes every row of the blob, in as many transactions as it
// takes; the meta row goes first.
func (b *batch) deleteBlob(id ID, m *meta) error {
	if err := b.delete(metaKey(id)); err != nil {
		return err
	}
	b.metas[id] = nil
	b.s.lanes.forget(id)
	b.changes = append(b.changes, change{info: Info{ID: id}, removed: true})
	var keys [][]byte
	if m != nil && !m.live {
		for c := range m.chunks() {
			keys = append(keys, chunkKey(id, c))
		}
		for _, a := range m.ahead {
			keys = append(keys, chunkKey(id, a.chunk))
		}
	} else {
		for _, kind := range []byte{kindChunk, kindPiece} {
			more, err := keysOf(b.txn, kind, id)
			if err != nil {
				return brokenRow(err)
			}
			keys = append(keys, more...)
		}
	}
	for _, key := range keys {
		if err := b.reserve(1, rowOverheadBytes); err != nil {
			return err
		}
		if err := b.delete(key); err != nil {
			return err
		}
	}
	return nil
}

// chunks is how many chunks the contiguous bytes take.
func (m *meta) chunks() uint32 { return chunkOf(m.sum.size + ChunkBytesMax - 1) }

// keysOf lists the keys of a blob's rows of one kind.
func keysOf(txn *badger.Txn, kind byte, id ID) (keys [][]byte, err error) {
	it := txn.NewIterator(badger.IteratorOptions{Prefix: blobPrefix(kind, id)})
	defer it.Close()
	for item, err := range each(it, it.Rewind) {
		if err != nil {
			return nil, err
		}
		keys = append(keys, item.KeyCopy(nil))
	}
	return keys, nil
}
