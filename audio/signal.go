package audio

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"time"
)

// Sine is a tone of one channel. The amplitude is that of full scale when it is 1.
func Sine(sampleRate int, hz, amplitude float64, d time.Duration) []int16 {
	pcm := make([]int16, samplesIn(d, sampleRate))
	for i := range pcm {
		pcm[i] = toInt16(amplitude * math.Sin(2*math.Pi*hz*float64(i)/float64(sampleRate)))
	}
	return pcm
}

// Melody is a small tune on a music box, of one channel and any length: a
// carillon. The same arguments give the same samples.
func Melody(sampleRate int, d time.Duration) []int16 {
	const (
		beat = 300 * time.Millisecond
		ring = 4 // beats until a bell is silent
		rest = -100
	)
	// The Westminster quarters, in semitones from the A of 440 Hz.
	notes := [...]float64{
		-1, -5, -3, -10, rest, -10, -3, -1, -5, rest,
		-1, -3, -5, -10, rest, -5, -1, -3, -10, rest,
	}
	pcm := make([]int16, samplesIn(d, sampleRate))
	step := samplesIn(beat, sampleRate)
	for i := range pcm {
		sum := 0.0
		for back := range ring {
			n := i/step - back
			if n < 0 || notes[n%len(notes)] == rest {
				continue
			}
			age := float64(i-n*step) / float64(sampleRate)
			sum += bell(440*math.Exp2(notes[n%len(notes)]/12), age)
		}
		pcm[i] = toInt16(0.4 * sum)
	}
	return pcm
}

// bell is the sound of a bell some seconds after the stroke: partials that fade,
// the higher the sooner, and a soft start.
func bell(hz, age float64) float64 {
	sum := 0.0
	for i, level := range [3]float64{1, 0.3, 0.12} {
		partial := float64(i + 1)
		sum += level * math.Exp(-4*partial*age) * math.Sin(2*math.Pi*hz*partial*age)
	}
	return sum * min(1, age*200)
}

func samplesIn(d time.Duration, sampleRate int) int {
	return int(int64(d) * int64(sampleRate) / int64(time.Second))
}

func toInt16(v float64) int16 {
	return int16(math.Round(math.MaxInt16 * min(max(v, -1), 1)))
}

// ErrTooLong is returned for more sound than a WAV file can hold.
var ErrTooLong = errors.New("too long for a wav file")

// WriteWAV writes a WAV file of 16 bit samples, those of the channels in turn.
func WriteWAV(w io.Writer, pcm []int16, sampleRate, channels int) error {
	const (
		sampleBytes = 2
		chunkBytes  = 32 << 10 // what is handed to w at once
	)
	if len(pcm) > (math.MaxUint32-wavHeadBytes)/sampleBytes {
		return fmt.Errorf("%d samples: %w", len(pcm), ErrTooLong)
	}
	le := binary.LittleEndian
	b := appendWAVHead(make([]byte, 0, chunkBytes), sampleRate, channels, int64(len(pcm)*sampleBytes))
	for _, v := range pcm {
		if len(b)+sampleBytes > chunkBytes {
			if _, err := w.Write(b); err != nil {
				return fmt.Errorf("write wav: %w", err)
			}
			b = b[:0]
		}
		b = le.AppendUint16(b, uint16(v))
	}
	if _, err := w.Write(b); err != nil {
		return fmt.Errorf("write wav: %w", err)
	}
	return nil
}

// wavHeadBytes is the length of the head of a WAV file of 16 bit samples.
const wavHeadBytes = 44

// appendWAVHead appends the head before so many bytes of 16 bit samples. A
// negative length, or one that the head cannot hold, is told as writers to a
// pipe do: all ones, to the end of the file.
func appendWAVHead(b []byte, sampleRate, channels int, dataBytes int64) []byte {
	const sampleBytes = 2
	riff, data := uint32(math.MaxUint32), uint32(math.MaxUint32)
	if dataBytes >= 0 && dataBytes <= math.MaxUint32-wavHeadBytes {
		riff, data = uint32(wavHeadBytes-chunkHeadBytes+dataBytes), uint32(dataBytes)
	}
	le := binary.LittleEndian
	b = append(b, "RIFF"...)
	b = le.AppendUint32(b, riff)
	b = append(b, "WAVEfmt "...)
	b = le.AppendUint32(b, fmtBytesMin)
	b = le.AppendUint16(b, wavTagPCM)
	b = le.AppendUint16(b, uint16(channels))
	b = le.AppendUint32(b, uint32(sampleRate))
	b = le.AppendUint32(b, uint32(sampleRate*channels*sampleBytes))
	b = le.AppendUint16(b, uint16(channels*sampleBytes))
	b = le.AppendUint16(b, 8*sampleBytes)
	b = append(b, "data"...)
	return le.AppendUint32(b, data)
}
