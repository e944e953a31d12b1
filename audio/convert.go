package audio

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// converterFrames is how many moments of sound a converter works on at once. A
// listener hears the first after one such block at the latest: 64 ms at 8 kHz.
const converterFrames = 512

// Converter is an item in another form: a reader of its bytes. It decodes,
// mixes, resamples and encodes as it is read, in constant memory, and its first
// bytes come at once. The bytes depend on item, form and options alone. It is
// used by one goroutine at a time and starts none.
type Converter struct {
	decoder *Decoder
	form    Form
	// mixed is the number of channels between decoder and output.
	mixed     int
	resampler *resampler // nil for the same rate
	// size is how many bytes are to come, negative while nobody knows.
	size  int64
	ended bool // the decoder has
	err   error

	pcm  []int16 // what comes out of the decoder
	out  []int16 // what goes into the container
	buf  []byte
	from int // what of buf is still to be read
	drop int64
}

var _ io.Reader = (*Converter)(nil)

// NewConverter returns the item that src yields, whose probe info is, in a
// form. It reads nothing yet. It returns ErrUnsupportedCodec and ErrNoSuchForm.
// Read returns exactly Form.Size bytes when that is known: should the item be
// shorter than info says, the rest is silence.
func NewConverter(src io.Reader, info Info, form Form, options ...Option) (*Converter, error) {
	return NewConverterAt(src, info, form, 0, options...)
}

// NewConverterAt returns the same bytes from offset on, for much less than
// reading up to there: src, which stands at the begin of the item, is sought if
// it can be, or else read over, and MP3 is not decoded up to there.
func NewConverterAt(src io.Reader, info Info, form Form, offset int64, options ...Option) (*Converter, error) {
	size, finite := form.Size(info, options...)
	form, err := form.Of(info)
	if err != nil {
		return nil, err
	}
	if offset < 0 || (finite && offset > size) {
		return nil, fmt.Errorf("offset %d of %d: %w", offset, size, ErrNoSuchForm)
	}
	decoder, err := NewDecoder(src, info, options...)
	if err != nil {
		return nil, err
	}
	c := &Converter{
		decoder: decoder, form: form, size: -1,
		mixed: min(form.Channels, decoder.Channels()),
	}
	if form.SampleRate != decoder.SampleRate() {
		c.resampler = newResampler(decoder.SampleRate(), form.SampleRate, c.mixed)
	}
	if finite {
		c.size = size - offset
	}
	c.pcm = make([]int16, converterFrames*decoder.Channels())
	c.out = make([]int16, converterFrames*max(form.Channels, c.mixed))
	c.start(offset, size, finite)
	return c, nil
}

// start puts the head into the buffer and the decoder where offset wants it.
func (c *Converter) start(offset, size int64, finite bool) {
	if c.form.Container == ContainerWAV {
		data := int64(-1)
		if finite {
			data = size - wavHeadBytes
		}
		head := min(offset, wavHeadBytes)
		c.buf = appendWAVHead(c.buf, c.form.SampleRate, c.form.Channels, data)[head:]
		offset -= head
	}
	frameBytes := int64(c.form.Channels * c.form.sampleBytes())
	frame := offset / frameBytes
	c.drop = offset % frameBytes
	if frame > 0 {
		if c.resampler != nil {
			frame = c.resampler.seek(frame)
		}
		c.decoder.discard(frame)
	}
}

// Form is the form of the bytes, without zeros.
func (c *Converter) Form() Form { return c.form }

// Size is how many bytes the converter yields from where it began. ok is false
// when nobody knows.
func (c *Converter) Size() (n int64, ok bool) { return c.size, c.size >= 0 }

// Read yields the next bytes of the form. Errors are those of the reader and of
// Decoder.Read.
func (c *Converter) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for c.from == len(c.buf) {
		if c.size == 0 {
			return 0, io.EOF
		}
		if err := c.convert(); err != nil {
			return 0, err
		}
	}
	n := copy(p, c.buf[c.from:])
	if c.size >= 0 {
		n = int(min(int64(n), c.size))
		c.size -= int64(n)
		if n == 0 {
			return 0, io.EOF
		}
	}
	c.from += n
	return n, nil
}

// convert fills the buffer with the next block, which may be empty.
func (c *Converter) convert() error {
	c.buf, c.from = c.buf[:0], 0
	frames, err := c.next()
	if err != nil {
		return err
	}
	if c.mixed < c.form.Channels {
		mixUp(c.out, frames, c.form.Channels)
	}
	c.encode(c.out[:frames*c.form.Channels])
	skip := int(min(c.drop, int64(len(c.buf))))
	c.drop -= int64(skip)
	c.from = skip
	return nil
}

// next puts frames of the rate of the form into out. At the end of the item it
// yields io.EOF, or silence up to the size that was promised.
func (c *Converter) next() (frames int, err error) {
	if c.resampler == nil {
		n, err := c.decode(c.out, converterFrames)
		if errors.Is(err, io.EOF) && c.size > 0 {
			clear(c.out)
			return converterFrames, nil
		}
		return n, err
	}
	if frames = c.resampler.read(c.out[:converterFrames*c.mixed]); frames > 0 {
		return frames, nil
	}
	if !c.ended {
		room := min(c.resampler.room(), converterFrames)
		n, err := c.decode(c.out, room)
		c.ended = errors.Is(err, io.EOF)
		if err != nil && !c.ended {
			return 0, err
		}
		c.resampler.write(c.out[:n*c.mixed])
		return 0, nil
	}
	if c.resampler.finish() {
		return 0, nil
	}
	if c.size > 0 {
		clear(c.out)
		return converterFrames, nil
	}
	return 0, io.EOF
}

// decode puts up to so many frames of the mixed channels into out.
func (c *Converter) decode(out []int16, frames int) (int, error) {
	channels := c.decoder.Channels()
	if channels == c.mixed {
		n, err := c.decoder.Read(out[:frames*channels])
		return n / channels, err
	}
	n, err := c.decoder.Read(c.pcm[:frames*channels])
	return mixDown(out, c.pcm[:n], channels, c.mixed), err
}

func (c *Converter) encode(pcm []int16) {
	switch c.form.Container {
	case ContainerMulaw:
		for _, v := range pcm {
			c.buf = append(c.buf, mulawEncode(v))
		}
	case ContainerAlaw:
		for _, v := range pcm {
			c.buf = append(c.buf, alawEncode(v))
		}
	case ContainerWAV, ContainerRaw, ContainerMP3:
		for _, v := range pcm {
			c.buf = binary.LittleEndian.AppendUint16(c.buf, uint16(v))
		}
	}
}
