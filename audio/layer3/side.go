package layer3

import "carillon/audio/mpeg"

// The block types of a granule, by their number.
const (
	blockLong = iota
	blockStart
	blockShort
	blockStop
)

const (
	shortBands = 13
	// bandsMax is how many scale factor bands a granule has at most: those of
	// short blocks count once for each of the three windows.
	bandsMax = 3 * shortBands
)

// sideGranule is what the side information and the scale factors say of one
// granule of one channel.
type sideGranule struct {
	bits      int // part2_3_length
	pairs     int // big_values
	gain      int // global_gain
	compress  int // scalefac_compress
	blockType int
	mixed     bool
	table     [3]int
	// regionEnd are the lines where the first two regions end.
	regionEnd [2]int
	blockGain [3]int // subblock_gain
	preflag   bool
	coarse    bool // scalefac_scale
	quadTable int

	layout *bandLayout
	scale  [bandsMax]uint8
	// illegal is what scale is at most in each band, which of intensity
	// stereo of MPEG-2 means "none".
	illegal [bandsMax]uint8
}

// sideInfo is that of a frame.
type sideInfo struct {
	mainDataBegin int
	// shared: the second granule takes over the scale factors of the first, by
	// four groups of bands (scfsi).
	shared  [2][4]bool
	granule [2][2]sideGranule // by granule and channel
}

// bandLayout is the widths of the bands in the order of the stream: of long
// blocks, or (of a mixed granule: then) of each window of short ones.
type bandLayout struct {
	width [bandsMax]int
	bands int
	long  int // how many bands are of long blocks
	lines int // where those end
}

// layouts are the three of a sample rate.
type layouts struct {
	edges              [longBands + 1]int
	long, short, mixed bandLayout
}

func newLayouts(v mpeg.Version, rate int) *layouts {
	l := &layouts{edges: bandEdges(v, rate)}
	for i := range longBands {
		l.long.width[i] = l.edges[i+1] - l.edges[i]
	}
	l.long.bands, l.long.long, l.long.lines = longBands, longBands, mpeg.GranuleLines
	widths := shortBandWidths(v, rate)
	for band, w := range widths {
		for window := range 3 {
			l.short.width[3*band+window] = w
		}
	}
	l.short.bands = bandsMax
	m := &l.mixed
	m.long = 6
	if v == mpeg.V1 {
		m.long = 8
	}
	copy(m.width[:m.long], l.long.width[:])
	m.lines = l.edges[m.long]
	const firstShort = 3 // what is below is long
	m.bands = m.long + copy(m.width[m.long:], l.short.width[3*firstShort:])
	return l
}

// shortOrder is, for every line of a granule of short blocks in the order of the
// stream, its place in the order of frequencies.
func (l *layouts) shortOrder() [mpeg.GranuleLines]int {
	var order [mpeg.GranuleLines]int
	at := 0
	for band := 0; band < l.short.bands; band += 3 {
		from := at
		for window := range 3 {
			for i := range l.short.width[band] {
				order[at] = from + 3*i + window
				at++
			}
		}
	}
	return order
}

// shortBandWidths are those of one window (ISO 11172-3 table B.8, 13818-3 table
// B.2, and for 8 kHz what encoders agreed on).
func shortBandWidths(v mpeg.Version, rate int) [shortBands]int {
	switch {
	case rate == 8000:
		return [shortBands]int{8, 8, 8, 12, 16, 20, 24, 28, 36, 2, 2, 2, 26}
	case rate == 22050:
		return [shortBands]int{4, 4, 4, 6, 6, 8, 10, 14, 18, 26, 32, 42, 18}
	case rate == 24000:
		return [shortBands]int{4, 4, 4, 6, 8, 10, 12, 14, 18, 24, 32, 44, 12}
	case v == mpeg.V1 && rate == 44100:
		return [shortBands]int{4, 4, 4, 4, 6, 8, 10, 12, 14, 18, 22, 30, 56}
	case v == mpeg.V1 && rate == 48000:
		return [shortBands]int{4, 4, 4, 4, 6, 6, 10, 12, 14, 16, 20, 26, 66}
	case v == mpeg.V1:
		return [shortBands]int{4, 4, 4, 4, 6, 8, 12, 16, 20, 26, 34, 42, 12}
	}
	return [shortBands]int{4, 4, 4, 6, 8, 10, 12, 14, 18, 24, 30, 40, 18}
}

// read takes the side information of a frame (ISO 11172-3 2.4.1.7, 13818-3
// 2.4.1.7). It returns false when it cannot be that.
func (s *sideInfo) read(r *mpeg.BitReader, h *mpeg.Header, l *layouts) bool {
	lsf := h.Version != mpeg.V1
	granules := h.Samples / mpeg.GranuleLines
	if lsf {
		s.mainDataBegin = r.Take(8)
		r.At += h.Channels // private_bits
	} else {
		s.mainDataBegin = r.Take(9)
		r.At += 7 - 2*h.Channels
		for ch := range h.Channels {
			for group := range s.shared[ch] {
				s.shared[ch][group] = r.Flag()
			}
		}
	}
	for g := range granules {
		for ch := range h.Channels {
			if !s.granule[g][ch].read(r, h, l) {
				return false
			}
		}
	}
	return true
}

