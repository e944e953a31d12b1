package audio

import (
	"bytes"
	"encoding/binary"

	"carillon/audio/mpeg"
)

// mp3Probe counts the frames of an MPEG audio layer III stream.
type mp3Probe struct {
	// unit is what the present step measured.
	unit mp3Unit
	// frame is the header of the present or the last frame.
	frame mpeg.Header
	// inPlace: the next byte follows the beginning of the stream, a frame, a
	// tag or padding, so that a header here is believed.
	inPlace bool
	// synced: frame is the header of a frame of this stream.
	synced bool

	// frames by version and sample rate: streams are joined with little care,
	// and what most frames are is what the file is.
	frames     [3][3]int64
	channels   [2]int64
	frameBytes int64
	bitRate    int
	vbr        bool
	garbage    int64
	padding    int64
	gapless    gapless
	// other is what the stream begins with instead, for an error.
	other string
}

type mp3Unit uint8

const (
	unitGarbage mp3Unit = iota
	unitFrame
	unitInfoFrame
	unitTag
	unitPadding
)

func (m *mp3Probe) step(b []byte, eof bool) int64 {
	if len(b) == 0 {
		return 0
	}
	if b[0] != 0xFF {
		return m.between(b, eof)
	}
	if len(b) < mpeg.HeaderBytes {
		return 0
	}
	h, ok := mpeg.Parse(b)
	if !ok || h.Layer != 3 {
		return m.notOurs(b)
	}
	if m.inPlace && m.synced && h.SameStream(&m.frame) {
		m.unit, m.frame = unitFrame, h
		return int64(h.FrameBytes)
	}
	if len(b) < h.FrameBytes+mpeg.HeaderBytes && !eof {
		return 0
	}
	if !m.confirmed(&h, b) {
		return m.junk(1)
	}
	m.unit = unitFrame
	if !m.synced && isInfoFrame(&h, b) {
		m.unit = unitInfoFrame
		m.gapless.read(&h, b)
	}
	m.frame, m.synced = h, true
	return int64(h.FrameBytes)
}

// notOurs passes over a 0xFF that begins no frame of layer III.
func (m *mp3Probe) notOurs(b []byte) int64 {
	if m.inPlace && !m.synced && m.other == "" {
		m.other = otherFrame(b)
	}
	return m.junk(1)
}

// confirmed is the two-frame rule for a frame that does not follow another of
// its kind. b may be shorter than frame and next header only at the end of the
// file.
func (m *mp3Probe) confirmed(h *mpeg.Header, b []byte) bool {
	if len(b) < h.FrameBytes {
		return false
	}
	expected := m.inPlace || (m.synced && h.SameStream(&m.frame))
	next := b[h.FrameBytes:]
	if len(next) < mpeg.HeaderBytes {
		return expected && (len(next) == 0 || next[0] == 0xFF)
	}
	if g, ok := mpeg.Parse(next); ok {
		return g.SameStream(h)
	}
	if !m.inPlace {
		return false
	}
	switch string(next[:3]) {
	case "TAG", "ID3", "APE", "\x00\x00\x00":
		return true
	}
	return false
}

// between measures what does not begin like a frame.
func (m *mp3Probe) between(b []byte, eof bool) int64 {
	if m.inPlace {
		if b[0] == 0 {
			n := len(b) - len(bytes.TrimLeft(b, "\x00"))
			m.unit = unitPadding
			m.padding += int64(n)
			return int64(n)
		}
		n, more := tagBytes(b, eof)
		if more {
			return 0
		}
		if n > 0 {
			m.unit = unitTag
			return n
		}
	}
	n := bytes.IndexByte(b, 0xFF)
	if n < 0 {
		n = len(b)
	}
	return m.junk(n)
}

func (m *mp3Probe) junk(n int) int64 {
	m.unit = unitGarbage
	m.inPlace = false
	m.garbage += int64(n)
	return int64(n)
}

// Lengths of what tells how long a tag is.
const (
	id3v2HeadBytes = 10
	apeHeadBytes   = 32
)

// tagBytes is the length of the tag that b begins with, or 0. more is set when
// b is too short to tell.
func tagBytes(b []byte, eof bool) (n int64, more bool) {
	var tag string
	var head int // what tells how long it is
	switch b[0] {
	case 'T':
		tag, head = "TAG", len("TAG+")
	case 'I':
		tag, head = "ID3", id3v2HeadBytes
	case 'A':
		tag, head = "APETAGEX", apeHeadBytes
	default:
		return 0, false
	}
	known := min(len(b), len(tag))
	if string(b[:known]) != tag[:known] {
		return 0, false
	}
	if len(b) < head {
		return 0, true
	}
	switch tag {
	case "ID3":
		return id3v2Bytes(b), false
	case "APETAGEX":
		return apeBytes(b), false
	}
	return id3v1Bytes(b, eof)
}

