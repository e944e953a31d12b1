package audio

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"carillon/audio/audiotest"
)

// speech is a sentence that ffmpeg's flite says.
func speech(t *testing.T, file string, rate int) []int16 {
	t.Helper()
	text := "flite=voice=slt:text='Please leave your message after the tone. When you are finished, hang up, " +
		"or press the pound key for more options.'"
	audiotest.Tool(t, "ffmpeg", "-v", "error", "-y", "-f", "lavfi", "-i", text, "-ar", strconv.Itoa(rate), file)
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return decodeAll(t, bytes.NewReader(b), mustProbe(t, b))
}

// segmentalSNR is the mean signal to noise ratio of what is not silent, in
// pieces of 20 ms, each counted as -10 to 35 dB.
func segmentalSNR(in, out []int16, rate int) float64 {
	n := rate / 50
	sum, pieces := 0.0, 0
	for ; len(in) >= n && len(out) >= n; in, out = in[n:], out[n:] {
		if level(in[:n]) > 30 {
			sum += min(max(snrBetween(in, out, n), -10), 35)
			pieces++
		}
	}
	return sum / float64(max(pieces, 1))
}

// encodeForm makes a form of MP3 of one item in WAV.
func encodeForm(t *testing.T, pcm []int16, rate, channels int, form Form) ([]byte, Info) {
	t.Helper()
	wav, info := wavOf(t, pcm, rate, channels)
	form.Container = ContainerMP3
	b := convertAll(t, wav, info, form)
	if size, ok := form.Size(info); !ok || size != int64(len(b)) {
		t.Errorf("%d bytes, want %d", len(b), size)
	}
	return b, mustProbe(t, b)
}

// TestMP3Exact: of every rate and both channel counts comes out, in mpg123 and
// in our decoder, as many samples as went in, each at its place.
func TestMP3Exact(t *testing.T) {
	t.Parallel()
	for rate := range encoderRates() {
		for channels := 1; channels <= 2; channels++ {
			t.Run(fmt.Sprintf("%d/%d", rate, channels), func(t *testing.T) {
				t.Parallel()
				left, right := Melody(rate, 1500*time.Millisecond), Sine(rate, 600, 0.3, 1500*time.Millisecond)
				pcm := left
				if channels == 2 {
					pcm = interleave(left, right)
				}
				b, info := encodeForm(t, pcm, rate, channels, Form{})
				if info.SampleRate != rate || info.Channels != channels || info.VBR || info.GarbageBytes != 0 ||
					info.PlayedSamples() != int64(len(left)) {
					t.Errorf("%+v of %d samples", info, len(left))
				}
				file := filepath.Join(t.TempDir(), "out.mp3")
				if err := os.WriteFile(file, b, 0o600); err != nil {
					t.Fatal(err)
				}
				decodeWith(t, "ffmpeg", file) // it must not complain
				for who, out := range map[string][]int16{
					"mpg123": audiotest.MPG123(t, file), "we": decodeAll(t, bytes.NewReader(b), info),
				} {
					if len(out) != len(pcm) {
						t.Fatalf("%s: %d samples, want %d", who, len(out), len(pcm))
					}
					for c := range channels {
						in, got := channel(pcm, channels, c), channel(out, channels, c)
						if snr := segmentalSNR(in, got, rate); snr < 32 {
							t.Errorf("%s: channel %d: %.1f dB", who, c, snr)
						}
					}
				}
			})
		}
	}
}

func interleave(left, right []int16) []int16 {
	pcm := make([]int16, 0, 2*len(left))
	for i, v := range left {
		pcm = append(pcm, v, right[i])
	}
	return pcm
}

func channel(pcm []int16, channels, c int) []int16 {
	var one []int16
	for i := c; i < len(pcm); i += channels {
		one = append(one, pcm[i])
	}
	return one
}

