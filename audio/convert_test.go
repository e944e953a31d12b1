package audio

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"testing/iotest"
	"time"

	"pgregory.net/rapid"

	"carillon/audio/audiotest"
	"carillon/audio/mpeg"
)

// decodeAll reads all that a decoder yields, by pieces of a few sizes.
func decodeAll(tb testing.TB, r io.Reader, info Info) []int16 {
	tb.Helper()
	d, err := NewDecoder(r, info)
	if err != nil {
		tb.Fatal(err)
	}
	var pcm []int16
	buf := make([]int16, 3*1152*d.Channels())
	for i := 0; ; i++ {
		n, err := d.Read(buf[:len(buf)/(i%3+1)])
		pcm = append(pcm, buf[:n]...)
		if errors.Is(err, io.EOF) {
			return pcm
		}
		if err != nil {
			tb.Fatal(err)
		}
		if n == 0 || n%d.Channels() != 0 {
			tb.Fatalf("read %d samples of %d channels without error", n, d.Channels())
		}
	}
}

func convertAll(tb testing.TB, item []byte, info Info, form Form, options ...Option) []byte {
	tb.Helper()
	c, err := NewConverter(bytes.NewReader(item), info, form, options...)
	if err != nil {
		tb.Fatal(err)
	}
	b, err := io.ReadAll(c)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// TestDecodeWAVCorpus compares every coding with the samples that ffmpeg reads.
// Those of more than 16 bits it cuts and we round.
func TestDecodeWAVCorpus(t *testing.T) {
	dir := t.TempDir()
	wav := filepath.Join(dir, "tone.wav")
	audiotest.Tool(t, "ffmpeg", "-v", "error", "-y", "-f", "lavfi", "-i",
		"anoisesrc=d=0.7:c=pink:r=16000:a=0.9,aformat=sample_fmts=dbl,pan=stereo|c0=c0|c1=0.5*c0",
		"-c:a", "pcm_f64le", wav)
	for codec, within := range map[string]int{
		"pcm_u8": 0, "pcm_s16le": 0, "pcm_s24le": 1, "pcm_s32le": 1, "pcm_f32le": 0, "pcm_f64le": 0,
		"pcm_alaw": 0, "pcm_mulaw": 0,
	} {
		for _, extra := range [][]string{nil, {"-rf64", "always"}, {"-metadata", "title=odd"}} {
			out := filepath.Join(dir, "out.wav")
			args := append([]string{"-v", "error", "-y", "-i", wav, "-c:a", codec}, extra...)
			audiotest.Tool(t, "ffmpeg", append(args, out)...)
			want := audiotest.Samples(audiotest.Tool(t, "ffmpeg", "-v", "error", "-i", out, "-f", "s16le", "-"))
			b, err := os.ReadFile(out)
			if err != nil {
				t.Fatal(err)
			}
			got := decodeAll(t, bytes.NewReader(b), mustProbe(t, b))
			if worst := worstDifference(got, want); worst > within {
				t.Errorf("%s %v: differs by %d", codec, extra, worst)
			}
			slow := decodeAll(t, iotest.OneByteReader(bytes.NewReader(b)), mustProbe(t, b))
			if !slices.Equal(got, slow) {
				t.Errorf("%s: byte by byte gives other samples", codec)
			}
		}
	}
}

func worstDifference(a, b []int16) int {
	if len(a) != len(b) {
		return math.MaxInt
	}
	worst := 0
	for i := range a {
		worst = max(worst, int(a[i])-int(b[i]), int(b[i])-int(a[i]))
	}
	return worst
}

// TestConvertSizes: a converter yields exactly the bytes that Form.Size says,
// and from any offset on the same ones.
func TestConvertSizes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rates := []int{8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 96000, 192000, 44101, 7999}
		rate, channels := rapid.SampledFrom(rates).Draw(t, "rate"), rapid.IntRange(1, 3).Draw(t, "channels")
		level := rapid.Int16Range(1, math.MaxInt16).Draw(t, "level")
		pcm := rapid.SliceOfN(rapid.Int16Range(-level, level), 0, 3000).Draw(t, "pcm")
		pcm = pcm[:len(pcm)/channels*channels]
		var wav bytes.Buffer
		if err := WriteWAV(&wav, pcm, rate, channels); err != nil {
			t.Fatal(err)
		}
		info, err := probeWhole(wav.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		form := Form{
			Container: rapid.SampledFrom([]Container{
				ContainerWAV, ContainerRaw, ContainerRaw24, ContainerRaw32, ContainerMulaw, ContainerAlaw, ContainerMP3,
			}).Draw(t, "container"),
			SampleRate: rapid.SampledFrom(append([]int{0}, rates[:11]...)).Draw(t, "to rate"),
			Channels:   rapid.IntRange(0, 2).Draw(t, "to channels"),
		}
		if form.Container == ContainerMP3 && form.SampleRate > 48000 {
			form.SampleRate = 0
		}
		from := rapid.Int64Range(0, 1000).Draw(t, "from")
		to := rapid.Int64Range(-1, 1500).Draw(t, "to")
		gain := rapid.Float64Range(-20, 20).Draw(t, "gain")
		checkSizes(t, wav.Bytes(), info, form, Trim(from, to), Gain(gain))
	})
}

