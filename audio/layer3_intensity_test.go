package audio

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
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
				info := mustProbe(t, b)
				got, seen := decodeAll(t, bytes.NewReader(b), info), map[string]int{}
				rms, worst := difference(got, mpg123Decodes(t, file))
				coverage(t, b, info, seen)
				if rms > exactRMS || worst > 1 || seen["intensity"] < 10 {
					t.Errorf("rms %.3f, worst %d, %v", rms, worst, seen)
				}
			})
		}
	}
}

// intensityStream is half a second of noise and a tone.
func intensityStream(t *testing.T, rate, scale int) []byte {
	t.Helper()
	e, err := newMP3Encoder(rate, 2, 64_000)
	if err != nil {
		t.Fatal(err)
	}
	e.header[3] |= 1<<6 | 1<<4 // joint stereo, intensity
	var out []byte
	pcm := noise(rate)
	for i, v := range Sine(rate, 500, 0.3, time.Second) {
		pcm[i] = v + pcm[i]/4
	}
	for n := 0; n+1152 < rate; n += granuleLines {
		e.analyse(0, interleave(pcm[n:n+granuleLines], make([]int16, granuleLines)))
		out = append(out, intensityFrame(e, scale)...)
	}
	return out
}

func intensityFrame(e *MP3Encoder, scale int) []byte {
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
	b := append([]byte(nil), e.header[:]...)
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
	bits := bitReader{bytes: append(side.b, make([]byte, 8)...)}
	for i := range 63 {
		bit := uint32(bits.take(1))
		if at := i - 12 - 9 - 8; at >= 0 && at < 9 {
			bit = compress >> (8 - at) & 1
		}
		w.put(bit, 1)
	}
	return w
}
