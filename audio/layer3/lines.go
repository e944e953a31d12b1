package layer3

import (
	"math"

	"carillon/audio/mpeg"
)

// lineDecoder turns the main data of a granule into its lines.
type lineDecoder struct {
	tables *layer3Decoding
	value  [mpeg.GranuleLines]int32
	sorted [mpeg.GranuleLines]float32
}

// read takes the Huffman words of a granule, which end at bit end, and leaves
// their values in d.value. It returns how many lines may not be zero; ok is
// false when the words are none.
func (d *lineDecoder) read(r *mpeg.BitReader, g *sideGranule, end int) (lines int, ok bool) {
	pairsEnd := 2 * g.pairs
	from := 0
	for region, table := range g.table {
		to := pairsEnd
		if region < len(g.regionEnd) {
			to = min(g.regionEnd[region], pairsEnd)
		}
		if to <= from {
			continue
		}
		if table == 0 {
			clear(d.value[from:to])
		} else if !d.readPairs(r, d.value[from:to], table, end) {
			return 0, false
		}
		from = to
	}
	lookup := d.tables.huffman[g.quadTable]
	for from+4 <= mpeg.GranuleLines && r.At < end {
		quad := lookup.next(r)
		for i := range 4 {
			v := int32(quad >> (3 - i) & 1)
			if v != 0 && r.Flag() {
				v = -v
			}
			d.value[from+i] = v
		}
		if r.At > end {
			break // these were no more of the words
		}
		from += 4
	}
	clear(d.value[from:])
	return from, true
}

func (d *lineDecoder) readPairs(r *mpeg.BitReader, values []int32, table, end int) bool {
	lookup, escape := d.tables.huffman[table], escapeBits(table)
	if lookup == nil {
		return false
	}
	for i := 0; i+1 < len(values); i += 2 {
		if r.At >= end {
			return false
		}
		pair := lookup.next(r)
		x, y := int32(pair>>4), int32(pair&0xF)
		if escape > 0 && x == huffmanEscape {
			x += int32(r.Take(escape))
		}
		if x != 0 && r.Flag() {
			x = -x
		}
		if escape > 0 && y == huffmanEscape {
			y += int32(r.Take(escape))
		}
		if y != 0 && r.Flag() {
			y = -y
		}
		values[i], values[i+1] = x, y
	}
	return r.At <= end
}

// scale turns the values of so many lines into what they stand for, still in the
// order of the stream. quarter is added to the gain: a step of it is 1.5 dB.
func (d *lineDecoder) scale(g *sideGranule, lines, quarter int, out *[mpeg.GranuleLines]float32) {
	const pretab = "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x01\x01\x01\x02\x02\x03\x03\x03\x02\x00"
	step := 2
	if g.coarse {
		step = 4
	}
	at := 0
	for band, width := range g.layout.width[:g.layout.bands] {
		if at >= lines {
			break
		}
		factor := int(g.scale[band])
		exponent := g.gain - gainOne + quarter
		switch {
		case band >= g.layout.long:
			exponent -= 8 * g.blockGain[(band-g.layout.long)%3]
		case g.preflag:
			factor += int(pretab[band])
		}
		exponent -= step * factor
		scale := float32(math.Ldexp(d.tables.step[exponent&3], exponent>>2))
		to := min(at+width, mpeg.GranuleLines)
		for i, v := range d.value[at:to] {
			out[at+i] = d.power(v) * scale
		}
		at = to
	}
	clear(out[at:])
}

// power is v^(4/3) with the sign of v.
func (d *lineDecoder) power(v int32) float32 {
	switch {
	case v >= 0 && v < powersTabled:
		return d.tables.power[v]
	case v < 0 && v > -powersTabled:
		return -d.tables.power[-v]
	}
	return float32(float64(v) * math.Cbrt(math.Abs(float64(v))))
}

// sort puts the lines of short blocks in the order of their frequencies, those
// of the three windows in turn, and returns how many may not be zero.
func (d *lineDecoder) sort(g *sideGranule, lines int, out *[mpeg.GranuleLines]float32) int {
	if g.blockType != blockShort {
		return lines
	}
	at := 0
	for _, width := range g.layout.width[:g.layout.long] {
		at += width
	}
	for band := g.layout.long; band < g.layout.bands && at < lines; band += 3 {
		width := g.layout.width[band]
		for i := range width {
			for window := range 3 {
				d.sorted[3*i+window] = out[at+window*width+i]
			}
		}
		at += copy(out[at:], d.sorted[:3*width])
	}
	return max(at, lines)
}
