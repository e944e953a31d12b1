package audio

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	"carillon/audio/mpeg"
)

// SilenceReport is where an item is silent. Positions and lengths are samples
// per channel at SampleRate, as a Decoder yields and Trim counts them, in steps
// of 10 ms.
type SilenceReport struct {
	SampleRate int   `json:"sample_rate"`
	Samples    int64 `json:"samples"`
	// Leading and Trailing silence; of an item that is silent as a whole both
	// are all of it.
	Leading  int64 `json:"leading"`
	Trailing int64 `json:"trailing"`
	// Longest is the longest silence anywhere, which begins at LongestAt.
	Longest   int64 `json:"longest"`
	LongestAt int64 `json:"longest_at"`
	// Silent is how much is silent in all, counting what is as long as the
	// minimum.
	Silent int64 `json:"silent"`
	// PeakDB and LevelDB are the loudest sample and the mean power in dBFS: 0
	// is a full scale square wave. Digital silence is -120.
	PeakDB  float64 `json:"peak_db"`
	LevelDB float64 `json:"level_db"`
}

// What Silence counts, unless told otherwise.
const (
	// SilenceThresholdDB lies below the noise of a call (-60 to -50 dBFS with
	// a quiet room behind it) as much as can be without missing whispers.
	SilenceThresholdDB = -48.0
	// SilenceMinimum is longer than any pause within a word.
	SilenceMinimum = 200 * time.Millisecond
)

const (
	// silenceBlock is what is judged at once: a few periods of a low voice.
	silenceBlock = 10 * time.Millisecond
	silenceFloor = -120.0
)

// Silence reads a whole item and reports where its level is below
// SilenceThresholdDB for SilenceMinimum. Errors are those of Decoder.Read.
func Silence(r io.Reader, info Info, options ...Option) (SilenceReport, error) {
	return SilenceBelow(r, info, SilenceThresholdDB, SilenceMinimum, options...)
}

// SilenceBelow is Silence with a threshold in dBFS and a minimum of its own: a
// stretch is silent when no channel has more power than that in any 10 ms of it.
// Leading and trailing silence are told whatever their length.
func SilenceBelow(
	r io.Reader, info Info, thresholdDB float64, minimum time.Duration, options ...Option,
) (SilenceReport, error) {
	d, err := NewDecoder(r, info, options...)
	if err != nil {
		return SilenceReport{}, err
	}
	block := max(samplesIn(silenceBlock, info.SampleRate), 1)
	m := silenceMeter{
		report:    SilenceReport{SampleRate: info.SampleRate},
		threshold: math.Pow(10, thresholdDB/10) * fullPower,
		minimum:   int64(samplesIn(minimum, info.SampleRate)),
		channels:  info.Channels,
	}
	pcm := make([]int16, block*info.Channels)
	n := 0
	for {
		read, err := d.Read(pcm[n:])
		n += read
		if n == len(pcm) || (errors.Is(err, io.EOF) && n > 0) {
			m.block(pcm[:n])
			n = 0
		}
		if errors.Is(err, io.EOF) {
			return m.finish(), nil
		}
		if err != nil {
			return SilenceReport{}, fmt.Errorf("look for silence: %w", err)
		}
	}
}

// fullPower is that of full scale.
const fullPower = float64(1<<15) * float64(1<<15)

type silenceMeter struct {
	report    SilenceReport
	threshold float64
	minimum   int64
	channels  int
	run       int64 // of silence, up to now
	sounded   bool
	peak      int
	power     float64
}

func (m *silenceMeter) block(pcm []int16) {
	frames := int64(len(pcm) / m.channels)
	loudest := 0.0
	for c := range m.channels {
		sum := 0.0
		for i := c; i < len(pcm); i += m.channels {
			v := int(pcm[i])
			m.peak = max(m.peak, v, -v)
			sum += float64(v * v)
		}
		m.power += sum
		loudest = max(loudest, sum/float64(frames))
	}
	m.report.Samples += frames
	if loudest < m.threshold {
		m.run += frames
		return
	}
	m.endRun(frames)
	m.sounded = true
}

// endRun ends the silence that lasted up to so many frames ago.
func (m *silenceMeter) endRun(ago int64) {
	if !m.sounded {
		m.report.Leading = m.run
	}
	if m.run >= m.minimum {
		m.report.Silent += m.run
	}
	if m.run > m.report.Longest {
		m.report.Longest, m.report.LongestAt = m.run, m.report.Samples-ago-m.run
	}
	m.run = 0
}

func (m *silenceMeter) finish() SilenceReport {
	m.report.Trailing = m.run
	m.endRun(0)
	m.report.PeakDB = decibels(float64(m.peak) * float64(m.peak) / fullPower)
	if m.report.Samples > 0 {
		m.report.LevelDB = decibels(m.power / float64(m.report.Samples*int64(m.channels)) / fullPower)
	} else {
		m.report.LevelDB = silenceFloor
	}
	return m.report
}

func decibels(power float64) float64 {
	return max(10*math.Log10(power), silenceFloor)
}

// lostRecordingFrames is how many frames FreeSWITCH sends of a recording that it
// lost: its MP3 encoder, flushed before anything went in.
const lostRecordingFrames = 6

// LostRecording recognises the mark of a FreeSWITCH that lost a recording. With
// its write buffering on, which is the default, it sends nothing before it has
// 65,536 bytes, and when the call ends before that (4.1 s at 8 kHz) it drops
// them and flushes an encoder that has got nothing: at 8 kHz six frames, 864
// bytes, 0.43 s, of nothing but zeros. The remedy is the channel variable
// enable_file_write_buffering=false. head is the begin of the recording, all of
// it when it is not longer than a kilobyte, and info its probe. A recording of
// a silent line is not taken for one: that has more frames.
func LostRecording(head []byte, info Info) bool {
	if info.Format != FormatMP3 || info.Frames == 0 || info.Frames > lostRecordingFrames || info.VBR {
		return false
	}
	rest, frames := head, int64(0)
	for ; len(rest) >= mpeg.HeaderBytes; frames++ {
		h, ok := mpeg.Parse(rest)
		if !ok || h.Layer != 3 || len(rest) < h.FrameBytes {
			break
		}
		rest = rest[h.FrameBytes:]
	}
	if frames != info.Frames {
		return false
	}
	report, err := Silence(bytes.NewReader(head), info)
	return err == nil && report.PeakDB <= silenceFloor
}
