package audio

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"carillon/audio/audiotest"
)

// probeWhole probes b in one write.
func probeWhole(b []byte) (Info, error) {
	p := NewProber()
	_, _ = p.Write(b)
	return p.Result()
}

func mustProbe(t *testing.T, b []byte) Info {
	t.Helper()
	info, err := probeWhole(b)
	if err != nil {
		t.Fatalf("probe of %d bytes: %v", len(b), err)
	}
	return info
}

func wantInfo(t *testing.T, b []byte, want Info) {
	t.Helper()
	if diff := cmp.Diff(want, mustProbe(t, b)); diff != "" {
		t.Errorf("probe (-want +got):\n%s", diff)
	}
}

func telephoneInfo(n int64) Info {
	return Info{
		Format: FormatMP3, Codec: "mp3_mpeg25_layer3", SampleRate: 8000, Channels: 1, BitRate: 16000,
		Samples: n * 576, Frames: n,
	}
}

func id3v2(size int) []byte {
	head := []byte{'I', 'D', '3', 4, 0, 0, 0, 0, byte(size >> 7), byte(size & 0x7F)}
	return append(head, bytes.Repeat([]byte{0xFF, 0xFB}, size/2+1)[:size]...)
}

func id3v1(title string) []byte {
	return append([]byte("TAG"+title), make([]byte, 125-len(title))...)
}

func apeTag(items int) []byte {
	tag := make([]byte, 32+items+32)
	copy(tag, "APETAGEX")
	binary.LittleEndian.PutUint32(tag[8:], 2000)
	binary.LittleEndian.PutUint32(tag[12:], uint32(items+32))
	binary.LittleEndian.PutUint32(tag[20:], 1<<31|1<<29)
	copy(tag[32+items:], tag[:32])
	binary.LittleEndian.PutUint32(tag[32+items+20:], 1<<31)
	return tag
}

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

// TestProbeMP3Shapes lays tags, padding and damage around frames whose number
// is known.
func TestProbeMP3Shapes(t *testing.T) {
	frames := audiotest.Telephone(t, 10)
	zeros := make([]byte, 128)
	noise := bytes.Repeat([]byte("noise "), 50)
	extended := append([]byte("TAG+"), make([]byte, 223)...)
	apeFooter := append([]byte("APETAGEX"), make([]byte, 24)...)
	first := audiotest.Telephone(t, 1)
	tests := []struct {
		name string
		b    []byte
		n    int64
		fix  func(*Info)
	}{
		{"plain", frames, 10, nil},
		{"one frame", first, 1, nil},
		{"one frame and a tag", join(first, id3v1("x")), 1, nil},
		{"two frames", audiotest.Telephone(t, 2), 2, nil},
		{"id3v2", join(id3v2(999), frames), 10, nil},
		{"id3v2 three times", join(id3v2(999), id3v2(0), id3v2(5000), frames), 10, nil},
		{"id3v2 in the middle", join(frames, id3v2(300), frames), 20, nil},
		{"id3v1", join(frames, id3v1("x")), 10, nil},
		{"id3v1 title with a plus", join(frames, id3v1("+x")), 10, nil},
		{"id3v1 extended", join(frames, extended, id3v1("x")), 10, nil},
		{"ape", join(frames, apeTag(300)), 10, nil},
		{"ape and id3v1", join(frames, apeTag(77), id3v1("x")), 10, nil},
		{"ape footer", join(frames, apeFooter, id3v1("x")), 10, nil},
		{"zeros between", join(first, zeros, first, zeros, zeros, frames), 12, garbage(3 * 128)},
		{"zeros before", join(zeros, frames), 10, garbage(128)},
		{"more zeros than sound", join(make([]byte, 10000), frames), 10, garbage(10000)},
		{"mid frame", frames[77:], 9, garbage(144 - 77)},
		{"noise between", join(frames, noise, frames), 20, garbage(300)},
		{"noise behind", join(frames, noise), 10, garbage(300)},
		{"noise, then a last frame", join(frames, noise, first), 11, garbage(300)},
		{"cut frame", frames[:len(frames)-1], 9, truncated},
		{"cut in the header", frames[:len(frames)-144+2], 9, truncated},
		{"cut tag", join(frames, id3v1("x")[:100]), 10, truncated},
		{"xing", join(taggedFrame(t, "Xing"), frames), 10, nil},
		{"info behind id3v2", join(id3v2(50), taggedFrame(t, "Info"), frames), 10, nil},
		{"vbri", join(vbriFrame(t), frames), 10, nil},
		{"free format between", join(frames, []byte{0xFF, 0xE3, 0x08, 0xC4}, frames), 20, garbage(4)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			want := telephoneInfo(tt.n)
			if tt.fix != nil {
				tt.fix(&want)
			}
			wantInfo(t, tt.b, want)
		})
	}
}

func garbage(n int64) func(*Info) { return func(i *Info) { i.GarbageBytes = n } }

func truncated(i *Info) { i.Truncated = true }

