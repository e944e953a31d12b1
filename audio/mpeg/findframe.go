package mpeg

import "bytes"

// FindFrameBytesMin is how many bytes of a sound MP3 stream FindFrame needs at
// most to find a frame: the rest of the one it is in, a whole one and a header.
const FindFrameBytesMin = 2*FrameBytesMax + HeaderBytes

// paddingBytesMax is how much padding FindFrame looks behind: 32 times what
// FreeSWITCH sends at once. The limit keeps the search linear.
const paddingBytesMax = 4096

// FindFrame returns the offset of the first true frame of layer III in b, which
// may begin anywhere in a stream. Sound can look like a header, so a frame is
// true only if another of the same stream begins where it ends, or, since
// FreeSWITCH sends zeros when its encoder has nothing yet, behind zeros there.
// ok is false when b holds no such two headers.
func FindFrame(b []byte) (offset int, ok bool) {
	for offset < len(b) {
		i := bytes.IndexByte(b[offset:], 0xFF)
		if i < 0 {
			return 0, false
		}
		offset += i
		if len(b)-offset < HeaderBytes {
			return 0, false
		}
		if trueFrame(b[offset:]) {
			return offset, true
		}
		offset++
	}
	return 0, false
}

func trueFrame(b []byte) bool {
	h, ok := Parse(b)
	if !ok || h.Layer != 3 || len(b) < h.FrameBytes+HeaderBytes {
		return false
	}
	next := b[h.FrameBytes:min(len(b), h.FrameBytes+paddingBytesMax)]
	next = bytes.TrimLeft(next, "\x00")
	if len(next) < HeaderBytes {
		return false
	}
	g, ok := Parse(next)
	return ok && g.SameStream(&h)
}
