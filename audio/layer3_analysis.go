package audio

import "math"

// analysis turns samples into the lines of long blocks: the polyphase filter,
// the transform of each subband, and the removal of what leaks between them
// (ISO 11172-3 C.1.3, 2.4.3.4.9 and 2.4.3.4.10 the other way round).
type analysis struct {
	tables *layer3Tables
	// window is the analysis window, matrix its cosines.
	window [windowSamples]float64
	matrix [subbands][64]float64
	// fifo are the last samples, the newest first.
	fifo [windowSamples]float64
	// last and now are the subband samples of two granules, by subband.
	last, now [subbands][subbandLines]float64
}

func newAnalysis(tables *layer3Tables) *analysis {
	a := &analysis{tables: tables}
	for i, w := range &tables.window {
		a.window[i] = w / 32
	}
	for i := range subbands {
		for k := range 64 {
			a.matrix[i][k] = math.Cos(math.Pi / 64 * float64((2*i+1)*(k-16)))
		}
	}
	return a
}

// granule analyses the next 576 samples, of which missing ones are silence.
func (a *analysis) granule(pcm []int16, lines *[granuleLines]float64) {
	a.last = a.now
	for slot := range subbandLines {
		n := min(len(pcm), subbands)
		a.polyphase(pcm[:n], slot)
		pcm = pcm[n:]
	}
	for sb := range subbands {
		a.transform(sb, lines[sb*subbandLines:])
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
	for sb := range subbands {
		sum := 0.0
		for k, v := range &folded {
			sum += a.matrix[sb][k] * v
		}
		// Odd subbands come out with their frequencies reversed.
		if sb&slot&1 == 1 {
			sum = -sum
		}
		a.now[sb][slot] = sum
	}
}

// transform makes the lines of one subband of the last granule and this one.
func (a *analysis) transform(sb int, lines []float64) {
	for k := range subbandLines {
		c := &a.tables.long[k]
		sum := 0.0
		for i := range subbandLines {
			sum += c[i]*a.last[sb][i] + c[subbandLines+i]*a.now[sb][i]
		}
		lines[k] = sum / (subbandLines / 2)
	}
}
