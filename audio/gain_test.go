package audio

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"

	"carillon/audio/audiotest"
	"carillon/audio/mpeg"
)

func lame(tb testing.TB, wav, mp3 string, rate int, args ...string) []byte {
	tb.Helper()
	kHz := strconv.FormatFloat(float64(rate)/1000, 'f', -1, 64)
	all := append([]string{"-S", "--resample", kHz}, args...)
	audiotest.Tool(tb, "lame", append(all, wav, mp3)...)
	b, err := os.ReadFile(mp3)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func gained(tb testing.TB, b []byte, dB float64) []byte {
	tb.Helper()
	out, err := io.ReadAll(NewGainReader(bytes.NewReader(b), dB))
	if err != nil {
		tb.Fatal(err)
	}
	return out
}

// TestGain: mpg123 hears the level change by as much as was asked, in all
// versions and modes, with checksums that are right; and taking it away again
// gives the same bytes.
func TestGain(t *testing.T) {
	t.Parallel()
	for _, rate := range []int{8000, 22050, 44100} {
		for channels := 1; channels <= 2; channels++ {
			for _, args := range [][]string{{"-b", "64", "-p"}, {"-t", "-V", "4"}} {
				t.Run(fmt.Sprint(rate, channels, args[0]), func(t *testing.T) {
					t.Parallel()
					dir := t.TempDir()
					wav, mp3 := filepath.Join(dir, "in.wav"), filepath.Join(dir, "out.mp3")
					tone(t, wav, rate, channels, 1)
					b := lame(t, wav, mp3, rate, append(args, "--scale", "0.2")...)
					before := level(audiotest.Samples(audiotest.Tool(t, "mpg123", "-q", "-s", mp3)))
					for _, dB := range []float64{6, 12, -9, 1.4} {
						changed := gained(t, b, dB)
						if err := os.WriteFile(mp3, changed, 0o600); err != nil {
							t.Fatal(err)
						}
						if len(changed) != len(b) {
							t.Fatalf("%v dB: %d bytes, were %d", dB, len(changed), len(b))
						}
						after := level(audiotest.Samples(audiotest.Tool(t, "mpg123", "-q", "-s", mp3)))
						want := math.Round(dB/mpeg.GainStepDB) * mpeg.GainStepDB
						if got := after - before; math.Abs(got-want) > 0.1 {
							t.Errorf("%v dB: level changes by %.2f dB, want %.2f", dB, got, want)
						}
						checksums(t, changed)
						if !bytes.Equal(gained(t, changed, -dB), b) {
							t.Errorf("%v dB and back: other bytes", dB)
						}
					}
				})
			}
		}
	}
}

// level is the power of the samples in dB.
func level(pcm []int16) float64 {
	sum := 0.0
	for _, v := range pcm {
		sum += float64(v) * float64(v)
	}
	return 10 * math.Log10(sum/float64(len(pcm))+1e-9)
}

// checksums checks those of all protected frames.
func checksums(t *testing.T, b []byte) {
	t.Helper()
	for len(b) >= mpeg.HeaderBytes {
		h, err := mpeg.ParseHeader(b)
		if err != nil || len(b) < h.FrameBytes {
			return
		}
		if end := mpeg.HeaderBytes + mpeg.CRCBytes + h.SideBytes(); h.CRC {
			sum := mpeg.CRC16(mpeg.CRC16(math.MaxUint16, b[2:4]), b[6:end])
			if want := uint16(b[4])<<8 | uint16(b[5]); sum != want {
				t.Fatalf("checksum %#x, is %#x", want, sum)
			}
		}
		b = b[h.FrameBytes:]
	}
}

// TestGainReads: whatever the sizes of the reads, and whatever is between the
// frames, the bytes are the same, and only those of frames change.
func TestGainReads(t *testing.T) {
	whole, err := os.ReadFile(filepath.Join("testdata", "freeswitch", "rec-icecast.mp3"))
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		end := rapid.IntRange(0, len(whole)).Draw(t, "end")
		at := rapid.IntRange(0, end).Draw(t, "at")
		noise := rapid.SliceOfN(rapid.Byte(), 0, 3000).Draw(t, "noise")
		in := join(whole[:at], noise, whole[at:end])
		steps := float64(rapid.IntRange(-20, 20).Draw(t, "steps"))
		read := func(r io.Reader) []byte {
			b, err := io.ReadAll(NewGainReader(r, steps*mpeg.GainStepDB))
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
		out := read(bytes.NewReader(in))
		if len(out) != len(in) {
			t.Fatalf("%d bytes, want %d", len(out), len(in))
		}
		if !bytes.Equal(out, read(iotest.OneByteReader(bytes.NewReader(in)))) {
			t.Fatal("byte by byte: other bytes")
		}
		var pushed bytes.Buffer
		w := NewGainWriter(&pushed, steps*mpeg.GainStepDB)
		for rest := in; len(rest) > 0; {
			n := rapid.IntRange(1, min(len(rest), 700)).Draw(t, "piece")
			if m, err := w.Write(rest[:n]); m != n || err != nil {
				t.Fatal(m, err)
			}
			rest = rest[n:]
		}
		if err := w.Flush(); err != nil || !bytes.Equal(out, pushed.Bytes()) {
			t.Fatalf("piece by piece: other bytes, %v", err)
		}
		if !bytes.Equal(out, read(iotest.DataErrReader(bytes.NewReader(in)))) {
			t.Fatal("end with the last bytes: other bytes")
		}
	})
}

// TestGainLeavesOthers: silence, nothing, WAV and Ogg go through as they are.
func TestGainLeavesOthers(t *testing.T) {
	for _, b := range [][]byte{nil, make([]byte, 10_000), []byte("RIFF....WAVEfmt "), []byte("OggS")} {
		if !bytes.Equal(gained(t, b, 6), b) {
			t.Errorf("%.10q is changed", b)
		}
	}
	r := bytes.NewReader(nil)
	if NewGainReader(r, 0.5) != io.Reader(r) || NewGainReader(r, math.NaN()) != io.Reader(r) {
		t.Error("no gain needs no reader")
	}
	broken := NewGainReader(iotest.ErrReader(io.ErrClosedPipe), 6)
	if _, err := io.ReadAll(broken); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("error %v", err)
	}
}

// BenchmarkGain is the cost of a louder recording, beside handing it on.
func BenchmarkGain(b *testing.B) {
	item, info := freeswitchFile(b, "rec-icecast")
	r := NewGainReader(&loop{b: item}, 6)
	buf := make([]byte, 4096)
	read := 0
	b.ReportAllocs()
	for b.Loop() {
		n, err := r.Read(buf)
		if err != nil {
			b.Fatal(err)
		}
		read += n
	}
	b.ReportMetric(float64(read)*8/float64(info.BitRate)/b.Elapsed().Seconds(), "x_realtime")
}
