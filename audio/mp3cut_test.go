package audio_test

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/iotest"
	"time"

	"carillon/audio"
	"carillon/audio/layer3"
)

// TestMP3Cut: what is left are frames of the whole, in order, whatever lies
// between them, and as many as were asked for, with two more in front.
func TestMP3Cut(t *testing.T) {
	t.Parallel()
	whole, err := layer3.Encode(audio.Melody(8000, 4*time.Second), 8000, 16000)
	if err != nil {
		t.Fatal(err)
	}
	const frame, length = 144, 576
	messy := append([]byte("ID3\x03\x00\x00\x00\x00\x00\x04tags"), whole[:20*frame]...)
	messy = append(messy, make([]byte, 128)...)
	messy = append(messy, whole[20*frame:]...)
	for _, c := range []struct {
		from, to     int64
		first, after int // frames
	}{
		{0, -1, 0, len(whole) / frame},
		{10 * length, -1, 8, len(whole) / frame},
		{10*length + 1, 30 * length, 8, 30},
		{10 * length, 30*length + 1, 8, 31},
		{0, length, 0, 1},
		{1 << 40, -1, len(whole) / frame, len(whole) / frame},
	} {
		for _, input := range [][]byte{whole, messy, append(bytes.Clone(whole), whole[:100]...)} {
			got, err := io.ReadAll(cut(iotest.HalfReader(bytes.NewReader(input)), c.from, c.to))
			if want := whole[c.first*frame : c.after*frame]; err != nil || !bytes.Equal(got, want) {
				t.Errorf("%d to %d: %d bytes, want %d, %v", c.from, c.to, len(got), len(want), err)
			}
		}
	}
	broken := cut(iotest.ErrReader(io.ErrClosedPipe), 0, -1)
	if _, err := io.ReadAll(broken); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("an error of the reader is %v", err)
	}
}

// cut cuts what was not probed: between frames, and without a header.
func cut(r io.Reader, from, to int64) io.Reader { return audio.NewMP3Cut(r, audio.Info{}, from, to) }

// FuzzMP3Cut: the cut of anything is a part of it, and the same however it is
// read.
func FuzzMP3Cut(f *testing.F) {
	sound, err := layer3.Encode(audio.Sine(8000, 440, 0.5, time.Second), 8000, 16000)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sound, int64(100), int64(500))
	f.Add(append([]byte{0, 0, 0xff}, sound[:500]...), int64(0), int64(0))
	f.Add([]byte("\xff\xfb"), int64(-1), int64(1<<62))
	f.Fuzz(func(t *testing.T, p []byte, from, to int64) {
		from, to = from>>20, to>>20 // what no item is longer than
		got, err := io.ReadAll(cut(bytes.NewReader(p), from, to))
		slow, slowErr := io.ReadAll(cut(iotest.OneByteReader(bytes.NewReader(p)), from, to))
		if err != nil || slowErr != nil || !bytes.Equal(got, slow) || len(got) > len(p) {
			t.Fatalf("%d of %d bytes, byte by byte %d, %v, %v", len(got), len(p), len(slow), err, slowErr)
		}
	})
}
