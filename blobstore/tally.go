package blobstore

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"sort"
	"strings"
)

// SetSum is a checksum of a set of rows that does not depend on their order:
// the sum of the rows' SHA-256, in four lanes of 64 bits. A change of one row
// takes the old row's hash away and adds the new one's. It shows that two
// replicas differ, by a fault; it is no signature against somebody who forges
// rows.
type SetSum [4]uint64

// String returns 64 lower case hexadecimal digits.
func (s SetSum) String() string {
	var b [32]byte
	for i, lane := range s {
		binary.BigEndian.PutUint64(b[8*i:], lane)
	}
	return hex.EncodeToString(b[:])
}

// Tally is what a set of rows comes to. Two replicas that hold the same rows,
// with the same values and revisions, have the same tally.
type Tally struct {
	Rows  uint64
	Items uint64 // rows that have a weight
	Bytes uint64 // their weights together
	Sum   SetSum
}

func (t *Tally) add(weight uint64, hash SetSum) {
	t.Rows++
	if weight > 0 {
		t.Items++
		t.Bytes += weight
	}
	for i := range t.Sum {
		t.Sum[i] += hash[i]
	}
}

func (t *Tally) take(weight uint64, hash SetSum) {
	t.Rows--
	if weight > 0 {
		t.Items--
		t.Bytes -= weight
	}
	for i := range t.Sum {
		t.Sum[i] -= hash[i]
	}
}

func (t *Tally) merge(o Tally) {
	t.Rows += o.Rows
	t.Items += o.Items
	t.Bytes += o.Bytes
	for i := range t.Sum {
		t.Sum[i] += o.Sum[i]
	}
}

func hashRow(key string, row Row) SetSum {
	h := sha256.New()
	var head [24]byte
	le := binary.LittleEndian
	le.PutUint64(head[:], uint64(len(key)))
	le.PutUint64(head[8:], row.Revision)
	le.PutUint64(head[16:], row.Weight)
	_, _ = h.Write(head[:]) // a hash never fails
	_, _ = h.Write([]byte(key))
	_, _ = h.Write(row.Value)
	var sum [sha256.Size]byte
	h.Sum(sum[:0])
	var s SetSum
	for i := range s {
		s[i] = binary.BigEndian.Uint64(sum[8*i:])
	}
	return s
}

// classOf is the part of a key that rows are summed up by: up to its first
// slash.
func classOf(key string) string {
	i := strings.IndexByte(key, '/')
	return key[:i+1]
}

// subclassOf is the part of a key that rows with a weight are also summed up
// by: up to its second slash; "" if it has none.
func subclassOf(key string) string {
	first := strings.IndexByte(key, '/') + 1
	second := strings.IndexByte(key[first:], '/')
	if first == 0 || second < 0 {
		return ""
	}
	return key[:first+second+1]
}

// The value of a tally row: version, rows, items, bytes, the four lanes.
const tallyRowBytes = 1 + 3*8 + 4*8

func tallyKey(class string) []byte { return append(kindKey(kindTally, kindBytes+len(class)), class...) }

