package blobstore

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
	"time"
)

// The rows of the blobs database. DESIGN.md draws them; every key begins with
// the version of the layout and the kind of the row.
const (
	layoutVersion = 1

	kindMeta  = 'm' // id                      -> meta
	kindChunk = 'c' // id, chunk number (u32)  -> chunk
	kindPiece = 'p' // id, offset (u64)        -> piece

	kindBytes      = 2
	metaKeyBytes   = kindBytes + 16
	chunkKeyBytes  = metaKeyBytes + 4
	pieceKeyBytes  = metaKeyBytes + 8
	chunkHeadBytes = 8 // version, 3 zero, length (u32); then the CRCs
	pieceHeadBytes = 5 // version, CRC (u32)
	chunkBlocksMax = ChunkBytesMax / BlockBytes
	// chunkRowBytesMax is the largest chunk row.
	chunkRowBytesMax = chunkHeadBytes + chunkBlocksMax*crc32.Size + ChunkBytesMax
)

// BlobBytesMax is the largest blob: a chunk number is a uint32, and 1 TiB is
// a year of CD audio.
const BlobBytesMax = 1 << 40

// aheadMax bounds the chunks of an upload that lie beyond a gap. A Recorder
// keeps four in flight; the bound keeps the meta row small whoever writes.
const aheadMax = 256

func kindKey(kind byte, size int) []byte {
	k := make([]byte, kindBytes, size)
	k[0], k[1] = layoutVersion, kind
	return k
}

func metaKey(id ID) []byte { return append(kindKey(kindMeta, metaKeyBytes), id[:]...) }

func chunkKey(id ID, chunk uint32) []byte {
	k := append(kindKey(kindChunk, chunkKeyBytes), id[:]...)
	return binary.BigEndian.AppendUint32(k, chunk)
}

func pieceKey(id ID, offset int64) []byte {
	k := append(kindKey(kindPiece, pieceKeyBytes), id[:]...)
	return binary.BigEndian.AppendUint64(k, uint64(offset))
}

// blobPrefix is what all keys of a kind and blob begin with.
func blobPrefix(kind byte, id ID) []byte { return append(kindKey(kind, metaKeyBytes), id[:]...) }

// keyID takes the blob out of any key of this layout.
func keyID(key []byte) (ID, error) {
	if len(key) < metaKeyBytes || key[0] != layoutVersion {
		return ID{}, fmt.Errorf("key of %d bytes: %w", len(key), ErrFormat)
	}
	return ID(key[kindBytes:metaKeyBytes]), nil
}

// pieceOffset takes the offset out of a piece's key.
func pieceOffset(key []byte) (int64, error) {
	if len(key) != pieceKeyBytes {
		return 0, fmt.Errorf("piece key of %d bytes: %w", len(key), ErrFormat)
	}
	off := binary.BigEndian.Uint64(key[metaKeyBytes:])
	if off > BlobBytesMax {
		return 0, fmt.Errorf("piece at %d: %w", off, ErrFormat)
	}
	return int64(off), nil
}

func chunkOf(offset int64) uint32 { return uint32(offset / ChunkBytesMax) }

func chunkStart(chunk uint32) int64 { return int64(chunk) * ChunkBytesMax }

// meta is the row that says what a blob is. It is the authority: a chunk that
// it does not count is not there.
type meta struct {
	live, sealed bool
	// pos is the log position of the last operation that changed the blob, 0
	// where there is no log.
	pos              uint64
	created, updated int64 // milliseconds
	// sum runs over the contiguous bytes; its size is the blob's size.
	sum RootSum
	// ahead are chunks of an upload beyond a gap, in order.
	ahead  []aheadChunk
	totals Totals // if sealed
}

type aheadChunk struct{ chunk, bytes uint32 }

const (
	metaFlagLive   = 1
	metaFlagSealed = 2

	metaHeadBytes   = 2 + 4*8 + 2*4
	metaTotalsBytes = 32 + 4
)

func (m *meta) info(id ID) Info {
	return Info{
		ID:      id,
		Spec:    Spec{Live: m.live, Created: time.UnixMilli(m.created).UTC()},
		Size:    m.sum.size,
		Sealed:  m.sealed,
		Totals:  m.totals,
		Updated: time.UnixMilli(m.updated).UTC(),
	}
}

// clone copies m so that an operation that fails half way leaves no trace.
func (m *meta) clone() *meta {
	c := *m
	c.ahead = append([]aheadChunk(nil), m.ahead...)
	return &c
}

func (m *meta) encode() []byte {
	b := make([]byte, 2, metaHeadBytes+metaTotalsBytes+8*len(m.ahead))
	b[0] = layoutVersion
	if m.live {
		b[1] |= metaFlagLive
	}
	if m.sealed {
		b[1] |= metaFlagSealed
	}
	le := binary.LittleEndian
	b = le.AppendUint64(b, m.pos)
	b = le.AppendUint64(b, uint64(m.created))
	b = le.AppendUint64(b, uint64(m.updated))
	b = le.AppendUint64(b, uint64(m.sum.size))
	b = le.AppendUint32(b, m.sum.root)
	b = le.AppendUint32(b, m.sum.block)
	if m.sealed {
		b = append(b, m.totals.SHA256[:]...)
		return le.AppendUint32(b, m.totals.Root)
	}
	for _, a := range m.ahead {
		b = le.AppendUint32(b, a.chunk)
		b = le.AppendUint32(b, a.bytes)
	}
	return b
}

