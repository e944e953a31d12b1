package audio

import (
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"carillon/audio/audiotest"
)

// TestG711 compares what all codes stand for with ffmpeg, and the code of every
// sample with the decision values of G.711 (tables 1a and 2a), which begin with
// a step of two and double it with each segment.
func TestG711(t *testing.T) {
	var codes [256]byte
	for i := range codes {
		codes[i] = byte(i)
	}
	file := filepath.Join(t.TempDir(), "codes")
	if err := os.WriteFile(file, codes[:], 0o600); err != nil {
		t.Fatal(err)
	}
	for _, law := range []struct {
		name      string
		decode    func(byte) int16
		encode    func(int16) byte
		shift     int   // the samples of G.711 have 14 and 13 bits
		decisions []int // upper ends of the first segment's steps
		segments  int   // with steps of their own
		invert    byte
	}{
		{"mulaw", mulawDecode, mulawEncode, 2, []int{1}, 8, 0x7F},
		{"alaw", alawDecode, alawEncode, 3, nil, 7, 0x55},
	} {
		want := audiotest.Samples(audiotest.Tool(t, "ffmpeg", "-v", "error", "-f", law.name, "-i", file,
			"-f", "s16le", "-"))
		for i, v := range want {
			if got := law.decode(byte(i)); got != v {
				t.Errorf("%s: %#x stands for %d, want %d", law.name, i, got, v)
			}
		}
		decisions := law.decisions
		last := append([]int{0}, decisions...)[len(decisions)]
		for segment := range law.segments {
			steps := 16
			if segment == 0 {
				steps = 128 - len(decisions) - 16*(law.segments-1)
			}
			for range steps {
				last += 2 << segment
				decisions = append(decisions, last)
			}
		}
		for v := range math.MaxInt16 + 1 {
			magnitude, found := slices.BinarySearch(decisions, v>>law.shift)
			if found {
				magnitude++
			}
			code := byte(min(magnitude, 127)) ^ law.invert
			if got := law.encode(int16(v)); got != code|0x80 {
				t.Fatalf("%s: code of %d is %#x, want %#x", law.name, v, got, code)
			}
			if got := law.encode(int16(-1 - v)); got != law.encode(int16(v))^0x80 {
				t.Fatalf("%s: code of %d is %#x", law.name, -1-v, got)
			}
		}
	}
}