// checkSizes converts the whole, and from an offset that rapid draws.
func checkSizes(t *rapid.T, item []byte, info Info, form Form, options ...Option) {
	size, ok := form.Size(info, options...)
	if !ok {
		t.Fatalf("no size of %+v as %+v", info, form)
	}
	read := func(offset int64, src io.Reader) []byte {
		c, err := NewConverterAt(src, info, form, offset, options...)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(c)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	whole := read(0, bytes.NewReader(item))
	if int64(len(whole)) != size {
		t.Fatalf("%d bytes, want %d", len(whole), size)
	}
	offset := rapid.Int64Range(0, size).Draw(t, "offset")
	if got := read(offset, bytes.NewReader(item)); !bytes.Equal(got, whole[offset:]) {
		t.Fatalf("from %d of %d: other bytes", offset, size)
	}
	if got := read(offset, iotest.HalfReader(bytes.NewBuffer(item))); !bytes.Equal(got, whole[offset:]) {
		t.Fatalf("from %d of %d, without seeking: other bytes", offset, size)
	}
}

// TestConvertWAVReads: sox and ffmpeg read what a converter writes, and know
// its length.
func TestConvertWAVReads(t *testing.T) {
	var wav bytes.Buffer
	pcm := Melody(16000, 2*time.Second)
	if err := WriteWAV(&wav, pcm, 16000, 1); err != nil {
		t.Fatal(err)
	}
	info := mustProbe(t, wav.Bytes())
	file := filepath.Join(t.TempDir(), "out.wav")
	b := convertAll(t, wav.Bytes(), info, Form{Container: ContainerWAV, Channels: 2})
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	raw := audiotest.Samples(audiotest.Tool(t, "sox", file, "-t", "raw", "-"))
	if len(raw) != 2*len(pcm) {
		t.Fatalf("sox reads %d samples, want %d", len(raw), 2*len(pcm))
	}
	for i, v := range pcm {
		if raw[2*i] != v || raw[2*i+1] != v {
			t.Fatalf("sample %d: %d, %d, want %d", i, raw[2*i], raw[2*i+1], v)
		}
	}
	growing := info
	growing.Samples = SamplesUnknown
	live := convertAll(t, wav.Bytes(), growing, Form{Container: ContainerWAV})
	if got := mustProbe(t, live); got.Samples != info.Samples || got.Truncated {
		t.Errorf("without a length: %+v", got)
	}
}

// TestConvertWide: sox, told as many bits as mod_sndfile takes a .r24 and a .r32
// for, reads the samples that were converted.
func TestConvertWide(t *testing.T) {
	pcm := Melody(16000, time.Second)
	wav, info := wavOf(t, pcm, 16000, 1)
	for bits, form := range map[string]Container{
		"16": ContainerRaw, "24": ContainerRaw24, "32": ContainerRaw32,
	} {
		file := filepath.Join(t.TempDir(), "wide")
		if err := os.WriteFile(file, convertAll(t, wav, info, Form{Container: form}), 0o600); err != nil {
			t.Fatal(err)
		}
		got := audiotest.Samples(audiotest.Tool(t, "sox", "-D", "-t", "raw", "-r", "16000", "-c", "1",
			"-e", "signed-integer", "-L", "-b", bits, file, "-t", "raw", "-b", "16", "-"))
		if !slices.Equal(got, pcm) {
			t.Errorf("%s bits: sox reads %d other samples", bits, len(got))
		}
	}
}

// TestConvertMP3Gain: MP3 that is made of something else is louder in its frames'
// heads, so that nothing is cut off that mod_shout, which plays a quarter, would
// have had room for.
func TestConvertMP3Gain(t *testing.T) {
	const dB = 8 * mpeg.GainStepDB
	wav, info := wavOf(t, Melody(8000, time.Second), 8000, 1)
	plain := convertAll(t, wav, info, Form{Container: ContainerMP3})
	louder := convertAll(t, wav, info, Form{Container: ContainerMP3}, Gain(dB))
	if bytes.Equal(plain, louder) || !bytes.Equal(louder, gained(t, plain, dB)) {
		t.Errorf("%d bytes, not those of a gain without decoding", len(louder))
	}
}

// TestConvertWAVTooLong: what a head cannot tell it leaves open, as writers to a
// pipe do, and the size is right all the same.
func TestConvertWAVTooLong(t *testing.T) {
	_, info := wavOf(t, make([]int16, 8), 48000, 2)
	info.Samples = 3 << 30
	form := Form{Container: ContainerWAV}
	if n, ok := form.Size(info); !ok || n != 3<<32+wavHeadBytes {
		t.Errorf("size %d, %v", n, ok)
	}
	c, err := NewConverter(bytes.NewReader(nil), info, form)
	if err != nil {
		t.Fatal(err)
	}
	var head [wavHeadBytes]byte
	if _, err := io.ReadFull(c, head[:]); err != nil {
		t.Fatal(err)
	}
	if n := binary.LittleEndian.Uint32(head[40:]); n != math.MaxUint32 {
		t.Errorf("claims %d bytes", n)
	}
}

// TestMix: the mean of both sides, both sides of one, and five channels folded.
func TestMix(t *testing.T) {
	out := make([]int16, 4)
	if n := mixDown(out, []int16{100, 301, -100, -301}, 2, 1); n != 2 || out[0] != 201 || out[1] != -201 {
		t.Errorf("mean: %v", out)
	}
	loud := []int16{math.MaxInt16, math.MinInt16, math.MaxInt16, math.MaxInt16, 0, 0}
	mixDown(out, loud, 6, 2)
	if out[0] != 19660 || out[1] != -6554 {
		t.Errorf("five and one: %v", out)
	}
	mixDown(out, []int16{10, 20, 30, 40}, 4, 2)
	if out[0] != 20 || out[1] != 30 {
		t.Errorf("four: %v", out)
	}
	copy(out, []int16{1, 2})
	mixUp(out, 2, 2)
	if !slices.Equal(out, []int16{1, 1, 2, 2}) {
		t.Errorf("up: %v", out)
	}
}

// TestConvertGain: louder by as many dB, cut off and not wrapped where 16 bits end.
func TestConvertGain(t *testing.T) {
	wav, info := wavOf(t, []int16{0, 100, -100, 20000, -20000, math.MinInt16}, 8000, 1)
	for dB, want := range map[float64][]int16{
		20 * math.Log10(2): {0, 200, -200, math.MaxInt16, math.MinInt16, math.MinInt16},
		-20:                {0, 10, -10, 2000, -2000, -3277},
		0:                  {0, 100, -100, 20000, -20000, math.MinInt16},
		math.Inf(1):        {0, math.MaxInt16, math.MinInt16, math.MaxInt16, math.MinInt16, math.MinInt16},
		math.Inf(-1):       {0, 0, 0, 0, 0, 0},
	} {
		got := audiotest.Samples(convertAll(t, wav, info, Form{Container: ContainerRaw}, Gain(dB)))
		if !slices.Equal(got, want) {
			t.Errorf("%v dB: %v, want %v", dB, got, want)
		}
	}
}

// TestConvertAllocates: once it is under way a conversion takes no more memory,
// however long the item is.
func TestConvertAllocates(t *testing.T) {
	mp3, mp3Info := freeswitchFile(t, "rec-icecast")
	wav, wavInfo := wavOf(t, Melody(16000, 3*time.Second), 16000, 2)
	endless := bytes.Clone(wav)
	binary.LittleEndian.PutUint32(endless[wavHeadBytes-4:], math.MaxUint32)
	for _, tt := range []struct {
		item []byte
		info Info
		form Form
	}{
		{mp3, mp3Info, Form{Container: ContainerRaw}},
		{mp3, mp3Info, Form{Container: ContainerWAV, SampleRate: 44100, Channels: 2}},
		{mp3, mp3Info, Form{Container: ContainerMP3, SampleRate: 16000}},
		{endless, wavInfo, Form{Container: ContainerMulaw, SampleRate: 8000, Channels: 1}},
		{endless, wavInfo, Form{Container: ContainerMP3}},
	} {
		tt.info.Samples = SamplesUnknown
		c, err := NewConverter(&loop{b: tt.item}, tt.info, tt.form, Gain(-3))
		if err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 4096)
		for range 100 {
			if _, err := c.Read(buf); err != nil {
				t.Fatal(err)
			}
		}
		if n := testing.AllocsPerRun(200, func() { _, _ = c.Read(buf) }); n != 0 {
			t.Errorf("%s as %+v: %v allocations a read", tt.info.Codec, tt.form, n)
		}
	}
}