func decodeMeta(b []byte) (*meta, error) {
	if len(b) < metaHeadBytes || b[0] != layoutVersion || b[1]&^(metaFlagLive|metaFlagSealed) != 0 {
		return nil, fmt.Errorf("meta row of %d bytes: %w", len(b), ErrFormat)
	}
	le := binary.LittleEndian
	m := &meta{
		live:    b[1]&metaFlagLive != 0,
		sealed:  b[1]&metaFlagSealed != 0,
		pos:     le.Uint64(b[2:]),
		created: int64(le.Uint64(b[10:])),
		updated: int64(le.Uint64(b[18:])),
	}
	size := le.Uint64(b[26:])
	m.sum = RootSum{root: le.Uint32(b[34:]), block: le.Uint32(b[38:])}
	rest := b[metaHeadBytes:]
	if size > BlobBytesMax {
		return nil, fmt.Errorf("meta row with size %d: %w", size, ErrFormat)
	}
	m.sum.size = int64(size)
	if m.sealed {
		if len(rest) != metaTotalsBytes {
			return nil, fmt.Errorf("sealed meta row of %d bytes: %w", len(b), ErrFormat)
		}
		m.totals = Totals{Size: m.sum.size, SHA256: Digest(rest[:32]), Root: le.Uint32(rest[32:])}
		return m, nil
	}
	if len(rest)%8 != 0 || len(rest)/8 > aheadMax {
		return nil, fmt.Errorf("open meta row of %d bytes: %w", len(b), ErrFormat)
	}
	for ; len(rest) > 0; rest = rest[8:] {
		m.ahead = append(m.ahead, aheadChunk{le.Uint32(rest), le.Uint32(rest[4:])})
	}
	return m, nil
}

// appendChunkHead appends the head of the row of a chunk to dst: what comes before
// its bytes.
func appendChunkHead(dst, p []byte) []byte {
	dst = append(dst, layoutVersion, 0, 0, 0)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(p)))
	tab := castagnoli()
	for off := 0; off < len(p); off += BlockBytes {
		dst = binary.LittleEndian.AppendUint32(dst, crc32.Checksum(p[off:min(off+BlockBytes, len(p))], tab))
	}
	return dst
}

// chunkView reads a chunk row in place.
type chunkView struct {
	crcs, data []byte
}

// viewChunk checks the head of a chunk row, not its bytes.
func viewChunk(row []byte) (chunkView, error) {
	if len(row) < chunkHeadBytes || row[0] != layoutVersion {
		return chunkView{}, fmt.Errorf("chunk row of %d bytes: %w", len(row), ErrCorrupt)
	}
	n := binary.LittleEndian.Uint32(row[4:])
	if n == 0 || n > ChunkBytesMax {
		return chunkView{}, fmt.Errorf("chunk row says %d bytes: %w", n, ErrCorrupt)
	}
	crcs := (int(n) + BlockBytes - 1) / BlockBytes * crc32.Size
	if len(row) != chunkHeadBytes+crcs+int(n) {
		return chunkView{}, fmt.Errorf("chunk row of %d bytes says %d: %w", len(row), n, ErrCorrupt)
	}
	return chunkView{row[chunkHeadBytes:][:crcs], row[chunkHeadBytes+crcs:]}, nil
}

// read copies bytes at off into p after it checked the blocks they lie in.
func (c chunkView) read(off int, p []byte) (int, error) {
	n := min(len(p), len(c.data)-off)
	if off < 0 || n <= 0 {
		return 0, fmt.Errorf("chunk of %d bytes ends before %d: %w", len(c.data), off, ErrCorrupt)
	}
	lo, hi := blockSpan(off, n, len(c.data))
	if err := checkBlocks(c.crcs, lo/BlockBytes, c.data[lo:hi]); err != nil {
		return 0, err
	}
	return copy(p[:n], c.data[off:]), nil
}

// check checks every block.
func (c chunkView) check() error { return checkBlocks(c.crcs, 0, c.data) }

// pieceHead is the head of the row of a piece.
func pieceHead(p []byte) []byte {
	head := append(make([]byte, 0, pieceHeadBytes), layoutVersion)
	return binary.LittleEndian.AppendUint32(head, crc32.Checksum(p, castagnoli()))
}

// viewPiece returns the bytes of a piece row, checked.
func viewPiece(row []byte) ([]byte, error) {
	if len(row) <= pieceHeadBytes || len(row) > pieceHeadBytes+LivePieceBytesMax || row[0] != layoutVersion {
		return nil, fmt.Errorf("piece row of %d bytes: %w", len(row), ErrCorrupt)
	}
	p := row[pieceHeadBytes:]
	if crc32.Checksum(p, castagnoli()) != binary.LittleEndian.Uint32(row[1:]) {
		return nil, fmt.Errorf("piece of %d bytes: %w", len(p), ErrCorrupt)
	}
	return p, nil
}

// oldMark is a byte about the content of a row of the first format that lies with
// its key in the tree: the low byte of its CRC. It is all that is left where Badger's
// own value log lost the row and the tree kept the key.
func oldMark(kind byte, head []byte) byte {
	if kind == kindPiece {
		return head[1] // of the CRC, little endian
	}
	return byte(crc32.Checksum(head[chunkHeadBytes:], castagnoli()))
}

// newest is the read timestamp of single gets: whatever was committed last.
const newest = math.MaxUint64
