package layer3

import (
	"math"

	"carillon/audio/mpeg"
)

// synthesis turns the lines of one channel into samples: the way of analysis
// backwards (ISO 11172-3 2.4.3.4.10, 2.4.3.2.2).
type synthesis struct {
	tables *layer3Decoding
	// overlap is the second half of the last block of each subband.
	overlap [subbands][subbandLines]float32
	// slots are the subband samples of a granule.
	slots [subbandLines][subbands]float32
	// ring are the last sixteen vectors of the matrixing, the newest at at.
	ring [16][64]float32
	at   int
}

// granule makes 576 samples of the lines, of which those from count on are zero.
// It writes them to every step-th place of pcm.
func (s *synthesis) granule(
	g *sideGranule, lines *[mpeg.GranuleLines]float32, count int, pcm []int16, step int,
) {
	active := (count + subbandLines - 1) / subbandLines
	active = s.unalias(g, lines, active)
	for sb := range subbands {
		block := blockLong
		if !g.mixed || sb > 1 {
			block = g.blockType
		}
		switch {
		case sb >= active:
			for i, v := range &s.overlap[sb] {
				s.slots[i][sb] = v
			}
			s.overlap[sb] = [subbandLines]float32{}
		case block == blockShort:
			s.shortBlocks(sb, lines[sb*subbandLines:])
		default:
			s.longBlock(sb, block, lines[sb*subbandLines:])
		}
	}
	for i := range s.slots {
		slot := &s.slots[i]
		if i&1 == 1 {
			// Odd subbands have their frequencies reversed.
			for sb := 1; sb < subbands; sb += 2 {
				slot[sb] = -slot[sb]
			}
		}
		s.polyphase(slot, pcm[i*subbands*step:], step)
	}
}

// unalias puts back what leaks between subbands of long blocks and returns how
// many of them may not be silent.
func (s *synthesis) unalias(g *sideGranule, lines *[mpeg.GranuleLines]float32, active int) int {
	borders := min(active, subbands-1)
	if g.blockType == blockShort {
		if !g.mixed {
			return active
		}
		borders = min(borders, 1)
	}
	for sb := 1; sb <= borders; sb++ {
		below, above := lines[:sb*subbandLines], lines[sb*subbandLines:]
		for i := range s.tables.aliasS {
			c, a := s.tables.aliasS[i], s.tables.aliasA[i]
			x, y := below[len(below)-1-i], above[i]
			below[len(below)-1-i] = x*c - y*a
			above[i] = y*c + x*a
		}
	}
	return max(active, borders+1)
}

func (s *synthesis) longBlock(sb, block int, lines []float32) {
	const half = subbandLines / 2
	in := (*[subbandLines]float32)(lines)
	shape, overlap := &s.tables.shape[block], &s.overlap[sb]
	for i := range half {
		first, second := &s.tables.long[i], &s.tables.long[half+i]
		var a, b float32
		for k, v := range in {
			a += v * first[k]
			b += v * second[k]
		}
		s.slots[i][sb] = a*shape[i] + overlap[i]
		s.slots[17-i][sb] = -a*shape[17-i] + overlap[17-i]
		overlap[i] = b * shape[18+i]
		overlap[17-i] = b * shape[35-i]
	}
}

func (s *synthesis) shortBlocks(sb int, lines []float32) {
	in := (*[subbandLines]float32)(lines)
	shape, overlap := &s.tables.shape[blockShort], &s.overlap[sb]
	var out [2 * subbandLines]float32
	for window := range 3 {
		part := out[6+6*window:][:12]
		for i := range 3 {
			first, second := &s.tables.short[i], &s.tables.short[3+i]
			var a, b float32
			for k := range 6 {
				v := in[3*k+window]
				a += v * first[k]
				b += v * second[k]
			}
			part[i] += a * shape[i]
			part[5-i] -= a * shape[5-i]
			part[6+i] += b * shape[6+i]
			part[11-i] += b * shape[11-i]
		}
	}
	for i := range overlap {
		s.slots[i][sb] = out[i] + overlap[i]
		overlap[i] = out[subbandLines+i]
	}
}

// polyphase makes 32 samples of one of each subband. The transform of slot is
// done in its place.
func (s *synthesis) polyphase(slot *[subbands]float32, pcm []int16, step int) {
	s.at = (s.at - 1) & 15
	s.cosines(slot)
	v := &s.ring[s.at]
	for i := range 16 {
		v[i] = slot[16+i]
		v[48-i] = -slot[i]
		v[48+i] = -slot[i]
	}
	v[16] = 0
	for i := 17; i <= 32; i++ {
		v[i] = -slot[48-i]
	}
	var sum [subbands]float32
	window := &s.tables.window
	for i := 0; i < 16; i += 2 {
		even := (*[subbands]float32)(s.ring[(s.at+i)&15][:subbands])
		odd := (*[subbands]float32)(s.ring[(s.at+i+1)&15][subbands:])
		w := (*[2 * subbands]float32)(window[i*subbands:])
		for j := range sum {
			sum[j] += even[j]*w[j] + odd[j]*w[subbands+j]
		}
	}
	for j, v := range &sum {
		pcm[j*step] = Round16(v)
	}
}

// cosines is the cosine transform (DCT-II, unscaled) of x in its place, after
// B. G. Lee: each stage halves, and the way back adds neighbours.
func (s *synthesis) cosines(x *[subbands]float32) {
	for stage := range len(s.tables.halve) - 1 {
		n := subbands >> stage
		factors := s.tables.halve[stage][:n/2]
		for at := 0; at < subbands; at += n {
			part := x[at : at+n]
			for k := range n / 4 {
				// Four at a time, since the halves overlap what is read.
				l := n/2 - 1 - k
				a, b, c, d := part[k], part[n-1-k], part[l], part[n-1-l]
				part[k], part[n/2+k] = a+b, (a-b)*factors[k]
				part[l], part[n/2+l] = c+d, (c-d)*factors[l]
			}
		}
	}
	for i := 0; i < subbands; i += 2 {
		a, b := x[i], x[i+1]
		x[i], x[i+1] = a+b, (a-b)*s.tables.halve[len(s.tables.halve)-1][0]
	}
	var y [subbands]float32
	for n := 4; n <= subbands; n *= 2 {
		for at := 0; at < subbands; at += n {
			part, out := x[at:at+n], y[at:at+n]
			for i := range n/2 - 1 {
				out[2*i] = part[i]
				out[2*i+1] = part[n/2+i] + part[n/2+i+1]
			}
			out[n-2], out[n-1] = part[n/2-1], part[n-1]
		}
		*x = y
	}
}

// Round16 is the nearest sample to a value, the even one of two, at most full
// scale.
func Round16(v float32) int16 {
	return int16(math.RoundToEven(float64(min(max(v, math.MinInt16), math.MaxInt16))))
}
