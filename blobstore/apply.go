package blobstore

import (
	"fmt"
)

// maxPosOps bounds the operations of one log entry: the position of an
// operation is its entry's index and its number in it.
const maxPosOps = 1 << 16

// Apply applies ops in order and returns an error for each, nil or one of the
// outcomes of [Writer]. Calls for different blobs may run at the same time; those
// for one come in the order of the log. It depends on nothing but the ops and
// what is stored, so replicas that apply the same log agree. What it did is
// visible when it returns, and durable only after [Store.Sync]. Data is not kept.
//
// Applying any tail of the log again on top of a later state changes nothing,
// and on top of a state that lost unsynced writes restores them: see
// DESIGN.md, "Replay". An error for which [IsOutcome] is false means that the
// disk failed and the node must stop.
func (s *Store) Apply(ops []Op) []error {
	errs := make([]error, len(ops))
	if err := s.gate.enter(); err != nil {
		return fillErrors(errs, err)
	}
	defer s.gate.leave()
	set := lanesOf(ops)
	s.lanes.take(set)
	defer s.lanes.leave(set)
	b := newBatch(s, len(ops), set)
	defer b.release()
	for i := range ops {
		op := &ops[i]
		b.count(op)
		err := b.makeRoom(op)
		if err == nil {
			err = b.apply(op)
		}
		if !IsOutcome(err) {
			return b.broken(errs, err)
		}
		errs[i] = err
		b.next = i + 1
	}
	if err := b.commit(); err != nil {
		return b.broken(errs, err)
	}
	return errs
}

// count numbers the operations of a log entry.
func (b *batch) count(op *Op) {
	if b.next > 0 && op.Index == b.index {
		b.number++
	} else {
		b.index, b.number = op.Index, 0
	}
}

// broken ends a batch that the disk did not take.
func (b *batch) broken(errs []error, err error) []error {
	b.s.lanes.forgetAll(b.lanes) // they may be ahead of the disk
	fillErrors(errs[b.first:], err)
	return errs
}

func fillErrors(errs []error, err error) []error {
	for i := range errs {
		errs[i] = err
	}
	return errs
}

// apply changes the batch by one operation, or not at all.
func (b *batch) apply(op *Op) error {
	if op.ID.IsZero() {
		return fmt.Errorf("zero id: %w", ErrBadID)
	}
	if op.Offset < 0 || op.Offset > BlobBytesMax-ChunkBytesMax || len(op.Data) > ChunkBytesMax {
		return fmt.Errorf("%d bytes at %d: %w", len(op.Data), op.Offset, ErrTooLarge)
	}
	m, err := b.meta(op.ID)
	if err != nil {
		return err
	}
	switch op.Kind {
	case OpBegin:
		return b.begin(op, m)
	case OpAppend:
		return b.append(op, m)
	case OpSeal:
		return b.seal(op, m)
	case OpPut:
		return b.put(op, m)
	case OpRemove:
		return b.remove(op, m)
	}
	return fmt.Errorf("operation %d: %w", op.Kind, ErrConflict)
}

// pos is where in the log the operation stands; 0 without a log.
func (b *batch) pos(op *Op) uint64 {
	if op.Index == 0 {
		return 0
	}
	return op.Index*maxPosOps + uint64(min(b.number, maxPosOps-1))
}

// replayed says that m already has what op did behind it: op may restore what
// is lost, and change nothing.
func (b *batch) replayed(op *Op, m *meta) bool {
	return op.Index != 0 && m != nil && b.pos(op) <= m.pos
}

// touch marks m as changed by op.
func (b *batch) touch(op *Op, m *meta) {
	m.pos = max(m.pos, b.pos(op))
	m.updated = millis(op.At)
}

func (b *batch) begin(op *Op, m *meta) error {
	if m == nil {
		m = &meta{live: op.Spec.Live, created: millis(op.Spec.Created)}
		b.touch(op, m)
		b.s.counted(op.ID, 1, 0)
		return b.setMeta(op.ID, m)
	}
	if m.live != op.Spec.Live {
		return fmt.Errorf("blob %v has begun as another kind: %w", op.ID, ErrConflict)
	}
	return nil
}

