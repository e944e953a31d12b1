package audiotest

import (
	"bytes"
	"encoding/binary"
	"math"
	"os/exec"
	"strings"
	"testing"

	"carillon/audio/mpeg"
)

// ExactRMS is what rounding alone leaves between two decoders that compute the
// same in different ways; one in a thousand samples is on the edge. The promise
// is 1.
const ExactRMS = 0.08

// Tool runs one of the programs that the tests compare with, and returns what it
// says.
func Tool(tb testing.TB, name string, args ...string) []byte {
	tb.Helper()
	cmd := exec.CommandContext(tb.Context(), name, args...) //nolint:gosec // the tests say what runs
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		tb.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, stderr.Bytes())
	}
	return out
}

// MPG123 is the sound of a file as mpg123 has it, without gaps, its channels in
// turn.
func MPG123(tb testing.TB, file string) []int16 {
	tb.Helper()
	return Samples(Tool(tb, "mpg123", "-q", "-s", file))
}

// Samples are those of raw little-endian sound of 16 bits.
func Samples(raw []byte) []int16 {
	pcm := make([]int16, len(raw)/2)
	for i := range pcm {
		pcm[i] = int16(binary.LittleEndian.Uint16(raw[2*i:]))
	}
	return pcm
}

// Difference of two signals in least bits; of other lengths it is infinite, and
// worst is by how many samples.
func Difference(a, b []int16) (rms float64, worst int) {
	if len(a) != len(b) {
		return math.Inf(1), len(a) - len(b)
	}
	sum := 0.0
	for i := range a {
		d := int(a[i]) - int(b[i])
		worst = max(worst, d, -d)
		sum += float64(d * d)
	}
	return math.Sqrt(sum / float64(len(a))), worst
}

// Noise is one second that is white below half the bandwidth, and loud.
func Noise(sampleRate int) []int16 {
	pcm := make([]int16, sampleRate)
	seed, last := uint32(1), 0.0
	for i := range pcm {
		seed = seed*1664525 + 1013904223
		v := float64(int32(seed)) / math.MaxInt32
		pcm[i] = int16(math.Round(math.MaxInt16 * min(max(0.45*(v+last), -1), 1)))
		last = v
	}
	return pcm
}

// Frames are n frames with the header head (its CRC bit as it is) whose content
// has no sync word.
func Frames(tb testing.TB, n int, head ...byte) []byte {
	tb.Helper()
	h, err := mpeg.ParseHeader(head)
	if err != nil {
		tb.Fatal(err)
	}
	frame := bytes.Repeat([]byte{0x55}, h.FrameBytes)
	copy(frame, head)
	return bytes.Repeat(frame, n)
}

// Telephone is n frames as FreeSWITCH sends them: 16 kbit/s mono at 8 kHz.
func Telephone(tb testing.TB, n int) []byte {
	tb.Helper()
	return Frames(tb, n, 0xFF, 0xE3, 0x28, 0xC4)
}
