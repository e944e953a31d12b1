package cluster

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"carillon/blobstore"
)

// A command is what one log entry says. The format is for ever: a byte that
// names it (format.go), an operation byte, then the body. New operations get new numbers; old numbers
// are never used again. Golden files under testdata hold one of each.
const (
	opBlobs byte = 1 // a list of blob operations, for a blob group
	opTxn   byte = 2 // one catalog transaction, for the catalog group
	opCarry byte = 3 // one that brings the sound it refers to
)

// opsMax bounds the operations of one command: a tick of 1,000 live sources on
// one shard, with room.
const opsMax = 4096

// commandBytesMax bounds a command: a full chunk and its head, or a batch of
// live pieces (batchBytesMax) and theirs.
const commandBytesMax = 1 << 20

// opHeadBytesMax is what an operation takes in a command beside its bytes.
const opHeadBytesMax = blobstore.OpBytesMax - blobstore.ChunkBytesMax

// txnID tells a repeated commit from a new one.
type txnID [16]byte

// encodeBlobs makes the command for ops.
func encodeBlobs(format byte, ops []blobstore.Op) []byte {
	size := 2
	for i := range ops {
		size += opHeadBytesMax + len(ops[i].Data)
	}
	b := append(make([]byte, 0, size), format, opBlobs)
	return blobstore.AppendOps(b, ops)
}

// decodeBlobs reads what encodeBlobs wrote, up to the format reads. Data of the operations points into
// cmd.
func decodeBlobs(cmd []byte, reads byte) ([]blobstore.Op, error) {
	d := decoder{b: cmd, reads: reads}
	d.head(opBlobs)
	if d.err != nil {
		return nil, d.err
	}
	ops, err := blobstore.DecodeOps(d.b)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errBadCommand, err)
	}
	return ops, nil
}

func appendBytes(b, p []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(p)))
	return append(b, p...)
}

func appendText(b []byte, s string) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

// encodeTxn makes the command for a catalog transaction without its Sound.
func encodeTxn(format byte, id txnID, t blobstore.Txn) []byte {
	b := append(make([]byte, 0, 128+txnBytes(t)), format, opTxn)
	return blobstore.AppendTxn(append(b, id[:]...), t)
}

// encodeCarry makes the command for a catalog transaction with its Sound.
func encodeCarry(format byte, id txnID, t blobstore.Txn, at time.Time) []byte {
	op := t.Sound.Op(at)
	b := make([]byte, 0, 128+opHeadBytesMax+len(op.Data)+txnBytes(t))
	b = append(append(b, format, opCarry), id[:]...)
	// The operation is as long as it is; four bytes in front of it say so.
	start := len(b) + 4
	b = blobstore.AppendOps(append(b, 0, 0, 0, 0), []blobstore.Op{op})
	binary.BigEndian.PutUint32(b[start-4:], uint32(len(b)-start))
	return blobstore.AppendTxn(b, t)
}

// catalogCommand is one command of the catalog group.
type catalogCommand struct {
	id    txnID
	txn   blobstore.Txn
	sound []blobstore.Op // one, or none
}

// decodeCatalog reads what encodeTxn or encodeCarry wrote, up to the format
// reads. Values point into
// cmd.
func decodeCatalog(cmd []byte, reads byte) (c catalogCommand, err error) {
	d := decoder{b: cmd, reads: reads}
	carry := len(cmd) > 1 && cmd[1] == opCarry
	if carry {
		d.head(opCarry)
	} else {
		d.head(opTxn)
	}
	copy(c.id[:], d.take(len(c.id)))
	if carry {
		if c.sound, err = d.sound(); err != nil {
			return c, err
		}
	}
	if d.err != nil {
		return c, d.err
	}
	if c.txn, err = blobstore.DecodeTxn(d.b); err != nil {
		return c, fmt.Errorf("%w: %w", errBadCommand, err)
	}
	return c, nil
}

// sound reads the one operation that an entry carries.
func (d *decoder) sound() ([]blobstore.Op, error) {
	size := binary.BigEndian.Uint32(d.take(4))
	if size > uint32(blobstore.OpBytesMax+binary.MaxVarintLen64) {
		d.fail("sound")
	}
	b := d.take(int(size))
	if d.err != nil {
		return nil, d.err
	}
	ops, err := blobstore.DecodeOps(b)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errBadCommand, err)
	}
	if len(ops) != 1 || ops[0].Kind != blobstore.OpPut {
		return nil, fmt.Errorf("entry carries %d operations: %w", len(ops), errBadCommand)
	}
	return ops, nil
}

// checkTxn refuses what no node could apply, before it is proposed.
func checkTxn(t blobstore.Txn) error {
	if err := t.Check(); err != nil {
		return err //nolint:wrapcheck // in the words of blobstore
	}
	if size := txnBytes(t); size > commandBytesMax/2 {
		return fmt.Errorf("catalog transaction of %d bytes: %w", size, blobstore.ErrTooLarge)
	}
	return nil
}

// txnBytes is about what a transaction takes in a command.
func txnBytes(t blobstore.Txn) int {
	size := 0
	for _, c := range t.If {
		size += len(c.Key) + 12
	}
	for i := range t.Put {
		size += len(t.Put[i].Key) + len(t.Put[i].Value) + 20
	}
	for _, k := range t.Delete {
		size += len(k) + 12
	}
	for i := range t.Append {
		size += len(t.Append[i].Key) + len(t.Append[i].Value) + 20
	}
	return size
}

// decoder reads a command; after the first error everything reads as zero.
type decoder struct {
	b     []byte
	err   error
	reads byte // the newest format of a command; 0: FormatMax
}

func (d *decoder) fail(what string) {
	if d.err == nil {
		d.err = fmt.Errorf("%s: %w", what, errBadCommand)
	}
	d.b = nil
}

func (d *decoder) head(op byte) {
	h := d.take(2)
	if d.err != nil {
		return
	}
	if reads := cmp.Or(d.reads, FormatMax); h[0] < FormatMin || h[0] > reads {
		d.err = tooNew("command", h[0], reads)
		d.b = nil
		return
	}
	if h[1] != op {
		d.fail("operation")
	}
}

func (d *decoder) end() error {
	if d.err == nil && len(d.b) != 0 {
		d.fail("trailing bytes")
	}
	return d.err
}

func (d *decoder) take(n int) []byte {
	if n < 0 || len(d.b) < n {
		d.fail("short")
		return make([]byte, min(max(n, 0), 64))
	}
	p := d.b[:n:n]
	d.b = d.b[n:]
	return p
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.fail("number")
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) varint() int64 {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.fail("number")
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) count(most int) int {
	v := d.uvarint()
	if v > uint64(most) || v > uint64(len(d.b)) { // every element has at least a byte
		if v != 0 {
			d.fail("count")
		}
		return 0
	}
	return int(v)
}

func (d *decoder) size() int64 {
	v := d.uvarint()
	if v > math.MaxInt64 {
		d.fail("size")
		return 0
	}
	return int64(v)
}

func (d *decoder) bytes(most int) []byte {
	v := d.uvarint()
	if v > uint64(most) || v > uint64(len(d.b)) {
		d.fail("length")
		return nil
	}
	return d.take(int(v))
}

func (d *decoder) text() string { return string(d.bytes(blobstore.KeyBytesMax)) }

func appendInt(b []byte, v int64) []byte {
	return binary.AppendUvarint(b, uint64(v))
}
