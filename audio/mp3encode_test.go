package audio

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"carillon/audio/audiotest"
	"carillon/audio/layer3"
	"carillon/audio/mpeg"
)

// rates are the nine sample rates, each with the bit rate that FreeSWITCH would
// use or the nearest there is.
func encoderRates() map[int]int {
	return map[int]int{
		8000: 16000, 11025: 24000, 12000: 24000, 16000: 32000, 22050: 48000, 24000: 48000,
		32000: 64000, 44100: 96000, 48000: 96000,
	}
}

// decoders turn a file into samples. Both fail the test when they complain.
func decodeWith(t *testing.T, decoder, file string) []int16 {
	t.Helper()
	wav := filepath.Join(t.TempDir(), "out.raw")
	var messages string
	switch decoder {
	case "mpg123":
		messages = string(toolMessages(t, "mpg123", "-q", "--no-gapless", "-O", wav, file))
	case "ffmpeg":
		messages = string(toolMessages(t, "ffmpeg", "-v", "warning", "-y", "-i", file, "-f", "s16le", wav))
	}
	for line := range strings.Lines(messages) {
		// That is true of every file without a header frame.
		if !strings.Contains(line, "Estimating duration from bitrate") {
			t.Errorf("%s: %s", decoder, line)
		}
	}
	b, err := os.ReadFile(wav)
	if err != nil {
		t.Fatal(err)
	}
	pcm := make([]int16, len(b)/2)
	for i := range pcm {
		pcm[i] = int16(binary.LittleEndian.Uint16(b[2*i:]))
	}
	return pcm
}

// TestEncodeMP3Decodes: mpg123 and ffmpeg decode a tone at every sample rate
// without complaint, as long as it should be, at its level, as clean as the bit
// rate lets it be.
func TestEncodeMP3Decodes(t *testing.T) {
	t.Parallel()
	const seconds, hz = 2, 440
	for sampleRate, bitRate := range encoderRates() {
		t.Run(strconv.Itoa(sampleRate), func(t *testing.T) {
			t.Parallel()
			in := Sine(sampleRate, hz, 0.5, seconds*time.Second)
			file := encodeFile(t, in, sampleRate, bitRate)
			info := checkMP3(t, file, sampleRate, 1)
			if info.BitRate != bitRate || info.VBR {
				t.Errorf("%d bit/s, vbr %v", info.BitRate, info.VBR)
			}
			for _, decoder := range []string{"mpg123", "ffmpeg"} {
				out := decodeWith(t, decoder, file)
				if int64(len(out)) != info.Samples {
					t.Errorf("%s: %d samples, want %d", decoder, len(out), info.Samples)
				}
				if got := dominant(out[sampleRate/2:][:8000], sampleRate); math.Abs(got-hz) > 2 {
					t.Errorf("%s: dominant frequency %.1f Hz", decoder, got)
				}
				delay, snr := bestSNR(in, out)
				t.Logf("%s: delay %d, signal to noise %.1f dB", decoder, delay, snr)
				if snr < 45 {
					t.Errorf("%s: signal to noise %.1f dB", decoder, snr)
				}
			}
		})
	}
}

// TestEncodeMP3Rich takes a loud signal with every line in use at the ends of
// the bit rates: the big Huffman tables and their escapes, and hardly any room.
func TestEncodeMP3Rich(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		sampleRate, bitRate int
		snr                 float64
	}{
		{8000, 8000, 2},
		{8000, 64000, 32},
		{8000, 160000, 32},
		{16000, 8000, 0.4},
		{24000, 160000, 30},
		{32000, 320000, 32},
		{44100, 32000, 1.5},
		{48000, 320000, 30},
	} {
		t.Run(fmt.Sprintf("%d/%d", tt.sampleRate, tt.bitRate), func(t *testing.T) {
			t.Parallel()
			in := audiotest.Noise(tt.sampleRate)
			file := encodeFile(t, in, tt.sampleRate, tt.bitRate)
			checkMP3(t, file, tt.sampleRate, 1)
			for _, decoder := range []string{"mpg123", "ffmpeg"} {
				delay, snr := bestSNR(in, decodeWith(t, decoder, file))
				t.Logf("%s: signal to noise %.1f dB", decoder, snr)
				if delay != layer3.EncoderDelay || snr < tt.snr {
					t.Errorf("%s: delay %d, signal to noise %.1f dB, want %d, %.1f",
						decoder, delay, snr, layer3.EncoderDelay, tt.snr)
				}
			}
		})
	}
}

// TestMelody: what the demo plays comes out as it went in.
func TestMelody(t *testing.T) {
	in := Melody(8000, 6*time.Second)
	if !slices.Equal(in, Melody(8000, 6*time.Second)) {
		t.Error("two melodies differ")
	}
	if peak := slices.Max(in); peak < 8000 || peak > 30000 {
		t.Errorf("peak %d", peak)
	}
	file := encodeFile(t, in, 8000, 16000)
	for _, decoder := range []string{"mpg123", "ffmpeg"} {
		_, snr := bestSNR(in, decodeWith(t, decoder, file))
		t.Logf("%s: signal to noise %.1f dB", decoder, snr)
		if snr < 18 {
			t.Errorf("%s: signal to noise %.1f dB", decoder, snr)
		}
	}
}

