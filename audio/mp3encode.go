package audio

import (
	"errors"
	"fmt"
	"math"
)

// ErrNoSuchRate is returned when MPEG audio layer III has no such sample rate
// or bit rate, or a frame of the bit rate has no room for sound.
var ErrNoSuchRate = errors.New("no such rate in mpeg audio layer iii")

// MP3Encoder makes an MPEG audio layer III stream of constant bit rate from one
// channel, as FreeSWITCH sends it: no header frame, no tags, every frame by
// itself (no bit reservoir), so that a listener can join at any. It is made for
// test signals and announcements: long blocks only and no model of hearing. It
// is used by one goroutine at a time.
type MP3Encoder struct {
	header  [FrameHeaderBytes]byte
	frame   FrameHeader // without padding
	edges   [longBands + 1]int
	tables  *layer3Tables
	filter  *analysis
	quant   quantizer
	lines   [granuleLines]float64
	granule [2]granule
	// slack is what frames so far are short of the bit rate, in bytes/rate.
	slack int
}

// NewMP3Encoder returns an encoder for one of the nine sample rates of layer
// III and a bit rate in bits a second that goes with it.
func NewMP3Encoder(sampleRate, bitRate int) (*MP3Encoder, error) {
	header, ok := monoHeader(sampleRate, bitRate)
	if !ok {
		return nil, fmt.Errorf("%d Hz at %d bit/s: %w", sampleRate, bitRate, ErrNoSuchRate)
	}
	frame, err := ParseFrameHeader(header[:])
	if err != nil {
		return nil, err
	}
	tables := newLayer3Tables()
	return &MP3Encoder{
		header: header, frame: frame,
		edges:  bandEdges(frame.Version, sampleRate),
		tables: tables,
		filter: newAnalysis(tables),
	}, nil
}

// encoderDelay is how many samples later what goes in comes out of a decoder:
// the polyphase filters of both, and the overlap of the blocks.
const encoderDelay = windowSamples - subbands + 1 + granuleLines

// EncodeMP3 encodes a whole signal, with a frame or two more than it fills, so
// that its end comes out too.
func EncodeMP3(pcm []int16, sampleRate, bitRate int) ([]byte, error) {
	e, err := NewMP3Encoder(sampleRate, bitRate)
	if err != nil {
		return nil, err
	}
	n := e.FrameSamples()
	frames := (len(pcm) + encoderDelay + n - 1) / n
	out := make([]byte, 0, frames*(e.frame.FrameBytes+1))
	for range frames {
		k := min(n, len(pcm))
		out = e.AppendFrame(out, pcm[:k])
		pcm = pcm[k:]
	}
	return out, nil
}

// FrameSamples is how many samples a frame holds.
func (e *MP3Encoder) FrameSamples() int { return e.frame.Samples }

// AppendFrame encodes FrameSamples samples, of which missing ones are silence
// and more than that are ignored, and appends the frame to dst.
func (e *MP3Encoder) AppendFrame(dst []byte, pcm []int16) []byte {
	size, padding := e.nextSize()
	granules := e.frame.Samples / granuleLines
	budget := (size - FrameHeaderBytes - e.frame.sideBytes()) * 8
	for i := range granules {
		n := min(len(pcm), granuleLines)
		e.filter.granule(pcm[:n], &e.lines)
		pcm = pcm[n:]
		g := &e.granule[i]
		e.quant.fit(g, &e.lines, e, min(budget/(granules-i), granuleBitsMax))
		budget -= g.bits
	}

	from := len(dst)
	dst = append(dst, e.header[:]...)
	dst[from+2] |= padding << 1
	w := bitWriter{b: dst}
	e.writeSide(&w, granules)
	for i := range granules {
		e.granule[i].write(&w, e.tables)
	}
	w.flush()
	for len(w.b) < from+size {
		w.b = append(w.b, 0)
	}
	return w.b
}

// nextSize pads frames so that their mean length is that of the bit rate.
func (e *MP3Encoder) nextSize() (size int, padding byte) {
	e.slack += e.frame.Samples / 8 * e.frame.BitRate % e.frame.SampleRate
	if e.slack < e.frame.SampleRate {
		return e.frame.FrameBytes, 0
	}
	e.slack -= e.frame.SampleRate
	return e.frame.FrameBytes + 1, 1
}

