package mpeg

import "encoding/binary"

// BitReader reads the highest bits first. There are eight bytes at least behind
// those that mean something, so that a look needs no check.
type BitReader struct {
	Bytes []byte
	At    int // bits
}

// Peek returns the next 32 bits.
func (r *BitReader) Peek() uint32 {
	return uint32(binary.BigEndian.Uint64(r.Bytes[r.At>>3:]) << (r.At & 7) >> 32)
}

// Take returns the next n bits, at most 16.
func (r *BitReader) Take(n int) int {
	v := int(uint64(r.Peek()) >> (32 - n))
	r.At += n
	return v
}

// Flag takes one bit.
func (r *BitReader) Flag() bool { return r.Take(1) == 1 }
