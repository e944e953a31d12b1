package library

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"

	"carillon/audio"
)

// gainBufferBytes is what plain gain is applied to at a time.
const gainBufferBytes = 4 << 10

// lossless says that nothing but the gain of an MP3 changes, which is a matter
// of the frames' headers: not a sample is decoded.
func (f *Form) lossless(info *audio.Info) bool {
	plain := *f
	plain.GainDB = 0
	return f.GainDB != 0 && info.Format == audio.FormatMP3 && plain.AsStored(info)
}

// checkGain returns an error unless the gain can be applied to the conversion.
func (f *Form) checkGain(info audio.Info) error {
	if f.GainDB == 0 {
		return nil
	}
	_, err := f.pcm().Of(info)
	return err
}

// pcm is the form in which gain is applied.
func (f *Form) pcm() audio.Form {
	return audio.Form{Container: audio.ContainerWAV, SampleRate: f.SampleRate, Channels: f.Channels}
}

// reader makes the form of what src holds from offset on. The form has no
// zeros.
func (f *Form) reader(src io.Reader, info audio.Info, offset int64, lossless bool) (io.Reader, error) {
	switch {
	case lossless:
		return skipped(audio.NewGainReader(src, f.GainDB), offset), nil
	case f.GainDB == 0:
		return audio.NewConverterAt(src, info, f.Form, offset)
	}
	pcm := f.pcm()
	made, err := audio.NewConverter(src, info, pcm)
	if err != nil {
		return nil, err
	}
	size, _ := pcm.Size(info)
	louder := io.Reader(&gainReader{src: made, factor: math.Pow(10, f.GainDB/20), head: wavHeadBytes})
	if f.Container != audio.ContainerWAV {
		louder, err = audio.NewConverter(louder, audio.Info{
			Format: audio.FormatWAV, Codec: "pcm_s16le", SampleRate: f.SampleRate, Channels: f.Channels,
			Samples: (size - wavHeadBytes) / int64(2*f.Channels),
		}, f.Form)
		if err != nil {
			return nil, fmt.Errorf("gain: %w", err)
		}
	}
	return skipped(louder, offset), nil
}

// wavHeadBytes is the length of the head that audio writes.
const wavHeadBytes = 44

// gainReader changes the loudness of 16 bit little endian samples behind a head.
type gainReader struct {
	src    io.Reader
	factor float64
	head   int
	buf    [gainBufferBytes]byte
	ready  []byte // of buf, to be read
	half   byte   // of a sample whose other half is still to come
	odd    int    // 1 when there is one
	err    error
}

// Read reads louder samples.
func (g *gainReader) Read(p []byte) (int, error) {
	for len(g.ready) == 0 {
		if g.err != nil {
			return 0, g.err
		}
		if g.head > 0 {
			n, err := g.src.Read(p[:min(len(p), g.head)])
			g.head -= n
			return n, err
		}
		g.buf[0] = g.half
		n, err := g.src.Read(g.buf[g.odd:])
		g.err = err
		n += g.odd
		whole := n &^ 1
		g.odd = n - whole
		if g.odd > 0 {
			g.half = g.buf[whole]
		}
		for i := 0; i < whole; i += 2 {
			v := float64(int16(binary.LittleEndian.Uint16(g.buf[i:]))) * g.factor
			v = math.RoundToEven(max(math.MinInt16, min(math.MaxInt16, v)))
			binary.LittleEndian.PutUint16(g.buf[i:], uint16(int16(v)))
		}
		g.ready = g.buf[:whole]
	}
	n := copy(p, g.ready)
	g.ready = g.ready[n:]
	return n, nil
}

// skipped leaves out the first n bytes.
func skipped(r io.Reader, n int64) io.Reader {
	if n == 0 {
		return r
	}
	return &skipReader{r, n}
}

type skipReader struct {
	src  io.Reader
	left int64
}

// Read reads what follows.
func (s *skipReader) Read(p []byte) (int, error) {
	if s.left > 0 {
		if _, err := io.CopyN(io.Discard, s.src, s.left); err != nil {
			return 0, err
		}
		s.left = 0
	}
	return s.src.Read(p)
}
