package audio

import (
	"bytes"
	"io"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// TestMP3CutReservoir: what was asked for sounds bit by bit as in the whole,
// although its bytes may be in frames before, and begins little earlier.
func TestMP3CutReservoir(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	wav, mp3 := filepath.Join(dir, "in.wav"), filepath.Join(dir, "out.mp3")
	lively(t, wav, 44100, 2)
	items := map[string][]byte{
		"lame":   lame(t, wav, mp3, 44100, "-t", "-b", "64"),
		"header": lame(t, wav, mp3, 44100, "-b", "64"),
	}
	for _, name := range []string{"rec-icecast", "urec-stereo", "urec-16k"} {
		items[name], _ = freeswitchFile(t, name)
	}
	for name, item := range items {
		info := mustProbe(t, item)
		whole := decodeAll(t, bytes.NewReader(item), info)
		const first, last, step = 300 * time.Millisecond, 500 * time.Millisecond, 170 * time.Millisecond
		for from := first; from < info.Duration()-last; from += step {
			b, err := io.ReadAll(NewMP3Cut(bytes.NewReader(item), from, 0))
			if err != nil {
				t.Fatal(err)
			}
			got := decodeAll(t, bytes.NewReader(b), mustProbe(t, b))
			got = got[:len(got)-int(info.EncoderPadding)*info.Channels] // the cut does not know
			at := samplesIn(from, info.SampleRate) * info.Channels
			if len(got) < len(whole)-at || len(got) > len(whole)-at+6*1152*info.Channels {
				t.Fatalf("%s from %v: %d samples of %d", name, from, len(got), len(whole)-at)
			}
			got, want := got[len(got)-(len(whole)-at):], whole[at:]
			if !slices.Equal(got, want) {
				t.Errorf("%s from %v: other sound", name, from)
			}
		}
	}
}
