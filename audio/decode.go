package audio

import (
	"errors"
	"fmt"
	"io"
	"strings"
)

// Decoder turns a stored item into samples while it is read: it keeps 80 KB for
// MP3 and 5 for WAV, whatever the length of the item. It is used by one goroutine at a
// time and starts none.
type Decoder struct {
	src      source
	rate     int
	channels int
	// from is what is still to be left out in front, in samples per channel.
	from int64
	// left is what is still to come, or negative when nobody knows.
	left int64
}

// source is one coding. Both count in frames: one sample of each channel.
type source interface {
	// read fills pcm with whole frames and returns how many; 0 only with an
	// error, which is io.EOF at the end.
	read(pcm []int16) (frames int, err error)
	// skip leaves out up to n frames more cheaply than read, and returns how
	// many. It may stop early; read goes on there.
	skip(n int64) (frames int64, err error)
}

// ErrOtherSound is returned when the bytes are not what their Info says: other
// channels, rate or coding, or no sound at all.
var ErrOtherSound = errors.New("sound is not what its info says")

// NewDecoder returns a decoder of what r yields, whose probe info is. Of a
// stream that is still growing info.Samples is SamplesUnknown; the decoder then
// yields what comes until r ends, from a frame boundary or from anywhere. It
// reads nothing yet, and returns ErrUnsupportedCodec for a coding that
// is stored but not decoded.
func NewDecoder(r io.Reader, info Info, options ...Option) (*Decoder, error) {
	if !decodable(info) {
		return nil, fmt.Errorf("%s: %w", info.Codec, ErrUnsupportedCodec)
	}
	o := newOptions(options)
	d := &Decoder{
		src:  newSource(r, info),
		rate: info.SampleRate, channels: info.Channels,
		from: o.from + info.EncoderDelay, left: o.samples(info),
	}
	if d.left < 0 && o.to >= 0 {
		d.left = max(o.to-o.from, 0)
	}
	return d, nil
}

// decodable says that there is a decoder for the coding.
func decodable(info Info) bool {
	if info.SampleRate < sourceRateMin || info.SampleRate > wavSampleRateMax ||
		info.Channels < 1 || info.Channels > wavChannelsMax {
		return false
	}
	switch info.Format {
	case FormatWAV:
		return wavSampleDecoder(info.Codec) != nil
	case FormatMP3:
		return info.Channels <= 2 && strings.HasPrefix(info.Codec, "mp3_")
	case FormatOgg:
	}
	return false
}

func newSource(r io.Reader, info Info) source {
	if info.Format == FormatMP3 {
		return newMP3Source(r, info)
	}
	return newWAVSource(r, info)
}

// SampleRate is the rate of the samples in Hz.
func (d *Decoder) SampleRate() int { return d.rate }

// Channels is how many samples stand for one moment.
func (d *Decoder) Channels() int { return d.channels }

// Read fills pcm with the next samples, those of the channels in turn, and
// returns how many, which is always a multiple of Channels. It returns as soon
// as it has some. At the end it returns io.EOF, and only with n = 0. Damage in
// the sound is silence and not an error; an error of the reader is returned, as
// is ErrOtherSound. pcm must have room for Channels samples at least.
func (d *Decoder) Read(pcm []int16) (n int, err error) {
	if len(pcm) < d.channels {
		return 0, io.ErrShortBuffer
	}
	for d.from > 0 {
		skipped, err := d.src.skip(d.from)
		d.from -= skipped
		if err != nil {
			return 0, err
		}
	}
	if d.left == 0 {
		return 0, io.EOF
	}
	room := int64(len(pcm) / d.channels)
	if d.left > 0 {
		room = min(room, d.left)
	}
	frames, err := d.src.read(pcm[:int(room)*d.channels])
	if frames > 0 {
		err = nil
		if d.left > 0 {
			d.left -= int64(frames)
		}
	}
	return frames * d.channels, err
}

// discard leaves out so many frames more in front.
func (d *Decoder) discard(frames int64) {
	d.from += frames
	if d.left >= 0 {
		d.left = max(d.left-frames, 0)
	}
}
