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
	long  int64 // bytes of values that go to the value log

	first, next int    // operations in txn: [first, next)
	index       uint64 // of the log entry that is applied
	number      int    // of the operation in it

	metas   map[ID]*meta // as changed in this batch; nil for removed
	changes []change     // to publish after the commit
	merges  []chunkRef   // for the merger after the commit
	used    []*[]byte    // row buffers, free after the commit
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

func (b *batch) release() {
	b.txn.Discard()
	b.freeRows()
}

func (b *batch) freeRows() {
	for _, row := range b.used {
		b.s.buffers.row.Put(row)
	}
	b.used = b.used[:0]
}

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
	b.s.early.wrote(b.long)
	for i := range b.changes {
		b.s.publish(&b.changes[i])
	}
	b.s.merger.add(b.merges)
	b.freeRows()
	b.rows, b.size, b.long, b.first = 0, 0, 0, b.next
	b.changes, b.merges = b.changes[:0], b.merges[:0]
	return nil
}

func (b *batch) set(key, value []byte) error { return b.setMarked(key, value, 0) }

// setMarked writes a row whose key carries a byte about the content, see mark.
func (b *batch) setMarked(key, value []byte, mark byte) error {
	b.rows++
	b.size += rowOverheadBytes
	if len(value) < storeValueThreshold {
		b.size += int64(len(value))
	} else {
		b.long += int64(len(value))
	}
	if err := b.txn.SetEntry(badger.NewEntry(key, value).WithMeta(mark)); err != nil {
		return fmt.Errorf("write blobs database: %w", err)
	}
	return nil
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
func brokenRow(err error) error { return fmt.Errorf("database: %s", err.Error()) }

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
	return b.set(metaKey(id), m.encode())
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

// row makes the row of a chunk in a pooled buffer and adds it to sum.
func (b *batch) row(p []byte, sum *RootSum) []byte {
	buf := take(&b.s.buffers.row)
	b.used = append(b.used, buf)
	row := appendChunk((*buf)[:0], p)
	if sum != nil && len(p) > 0 {
		sum.addBlocks(row[chunkHeadBytes:len(row)-len(p)], len(p))
	}
	return row
}

func (b *batch) putChunk(id ID, chunk uint32, p []byte, sum *RootSum) error {
	if sum != nil {
		b.s.counted(id, 0, int64(len(p)))
	}
	row := b.row(p, sum)
	return b.setMarked(chunkKey(id, chunk), row, chunkMark(row))
}

// putPieces writes p as pieces that do not cross the end of a chunk.
func (b *batch) putPieces(id ID, off int64, p []byte) error {
	for len(p) > 0 {
		n := min(int64(len(p)), chunkStart(chunkOf(off)+1)-off)
		row := appendPiece(make([]byte, 0, pieceHeadBytes+n), p[:n])
		if err := b.setMarked(pieceKey(id, off), row, pieceMark(row)); err != nil {
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
		err := b.readRow(chunkKey(id, a.chunk), func(row []byte) error {
			c, err := viewChunk(row)
			if err != nil {
				return err
			}
			if len(c.data) != int(a.bytes) {
				return fmt.Errorf("chunk of %d bytes, counted as %d: %w", len(c.data), a.bytes, ErrCorrupt)
			}
			m.sum.addBlocks(c.crcs, len(c.data))
			return nil
		})
		if err != nil {
			return brokenRow(err)
		}
		b.s.counted(id, 0, int64(a.bytes))
		m.ahead = m.ahead[1:]
	}
	return nil
}

func (b *batch) readRow(key []byte, fn func(row []byte) error) error {
	return readRow(b.txn, key, fn)
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
		keys = append(keysOf(b.txn, kindChunk, id), keysOf(b.txn, kindPiece, id)...)
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
func keysOf(txn *badger.Txn, kind byte, id ID) [][]byte {
	var keys [][]byte
	it := txn.NewIterator(badger.IteratorOptions{Prefix: blobPrefix(kind, id)})
	defer it.Close()
	for it.Rewind(); it.Valid(); it.Next() {
		keys = append(keys, it.Item().KeyCopy(nil))
	}
	return keys
}
