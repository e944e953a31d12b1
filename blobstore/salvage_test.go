package blobstore

import (
	"bytes"
	"slices"
	"syscall"
	"testing"

	"pgregory.net/rapid"
)

// wornFile is a file of which blocks cannot be read, and others are holes. A read that
// meets a bad block has what is before it, or nothing, as the kernel likes.
type wornFile struct {
	*bytes.Reader

	holes, bad []bool // by block
	greedy     bool   // nothing before a bad block is read with it
}

func (f wornFile) ReadAt(p []byte, off int64) (int, error) {
	whole, err := f.Reader.ReadAt(p, off)
	for n := 0; n < whole; {
		if f.bad[(off+int64(n))/salvageBlock] {
			if f.greedy {
				n = 0
			}
			return n, syscall.EIO
		}
		n += int(salvageBlock - (off+int64(n))%salvageBlock)
	}
	return whole, err
}

func (f wornFile) Seek(off int64, whence int) (int64, error) {
	const seekData, seekHole = 3, 4
	if whence != seekData && whence != seekHole {
		return f.Reader.Seek(off, whence)
	}
	for ; off < f.Size(); off = (off/salvageBlock + 1) * salvageBlock {
		if f.holes[off/salvageBlock] == (whence == seekHole) {
			return off, nil
		}
	}
	if whence == seekHole {
		return f.Size(), nil
	}
	return 0, syscall.ENXIO
}

// Goal: all that can be read of a file is, and nothing else, and it is known how much
// cannot.
func TestReadThrough(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.IntRange(0, 3*salvageRead).Draw(t, "size")
		whole := randomBytes(uint64(size), size)
		blocks := size/salvageBlock + 1
		f := wornFile{
			Reader: bytes.NewReader(whole), holes: make([]bool, blocks), bad: make([]bool, blocks),
			greedy: rapid.Bool().Draw(t, "greedy"),
		}
		for range rapid.IntRange(0, 5).Draw(t, "holes") {
			f.holes[rapid.IntRange(0, blocks-1).Draw(t, "hole")] = true
		}
		for range rapid.IntRange(0, 5).Draw(t, "bad blocks") {
			f.bad[rapid.IntRange(0, blocks-1).Draw(t, "bad")] = true
		}
		want, lost := slices.Clone(whole), int64(0)
		for i := range blocks {
			block := want[i*salvageBlock : min(size, (i+1)*salvageBlock)]
			if f.bad[i] && !f.holes[i] {
				lost += int64(len(block))
			}
			if f.bad[i] || f.holes[i] {
				clear(block)
			}
		}
		got := make([]byte, size)
		n, err := readThrough(f, func(p []byte, off int64) error {
			copy(got[off:], p)
			return nil
		})
		if err != nil || n != lost || !bytes.Equal(got, want) {
			t.Fatalf("%d bytes lost of %d, not %d, or others: %v", n, size, lost, err)
		}
	})
}
