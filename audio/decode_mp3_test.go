package audio

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"testing"
)

// TestDecodeMP3Corpus compares with mpg123, sample by sample.
func TestDecodeMP3Corpus(t *testing.T) {
	t.Parallel()
	for _, rate := range []int{8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000} {
		for channels := 1; channels <= 2; channels++ {
			t.Run(fmt.Sprintf("%d/%d", rate, channels), func(t *testing.T) {
				t.Parallel()
				dir := t.TempDir()
				wav := filepath.Join(dir, "tone.wav")
				tone(t, wav, rate, channels, 1.7)
				for _, args := range [][]string{
					{"-t", "-b", "64"}, {"-b", "32", "-m", "s"}, {"-b", "64", "-m", "j"},
					{"-t", "-V", "5"}, {"-V", "2"}, {"--abr", "40", "-p"}, {"-b", "64", "-m", "f"}, {"-b", "64", "--allshort"},
				} {
					mp3 := filepath.Join(dir, "out.mp3")
					all := append([]string{"-S", "--resample", strconv.FormatFloat(float64(rate)/1000, 'f', -1, 64)}, args...)
					tool(t, "lame", append(all, wav, mp3)...)
					b, err := os.ReadFile(mp3)
					if err != nil {
						t.Fatal(err)
					}
					got := decodeAll(t, bytes.NewReader(b), mustProbe(t, b))
					want := samplesOf(tool(t, "mpg123", "-q", "-s", mp3))
					rms, worst := difference(got, want)
					t.Logf("%v: %d and %d samples, rms %.4f, worst %d", args, len(got), len(want), rms, worst)
					if rms > 0.5 {
						t.Errorf("%v", args)
					}
				}
			})
		}
	}
}

func difference(a, b []int16) (rms float64, worst int) {
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
