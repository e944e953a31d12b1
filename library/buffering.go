package library

import (
	"context"
	"errors"
	"io"

	"carillon/audio"
	"carillon/blobstore"
)

// bufferingBytes is what a FreeSWITCH that buffers file writes sends of a
// recording that is shorter than its buffer of 4.1 s: six frames of 144 bytes,
// all silence, when the call is over (freeswitch-wire.md 2.5). The caller's
// words are lost then, and nothing but this tells it.
const bufferingBytes = 864

// bufferingWarning is WarningWriteBuffering for a sealed recording with that
// mark, else "".
func (l *Library) bufferingWarning(ctx context.Context, blob blobstore.ID, size int64) string {
	if size != bufferingBytes {
		return ""
	}
	r, err := l.shelf.Open(ctx, blob)
	if err != nil {
		return "" // it is a hint, not worth failing a seal for
	}
	p, err := io.ReadAll(io.LimitReader(r, bufferingBytes))
	if err = errors.Join(err, r.Close()); err != nil || !silentFrames(p) {
		return ""
	}
	return WarningWriteBuffering
}

// silentFrames says whether p is whole MPEG-2 or 2.5 frames, one behind the
// other, none of which codes any sound.
func silentFrames(p []byte) bool {
	for len(p) > 0 {
		h, err := audio.ParseFrameHeader(p)
		if err != nil || h.FrameBytes > len(p) || h.Version == audio.MPEG1 || !silentFrame(p[4:h.FrameBytes], h.Channels) {
			return false
		}
		p = p[h.FrameBytes:]
	}
	return true
}

// silentFrame looks at the side information (ISO 13818-3 2.4.1.7): after eight
// bits of main_data_begin and one private bit a channel comes the first 12-bit
// part2_3_length; the next channel's is 63 bits further. Zero is no data at all.
func silentFrame(side []byte, channels int) bool {
	const (
		firstBits   = 8
		channelBits = 63
		lengthBits  = 12
	)
	for c := range channels {
		at := firstBits + channels + c*channelBits
		for bit := at; bit < at+lengthBits; bit++ {
			if bit/8 >= len(side) || side[bit/8]&(0x80>>(bit%8)) != 0 {
				return false
			}
		}
	}
	return true
}
