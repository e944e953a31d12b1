package audio

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
)

// wavBufferBytes is what is read of a WAV file at once: 256 ms of telephony,
// and more than the largest frame (64 channels of 8 bytes).
const wavBufferBytes = 4096

// wavSource reads the samples of a WAV file, finding them as the prober does.
type wavSource struct {
	r      io.Reader
	info   Info
	probe  wavProbe
	decode func(b []byte) int16
	frame  int // bytes
	begun  bool
	// dataLeft is what the chunk still holds, or negative up to the end.
	dataLeft int64
	buf      [wavBufferBytes]byte
	from, to int // what of buf is to be decoded
	err      error
}

func newWAVSource(r io.Reader, info Info) *wavSource {
	return &wavSource{r: r, info: info, decode: wavSampleDecoder(info.Codec)}
}

// wavSampleDecoder is what turns the bytes of one sample into 16 bits, or nil.
func wavSampleDecoder(codec string) func(b []byte) int16 {
	le, be := binary.LittleEndian, binary.BigEndian
	switch codec {
	case "pcm_u8":
		return func(b []byte) int16 { return int16(int(b[0])-0x80) << 8 }
	case "pcm_s16le":
		return func(b []byte) int16 { return int16(le.Uint16(b)) }
	case "pcm_s16be":
		return func(b []byte) int16 { return int16(be.Uint16(b)) }
	case "pcm_s24le":
		return func(b []byte) int16 {
			return narrow(int32(b[0])<<8 | int32(b[1])<<16 | int32(b[2])<<24)
		}
	case "pcm_s24be":
		return func(b []byte) int16 {
			return narrow(int32(b[2])<<8 | int32(b[1])<<16 | int32(b[0])<<24)
		}
	case "pcm_s32le":
		return func(b []byte) int16 { return narrow(int32(le.Uint32(b))) }
	case "pcm_s32be":
		return func(b []byte) int16 { return narrow(int32(be.Uint32(b))) }
	case "pcm_mulaw":
		return func(b []byte) int16 { return mulawDecode(b[0]) }
	case "pcm_alaw":
		return func(b []byte) int16 { return alawDecode(b[0]) }
	}
	return wavFloatDecoder(codec)
}

func wavFloatDecoder(codec string) func(b []byte) int16 {
	le, be := binary.LittleEndian, binary.BigEndian
	switch codec {
	case "pcm_f32le":
		return func(b []byte) int16 { return scale16(float64(math.Float32frombits(le.Uint32(b)))) }
	case "pcm_f32be":
		return func(b []byte) int16 { return scale16(float64(math.Float32frombits(be.Uint32(b)))) }
	case "pcm_f64le":
		return func(b []byte) int16 { return scale16(math.Float64frombits(le.Uint64(b))) }
	case "pcm_f64be":
		return func(b []byte) int16 { return scale16(math.Float64frombits(be.Uint64(b))) }
	}
	return nil
}

// narrow rounds a sample of 32 bits to 16.
func narrow(v int32) int16 {
	return int16(min((int64(v)+1<<15)>>16, math.MaxInt16))
}

// scale16 rounds a sample between -1 and 1, as ffmpeg and sox scale it. What is
// no number is silence.
func scale16(v float64) int16 {
	switch v *= 1 << 15; {
	case v >= math.MaxInt16:
		return math.MaxInt16
	case v <= math.MinInt16:
		return math.MinInt16
	case math.IsNaN(v):
		return 0
	}
	return int16(math.RoundToEven(v))
}

func (s *wavSource) read(pcm []int16) (int, error) {
	if err := s.begin(); err != nil {
		return 0, err
	}
	for s.to-s.from < s.frame {
		if s.dataLeft == 0 {
			return 0, io.EOF
		}
		if err := s.fill(); err != nil {
			return 0, err
		}
	}
	sample := s.frame / s.info.Channels
	frames := min((s.to-s.from)/s.frame, len(pcm)/s.info.Channels)
	b := s.buf[s.from:]
	for i := range pcm[:frames*s.info.Channels] {
		pcm[i] = s.decode(b[i*sample:])
	}
	s.from += frames * s.frame
	return frames, nil
}

// skip passes over frames, by seeking if the reader can.
func (s *wavSource) skip(n int64) (int64, error) {
	if err := s.begin(); err != nil {
		return 0, err
	}
	buffered := int64((s.to - s.from) / s.frame)
	if n > buffered {
		bytes := n*int64(s.frame) - int64(s.to-s.from)
		if s.dataLeft >= 0 {
			bytes = min(bytes, s.dataLeft)
		}
		skipped, err := s.discard(bytes)
		if err != nil {
			return 0, err
		}
		if skipped < bytes {
			return 0, io.EOF
		}
		s.from, s.to = 0, 0
		return n, nil
	}
	s.from += int(n) * s.frame
	return n, nil
}

