package blobstore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"

	"github.com/dgraph-io/badger/v4"
)

const (
	// placeVersion begins the row of the tree for one whose bytes are in the value
	// log; others begin with layoutVersion.
	placeVersion   = 2
	placeHeadBytes = 1 + 4 + 8 + 4
	// headBytesMax is the head of a full chunk.
	headBytesMax = chunkHeadBytes + chunkBlocksMax*crc32.Size
)

// place is the row of the tree for one whose bytes are in the value log: where they
// are, and the head of the row, which says what they must be.
type place struct {
	file uint32
	off  int64
	n    int // bytes there
	size int // of the head; 0: this is no place
	raw  [headBytesMax]byte
}

func newPlace(head []byte, file uint32, off int64, n int) place {
	p := place{file: file, off: off, n: n, size: len(head)}
	copy(p.raw[:], head)
	return p
}

func (p *place) head() []byte { return p.raw[:p.size] }

// encode returns the row of the tree: version, file, offset, length, head.
func (p *place) encode() []byte {
	le := binary.LittleEndian
	b := append(make([]byte, 0, placeHeadBytes+p.size), placeVersion)
	b = le.AppendUint32(b, p.file)
	b = le.AppendUint64(b, uint64(p.off))
	b = le.AppendUint32(b, uint32(p.n))
	return append(b, p.head()...)
}

// decodePlace returns what encode wrote, of size 0 if the row of the tree is no place
// but the row itself.
func decodePlace(row []byte) (place, error) {
	if len(row) == 0 || row[0] != placeVersion {
		return place{}, nil
	}
	head := len(row) - placeHeadBytes
	if head < pieceHeadBytes || head > headBytesMax {
		return place{}, fmt.Errorf("place of %d bytes: %w", len(row), ErrCorrupt)
	}
	le := binary.LittleEndian
	off, n := le.Uint64(row[5:]), le.Uint32(row[13:])
	if off > BlobBytesMax || n == 0 || n > ChunkBytesMax {
		return place{}, fmt.Errorf("place of %d bytes at %d: %w", n, off, ErrCorrupt)
	}
	return newPlace(row[placeHeadBytes:], le.Uint32(row[1:]), int64(off), int(n)), nil
}

// checkChunk says whether the head is that of a chunk of so many bytes.
func (p *place) checkChunk() error {
	blocks := (p.n + BlockBytes - 1) / BlockBytes
	if p.raw[0] != layoutVersion || p.size != chunkHeadBytes+blocks*crc32.Size ||
		binary.LittleEndian.Uint32(p.raw[4:]) != uint32(p.n) {
		return fmt.Errorf("chunk of %d bytes with a head of %d: %w", p.n, p.size, ErrCorrupt)
	}
	return nil
}

// setRow writes a row, which consists of head and data. The data of a long one goes to
// the value log.
func (s *Store) setRow(txn *badger.Txn, key, head, data []byte) error {
	return s.setKept(txn, key, head, data, Kept{})
}

// setKept is setRow of data that a log has on the disk.
func (s *Store) setKept(txn *badger.Txn, key, head, data []byte, kept Kept) error {
	value, err := s.stored(head, data, kept)
	if err != nil {
		return err
	}
	if err := txn.Set(key, value); err != nil {
		return fmt.Errorf("write blobs database: %w", err)
	}
	return nil
}

// stored is what the tree holds for a row: itself or its place.
func (s *Store) stored(head, data []byte, kept Kept) ([]byte, error) {
	if len(head)+len(data) < storeValueThreshold {
		return append(slices.Clip(head), data...), nil
	}
	file, off, err := s.values.keep(kept, data)
	if errors.Is(err, errNotKept) {
		file, off, err = s.values.append(data)
	}
	if err != nil {
		return nil, err
	}
	at := newPlace(head, file, off, len(data))
	return at.encode(), nil
}

// findRow looks up a row: its place, or fn is handed the row itself, in place.
func findRow(txn *badger.Txn, key []byte, fn func(row []byte) error) (place, error) {
	var at place
	err := readRow(txn, key, func(value []byte) error {
		var err error
		if at, err = decodePlace(value); err != nil || at.size > 0 {
			return err
		}
		return fn(value)
	})
	return at, err
}

