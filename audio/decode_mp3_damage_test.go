package audio

import (
	"bytes"
	"errors"
	"io"
	"path/filepath"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"carillon/audio/mpeg"
)

// TestDecodeMP3Joined begins at any byte: what cannot be known is silence, and
// then every sample is the same as for one who heard all.
func TestDecodeMP3Joined(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	wav, mp3 := filepath.Join(dir, "in.wav"), filepath.Join(dir, "out.mp3")
	for rate, frame := range map[int]int{8000: 576, 44100: 1152} {
		lively(t, wav, rate, 2)
		whole := lame(t, wav, mp3, rate, "-t", "-b", "64")
		all := decodeAll(t, bytes.NewReader(whole), mustProbe(t, whole))
		// The reservoir reaches back four frames here, the filters one more.
		unknown := 6 * frame * 2
		for cut := 1; cut < len(whole)*3/4; cut += 997 {
			part := whole[cut:]
			info := mustProbe(t, part)
			info.Samples = SamplesUnknown
			got := decodeAll(t, bytes.NewReader(part), info)
			same := len(got) - unknown
			if !slices.Equal(got[unknown:], all[len(all)-same:]) {
				t.Fatalf("%d Hz, from byte %d: other sound", rate, cut)
			}
		}
	}
}

// TestDecodeMP3Live: each frame is heard when it has come, before the next.
func TestDecodeMP3Live(t *testing.T) {
	b, info := freeswitchFile(t, "rec-icecast")
	const frameBytes = 144
	info.Samples = SamplesUnknown
	src := &frameByFrame{b: b, size: frameBytes}
	d, err := NewDecoder(src, info)
	if err != nil {
		t.Fatal(err)
	}
	pcm := make([]int16, 1152)
	for frame := 1; ; frame++ {
		n, err := d.Read(pcm)
		if errors.Is(err, io.EOF) {
			if frame != 97 {
				t.Errorf("%d frames", frame-1)
			}
			return
		}
		// The first wants the header of the second, to be believed.
		if err != nil || n != 576 || src.reads > max(frame, 2) {
			t.Fatalf("frame %d: %d samples after %d reads, %v", frame, n, src.reads, err)
		}
	}
}

type frameByFrame struct {
	b           []byte
	size, reads int
}

func (f *frameByFrame) Read(p []byte) (int, error) {
	if len(f.b) == 0 {
		return 0, io.EOF
	}
	n := copy(p, f.b[:min(f.size, len(f.b))])
	f.b = f.b[n:]
	f.reads++
	return n, nil
}

// TestDecodeMP3Damage puts noise between and into frames and leaves some out:
// there is never an error, always as many samples as the probe said, and when
// the reservoir (at most two frames here) is full again the sound is right.
func TestDecodeMP3Damage(t *testing.T) {
	t.Parallel()
	whole, info := freeswitchFile(t, "rec-icecast")
	all := decodeAll(t, bytes.NewReader(whole), info)
	const frameBytes, samples = 144, 576
	rapid.Check(t, func(t *rapid.T) {
		b := slices.Clone(whole)
		frame := rapid.IntRange(2, 80).Draw(t, "frame")
		at := frame * frameBytes
		what := rapid.SampledFrom([]string{"between", "into", "out"}).Draw(t, "what")
		noise := rapid.SliceOfN(rapid.ByteRange(1, 0x40), 1, frameBytes-mpeg.HeaderBytes).Draw(t, "noise")
		rest := all[(frame+5)*samples:]
		switch what {
		case "between":
			b = slices.Insert(b, at, noise...)
		case "into":
			copy(b[at+mpeg.HeaderBytes:], noise)
		case "out":
			b = slices.Delete(b, at, at+frameBytes)
		}
		info, err := probeWhole(b)
		if err != nil {
			t.Fatal(err)
		}
		got := readDecoder(t, bytes.NewReader(b), info)
		if int64(len(got)) != info.Samples {
			t.Fatalf("%d samples, want %d", len(got), info.Samples)
		}
		if !slices.Equal(got[len(got)-len(rest):], rest) {
			t.Fatalf("%s: other sound after the damage", what)
		}
	})
}

func readDecoder(t *rapid.T, r io.Reader, info Info) []int16 {
	d, err := NewDecoder(r, info)
	if err != nil {
		t.Fatal(err)
	}
	var pcm []int16
	buf := make([]int16, 999)
	for {
		n, err := d.Read(buf)
		pcm = append(pcm, buf[:n]...)
		if errors.Is(err, io.EOF) {
			return pcm
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestDecodeMP3JoinedFiles decodes files of other rates and channels that were
// put one behind the other: the sound of all, as long as the probe says.
func TestDecodeMP3JoinedFiles(t *testing.T) {
	narrow, _ := freeswitchFile(t, "rec-icecast")
	wide, _ := freeswitchFile(t, "urec-16k")
	stereo, _ := freeswitchFile(t, "urec-stereo")
	for _, b := range [][]byte{
		join(narrow, wide, narrow, stereo), join(wide, wide, narrow, wide), join(stereo, stereo, wide, narrow),
	} {
		info := mustProbe(t, b)
		form := Form{Container: ContainerRaw}
		size, _ := form.Size(info)
		got := convertAll(t, b, info, form)
		if int64(len(got)) != size || size != info.Samples*int64(2*info.Channels) {
			t.Errorf("%d bytes, want %d of %+v", len(got), size, info)
		}
		n := len(decodeAll(t, bytes.NewReader(b), info)) / info.Channels
		if abs := info.Samples - int64(n); abs < 0 || abs > 8 {
			t.Errorf("%d samples of %+v", n, info)
		}
	}
}