// id3v1Bytes tells an extended tag, which a plain one follows, from a plain one
// of a title that begins with a plus.
func id3v1Bytes(b []byte, eof bool) (n int64, more bool) {
	const plain, extended = 128, 227
	if b[3] != '+' {
		return plain, false
	}
	if len(b) < extended+len("TAG") {
		return plain, !eof
	}
	if string(b[extended:extended+len("TAG")]) == "TAG" {
		return extended, false
	}
	return plain, false
}

func id3v2Bytes(b []byte) int64 {
	if b[3] < 2 || b[3] > 4 || b[4] == 0xFF || (b[6]|b[7]|b[8]|b[9])&0x80 != 0 {
		return 0
	}
	n := int64(b[6])<<21 | int64(b[7])<<14 | int64(b[8])<<7 | int64(b[9])
	if b[5]&0x10 != 0 {
		n += id3v2HeadBytes // a footer
	}
	return id3v2HeadBytes + n
}

// apeBytes measures an APE tag by its header, or the footer alone of one that
// has no header.
func apeBytes(b []byte) int64 {
	const isHeader = 1 << 29
	if binary.LittleEndian.Uint32(b[20:])&isHeader == 0 {
		return apeHeadBytes
	}
	return apeHeadBytes + int64(binary.LittleEndian.Uint32(b[12:]))
}

// complete counts the unit that has passed whole. Garbage and padding were
// counted when they were met, since a write may cut a run of them in two.
func (m *mp3Probe) complete() {
	switch m.unit {
	case unitGarbage, unitPadding:
		return
	case unitInfoFrame, unitTag:
		m.inPlace = true
		return
	case unitFrame:
	}
	h := &m.frame
	m.inPlace = true
	m.frames[h.Version][rateIndex(h)]++
	m.channels[h.Channels-1]++
	m.frameBytes += int64(h.FrameBytes)
	if m.bitRate == 0 {
		m.bitRate = h.BitRate
	}
	m.vbr = m.vbr || m.bitRate != h.BitRate
}

// rateIndex is 0, 1, 2 for 44.1, 48, 32 kHz and their fractions.
func rateIndex(h *mpeg.Header) int {
	switch h.SampleRate << h.Version {
	case 48000:
		return 1
	case 32000:
		return 2
	}
	return 0
}

// result is the probe if the stream ended here, with left bytes that no step
// took and cut bytes missing of the last unit.
func (m *mp3Probe) result(left []byte, cut int64) (Info, error) {
	info := Info{Format: FormatMP3, Channels: 1, BitRate: m.bitRate, VBR: m.vbr, Truncated: cut > 0}
	garbage := m.garbage + int64(len(left))
	if m.inPlace && len(left) > 0 && left[0] == 0xFF {
		// The beginning of a header.
		garbage -= int64(len(left))
		info.Truncated = true
	}
	info.GarbageBytes = garbage + m.padding
	if m.channels[1] > m.channels[0] {
		info.Channels = 2
	}
	main, most := m.mainStream(&info)
	if info.Frames == 0 || garbage > m.frameBytes || (info.Frames == 1 && info.GarbageBytes > 0) {
		// Here and there any file holds what looks like a frame.
		return Info{}, ErrUnknownFormat
	}
	info.Codec = layer3Codec(main)
	if most == info.Frames {
		m.gapless.apply(&info)
	}
	if info.VBR || most != info.Frames {
		info.BitRate = meanBitRate(m.frameBytes, info.Samples, info.SampleRate)
	}
	return info, nil
}

func layer3Codec(v mpeg.Version) string {
	switch v {
	case mpeg.V1:
		return "mp3_mpeg1_layer3"
	case mpeg.V2:
		return "mp3_mpeg2_layer3"
	case mpeg.V25:
	}
	return "mp3_mpeg25_layer3"
}

// mainStream finds the version and rate of most frames and adds up all of them
// as samples of that rate.
func (m *mp3Probe) mainStream(info *Info) (main mpeg.Version, most int64) {
	rate := 0
	for v := range m.frames {
		for r, n := range m.frames[v] {
			info.Frames += n
			if n > most {
				most, main, rate = n, mpeg.Version(v), r
			}
		}
	}
	info.SampleRate = mpeg.SampleRate(main, byte(rate))
	for v := range m.frames {
		for r, n := range m.frames[v] {
			h := mpeg.Header{Version: mpeg.Version(v), Layer: 3, SampleRate: mpeg.SampleRate(mpeg.Version(v), byte(r))}
			h.Measure()
			info.Samples += n * int64(h.Samples) * int64(info.SampleRate) / int64(h.SampleRate)
		}
	}
	return main, most
}

// meanBitRate of so many bytes that play for so many samples.
func meanBitRate(n, samples int64, rate int) int {
	if samples <= 0 {
		return 0
	}
	return int(float64(n) * 8 * float64(rate) / float64(samples))
}
