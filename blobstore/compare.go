package blobstore

import (
	"bytes"
	"errors"
	"fmt"
	"sort"

	"github.com/dgraph-io/badger/v4"
)

// A repeated operation brings bytes that the meta row counts as there. They
// are compared, and what is lost or damaged is written again: so replaying
// the log restores what a power cut took, see DESIGN.md, "Replay".

// compareChunk compares p with a chunk of have bytes.
func (b *batch) compareChunk(id ID, chunk uint32, have int, p []byte) error {
	conflict := fmt.Errorf("other bytes at %d of blob %v: %w", chunkStart(chunk), id, ErrConflict)
	if len(p) != have {
		return conflict
	}
	equal := false
	key := chunkKey(id, chunk)
	err := b.readRow(key, func(row []byte) error {
		c, err := viewChunk(row)
		if err == nil {
			err = c.check()
		}
		equal = err == nil && bytes.Equal(c.data, p)
		return err
	})
	if err == nil {
		if !equal {
			return conflict
		}
		return nil
	}
	head := b.chunkHead(p, nil)
	if ok, merr := b.lost(key, head); merr != nil {
		return merr
	} else if !ok {
		return conflict
	}
	b.s.log.Warn("chunk restored", "blob", id, "chunk", chunk, "error", err)
	b.s.garbage.Add(int64(len(p)))
	return b.setRow(key, head, p)
}

// lost says whether the row at key, which cannot be read, may be the one with this
// head: it is, or nothing is left of it.
func (b *batch) lost(key, head []byte) (bool, error) {
	item, err := lookUp(b.txn, key)
	if errors.Is(err, badger.ErrKeyNotFound) {
		return true, nil
	}
	if err != nil {
		return false, brokenRow(err)
	}
	if item.ValueSize() >= storeValueThreshold {
		return item.UserMeta() == oldMark(key[1], head), nil
	}
	same := false
	err = item.Value(func(value []byte) error {
		at, err := decodePlace(value)
		same = at.size > 0 && bytes.Equal(at.head(), head) || bytes.HasPrefix(value, head)
		return err
	})
	if err != nil {
		return false, brokenRow(err)
	}
	return same, nil
}

// comparePiece compares p with what is stored at off of a live blob, in
// whatever form.
func (b *batch) comparePiece(id ID, m *meta, off int64, p []byte) error {
	// A repeated append has the same bounds as the first, nearly always.
	equal := false
	err := b.readRow(pieceKey(id, off), func(row []byte) error {
		stored, err := viewPiece(row)
		equal = err == nil && bytes.Equal(stored, p)
		return err
	})
	if err == nil && equal {
		return nil
	}
	r := blobReader{s: b.s, id: id, live: true}
	for len(p) > 0 {
		n := min(int64(len(p)), chunkStart(chunkOf(off)+1)-off)
		if err := b.compareSpan(&r, m, off, p[:n]); err != nil {
			return err
		}
		off, p = off+n, p[n:]
	}
	return nil
}

// compareSpan compares p within one chunk.
func (b *batch) compareSpan(r *blobReader, m *meta, off int64, p []byte) error {
	equal, err := b.storedEqual(r, off, p)
	if err == nil {
		if !equal {
			return fmt.Errorf("other bytes at %d of blob %v: %w", off, r.id, ErrConflict)
		}
		return nil
	}
	// Something is lost; what is not is compared, piece by piece.
	if err := r.index(b.txn, chunkOf(off)); err != nil {
		return brokenRow(err)
	}
	bounds := r.pieces[sort.Search(len(r.pieces), func(i int) bool { return r.pieces[i] > off }):]
	end := off + int64(len(p))
	for len(p) > 0 {
		next := end
		if len(bounds) > 0 && bounds[0] < end {
			next, bounds = bounds[0], bounds[1:]
		}
		if err := b.restorePiece(r, m, off, p[:next-off]); err != nil {
			return err
		}
		off, p = next, p[next-off:]
	}
	return nil
}

// restorePiece compares p with what is stored between two bounds of pieces,
// or writes it if that is lost and p is what was there.
func (b *batch) restorePiece(r *blobReader, m *meta, off int64, p []byte) error {
	equal, err := b.storedEqual(&blobReader{s: b.s, id: r.id, live: true}, off, p)
	if err == nil && equal {
		return nil
	}
	conflict := fmt.Errorf("other bytes at %d of blob %v: %w", off, r.id, ErrConflict)
	if err == nil || r.inside(b.txn, off) {
		return conflict
	}
	head := pieceHead(p)
	key := pieceKey(r.id, off)
	if ok, merr := b.lost(key, head); merr != nil {
		return merr
	} else if !ok {
		return conflict
	}
	b.s.log.Warn("piece restored", "blob", r.id, "offset", off, "error", err)
	end := off + int64(len(p))
	if end == chunkStart(chunkOf(off)+1) || m.sealed && end == m.sum.size {
		b.merges = append(b.merges, chunkRef{r.id, chunkOf(off)})
	}
	return b.setRow(key, head, p)
}

// inside says whether off lies within a piece that begins before it and
// cannot be read: only the operation that wrote that one can restore it.
func (r *blobReader) inside(txn *badger.Txn, off int64) bool {
	i := sort.Search(len(r.pieces), func(i int) bool { return r.pieces[i] >= off }) - 1
	if i < 0 || i+1 < len(r.pieces) && r.pieces[i+1] == off {
		return false
	}
	return r.s.readRow(txn, pieceKey(r.id, r.pieces[i]), func(row []byte) error {
		_, err := viewPiece(row)
		return err
	}) != nil
}

// storedEqual compares p with what is stored at off; an error means that it
// cannot be read.
func (b *batch) storedEqual(r *blobReader, off int64, p []byte) (bool, error) {
	buf := make([]byte, len(p))
	for n := 0; n < len(buf); {
		k, err := r.read(b.txn, off+int64(n), off+int64(len(p)), buf[n:])
		if err != nil {
			return false, err
		}
		n += k
	}
	return bytes.Equal(buf, p), nil
}
