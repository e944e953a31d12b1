package audio

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"carillon/audio/audiotest"
	"carillon/audio/layer3"
	"carillon/audio/mpeg"
)

// lively makes a WAV file that makes an encoder use all that it has: a sweep,
// noise, strokes out of nothing for short blocks, a pause; in stereo partly the
// same on both sides.
func lively(t *testing.T, file string, rate, channels int) {
	t.Helper()
	n := rate * 2
	pcm := make([]int16, n*channels)
	seed, filtered := uint32(7), 0.0
	for i := range n {
		at := float64(i) / float64(rate)
		seed = seed*1664525 + 1013904223
		filtered += 0.2 * (float64(int32(seed))/math.MaxInt32 - filtered)
		left := 0.3*math.Sin(2*math.Pi*(200+float64(rate)/8*at)*at) + 0.2*filtered
		right := left + 0.05*math.Sin(2*math.Pi*160*at)
		if at > 0.7 {
			right = 0.25*math.Sin(2*math.Pi*523*at) - 0.2*filtered
		}
		if stroke := math.Mod(at, 0.21); stroke < 0.03 && at < 1.5 {
			left += 0.6 * math.Exp(-stroke*300) * float64(int32(seed)) / math.MaxInt32
		}
		if at > 1.5 && at < 1.6 {
			left, right = 0, 0
		}
		pcm[i*channels] = toInt16(left)
		if channels == 2 {
			pcm[i*channels+1] = toInt16(right)
		}
	}
	var b bytes.Buffer
	if err := WriteWAV(&b, pcm, rate, channels); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
}

// lameVariants are bit rates, modes, header frames, tags and checksums, for
// which all nine rates have a bit rate.
func lameVariants() [][]string {
	return [][]string{
		{"-t", "-b", "32"},
		{"-b", "32", "-m", "s", "--add-id3v2", "--tt", "A title", "--pad-id3v2-size", "700"},
		{"-b", "64", "-m", "j", "-p"},
		{"-b", "48", "-m", "f"},
		{"-b", "56", "-m", "m", "--nores"},
		{"-t", "-V", "6"},
		{"-V", "1", "--id3v1-only", "--tt", "A title"},
		{"--abr", "40"},
	}
}

// TestDecodeMP3Corpus compares what LAME makes at all nine rates with mpg123,
// sample by sample, gapless where the header frame says how.
func TestDecodeMP3Corpus(t *testing.T) {
	t.Parallel()
	for _, rate := range []int{8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000} {
		for channels := 1; channels <= 2; channels++ {
			t.Run(fmt.Sprintf("%d/%d", rate, channels), func(t *testing.T) {
				t.Parallel()
				dir := t.TempDir()
				wav, mp3 := filepath.Join(dir, "in.wav"), filepath.Join(dir, "out.mp3")
				lively(t, wav, rate, channels)
				seen := map[string]int{}
				for _, args := range lameVariants() {
					b := lame(t, wav, mp3, rate, args...)
					info := mustProbe(t, b)
					got := decodeAll(t, bytes.NewReader(b), info)
					rms, worst := audiotest.Difference(got, audiotest.MPG123(t, mp3))
					if rms > audiotest.ExactRMS || worst > 1 {
						t.Errorf("%v: %d samples, rms %.4f, worst %d", args, len(got), rms, worst)
					}
					if n := info.PlayedSamples() * int64(info.Channels); n != int64(len(got)) {
						t.Errorf("%v: %d samples, want %d", args, len(got), n)
					}
					if info.EncoderDelay > 0 && info.PlayedSamples() != int64(2*rate) {
						t.Errorf("%v: %d samples of %d that went in", args, info.PlayedSamples(), 2*rate)
					}
					if info.EncoderDelay > 0 {
						seen["gapless"]++
					}
					coverage(t, b, seen)
				}
				want := "long start short stop reservoir coarse quads gapless"
				for what := range strings.FieldsSeq(want) {
					if seen[what] == 0 {
						t.Errorf("no %s: %v", what, seen)
					}
				}
				if channels == 2 && (seen["middle"] == 0 || seen["plain"] == 0) {
					t.Errorf("not both ways of stereo: %v", seen)
				}
			})
		}
	}
}

// coverage counts what the frames use, by their side information.
func coverage(tb testing.TB, b []byte, seen map[string]int) {
	tb.Helper()
	framer := newMP3Framer(bytes.NewReader(b))
	for {
		frame, err := framer.nextFrame()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			tb.Fatal(err)
		}
		h := framer.frame
		middle, intense := h.JointStereo()
		switch {
		case middle:
			seen["middle"]++
		case h.Channels == 2:
			seen["plain"]++
		}
		if intense {
			seen["intensity"]++
		}
		coverSide(&h, frame[h.SideEnd()-h.SideBytes():h.SideEnd()], seen)
	}
}

