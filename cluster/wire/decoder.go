package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"carillon/blobstore"
)

// ErrMalformed is returned when bytes are not what they should be.
var ErrMalformed = errors.New("malformed command")

// Decoder reads bytes; after the first error everything reads as zero.
type Decoder struct {
	b   []byte
	err error
}

// NewDecoder reads b, which it does not copy.
func NewDecoder(b []byte) *Decoder { return &Decoder{b: b} }

// More says whether there is something left to read and no error yet.
func (d *Decoder) More() bool { return len(d.b) > 0 && d.err == nil }

// Err is the first error.
func (d *Decoder) Err() error { return d.err }

// Rest is what has not been read.
func (d *Decoder) Rest() []byte { return d.b }

// Fail notes that what was read is malformed, unless something was before.
func (d *Decoder) Fail(what string) {
	if d.err == nil {
		d.err = fmt.Errorf("%s: %w", what, ErrMalformed)
	}
	d.b = nil
}

// End is the first error, if only that there are bytes left.
func (d *Decoder) End() error {
	if d.err == nil && len(d.b) != 0 {
		d.Fail("trailing bytes")
	}
	return d.err
}

// Take reads n bytes, which stay shared. On an error they are up to 64 zeros.
func (d *Decoder) Take(n int) []byte {
	if n < 0 || len(d.b) < n {
		d.Fail("short")
		return make([]byte, min(max(n, 0), 64))
	}
	p := d.b[:n:n]
	d.b = d.b[n:]
	return p
}

// Uvarint reads what AppendUint wrote.
func (d *Decoder) Uvarint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.Fail("number")
		return 0
	}
	d.b = d.b[n:]
	return v
}

// Varint reads what binary.AppendVarint wrote.
func (d *Decoder) Varint() int64 {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.Fail("number")
		return 0
	}
	d.b = d.b[n:]
	return v
}

// Count reads the number of the elements that follow, no more than most.
func (d *Decoder) Count(most int) int {
	v := d.Uvarint()
	if v > uint64(most) || v > uint64(len(d.b)) { // every element has at least a byte
		if v != 0 {
			d.Fail("count")
		}
		return 0
	}
	return int(v)
}

// Size reads what AppendInt wrote.
func (d *Decoder) Size() int64 {
	v := d.Uvarint()
	if v > math.MaxInt64 {
		d.Fail("size")
		return 0
	}
	return int64(v)
}

// Bytes reads what AppendBytes wrote, no more than most bytes, which stay shared.
func (d *Decoder) Bytes(most int) []byte {
	v := d.Uvarint()
	if v > uint64(most) || v > uint64(len(d.b)) {
		d.Fail("length")
		return nil
	}
	return d.Take(int(v))
}

// Text reads what AppendText wrote.
func (d *Decoder) Text() string { return string(d.Bytes(blobstore.KeyBytesMax)) }

// Short is a copy of a small byte string.
func (d *Decoder) Short() []byte { return append([]byte(nil), d.Bytes(256)...) }

// Bool reads what Flag wrote.
func (d *Decoder) Bool() bool { return d.Take(1)[0] == 1 }