// TestMP3Quality compares with LAME at the same bit rate, over speech, music and
// noise. LAME shapes its noise by a model of hearing and we do not, so that a
// ratio above its own says little; one that is far below would.
func TestMP3Quality(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		what    string
		rate    int
		bitRate int
		least   float64 // dB
	}{
		{"speech", 8000, 16, 23},
		{"speech", 8000, 32, 29},
		{"speech", 16000, 56, 30},
		{"speech", 44100, 128, 34},
		{"music", 8000, 32, 34},
		{"music", 44100, 128, 34},
		{"noise", 8000, 32, 19},
		{"strokes", 16000, 56, 27},
	} {
		t.Run(fmt.Sprintf("%s/%d/%d", tt.what, tt.rate, tt.bitRate), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			wav, mp3 := filepath.Join(dir, "in.wav"), filepath.Join(dir, "out.mp3")
			pcm := soundOf(t, tt.what, wav, tt.rate)
			b, info := encodeForm(t, pcm, tt.rate, 1, Form{BitRate: tt.bitRate * 1000})
			ours := segmentalSNR(pcm, decodeAll(t, bytes.NewReader(b), info), tt.rate)

			// LAME takes 5 % off, which alone would be 26 dB.
			theirs := lame(t, wav, mp3, tt.rate, "-b", strconv.Itoa(tt.bitRate), "-m", "m", "--scale", "1.0526316")
			out := decodeAll(t, bytes.NewReader(theirs), mustProbe(t, theirs))
			if len(out) > len(pcm) {
				out = out[min(1105, len(out)):] // no room for a header frame
			}
			peer := segmentalSNR(pcm, out, tt.rate)
			t.Logf("%.1f dB, LAME %.1f dB", ours, peer)
			if ours < tt.least || ours < peer-1 {
				t.Errorf("%.1f dB, want %.1f; LAME has %.1f dB", ours, tt.least, peer)
			}
		})
	}
}

// TestMP3Onset: the noise of a stroke out of silence does not begin before it,
// and what does is no more than LAME's.
func TestMP3Onset(t *testing.T) {
	t.Parallel()
	const rate, strokes = 8000, 12
	pcm := make([]int16, 3*rate)
	at := func(i int) int { return rate/4 + i*1709 } // anywhere in a granule
	for i := range strokes {
		for n, v := range audiotest.Noise(rate)[:500] {
			pcm[at(i)+n] = int16(float64(v) * math.Exp(-float64(n)/100))
		}
	}
	dir := t.TempDir()
	wav, mp3 := filepath.Join(dir, "in.wav"), filepath.Join(dir, "out.mp3")
	b, _ := wavOf(t, pcm, rate, 1)
	if err := os.WriteFile(wav, b, 0o600); err != nil {
		t.Fatal(err)
	}
	before := func(mp3 []byte) float64 {
		out := decodeAll(t, bytes.NewReader(mp3), mustProbe(t, mp3))
		sum := 0.0
		for i := range strokes {
			// From a granule before to where a short block may reach.
			for _, v := range out[at(i)-576 : at(i)-288] {
				sum += float64(v) * float64(v)
			}
		}
		return 10*math.Log10(sum/strokes/288+1e-9) - level(pcm)
	}
	ours, _ := encodeForm(t, pcm, rate, 1, Form{})
	theirs := lame(t, wav, mp3, rate, "-b", "32", "-m", "m")
	got, peer := before(ours), before(theirs)
	t.Logf("noise before strokes %.1f dB, LAME %.1f dB", got, peer)
	if got > -40 {
		t.Errorf("noise before strokes %.1f dB of the sound, LAME has %.1f dB", got, peer)
	}
	seen := map[string]int{}
	coverage(t, ours, seen)
	for _, what := range []string{"long", "start", "short", "stop"} {
		if seen[what] == 0 {
			t.Errorf("no %s blocks: %v", what, seen)
		}
	}
}

