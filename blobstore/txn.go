package blobstore

import (
	"encoding/binary"
	"fmt"
)

// Versions of the encoding of a transaction. A node reads all that are named
// here.
const (
	// txnVersionPlain has neither appended rows nor weights.
	txnVersionPlain = 1
	// txnVersion is what is written.
	txnVersion = 2
)

// check says why a transaction can never be applied.
func (t *Txn) check() error {
	if n := len(t.If) + len(t.Put) + len(t.Delete) + len(t.Append); n > TxnOpsMax {
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
	row := func(r *Row) error {
		if n := len(r.Value); n > RowBytesMax {
			return fmt.Errorf("row of %d bytes: %w", n, ErrTooLarge)
		}
		return key(r.Key)
	}
	for i := range t.Put {
		if err := row(&t.Put[i]); err != nil {
			return err
		}
	}
	for _, k := range t.Delete {
		if err := key(k); err != nil {
			return err
		}
	}
	for i := range t.Append {
		if err := row(&t.Append[i]); err != nil {
			return err
		}
		if n := len(t.Append[i].Key); n > KeyBytesMax-appendedKeyBytes {
			return fmt.Errorf("prefix of %d bytes: %w", n, ErrTooLarge)
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
	rows := func(rows []Row) {
		dst = binary.AppendUvarint(dst, uint64(len(rows)))
		for i := range rows {
			text(rows[i].Key)
			dst = binary.AppendUvarint(dst, rows[i].Weight)
			dst = binary.AppendUvarint(dst, uint64(len(rows[i].Value)))
			dst = append(dst, rows[i].Value...)
		}
	}
	dst = append(dst, txnVersion)
	dst = binary.AppendUvarint(dst, uint64(len(t.If)))
	for _, c := range t.If {
		text(c.Key)
		dst = binary.AppendUvarint(dst, c.Revision)
	}
	rows(t.Put)
	dst = binary.AppendUvarint(dst, uint64(len(t.Delete)))
	for _, k := range t.Delete {
		text(k)
	}
	rows(t.Append)
	return dst
}

// DecodeTxn decodes what [AppendTxn] wrote, wholly. Values point into p.
func DecodeTxn(p []byte) (Txn, error) {
	if len(p) == 0 || p[0] < txnVersionPlain || p[0] > txnVersion {
		return Txn{}, fmt.Errorf("transaction of %d bytes: %w", len(p), ErrFormat)
	}
	d := decoder{rest: p[1:]}
	var t Txn
	for range d.count(TxnOpsMax) {
		t.If = append(t.If, Cond{Key: string(d.bytes(KeyBytesMax)), Revision: d.uvarint()})
	}
	rows := func() (rows []Row) {
		for range d.count(TxnOpsMax) {
			r := Row{Key: string(d.bytes(KeyBytesMax))}
			if p[0] != txnVersionPlain {
				r.Weight = d.uvarint()
			}
			r.Value = d.bytes(RowBytesMax)
			rows = append(rows, r)
		}
		return rows
	}
	t.Put = rows()
	for range d.count(TxnOpsMax) {
		t.Delete = append(t.Delete, string(d.bytes(KeyBytesMax)))
	}
	if p[0] != txnVersionPlain {
		t.Append = rows()
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
