package layer3

import "carillon/audio/mpeg"

// mainDataSlackBytes is read, but never used, behind the main data of a damaged
// frame: the scale factors (39 of 4 bits) and two Huffman words.
const mainDataSlackBytes = 64

// Decoder decodes the frames of an MPEG audio layer III stream of any
// version. What is damaged or missing in a frame is silence.
type Decoder struct {
	lines     lineDecoder
	synthesis [2]synthesis
	layouts   *layouts
	version   mpeg.Version
	rate      int
	channels  int // of the last frame
	side      sideInfo
	spectrum  [2][mpeg.GranuleLines]float32

	// data is the main data of the present frame and what went before.
	data  [mpeg.ReservoirBytesMax + mpeg.FrameBytesMax + mainDataSlackBytes]byte
	dataN int
}

// NewDecoder returns a decoder that has seen nothing.
func NewDecoder() *Decoder {
	tables := newLayer3Decoding()
	d := &Decoder{lines: lineDecoder{tables: tables}}
	for ch := range d.synthesis {
		d.synthesis[ch].tables = tables
	}
	return d
}

// Decode fills pcm with the Samples of Channels of a whole frame. It returns
// false when part of it is silence because it is damaged, or its main data
// begin before the first frame that was seen.
func (d *Decoder) Decode(h *mpeg.Header, frame []byte, pcm []int16) bool {
	d.adapt(h)
	begin, loaded := d.load(h, frame)
	reader := mpeg.BitReader{Bytes: d.data[:], At: begin * 8}
	sound := loaded
	for g := range h.Samples / mpeg.GranuleLines {
		lines, ok := 0, false
		if loaded {
			lines, ok = d.readGranule(h, g, &reader)
		}
		if !ok {
			// The last block fades out.
			sound = false
			for ch := range h.Channels {
				d.side.granule[g][ch] = sideGranule{layout: &d.layouts.long}
				d.spectrum[ch] = [mpeg.GranuleLines]float32{}
			}
		}
		part := pcm[g*mpeg.GranuleLines*h.Channels:]
		for ch := range h.Channels {
			side := &d.side.granule[g][ch]
			n := d.lines.sort(side, lines, &d.spectrum[ch])
			d.synthesis[ch].granule(side, &d.spectrum[ch], n, part[ch:], h.Channels)
		}
	}
	return sound
}

// Skip takes a frame as decode does, without its sound.
func (d *Decoder) Skip(h *mpeg.Header, frame []byte) {
	d.adapt(h)
	d.load(h, frame)
}

// adapt begins anew when the rate changes, and gives a second channel that
// appears the state of the first.
func (d *Decoder) adapt(h *mpeg.Header) {
	if d.layouts == nil || d.version != h.Version || d.rate != h.SampleRate {
		d.layouts = newLayouts(h.Version, h.SampleRate)
		d.version, d.rate = h.Version, h.SampleRate
		d.dataN = 0
		for ch := range d.synthesis {
			d.synthesis[ch] = synthesis{tables: d.lines.tables}
		}
	}
	if d.channels == 1 && h.Channels == 2 {
		d.synthesis[1] = d.synthesis[0]
	}
	d.channels = h.Channels
}

// load reads the side information of the frame and appends its main data to the
// reservoir. begin is where in the data that of the frame begins.
func (d *Decoder) load(h *mpeg.Header, frame []byte) (begin int, ok bool) {
	if d.dataN > mpeg.ReservoirBytesMax {
		d.dataN = copy(d.data[:], d.data[d.dataN-mpeg.ReservoirBytesMax:d.dataN])
	}
	at := h.SideEnd()
	side := at - h.SideBytes()
	if len(frame) < at {
		return 0, false
	}
	var head [64]byte // the side information and room to look beyond
	copy(head[:], frame[side:at])
	ok = d.side.read(&mpeg.BitReader{Bytes: head[:]}, h, d.layouts)
	begin = d.dataN - d.side.mainDataBegin
	d.dataN += copy(d.data[d.dataN:len(d.data)-mainDataSlackBytes], frame[at:])
	return begin, ok && begin >= 0
}

// readGranule decodes the lines of all channels of a granule, and returns how
// many may not be zero. The reader is behind the granule then, whether it is
// sound or not.
func (d *Decoder) readGranule(h *mpeg.Header, g int, r *mpeg.BitReader) (lines int, ok bool) {
	from, end := r.At, r.At
	for ch := range h.Channels {
		end += d.side.granule[g][ch].bits
	}
	r.At = end
	if end > d.dataN*8 {
		return 0, false
	}
	middle, intense := h.JointStereo()
	var count [2]int
	for ch := range count[:h.Channels] {
		side := &d.side.granule[g][ch]
		part := mpeg.BitReader{Bytes: r.Bytes, At: from}
		from += side.bits
		if h.Version == mpeg.V1 {
			var first *sideGranule
			if g > 0 {
				first = &d.side.granule[0][ch]
			}
			side.readScale(&part, &d.side.shared[ch], first)
		} else {
			side.readScaleLSF(&part, intense && ch == 1)
		}
		if count[ch], ok = d.lines.read(&part, side, from); !ok {
			return 0, false
		}
		quarter := 0
		if middle {
			quarter = -2 // both are summed over the root of two
		}
		d.lines.scale(side, count[ch], quarter, &d.spectrum[ch])
	}
	if h.Channels == 1 {
		return count[0], true
	}
	if !middle && !intense {
		return max(count[0], count[1]), true
	}
	return joint(h, &d.side.granule[g][1], &d.spectrum[0], &d.spectrum[1], count), true
}
