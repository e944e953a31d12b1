package mpeg

import (
	"errors"
	"fmt"
)

// HeaderBytes is the length of the header that every MPEG audio frame
// begins with.
const HeaderBytes = 4

// FrameBytesMax is the longest frame of layer III: 320 kbit/s at 32 kHz, padded.
const FrameBytesMax = 1441

// CRCBytes of checksum follow the header of a frame that has one.
const CRCBytes = 2

// GranuleLines is how many lines of the spectrum, and samples of a channel, are
// one granule of layer III.
const GranuleLines = 576

// GainStepDB is the least change of level that a frame can have without being
// decoded: the gain of a granule counts in powers of 2^(1/4).
const GainStepDB = 1.505149978319906

// GainMax is the largest gain of a granule.
const GainMax = 255

// ReservoirBytesMax is how far back the main data of a frame may begin: nine
// bits of bytes.
const ReservoirBytesMax = 511

// ErrNoFrame is returned when the bytes are not the header of an MPEG audio frame.
var ErrNoFrame = errors.New("no mpeg audio frame")

// ErrFreeFormat is returned for a frame header without a bit rate: the length
// of such a frame cannot be told from its header, and nobody makes them.
var ErrFreeFormat = errors.New("free format mpeg audio frame")

// Version is the standard a frame follows; it decides its sample rates.
type Version uint8

// The versions: ISO 11172-3 (32 to 48 kHz), ISO 13818-3 (16 to 24 kHz) and its
// unofficial extension downwards (8 to 12 kHz), which FreeSWITCH records in.
const (
	V1 Version = iota
	V2
	V25
)

// String is "mpeg1", "mpeg2" or "mpeg25".
func (v Version) String() string {
	switch v {
	case V1:
		return "mpeg1"
	case V2:
		return "mpeg2"
	case V25:
		return "mpeg25"
	}
	return fmt.Sprintf("mpeg(%d)", uint8(v))
}

// ChannelMode is how the channels of a frame are coded.
type ChannelMode uint8

// The channel modes, by their number in the header.
const (
	ModeStereo ChannelMode = iota
	ModeJointStereo
	ModeDualChannel
	ModeMono
)

// Header is what the first four bytes of an MPEG audio frame say.
type Header struct {
	Version Version
	Layer   int // 1, 2 or 3
	// CRC: two bytes of checksum follow the header.
	CRC        bool
	BitRate    int // bits a second
	SampleRate int
	Padding    bool
	Mode       ChannelMode
	// ModeExtension is, in joint stereo of layer III, intensity (1) and
	// middle/side (2).
	ModeExtension int
	Channels      int
	FrameBytes    int // with the header
	Samples       int // per channel
}

// ParseHeader reads the header that b begins with. It returns ErrFreeFormat
// for free format and ErrNoFrame for anything else that is not a header.
func ParseHeader(b []byte) (Header, error) {
	if len(b) < HeaderBytes {
		return Header{}, fmt.Errorf("%d bytes: %w", len(b), ErrNoFrame)
	}
	h, ok := Parse(b)
	if ok {
		return h, nil
	}
	if b[2]>>4 == 0 {
		// With another bit rate it would be one.
		free := [HeaderBytes]byte{b[0], b[1], b[2] | 0x10, b[3]}
		if _, ok := Parse(free[:]); ok {
			return Header{}, ErrFreeFormat
		}
	}
	return Header{}, ErrNoFrame
}

// Bit rates by index, in units of 8 kbit/s (ISO 11172-3 2.4.2.3, 13818-3
// 2.4.2.3). Strings, since a constant array is none in Go.
const (
	rates1Layer1  = "\x00\x04\x08\x0c\x10\x14\x18\x1c\x20\x24\x28\x2c\x30\x34\x38\x00"
	rates1Layer2  = "\x00\x04\x06\x07\x08\x0a\x0c\x0e\x10\x14\x18\x1c\x20\x28\x30\x00"
	rates1Layer3  = "\x00\x04\x05\x06\x07\x08\x0a\x0c\x0e\x10\x14\x18\x1c\x20\x28\x00"
	rates2Layer1  = "\x00\x04\x06\x07\x08\x0a\x0c\x0e\x10\x12\x14\x16\x18\x1c\x20\x00"
	rates2Layer23 = "\x00\x01\x02\x03\x04\x05\x06\x07\x08\x0a\x0c\x0e\x10\x12\x14\x00"
	bitRateUnit   = 8000
)