func (b *batch) append(op *Op, m *meta) error {
	if m == nil {
		return fmt.Errorf("append to blob %v: %w", op.ID, ErrNotFound)
	}
	if m.live {
		return b.appendLive(op, m)
	}
	return b.appendChunk(op, m)
}

// appendLive adds a piece at the end of a live blob.
func (b *batch) appendLive(op *Op, m *meta) error {
	p, off, size := op.Data, op.Offset, m.sum.size
	if len(p) > LivePieceBytesMax {
		return fmt.Errorf("live piece of %d bytes: %w", len(p), ErrTooLarge)
	}
	if off > size {
		return fmt.Errorf("piece at %d, blob of %d bytes: %w", off, size, ErrGap)
	}
	if old := min(int64(len(p)), size-off); old > 0 {
		if err := b.comparePiece(op.ID, m, off, p[:old]); err != nil {
			return err
		}
		off, p = off+old, p[old:]
	}
	switch {
	case len(p) == 0:
		return nil
	case m.sealed:
		return fmt.Errorf("append at %d to blob %v: %w", off, op.ID, ErrSealed)
	case b.replayed(op, m):
		return fmt.Errorf("piece at %d was refused: %w", off, ErrGap)
	}
	if err := b.putPieces(op.ID, off, p); err != nil {
		return err
	}
	_, _ = m.sum.Write(p) // never fails
	b.touch(op, m)
	return b.grow(op.ID, m, off, p)
}

// appendChunk adds a chunk of an upload.
func (b *batch) appendChunk(op *Op, m *meta) error {
	if op.Offset%ChunkBytesMax != 0 {
		return fmt.Errorf("chunk at %d: %w", op.Offset, ErrConflict)
	}
	if len(op.Data) == 0 {
		return nil
	}
	chunk := chunkOf(op.Offset)
	if have := m.chunkBytes(chunk); have > 0 {
		return b.compareChunk(op.ID, chunk, have, op.Data)
	}
	switch {
	case m.sealed:
		return fmt.Errorf("append at %d to blob %v: %w", op.Offset, op.ID, ErrSealed)
	case b.replayed(op, m):
		return fmt.Errorf("chunk at %d was refused: %w", op.Offset, ErrConflict)
	case !m.fits(chunk, len(op.Data)):
		return fmt.Errorf("chunk at %d beside a short one: %w", op.Offset, ErrConflict)
	}
	m = m.clone()
	add := b.addAhead
	if chunkStart(chunk) == m.sum.size {
		add = b.addNext
	}
	if err := add(op, m, chunk); err != nil {
		return err
	}
	b.touch(op, m)
	return b.setMeta(op.ID, m)
}

// addNext adds the chunk at the end of the contiguous bytes.
func (b *batch) addNext(op *Op, m *meta, chunk uint32) error {
	if err := b.putChunk(op, chunk, &m.sum); err != nil {
		return err
	}
	return b.closeGap(op.ID, m)
}

// addAhead adds a chunk beyond a gap.
func (b *batch) addAhead(op *Op, m *meta, chunk uint32) error {
	if len(m.ahead) == aheadMax {
		return fmt.Errorf("chunk at %d, blob of %d bytes: %w", op.Offset, m.sum.size, ErrGap)
	}
	m.insertAhead(chunk, len(op.Data))
	return b.putChunk(op, chunk, nil)
}

// seal closes the blob if it is exactly what totals say.
func (b *batch) seal(op *Op, m *meta) error {
	if m == nil {
		return fmt.Errorf("seal blob %v: %w", op.ID, ErrNotFound)
	}
	if m.sealed {
		if m.totals != op.Totals {
			return fmt.Errorf("blob %v is sealed with other totals: %w", op.ID, ErrConflict)
		}
		if m.live {
			b.merge(op.ID, m) // after a loss: its pieces may have come back
		}
		return nil
	}
	if b.replayed(op, m) || !m.matches(op.Totals) {
		return fmt.Errorf("blob %v has %d bytes, root %08x: sealed as %d, %08x: %w",
			op.ID, m.sum.size, m.sum.Sum32(), op.Totals.Size, op.Totals.Root, ErrCorrupt)
	}
	m.sealed, m.totals = true, op.Totals
	b.touch(op, m)
	b.merge(op.ID, m)
	return b.setMeta(op.ID, m)
}

