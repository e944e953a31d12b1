package audio

import (
	"errors"
	"fmt"
	"io"

	"carillon/audio/mpeg"
)

// mp3BufferBytes holds the longest frame and the header behind it, the longest
// tag that must be looked at, and as much again, so that reads are not tiny.
const mp3BufferBytes = 4096

// mp3Framer finds the frames that the prober counts, and nothing else.
type mp3Framer struct {
	r     io.Reader
	probe mp3Probe
	frame mpeg.Header
	// pass is what is left of a tag.
	pass     int64
	buf      [mp3BufferBytes]byte
	from, to int
	err      error // of the reader, behind buf
}

func newMP3Framer(r io.Reader) mp3Framer {
	return mp3Framer{r: r, probe: mp3Probe{inPlace: true}}
}

// nextFrame finds the next whole frame of sound; its bytes are good until the
// next call. It returns io.EOF at the end, behind which half a frame may be.
func (f *mp3Framer) nextFrame() ([]byte, error) {
	for {
		if err := f.passTag(); err != nil {
			return nil, err
		}
		b := f.buf[f.from:f.to]
		eof := errors.Is(f.err, io.EOF)
		n := f.probe.step(b, eof)
		if n == 0 {
			if err := f.fill(); err != nil {
				return nil, err
			}
			continue
		}
		if f.probe.unit != unitFrame {
			f.pass = n
			continue
		}
		for int64(f.to-f.from) < n {
			if err := f.fill(); err != nil {
				return nil, err
			}
		}
		frame := f.buf[f.from : f.from+int(n)]
		f.from += int(n)
		f.probe.complete()
		f.frame = f.probe.frame
		return frame, nil
	}
}

// passTag leaves out the rest of what is no frame of sound.
func (f *mp3Framer) passTag() error {
	for f.pass > 0 {
		n := min(f.pass, int64(f.to-f.from))
		f.from += int(n)
		f.pass -= n
		if f.pass == 0 {
			f.probe.complete()
			return nil
		}
		if err := f.fill(); err != nil {
			return err
		}
	}
	return nil
}

// fill reads once, behind what is left of the last time.
func (f *mp3Framer) fill() error {
	if f.err != nil {
		return f.err
	}
	f.to = copy(f.buf[:], f.buf[f.from:f.to])
	f.from = 0
	if f.to == len(f.buf) {
		return fmt.Errorf("no frame in %d bytes: %w", f.to, ErrOtherSound)
	}
	n, err := readSome(f.r, f.buf[f.to:])
	f.to += n
	f.err = err
	if n == 0 && !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}
