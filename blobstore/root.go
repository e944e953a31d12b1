package blobstore

import (
	"crypto/sha256"
	"encoding/binary"
	"hash/crc32"
)

// castagnoli is the polynomial of all checksums here: the CPU computes it.
func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

// RootSum computes the Root of [Totals] from bytes written in order. The zero
// value is ready.
type RootSum struct {
	size  int64
	root  uint32 // over the CRCs of the whole blocks
	block uint32 // of the begun block
}

// Write adds p. It never fails.
func (s *RootSum) Write(p []byte) (int, error) {
	n, tab := len(p), castagnoli()
	for len(p) > 0 {
		k := min(len(p), BlockBytes-int(s.size%BlockBytes))
		s.block = crc32.Update(s.block, tab, p[:k])
		s.size += int64(k)
		p = p[k:]
		if s.size%BlockBytes == 0 {
			s.root = extendRoot(s.root, s.block)
			s.block = 0
		}
	}
	return n, nil
}

// Size is how many bytes were written.
func (s *RootSum) Size() int64 { return s.size }

// Sum32 returns the Root of what was written so far.
func (s *RootSum) Sum32() uint32 {
	if s.size%BlockBytes == 0 {
		return s.root
	}
	return extendRoot(s.root, s.block)
}

// addBlocks adds n bytes of which only the CRCs of the blocks are known. The
// sum must stand at a block's start.
func (s *RootSum) addBlocks(crcs []byte, n int) {
	if n%BlockBytes == 0 {
		s.root = crc32.Update(s.root, castagnoli(), crcs)
	} else {
		last := len(crcs) - crc32.Size
		s.root = crc32.Update(s.root, castagnoli(), crcs[:last])
		s.block = binary.LittleEndian.Uint32(crcs[last:])
	}
	s.size += int64(n)
}

func extendRoot(root, block uint32) uint32 {
	var le [4]byte
	binary.LittleEndian.PutUint32(le[:], block)
	return crc32.Update(root, castagnoli(), le[:])
}

// TotalsOf returns the totals of a whole content.
func TotalsOf(p []byte) Totals {
	var sum RootSum
	_, _ = sum.Write(p)
	return Totals{Size: int64(len(p)), SHA256: sha256.Sum256(p), Root: sum.Sum32()}
}
