package layer3

import (
	"math"

	"carillon/audio/mpeg"
)

// huffmanLookup decodes a table in one or two steps: by the first lookupBits,
// and for longer words by what follows. An entry is the length of the word and
// what it stands for; or a link, to where the words with this begin are and how
// many bits tell them apart.
type huffmanLookup []uint32

const (
	lookupBits = 8
	// An entry is link, 16 bits of offset or pair, and length.
	lookupLink   = 1 << 31
	lookupShift  = 8
	lookupLength = 0xFF
)

// newHuffmanLookup builds the lookup of a table; nil for one that does not exist.
func newHuffmanLookup(table int) huffmanLookup {
	code := newHuffmanCode(table)
	if code == nil {
		return nil
	}
	var deepest [1 << lookupBits]int // of the words with this begin
	for pair, n := range code.bits {
		if n > lookupBits {
			begin := code.word[pair] >> (n - lookupBits)
			deepest[begin] = max(deepest[begin], int(n)-lookupBits)
		}
	}
	entries := 1 << lookupBits
	var links [1 << lookupBits]uint32
	for begin, depth := range &deepest {
		if depth > 0 {
			links[begin] = lookupLink | uint32(entries)<<lookupShift | uint32(depth)
			entries += 1 << depth
		}
	}
	lookup := make(huffmanLookup, entries)
	copy(lookup, links[:])
	for pair, n := range code.bits {
		if n == 0 {
			continue
		}
		word, part, width := code.word[pair], lookup[:1<<lookupBits], lookupBits
		rest := int(n)
		if n > lookupBits {
			link := lookup[word>>(n-lookupBits)]
			width, rest = int(link&lookupLength), int(n)-lookupBits
			part = lookup[link&^lookupLink>>lookupShift:][:1<<width]
			word &= 1<<rest - 1
		}
		first := int(word) << (width - rest)
		for i := range 1 << (width - rest) {
			part[first+i] = uint32(pair)<<lookupShift | uint32(n)
		}
	}
	return lookup
}

// next takes a word and returns the two values, or four bits, it stands for.
func (l huffmanLookup) next(r *mpeg.BitReader) int {
	bits := r.Peek()
	entry := l[bits>>(32-lookupBits)]
	if entry&lookupLink != 0 {
		more := bits << lookupBits >> (32 - entry&lookupLength)
		entry = l[int(entry&^lookupLink>>lookupShift)+int(more)]
	}
	r.At += int(entry & lookupLength)
	return int(entry >> lookupShift)
}

// powersTabled is how many values have their power in a table; greater ones are
// rare.
const powersTabled = 256

// layer3Decoding are the constants that only decoding needs.
type layer3Decoding struct {
	huffman [huffmanTables]huffmanLookup
	// power is v^(4/3), step the powers of 2^(1/4).
	power [powersTabled]float32
	step  [4]float64
	// window is that of the synthesis, scaled to 16 bits.
	window [windowSamples]float32
	// long[i] are the cosines of sample i of a transformed long block, for the
	// half of them that the others mirror; short those of a short block.
	long  [subbandLines][subbandLines]float32
	short [6][6]float32
	// shape are the windows of the blocks by type; of short blocks twelve.
	shape  [4][2 * subbandLines]float32
	aliasS [8]float32
	aliasA [8]float32
	// halve[n] is 1/(2·cos) of the n-th stage of the fast cosine transform.
	halve [5][16]float32
}

func newLayer3Decoding() *layer3Decoding {
	t := &layer3Decoding{}
	for n := range huffmanTables {
		if from := huffmanCodesOf(n); from != n {
			t.huffman[n] = t.huffman[from]
			continue
		}
		t.huffman[n] = newHuffmanLookup(n)
	}
	for v := range t.power {
		t.power[v] = float32(math.Pow(float64(v), 4.0/3))
	}
	for i := range t.step {
		t.step[i] = math.Exp2(float64(i) / 4)
	}
	window := synthesisWindow()
	for i, w := range &window {
		t.window[i] = float32(w * (1 << 15))
	}
	t.makeTransforms()
	for i, c := range aliasCoefficients() {
		t.aliasS[i] = float32(1 / math.Sqrt(1+c*c))
		t.aliasA[i] = float32(c / math.Sqrt(1+c*c))
	}
	for stage := range t.halve {
		n := subbands >> stage
		for k := range n / 2 {
			t.halve[stage][k] = float32(0.5 / math.Cos(math.Pi*float64(2*k+1)/float64(2*n)))
		}
	}
	return t
}

// makeTransforms fills in the cosines and windows of ISO 11172-3 2.4.3.4.10.
func (t *layer3Decoding) makeTransforms() {
	for i := range subbandLines {
		at := i
		if i >= subbandLines/2 {
			at = i + subbandLines/2 // the second half begins at sample 18
		}
		for k := range subbandLines {
			t.long[i][k] = float32(math.Cos(math.Pi / 72 * float64((2*at+1+18)*(2*k+1))))
		}
	}
	for i := range 6 {
		at := i
		if i >= 3 {
			at = i + 3
		}
		for k := range 6 {
			t.short[i][k] = float32(math.Cos(math.Pi / 24 * float64((2*at+1+6)*(2*k+1))))
		}
	}
	for block := range t.shape {
		for i := range t.shape[block] {
			t.shape[block][i] = float32(blockWindow(block, i))
		}
	}
}
