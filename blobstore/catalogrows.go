package blobstore

import (
	"encoding/binary"
	"fmt"
)

// The rows of the catalog database; DESIGN.md draws them.
const (
	kindApplied = 'a' //              -> applied index, number of transactions
	kindOutcome = 'o' // slot (u16)   -> an applied transaction: id, index, result
	kindRow     = 'r' // key          -> revision, value

	// outcomesMax is how many transactions are remembered by id, so that a
	// commit that was forwarded twice is applied once. At 1,000 commits/s it
	// is eight seconds; forwarding gives up earlier.
	outcomesMax = 8192

	rowHeadBytes      = 1 + 8
	outcomeRowBytes   = 1 + 16 + 8 + 1
	appliedRowBytes   = 1 + 8 + 8
	catalogValueBytes = rowHeadBytes + RowBytesMax
)

func appliedKey() []byte { return kindKey(kindApplied, kindBytes) }

func outcomeKey(slot uint16) []byte {
	return binary.BigEndian.AppendUint16(kindKey(kindOutcome, kindBytes+2), slot)
}

func rowKey(key string) []byte {
	return append(kindKey(kindRow, kindBytes+len(key)), key...)
}

func encodeRow(revision uint64, value []byte) []byte {
	b := make([]byte, 1, rowHeadBytes+len(value))
	b[0] = layoutVersion
	b = binary.LittleEndian.AppendUint64(b, revision)
	return append(b, value...)
}

// decodeRow returns a value that points into b.
func decodeRow(b []byte) (revision uint64, value []byte, err error) {
	if len(b) < rowHeadBytes || b[0] != layoutVersion {
		return 0, nil, fmt.Errorf("catalog row of %d bytes: %w", len(b), ErrFormat)
	}
	return binary.LittleEndian.Uint64(b[1:]), b[rowHeadBytes:], nil
}

// outcome is what became of a transaction.
type outcome struct {
	id     [16]byte
	index  uint64
	result result
}

// result is an error of a transaction as all nodes keep it.
type result uint8

const (
	resultOK       result = 0
	resultConflict result = 1
	resultTooLarge result = 2
)

func (r result) err() error {
	switch r {
	case resultOK:
		return nil
	case resultConflict:
		return fmt.Errorf("condition of a transaction: %w", ErrConflict)
	case resultTooLarge:
		return fmt.Errorf("transaction: %w", ErrTooLarge)
	}
	return fmt.Errorf("result %d: %w", r, ErrFormat)
}

func (o outcome) encode() []byte {
	b := make([]byte, 1, outcomeRowBytes)
	b[0] = layoutVersion
	b = append(b, o.id[:]...)
	b = binary.LittleEndian.AppendUint64(b, o.index)
	return append(b, byte(o.result))
}

func decodeOutcome(b []byte) (outcome, error) {
	if len(b) != outcomeRowBytes || b[0] != layoutVersion || result(b[25]) > resultTooLarge {
		return outcome{}, fmt.Errorf("outcome row of %d bytes: %w", len(b), ErrFormat)
	}
	return outcome{[16]byte(b[1:17]), binary.LittleEndian.Uint64(b[17:]), result(b[25])}, nil
}

// progress is the applied row.
type progress struct {
	applied uint64
	count   uint64 // transactions remembered ever; the next slot is count%outcomesMax
}

func (p progress) encode() []byte {
	b := make([]byte, 1, appliedRowBytes)
	b[0] = layoutVersion
	b = binary.LittleEndian.AppendUint64(b, p.applied)
	return binary.LittleEndian.AppendUint64(b, p.count)
}

func decodeProgress(b []byte) (progress, error) {
	if len(b) != appliedRowBytes || b[0] != layoutVersion {
		return progress{}, fmt.Errorf("applied row of %d bytes: %w", len(b), ErrFormat)
	}
	return progress{binary.LittleEndian.Uint64(b[1:]), binary.LittleEndian.Uint64(b[9:])}, nil
}

