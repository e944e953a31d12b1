package audio

import (
	"errors"
	"fmt"
	"io"
)

// mp3BufferBytes holds the longest frame and the header behind it, the longest
// tag that must be looked at, and as much again, so that reads are not tiny.
const mp3BufferBytes = 4096

// mp3WarmFrames are decoded unheard before the frame that is sought, which then
// sounds as if all before had been: the last block overlaps one granule, and
// the filter bank remembers less than another.
const mp3WarmFrames = 2

// mp3Source decodes the frames that the prober counts, and nothing else.
type mp3Source struct {
	r     io.Reader
	info  Info
	probe mp3Probe
	layer *layer3Decoder
	// pass is what is left of a tag.
	pass     int64
	buf      [mp3BufferBytes]byte
	from, to int
	err      error // of the reader, behind buf

	frame FrameHeader
	// pcm is the sound of the last frame in the rate and channels of info, of
	// which the part from pcmFrom on was not read yet.
	pcm     []int16
	pcmFrom int
	raw     [2 * 2 * granuleLines]int16 // as the frame has it
	other   *rateChange                 // nil while the rate is that of info
}

func newMP3Source(r io.Reader, info Info) *mp3Source {
	return &mp3Source{r: r, info: info, probe: mp3Probe{inPlace: true}, layer: newLayer3Decoder()}
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
		s.layer.skip(&s.frame, frame)
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
	s.layer.decode(h, frame, raw)
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

// nextFrame finds the next whole frame of sound; its bytes are good until the
// next call. It returns io.EOF at the end, behind which half a frame may be.
func (s *mp3Source) nextFrame() ([]byte, error) {
	for {
		if err := s.passTag(); err != nil {
			return nil, err
		}
		b := s.buf[s.from:s.to]
		eof := errors.Is(s.err, io.EOF)
		n := s.probe.step(b, eof)
		if n == 0 {
			if err := s.fill(); err != nil {
				return nil, err
			}
			continue
		}
		if s.probe.unit != unitFrame {
			s.pass = n
			continue
		}
		for int64(s.to-s.from) < n {
			if err := s.fill(); err != nil {
				return nil, err
			}
		}
		frame := s.buf[s.from : s.from+int(n)]
		s.from += int(n)
		s.probe.complete()
		s.frame = s.probe.frame
		return frame, nil
	}
}

// passTag leaves out the rest of what is no frame of sound.
func (s *mp3Source) passTag() error {
	for s.pass > 0 {
		n := min(s.pass, int64(s.to-s.from))
		s.from += int(n)
		s.pass -= n
		if s.pass == 0 {
			s.probe.complete()
			return nil
		}
		if err := s.fill(); err != nil {
			return err
		}
	}
	return nil
}

// fill reads once, behind what is left of the last time.
func (s *mp3Source) fill() error {
	if s.err != nil {
		return s.err
	}
	s.to = copy(s.buf[:], s.buf[s.from:s.to])
	s.from = 0
	if s.to == len(s.buf) {
		return fmt.Errorf("no frame in %d bytes: %w", s.to, ErrOtherSound)
	}
	n, err := readSome(s.r, s.buf[s.to:])
	s.to += n
	s.err = err
	if n == 0 && !errors.Is(err, io.EOF) {
		return err
	}
	return nil
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
	var block [2 * granuleLines]int16
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