func encodeFile(t *testing.T, pcm []int16, sampleRate, bitRate int) string {
	t.Helper()
	b, err := layer3.Encode(pcm, sampleRate, bitRate)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "encoded.mp3")
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// bestSNR lays out over in and returns where it fits best and how well there.
func bestSNR(in, out []int16) (delay int, snr float64) {
	const edge = 2000 // where a decoder has not begun to sound, or ended
	best := math.Inf(-1)
	for d := range edge {
		if s := snrBetween(in[edge:], out[edge+d:], edge/2); s > best {
			delay, best = d, s
		}
	}
	return delay, snrBetween(in[edge:], out[edge+delay:], len(in)-2*edge)
}

func snrBetween(in, out []int16, n int) float64 {
	signal, noise := 0.0, 1e-9
	for i, v := range in[:n] {
		e := float64(v) - float64(out[i])
		signal += float64(v) * float64(v)
		noise += e * e
	}
	return 10 * math.Log10(signal/noise)
}

// dominant is the frequency of the most power in steps of 1 Hz.
func dominant(pcm []int16, sampleRate int) float64 {
	best, bestPower := 0.0, 0.0
	for hz := 50.0; hz < 3000; hz++ {
		c := 2 * math.Cos(2*math.Pi*hz/float64(sampleRate))
		a, b := 0.0, 0.0
		for _, v := range pcm {
			a, b = float64(v)+c*a-b, a
		}
		if power := a*a + b*b - c*a*b; power > bestPower {
			best, bestPower = hz, power
		}
	}
	return best
}

// TestEncodeMP3Frames: whatever the samples, every frame is a whole one of the
// size that the bit rate asks for, and mpeg.FindFrame finds it.
func TestEncodeMP3Frames(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rates := encoderRates()
		sampleRate := rapid.SampledFrom([]int{8000, 11025, 16000, 44100, 48000}).Draw(t, "rate")
		bitRate := rates[sampleRate]
		level := rapid.Int16Range(0, math.MaxInt16).Draw(t, "level")
		pcm := rapid.SliceOfN(rapid.Int16Range(-level-1, level), 0, 4000).Draw(t, "pcm")
		b, err := layer3.Encode(pcm, sampleRate, bitRate)
		if err != nil {
			t.Fatal(err)
		}
		info, err := probeWhole(b)
		if err != nil || info.Truncated || info.GarbageBytes != 0 || info.Samples < int64(len(pcm)) {
			t.Fatalf("%+v, %v", info, err)
		}
		if mean := meanBitRate(int64(len(b)), info.Samples, sampleRate); mean > bitRate || mean < bitRate*97/100 {
			t.Fatalf("mean bit rate %d, want %d", mean, bitRate)
		}
		if n, ok := mpeg.FindFrame(b); info.Frames > 1 && (n != 0 || !ok) {
			t.Fatalf("first frame at %d, %v", n, ok)
		}
	})
}

func TestMP3EncoderRefuses(t *testing.T) {
	for _, r := range [][2]int{{8001, 16000}, {8000, 17000}, {8000, 320000}, {44100, 8000}, {0, 0}} {
		if _, err := layer3.NewEncoder(r[0], 1, r[1]); !errors.Is(err, layer3.ErrNoSuchRate) {
			t.Errorf("%d Hz, %d bit/s: %v, want layer3.ErrNoSuchRate", r[0], r[1], err)
		}
	}
}

// TestWriteWAV reads back what was written, through sox and the probe.
func TestWriteWAV(t *testing.T) {
	pcm := Sine(8000, 440, 0.5, 5*time.Second)
	var b bytes.Buffer
	if err := WriteWAV(&b, pcm, 8000, 2); err != nil {
		t.Fatal(err)
	}
	wantInfo(t, b.Bytes(), Info{
		Format: FormatWAV, Codec: "pcm_s16le", SampleRate: 8000, Channels: 2, BitRate: 256000, Samples: 20000,
	})
	file := filepath.Join(t.TempDir(), "sine.wav")
	if err := os.WriteFile(file, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	raw := audiotest.Tool(t, "sox", file, "-t", "raw", "-")
	if !bytes.Equal(raw, b.Bytes()[44:]) {
		t.Errorf("sox reads %d other bytes than the %d written", len(raw), b.Len()-44)
	}
}

func BenchmarkEncodeMP3(b *testing.B) {
	for _, sampleRate := range []int{8000, 44100} {
		b.Run(strconv.Itoa(sampleRate), func(b *testing.B) {
			e, err := layer3.NewEncoder(sampleRate, 1, encoderRates()[sampleRate])
			if err != nil {
				b.Fatal(err)
			}
			pcm := Melody(sampleRate, time.Second)[:e.FrameSamples()]
			var buf []byte
			b.ReportAllocs()
			for b.Loop() {
				buf = e.AppendFrame(buf[:0], pcm)
			}
			played := float64(b.N) * float64(e.FrameSamples()) / float64(sampleRate)
			b.ReportMetric(played/b.Elapsed().Seconds(), "x-realtime")
		})
	}
}
