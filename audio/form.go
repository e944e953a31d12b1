package audio

import (
	"errors"
	"fmt"
	"math"

	"carillon/audio/layer3"
)

// Container is how the bytes of a converted item are laid out.
type Container string

// The containers that a Converter writes. Each is named by its usual extension.
const (
	ContainerWAV   Container = "wav"   // RIFF WAVE of 16 bit samples
	ContainerRaw   Container = "raw"   // 16 bit samples, little endian, without a header
	ContainerRaw24 Container = "raw24" // the same of 24 bits, of which the lower eight are 0
	ContainerRaw32 Container = "raw32" // the same of 32 bits, of which the lower sixteen are 0
	ContainerMulaw Container = "ulaw"  // G.711 µ-law without a header
	ContainerAlaw  Container = "alaw"  // G.711 A-law without a header
	ContainerMP3   Container = "mp3"   // MPEG audio layer III of constant bit rate
)

// Headerless says that nothing in the bytes tells rate and channels, so that
// whoever plays them must be told.
func (c Container) Headerless() bool {
	switch c {
	case ContainerRaw, ContainerRaw24, ContainerRaw32, ContainerMulaw, ContainerAlaw:
		return true
	case ContainerWAV, ContainerMP3:
	}
	return false
}

// Limits of a form.
const (
	// formRateMin and formRateMax: below is no telephone, above no converter.
	formRateMin = 8_000
	formRateMax = 192_000
	// formChannelsMax: nothing that a switch plays has more than stereo.
	formChannelsMax = 2
	// sourceRateMin: what is slower would only make a small item huge.
	sourceRateMin = 4_000
)

// ErrUnsupportedCodec is returned when Carillon stores a coding but cannot
// decode or encode it: Ogg, ADPCM and GSM in WAV, MPEG layers I and II.
var ErrUnsupportedCodec = errors.New("unsupported audio codec")

// ErrNoSuchForm is returned for a form that is none: an unknown container, or
// rates or channels outside what it can hold.
var ErrNoSuchForm = errors.New("no such audio form")

// Form is how a listener wants an item: container, sample rate in Hz, channels
// (1 or 2) and, of MP3, bits a second. A zero is "as the source has it".
type Form struct {
	Container  Container
	SampleRate int
	Channels   int
	// BitRate is of ContainerMP3 only; 0 is a usual one for rate and channels.
	BitRate int
}

// ContentType is the media type the form is served with, once SampleRate and
// Channels are known: G.711 at 8 kHz of one channel is audio/basic (RFC 2046).
func (f Form) ContentType() string {
	switch f.Container {
	case ContainerWAV:
		return FormatWAV.ContentType()
	case ContainerMP3:
		return FormatMP3.ContentType()
	case ContainerMulaw:
		if f.SampleRate == 8000 && f.Channels == 1 {
			return "audio/basic"
		}
		return "audio/PCMU"
	case ContainerAlaw:
		return "audio/PCMA"
	case ContainerRaw, ContainerRaw24, ContainerRaw32:
		// Not audio/L16, which is big endian (RFC 2586).
		return "audio/x-raw"
	}
	return "application/octet-stream"
}

// Of is the form with its zeros filled in for an item: what a converter really
// writes. It returns ErrNoSuchForm, or ErrUnsupportedCodec when the item cannot
// be decoded.
func (f Form) Of(info Info) (Form, error) {
	if !decodable(info) {
		return Form{}, fmt.Errorf("%s: %w", info.Codec, ErrUnsupportedCodec)
	}
	if f.SampleRate != 0 && (f.SampleRate < formRateMin || f.SampleRate > formRateMax) {
		return Form{}, fmt.Errorf("%d Hz: %w", f.SampleRate, ErrNoSuchForm)
	}
	if f.Channels < 0 || f.Channels > formChannelsMax {
		return Form{}, fmt.Errorf("%d channels: %w", f.Channels, ErrNoSuchForm)
	}
	if f.Container == ContainerMP3 {
		g, ok := mp3Form(f, info)
		if !ok {
			return Form{}, fmt.Errorf("%d bit/s at %d Hz: %w", g.BitRate, g.SampleRate, ErrNoSuchForm)
		}
		return g, nil
	}
	if f.SampleRate == 0 {
		f.SampleRate = info.SampleRate
	}
	if f.Channels == 0 {
		f.Channels = info.Channels
	}
	switch f.Container {
	case ContainerWAV, ContainerRaw, ContainerRaw24, ContainerRaw32, ContainerMulaw, ContainerAlaw:
		f.BitRate = f.SampleRate * f.Channels * 8 * f.sampleBytes()
		return f, nil
	case ContainerMP3:
	}
	return Form{}, fmt.Errorf("container %q: %w", f.Container, ErrNoSuchForm)
}

