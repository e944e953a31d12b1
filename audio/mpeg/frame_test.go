package mpeg_test

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"carillon/audio/audiotest"
	"carillon/audio/mpeg"
)

func TestParseFrameHeader(t *testing.T) {
	tests := []struct {
		name string
		b    []byte
		want mpeg.Header
	}{
		{"freeswitch 8 kHz", []byte{0xFF, 0xE3, 0x28, 0xC4}, mpeg.Header{
			Version: mpeg.V25, Layer: 3, BitRate: 16000, SampleRate: 8000, Mode: mpeg.ModeMono, Channels: 1,
			FrameBytes: 144, Samples: 576,
		}},
		{"freeswitch 16 kHz", []byte{0xFF, 0xF3, 0x48, 0xC4}, mpeg.Header{
			Version: mpeg.V2, Layer: 3, BitRate: 32000, SampleRate: 16000, Mode: mpeg.ModeMono, Channels: 1,
			FrameBytes: 144, Samples: 576,
		}},
		{"music, padded", []byte{0xFF, 0xFB, 0x92, 0x64}, mpeg.Header{
			Version: mpeg.V1, Layer: 3, BitRate: 128000, SampleRate: 44100, Padding: true, Mode: mpeg.ModeJointStereo,
			ModeExtension: 2, Channels: 2, FrameBytes: 418, Samples: 1152,
		}},
		{"longest", []byte{0xFF, 0xFA, 0xEA, 0x00}, mpeg.Header{
			Version: mpeg.V1, Layer: 3, CRC: true, BitRate: 320000, SampleRate: 32000, Padding: true, Channels: 2,
			FrameBytes: mpeg.FrameBytesMax, Samples: 1152,
		}},
		{"layer II", []byte{0xFF, 0xFD, 0xA4, 0x40}, mpeg.Header{
			Version: mpeg.V1, Layer: 2, BitRate: 192000, SampleRate: 48000, Mode: mpeg.ModeJointStereo, Channels: 2,
			FrameBytes: 576, Samples: 1152,
		}},
		{"layer I", []byte{0xFF, 0xFF, 0xC4, 0x00}, mpeg.Header{
			Version: mpeg.V1, Layer: 1, BitRate: 384000, SampleRate: 48000, Channels: 2, FrameBytes: 384, Samples: 384,
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := mpeg.ParseHeader(tt.b)
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
		if h, err := mpeg.ParseHeader(b); !errors.Is(err, mpeg.ErrNoFrame) {
			t.Errorf("%s: got %+v, %v, want mpeg.ErrNoFrame", name, h, err)
		}
	}
	if _, err := mpeg.ParseHeader([]byte{0xFF, 0xFB, 0, 0}); !errors.Is(err, mpeg.ErrFreeFormat) {
		t.Errorf("free format: %v, want mpeg.ErrFreeFormat", err)
	}
}

// TestParseFrameHeaderAll walks every header: none may be longer than the limit
// that buffers are made for, or of no length.
func TestParseFrameHeaderAll(t *testing.T) {
	valid, longest := 0, 0
	for n := range 1 << 21 {
		b := [4]byte{0xFF, 0xE0 | byte(n>>16), byte(n >> 8), byte(n)}
		h, err := mpeg.ParseHeader(b[:])
		if err != nil {
			continue
		}
		valid++
		if h.FrameBytes < mpeg.HeaderBytes || h.Samples < 384 || h.SampleRate < 8000 || h.Channels < 1 {
			t.Fatalf("%x: %+v", b, h)
		}
		if h.Layer == 3 {
			longest = max(longest, h.FrameBytes)
		}
	}
	if longest != mpeg.FrameBytesMax {
		t.Errorf("longest frame of layer III is %d, want %d", longest, mpeg.FrameBytesMax)
	}
	// 3 versions, 3 layers, 2 crc, 14 bit rates, 3 rates, 2 padding, 2 private,
	// 64 of modes and rights, 3 emphases.
	if want := 3 * 3 * 2 * 14 * 3 * 2 * 2 * 64 * 3; valid != want {
		t.Errorf("%d valid headers, want %d", valid, want)
	}
}

func TestFindFrame(t *testing.T) {
	frames := audiotest.Telephone(t, 4)
	fake := []byte{1, 2, 0xFF, 0xE3, 0x28, 0xC4, 3, 4, 5}
	gapped := slices.Concat(audiotest.Telephone(t, 1), make([]byte, 128), audiotest.Telephone(t, 2))
	tests := []struct {
		name string
		b    []byte
		want int
		ok   bool
	}{
		{"at once", frames, 0, true},
		{"mid frame", frames[100:], 44, true},
		{"behind what looks like one", slices.Concat(fake, frames), len(fake), true},
		{"before zeros", gapped, 0, true},
		{"mid frame before zeros", gapped[1:], 144 + 128 - 1, true},
		{"one frame and a header", frames[:148], 0, true},
		{"only one frame", frames[:147], 0, false},
		{"nothing", nil, 0, false},
		{"no frame", bytes.Repeat([]byte{0xFF}, 3000), 0, false},
		{"zeros behind", slices.Concat(frames[:144], make([]byte, 500)), 0, false},
		{"layer II", audiotest.Frames(t, 3, 0xFF, 0xFD, 0x94, 0x00), 0, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, ok := mpeg.FindFrame(tt.b)
			if got != tt.want || ok != tt.ok {
				t.Errorf("got %d, %v, want %d, %v", got, ok, tt.want, tt.ok)
			}
		})
	}
}

// TestFindFrameEverywhere joins a stream of the longest frames at each byte: the
// stated number of bytes is enough.
func TestFindFrameEverywhere(t *testing.T) {
	b := audiotest.Frames(t, 5, 0xFF, 0xFB, 0xEA, 0x00)
	for i := range 2 * mpeg.FrameBytesMax {
		got, ok := mpeg.FindFrame(b[i : i+mpeg.FindFrameBytesMin])
		if !ok || (i+got)%mpeg.FrameBytesMax != 0 || got >= mpeg.FrameBytesMax {
			t.Fatalf("joined at %d: %d, %v", i, got, ok)
		}
	}
}

func FuzzFindFrame(f *testing.F) {
	f.Add([]byte("\xff\xe3\x28\xc4"))
	f.Fuzz(func(t *testing.T, b []byte) {
		n, ok := mpeg.FindFrame(b)
		if !ok {
			return
		}
		h, err := mpeg.ParseHeader(b[n:])
		if err != nil || h.Layer != 3 || n+h.FrameBytes+mpeg.HeaderBytes > len(b) {
			t.Fatalf("frame at %d of %d: %+v, %v", n, len(b), h, err)
		}
	})
}
