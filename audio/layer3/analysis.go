package layer3

import (
	"math"

	"carillon/audio/mpeg"
)

// analysis turns samples into lines: the polyphase filter, the transform of each
// subband, and the removal of what leaks between them (ISO 11172-3 C.1.3,
// 2.4.3.4.9 and 2.4.3.4.10 the other way round). Where something loud begins it
// takes short blocks, so that its noise does not begin before it.
type analysis struct {
	tables *layer3Tables
	// window is the analysis window, matrix the cosines, of which the others
	// are mirrors.
	window [windowSamples]float64
	matrix [subbands][subbands]float64
	// fifo are the last samples, the newest first.
	fifo [windowSamples]float64
	// last and now are the subband samples of the two granules that are
	// transformed, by subband; next are those behind, to see what comes.
	last, now, next [subbands][subbandLines]float64
	onsets          onsets
}

func newAnalysis(tables *layer3Tables) *analysis {
	a := &analysis{tables: tables}
	for i, w := range &tables.window {
		a.window[i] = w / 32
	}
	for i := range subbands {
		for k := range subbands {
			a.matrix[i][k] = math.Cos(math.Pi / 64 * float64((2*i+1)*k))
		}
	}
	return a
}

// granule takes the next 576 samples, of which missing ones are silence, and
// makes the lines of the granule before. It returns the type of its block.
func (a *analysis) granule(pcm []int16, lines *[mpeg.GranuleLines]float64) (block int) {
	a.last, a.now = a.now, a.next
	for slot := range subbandLines {
		n := min(len(pcm), subbands)
		a.polyphase(pcm[:n], slot)
		pcm = pcm[n:]
	}
	block = a.onsets.block(&a.next)
	for sb := range subbands {
		if block == blockShort {
			a.shortBlocks(sb, lines[sb*subbandLines:])
			continue
		}
		a.transform(sb, &a.tables.long[block], lines[sb*subbandLines:])
	}
	if block == blockShort {
		return block
	}
	for sb := range subbands - 1 {
		below, above := lines[:(sb+1)*subbandLines], lines[(sb+1)*subbandLines:]
		for i := range a.tables.aliasS {
			s, c := a.tables.aliasS[i], a.tables.aliasA[i]
			x, y := below[len(below)-1-i], above[i]
			below[len(below)-1-i] = x*s + y*c
			above[i] = y*s - x*c
		}
	}
	return block
}

// polyphase makes one sample of each subband of up to 32 of the input.
func (a *analysis) polyphase(pcm []int16, slot int) {
	copy(a.fifo[subbands:], a.fifo[:windowSamples-subbands])
	for i := range subbands {
		v := 0.0
		if i < len(pcm) {
			v = float64(pcm[i]) / (1 << 15)
		}
		a.fifo[subbands-1-i] = v
	}
	var folded [64]float64
	for i := range folded {
		for j := i; j < windowSamples; j += len(folded) {
			folded[i] += a.window[j] * a.fifo[j]
		}
	}
	// The cosine of 16+k is that of 16-k, and minus that of 80-k; that of 48 is 0.
	var half [subbands]float64
	half[0] = folded[16]
	for k := 1; k < subbands; k++ {
		if k <= 16 {
			half[k] = folded[16+k] + folded[16-k]
		} else {
			half[k] = folded[16+k] - folded[80-k]
		}
	}
	for sb := range subbands {
		sum := 0.0
		for k, v := range &half {
			sum += a.matrix[sb][k] * v
		}
		// Odd subbands come out with their frequencies reversed.
		if sb&slot&1 == 1 {
			sum = -sum
		}
		a.next[sb][slot] = sum
	}
}

// transform makes the lines of one subband of the last granule and this one.
func (a *analysis) transform(sb int, cosines *[subbandLines][2 * subbandLines]float64, lines []float64) {
	for k := range subbandLines {
		c := &cosines[k]
		sum := 0.0
		for i := range subbandLines {
			sum += c[i]*a.last[sb][i] + c[subbandLines+i]*a.now[sb][i]
		}
		lines[k] = sum / (subbandLines / 2)
	}
}

// shortBlocks makes those of three short blocks, the windows in turn.
func (a *analysis) shortBlocks(sb int, lines []float64) {
	const length = subbandLines / 3
	var both [2 * subbandLines]float64
	copy(both[:], a.last[sb][:])
	copy(both[subbandLines:], a.now[sb][:])
	for window := range 3 {
		part := both[length*(window+1):][:2*length]
		for k := range length {
			sum := 0.0
			for i, v := range part {
				sum += a.tables.short[k][i] * v
			}
			lines[3*k+window] = sum / (length / 2)
		}
	}
}

// onsets finds where short blocks are wanted. Each granule of subband samples is
// looked at in thirds, as long as a short block reaches.
type onsets struct {
	// energy is that of the last three thirds, in three parts of the spectrum.
	energy [3][3]float64
	// late: something began in the last third of the granule before.
	late bool
	// short: the granule before the present one, and that, want short blocks.
	short [2]bool
}

const (
	// onsetRatio is how much more energy than in any of the three thirds before
	// is a beginning: 7 dB. With 5 or 10 speech was a little worse.
	onsetRatio = 5
	// onsetFloor is the energy of a third that is heard, -60 dB.
	onsetFloor = 192 * 1e-6
)

// block takes the granule behind the present one and decides on that. Something
// that begins in the first two thirds of a granule is in the short blocks of the
// transform that ends with it; in the last third, in those of the next.
func (o *onsets) block(next *[subbands][subbandLines]float64) int {
	const third = subbandLines / 3
	onsetBands := [4]int{0, 4, 12, subbands}
	var began [3]bool
	for i := range began {
		for band, last := range &o.energy {
			energy := 0.0
			for _, samples := range next[onsetBands[band]:onsetBands[band+1]] {
				for _, v := range samples[i*third : (i+1)*third] {
					energy += v * v
				}
			}
			if energy > onsetFloor && energy > onsetRatio*max(last[0], last[1], last[2]) {
				began[i] = true
			}
			o.energy[band] = [3]float64{last[1], last[2], energy}
		}
	}
	before, short := o.short[0], o.short[1]
	after := began[0] || began[1] || o.late
	o.late = began[2]
	o.short = [2]bool{short, after}
	switch {
	case short || (before && after):
		return blockShort
	case after:
		return blockStart
	case before:
		return blockStop
	}
	return blockLong
}
