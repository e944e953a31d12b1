package layer3

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"testing"

	"carillon/audio/audiotest"
	"carillon/audio/mpeg"
)

// TestDecodeIntensityLSF compares intensity stereo of MPEG-2 and 2.5, which no
// encoder at hand makes, with mpg123: frames of our encoder, whose right channel
// has one line and then only positions.
func TestDecodeIntensityLSF(t *testing.T) {
	t.Parallel()
	for _, rate := range []int{8000, 16000, 22050} {
		for scale := range 2 {
			t.Run(fmt.Sprint(rate, scale), func(t *testing.T) {
				t.Parallel()
				b := intensityStream(t, rate, scale)
				file := filepath.Join(t.TempDir(), "out.mp3")
				if err := os.WriteFile(file, b, 0o600); err != nil {
					t.Fatal(err)
				}
				got, intense := decodeFrames(t, b)
				rms, worst := audiotest.Difference(got, audiotest.MPG123(t, file))
				if rms > audiotest.ExactRMS || worst > 1 || intense < 10 {
					t.Errorf("rms %.3f, worst %d, %d frames of intensity stereo", rms, worst, intense)
				}
			})
		}
	}
}

// decodeFrames decodes frames that follow one another.
func decodeFrames(t *testing.T, b []byte) (pcm []int16, intense int) {
	t.Helper()
	d := NewDecoder()
	for len(b) > 0 {
		h, err := mpeg.ParseHeader(b)
		if err != nil {
			t.Fatal(err)
		}
		if _, is := h.JointStereo(); is {
			intense++
		}
		frame := make([]int16, h.Samples*h.Channels)
		d.Decode(&h, b[:h.FrameBytes], frame)
		pcm, b = append(pcm, frame...), b[h.FrameBytes:]
	}
	return pcm, intense
}

// intensityStream is half a second of noise and a tone.
func intensityStream(t *testing.T, rate, scale int) []byte {
	t.Helper()
	e, err := NewEncoder(rate, 2, 64_000)
	if err != nil {
		t.Fatal(err)
	}
	e.Header[3] |= 1<<6 | 1<<4 // joint stereo, intensity
	var out []byte
	pcm := audiotest.Noise(rate)
	for i := range pcm {
		tone := 0.3 * math.MaxInt16 * math.Sin(2*math.Pi*500*float64(i)/float64(rate))
		pcm[i] = int16(tone) + pcm[i]/4
	}
	for n := 0; n+1152 < rate; n += mpeg.GranuleLines {
		stereo := make([]int16, 2*mpeg.GranuleLines) // the right channel is silent
		for i, v := range pcm[n : n+mpeg.GranuleLines] {
			stereo[2*i] = v
		}
		e.analyse(0, stereo)
		out = append(out, intensityFrame(e, scale)...)
	}
	return out
}

func intensityFrame(e *Encoder, scale int) []byte {
	left, right := &e.part[0][0], &e.part[0][1]
	e.shape([]*encoderPart{left})
	bits, ok := 0, false
	for gain := 100; !ok || bits > 1300; gain++ {
		bits, ok = left.quantizeAt(e, gain)
	}
	*right = encoderPart{granule: granule{blockType: left.blockType, gain: left.gain}}
	right.value[0] = 1
	right.measure(e)
	size, padding := e.nextSize()
	b := append([]byte(nil), e.Header[:]...)
	b[2] |= padding << 1
	w := bitWriter{b: b}
	// Three groups of seven bands with three bits each; short blocks have none.
	const lengths = 3*36 + 3*6 + 3
	positions := 3 * 21
	compress := uint32(2*lengths + scale)
	if left.blockType == blockShort {
		positions, compress = 0, uint32(scale)
	}
	right.bits += positions
	w.put(0, 8+2)
	left.writeSide(&w, true)
	w = withCompress(w, right, compress)
	left.write(&w, e.tables)
	for band := range positions / 3 {
		w.put(uint32(band%8), 3) // 7 is none
	}
	right.write(&w, e.tables)
	w.flush()
	return append(w.b, make([]byte, size-len(w.b))...)
}

// withCompress writes the side information of a part with a scalefac_compress.
func withCompress(w bitWriter, p *encoderPart, compress uint32) bitWriter {
	var side bitWriter
	p.writeSide(&side, true)
	side.put(0, 1) // 63 bits
	bits := mpeg.BitReader{Bytes: append(side.b, make([]byte, 8)...)}
	for i := range 63 {
		bit := uint32(bits.Take(1))
		if at := i - 12 - 9 - 8; at >= 0 && at < 9 {
			bit = compress >> (8 - at) & 1
		}
		w.put(bit, 1)
	}
	return w
}
