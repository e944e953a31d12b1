package blobstore

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

// Goal: what the tail gives are the blob's bytes, whatever the pieces, it has the
// newest, and it is no larger than what comes needs.
func TestTail(t *testing.T) {
	f := &follow{}
	var blob []byte
	sizes := []int{1, 700, 800, 800, 1025, 900, 5000, 20_000, 300}
	limits := []int{4, 4, 4, 4, 8, 8, 16, 16, 16}
	for i, size := range sizes {
		piece := make([]byte, size)
		_, _ = rand.NewChaCha8([32]byte{byte(i)}).Read(piece) // never fails
		f.grow(Info{Size: int64(len(blob) + size)}, int64(len(blob)), piece)
		blob = append(blob, piece...)
		if len(f.tail) != limits[i]<<10 {
			t.Errorf("piece of %d: a tail of %d", size, len(f.tail))
		}
		newest := max(0, len(blob)-min(size, len(f.tail)))
		for _, off := range []int{0, int(f.tailFrom), newest, len(blob) - 1, len(blob)} {
			p := make([]byte, len(blob))
			n := f.readTail(int64(off), p)
			if !bytes.Equal(p[:n], blob[off:off+n]) {
				t.Fatalf("after %d bytes, at %d: wrong bytes", len(blob), off)
			}
			if inside := off >= int(f.tailFrom) && off < len(blob); inside && off+n != len(blob) || !inside && n > 0 {
				t.Errorf("after %d bytes, at %d: %d bytes", len(blob), off, n)
			}
		}
		if f.tailFrom > int64(newest) {
			t.Errorf("after %d bytes the tail begins at %d", len(blob), f.tailFrom)
		}
	}
}