func soundOf(t *testing.T, what, wav string, rate int) []int16 {
	t.Helper()
	var pcm []int16
	switch what {
	case "speech":
		return speech(t, wav, rate)
	case "strokes":
		lively(t, wav, rate, 1)
		b, err := os.ReadFile(wav)
		if err != nil {
			t.Fatal(err)
		}
		return decodeAll(t, bytes.NewReader(b), mustProbe(t, b))
	case "music":
		pcm = Melody(rate, 4*time.Second)
	case "noise":
		pcm = audiotest.Noise(rate)
	}
	b, _ := wavOf(t, pcm, rate, 1)
	if err := os.WriteFile(wav, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return pcm
}

// TestMP3ToMP3 makes of a recording another of other rate and channels, which
// can be joined at any of its frames.
func TestMP3ToMP3(t *testing.T) {
	mail, info := freeswitchFile(t, "rec-icecast")
	form := Form{Container: ContainerMP3, SampleRate: 16000, Channels: 2}
	b := convertAll(t, mail, info, form)
	got := mustProbe(t, b)
	if size, _ := form.Size(info); size != int64(len(b)) || got.PlayedSamples() != 2*info.PlayedSamples() ||
		got.SampleRate != 16000 || got.Channels != 2 || got.BitRate != 112_000 {
		t.Errorf("%d bytes, want %d: %+v", len(b), size, got)
	}
	want := audiotest.Samples(convertAll(t, mail, info,
		Form{Container: ContainerRaw, SampleRate: 16000, Channels: 2}))
	all := decodeAll(t, bytes.NewReader(b), got)
	if snr := segmentalSNR(channel(want, 2, 1), channel(all, 2, 1), 16000); snr < 25 {
		t.Errorf("%.1f dB", snr)
	}
	frameBytes := len(b) / int(got.Frames+1)
	for _, frame := range []int{2, 10, 100} {
		part := b[frame*frameBytes:]
		sound := decodeAll(t, bytes.NewReader(part), mustProbe(t, part))
		tail := 20 * 576 * 2
		// The end of the whole is cut, that of the part is not.
		rest := sound[:len(sound)-int(got.EncoderPadding)*2]
		if !slices.Equal(rest[len(rest)-tail:], all[len(all)-tail:]) {
			t.Errorf("joined at frame %d: other sound", frame)
		}
	}
}

// TestMP3Forms: what is filled in, and what is refused.
func TestMP3Forms(t *testing.T) {
	info := Info{Format: FormatWAV, Codec: "pcm_s16le", SampleRate: 8000, Channels: 1, Samples: 8000}
	for _, tt := range []struct {
		rate, channels int
		form, want     Form
	}{
		{8000, 1, Form{}, Form{"mp3", 8000, 1, 32_000}},
		{9000, 6, Form{}, Form{"mp3", 11025, 2, 80_000}},
		{96000, 2, Form{}, Form{"mp3", 48000, 2, 256_000}},
		{8000, 1, Form{SampleRate: 44100, BitRate: 64_000}, Form{"mp3", 44100, 1, 64_000}},
		{8000, 1, Form{SampleRate: 9000}, Form{}},
		{8000, 1, Form{BitRate: 31_000}, Form{}},
		{8000, 1, Form{BitRate: 320_000}, Form{}},
	} {
		info.SampleRate, info.Channels = tt.rate, tt.channels
		tt.form.Container = ContainerMP3
		got, err := tt.form.Of(info)
		if got != tt.want || (err != nil) != (tt.want == Form{}) {
			t.Errorf("%+v of %d Hz: %+v, %v, want %+v", tt.form, tt.rate, got, err, tt.want)
		}
	}
	// A growing source: no header frame, and no size.
	wav, info := wavOf(t, Melody(8000, time.Second), 8000, 1)
	info.Samples = SamplesUnknown
	b := convertAll(t, wav, info, Form{Container: ContainerMP3})
	if got := mustProbe(t, b); got.EncoderDelay != 0 || got.Samples < 8000+1057 {
		t.Errorf("%+v", got)
	}
	if _, ok := (Form{Container: ContainerMP3}).Size(info); ok {
		t.Error("what grows has a size")
	}
	if snr := segmentalSNR(make([]int16, 8000), make([]int16, 8000), 8000); math.IsNaN(snr) {
		t.Error("silence is no number")
	}
}
