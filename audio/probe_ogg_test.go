package audio

import (
	"encoding/binary"
	"testing"
)

// oggPageBytes is a page with one packet and no checksum, which the probe does
// not look at.
func oggPageBytes(flags byte, position int64, serial uint32, packet []byte) []byte {
	b := make([]byte, 27, 27+len(packet)/255+1+len(packet))
	copy(b, "OggS")
	b[5] = flags
	binary.LittleEndian.PutUint64(b[6:], uint64(position))
	binary.LittleEndian.PutUint32(b[14:], serial)
	rest := len(packet)
	for ; rest >= 255; rest -= 255 {
		b = append(b, 255)
	}
	b = append(b, byte(rest))
	b[26] = byte(len(b) - 27)
	return append(b, packet...)
}

func opusHead(channels, preSkip int) []byte {
	b := make([]byte, 19)
	copy(b, "OpusHead\x01")
	b[9] = byte(channels)
	binary.LittleEndian.PutUint16(b[10:], uint16(preSkip))
	binary.LittleEndian.PutUint32(b[12:], 8000)
	return b
}

// oggFile is one second of Opus and a strange stream beside it.
func oggFile() []byte {
	return join(
		oggPageBytes(2, 0, 5, []byte("strange")),
		oggPageBytes(2, 0, 7, opusHead(1, 312)),
		oggPageBytes(0, 0, 7, []byte("OpusTags")),
		oggPageBytes(0, 1<<30, 5, make([]byte, 400)),
		oggPageBytes(0, 24000, 7, make([]byte, 1000)),
		oggPageBytes(0, -1, 7, make([]byte, 1000)),
		oggPageBytes(4, 48312, 7, make([]byte, 1000)),
	)
}

func TestProbeOgg(t *testing.T) {
	one := oggFile()
	info := mustProbe(t, one)
	if info.Codec != "opus" || info.SampleRate != 48000 || info.Samples != 48000 || info.Truncated {
		t.Errorf("one second of opus: %+v", info)
	}
	if info.BitRate != len(one)*8 {
		t.Errorf("bit rate %d, want %d", info.BitRate, len(one)*8)
	}
	if info := mustProbe(t, join(one, []byte("garbage"), one)); info.Samples != 96000 || info.GarbageBytes != 7 {
		t.Errorf("two links with garbage between: %+v", info)
	}
	cut := mustProbe(t, one[:len(one)-1])
	if cut.Samples != 24000-312 || !cut.Truncated {
		t.Errorf("cut in the last page: %+v", cut)
	}
}
