package audio

import (
	"errors"
	"fmt"
)

// ErrNoSuchRate is returned when MPEG audio layer III has no such sample rate
// or bit rate, or a frame of the bit rate has no room for sound.
var ErrNoSuchRate = errors.New("no such rate in mpeg audio layer iii")

// MP3Encoder makes an MPEG audio layer III stream of constant bit rate from one
// channel or two coded by themselves, as FreeSWITCH sends it: no tags, every
// frame by itself (no bit reservoir), so that a listener can join at any. What
// it can and what it cannot stands in DESIGN.md. It is used by one goroutine at
// a time.
type MP3Encoder struct {
	header [FrameHeaderBytes]byte
	frame  FrameHeader // without padding
	tables *layer3Tables
	// layouts are the bands, order is where the lines of short blocks are that
	// come in the order of the stream.
	layouts *layouts
	order   [granuleLines]int
	filter  [2]*analysis
	part    [2][2]encoderPart // by granule and channel
	// slack is what frames so far are short of the bit rate, in bytes/rate.
	slack int
	mono  []int16 // one channel of what is being encoded
}

// NewMP3Encoder returns an encoder of one channel for one of the nine sample
// rates of layer III and a bit rate in bits a second that goes with it.
func NewMP3Encoder(sampleRate, bitRate int) (*MP3Encoder, error) {
	return newMP3Encoder(sampleRate, 1, bitRate)
}

// NewMP3StereoEncoder returns one of two channels.
func NewMP3StereoEncoder(sampleRate, bitRate int) (*MP3Encoder, error) {
	return newMP3Encoder(sampleRate, 2, bitRate)
}

func newMP3Encoder(sampleRate, channels, bitRate int) (*MP3Encoder, error) {
	header, frame, ok := encoderHeader(sampleRate, channels, bitRate)
	if !ok {
		return nil, fmt.Errorf("%d Hz, %d channels at %d bit/s: %w", sampleRate, channels, bitRate, ErrNoSuchRate)
	}
	e := &MP3Encoder{
		header: header, frame: frame,
		layouts: newLayouts(frame.Version, sampleRate),
		tables:  newLayer3Tables(),
		mono:    make([]int16, frame.Samples),
	}
	e.order = e.layouts.shortOrder()
	for ch := range channels {
		e.filter[ch] = newAnalysis(e.tables)
	}
	return e, nil
}

// encoderDelay is how many samples later what goes in comes out of a decoder:
// the polyphase filters of both, the overlap of the blocks, and the granule that
// the encoder looks ahead.
const encoderDelay = windowSamples - subbands + 1 + 2*granuleLines

// EncodeMP3 encodes a whole signal of one channel, with a frame or two more than
// it fills, so that its end comes out too.
func EncodeMP3(pcm []int16, sampleRate, bitRate int) ([]byte, error) {
	e, err := NewMP3Encoder(sampleRate, bitRate)
	if err != nil {
		return nil, err
	}
	n := e.FrameSamples()
	frames := encodedFrames(int64(len(pcm)), n)
	out := make([]byte, 0, frames*int64(e.frame.FrameBytes+1))
	for range frames {
		k := min(n, len(pcm))
		out = e.AppendFrame(out, pcm[:k])
		pcm = pcm[k:]
	}
	return out, nil
}

// encodedFrames is how many frames of so many samples it takes for all of n
// samples to come out.
func encodedFrames(n int64, frameSamples int) int64 {
	return (n + encoderDelay + int64(frameSamples) - 1) / int64(frameSamples)
}

// FrameSamples is how many samples of each channel a frame holds.
func (e *MP3Encoder) FrameSamples() int { return e.frame.Samples }

// AppendFrame encodes FrameSamples samples of each channel, those of the
// channels in turn, of which missing ones are silence and more than that are
// ignored, and appends the frame to dst.
func (e *MP3Encoder) AppendFrame(dst []byte, pcm []int16) []byte {
	size, padding := e.nextSize()
	granules, channels := e.frame.Samples/granuleLines, e.frame.Channels
	for ch := range channels {
		e.analyse(ch, pcm)
	}
	e.fit((size - FrameHeaderBytes - e.frame.sideBytes()) * 8)

	from := len(dst)
	dst = append(dst, e.header[:]...)
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
	return w.b
}

// analyse makes the lines of the granules of a channel.
func (e *MP3Encoder) analyse(ch int, pcm []int16) {
	channels := e.frame.Channels
	e.mono = e.mono[:0]
	for i := ch; i < len(pcm) && len(e.mono) < e.frame.Samples; i += channels {
		e.mono = append(e.mono, pcm[i])
	}
	rest := e.mono
	for g := range e.frame.Samples / granuleLines {
		part := &e.part[g][ch]
		n := min(len(rest), granuleLines)
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
func (e *MP3Encoder) nextSize() (size int, padding byte) {
	e.slack += e.remainder()
	if e.slack < e.frame.SampleRate {
		return e.frame.FrameBytes, 0
	}
	e.slack -= e.frame.SampleRate
	return e.frame.FrameBytes + 1, 1
}

// remainder is what an unpadded frame is short of the bit rate, in bytes/rate.
func (e *MP3Encoder) remainder() int {
	return e.frame.Samples / 8 * e.frame.BitRate % e.frame.SampleRate
}

// frameBegin is how many bytes the first k frames take together.
func (e *MP3Encoder) frameBegin(k int64) int64 {
	return k*int64(e.frame.FrameBytes) + k*int64(e.remainder())/int64(e.frame.SampleRate)
}

// seekFrame makes the next frame padded as frame k.
func (e *MP3Encoder) seekFrame(k int64) {
	e.slack = int(k * int64(e.remainder()) % int64(e.frame.SampleRate))
}

// writeSide writes the side information (ISO 11172-3 2.4.1.7, 13818-3 2.4.1.7).
func (e *MP3Encoder) writeSide(w *bitWriter) {
	lsf := e.frame.Version != MPEG1
	channels := e.frame.Channels
	if lsf {
		w.put(0, 8+channels) // main_data_begin, private_bits
	} else {
		w.put(0, 9+7-2*channels+4*channels) // and scfsi
	}
	for g := range e.frame.Samples / granuleLines {
		for ch := range channels {
			e.part[g][ch].writeSide(w, lsf)
		}
	}
}

// encoderHeader is the header of unpadded frames, and what it says.
func encoderHeader(sampleRate, channels, bitRate int) ([FrameHeaderBytes]byte, FrameHeader, bool) {
	const layer3, noCRC, mono, original = 1 << 1, 1, 3 << 6, 1 << 2
	mode := byte(original)
	if channels == 1 {
		mode |= mono
	}
	if channels < 1 || channels > 2 {
		return [FrameHeaderBytes]byte{}, FrameHeader{}, false
	}
	for _, version := range [3]byte{3, 2, 0} {
		for rate := range byte(3) {
			for index := byte(1); index < 15; index++ {
				b := [FrameHeaderBytes]byte{
					0xFF, 0xE0 | version<<3 | layer3 | noCRC, index<<4 | rate<<2, mode,
				}
				h, ok := parseFrame(b[:])
				if ok && h.SampleRate == sampleRate && h.BitRate == bitRate {
					return b, h, h.FrameBytes > FrameHeaderBytes+h.sideBytes()
				}
			}
		}
	}
	return [FrameHeaderBytes]byte{}, FrameHeader{}, false
}