func TestConvertRefuses(t *testing.T) {
	wav := Info{Format: FormatWAV, Codec: "pcm_s16le", SampleRate: 8000, Channels: 1, Samples: 100}
	ogg := Info{Format: FormatOgg, Codec: "opus", SampleRate: 48000, Channels: 2, Samples: 100}
	adpcm := Info{Format: FormatWAV, Codec: "adpcm_ms", SampleRate: 8000, Channels: 1, Samples: 100}
	for _, tt := range []struct {
		info Info
		form Form
		want error
	}{
		{ogg, Form{Container: ContainerWAV}, ErrUnsupportedCodec},
		{adpcm, Form{Container: ContainerWAV}, ErrUnsupportedCodec},
		{wav, Form{Container: "flac"}, ErrNoSuchForm},
		{wav, Form{Container: ContainerRaw, SampleRate: 7999}, ErrNoSuchForm},
		{wav, Form{Container: ContainerRaw, SampleRate: 192001}, ErrNoSuchForm},
		{wav, Form{Container: ContainerRaw, Channels: 3}, ErrNoSuchForm},
		{wav, Form{Container: ContainerRaw, Channels: -1}, ErrNoSuchForm},
	} {
		if _, err := NewConverter(bytes.NewReader(nil), tt.info, tt.form); !errors.Is(err, tt.want) {
			t.Errorf("%s as %+v: %v, want %v", tt.info.Codec, tt.form, err, tt.want)
		}
		if n, ok := tt.form.Size(tt.info); ok {
			t.Errorf("%s as %+v has size %d", tt.info.Codec, tt.form, n)
		}
	}
	if _, err := NewConverterAt(bytes.NewReader(nil), wav, Form{Container: ContainerRaw}, 201); err == nil {
		t.Error("an offset behind the end is taken")
	}
}

func BenchmarkConvert(b *testing.B) {
	for _, pair := range [][2]int{{8000, 8000}, {8000, 48000}, {16000, 8000}, {44100, 8000}, {44100, 48000}} {
		b.Run(strconv.Itoa(pair[0])+"-"+strconv.Itoa(pair[1]), func(b *testing.B) {
			var wav bytes.Buffer
			if err := WriteWAV(&wav, Melody(pair[0], 10*time.Second), pair[0], 1); err != nil {
				b.Fatal(err)
			}
			info, err := probeWhole(wav.Bytes())
			if err != nil {
				b.Fatal(err)
			}
			form := Form{Container: ContainerRaw, SampleRate: pair[1]}
			for b.Loop() {
				c, err := NewConverter(bytes.NewReader(wav.Bytes()), info, form)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := io.Copy(io.Discard, c); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N)*info.Duration().Seconds()/b.Elapsed().Seconds(), "x_realtime")
		})
	}
}
