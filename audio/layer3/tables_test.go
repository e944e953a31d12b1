package layer3

import (
	"testing"

	"carillon/audio/mpeg"
)

// TestHuffmanTables: each code is complete and no word begins another, which
// the sum of 2^-length shows; the smallest is compared word by word.
func TestHuffmanTables(t *testing.T) {
	for table := range huffmanTables {
		code := newHuffmanCode(table)
		if code == nil {
			if table != 0 && table != 4 && table != 14 && huffmanWords(table) != "" {
				t.Errorf("table %d is missing", table)
			}
			continue
		}
		sum := 0
		for _, n := range code.bits {
			if n > 0 {
				sum += 1 << (20 - n)
			}
		}
		if sum != 1<<20 {
			t.Errorf("table %d: sum of word lengths %d, want %d", table, sum, 1<<20)
		}
	}
	one := newHuffmanCode(1)
	for pair, want := range map[int][2]int{0x00: {1, 1}, 0x01: {1, 3}, 0x10: {1, 2}, 0x11: {0, 3}} {
		if one.word[pair] != uint32(want[0]) || int(one.bits[pair]) != want[1] {
			t.Errorf("table 1, %02x: %b in %d bits", pair, one.word[pair], one.bits[pair])
		}
	}
}

// TestBandEdges: the bands of every rate cover the granule.
func TestBandEdges(t *testing.T) {
	for v := mpeg.V1; v <= mpeg.V25; v++ {
		for i := range byte(3) {
			if edges := bandEdges(v, mpeg.SampleRate(v, i)); edges[longBands] != mpeg.GranuleLines {
				t.Errorf("%v, rate %d: bands end at %d", v, i, edges[longBands])
			}
		}
	}
}
