package layer3

import (
	"math"

	"carillon/audio/mpeg"
)

const (
	granuleBitsMax = 1<<12 - 1 // part2_3_length has 12 bits
	quantizedMax   = 8191 + huffmanEscape
	gainOne        = 210 // the gain of a step of 1
)

// The encoder has no model of hearing. All bands of a granule have one step: the
// power law of layer III gives more noise to what is louder already, and to code
// weak bands more finely by scale factors, as was tried, costs more in the others
// than it gains (DESIGN.md has the figures). Between granules and channels of a
// frame there is a rule:
const (
	// timeShare: a part of a frame that is so many dB weaker than the loudest
	// may have its noise weaker by this share of that.
	timeShare = 0.50
	// quietDB is where no ear or telephone line hears anything.
	quietDB = -80.0
	// timeShareStepsMax bounds what one part may take from the others.
	timeShareStepsMax = 16
)

// encoderPart is a granule of one channel on its way.
type encoderPart struct {
	granule
	lines [mpeg.GranuleLines]float64
	// power is |line|^(3/4).
	power [mpeg.GranuleLines]float64
	peak  float64 // of power
	// less is how many steps finer than the loudest of the frame this is
	// quantised.
	less int
}

// fit quantises the frame as finely as so many bits can tell. All parts have
// the same gain but for what shape made of it.
func (e *Encoder) fit(budget int) {
	parts := e.parts()
	e.shape(parts)
	low, high := 0, mpeg.GainMax+timeShareStepsMax
	for low < high {
		gain := (low + high) / 2
		if e.try(parts, gain, budget) {
			high = gain
		} else {
			low = gain + 1
		}
	}
	if !e.try(parts, low, budget) {
		// Not even silence fits.
		for _, p := range parts {
			p.granule = granule{blockType: p.blockType}
			p.measure(e)
		}
		return
	}
	e.spend(parts, budget)
}

// parts are those of the frame.
func (e *Encoder) parts() []*encoderPart {
	all := make([]*encoderPart, 0, 4)
	for g := range e.Frame.Samples / mpeg.GranuleLines {
		for ch := range e.Frame.Channels {
			all = append(all, &e.part[g][ch])
		}
	}
	return all
}

// try quantises with a gain and says whether it fits.
func (e *Encoder) try(parts []*encoderPart, gain, budget int) bool {
	for _, p := range parts {
		bits, ok := p.quantizeAt(e, gain-p.less)
		budget -= bits
		if !ok || budget < 0 {
			return false
		}
	}
	return true
}

// spend makes parts finer as long as there are bits left.
func (e *Encoder) spend(parts []*encoderPart, budget int) {
	for _, p := range parts {
		budget -= p.bits
	}
	for _, p := range parts {
		old := *p
		bits, ok := p.quantizeAt(e, old.gain-1)
		if !ok || old.gain == 0 || bits-old.bits > budget {
			*p = old
			continue
		}
		budget -= bits - old.bits
	}
}

// shape decides where noise may be.
func (e *Encoder) shape(parts []*encoderPart) {
	loudest := quietDB
	var level [4]float64
	for i, p := range parts {
		p.peak = 0
		for i, v := range &p.lines {
			root := math.Sqrt(math.Abs(v))
			p.power[i] = root * math.Sqrt(root)
			p.peak = max(p.peak, p.power[i])
		}
		level[i] = p.level()
		loudest = max(loudest, level[i])
	}
	for i, p := range parts {
		p.less = min(int((loudest-max(level[i], quietDB))*timeShare/mpeg.GainStepDB), timeShareStepsMax)
	}
}

// level is the power of the lines in dB.
func (p *encoderPart) level() float64 {
	sum := 0.0
	for _, v := range &p.lines {
		sum += v * v
	}
	return 10 * math.Log10(sum/mpeg.GranuleLines+1e-20)
}

// quantizeAt quantises with a gain and returns how many bits that takes. ok is
// false when it cannot be told.
func (p *encoderPart) quantizeAt(e *Encoder, gain int) (bits int, ok bool) {
	p.gain = min(max(gain, 0), mpeg.GainMax)
	if !p.quantize() {
		return 0, false
	}
	bits = p.measure(e)
	return bits, bits <= granuleBitsMax
}

// quantize rounds the lines as the decoder undoes it: value^(4/3) steps of
// 2^((gain-210)/4). Rounding is a little downwards, since the distance of two
// values grows. It returns false when a value cannot be told.
func (p *encoderPart) quantize() bool {
	const rounding = 0.4054
	scale := math.Exp2(-float64(p.gain-gainOne) * 3 / 16)
	if p.peak*scale+rounding >= quantizedMax {
		return false
	}
	for i, v := range &p.power {
		p.value[i] = int32(v*scale + rounding)
		p.negative[i] = p.lines[i] < 0
	}
	return true
}

// writeSide writes the side information of the part.
func (p *encoderPart) writeSide(w *bitWriter, lsf bool) {
	w.put(uint32(p.bits), 12)
	w.put(uint32(p.pairs), 9)
	w.put(uint32(p.gain), 8)
	if lsf {
		w.put(0, 9) // scalefac_compress: none are sent
	} else {
		w.put(0, 4)
	}
	if p.blockType == blockLong {
		w.put(0, 1) // window_switching_flag
		for _, t := range p.table {
			w.put(uint32(t), 5)
		}
		w.put(uint32(p.region0), 4)
		w.put(uint32(p.region1), 3)
	} else {
		w.put(1, 1)
		w.put(uint32(p.blockType), 2)
		w.put(0, 1) // mixed_block_flag
		for _, t := range p.table[:2] {
			w.put(uint32(t), 5)
		}
		w.put(0, 3*3) // subblock_gain
	}
	if !lsf {
		w.put(0, 1) // preflag
	}
	w.put(0, 1) // scalefac_scale
	w.put(uint32(p.quadTable-huffmanQuadA), 1)
}
