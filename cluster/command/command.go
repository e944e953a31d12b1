package command

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"time"

	"carillon/blobstore"
	"carillon/cluster/wire"
)

// The operations. New ones get new numbers; old numbers are never used again.
const (
	opBlobs byte = 1 // a list of blob operations, for a blob group
	opTxn   byte = 2 // one catalog transaction, for the catalog group
	opCarry byte = 3 // one that brings the sound it refers to
)

// FormatMin and FormatMax are the formats of log commands that this build
// reads. The release after the one that adds a format may drop an old one.
const (
	FormatMin = 1
	FormatMax = 1
)

// OpsMax bounds the operations of one command: a tick of 1,000 live sources on
// one shard, with room.
const OpsMax = 4096

// BytesMax bounds a command: a full chunk and its head, or a batch of
// live pieces and theirs.
const BytesMax = 1 << 20

// opHeadBytesMax is what an operation takes in a command beside its bytes.
const opHeadBytesMax = blobstore.OpBytesMax - blobstore.ChunkBytesMax

// TxnID tells a repeated commit from a new one.
type TxnID [16]byte

// EncodeBlobs makes the command for ops.
func EncodeBlobs(format byte, ops []blobstore.Op) []byte {
	size := 2
	for i := range ops {
		size += opHeadBytesMax + len(ops[i].Data)
	}
	b := append(make([]byte, 0, size), format, opBlobs)
	return blobstore.AppendOps(b, ops)
}

// DecodeBlobs reads what EncodeBlobs wrote, up to the format reads. Data of the
// operations points into cmd.
func DecodeBlobs(cmd []byte, reads byte) ([]blobstore.Op, error) {
	d, err := open(cmd, opBlobs, reads)
	if err != nil {
		return nil, err
	}
	ops, err := blobstore.DecodeOps(d.Rest())
	if err != nil {
		return nil, fmt.Errorf("%w: %w", wire.ErrMalformed, err)
	}
	return ops, nil
}

// EncodeTxn makes the command for a catalog transaction without its Sound.
func EncodeTxn(format byte, id TxnID, t blobstore.Txn) []byte {
	b := append(make([]byte, 0, 128+txnBytes(t)), format, opTxn)
	return blobstore.AppendTxn(append(b, id[:]...), t)
}

// EncodeCarry makes the command for a catalog transaction with its Sound.
func EncodeCarry(format byte, id TxnID, t blobstore.Txn, at time.Time) []byte {
	op := t.Sound.Op(at)
	b := make([]byte, 0, 128+opHeadBytesMax+len(op.Data)+txnBytes(t))
	b = append(append(b, format, opCarry), id[:]...)
	// The operation is as long as it is; four bytes in front of it say so.
	start := len(b) + 4
	b = blobstore.AppendOps(append(b, 0, 0, 0, 0), []blobstore.Op{op})
	binary.BigEndian.PutUint32(b[start-4:], uint32(len(b)-start))
	return blobstore.AppendTxn(b, t)
}

// Catalog is one command of the catalog group.
type Catalog struct {
	ID    TxnID
	Txn   blobstore.Txn
	Sound []blobstore.Op // one, or none
}

// DecodeCatalog reads what EncodeTxn or EncodeCarry wrote, up to the format
// reads. Values point into cmd.
func DecodeCatalog(cmd []byte, reads byte) (c Catalog, err error) {
	op := opTxn
	if len(cmd) > 1 && cmd[1] == opCarry {
		op = opCarry
	}
	d, err := open(cmd, op, reads)
	if err != nil {
		return c, err
	}
	copy(c.ID[:], d.Take(len(c.ID)))
	if op == opCarry {
		if c.Sound, err = readSound(d); err != nil {
			return c, err
		}
	}
	if err := d.Err(); err != nil {
		return c, err
	}
	if c.Txn, err = blobstore.DecodeTxn(d.Rest()); err != nil {
		return c, fmt.Errorf("%w: %w", wire.ErrMalformed, err)
	}
	return c, nil
}

// readSound reads the one operation that an entry carries.
func readSound(d *wire.Decoder) ([]blobstore.Op, error) {
	size := binary.BigEndian.Uint32(d.Take(4))
	if size > uint32(blobstore.OpBytesMax+binary.MaxVarintLen64) {
		d.Fail("sound")
	}
	b := d.Take(int(size))
	if err := d.Err(); err != nil {
		return nil, err
	}
	ops, err := blobstore.DecodeOps(b)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", wire.ErrMalformed, err)
	}
	if len(ops) != 1 || ops[0].Kind != blobstore.OpPut {
		return nil, fmt.Errorf("entry carries %d operations: %w", len(ops), wire.ErrMalformed)
	}
	if ops[0].Offset != 0 {
		return nil, fmt.Errorf("entry carries sound from byte %d on: %w", ops[0].Offset, wire.ErrMalformed)
	}
	return ops, nil
}

// open reads the head of a command, which must be in a format of at most reads
// (0: FormatMax) and of that operation.
func open(cmd []byte, op, reads byte) (*wire.Decoder, error) {
	d := wire.NewDecoder(cmd)
	h := d.Take(2)
	if err := d.Err(); err != nil {
		return nil, err
	}
	if reads = cmp.Or(reads, FormatMax); h[0] < FormatMin || h[0] > reads {
		return nil, TooNew("command", h[0], reads)
	}
	if h[1] != op {
		return nil, fmt.Errorf("operation: %w", wire.ErrMalformed)
	}
	return d, nil
}

// Check refuses what no node could apply, before it is proposed.
func Check(t blobstore.Txn) error {
	if err := t.Check(); err != nil {
		return err //nolint:wrapcheck // in the words of blobstore
	}
	if size := txnBytes(t); size > BytesMax/2 {
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

// TooNew is the error of a node that is too old for what it meets.
func TooNew(what string, format, reads byte) error {
	return fmt.Errorf("%s is in format %d, this version reads up to %d, install a newer one: %w",
		what, format, reads, blobstore.ErrFormat)
}