// sampleBytes is the length of a sample of one channel in a container of such.
func (f Form) sampleBytes() int {
	switch f.Container {
	case ContainerMulaw, ContainerAlaw:
		return 1
	case ContainerRaw24:
		return 3
	case ContainerRaw32:
		return 4
	case ContainerWAV, ContainerRaw, ContainerMP3:
	}
	return 2
}

// Size is the exact number of bytes that a Converter of the same item, form and
// options yields. ok is false when the item has no end yet (SamplesUnknown) or
// the form is not to be had.
func (f Form) Size(info Info, options ...Option) (n int64, ok bool) {
	f, err := f.Of(info)
	if err != nil {
		return 0, false
	}
	_, n = f.lengths(info, options)
	return max(n, 0), n >= 0
}

// frames is how many frames (one sample of each channel) the item has in the
// form, negative when nobody knows. The form has no zeros.
func (f Form) frames(info Info, list []Option) int64 {
	n := newOptions(list).samples(info)
	if n < 0 {
		return -1
	}
	return resampledLength(n, info.SampleRate, f.SampleRate)
}

// lengths are the frames and bytes of an item in the form, negative when nobody
// knows.
func (f Form) lengths(info Info, list []Option) (frames, bytes int64) {
	if frames = f.frames(info, list); frames < 0 {
		return -1, -1
	}
	return frames, f.bytes(frames)
}

// bytes is the length of so many frames, with the head.
func (f Form) bytes(frames int64) int64 {
	if f.Container == ContainerMP3 {
		stream, _ := layer3.StreamOf(f.SampleRate, f.Channels, f.BitRate)
		return encodedBytes(&stream, frames)
	}
	n := frames * int64(f.Channels*f.sampleBytes())
	if f.Container == ContainerWAV {
		n += wavHeadBytes
	}
	return n
}

// SamplesUnknown is Info.Samples of a stream that is still growing.
const SamplesUnknown = -1

// PlayedSamples is how many samples per channel a Decoder yields: Samples less
// what the encoder put before and behind the sound. It is SamplesUnknown when
// the stream has no end yet.
func (i Info) PlayedSamples() int64 {
	if i.Samples < 0 {
		return SamplesUnknown
	}
	return max(i.Samples-i.EncoderDelay-i.EncoderPadding, 0)
}

// Option changes what a Decoder or Converter yields.
type Option func(*options)

type options struct {
	from, to int64
	gainDB   float64
}

// Trim leaves out all before sample from and, unless to is negative, all from
// sample to on: samples per channel at the rate of the source, counted as a
// Decoder without the option yields them.
func Trim(from, to int64) Option {
	return func(o *options) { o.from, o.to = max(from, 0), to }
}

// Gain makes what a Converter yields louder by dB, or quieter. What then exceeds
// 16 bits is cut off, but in MP3, see layer3.Encoder.SetGain. A Decoder does not look
// at it.
func Gain(dB float64) Option {
	return func(o *options) { o.gainDB = min(dB, gainDBMax) }
}

// gain is the factor.
func (o options) gain() float32 { return float32(math.Pow(10, o.gainDB/20)) }

// gainDBMax turns the least bit into full scale.
const gainDBMax = 90

func newOptions(list []Option) options {
	o := options{to: -1}
	for _, option := range list {
		option(&o)
	}
	return o
}

// samples is what is left of the item, or SamplesUnknown.
func (o options) samples(info Info) int64 {
	n := info.PlayedSamples()
	if o.to >= 0 && (n < 0 || n > o.to) {
		n = o.to
		if info.PlayedSamples() < 0 {
			// It may end before.
			return SamplesUnknown
		}
	}
	if n < 0 {
		return SamplesUnknown
	}
	return max(n-o.from, 0)
}

// resampledLength is how many samples at rate out cover n at rate in.
func resampledLength(n int64, in, out int) int64 {
	g := int64(gcd(in, out))
	up, down := int64(out)/g, int64(in)/g
	if n > math.MaxInt64/(up+1)-down {
		return math.MaxInt64 / 2
	}
	return (n*up + down - 1) / down
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}