// Parse is ParseHeader of at least four bytes without the errors:
// the prober calls it for every frame and for every 0xFF in garbage.
func Parse(b []byte) (Header, bool) {
	_ = b[3]
	version, layer := b[1]>>3&3, 4-int(b[1]>>1&3)
	rateIndex := b[2] >> 2 & 3
	if b[0] != 0xFF || b[1] < 0xE0 || version == 1 || layer == 4 || rateIndex == 3 || b[3]&3 == 2 {
		return Header{}, false
	}
	h := Header{
		Layer:         layer,
		CRC:           b[1]&1 == 0,
		Padding:       b[2]&2 != 0,
		Mode:          ChannelMode(b[3] >> 6),
		ModeExtension: int(b[3] >> 4 & 3),
		Channels:      2,
	}
	if h.Mode == ModeMono {
		h.Channels = 1
	}
	switch version {
	case 3:
		h.Version = V1
	case 2:
		h.Version = V2
	default:
		h.Version = V25
	}
	h.SampleRate = SampleRate(h.Version, rateIndex)
	h.BitRate = bitRate(h.Version, layer, b[2]>>4)
	if h.BitRate == 0 {
		return Header{}, false
	}
	h.Measure()
	return h, true
}

// SampleRate is the rate of a version by its index in the header, 0 to 2.
func SampleRate(v Version, index byte) int {
	rate := 44100
	switch index {
	case 1:
		rate = 48000
	case 2:
		rate = 32000
	}
	return rate >> v // each version halves
}

func bitRate(v Version, layer int, index byte) int {
	switch {
	case v == V1 && layer == 3:
		return int(rates1Layer3[index]) * bitRateUnit
	case v == V1 && layer == 2:
		return int(rates1Layer2[index]) * bitRateUnit
	case v == V1:
		return int(rates1Layer1[index]) * bitRateUnit
	case layer == 1:
		return int(rates2Layer1[index]) * bitRateUnit
	}
	return int(rates2Layer23[index]) * bitRateUnit
}

// Measure fills in the samples and bytes of the frame. Layer I pads by slots of
// four bytes, the others by one.
func (h *Header) Measure() {
	padding := 0
	if h.Padding {
		padding = 1
	}
	switch {
	case h.Layer == 1:
		h.Samples = 384
		h.FrameBytes = (12*h.BitRate/h.SampleRate + padding) * 4
		return
	case h.Layer == 3 && h.Version != V1:
		h.Samples = 576
	default:
		h.Samples = 1152
	}
	h.FrameBytes = h.Samples/8*h.BitRate/h.SampleRate + padding
}

// SameStream says that two frames can follow one another in one stream: bit
// rate, padding and channel mode change from frame to frame, these do not.
func (h *Header) SameStream(g *Header) bool {
	return h.Version == g.Version && h.Layer == g.Layer && h.SampleRate == g.SampleRate
}

// SideEnd is where the side information ends and the main data begin.
func (h *Header) SideEnd() int {
	n := HeaderBytes + h.SideBytes()
	if h.CRC {
		n += CRCBytes
	}
	return n
}

// SideBytes is the length of layer III side information.
func (h *Header) SideBytes() int {
	switch {
	case h.Version == V1 && h.Channels == 2:
		return 32
	case h.Version != V1 && h.Channels == 1:
		return 9
	}
	return 17
}

// JointStereo says which ways of joint stereo a frame of layer III uses.
func (h *Header) JointStereo() (middle, intense bool) {
	joint := h.Mode == ModeJointStereo
	return joint && h.ModeExtension&2 != 0, joint && h.ModeExtension&1 != 0
}