// put is begin, append and seal in one.
func (b *batch) put(op *Op, m *meta) error {
	if m != nil {
		if done, err := b.putOnto(op, m); done {
			return err
		}
	}
	var sum RootSum
	head := b.chunkHead(op.Data, &sum)
	made := &meta{live: op.Spec.Live, created: millis(op.Spec.Created), sum: sum}
	if m != nil {
		made.created, made.pos = m.created, m.pos
	}
	if !made.matches(op.Totals) {
		return fmt.Errorf("put of %d bytes, root %08x: sealed as %d, %08x: %w",
			sum.size, sum.Sum32(), op.Totals.Size, op.Totals.Root, ErrCorrupt)
	}
	if len(op.Data) > 0 {
		if err := b.setKept(chunkKey(op.ID, 0), head, op.Data, op.Kept); err != nil {
			return err
		}
	}
	if m == nil {
		b.s.counted(op.ID, 1, 0)
	}
	made.sealed, made.totals = true, op.Totals
	b.touch(op, made)
	b.s.counted(op.ID, 0, sum.size)
	return b.setMeta(op.ID, made)
}

// putOnto is a put of a blob that has begun. Not done: it is still empty.
func (b *batch) putOnto(op *Op, m *meta) (done bool, err error) {
	switch {
	case m.live != op.Spec.Live:
		return true, fmt.Errorf("blob %v has begun as another kind: %w", op.ID, ErrConflict)
	case m.sealed && m.totals != op.Totals:
		return true, fmt.Errorf("blob %v is sealed with other totals: %w", op.ID, ErrConflict)
	case m.sealed && (m.live || len(op.Data) == 0):
		return true, nil
	case m.sealed:
		return true, b.compareChunk(op.ID, 0, m.chunkBytes(0), op.Data)
	case b.replayed(op, m):
		return true, fmt.Errorf("put of blob %v was refused: %w", op.ID, ErrCorrupt)
	case m.sum.size == 0 && len(m.ahead) == 0:
		return false, nil
	case !m.matches(op.Totals):
		return true, fmt.Errorf("put of blob %v, which holds %d bytes: %w", op.ID, m.sum.size, ErrConflict)
	}
	return true, b.seal(op, m) // it is all there
}

// remove frees every row of the blob, known or not: after a loss there may be
// rows that no meta row counts.
func (b *batch) remove(op *Op, m *meta) error {
	if b.replayed(op, m) {
		return nil // it began anew after this
	}
	if m != nil {
		b.s.counted(op.ID, -1, -m.sum.size)
		b.s.garbage.Add(m.sum.size)
	}
	return b.deleteBlob(op.ID, m)
}

// matches says whether the contiguous bytes are all and what totals say.
func (m *meta) matches(t Totals) bool {
	return len(m.ahead) == 0 && m.sum.size == t.Size && m.sum.Sum32() == t.Root
}

// chunkBytes is how many bytes of the chunk m counts, 0 for none.
func (m *meta) chunkBytes(chunk uint32) int {
	if start := chunkStart(chunk); start < m.sum.size {
		return int(min(m.sum.size-start, ChunkBytesMax))
	}
	for _, a := range m.ahead {
		if a.chunk == chunk {
			return int(a.bytes)
		}
	}
	return 0
}

// fits says whether a chunk that is not there may come: only the last chunk
// may be short, whichever arrives first.
func (m *meta) fits(chunk uint32, n int) bool {
	if m.sum.size%ChunkBytesMax != 0 {
		return false // a short one ends the contiguous bytes
	}
	for _, a := range m.ahead {
		if a.bytes < ChunkBytesMax && a.chunk < chunk || n < ChunkBytesMax && chunk < a.chunk {
			return false
		}
	}
	return true
}

func (m *meta) insertAhead(chunk uint32, n int) {
	at := len(m.ahead)
	for at > 0 && m.ahead[at-1].chunk > chunk {
		at--
	}
	m.ahead = append(m.ahead, aheadChunk{})
	copy(m.ahead[at+1:], m.ahead[at:])
	m.ahead[at] = aheadChunk{chunk, uint32(n)}
}
