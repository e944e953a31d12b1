package audio

import (
	"encoding/binary"

	"carillon/audio/mpeg"
)

// isInfoFrame recognises the first frame of many files, which holds a Xing,
// Info or VBRI header in place of sound. Decoders play nothing for it.
func isInfoFrame(h *mpeg.Header, b []byte) bool {
	const vbriOffset = mpeg.HeaderBytes + 32
	xing := mpeg.HeaderBytes + h.SideBytes()
	at := func(off int, tag string) bool {
		return off+len(tag) <= h.FrameBytes && string(b[off:off+len(tag)]) == tag
	}
	// Writers disagree on whether the checksum moves the header.
	for _, off := range [2]int{xing, xing + 2} {
		if at(off, "Xing") || at(off, "Info") {
			return true
		}
	}
	return at(vbriOffset, "VBRI")
}

// gapless is what an Info header says of the sound that is not of the item:
// LAME and ffmpeg write how many samples they put before it, and behind it to
// fill the last frame.
type gapless struct {
	frames         int64 // that the header claims; 0 when it says nothing
	delay, padding int64
}

// decoderDelay is how many samples later than the encoder's a decoder's come, as
// all who write and read these fields have agreed.
const decoderDelay = 528 + 1

// read takes what the Xing or Info header in a frame says. b holds the frame.
func (g *gapless) read(h *mpeg.Header, b []byte) {
	const (
		hasFrames, hasBytes, hasTOC, hasQuality = 1, 2, 4, 8

		tocBytes   = 100
		delayBegin = 21 // behind the name of the encoder and what is of no use here
		delayBytes = 3
	)
	b, ok := xingBody(h, b)
	if !ok {
		return
	}
	if len(b) < 8 {
		return
	}
	flags := binary.BigEndian.Uint32(b)
	frames := int64(binary.BigEndian.Uint32(b[4:]))
	at := 4
	for _, field := range [4][2]int{{hasFrames, 4}, {hasBytes, 4}, {hasTOC, tocBytes}, {hasQuality, 4}} {
		if int(flags)&field[0] != 0 {
			at += field[1]
		}
	}
	if flags&hasFrames == 0 || len(b) < at+delayBegin+delayBytes || b[at] == 0 {
		return // there is no name of an encoder
	}
	v := int64(b[at+delayBegin])<<16 | int64(b[at+delayBegin+1])<<8 | int64(b[at+delayBegin+2])
	*g = gapless{frames: frames, delay: v >> 12, padding: v & 0xFFF}
}

// xingBody is what follows the name of a Xing or Info header.
func xingBody(h *mpeg.Header, b []byte) ([]byte, bool) {
	const nameBytes = 4
	b = b[:min(len(b), h.FrameBytes)]
	xing := mpeg.HeaderBytes + h.SideBytes()
	for _, off := range [2]int{xing, xing + mpeg.CRCBytes} {
		if off+nameBytes > len(b) {
			break
		}
		if name := string(b[off : off+nameBytes]); name == "Xing" || name == "Info" {
			return b[off+nameBytes:], true
		}
	}
	return nil, false
}

// apply follows mpg123: the delay of both coders is left out in front, and the
// padding, less what of it the decoder's delay pushed out, at the end. That is
// only true of a stream with as many frames as the header says: what was cut
// off has no padding, and what was joined has it somewhere else.
func (g *gapless) apply(info *Info) {
	if g.frames == 0 {
		return
	}
	info.EncoderDelay = min(g.delay+decoderDelay, info.Samples)
	if g.frames == info.Frames {
		info.EncoderPadding = min(max(g.padding-decoderDelay, 0), info.Samples-info.EncoderDelay)
	}
}

// infoHeader is what newInfoFrame tells of the frames behind it.
type infoHeader struct {
	name           string // "Info", or "Xing" of a variable bit rate
	frames         int64
	bytes          int64 // 0 when nobody knows
	delay, padding int64 // at most infoDelayMax
}

// What the header frame holds behind its side information: the name and what
// follows of a Xing header with the count of frames and bytes, and the part that
// LAME added to it.
const (
	infoHeadBytes = 4 + 4 + 4 + 4
	infoLAMEBytes = 36
	infoDelayAt   = 21 // of the part of LAME
	infoDelayMax  = 1<<12 - 1
)

// infoFits says whether a frame has room for the header.
func infoFits(h *mpeg.Header) bool {
	return h.FrameBytes >= mpeg.HeaderBytes+h.SideBytes()+infoHeadBytes+infoLAMEBytes
}

// newInfoFrame makes a header frame that looks like frames with this header, of
// the next bit rate that has room for it. Who does not know it plays a frame of
// silence. It is nil when there is no such bit rate, or delay or padding cannot
// be told.
func newInfoFrame(header [mpeg.HeaderBytes]byte, info infoHeader) []byte {
	const hasFrames, hasBytes, noCRC, padded, bitRateStep = 1, 2, 1, 2, 1 << 4
	if min(info.delay, info.padding) < 0 || max(info.delay, info.padding) > infoDelayMax {
		return nil
	}
	header[1] |= noCRC
	header[2] &^= padded
	h, ok := mpeg.Parse(header[:])
	for ok && !infoFits(&h) {
		header[2] += bitRateStep
		h, ok = mpeg.Parse(header[:])
	}
	if !ok {
		return nil
	}
	b := make([]byte, h.FrameBytes)
	copy(b, header[:])
	at := mpeg.HeaderBytes + h.SideBytes()
	be := binary.BigEndian
	copy(b[at:], info.name)
	be.PutUint32(b[at+4:], hasFrames)
	be.PutUint32(b[at+8:], uint32(info.frames))
	lame := b[at+infoHeadBytes-4:]
	if info.bytes > 0 {
		be.PutUint32(b[at+4:], hasFrames|hasBytes)
		be.PutUint32(b[at+12:], uint32(info.bytes))
		lame = b[at+infoHeadBytes:]
	}
	copy(lame, "Carillon")
	v := info.delay<<12 | info.padding
	lame[infoDelayAt], lame[infoDelayAt+1], lame[infoDelayAt+2] = byte(v>>16), byte(v>>8), byte(v)
	return b
}