// writeSide writes the side information of one channel (ISO 11172-3 2.4.1.7,
// 13818-3 2.4.1.7).
func (e *MP3Encoder) writeSide(w *bitWriter, granules int) {
	lsf := e.frame.Version != MPEG1
	if lsf {
		w.put(0, 8+1) // main_data_begin, private_bits
	} else {
		w.put(0, 9+5+4) // and scfsi
	}
	for i := range granules {
		g := &e.granule[i]
		w.put(uint32(g.bits), 12)
		w.put(uint32(g.pairs), 9)
		w.put(uint32(g.gain), 8)
		if lsf {
			w.put(0, 9) // scalefac_compress: none are sent
		} else {
			w.put(0, 4)
		}
		w.put(0, 1) // window_switching_flag
		for _, t := range g.table {
			w.put(uint32(t), 5)
		}
		w.put(uint32(g.region0), 4)
		w.put(uint32(g.region1), 3)
		if !lsf {
			w.put(0, 1) // preflag
		}
		w.put(0, 1) // scalefac_scale
		w.put(uint32(g.quadTable-huffmanQuadA), 1)
	}
}

// monoHeader is the header of unpadded frames of one channel.
func monoHeader(sampleRate, bitRate int) ([FrameHeaderBytes]byte, bool) {
	for _, version := range [3]byte{3, 2, 0} {
		for rate := range byte(3) {
			for index := byte(1); index < 15; index++ {
				const layer3, noCRC, mono, original = 1 << 1, 1, 3 << 6, 1 << 2
				b := [FrameHeaderBytes]byte{
					0xFF, 0xE0 | version<<3 | layer3 | noCRC, index<<4 | rate<<2, mono | original,
				}
				h, ok := parseFrame(b[:])
				if ok && h.SampleRate == sampleRate && h.BitRate == bitRate {
					return b, h.FrameBytes > FrameHeaderBytes+h.sideBytes()
				}
			}
		}
	}
	return [FrameHeaderBytes]byte{}, false
}

// bitWriter appends bits to bytes, the highest first.
type bitWriter struct {
	b    []byte
	held uint64
	n    int
}

// put appends the low n bits of v, at most 32, which has no higher ones.
func (w *bitWriter) put(v uint32, n int) {
	w.held = w.held<<n | uint64(v)
	w.n += n
	for w.n >= 8 {
		w.n -= 8
		w.b = append(w.b, byte(w.held>>w.n))
	}
}

// flush fills the last byte with zeros.
func (w *bitWriter) flush() {
	if w.n > 0 {
		w.put(0, 8-w.n)
	}
}

// quantizer finds how finely the lines of a granule can be told in so many bits.
type quantizer struct {
	// power is |line|^(3/4).
	power [granuleLines]float64
}

const (
	granuleBitsMax = 1<<12 - 1 // part2_3_length has 12 bits
	quantizedMax   = 8191 + huffmanEscape
	gainMax        = 255
	gainOne        = 210 // the gain of a step of 1
)

// fit quantises with the least gain that keeps the granule within the budget.
func (q *quantizer) fit(g *granule, lines *[granuleLines]float64, e *MP3Encoder, budget int) {
	peak := 0.0
	for i, v := range lines {
		q.power[i] = math.Pow(math.Abs(v), 0.75)
		peak = max(peak, q.power[i])
	}
	low, high := 0, gainMax
	for low < high {
		gain := (low + high) / 2
		if q.quantize(g, lines, gain, peak) && g.measure(e) <= budget {
			high = gain
		} else {
			low = gain + 1
		}
	}
	if !q.quantize(g, lines, low, peak) || g.measure(e) > budget {
		// Not even silence fits.
		*g = granule{}
		g.measure(e)
	}
}

// quantize rounds the lines as the decoder undoes it: value^(4/3) steps of
// 2^((gain-210)/4). Rounding is a little downwards, since the distance of two
// values grows. It returns false when a value cannot be told.
func (q *quantizer) quantize(g *granule, lines *[granuleLines]float64, gain int, peak float64) bool {
	const rounding = 0.4054
	scale := math.Exp2(-float64(gain-gainOne) * 3 / 16)
	if peak*scale+rounding >= quantizedMax {
		return false
	}
	g.gain = gain
	for i, p := range &q.power {
		v := int32(p*scale + rounding)
		g.value[i] = v
		g.negative[i] = lines[i] < 0
	}
	return true
}
