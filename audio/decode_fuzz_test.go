package audio

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/iotest"
)

// fuzzItems are what the fuzzing of decoders begins with, besides the corpus.
func fuzzItems(f *testing.F) {
	f.Helper()
	for _, name := range []string{"rec-short-default-2s", "urec-stereo"} {
		b, _ := freeswitchFile(f, name)
		f.Add(b[:min(len(b), 1500)])
	}
	wav, _ := wavOf(f, Melody(8000, 1e8), 8000, 1)
	f.Add(wav)
}

// FuzzDecode: whatever is probed as sound is decoded without panic, without an
// error but the one for what is not decoded, and converts to exactly the bytes
// that were promised.
func FuzzDecode(f *testing.F) {
	fuzzItems(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		info, err := probeWhole(b)
		if err != nil {
			info = Info{
				Format: FormatMP3, Codec: "mp3_mpeg25_layer3", SampleRate: 8000, Channels: 1, Samples: SamplesUnknown,
			}
		}
		form := Form{Container: ContainerMulaw, Channels: 1}
		if info.SampleRate < 8*formRateMin {
			form.SampleRate = formRateMin
		}
		for _, r := range []io.Reader{bytes.NewReader(b), iotest.HalfReader(bytes.NewBuffer(b))} {
			c, err := NewConverter(r, info, form)
			if err != nil {
				if !errors.Is(err, ErrUnsupportedCodec) {
					t.Fatal(err)
				}
				return
			}
			n, err := io.Copy(io.Discard, c)
			if err != nil && !errors.Is(err, ErrOtherSound) {
				t.Fatal(err)
			}
			if size, ok := form.Size(info); ok && n != size && err == nil {
				t.Fatalf("%d bytes, want %d of %+v", n, size, info)
			}
		}
	})
}

// FuzzGain: the length never changes, and the way the bytes come changes nothing.
func FuzzGain(f *testing.F) {
	fuzzItems(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		out, err := io.ReadAll(NewGainReader(bytes.NewReader(b), 6))
		if err != nil || len(out) != len(b) {
			t.Fatalf("%d bytes of %d, %v", len(out), len(b), err)
		}
		slow, err := io.ReadAll(NewGainReader(iotest.OneByteReader(bytes.NewReader(b)), 6))
		if err != nil || !bytes.Equal(out, slow) {
			t.Fatalf("byte by byte: other bytes, %v", err)
		}
	})
}
