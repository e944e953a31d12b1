package layer3

import (
	"errors"
	"fmt"

	"carillon/audio/mpeg"
)

// ErrNoSuchRate is returned when MPEG audio layer III has no such sample rate
// or bit rate, or a frame of the bit rate has no room for sound.
var ErrNoSuchRate = errors.New("no such rate in mpeg audio layer iii")

// Encoder makes an MPEG audio layer III stream of constant bit rate from one
// channel or two coded by themselves, as FreeSWITCH sends it: no tags, every
// frame by itself (no bit reservoir), so that a listener can join at any. What
// it can and what it cannot stands in DESIGN.md. It is used by one goroutine at
// a time.
type Encoder struct {
	Stream

	tables *layer3Tables
	// layouts are the bands, order is where the lines of short blocks are that
	// come in the order of the stream.
	layouts *layouts
	order   [mpeg.GranuleLines]int
	filter  [2]*analysis
	part    [2][2]encoderPart // by granule and channel
	// slack is what frames so far are short of the bit rate, in bytes/rate.
	slack int
	mono  []int16 // one channel of what is being encoded
	gain  int     // steps of mpeg.GainStepDB
}

// NewEncoder returns an encoder of one channel or two for one of the nine sample
// rates of layer III and a bit rate in bits a second that goes with it.
func NewEncoder(sampleRate, channels, bitRate int) (*Encoder, error) {
	stream, ok := StreamOf(sampleRate, channels, bitRate)
	if !ok {
		return nil, fmt.Errorf("%d Hz, %d channels at %d bit/s: %w", sampleRate, channels, bitRate, ErrNoSuchRate)
	}
	e := &Encoder{
		Stream:  stream,
		layouts: newLayouts(stream.Frame.Version, sampleRate),
		tables:  newLayer3Tables(),
		mono:    make([]int16, stream.Frame.Samples),
	}
	e.order = e.layouts.shortOrder()
	for ch := range channels {
		e.filter[ch] = newAnalysis(e.tables)
	}
	return e, nil
}

// EncoderDelay is how many samples later what goes in comes out of a decoder:
// the polyphase filters of both, the overlap of the blocks, and the granule that
// the encoder looks ahead.
const EncoderDelay = windowSamples - subbands + 1 + 2*mpeg.GranuleLines

// Encode encodes a whole signal of one channel, with a frame or two more than
// it fills, so that its end comes out too.
func Encode(pcm []int16, sampleRate, bitRate int) ([]byte, error) {
	e, err := NewEncoder(sampleRate, 1, bitRate)
	if err != nil {
		return nil, err
	}
	n := e.FrameSamples()
	frames := Frames(int64(len(pcm)), n)
	out := make([]byte, 0, frames*int64(e.Frame.FrameBytes+1))
	for range frames {
		k := min(n, len(pcm))
		out = e.AppendFrame(out, pcm[:k])
		pcm = pcm[k:]
	}
	return out, nil
}

// Frames is how many frames of so many samples it takes for all of n
// samples to come out.
func Frames(n int64, frameSamples int) int64 {
	return (n + EncoderDelay + int64(frameSamples) - 1) / int64(frameSamples)
}

// SetGain makes the frames from now on louder by dB, to the nearest
// mpeg.GainStepDB, in what they say of themselves: sound that is louder than 16
// bits hold is cut off by who decodes it to them, and not by mod_shout, which
// plays a quarter.
func (e *Encoder) SetGain(dB float64) { e.gain = mpeg.GainSteps(dB) }

// AppendFrame encodes FrameSamples samples of each channel, those of the
// channels in turn, of which missing ones are silence and more than that are
// ignored, and appends the frame to dst.
func (e *Encoder) AppendFrame(dst []byte, pcm []int16) []byte {
	size, padding := e.nextSize()
	granules, channels := e.Frame.Samples/mpeg.GranuleLines, e.Frame.Channels
	for ch := range channels {
		e.analyse(ch, pcm)
	}
	e.fit((size - mpeg.HeaderBytes - e.Frame.SideBytes()) * 8)

	from := len(dst)
	dst = append(dst, e.Header[:]...)
	dst[from+2] |= padding << 1
	w := bitWriter{b: dst}
	e.writeSide(&w)
	for g := range granules {
		for ch := range channels {
			e.part[g][ch].write(&w, e.tables)
		}
	}
	w.flush()
	for len(w.b) < from+size {
		w.b = append(w.b, 0)
	}
	if e.gain != 0 {
		mpeg.ChangeGain(&e.Frame, w.b[from:], e.gain)
	}
	return w.b
}

// analyse makes the lines of the granules of a channel.
func (e *Encoder) analyse(ch int, pcm []int16) {
	channels := e.Frame.Channels
	e.mono = e.mono[:0]
	for i := ch; i < len(pcm) && len(e.mono) < e.Frame.Samples; i += channels {
		e.mono = append(e.mono, pcm[i])
	}
	rest := e.mono
	for g := range e.Frame.Samples / mpeg.GranuleLines {
		part := &e.part[g][ch]
		n := min(len(rest), mpeg.GranuleLines)
		part.blockType = e.filter[ch].granule(rest[:n], &part.lines)
		rest = rest[n:]
		if part.blockType == blockShort {
			byFrequency := part.lines
			for i, line := range &e.order {
				part.lines[i] = byFrequency[line]
			}
		}
	}
}

// nextSize pads frames so that their mean length is that of the bit rate.
func (e *Encoder) nextSize() (size int, padding byte) {
	e.slack += e.remainder()
	if e.slack < e.Frame.SampleRate {
		return e.Frame.FrameBytes, 0
	}
	e.slack -= e.Frame.SampleRate
	return e.Frame.FrameBytes + 1, 1
}

// SeekFrame makes the next frame padded as frame k.
func (e *Encoder) SeekFrame(k int64) {
	e.slack = int(k * int64(e.remainder()) % int64(e.Frame.SampleRate))
}

// writeSide writes the side information (ISO 11172-3 2.4.1.7, 13818-3 2.4.1.7).
func (e *Encoder) writeSide(w *bitWriter) {
	lsf := e.Frame.Version != mpeg.V1
	channels := e.Frame.Channels
	if lsf {
		w.put(0, 8+channels) // main_data_begin, private_bits
	} else {
		w.put(0, 9+7-2*channels+4*channels) // and scfsi
	}
	for g := range e.Frame.Samples / mpeg.GranuleLines {
		for ch := range channels {
			e.part[g][ch].writeSide(w, lsf)
		}
	}
}

// PrimeFrames that are encoded and dropped give an Encoder the state that it
// would have had with all that was before: the filter bank remembers less than
// one granule, a block overlaps one and follows what two others want, and an
// onset is one against the granule before. The padding of frames is a matter of
// their count, not of this.
const PrimeFrames = 6