// check says why a transaction can never be applied.
func (t *Txn) check() error {
	if n := len(t.If) + len(t.Put) + len(t.Delete); n > TxnOpsMax {
		return fmt.Errorf("transaction of %d operations: %w", n, ErrTooLarge)
	}
	key := func(k string) error {
		if len(k) == 0 || len(k) > KeyBytesMax {
			return fmt.Errorf("key of %d bytes: %w", len(k), ErrTooLarge)
		}
		return nil
	}
	for i := range t.If {
		if err := key(t.If[i].Key); err != nil {
			return err
		}
	}
	for i := range t.Put {
		if err := key(t.Put[i].Key); err != nil {
			return err
		}
		if n := len(t.Put[i].Value); n > RowBytesMax {
			return fmt.Errorf("row of %d bytes: %w", n, ErrTooLarge)
		}
	}
	for _, k := range t.Delete {
		if err := key(k); err != nil {
			return err
		}
	}
	return nil
}

// Check returns ErrTooLarge when the transaction breaks a limit of the
// catalog; a proposer asks before it bothers the log.
func (t Txn) Check() error { return t.check() }

// AppendTxn appends the encoding of a transaction to dst.
func AppendTxn(dst []byte, t Txn) []byte {
	text := func(s string) {
		dst = binary.AppendUvarint(dst, uint64(len(s)))
		dst = append(dst, s...)
	}
	dst = append(dst, layoutVersion)
	dst = binary.AppendUvarint(dst, uint64(len(t.If)))
	for _, c := range t.If {
		text(c.Key)
		dst = binary.AppendUvarint(dst, c.Revision)
	}
	dst = binary.AppendUvarint(dst, uint64(len(t.Put)))
	for _, r := range t.Put {
		text(r.Key)
		dst = binary.AppendUvarint(dst, uint64(len(r.Value)))
		dst = append(dst, r.Value...)
	}
	dst = binary.AppendUvarint(dst, uint64(len(t.Delete)))
	for _, k := range t.Delete {
		text(k)
	}
	return dst
}

// DecodeTxn decodes what [AppendTxn] wrote, wholly. Values point into p.
func DecodeTxn(p []byte) (Txn, error) {
	if len(p) == 0 || p[0] != layoutVersion {
		return Txn{}, fmt.Errorf("transaction of %d bytes: %w", len(p), ErrFormat)
	}
	d := decoder{rest: p[1:]}
	var t Txn
	for range d.count(TxnOpsMax) {
		t.If = append(t.If, Cond{Key: string(d.bytes(KeyBytesMax)), Revision: d.uvarint()})
	}
	for range d.count(TxnOpsMax) {
		t.Put = append(t.Put, Row{Key: string(d.bytes(KeyBytesMax)), Value: d.bytes(RowBytesMax)})
	}
	for range d.count(TxnOpsMax) {
		t.Delete = append(t.Delete, string(d.bytes(KeyBytesMax)))
	}
	if d.err == nil && len(d.rest) > 0 {
		d.fail()
	}
	if d.err != nil {
		return Txn{}, d.err
	}
	return t, nil
}

// decoder reads uvarints and byte strings; after an error it reads zeros.
type decoder struct {
	rest []byte
	err  error
}

func (d *decoder) fail() {
	if d.err == nil {
		d.err = fmt.Errorf("%d bytes left: %w", len(d.rest), ErrFormat)
	}
	d.rest = nil
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.rest)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.rest = d.rest[n:]
	return v
}

func (d *decoder) count(limit int) int {
	v := d.uvarint()
	if v > uint64(limit) {
		d.fail()
		return 0
	}
	return int(v)
}

func (d *decoder) bytes(limit int) []byte {
	n := d.count(limit)
	if n > len(d.rest) {
		d.fail()
		return nil
	}
	b := d.rest[:n:n]
	d.rest = d.rest[n:]
	return b
}
