package blobstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sort"

	"github.com/dgraph-io/badger/v4"
)

// readRow hands what the tree holds for a key to fn, in place. A value-log file of
// Badger's may be collected between the look-up and the read; the second look-up
// then finds where the value went.
func readRow(txn *badger.Txn, key []byte, fn func(row []byte) error) error {
	var err error
	for range 2 {
		var item *badger.Item
		item, err = lookUp(txn, key)
		if errors.Is(err, badger.ErrKeyNotFound) {
			return fmt.Errorf("row: %w", ErrNotFound)
		}
		if err != nil {
			return fmt.Errorf("look up row: %w", err)
		}
		reached := false
		err = item.Value(func(row []byte) error {
			reached = true
			return fn(row)
		})
		if err == nil || reached {
			return err
		}
	}
	return fmt.Errorf("value of a row: %w: %w", err, ErrCorrupt)
}

// blobReader reads the bytes of one blob in a transaction, in whatever form
// they are stored: as a chunk, or as the pieces that wait to become one.
type blobReader struct {
	s    *Store
	id   ID
	live bool
	// at is the place of the chunk last read from the value log, and chunk is its
	// number.
	at    place
	chunk uint32
	// pieces are the offsets of the pieces of the chunk last looked at, and
	// end is how far they reached then.
	pieces []int64
	end    int64
}

// read copies bytes at off into p, not beyond size and not beyond the chunk.
func (r *blobReader) read(txn *badger.Txn, off, size int64, p []byte) (int, error) {
	chunk := chunkOf(off)
	start := chunkStart(chunk)
	p = p[:min(int64(len(p)), size-off, start+ChunkBytesMax-off)]
	if r.has(off) {
		if n, err := r.readPieces(txn, off, p); err == nil {
			return n, nil
		}
		r.pieces = nil // merged meanwhile
	}
	if r.at.size > 0 && r.chunk == chunk {
		if n, err := r.s.readPlace(&r.at, int(off-start), p); err == nil {
			return n, nil
		}
		// Collected, or written anew elsewhere.
	}
	r.chunk = chunk
	n, err := r.s.readChunk(txn, &r.at, chunkKey(r.id, chunk), int(off-start), p)
	if err == nil {
		return n, nil
	}
	r.at.size = 0
	if !r.live {
		return 0, missing(err)
	}
	if perr := r.index(txn, chunk); perr != nil {
		return 0, perr
	}
	if !r.has(off) {
		return 0, missing(err)
	}
	return r.readPieces(txn, off, p)
}

// missing turns the absence of a row that must be there into ErrCorrupt.
func missing(err error) error {
	if errors.Is(err, ErrNotFound) {
		return fmt.Errorf("lost row: %w", ErrCorrupt)
	}
	return err
}

func (r *blobReader) has(off int64) bool {
	return len(r.pieces) > 0 && off >= r.pieces[0] && off < r.end
}

// index lists the pieces of a chunk: keys only.
func (r *blobReader) index(txn *badger.Txn, chunk uint32) error {
	r.pieces, r.end = r.pieces[:0], 0
	it := txn.NewIterator(badger.IteratorOptions{Prefix: blobPrefix(kindPiece, r.id)})
	defer it.Close()
	for item, err := range each(it, func() { it.Seek(pieceKey(r.id, chunkStart(chunk))) }) {
		var off int64
		if err == nil {
			off, err = pieceOffset(item.Key())
		}
		if err != nil {
			return err
		}
		if chunkOf(off) != chunk {
			break
		}
		r.pieces = append(r.pieces, off)
	}
	if len(r.pieces) == 0 {
		return nil
	}
	r.end = r.pieces[len(r.pieces)-1] // if the last one is lost, up to it
	_ = r.s.readRow(txn, pieceKey(r.id, r.end), func(row []byte) error {
		r.end += max(int64(len(row))-pieceHeadBytes, 0)
		return nil
	})
	return nil
}

// longBytes is what the pieces last indexed have in the value log.
func (r *blobReader) longBytes() int64 {
	var total int64
	for i, off := range r.pieces {
		next := r.end
		if i+1 < len(r.pieces) {
			next = r.pieces[i+1]
		}
		if n := next - off; n+pieceHeadBytes >= storeValueThreshold {
			total += n
		}
	}
	return total
}

