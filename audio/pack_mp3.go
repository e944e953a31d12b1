package audio

// mp3Packer writes frames of MP3. When the length is known in advance a header
// frame before them says what the encoder put around the sound, so that players
// which read it (mpg123, and so mod_shout) play exactly the samples of the item.
type mp3Packer struct {
	encoder *MP3Encoder
	// held are samples that do not fill a frame yet.
	held []int16
	// given is how many frames of sound came, made how many of MP3 went.
	given, made int64
	ended       bool
}

// MP3PrimeFrames that are encoded and dropped give an MP3Encoder the state that
// it would have had with all that was before: the filter bank remembers less than
// one granule, a block overlaps one and follows what two others want, and an onset
// is one against the granule before. The padding of frames is a matter of their
// count, not of this.
const MP3PrimeFrames = 6

func newMP3Packer(form Form, frames int64) (*mp3Packer, []byte, error) {
	encoder, err := newMP3Encoder(form.SampleRate, form.Channels, form.BitRate)
	if err != nil {
		return nil, nil, err
	}
	p := &mp3Packer{encoder: encoder}
	if frames < 0 || !encoder.infoFits() {
		return p, nil, nil
	}
	return p, encoder.infoFrame(frames), nil
}

func (p *mp3Packer) pack(dst []byte, pcm []int16, last bool) []byte {
	channels := p.encoder.frame.Channels
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
	for total := encodedFrames(p.given, p.encoder.FrameSamples()); p.made < total; p.made++ {
		dst = p.encoder.AppendFrame(dst, p.held)
		p.held = p.held[:0]
	}
	return dst
}

func (p *mp3Packer) seek(offset int64) (frame int64, drop int) {
	e := p.encoder
	// What a frame takes on average is not more than it can be off by.
	k := offset * int64(e.frame.SampleRate) / int64(e.frame.Samples/8*e.frame.BitRate)
	for k > 0 && e.frameBegin(k) > offset {
		k--
	}
	k = max(k-MP3PrimeFrames, 0)
	e.seekFrame(k)
	p.made, p.given = k, k*int64(e.FrameSamples())
	return p.given, int(offset - e.frameBegin(k))
}

// infoFits says whether a frame has room for the header.
func (e *MP3Encoder) infoFits() bool { return infoFits(&e.frame) }

// infoFrame makes the header frame of so many samples a channel.
func (e *MP3Encoder) infoFrame(samples int64) []byte {
	frames := encodedFrames(samples, e.FrameSamples())
	delay := int64(encoderDelay - decoderDelay)
	return newInfoFrame(e.header, infoHeader{
		name: "Info", frames: frames, bytes: int64(e.frame.FrameBytes) + e.frameBegin(frames),
		delay: delay, padding: frames*int64(e.FrameSamples()) - samples - delay,
	})
}

// encodedBytes is the length of so many samples a channel, with the header.
func (e *MP3Encoder) encodedBytes(samples int64) int64 {
	n := e.frameBegin(encodedFrames(samples, e.FrameSamples()))
	if e.infoFits() {
		n += int64(e.frame.FrameBytes)
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
	_, _, ok := encoderHeader(f.SampleRate, f.Channels, f.BitRate)
	return f, ok
}