// readRow hands a row to fn, wherever it is. A value-log file may be collected
// between the look-up and the read; the second look-up then finds where the row
// went.
func (s *Store) readRow(txn *badger.Txn, key []byte, fn func(row []byte) error) error {
	return again(func() error {
		at, err := findRow(txn, key, fn)
		if err != nil || at.size == 0 {
			return err
		}
		buf := take(&s.buffers.row)
		defer s.buffers.row.Put(buf)
		row := append((*buf)[:0], at.head()...)[:at.size+at.n]
		if err := s.values.read(at.file, at.off, row[at.size:]); err != nil {
			return err
		}
		return fn(row)
	})
}

// again calls read once more if the file was collected under it. One that is gone
// even so is lost.
func again(read func() error) error {
	err := read()
	if errors.Is(err, errNoFile) {
		err = read()
	}
	if errors.Is(err, errNoFile) {
		return fmt.Errorf("%w: %w", err, ErrCorrupt)
	}
	return err
}

// findChunk looks up a chunk: its place, or fn is handed the chunk, in place.
func findChunk(txn *badger.Txn, key []byte, fn func(c chunkView) error) (place, error) {
	at, err := findRow(txn, key, func(row []byte) error {
		c, err := viewChunk(row)
		if err == nil {
			err = fn(c)
		}
		return err
	})
	if err == nil && at.size > 0 {
		err = at.checkChunk()
	}
	return at, err
}

// chunkSums returns how many bytes a chunk has and the sums of its blocks.
func (s *Store) chunkSums(txn *badger.Txn, key []byte) (n int, crcs []byte, err error) {
	at, err := findChunk(txn, key, func(c chunkView) error {
		n, crcs = len(c.data), bytes.Clone(c.crcs)
		return nil
	})
	if err != nil || at.size == 0 {
		return n, crcs, err
	}
	return at.n, at.raw[chunkHeadBytes:at.size], nil
}

// readChunk copies bytes at off of a chunk into p, wherever it is, and leaves its
// place in at.
func (s *Store) readChunk(txn *badger.Txn, at *place, key []byte, off int, p []byte) (n int, err error) {
	err = again(func() error {
		*at, err = findChunk(txn, key, func(c chunkView) error {
			n, err = c.read(off, p)
			return err
		})
		if err == nil && at.size > 0 {
			n, err = s.readPlace(at, off, p)
		}
		return err
	})
	return n, err
}

// readPlace copies bytes at off of a chunk in the value log into p after it checked
// the blocks they lie in. Whole blocks are read to where they are wanted.
func (s *Store) readPlace(at *place, off int, p []byte) (int, error) {
	n := min(len(p), at.n-off)
	if off < 0 || n <= 0 {
		return 0, fmt.Errorf("chunk of %d bytes ends before %d: %w", at.n, off, ErrCorrupt)
	}
	lo, hi := blockSpan(off, n, at.n)
	blocks := p[:n]
	aligned := lo == off && hi == off+n
	if !aligned {
		buf := take(&s.buffers.chunk)
		defer s.buffers.chunk.Put(buf)
		blocks = (*buf)[:hi-lo]
	}
	if err := s.values.read(at.file, at.off+int64(lo), blocks); err != nil {
		return 0, err
	}
	if err := checkBlocks(at.raw[chunkHeadBytes:at.size], lo/BlockBytes, blocks); err != nil {
		return 0, err
	}
	if !aligned {
		copy(p[:n], blocks[off-lo:])
	}
	return n, nil
}

// blockSpan is the bytes of the blocks of a chunk of size bytes in which n bytes at
// off lie.
func blockSpan(off, n, size int) (lo, hi int) {
	end := off + n + BlockBytes - 1
	return off - off%BlockBytes, min(end-end%BlockBytes, size)
}

// checkBlocks compares whole blocks, from the first on, with their sums.
func checkBlocks(crcs []byte, first int, p []byte) error {
	tab := castagnoli()
	for block := first; len(p) > 0; block++ {
		n := min(BlockBytes, len(p))
		if crc32.Checksum(p[:n], tab) != binary.LittleEndian.Uint32(crcs[block*crc32.Size:]) {
			return fmt.Errorf("block %d of a chunk: %w", block, ErrCorrupt)
		}
		p = p[n:]
	}
	return nil
}