// coverSide counts what the granules of the first channel use.
func coverSide(h *mpeg.Header, side []byte, seen map[string]int) {
	begin, at, length, compress := 8, 8+h.Channels, 63, 9
	if h.Version == mpeg.V1 {
		begin, at, length, compress = 9, 9+7-2*h.Channels+4*h.Channels, 59, 4
	}
	bits := mpeg.BitReader{Bytes: slices.Concat(side, make([]byte, 8))}
	if bits.Take(begin) > 0 {
		seen["reservoir"]++
	}
	for range h.Samples / mpeg.GranuleLines {
		bits.At = at + 12 + 9 + 8 + compress
		block := 0
		if bits.Flag() { // of other windows than the long one
			if block = bits.Take(2); bits.Flag() {
				seen["mixed"]++
			}
		}
		seen[[]string{"long", "start", "short", "stop"}[block]]++
		bits.At = at + length - 2
		if bits.Flag() {
			seen["coarse"]++
		}
		if !bits.Flag() {
			seen["quads"]++
		}
		at += length * h.Channels
	}
}

// TestDecodeMP3FFmpeg asks another decoder, and another writer of headers. It
// cuts the delay and not the padding of some, so the longer end is left out. At
// 24 kHz it has a band edge of its own (330 for 332) and is no witness.
func TestDecodeMP3FFmpeg(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	wav, mp3 := filepath.Join(dir, "in.wav"), filepath.Join(dir, "out.mp3")
	for _, rate := range []int{8000, 22050, 44100} {
		lively(t, wav, rate, 2)
		for _, args := range [][]string{{"-b:a", "64k"}, {"-q:a", "4"}, {"-b:a", "64k", "-write_xing", "0"}} {
			all := append([]string{"-v", "error", "-y", "-i", wav}, args...)
			audiotest.Tool(t, "ffmpeg", append(all, mp3)...)
			b, err := os.ReadFile(mp3)
			if err != nil {
				t.Fatal(err)
			}
			got := decodeAll(t, bytes.NewReader(b), mustProbe(t, b))
			rms, worst := audiotest.Difference(got, audiotest.MPG123(t, mp3))
			if rms > audiotest.ExactRMS || worst > 1 {
				t.Errorf("%d %v: against mpg123 rms %.4f, worst %d", rate, args, rms, worst)
			}
			want := audiotest.Samples(audiotest.Tool(t, "ffmpeg", "-v", "error", "-i", mp3, "-f", "s16le", "-"))
			n := min(len(got), len(want))
			rms, worst = audiotest.Difference(got[:n], want[:n])
			if rms > audiotest.ExactRMS || worst > 1 || len(got)-n > 4*1152 {
				t.Errorf("%d %v: against ffmpeg %d and %d samples, rms %.4f, worst %d",
					rate, args, len(got), len(want), rms, worst)
			}
		}
	}
}

// TestDecodeMP3Odd changes bits of sound streams, so that they use what LAME
// never does: intensity stereo and mixed blocks. That is not what went in any
// more, but the decoders must agree on what it is.
func TestDecodeMP3Odd(t *testing.T) {
	t.Parallel()
	intensity := func(_ *mpeg.Header, b []byte) { b[3] |= 0x10 }
	for _, tt := range []struct {
		what     string
		rate     int
		channels int
		change   func(h *mpeg.Header, b []byte)
	}{
		// In MPEG-2 intensity stereo has other scale factors, so that a
		// changed bit leaves nothing of the granule.
		{"intensity", 44100, 2, intensity},
		{"intensity", 32000, 2, intensity},
		{"mixed", 16000, 1, mixBlocks},
		{"mixed", 22050, 1, mixBlocks},
		{"mixed", 44100, 1, mixBlocks},
	} {
		t.Run(fmt.Sprint(tt.what, tt.rate), func(t *testing.T) {
			t.Parallel()
			what, rate, change := tt.what, tt.rate, tt.change
			dir := t.TempDir()
			wav, mp3 := filepath.Join(dir, "in.wav"), filepath.Join(dir, "out.mp3")
			lively(t, wav, rate, tt.channels)
			mode := map[int]string{1: "m", 2: "j"}[tt.channels]
			b := lame(t, wav, mp3, rate, "-t", "-b", "64", "-m", mode, "--nores", "-q", "9")
			for rest := b; len(rest) >= mpeg.HeaderBytes; {
				h, err := mpeg.ParseHeader(rest)
				if err != nil {
					t.Fatal(err)
				}
				change(&h, rest)
				rest = rest[h.FrameBytes:]
			}
			if err := os.WriteFile(mp3, b, 0o600); err != nil {
				t.Fatal(err)
			}
			info := mustProbe(t, b)
			seen := map[string]int{}
			coverage(t, b, seen)
			rms, worst := audiotest.Difference(decodeAll(t, bytes.NewReader(b), info), audiotest.MPG123(t, mp3))
			t.Logf("%s at %d: rms %.4f, worst %d", what, rate, rms, worst)
			if seen[what] == 0 || rms > 1 {
				t.Errorf("%s at %d: %d granules, rms %.4f, worst %d", what, rate, seen[what], rms, worst)
			}
		})
	}
}

