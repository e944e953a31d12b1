package blobstore

import (
	"context"
	"fmt"
)

// Extent is a part of a blob.
type Extent struct{ Offset, Size int64 }

// Ahead lists the chunks of an open upload that are here but beyond its Size,
// because one before them is still missing. A replica that copies an open
// blob must copy them too: the log will not bring them again.
func (s *Store) Ahead(_ context.Context, id ID) ([]Extent, error) {
	if err := s.gate.enter(); err != nil {
		return nil, err
	}
	defer s.gate.leave()
	m, err := s.getMeta(id)
	if err != nil {
		return nil, err
	}
	var extents []Extent
	for _, a := range m.ahead {
		extents = append(extents, Extent{chunkStart(a.chunk), int64(a.bytes)})
	}
	return extents, nil
}

// ReadChunk copies the chunk at offset into p, which has room for it, wherever
// the blob's Size is, and returns how many bytes it has. What it returns was
// checked; ErrNotFound: there is no such chunk.
func (s *Store) ReadChunk(_ context.Context, id ID, offset int64, p []byte) (int, error) {
	if offset < 0 || offset > BlobBytesMax-ChunkBytesMax || offset%ChunkBytesMax != 0 {
		return 0, fmt.Errorf("chunk at %d: %w", offset, ErrNotFound)
	}
	if err := s.gate.enter(); err != nil {
		return 0, err
	}
	defer s.gate.leave()
	txn := s.db.NewTransactionAt(newest, false)
	defer txn.Discard()
	var at place
	n, err := s.readChunk(txn, &at, chunkKey(id, chunkOf(offset)), 0, p)
	if err == nil && n < at.n {
		err = fmt.Errorf("chunk of %d bytes: %w", at.n, ErrTooLarge)
	}
	if err != nil {
		return 0, fmt.Errorf("read chunk of blob %v at %d: %w", id, offset, err)
	}
	return n, nil
}
