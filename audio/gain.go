package audio

import (
	"errors"
	"io"

	"carillon/audio/mpeg"
)

// sideEndBytesMax is the longest header, checksum and side information.
const sideEndBytesMax = mpeg.HeaderBytes + mpeg.CRCBytes + 32

// NewGainReader returns the MP3 that r yields, louder by dB (or quieter), to the
// nearest mpeg.GainStepDB. It changes the gain of every granule and channel and the
// checksum of protected frames and nothing else: no quality is lost, and the
// same dB taken away gives the same bytes again unless a gain came to the end of
// its range, 0 or 255, where it stays. The length does not change, no byte is
// held back longer than it takes to know the frame it belongs to, and what is no
// frame of sound (tags, the header frame, garbage, any other format) is handed
// on as it is. Whether it then clips is not looked at. Errors are those of r.
func NewGainReader(r io.Reader, dB float64) io.Reader {
	steps := mpeg.GainSteps(dB)
	if steps == 0 {
		return r
	}
	return &gainReader{r: r, steps: steps, probe: mp3Probe{inPlace: true}}
}

// GainWriter is NewGainReader for who is given the MP3 piece by piece, at the
// begin of a frame or anywhere. One goroutine at a time uses it.
type GainWriter struct {
	w    io.Writer
	in   pushed
	gain gainReader
}

// NewGainWriter writes to w what it is given, louder by dB.
func NewGainWriter(w io.Writer, dB float64) *GainWriter {
	g := &GainWriter{w: w}
	g.gain = gainReader{r: &g.in, steps: mpeg.GainSteps(dB), probe: mp3Probe{inPlace: true}}
	return g
}

// Write takes p and hands on what is known of it: the last few bytes may wait
// for the next Write. The error is that of the writer below, which is given
// nothing more then.
func (g *GainWriter) Write(p []byte) (int, error) {
	g.in = p
	return len(p), g.handOn()
}

// Flush hands on what waits, as it is: nothing will follow.
func (g *GainWriter) Flush() error {
	g.gain.err = io.EOF
	if err := g.handOn(); !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

func (g *GainWriter) handOn() error {
	for {
		if g.gain.from < g.gain.ready {
			n, err := g.w.Write(g.gain.buf[g.gain.from:g.gain.ready])
			g.gain.from += n
			if err != nil {
				return err
			}
			continue
		}
		switch err := g.gain.advance(); {
		case errors.Is(err, errPushed):
			return nil
		case err != nil:
			return err
		}
	}
}

// errPushed is returned by a pushed that has been read: there may be more.
var errPushed = errors.New("more may come")

// pushed is the piece that is being written to a GainWriter.
type pushed []byte

func (p *pushed) Read(to []byte) (int, error) {
	if len(*p) == 0 {
		return 0, errPushed
	}
	n := copy(to, *p)
	*p = (*p)[n:]
	return n, nil
}

type gainReader struct {
	r     io.Reader
	steps int
	probe mp3Probe
	// pass is what is left of the present frame or tag.
	pass int64
	buf  [mp3BufferBytes]byte
	// from and ready bound the bytes of buf that may be read; those behind, up
	// to buf[to], were not looked at.
	from, ready, to int
	err             error // of r, behind buf
}

func (g *gainReader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for g.from == g.ready {
		if err := g.advance(); err != nil {
			return 0, err
		}
	}
	n := copy(p, g.buf[g.from:g.ready])
	g.from += n
	return n, nil
}

// advance makes bytes ready, or reads some.
func (g *gainReader) advance() error {
	switch {
	case g.pass > 0 && g.from < g.to:
		n := min(g.pass, int64(g.to-g.from))
		g.ready = g.from + int(n)
		if g.pass -= n; g.pass == 0 {
			g.probe.complete()
		}
		return nil
	case g.pass > 0:
		return g.fill()
	}
	n := g.probe.step(g.buf[g.from:g.to], errors.Is(g.err, io.EOF))
	if n == 0 {
		return g.more()
	}
	if g.probe.unit == unitFrame {
		for int64(g.to-g.from) < min(n, sideEndBytesMax) && g.err == nil {
			if err := g.fill(); err != nil {
				return err
			}
		}
		mpeg.ChangeGain(&g.probe.frame, g.buf[g.from:g.to], g.steps)
	}
	g.pass = n
	return nil
}

// more reads what the next step wants, or lets the rest go as it is.
func (g *gainReader) more() error {
	if g.err == nil && g.to-g.from < len(g.buf) {
		return g.fill()
	}
	if g.from < g.to {
		g.ready = g.to
		return nil
	}
	return g.err
}

// fill reads once, behind what is left of the last time.
func (g *gainReader) fill() error {
	if g.err != nil {
		return g.err
	}
	g.to = copy(g.buf[:], g.buf[g.from:g.to])
	g.from, g.ready = 0, 0
	n, err := readSome(g.r, g.buf[g.to:])
	g.to += n
	if errors.Is(err, errPushed) {
		return err
	}
	g.err = err
	return nil
}