// mixBlocks sets the mixed flag of short blocks without scale factors, so that
// all that follows is where it was.
func mixBlocks(h *mpeg.Header, b []byte) {
	at, length, compress := 8+h.Channels, 63, 9
	if h.Version == mpeg.V1 {
		at, length, compress = 9+7-2*h.Channels+4*h.Channels, 59, 4
	}
	for range h.Samples / mpeg.GranuleLines * h.Channels {
		bits := mpeg.BitReader{Bytes: b[mpeg.HeaderBytes:], At: at + 12 + 9 + 8}
		if bits.Take(compress) == 0 && bits.Flag() && bits.Take(2) == 2 /* short */ {
			b[mpeg.HeaderBytes+bits.At/8] |= 0x80 >> (bits.At % 8)
		}
		at += length
	}
}

// TestConvertMP3Offsets: a converted form can be begun at any byte.
func TestConvertMP3Offsets(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	wav, mp3 := filepath.Join(dir, "in.wav"), filepath.Join(dir, "out.mp3")
	lively(t, wav, 44100, 2)
	items := [][]byte{lame(t, wav, mp3, 44100, "-V", "5"), lame(t, wav, mp3, 22050, "-t", "-b", "64")}
	for _, name := range []string{"rec-icecast", "urec-stereo"} {
		b, _ := freeswitchFile(t, name)
		items = append(items, b)
	}
	narrow, _ := freeswitchFile(t, "rec-put")
	items = append(items, join(narrow, items[3], narrow), narrow[:700])
	rapid.Check(t, func(t *rapid.T) {
		b := rapid.SampledFrom(items).Draw(t, "item")
		info, err := probeWhole(b)
		if err != nil {
			t.Fatal(err)
		}
		form := Form{
			Container:  rapid.SampledFrom([]Container{ContainerWAV, ContainerMulaw}).Draw(t, "container"),
			SampleRate: rapid.SampledFrom([]int{0, 8000, 16000}).Draw(t, "rate"),
			Channels:   rapid.IntRange(0, 2).Draw(t, "channels"),
		}
		from := rapid.Int64Range(0, 5000).Draw(t, "from")
		to := rapid.Int64Range(-1, 20000).Draw(t, "to")
		checkSizes(t, b, info, form, Trim(from, to))
	})
}

// TestDecodeMP3Refuses: other layers are neither stored nor decoded.
func TestDecodeMP3Refuses(t *testing.T) {
	dir := t.TempDir()
	wav, mp2 := filepath.Join(dir, "in.wav"), filepath.Join(dir, "out.mp2")
	lively(t, wav, 44100, 2)
	audiotest.Tool(t, "ffmpeg", "-v", "error", "-y", "-i", wav, "-c:a", "mp2", mp2)
	b, err := os.ReadFile(mp2)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := probeWhole(b); !errors.Is(err, ErrUnknownFormat) {
		t.Errorf("layer II: %+v, %v", info, err)
	}
	for _, codec := range []string{"mp2", "mp1", ""} {
		info := Info{Format: FormatMP3, Codec: codec, SampleRate: 44100, Channels: 2, Samples: 1152}
		if _, err := NewDecoder(bytes.NewReader(b), info); !errors.Is(err, ErrUnsupportedCodec) {
			t.Errorf("%q: %v", codec, err)
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	item, info := freeswitchFile(b, "rec-icecast")
	stereo, stereoInfo := freeswitchFile(b, "urec-stereo")
	music, err := layer3.Encode(Melody(44100, 5e9), 44100, 128000)
	if err != nil {
		b.Fatal(err)
	}
	musicInfo, err := probeWhole(music)
	if err != nil {
		b.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		b    []byte
		info Info
	}{
		{"mpeg25-8000-mono", item, info},
		{"mpeg25-8000-stereo", stereo, stereoInfo},
		{"mpeg1-44100-mono", music, musicInfo},
	} {
		b.Run(tt.name, func(b *testing.B) {
			endless := tt.info
			endless.Samples = SamplesUnknown
			d, err := NewDecoder(&loop{b: tt.b}, endless)
			if err != nil {
				b.Fatal(err)
			}
			pcm := make([]int16, 1152*d.Channels())
			samples := 0
			b.ReportAllocs()
			for b.Loop() {
				n, err := d.Read(pcm)
				if err != nil {
					b.Fatal(err)
				}
				samples += n
			}
			played := float64(samples) / float64(d.Channels()) / float64(d.SampleRate())
			b.ReportMetric(played/b.Elapsed().Seconds(), "x_realtime")
		})
	}
	b.Run("first-bytes", func(b *testing.B) {
		pcm := make([]int16, 576)
		b.ReportAllocs()
		for b.Loop() {
			d, err := NewDecoder(bytes.NewReader(item), info)
			if err != nil {
				b.Fatal(err)
			}
			if _, err := d.Read(pcm); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// loop reads the same bytes for ever.
type loop struct {
	b  []byte
	at int
}

func (l *loop) Read(p []byte) (int, error) {
	n := copy(p, l.b[l.at:])
	l.at = (l.at + n) % len(l.b)
	return n, nil
}
