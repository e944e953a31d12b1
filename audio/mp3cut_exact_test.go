package audio

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"carillon/audio/audiotest"
)

// TestMP3CutExact: what was asked for sounds bit by bit as in the whole, although
// its bytes may be in frames before, and nothing else sounds: for us, and for
// mpg123.
func TestMP3CutExact(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	wav, mp3 := filepath.Join(dir, "in.wav"), filepath.Join(dir, "out.mp3")
	lively(t, wav, 44100, 2)
	items := map[string][]byte{
		"lame":   lame(t, wav, mp3, 44100, "-t", "-b", "64"),
		"header": lame(t, wav, mp3, 44100, "-b", "64"),
		"vbr":    lame(t, wav, mp3, 22050, "-V", "4"),
	}
	for _, name := range []string{"rec-icecast", "urec-stereo", "urec-16k"} {
		items[name], _ = freeswitchFile(t, name)
	}
	for name, item := range items {
		info := mustProbe(t, item)
		whole := decodeAll(t, bytes.NewReader(item), info)
		played := info.PlayedSamples()
		for i := range int64(12) {
			from, to := played/2*i/12, played-played/4*i/12-i
			b, err := io.ReadAll(NewMP3Cut(bytes.NewReader(item), info, from, to))
			if err != nil {
				t.Fatal(err)
			}
			cutInfo := mustProbe(t, b)
			got := decodeAll(t, bytes.NewReader(b), cutInfo)
			want := whole[from*int64(info.Channels) : to*int64(info.Channels)]
			if !slices.Equal(got, want) {
				t.Fatalf("%s from %d to %d: %d samples of %d, %+v", name, from, to, len(got), len(want), cutInfo)
			}
			if i%4 > 0 {
				continue
			}
			if err := os.WriteFile(mp3, b, 0o600); err != nil {
				t.Fatal(err)
			}
			rms, worst := audiotest.Difference(audiotest.MPG123(t, mp3), want)
			if rms > audiotest.ExactRMS || worst > 1 {
				t.Errorf("%s from %d to %d: mpg123 hears others: rms %.1f, worst %d", name, from, to, rms, worst)
			}
		}
	}
}
