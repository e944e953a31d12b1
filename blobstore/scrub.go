package blobstore

import (
	"context"
	"errors"
	"fmt"
)

// Pace is called before so many bytes are read, and may wait. Its error ends
// what it paces.
type Pace func(ctx context.Context, bytes int) error

// Scrub reads a sealed blob as it is stored here, in whatever form, checks every
// block, and compares the whole with what the blob was sealed as. It returns the
// offsets of the chunks that cannot be read; all of them if each can be read and
// the whole differs. A blob that is not sealed has none.
func (s *Store) Scrub(ctx context.Context, id ID, pace Pace) ([]int64, error) {
	info, err := s.Stat(ctx, id)
	if err != nil || !info.Sealed {
		return nil, err
	}
	var sum RootSum
	var bad []int64
	buf := take(&s.buffers.chunk)
	defer s.buffers.chunk.Put(buf)
	for off := int64(0); off < info.Size; off += ChunkBytesMax {
		p := (*buf)[:min(ChunkBytesMax, info.Size-off)]
		if err := pace(ctx, len(p)); err != nil {
			return nil, err
		}
		err := s.ReadSealed(ctx, info, off, p)
		switch {
		case errors.Is(err, ErrNotFound), errors.Is(err, ErrClosed), ctx.Err() != nil:
			return nil, errors.Join(err, ctx.Err())
		case err != nil:
			bad = append(bad, off)
		default:
			_, _ = sum.Write(p) // never fails
		}
	}
	if len(bad) == 0 && sum.Sum32() != info.Totals.Root {
		for off := int64(0); off < info.Size; off += ChunkBytesMax {
			bad = append(bad, off)
		}
	}
	return bad, nil
}

// ReadSealed fills p with the bytes of a sealed blob at off, checked. p lies
// within one chunk. ErrCorrupt: they are not here any more.
func (s *Store) ReadSealed(ctx context.Context, info Info, off int64, p []byte) error {
	if err := s.gate.enter(); err != nil {
		return err
	}
	defer s.gate.leave()
	err := s.readSealed(info, off, p)
	if err != nil && ctx.Err() == nil {
		s.lanes.haveTurn(info.ID) // a commit may be becoming visible row by row
		err = s.readSealed(info, off, p)
	}
	if err == nil {
		return nil
	}
	if _, gone := s.getMeta(info.ID); errors.Is(gone, ErrNotFound) {
		return gone
	}
	return fmt.Errorf("read blob %v at %d: %w: %w", info.ID, off, ErrCorrupt, err)
}

func (s *Store) readSealed(info Info, off int64, p []byte) error {
	txn := s.db.NewTransactionAt(newest, false)
	defer txn.Discard()
	r := blobReader{s: s, id: info.ID, live: info.Spec.Live}
	for n := 0; n < len(p); {
		k, err := r.read(txn, off+int64(n), info.Size, p[n:])
		if err != nil {
			return err
		}
		n += k
	}
	return nil
}

// Replace writes a chunk of a sealed blob anew. That the bytes are those which
// belong there the caller has proved, with the totals that it was sealed with:
// they are not asked for again here. A blob that is gone is ErrNotFound.
func (s *Store) Replace(_ context.Context, id ID, off int64, p []byte) error {
	if err := s.gate.enter(); err != nil {
		return err
	}
	defer s.gate.leave()
	head := appendChunkHead(nil, p)
	turn := &s.lanes.of(id).turn
	turn.Lock()
	defer turn.Unlock()
	m, err := s.getMeta(id)
	if err != nil {
		return err
	}
	chunk := chunkOf(off)
	if !m.sealed || off != chunkStart(chunk) || m.chunkBytes(chunk) != len(p) {
		return fmt.Errorf("replace %d bytes at %d of blob %v: %w", len(p), off, id, ErrConflict)
	}
	txn := s.db.NewTransactionAt(newest, true)
	defer txn.Discard()
	if err := s.setRow(txn, chunkKey(id, chunk), head, p); err != nil {
		return err
	}
	s.garbage.Add(int64(len(p)))
	return s.commit(txn)
}