func (g *sideGranule) read(r *mpeg.BitReader, h *mpeg.Header, l *layouts) bool {
	lsf := h.Version != mpeg.V1
	g.bits, g.pairs, g.gain = r.Take(12), r.Take(9), r.Take(8)
	if lsf {
		g.compress = r.Take(9)
	} else {
		g.compress = r.Take(4)
	}
	g.blockType, g.mixed, g.blockGain, g.layout = blockLong, false, [3]int{}, &l.long
	if r.Flag() {
		if !g.readWindowed(r, h, l) {
			return false
		}
	} else {
		g.table = [3]int{r.Take(5), r.Take(5), r.Take(5)}
		region0, region1 := r.Take(4), r.Take(3)
		g.regionEnd[0] = l.edges[min(region0+1, longBands)]
		g.regionEnd[1] = l.edges[min(region0+region1+2, longBands)]
	}
	g.preflag = false
	if !lsf {
		g.preflag = r.Flag()
	}
	g.coarse = r.Flag()
	g.quadTable = huffmanQuadA + r.Take(1)
	return g.pairs <= mpeg.GranuleLines/2
}

// readWindowed takes what is told of a granule that is no plain long block.
func (g *sideGranule) readWindowed(r *mpeg.BitReader, h *mpeg.Header, l *layouts) bool {
	g.blockType, g.mixed = r.Take(2), r.Flag()
	g.table = [3]int{r.Take(5), r.Take(5), 0}
	for i := range g.blockGain {
		g.blockGain[i] = r.Take(3)
	}
	g.regionEnd = [2]int{windowedRegion(h, l, g), mpeg.GranuleLines}
	switch {
	case g.blockType == blockLong:
		return false
	case g.blockType == blockShort && g.mixed:
		g.layout = &l.mixed
	case g.blockType == blockShort:
		g.layout = &l.short
	}
	return true
}

// windowedRegion is where the first region ends when it is not told.
func windowedRegion(h *mpeg.Header, l *layouts, g *sideGranule) int {
	switch {
	case h.Version == mpeg.V25 && g.blockType == blockShort && !g.mixed:
		return l.edges[6]
	case h.Version == mpeg.V2 && g.blockType == blockShort:
		return 36
	}
	return l.edges[8]
}

// readScale takes the scale factors of MPEG-1. first is the granule before in
// the same frame, or nil.
func (g *sideGranule) readScale(r *mpeg.BitReader, shared *[4]bool, first *sideGranule) {
	const low, high = "\x00\x00\x00\x00\x03\x01\x01\x01\x02\x02\x02\x03\x03\x03\x04\x04",
		"\x00\x01\x02\x03\x00\x01\x02\x03\x01\x02\x03\x01\x02\x03\x02\x03"
	bits := [2]int{int(low[g.compress]), int(high[g.compress])}
	g.scale = [bandsMax]uint8{}
	if g.blockType == blockShort {
		// Up to the sixth short band the first length is used.
		split, end := 3*6, 3*12
		if g.mixed {
			split, end = g.layout.long+3*3, g.layout.long+3*9
		}
		g.takeScale(r, 0, split, bits[0])
		g.takeScale(r, split, end, bits[1])
		return
	}
	edges := [5]int{0, 6, 11, 16, 21}
	for group := range shared {
		from, to := edges[group], edges[group+1]
		if first != nil && shared[group] {
			copy(g.scale[from:to], first.scale[from:to])
			continue
		}
		g.takeScale(r, from, to, bits[group/2])
	}
}

func (g *sideGranule) takeScale(r *mpeg.BitReader, from, to, bits int) {
	for band := from; band < to; band++ {
		g.scale[band] = uint8(r.Take(bits))
		g.illegal[band] = 1<<bits - 1
	}
}

// readScaleLSF takes the scale factors of MPEG-2 and 2.5. intensity is set for
// the right channel of intensity stereo.
func (g *sideGranule) readScaleLSF(r *mpeg.BitReader, intensity bool) {
	var bits [4]int
	row, c := 0, g.compress
	g.preflag = false
	switch {
	case intensity && c>>1 < 180:
		c >>= 1
		row, bits = 3, [4]int{c / 36, c % 36 / 6, c % 6}
	case intensity && c>>1 < 244:
		c = c>>1 - 180
		row, bits = 4, [4]int{c >> 4 & 3, c >> 2 & 3, c & 3}
	case intensity:
		c = c>>1 - 244
		row, bits = 5, [4]int{c / 3, c % 3}
	case c < 400:
		bits = [4]int{c >> 4 / 5, c >> 4 % 5, c >> 2 & 3, c & 3}
	case c < 500:
		c -= 400
		row, bits = 1, [4]int{c >> 2 / 5, c >> 2 % 5, c & 3}
	default:
		c -= 500
		row, bits = 2, [4]int{c / 3, c % 3}
		g.preflag = true
	}
	g.scale, g.illegal = [bandsMax]uint8{}, [bandsMax]uint8{}
	at := 0
	for group, n := range g.scaleGroups(row) {
		g.takeScale(r, at, at+int(n), bits[group])
		at += int(n)
	}
}

// scaleGroups is how many bands have scale factors of one length (ISO 13818-3
// 2.4.3.2).
func (g *sideGranule) scaleGroups(row int) [4]uint8 {
	switch {
	case g.blockType != blockShort:
		return [6][4]uint8{
			{6, 5, 5, 5}, {6, 5, 7, 3}, {11, 10, 0, 0}, {7, 7, 7, 0}, {6, 6, 6, 3}, {8, 8, 5, 0},
		}[row]
	case g.mixed:
		return [6][4]uint8{
			{6, 9, 9, 9}, {6, 9, 12, 6}, {15, 18, 0, 0}, {6, 15, 12, 0}, {6, 12, 9, 6}, {6, 18, 9, 0},
		}[row]
	}
	return [6][4]uint8{
		{9, 9, 9, 9}, {9, 9, 12, 6}, {18, 18, 0, 0}, {12, 12, 12, 0}, {12, 9, 9, 6}, {15, 12, 9, 0},
	}[row]
}
