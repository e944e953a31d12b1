package blobstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// OpKind says what an [Op] does.
type OpKind uint8

// The kinds of operations; the numbers are part of the log's format.
const (
	OpBegin  OpKind = 1
	OpAppend OpKind = 2
	OpSeal   OpKind = 3
	OpPut    OpKind = 4
	OpRemove OpKind = 5
)

// Op is one change of one blob: a method of [Writer] with its arguments, and
// what must be equal on all replicas.
type Op struct {
	Kind   OpKind
	ID     ID
	Spec   Spec   // OpBegin, OpPut
	Offset int64  // OpAppend
	Data   []byte // OpAppend, OpPut
	Totals Totals // OpSeal, OpPut
	// At is when the operation was proposed. It becomes Info.Updated.
	At time.Time
	// Index is the log position of the entry that holds the operation. All
	// operations of an entry come in one Apply, in their order. With it a
	// replay knows what a blob has behind it; 0 where there is no log.
	Index uint64
	// Kept is where on this node the log has Data already. It changes nothing but
	// where that is read from.
	Kept Kept
}

const (
	opHeadBytes = 1 + 16 + 1 + 8 + 8 + 8 + 8 + 32 + 4 + 4
	// OpBytesMax is the largest encoded operation.
	OpBytesMax = opHeadBytes + ChunkBytesMax
)

// AppendOps appends the encoding of ops to dst. Index and Kept are not part of it: the
// log knows them.
func AppendOps(dst []byte, ops []Op) []byte {
	le := binary.LittleEndian
	for i := range ops {
		op := &ops[i]
		dst = append(dst, byte(op.Kind))
		dst = append(dst, op.ID[:]...)
		if op.Spec.Live {
			dst = append(dst, 1)
		} else {
			dst = append(dst, 0)
		}
		dst = le.AppendUint64(dst, uint64(millis(op.Spec.Created)))
		dst = le.AppendUint64(dst, uint64(millis(op.At)))
		dst = le.AppendUint64(dst, uint64(op.Offset))
		dst = le.AppendUint64(dst, uint64(op.Totals.Size))
		dst = append(dst, op.Totals.SHA256[:]...)
		dst = le.AppendUint32(dst, op.Totals.Root)
		dst = le.AppendUint32(dst, uint32(len(op.Data)))
		dst = append(dst, op.Data...)
	}
	return dst
}

// DecodeOps decodes what [AppendOps] wrote. Data points into p. ErrFormat: p
// is not a sequence of whole operations.
func DecodeOps(p []byte) ([]Op, error) {
	var ops []Op
	for len(p) > 0 {
		op, n, err := decodeOp(p)
		if err != nil {
			return nil, fmt.Errorf("operation %d: %w", len(ops), err)
		}
		ops = append(ops, op)
		p = p[n:]
	}
	return ops, nil
}

func decodeOp(p []byte) (Op, int, error) {
	if len(p) < opHeadBytes {
		return Op{}, 0, fmt.Errorf("%d bytes left: %w", len(p), ErrFormat)
	}
	le := binary.LittleEndian
	op := Op{Kind: OpKind(p[0]), ID: ID(p[1:17])}
	if op.Kind < OpBegin || op.Kind > OpRemove || p[17] > 1 {
		return Op{}, 0, fmt.Errorf("kind %d: %w", op.Kind, ErrFormat)
	}
	op.Spec = Spec{Live: p[17] == 1, Created: fromMillis(int64(le.Uint64(p[18:])))}
	op.At = fromMillis(int64(le.Uint64(p[26:])))
	offset, size := le.Uint64(p[34:]), le.Uint64(p[42:])
	op.Totals.SHA256 = Digest(p[50:82])
	op.Totals.Root = le.Uint32(p[82:])
	n := le.Uint32(p[86:])
	if offset > BlobBytesMax || size > BlobBytesMax || n > ChunkBytesMax {
		return Op{}, 0, fmt.Errorf("offset %d, size %d, %d bytes: %w", offset, size, n, ErrFormat)
	}
	op.Offset, op.Totals.Size = int64(offset), int64(size)
	end := opHeadBytes + int(n)
	if len(p) < end {
		return Op{}, 0, fmt.Errorf("%d of %d bytes: %w", len(p), end, ErrFormat)
	}
	if n > 0 {
		op.Data = p[opHeadBytes:end:end]
	}
	return op, end, nil
}

// millis keeps the zero time zero.
func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func fromMillis(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

// IsOutcome says whether err is an outcome of an operation that every replica
// reaches alike, or nil. Any other error of Apply is a failure of this node's
// disk: the node must stop and replay.
func IsOutcome(err error) bool {
	for _, target := range []error{
		nil, ErrNotFound, ErrConflict, ErrSealed, ErrGap, ErrCorrupt, ErrTooLarge, ErrBadID,
	} {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}
