package layer3

import (
	"math"

	"carillon/audio/mpeg"
)

// joint undoes joint stereo (ISO 11172-3 2.4.3.4.9) in a granule of which so many
// lines of each channel may not be zero; it returns how many then may not.
func joint(h *mpeg.Header, g *sideGranule, left, right *[mpeg.GranuleLines]float32, lines [2]int) int {
	most := max(lines[0], lines[1])
	middle, intense := h.JointStereo()
	var top [4]int
	if intense {
		top = silentFrom(g, right, lines[1])
	}
	if middle {
		// The root of two is in the scale already.
		for i := range most {
			m, s := left[i], right[i]
			left[i], right[i] = m+s, m-s
		}
	}
	if intense {
		intensity(h, g, left, right, top)
	}
	return most
}

// intensity spreads the left channel over both, from the bands on where the
// right one has nothing.
func intensity(h *mpeg.Header, g *sideGranule, left, right *[mpeg.GranuleLines]float32, top [4]int) {
	middle, _ := h.JointStereo()
	to := 0
	for band, width := range g.layout.width[:g.layout.bands] {
		from := to
		to += width
		if band < top[g.layout.window(band)] {
			continue
		}
		// The last bands have no factor of their own.
		source := band
		switch {
		case g.blockType != blockShort && band == longBands-1:
			source--
		case g.blockType == blockShort && band >= g.layout.bands-3:
			source -= 3
		}
		l, r, ok := intensityFactors(h, g, source)
		if !ok {
			continue
		}
		if middle {
			l, r = l*math.Sqrt2, r*math.Sqrt2
		}
		for i := from; i < to; i++ {
			v := left[i]
			left[i], right[i] = v*l, v*r
		}
	}
}

// window is 0 for a band of long blocks, or 1 to 3.
func (l *bandLayout) window(band int) int {
	if band < l.long {
		return 0
	}
	return 1 + (band-l.long)%3
}

// silentFrom is, for long blocks and the three windows, the first band from
// which on the right channel is silent.
func silentFrom(g *sideGranule, right *[mpeg.GranuleLines]float32, lines int) [4]int {
	top := [4]int{0, g.layout.long, g.layout.long, g.layout.long}
	at := 0
	for band, width := range g.layout.width[:g.layout.bands] {
		window := g.layout.window(band)
		for i := at; i < min(at+width, lines); i++ {
			if right[i] == 0 {
				continue
			}
			top[window] = band + 1
			if window > 0 {
				top[0] = g.layout.long
			}
			break
		}
		at += width
	}
	return top
}

// intensityFactors are those of a band, by its scale factor of the right
// channel (ISO 11172-3 2.4.3.4.9.3, 13818-3 2.4.3.2). ok is false when the band
// is not coded so.
func intensityFactors(h *mpeg.Header, g *sideGranule, band int) (left, right float32, ok bool) {
	position := int(g.scale[band])
	if h.Version == mpeg.V1 {
		const none = 7
		if position >= none {
			return 0, 0, false
		}
		if position == 6 {
			return 1, 0, true // the tangent has no value
		}
		ratio := math.Tan(float64(position) * math.Pi / 12)
		return float32(ratio / (1 + ratio)), float32(1 / (1 + ratio)), true
	}
	if g.scale[band] == g.illegal[band] && g.illegal[band] > 0 {
		return 0, 0, false
	}
	root := 0.25
	if g.compress&1 == 1 {
		root = 0.5
	}
	factor := float32(math.Exp2(-root * float64((position+1)/2)))
	if position&1 == 1 {
		return factor, 1, true
	}
	return 1, factor, true
}