func taggedFrame(t *testing.T, tag string) []byte {
	t.Helper()
	b := make([]byte, 144)
	copy(b, []byte{0xFF, 0xE3, 0x28, 0xC4})
	copy(b[4+9:], tag)
	return b
}

func vbriFrame(t *testing.T) []byte {
	t.Helper()
	b := make([]byte, 144)
	copy(b, []byte{0xFF, 0xE3, 0x28, 0xC4})
	copy(b[36:], "VBRI")
	return b
}

// TestProbeMP3Mixed joins streams of two kinds: the length is that of both at
// the rate of the longer one.
func TestProbeMP3Mixed(t *testing.T) {
	b := join(audiotest.Telephone(t, 100), audiotest.Frames(t, 3, 0xFF, 0xFB, 0x94, 0x00)) // 48 kHz stereo
	info := mustProbe(t, b)
	if want := int64(100*576 + 3*1152*8000/48000); info.Samples != want {
		t.Errorf("samples %d, want %d", info.Samples, want)
	}
	if info.SampleRate != 8000 || info.Channels != 1 || info.Frames != 103 || !info.VBR {
		t.Errorf("not what most frames are: %+v", info)
	}
}

// TestProbeVBR checks the mean rate of frames of 16 and 32 kbit/s.
func TestProbeVBR(t *testing.T) {
	b := join(audiotest.Telephone(t, 5), audiotest.Frames(t, 5, 0xFF, 0xE3, 0x48, 0xC4))
	info := mustProbe(t, b)
	if !info.VBR || info.BitRate != 24000 {
		t.Errorf("vbr %v at %d bit/s, want true, 24000", info.VBR, info.BitRate)
	}
}

// TestProbeUnknown feeds what is not audio, in whole and in single bytes.
func TestProbeUnknown(t *testing.T) {
	random := make([]byte, 1<<20)
	seed := uint32(1)
	for i := range random {
		seed = seed*1664525 + 1013904223
		random[i] = byte(seed >> 24)
	}
	avi := append([]byte("RIFF\x00\x10\x00\x00AVI LIST"), random[:4096]...)
	wavGarbage := append([]byte("RIFF\x00\x10\x00\x00WAVE"), random[:4096]...)
	free := bytes.Repeat(append([]byte{0xFF, 0xFB, 0x00, 0x00}, make([]byte, 413)...), 20)
	tests := map[string][]byte{
		"nothing": {}, "one byte": {0xFF}, "text": []byte("hello, this is a text\n"), "random": random,
		"all ff": bytes.Repeat([]byte{0xFF}, 5000), "zeros": make([]byte, 5000), "avi": avi,
		"wav of garbage": wavGarbage, "free format": free, "only id3": id3v2(4000),
		"cut id3": id3v2(4000)[:2000], "ogg of nothing": []byte("OggS"), "riff": []byte("RIFF"),
		"layer II":                   audiotest.Frames(t, 10, 0xFF, 0xFD, 0x94, 0x00),
		"few frames in much garbage": join(random[:300_000], audiotest.Telephone(t, 3), random[:300_000]),
		"half a frame":               audiotest.Telephone(t, 1)[:100],
	}
	for name, b := range tests {
		t.Run(name, func(t *testing.T) {
			if info, err := probeWhole(b); !errors.Is(err, ErrUnknownFormat) {
				t.Errorf("got %+v, %v, want ErrUnknownFormat", info, err)
			}
		})
	}
}

// TestProbeWhileWriting asks after every byte: the answer is that of the same
// bytes as a file, and asking changes nothing.
func TestProbeWhileWriting(t *testing.T) {
	for name, b := range sampleFiles(t) {
		if len(b) > 8000 {
			b = b[:8000]
		}
		t.Run(name, func(t *testing.T) {
			p := NewProber()
			for i := range b {
				_, _ = p.Write(b[i : i+1])
				got, gotErr := p.Result()
				want, wantErr := probeWhole(b[:i+1])
				if fmt.Sprint(gotErr) != fmt.Sprint(wantErr) || got != want {
					t.Fatalf("at %d: got %+v, %v, want %+v, %v", i+1, got, gotErr, want, wantErr)
				}
			}
		})
	}
}

// sampleFiles is one small file of each kind.
func sampleFiles(tb testing.TB) map[string][]byte {
	tb.Helper()
	frame := bytes.Repeat([]byte{0x55}, 144)
	copy(frame, []byte{0xFF, 0xE3, 0x28, 0xC4})
	frames := bytes.Repeat(frame, 8)
	return map[string][]byte{
		"mp3":          frames,
		"mp3 tags":     join(id3v2(200), frames, make([]byte, 128), frames, apeTag(50), id3v1("+x")),
		"mp3 mid":      join(frames[50:], []byte("garbage\xff\xfb\x90\x00 and so on"), frames, frame[:50]),
		"wav":          wavFile(wavSpec{data: make([]byte, 800), tail: []byte("LIST\x04\x00\x00\x00INFO")}),
		"wav odd":      wavFile(wavSpec{tag: wavTagMuLaw, bits: 8, data: make([]byte, 801)}),
		"wav no size":  wavFile(wavSpec{claim: new(int64(0)), data: bytes.Repeat([]byte{7}, 803)}),
		"wav lies":     wavFile(wavSpec{claim: new(int64(5000)), data: bytes.Repeat([]byte{7}, 803)}),
		"wav streamed": wavFile(wavSpec{claim: new(int64(0xFFFFFFFF)), data: bytes.Repeat([]byte{7}, 803)}),
		"ogg":          oggFile(),
		"ogg twice":    join(oggFile(), []byte("garbage OggO"), oggFile()),
	}
}

