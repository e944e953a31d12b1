package audio

import (
	"fmt"
	"math"
	"testing"
	"time"
)

// TestResampleQuality measures what DESIGN.md says of the resampler: how flat
// it is for what telephony uses, and how little of anything else comes out.
func TestResampleQuality(t *testing.T) {
	for _, pair := range [][2]int{
		{8000, 16000},
		{8000, 48000},
		{8000, 44100},
		{11025, 8000},
		{16000, 8000},
		{44100, 8000},
		{48000, 8000},
		{44100, 48000},
		{48000, 44100},
		{22050, 16000},
		{192000, 8000},
		{44101, 8000},
		{8000, 44101},
	} {
		t.Run(fmt.Sprintf("%d to %d", pair[0], pair[1]), func(t *testing.T) {
			low := float64(min(pair[0], pair[1]))
			for _, part := range []float64{0.01, 0.1, 0.25, 0.35, 0.41} {
				hz := math.Round(part*low/10) * 10 // whole cycles in what is measured
				gain, noise := throughResampler(pair[0], pair[1], hz)
				t.Logf("%.0f Hz: gain %.3f dB, noise %.1f dB", part*low, gain, noise)
				if math.Abs(gain) > 0.05 || noise > -84 {
					t.Errorf("%.0f Hz: gain %.3f dB, noise %.1f dB", part*low, gain, noise)
				}
			}
			if pair[0] > pair[1] {
				// What would fold back is gone.
				for _, part := range []float64{0.505, 0.6, 0.75} {
					if hz := part * low; hz < float64(pair[0])/2 {
						if gain := leakThroughResampler(pair[0], pair[1], hz); gain > -78 {
							t.Errorf("%.0f Hz comes through at %.1f dB", hz, gain)
						}
					}
				}
			}
		})
	}
}

// throughResampler sends a tone through and returns how its level changes and,
// against it, the power of all else.
func throughResampler(in, out int, hz float64) (gain, noise float64) {
	pcm := resample(Sine(in, hz, 0.9, time.Second), in, out)
	pcm = pcm[out/10 : out*9/10]
	s, c, total := 0.0, 0.0, 0.0
	for i, v := range pcm {
		phase := 2 * math.Pi * hz * float64(i) / float64(out)
		s += float64(v) * math.Sin(phase)
		c += float64(v) * math.Cos(phase)
	}
	n := float64(len(pcm))
	s, c = 2*s/n, 2*c/n
	for i, v := range pcm {
		phase := 2 * math.Pi * hz * float64(i) / float64(out)
		e := float64(v) - s*math.Sin(phase) - c*math.Cos(phase)
		total += e * e
	}
	power := (s*s + c*c) / 2
	return 10 * math.Log10(power/toneFullPower), 10 * math.Log10(total/n/power)
}

// toneFullPower is that of the tones that are sent through.
const toneFullPower = 0.9 * math.MaxInt16 * 0.9 * math.MaxInt16 / 2

func leakThroughResampler(in, out int, hz float64) float64 {
	pcm := resample(Sine(in, hz, 0.9, time.Second), in, out)
	sum := 0.0
	for _, v := range pcm[out/10 : out*9/10] {
		sum += float64(v) * float64(v)
	}
	return 10 * math.Log10(sum/float64(out*8/10)/toneFullPower+1e-12)
}

func resample(pcm []int16, in, out int) []int16 {
	r := newResampler(in, out, 1)
	var all []int16
	buf := make([]int16, 777)
	for {
		if n := r.read(buf); n > 0 {
			all = append(all, buf[:n]...)
			continue
		}
		n := min(len(pcm), r.room())
		r.write(pcm[:n])
		pcm = pcm[n:]
		if n == 0 && !r.finish() {
			return all
		}
	}
}
