package raftlog

import (
	"encoding/binary"
	"hash/fnv"
	"slices"
	"testing"
)

// smallBolt is a file of bbolt of pages of 128 bytes: two meta pages, a list of free
// pages, a leaf with a bucket in its value, and a page that is free.
func smallBolt() []byte {
	const size, free, leaf, spare, pages = 128, 2, 3, 4, 5
	b := make([]byte, pages*size)
	put := func(at int, fields ...any) {
		for _, v := range fields {
			n, err := binary.Encode(b[at:], binary.NativeEndian, v)
			if err != nil {
				panic(err)
			}
			at += n
		}
	}
	for n := range 2 {
		put(n*size, uint64(n), uint16(0x04), uint16(0), uint32(0),
			uint32(boltMagic), uint32(2), uint32(size), uint32(0),
			uint64(leaf), uint64(0), uint64(free), uint64(pages), uint64(n))
	}
	seal(b, size)
	put(free*size, uint64(free), uint16(boltFree), uint16(1), uint32(0), uint64(spare))
	// A key of one byte behind the element; a bucket without a root, in it a leaf with a
	// key and a value of one byte.
	put(leaf*size, uint64(leaf), uint16(boltLeaf), uint16(1), uint32(0),
		uint32(boltBucket), uint32(16), uint32(1), uint32(50), byte('s'),
		uint64(0), uint64(0), uint64(0), uint16(boltLeaf), uint16(1), uint32(0),
		uint32(0), uint32(16), uint32(1), uint32(1), byte('k'), byte('v'))
	return b
}

// seal writes the checksums of the meta pages, as far as they are there.
func seal(b []byte, size int) {
	for _, at := range []int{boltHead, size + boltHead} {
		if len(b) < at+boltSumAt+8 {
			return
		}
		sum := fnv.New64a()
		_, _ = sum.Write(b[at : at+boltSumAt]) // never fails
		binary.NativeEndian.PutUint64(b[at+boltSumAt:], sum.Sum64())
	}
}

// FuzzBoltFile: no file makes the look at it panic, or take long.
func FuzzBoltFile(f *testing.F) {
	whole := smallBolt()
	if err := newBoltFile(whole).check(); err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add(whole[:len(whole)-1])
	f.Fuzz(func(t *testing.T, b []byte) {
		b = slices.Clone(b)
		seal(b, newBoltFile(b).size) // or nothing behind the meta pages is looked at
		file := newBoltFile(b)
		if err := file.check(); err == nil && len(file.used) > int(file.pages) {
			t.Errorf("%d pages of %d", len(file.used), file.pages)
		}
	})
}
