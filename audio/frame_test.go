package audio

import (
	"bytes"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseFrameHeader(t *testing.T) {
	tests := []struct {
		name string
		b    []byte
		want FrameHeader
	}{
		{"freeswitch 8 kHz", []byte{0xFF, 0xE3, 0x28, 0xC4}, FrameHeader{
			Version: MPEG25, Layer: 3, BitRate: 16000, SampleRate: 8000, Mode: ModeMono, Channels: 1,
			FrameBytes: 144, Samples: 576,
		}},
		{"freeswitch 16 kHz", []byte{0xFF, 0xF3, 0x48, 0xC4}, FrameHeader{
			Version: MPEG2, Layer: 3, BitRate: 32000, SampleRate: 16000, Mode: ModeMono, Channels: 1,
			FrameBytes: 144, Samples: 576,
		}},
		{"music, padded", []byte{0xFF, 0xFB, 0x92, 0x64}, FrameHeader{
			Version: MPEG1, Layer: 3, BitRate: 128000, SampleRate: 44100, Padding: true, Mode: ModeJointStereo,
			ModeExtension: 2, Channels: 2, FrameBytes: 418, Samples: 1152,
		}},
		{"longest", []byte{0xFF, 0xFA, 0xEA, 0x00}, FrameHeader{
			Version: MPEG1, Layer: 3, CRC: true, BitRate: 320000, SampleRate: 32000, Padding: true, Channels: 2,
			FrameBytes: FrameBytesMax, Samples: 1152,
		}},
		{"layer II", []byte{0xFF, 0xFD, 0xA4, 0x40}, FrameHeader{
			Version: MPEG1, Layer: 2, BitRate: 192000, SampleRate: 48000, Mode: ModeJointStereo, Channels: 2,
			FrameBytes: 576, Samples: 1152,
		}},
		{"layer I", []byte{0xFF, 0xFF, 0xC4, 0x00}, FrameHeader{
			Version: MPEG1, Layer: 1, BitRate: 384000, SampleRate: 48000, Channels: 2, FrameBytes: 384, Samples: 384,
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ParseFrameHeader(tt.b)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestParseFrameHeaderErrors(t *testing.T) {
	for name, b := range map[string][]byte{
		"nothing": nil, "short": {0xFF, 0xFB, 0x90}, "no sync": {0xFE, 0xFB, 0x90, 0},
		"version 1": {0xFF, 0xEB, 0x90, 0},
		"layer 0":   {0xFF, 0xF9, 0x90, 0}, "bit rate 15": {0xFF, 0xFB, 0xF0, 0}, "rate 3": {0xFF, 0xFB, 0x9C, 0},
		"emphasis 2": {0xFF, 0xFB, 0x90, 2}, "free and rate 3": {0xFF, 0xFB, 0x0C, 0},
	} {
		if h, err := ParseFrameHeader(b); !errors.Is(err, ErrNoFrame) {
			t.Errorf("%s: got %+v, %v, want ErrNoFrame", name, h, err)
		}
	}
	if _, err := ParseFrameHeader([]byte{0xFF, 0xFB, 0, 0}); !errors.Is(err, ErrFreeFormat) {
		t.Errorf("free format: %v, want ErrFreeFormat", err)
	}
}

// TestParseFrameHeaderAll walks every header: none may be longer than the limit
// that buffers are made for, or of no length.
func TestParseFrameHeaderAll(t *testing.T) {
	valid, longest := 0, 0
	for n := range 1 << 21 {
		b := [4]byte{0xFF, 0xE0 | byte(n>>16), byte(n >> 8), byte(n)}
		h, err := ParseFrameHeader(b[:])
		if err != nil {
			continue
		}
		valid++
		if h.FrameBytes < FrameHeaderBytes || h.Samples < 384 || h.SampleRate < 8000 || h.Channels < 1 {
			t.Fatalf("%x: %+v", b, h)
		}
		if h.Layer == 3 {
			longest = max(longest, h.FrameBytes)
		}
	}
	if longest != FrameBytesMax {
		t.Errorf("longest frame of layer III is %d, want %d", longest, FrameBytesMax)
	}
	// 3 versions, 3 layers, 2 crc, 14 bit rates, 3 rates, 2 padding, 2 private,
	// 64 of modes and rights, 3 emphases.
	if want := 3 * 3 * 2 * 14 * 3 * 2 * 2 * 64 * 3; valid != want {
		t.Errorf("%d valid headers, want %d", valid, want)
	}
}

func TestFindFrame(t *testing.T) {
	frames := telephone(t, 4)
	fake := []byte{1, 2, 0xFF, 0xE3, 0x28, 0xC4, 3, 4, 5}
	gapped := join(telephone(t, 1), make([]byte, 128), telephone(t, 2))
	tests := []struct {
		name string
		b    []byte
		want int
		ok   bool
	}{
		{"at once", frames, 0, true},
		{"mid frame", frames[100:], 44, true},
		{"behind what looks like one", join(fake, frames), len(fake), true},
		{"before zeros", gapped, 0, true},
		{"mid frame before zeros", gapped[1:], 144 + 128 - 1, true},
		{"one frame and a header", frames[:148], 0, true},
		{"only one frame", frames[:147], 0, false},
		{"nothing", nil, 0, false},
		{"no frame", bytes.Repeat([]byte{0xFF}, 3000), 0, false},
		{"zeros behind", join(frames[:144], make([]byte, 500)), 0, false},
		{"layer II", fakeFrames(t, 3, 0xFF, 0xFD, 0x94, 0x00), 0, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, ok := FindFrame(tt.b)
			if got != tt.want || ok != tt.ok {
				t.Errorf("got %d, %v, want %d, %v", got, ok, tt.want, tt.ok)
			}
		})
	}
}

// TestFindFrameEverywhere joins a stream of the longest frames at each byte: the
// stated number of bytes is enough.
func TestFindFrameEverywhere(t *testing.T) {
	b := fakeFrames(t, 5, 0xFF, 0xFB, 0xEA, 0x00)
	for i := range 2 * FrameBytesMax {
		got, ok := FindFrame(b[i : i+FindFrameBytesMin])
		if !ok || (i+got)%FrameBytesMax != 0 || got >= FrameBytesMax {
			t.Fatalf("joined at %d: %d, %v", i, got, ok)
		}
	}
}

func FuzzFindFrame(f *testing.F) {
	f.Add([]byte("\xff\xe3\x28\xc4"))
	f.Fuzz(func(t *testing.T, b []byte) {
		n, ok := FindFrame(b)
		if !ok {
			return
		}
		h, err := ParseFrameHeader(b[n:])
		if err != nil || h.Layer != 3 || n+h.FrameBytes+FrameHeaderBytes > len(b) {
			t.Fatalf("frame at %d of %d: %+v, %v", n, len(b), h, err)
		}
	})
}
