package audio

import (
	"errors"
	"fmt"
	"io"

	"carillon/audio/layer3"
)

// converterFrames is how many moments of sound a converter works on at once. A
// listener hears the first after one such block at the latest: 64 ms at 8 kHz.
const converterFrames = 512

// Converter is an item in another form: a reader of its bytes. It decodes,
// mixes, resamples and encodes as it is read, in constant memory, and its first
// bytes come at once. The bytes depend on item, form and options alone. It is
// used by one goroutine at a time and starts none.
type Converter struct {
	src  frameReader
	form Form
	// size is how many bytes are to come, negative while nobody knows.
	size int64
	pcm  []int16
	buf  []byte
	from int // what of buf is still to be read
	drop int // how many bytes of the next block are before the offset
	pack packer
}

// frameReader is sound on its way: frames of one sample for each channel.
type frameReader interface {
	// frames fills out with whole frames and returns how many; 0 only with an
	// error, which is io.EOF at the end.
	frames(out []int16) (n int, err error)
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
func NewConverterAt(
	src io.Reader, info Info, form Form, offset int64, options ...Option,
) (*Converter, error) {
	form, err := form.Of(info)
	if err != nil {
		return nil, err
	}
	frames, size := form.lengths(info, options)
	if offset < 0 || (size >= 0 && offset > size) {
		return nil, fmt.Errorf("offset %d of %d: %w", offset, size, ErrNoSuchForm)
	}
	sound, err := newConversion(src, info, form, options)
	if err != nil {
		return nil, err
	}
	c, err := newConverter(sound, form, frames, size)
	if err != nil {
		return nil, err
	}
	if mp3, ok := c.pack.(*mp3Packer); ok {
		mp3.encoder.SetGain(newOptions(options).gainDB)
		sound.gain = 1
	}
	if frame := c.seek(offset); frame > 0 {
		sound.seek(frame)
	}
	return c, nil
}

// newConverter packs so many frames, which are size bytes then; both are
// negative when nobody knows.
func newConverter(src frameReader, form Form, frames, size int64) (*Converter, error) {
	pack, head, err := newPacker(form, frames)
	if err != nil {
		return nil, err
	}
	return &Converter{
		src: src, form: form, size: size, buf: head, pack: pack,
		pcm: make([]int16, converterFrames*form.Channels),
	}, nil
}

// seek leaves out the first offset bytes, and returns the frame of sound that is
// to be read next.
func (c *Converter) seek(offset int64) (frame int64) {
	if c.size >= 0 {
		c.size -= offset
	}
	head := min(offset, int64(len(c.buf)))
	c.from = int(head)
	frame, c.drop = c.pack.seek(offset - head)
	return frame
}

// Form is the form of the bytes, without zeros.
func (c *Converter) Form() Form { return c.form }

// Size is how many bytes are still to be read. ok is false when nobody knows.
func (c *Converter) Size() (n int64, ok bool) { return c.size, c.size >= 0 }

// Read yields the next bytes of the form. Errors are those of the reader and of
// Decoder.Read.
func (c *Converter) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for c.from == len(c.buf) {
		if err := c.convert(); err != nil {
			return 0, err
		}
	}
	n := copy(p, c.buf[c.from:])
	c.from += n
	if c.size >= 0 {
		c.size = max(c.size-int64(n), 0)
	}
	return n, nil
}

// convert fills the buffer with the next block, which may be empty.
func (c *Converter) convert() error {
	n, err := c.src.frames(c.pcm)
	c.buf = c.pack.pack(c.buf[:0], c.pcm[:n*c.form.Channels], errors.Is(err, io.EOF))
	c.from = min(c.drop, len(c.buf))
	c.drop -= c.from
	if n > 0 || len(c.buf) > 0 {
		return nil
	}
	return err
}

// conversion is the sound of an item in the rate and channels of a form.
type conversion struct {
	decoder *Decoder
	// channels are those of the form, mixed those between decoder and output.
	channels, mixed int
	resampler       *resampler // nil for the same rate
	// left is how many frames were promised, negative when nobody knows.
	left  int64
	gain  float32
	ended bool    // the decoder has
	pcm   []int16 // what comes out of the decoder, if that has more channels
	in    []int16 // what goes into the resampler
}

var _ frameReader = (*conversion)(nil)

func newConversion(src io.Reader, info Info, form Form, options []Option) (*conversion, error) {
	decoder, err := NewDecoder(src, info, options...)
	if err != nil {
		return nil, err
	}
	c := &conversion{
		decoder: decoder, channels: form.Channels, mixed: min(form.Channels, decoder.Channels()),
		left: form.frames(info, options), gain: newOptions(options).gain(),
	}
	if form.SampleRate != decoder.SampleRate() {
		c.resampler = newResampler(decoder.SampleRate(), form.SampleRate, c.mixed)
		c.in = make([]int16, converterFrames*c.mixed)
	}
	if c.mixed < decoder.Channels() {
		c.pcm = make([]int16, converterFrames*decoder.Channels())
	}
	return c, nil
}

// seek makes frame the next.
func (c *conversion) seek(frame int64) {
	if c.left >= 0 {
		c.left = max(c.left-frame, 0)
	}
	if c.resampler != nil {
		frame = c.resampler.seek(frame)
	}
	c.decoder.discard(frame)
}

func (c *conversion) frames(out []int16) (int, error) {
	room := int64(min(len(out)/c.channels, converterFrames))
	if c.left >= 0 {
		room = min(room, c.left)
	}
	if room == 0 {
		return 0, io.EOF
	}
	n, err := c.next(out, int(room))
	if c.left > 0 && errors.Is(err, io.EOF) {
		// Less than was promised.
		n, err = int(room), nil
		clear(out[:n*c.mixed])
	}
	if n == 0 {
		return 0, err
	}
	if c.left > 0 {
		c.left -= int64(n)
	}
	if c.gain != 1 {
		for i, v := range out[:n*c.mixed] {
			out[i] = layer3.Round16(float32(v) * c.gain)
		}
	}
	if c.mixed < c.channels {
		mixUp(out, n, c.channels)
	}
	return n, nil
}

// next puts up to so many frames of the mixed channels into out.
func (c *conversion) next(out []int16, room int) (frames int, err error) {
	if c.resampler == nil {
		return c.decode(out, room)
	}
	for {
		if n := c.resampler.read(out[:room*c.mixed]); n > 0 {
			return n, nil
		}
		if c.ended {
			if !c.resampler.finish() {
				return 0, io.EOF
			}
			continue
		}
		n, err := c.decode(c.in, min(c.resampler.room(), converterFrames))
		c.ended = errors.Is(err, io.EOF)
		if err != nil && !c.ended {
			return 0, err
		}
		c.resampler.write(c.in[:n*c.mixed])
	}
}

// decode puts up to so many frames of the mixed channels, before any
// resampling, into out.
func (c *conversion) decode(out []int16, frames int) (int, error) {
	channels := c.decoder.Channels()
	if channels == c.mixed {
		n, err := c.decoder.Read(out[:frames*channels])
		return n / channels, err
	}
	n, err := c.decoder.Read(c.pcm[:frames*channels])
	return mixDown(out, c.pcm[:n], channels, c.mixed), err
}