func (t Tally) encode() []byte {
	b := make([]byte, 1, tallyRowBytes)
	b[0] = layoutVersion
	for _, v := range []uint64{t.Rows, t.Items, t.Bytes, t.Sum[0], t.Sum[1], t.Sum[2], t.Sum[3]} {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	return b
}

func decodeTally(b []byte) (Tally, error) {
	if len(b) != tallyRowBytes || b[0] != layoutVersion {
		return Tally{}, fmt.Errorf("tally row of %d bytes: %w", len(b), ErrFormat)
	}
	v := func(i int) uint64 { return binary.LittleEndian.Uint64(b[1+8*i:]) }
	return Tally{Rows: v(0), Items: v(1), Bytes: v(2), Sum: SetSum{v(3), v(4), v(5), v(6)}}, nil
}

// tallies counts rows from the start: what is written one by one must come to
// the same.
type tallies map[string]*Tally

func (t tallies) add(key string, row Row) {
	hash := hashRow(key, row)
	t.of(classOf(key)).add(row.Weight, hash)
	if sub := subclassOf(key); sub != "" && row.Weight > 0 {
		t.of(sub).add(row.Weight, hash)
	}
}

func (t tallies) of(class string) *Tally {
	if t[class] == nil {
		t[class] = &Tally{}
	}
	return t[class]
}

// compare says which class differs from what was written down.
func (t tallies) compare(written tallies) error {
	classes := make([]string, 0, len(t))
	for class := range t {
		classes = append(classes, class)
	}
	for class := range written {
		if t[class] == nil {
			classes = append(classes, class)
		}
	}
	sort.Strings(classes)
	for _, class := range classes {
		if got, want := *t.of(class), *written.of(class); got != want {
			return fmt.Errorf("rows %q: %d with sum %v are there, %d with sum %v were written: %w",
				class, got.Rows, got.Sum, want.Rows, want.Sum, ErrCorrupt)
		}
	}
	return nil
}

// tallyBook is the tallies of a batch. It belongs to the goroutine that has
// the turn.
type tallyBook struct {
	total   Tally
	classes map[string]Tally // read and changed in this transaction
}

// tallied moves the tallies of a key from its old row, nil: none, to its new.
func (b *catalogBatch) tallied(key string, old, row *Row) error {
	change := func(t *Tally, onlyWeighed bool) {
		if old != nil && (old.Weight > 0 || !onlyWeighed) {
			t.take(old.Weight, hashRow(key, *old))
		}
		if row != nil && (row.Weight > 0 || !onlyWeighed) {
			t.add(row.Weight, hashRow(key, *row))
		}
	}
	change(&b.book.total, false)
	if err := b.changeClass(classOf(key), func(t *Tally) { change(t, false) }); err != nil {
		return err
	}
	sub := subclassOf(key)
	if sub == "" || (old == nil || old.Weight == 0) && (row == nil || row.Weight == 0) {
		return nil
	}
	return b.changeClass(sub, func(t *Tally) { change(t, true) })
}

func (b *catalogBatch) changeClass(class string, change func(*Tally)) error {
	t, known := b.book.classes[class]
	if !known {
		err := readRow(b.txn, tallyKey(class), func(raw []byte) error {
			var err error
			t, err = decodeTally(raw)
			return err
		})
		if err != nil && !errors.Is(err, ErrNotFound) {
			return fmt.Errorf("tally of %q: %w", class, err)
		}
	}
	change(&t)
	b.book.classes[class] = t
	return nil
}

// writeTallies puts the changed tallies into the transaction.
func (b *catalogBatch) writeTallies() error {
	for class, t := range b.book.classes {
		key := tallyKey(class)
		if t.Rows > 0 {
			if err := b.set(key, t.encode()); err != nil {
				return err
			}
			continue
		}
		b.count(len(key), 0)
		if err := b.txn.Delete(key); err != nil {
			return fmt.Errorf("write catalog: %w", err)
		}
	}
	return nil
}

// Tally implements Catalog.
func (c *CatalogStore) Tally(ctx context.Context, class string) (Tally, error) {
	if err := ctx.Err(); err != nil {
		return Tally{}, err
	}
	if class == "" {
		t, _ := c.Set()
		return t, nil
	}
	gen, err := c.enter()
	if err != nil {
		return Tally{}, err
	}
	defer gen.gate.leave()
	txn := gen.db.NewTransactionAt(newest, false)
	defer txn.Discard()
	var t Tally
	err = readRow(txn, tallyKey(class), func(raw []byte) error {
		var err error
		t, err = decodeTally(raw)
		return err
	})
	if doubt := gen.believe(ctx); doubt != nil {
		err = doubt
	}
	if err != nil && !errors.Is(err, ErrNotFound) {
		return Tally{}, fmt.Errorf("tally of %q: %w", class, err)
	}
	return t, nil
}

// VerifySet reads every row, checks that the tallies are what the rows come
// to, and returns the position that this was true at. ErrCorrupt: this
// replica has rows that it should not have, or lacks some. It disturbs nobody
// but the disk: a million documents take some seconds.
func (c *CatalogStore) VerifySet(ctx context.Context) (position uint64, err error) {
	s, err := c.Snapshot()
	if err != nil {
		return 0, err
	}
	defer s.Release()
	counted, written := tallies{}, tallies{}
	err = s.each(func(key, value []byte) error { //nolint:contextcheck // fn ends it
		if err := ctx.Err(); err != nil {
			return err
		}
		return collect(key, value, counted, written)
	})
	if err == nil {
		err = counted.compare(written)
	}
	if err != nil {
		return 0, fmt.Errorf("verify the catalog: %w", err)
	}
	return s.Applied(), nil
}

// collect takes a stored row into what is counted or what was written.
func collect(key, value []byte, counted, written tallies) error {
	switch name := string(key[kindBytes:]); key[1] {
	case kindRow:
		row, err := decodeRow(value)
		if err != nil {
			return err
		}
		counted.add(name, row)
	case kindTally:
		t, err := decodeTally(value)
		if err != nil {
			return err
		}
		written[name] = &t
	}
	return nil
}
