package cluster

import (
	"encoding/binary"
	"fmt"
	"math"

	"carillon/blobstore"
)

// A command is what one log entry says. The format is for ever: a version byte,
// an operation byte, then the body. New operations get new numbers; old numbers
// are never used again. Golden files under testdata hold one of each.
const (
	commandVersion = 1

	opBlobs byte = 1 // a list of blob operations, for a blob group
	opTxn   byte = 2 // one catalog transaction, for the catalog group
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
func encodeBlobs(ops []blobstore.Op) []byte {
	size := 2
	for i := range ops {
		size += opHeadBytesMax + len(ops[i].Data)
	}
	b := append(make([]byte, 0, size), commandVersion, opBlobs)
	return blobstore.AppendOps(b, ops)
}

// decodeBlobs reads what encodeBlobs wrote. Data of the operations points into
// cmd.
func decodeBlobs(cmd []byte) ([]blobstore.Op, error) {
	d := decoder{b: cmd}
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

// encodeTxn makes the command for a catalog transaction.
func encodeTxn(id txnID, t blobstore.Txn) []byte {
	size := 64
	for i := range t.Put {
		size += 16 + len(t.Put[i].Key) + len(t.Put[i].Value)
	}
	b := make([]byte, 0, size)
	b = append(b, commandVersion, opTxn)
	b = append(b, id[:]...)
	b = binary.AppendUvarint(b, uint64(len(t.If)))
	for _, c := range t.If {
		b = appendText(b, c.Key)
		b = binary.AppendUvarint(b, c.Revision)
	}
	b = binary.AppendUvarint(b, uint64(len(t.Put)))
	for i := range t.Put {
		b = appendText(b, t.Put[i].Key)
		b = appendBytes(b, t.Put[i].Value)
	}
	b = binary.AppendUvarint(b, uint64(len(t.Delete)))
	for _, k := range t.Delete {
		b = appendText(b, k)
	}
	return b
}

// decodeTxn reads what encodeTxn wrote. Row values point into cmd.
func decodeTxn(cmd []byte) (txnID, blobstore.Txn, error) {
	var id txnID
	var t blobstore.Txn
	d := decoder{b: cmd}
	d.head(opTxn)
	copy(id[:], d.take(len(id)))
	for range d.count(blobstore.TxnOpsMax) {
		t.If = append(t.If, blobstore.Cond{Key: d.text(), Revision: d.uvarint()})
	}
	for range d.count(blobstore.TxnOpsMax) {
		t.Put = append(t.Put, blobstore.Row{Key: d.text(), Value: d.bytes(blobstore.RowBytesMax)})
	}
	for range d.count(blobstore.TxnOpsMax) {
		t.Delete = append(t.Delete, d.text())
	}
	return id, t, d.end()
}

// checkTxn refuses what no node could apply, before it is proposed.
func checkTxn(t blobstore.Txn) error {
	if len(t.If) > blobstore.TxnOpsMax || len(t.Put) > blobstore.TxnOpsMax ||
		len(t.Delete) > blobstore.TxnOpsMax {
		return fmt.Errorf("transaction of more than %d operations: %w", blobstore.TxnOpsMax,
			blobstore.ErrTooLarge)
	}
	size := 0
	for i := range t.Put {
		if len(t.Put[i].Key) > blobstore.KeyBytesMax || len(t.Put[i].Value) > blobstore.RowBytesMax {
			return fmt.Errorf("catalog row: %w", blobstore.ErrTooLarge)
		}
		size += len(t.Put[i].Key) + len(t.Put[i].Value)
	}
	if size > commandBytesMax/2 {
		return fmt.Errorf("catalog transaction of %d bytes: %w", size, blobstore.ErrTooLarge)
	}
	return nil
}

// decoder reads a command; after the first error everything reads as zero.
type decoder struct {
	b   []byte
	err error
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
	if h[0] != commandVersion {
		d.err = fmt.Errorf("command version %d: %w", h[0], blobstore.ErrFormat)
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
	return int(v) //nolint:gosec // bounded by most
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
	return d.take(int(v)) //nolint:gosec // bounded by most
}

func (d *decoder) text() string { return string(d.bytes(blobstore.KeyBytesMax)) }

func appendInt(b []byte, v int64) []byte {
	return binary.AppendUvarint(b, uint64(v)) //nolint:gosec // sizes and offsets are not negative
}
