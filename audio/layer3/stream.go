package layer3

import "carillon/audio/mpeg"

// Stream is how frames of one constant bit rate follow one another.
type Stream struct {
	Header [mpeg.HeaderBytes]byte // of unpadded frames
	Frame  mpeg.Header            // what that says
}

// StreamOf is the stream of those rates and channels; false: there is none.
func StreamOf(sampleRate, channels, bitRate int) (Stream, bool) {
	const layer3, noCRC, mono, original = 1 << 1, 1, 3 << 6, 1 << 2
	mode := byte(original)
	if channels == 1 {
		mode |= mono
	}
	if channels < 1 || channels > 2 {
		return Stream{}, false
	}
	for _, version := range [3]byte{3, 2, 0} {
		for rate := range byte(3) {
			for index := byte(1); index < 15; index++ {
				b := [mpeg.HeaderBytes]byte{
					0xFF, 0xE0 | version<<3 | layer3 | noCRC, index<<4 | rate<<2, mode,
				}
				h, ok := mpeg.Parse(b[:])
				if ok && h.SampleRate == sampleRate && h.BitRate == bitRate {
					return Stream{b, h}, h.FrameBytes > mpeg.HeaderBytes+h.SideBytes()
				}
			}
		}
	}
	return Stream{}, false
}

// FrameSamples is how many samples of each channel a frame holds.
func (s *Stream) FrameSamples() int { return s.Frame.Samples }

// remainder is what an unpadded frame is short of the bit rate, in bytes/rate.
func (s *Stream) remainder() int {
	return s.Frame.Samples / 8 * s.Frame.BitRate % s.Frame.SampleRate
}

// FrameBegin is how many bytes the first k frames take together.
func (s *Stream) FrameBegin(k int64) int64 {
	return k*int64(s.Frame.FrameBytes) + k*int64(s.remainder())/int64(s.Frame.SampleRate)
}