// readPieces copies from consecutive pieces until p is full or they end.
func (r *blobReader) readPieces(txn *badger.Txn, off int64, p []byte) (int, error) {
	i := sort.Search(len(r.pieces), func(i int) bool { return r.pieces[i] > off }) - 1
	n := 0
	for ; i < len(r.pieces) && n < len(p); i++ {
		at := r.pieces[i]
		err := r.s.readRow(txn, pieceKey(r.id, at), func(row []byte) error {
			piece, err := viewPiece(row)
			if err != nil {
				return err
			}
			skip := off + int64(n) - at
			if skip < 0 || skip >= int64(len(piece)) {
				return fmt.Errorf("hole at %d: %w", off+int64(n), ErrCorrupt)
			}
			n += copy(p[n:], piece[skip:])
			return nil
		})
		if err != nil {
			if n > 0 {
				return n, nil
			}
			return 0, missing(err)
		}
	}
	return n, nil
}

// storeView implements View.
type storeView struct {
	s      *Store
	follow *follow // nil for a sealed blob
	info   Info
	reader blobReader
	closed bool
}

// View opens a blob as it is stored here, or returns ErrNotFound. Open wraps
// it in a Reader.
func (s *Store) View(_ context.Context, id ID) (View, error) {
	if err := s.gate.enter(); err != nil {
		return nil, err
	}
	defer s.gate.leave()
	m, err := s.getMeta(id)
	if err != nil {
		return nil, err
	}
	v := &storeView{s: s, info: m.info(id), reader: blobReader{s: s, id: id, live: m.live}}
	if !m.sealed {
		if v.follow, err = s.attach(id); err != nil {
			return nil, err
		}
		v.info, _ = v.follow.now()
	}
	return v, nil
}

// Open implements Shelf.
func (s *Store) Open(ctx context.Context, id ID) (*Reader, error) {
	v, err := s.View(ctx, id)
	if err != nil {
		return nil, err
	}
	return NewReader(ctx, v), nil
}

// Buffers lets the Reader use the store's pools.
func (v *storeView) Buffers() *Buffers { return v.s.buffers }

func (v *storeView) Info() Info {
	if v.follow != nil && !v.info.Sealed {
		v.info, _ = v.follow.now()
	}
	return v.info
}

func (v *storeView) Read(ctx context.Context, off int64, p []byte) (int, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	size := v.Info().Size
	if off >= size || len(p) == 0 {
		return 0, io.EOF
	}
	if v.follow != nil {
		if n := v.follow.readTail(off, p); n > 0 {
			return n, nil
		}
	}
	if err := v.s.gate.enter(); err != nil {
		return 0, err
	}
	defer v.s.gate.leave()
	txn := v.s.db.NewTransactionAt(newest, false)
	defer txn.Discard()
	n, err := v.reader.read(txn, off, size, p)
	if errors.Is(err, ErrCorrupt) {
		// The rows of a commit become visible one by one, in any order, so a
		// size may be seen a moment before its bytes. After the commit that is
		// running now the row is there, or it is lost.
		v.s.lanes.haveTurn(v.info.ID)
		n, err = v.reader.read(txn, off, size, p)
	}
	if err != nil {
		if _, gone := txnMeta(txn, v.info.ID); errors.Is(gone, ErrNotFound) {
			return 0, gone
		}
		return 0, fmt.Errorf("read blob %v at %d: %w", v.info.ID, off, err)
	}
	return n, nil
}

func (v *storeView) Wait(ctx context.Context, size int64) (Info, error) {
	if v.follow == nil || v.info.Size > size || v.info.Sealed {
		return v.info, nil
	}
	info, err := v.follow.wait(ctx, size)
	if err != nil {
		return info, fmt.Errorf("wait for blob %v: %w", info.ID, err)
	}
	v.info = info
	return info, nil
}

func (v *storeView) Close() error {
	if v.closed {
		return nil
	}
	v.closed = true
	if v.follow != nil {
		v.s.detach(v.info.ID, v.follow)
	}
	return nil
}