func (s *wavSource) discard(n int64) (int64, error) {
	var skipped int64
	var err error
	if seeker, ok := s.r.(io.Seeker); ok {
		if _, err = seeker.Seek(n, io.SeekCurrent); err == nil {
			skipped = n
		}
	} else if skipped, err = io.CopyN(io.Discard, s.r, n); errors.Is(err, io.EOF) {
		err = nil
	}
	if s.dataLeft > 0 {
		s.dataLeft -= skipped
	}
	if err != nil {
		return skipped, fmt.Errorf("skip: %w", err)
	}
	return skipped, nil
}

// fill reads once, behind what is left of the last time.
func (s *wavSource) fill() error {
	if s.err != nil {
		return s.err
	}
	s.to = copy(s.buf[:], s.buf[s.from:s.to])
	s.from = 0
	room := s.buf[s.to:]
	if s.dataLeft >= 0 && int64(len(room)) > s.dataLeft {
		room = room[:s.dataLeft]
	}
	n, err := readSome(s.r, room)
	s.to += n
	if s.dataLeft > 0 {
		s.dataLeft -= int64(n)
	}
	s.err = err
	if n == 0 {
		return err
	}
	return nil
}

// readSome reads once what there is, at least a byte unless there is an error.
func readSome(r io.Reader, b []byte) (int, error) {
	const emptyReadsMax = 100 // as bufio: such a reader is broken
	for range emptyReadsMax {
		if n, err := r.Read(b); n > 0 || err != nil {
			return n, err
		}
	}
	return 0, io.ErrNoProgress
}

// begin finds the samples: it walks the chunks before them.
func (s *wavSource) begin() error {
	if s.begun {
		return nil
	}
	s.dataLeft = -1
	if err := s.need(riffHeadBytes); err != nil {
		return fmt.Errorf("riff head: %w", err)
	}
	head := s.buf[:riffHeadBytes]
	if string(head[8:]) != "WAVE" {
		return fmt.Errorf("no riff wave: %w", ErrOtherSound)
	}
	s.probe.begin(head)
	s.from = riffHeadBytes
	if err := s.findData(); err != nil {
		return err
	}
	f := &s.probe.format
	if f.codec != s.info.Codec || f.channels != s.info.Channels || f.rate != s.info.SampleRate {
		return fmt.Errorf("%s of %d Hz and %d channels: %w", f.codec, f.rate, f.channels, ErrOtherSound)
	}
	s.frame = int(f.blockBytes)
	s.begun = true
	return nil
}

// findData walks the chunks up to the samples.
func (s *wavSource) findData() error {
	for {
		found, err := s.chunk()
		switch {
		case found:
			return nil
		case errors.Is(err, io.EOF) && s.probe.haveData:
			// An empty file, or less than a chunk head behind an empty head.
			if s.probe.state != wavEmptyData {
				s.from, s.to = 0, 0
			}
			return nil
		case errors.Is(err, io.EOF):
			return fmt.Errorf("ends before its samples: %w", ErrOtherSound)
		case err != nil:
			return err
		}
	}
}

// need reads until so many bytes are in the buffer.
func (s *wavSource) need(n int) error {
	for s.to-s.from < n {
		if err := s.fill(); err != nil {
			return err
		}
	}
	return nil
}

// chunk takes one step of the prober, and says whether the samples begin now.
func (s *wavSource) chunk() (found bool, err error) {
	if err := s.need(1); err != nil {
		return false, err
	}
	n := s.probe.step(s.buf[s.from:s.to])
	if n == 0 {
		return false, s.need(s.to - s.from + 1)
	}
	switch {
	case s.probe.state == wavBroken || s.probe.state == wavTail || (s.probe.haveData && !s.probe.haveFmt):
		return false, ErrOtherSound
	case s.probe.inData:
		s.from += chunkHeadBytes
		n -= chunkHeadBytes
		s.dataLeft = n
		if int64(s.to-s.from) > n {
			s.to = s.from + int(n)
		}
		s.dataLeft -= int64(s.to - s.from)
		return true, nil
	case s.probe.state == wavOpenData:
		// A head without length, or the first bytes behind an empty one.
		if s.probe.dataBytes == 0 {
			s.from += int(n)
		}
		return true, nil
	case n <= int64(s.to-s.from):
		s.from += int(n)
		return false, nil
	}
	n -= int64(s.to - s.from)
	s.from, s.to = 0, 0
	skipped, err := s.discard(n)
	if err == nil && skipped < n {
		err = io.EOF
	}
	return false, err
}