// TestProbeSplits: the result does not depend on how a file is cut into writes.
func TestProbeSplits(t *testing.T) {
	files := sampleFiles(t)
	names := make([]string, 0, len(files))
	for name := range files {
		names = append(names, name)
	}
	rapid.Check(t, func(t *rapid.T) {
		var b []byte
		for range rapid.IntRange(1, 3).Draw(t, "parts") {
			part := files[rapid.SampledFrom(names).Draw(t, "file")]
			from := rapid.IntRange(0, len(part)).Draw(t, "from")
			b = append(b, part[from:]...)
			b = append(b, rapid.SliceOfN(rapid.Byte(), 0, 20).Draw(t, "noise")...)
		}
		want, wantErr := probeWhole(b)
		p := NewProber()
		for rest := b; len(rest) > 0; {
			n := rapid.IntRange(1, len(rest)).Draw(t, "write")
			_, _ = p.Write(rest[:n])
			rest = rest[n:]
		}
		got, err := p.Result()
		if fmt.Sprint(err) != fmt.Sprint(wantErr) || got != want {
			t.Fatalf("split: %+v, %v, whole: %+v, %v", got, err, want, wantErr)
		}
	})
}

// TestProberAllocates nothing, whatever it is fed.
func TestProberAllocates(t *testing.T) {
	for name, b := range sampleFiles(t) {
		p := NewProber()
		n := testing.AllocsPerRun(20, func() {
			*p = Prober{}
			for rest := b; len(rest) > 0; rest = rest[min(len(rest), 100):] {
				_, _ = p.Write(rest[:min(len(rest), 100)])
			}
			_, _ = p.Result()
		})
		if n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func FuzzProbe(f *testing.F) {
	for _, b := range sampleFiles(f) {
		f.Add(b[:min(len(b), 2000)], uint16(7))
	}
	f.Fuzz(func(t *testing.T, b []byte, seed uint16) {
		want, wantErr := probeWhole(b)
		p := NewProber()
		cut := uint32(seed)
		for rest := b; len(rest) > 0; {
			cut = cut*1664525 + 1013904223
			n := min(len(rest), 1+int(cut>>16)%(1+int(seed)))
			_, _ = p.Write(rest[:n])
			rest = rest[n:]
		}
		got, err := p.Result()
		if fmt.Sprint(err) != fmt.Sprint(wantErr) || got != want {
			t.Fatalf("split: %+v, %v, whole: %+v, %v", got, err, want, wantErr)
		}
		if got.Samples < 0 || got.Frames < 0 || got.BitRate < 0 || got.Duration() < 0 ||
			got.GarbageBytes < 0 || got.GarbageBytes > int64(len(b)) {
			t.Fatalf("out of range: %+v", got)
		}
		if err == nil && (got.SampleRate <= 0 || got.Channels <= 0 || got.Codec == "") {
			t.Fatalf("incomplete: %+v", got)
		}
	})
}

func benchmarkProbe(b *testing.B, file []byte) {
	b.Helper()
	b.SetBytes(int64(len(file)))
	b.ReportAllocs()
	for b.Loop() {
		p := Prober{}
		for rest := file; len(rest) > 0; {
			n := min(len(rest), 32<<10) // what io.Copy writes at a time
			_, _ = p.Write(rest[:n])
			rest = rest[n:]
		}
		if _, err := p.Result(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkProbe is the cost of a probe on every upload, in writes of 32 KiB.
func BenchmarkProbe(b *testing.B) {
	frame := func(n int, head ...byte) []byte {
		f := make([]byte, n)
		copy(f, head)
		return f
	}
	b.Run("wav", func(b *testing.B) {
		benchmarkProbe(b, wavFile(wavSpec{data: make([]byte, 16<<20)}))
	})
	b.Run("mp3/128k", func(b *testing.B) {
		benchmarkProbe(b, bytes.Repeat(frame(417, 0xFF, 0xFB, 0x90, 0), 40_000))
	})
	b.Run("mp3/telephone", func(b *testing.B) {
		benchmarkProbe(b, bytes.Repeat(frame(144, 0xFF, 0xE3, 0x28, 0xC4), 100_000))
	})
	b.Run("ogg", func(b *testing.B) {
		benchmarkProbe(b, bytes.Repeat(oggFile(), 1000))
	})
}
