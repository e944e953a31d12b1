package audio

import (
	"errors"
	"fmt"
	"io"
	"math"
	"time"
)

// Part is a piece of what Join makes: stored sound (Source and Info, of which
// Options may trim something), or else a tone or a pause (see Tone and Pause).
type Part struct {
	Source  io.Reader
	Info    Info
	Options []Option

	length    time.Duration
	hz        float64
	amplitude float64
}

// toneEdge is how long a tone takes to begin and to end, so that it does not
// click.
const toneEdge = 5 * time.Millisecond

// partLengthMax bounds a tone or pause: nobody waits longer between two messages.
const partLengthMax = time.Minute

// ErrNoParts is returned when there is nothing to join: no part with a source,
// or a tone or pause that is no length or longer than a minute.
var ErrNoParts = errors.New("no parts to join")

// ErrTone is returned for a tone of less than 0 Hz, or of half the rate of the
// form or more: what would be heard is another one.
var ErrTone = errors.New("no such tone at this rate")

// Tone is a sine of some dBFS (0 is full scale) that begins and ends softly: the
// beep between an introduction and what it introduces. It is as long as d, at
// most a minute.
func Tone(hz, dBFS float64, d time.Duration) Part {
	return Part{hz: hz, amplitude: math.Pow(10, min(dBFS, 0)/20), length: d}
}

// Pause is silence of a length, at most a minute.
func Pause(d time.Duration) Part { return Part{length: d} }

// Join writes the parts one after the other, gapless, as one item of a form. The
// zeros of form are filled in by the first part that has a source. It returns
// ErrNoParts, ErrTone, what Form.Of and Decoder.Read do, and the errors of w.
func Join(w io.Writer, form Form, parts ...Part) error {
	c, err := NewJoin(form, parts...)
	if err != nil {
		return err
	}
	if _, err := io.Copy(w, c); err != nil {
		return fmt.Errorf("join: %w", err)
	}
	return nil
}

// NewJoin is Join to be read, with its exact size in advance when all parts
// have an end.
func NewJoin(form Form, parts ...Part) (*Converter, error) {
	form, err := formOf(form, parts)
	if err != nil {
		return nil, err
	}
	joined := &sequence{}
	total := int64(0)
	for i := range parts {
		sound, frames, err := parts[i].open(form)
		if err != nil {
			return nil, fmt.Errorf("part %d: %w", i, err)
		}
		joined.parts = append(joined.parts, sound)
		if total >= 0 && frames >= 0 {
			total += frames
		} else {
			total = -1
		}
	}
	size := int64(-1)
	if total >= 0 {
		size = form.bytes(total)
	}
	return newConverter(joined, form, total, size)
}

// formOf fills in the zeros of form.
func formOf(form Form, parts []Part) (Form, error) {
	for i := range parts {
		if parts[i].Source != nil {
			return form.Of(parts[i].Info)
		}
	}
	return Form{}, ErrNoParts
}

// open returns the sound of a part and how many frames it is, negative when
// nobody knows.
func (p *Part) open(form Form) (frameReader, int64, error) {
	if p.Source != nil {
		sound, err := newConversion(p.Source, p.Info, form, p.Options)
		if err != nil {
			return nil, 0, err
		}
		return sound, sound.left, nil
	}
	if p.length <= 0 || p.length > partLengthMax {
		return nil, 0, fmt.Errorf("%v of tone: %w", p.length, ErrNoParts)
	}
	if p.hz < 0 || 2*p.hz >= float64(form.SampleRate) {
		return nil, 0, fmt.Errorf("%v Hz at %d Hz: %w", p.hz, form.SampleRate, ErrTone)
	}
	t := &toneReader{
		channels: form.Channels, amplitude: p.amplitude,
		step:  2 * math.Pi * p.hz / float64(form.SampleRate),
		total: samplesIn(p.length, form.SampleRate),
		edge:  max(samplesIn(toneEdge, form.SampleRate), 1),
	}
	return t, int64(t.total), nil
}

// toneReader is the sound of a tone or a pause.
type toneReader struct {
	channels        int
	amplitude, step float64
	at, total, edge int
}

func (t *toneReader) frames(out []int16) (int, error) {
	n := min(len(out)/t.channels, t.total-t.at)
	if n == 0 {
		return 0, io.EOF
	}
	for i := range n {
		edge := min(1, float64(min(t.at, t.total-1-t.at))/float64(t.edge))
		v := toInt16(t.amplitude * edge * math.Sin(t.step*float64(t.at)))
		for c := range t.channels {
			out[i*t.channels+c] = v
		}
		t.at++
	}
	return n, nil
}

// sequence is one sound after the other.
type sequence struct{ parts []frameReader }

func (s *sequence) frames(out []int16) (int, error) {
	for len(s.parts) > 0 {
		n, err := s.parts[0].frames(out)
		if n > 0 || (err != nil && !errors.Is(err, io.EOF)) {
			return n, err
		}
		s.parts = s.parts[1:]
	}
	return 0, io.EOF
}
