package audio

import (
	"errors"
	"io"

	"carillon/audio/layer3"
	"carillon/audio/mpeg"
)

// mp3WarmFrames are decoded unheard before the frame that is sought, which then
// sounds as if all before had been: the last block overlaps one granule, and
// the filter bank remembers less than another.
const mp3WarmFrames = 2

// mp3Source decodes the frames that the prober counts, and nothing else.
type mp3Source struct {
	mp3Framer
	info  Info
	layer *layer3.Decoder
	// pcm is the sound of the last frame in the rate and channels of info, of
	// which the part from pcmFrom on was not read yet.
	pcm     []int16
	pcmFrom int
	raw     [2 * 2 * mpeg.GranuleLines]int16 // as the frame has it
	other   *rateChange                      // nil while the rate is that of info
}

func newMP3Source(r io.Reader, info Info) *mp3Source {
	return &mp3Source{mp3Framer: newMP3Framer(r), info: info, layer: layer3.NewDecoder()}
}

func (s *mp3Source) read(pcm []int16) (int, error) {
	for s.pcmFrom == len(s.pcm) {
		if err := s.decode(); err != nil {
			return 0, err
		}
	}
	n := copy(pcm[:len(pcm)/s.info.Channels*s.info.Channels], s.pcm[s.pcmFrom:])
	s.pcmFrom += n
	return n / s.info.Channels, nil
}

// skip walks over frames without decoding them, and decodes the last.
func (s *mp3Source) skip(n int64) (int64, error) {
	if pending := int64((len(s.pcm) - s.pcmFrom) / s.info.Channels); pending > 0 {
		n = min(n, pending)
		s.pcmFrom += int(n) * s.info.Channels
		return n, nil
	}
	skipped := int64(0)
	for {
		frame, err := s.nextFrame()
		if err != nil {
			return skipped, err
		}
		if s.frame.SampleRate != s.info.SampleRate || s.other != nil ||
			n-skipped < int64((mp3WarmFrames+1)*s.frame.Samples) {
			s.sound(frame)
			return skipped, nil
		}
		s.layer.Skip(&s.frame, frame)
		skipped += int64(s.frame.Samples)
	}
}

// decode makes the sound of the next frame.
func (s *mp3Source) decode() error {
	frame, err := s.nextFrame()
	if err != nil {
		if s.other != nil && errors.Is(err, io.EOF) {
			// What the resampler still holds.
			s.pcm, s.pcmFrom = s.other.finish(s.pcm[:0]), 0
			s.other = nil
			return nil
		}
		return err
	}
	s.sound(frame)
	return nil
}

// sound decodes a frame into pcm, and fits it to what the item is as a whole.
func (s *mp3Source) sound(frame []byte) {
	h := &s.frame
	raw := s.raw[:h.Samples*h.Channels]
	s.layer.Decode(h, frame, raw)
	channels := s.info.Channels
	fit := raw
	switch {
	case channels < h.Channels:
		fit = raw[:channels*mixDown(raw, raw, h.Channels, channels)]
	case channels > h.Channels:
		fit = s.raw[:h.Samples*channels]
		mixUp(fit, h.Samples, channels)
	}
	s.pcm, s.pcmFrom = s.pcm[:0], 0
	if s.other != nil && s.other.rate != h.SampleRate {
		s.pcm = s.other.finish(s.pcm)
		s.other = nil
	}
	if s.other == nil && h.SampleRate != s.info.SampleRate {
		s.other = newRateChange(h.SampleRate, s.info.SampleRate, channels)
	}
	if s.other != nil {
		s.pcm = s.other.append(s.pcm, fit)
		return
	}
	s.pcm = append(s.pcm, fit...)
}

// rateChange resamples a part of a stream whose rate is not that of the rest:
// streams are joined with little care.
type rateChange struct {
	*resampler
	rate int
}

func newRateChange(rate, to, channels int) *rateChange {
	return &rateChange{resampler: newResampler(rate, to, channels), rate: rate}
}

func (c *rateChange) append(dst, pcm []int16) []int16 {
	for len(pcm) > 0 {
		n := min(c.room()*c.channels, len(pcm))
		c.write(pcm[:n])
		pcm = pcm[n:]
		dst = c.drain(dst)
	}
	return dst
}

func (c *rateChange) drain(dst []int16) []int16 {
	var block [2 * mpeg.GranuleLines]int16
	for {
		n := c.read(block[:])
		if n == 0 {
			return dst
		}
		dst = append(dst, block[:n*c.channels]...)
	}
}

func (c *rateChange) finish(dst []int16) []int16 {
	for c.resampler.finish() {
		dst = c.drain(dst)
	}
	return dst
}
