package audio

import "carillon/audio/layer3"

// mp3Packer writes frames of MP3. When the length is known in advance a header
// frame before them says what the encoder put around the sound, so that players
// which read it (mpg123, and so mod_shout) play exactly the samples of the item.
type mp3Packer struct {
	encoder *layer3.Encoder
	// held are samples that do not fill a frame yet.
	held []int16
	// given is how many frames of sound came, made how many of MP3 went.
	given, made int64
	ended       bool
}

func newMP3Packer(form Form, frames int64) (*mp3Packer, []byte, error) {
	encoder, err := layer3.NewEncoder(form.SampleRate, form.Channels, form.BitRate)
	if err != nil {
		return nil, nil, err
	}
	p := &mp3Packer{encoder: encoder}
	if frames < 0 || !infoFits(&encoder.Frame) {
		return p, nil, nil
	}
	return p, infoFrame(encoder, frames), nil
}

func (p *mp3Packer) pack(dst []byte, pcm []int16, last bool) []byte {
	channels := p.encoder.Frame.Channels
	full := p.encoder.FrameSamples() * channels
	p.given += int64(len(pcm) / channels)
	p.held = append(p.held, pcm...)
	from := 0
	for ; len(p.held)-from >= full; from += full {
		dst = p.encoder.AppendFrame(dst, p.held[from:from+full])
		p.made++
	}
	p.held = p.held[:copy(p.held, p.held[from:])]
	if !last || p.ended {
		return dst
	}
	p.ended = true
	for total := layer3.Frames(p.given, p.encoder.FrameSamples()); p.made < total; p.made++ {
		dst = p.encoder.AppendFrame(dst, p.held)
		p.held = p.held[:0]
	}
	return dst
}

func (p *mp3Packer) seek(offset int64) (moment int64, drop int) {
	e, frame := p.encoder, &p.encoder.Frame
	// What a frame takes on average is not more than it can be off by.
	k := offset * int64(frame.SampleRate) / int64(frame.Samples/8*frame.BitRate)
	for k > 0 && e.FrameBegin(k) > offset {
		k--
	}
	k = max(k-layer3.PrimeFrames, 0)
	e.SeekFrame(k)
	p.made, p.given = k, k*int64(e.FrameSamples())
	return p.given, int(offset - e.FrameBegin(k))
}

// infoFrame makes the header frame of so many samples a channel.
func infoFrame(e *layer3.Encoder, samples int64) []byte {
	frames := layer3.Frames(samples, e.FrameSamples())
	delay := int64(layer3.EncoderDelay - decoderDelay)
	return newInfoFrame(e.Header, infoHeader{
		name: "Info", frames: frames, bytes: int64(e.Frame.FrameBytes) + e.FrameBegin(frames),
		delay: delay, padding: frames*int64(e.FrameSamples()) - samples - delay,
	})
}

// encodedBytes is the length of so many samples a channel, with the header.
func encodedBytes(s *layer3.Stream, samples int64) int64 {
	n := s.FrameBegin(layer3.Frames(samples, s.FrameSamples()))
	if infoFits(&s.Frame) {
		n += int64(s.Frame.FrameBytes)
	}
	return n
}

// mp3Form fills in the zeros of a form of MP3 and checks it: the rate is that of
// the source or the next that there is, and the bit rate is generous, since the
// encoder is plain.
func mp3Form(f Form, info Info) (Form, bool) {
	rates := [...]int{8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000}
	usual := [...]int{32_000, 40_000, 40_000, 56_000, 64_000, 64_000, 96_000, 128_000, 128_000}
	last := len(rates) - 1
	for i, rate := range rates {
		if f.SampleRate == 0 && (rate >= info.SampleRate || i == last) {
			f.SampleRate = rate
		}
		if f.Channels == 0 {
			f.Channels = min(info.Channels, formChannelsMax)
		}
		if f.BitRate == 0 && f.SampleRate == rate {
			f.BitRate = usual[i] * f.Channels
		}
	}
	_, ok := layer3.StreamOf(f.SampleRate, f.Channels, f.BitRate)
	return f, ok
}
