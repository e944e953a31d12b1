package audio

import (
	"errors"
	"io"
	"time"
)

// NewMP3Cut returns the frames of the MP3 that r yields which sound between
// from and to (0: its end), as they are: nothing is decoded, so nothing is lost
// but what is less than a frame. from and to count as a Decoder does: without
// the delay that a header frame tells. Before the first frame come the two granules
// that overlap it and fill the filters (one frame of MPEG-1, two of the others),
// and before those the frames whose bytes they need (their reservoir: two as
// FreeSWITCH records, nine at most; these are silent), so that what was asked for
// sounds bit by bit as in the whole. What is no frame of sound is
// left out, the header frame too, which would be wrong then. Errors are those
// of r.
func NewMP3Cut(r io.Reader, from, to time.Duration) io.Reader {
	return &mp3Cut{framer: newMP3Framer(r), from: from, to: to}
}

type mp3Cut struct {
	framer   mp3Framer
	from, to time.Duration
	at       time.Duration // of the next frame
	counted  bool          // the delay is in at
	// held are the last frames before from, and heads what is known of each.
	held  []byte
	heads []heldFrame
	// ready is what is still to be read.
	ready []byte
	begun bool
	done  bool
}

// Read implements io.Reader.
func (c *mp3Cut) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for len(c.ready) == 0 {
		if c.done {
			return 0, io.EOF
		}
		if err := c.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, c.ready)
	c.ready = c.ready[n:]
	return n, nil
}

// next makes the next frame that is wanted ready, holds one that is not, or
// sets done.
func (c *mp3Cut) next() error {
	frame, err := c.framer.nextFrame()
	if errors.Is(err, io.EOF) {
		c.done = true
		return nil
	}
	if err != nil {
		return err
	}
	h := &c.framer.frame
	if !c.counted {
		c.counted = true
		if told := c.framer.probe.gapless; told.frames > 0 {
			c.at = -time.Duration(told.delay+decoderDelay) * time.Second / time.Duration(h.SampleRate)
		}
	}
	begin := c.at
	c.at += time.Duration(h.Samples) * time.Second / time.Duration(h.SampleRate)
	switch {
	case c.to > 0 && begin >= c.to:
		c.done = true
	case c.begun:
		c.ready = frame
	case c.at > c.from:
		c.begun = true
		c.ready = append(c.needed(frame), frame...)
		c.held = nil
	default:
		c.hold(h, frame)
	}
	return nil
}

// heldFrame is how long a frame is, how much of it others may need, and how much
// it needs of others.
type heldFrame struct{ bytes, data, needs int }

func newHeldFrame(h *FrameHeader, frame []byte) heldFrame {
	var side [16]byte // what is looked at, and what bitReader wants behind it
	copy(side[:], frame[min(h.sideEnd()-h.sideBytes(), len(frame)):])
	bits := bitReader{bytes: side[:]}
	needs := bits.take(8)
	if h.Version == MPEG1 {
		needs = needs<<1 | bits.take(1)
	}
	return heldFrame{bytes: len(frame), data: max(len(frame)-h.sideEnd(), 0), needs: needs}
}

// hold keeps a frame, and forgets those that neither it nor the next can need.
func (c *mp3Cut) hold(h *FrameHeader, frame []byte) {
	c.held = append(c.held, frame...)
	c.heads = append(c.heads, newHeldFrame(h, frame))
	between := 0 // of the first and those that overlap
	for _, head := range c.heads[1:max(len(c.heads)-overlappingFrames, 1)] {
		between += head.data
	}
	for len(c.heads) > overlappingFrames && between >= reservoirBytesMax {
		c.held = c.held[:copy(c.held, c.held[c.heads[0].bytes:])]
		c.heads = c.heads[1:]
		between -= c.heads[0].data
	}
}

// overlappingFrames are the frames with two granules, at most.
const overlappingFrames = 2

// needed are those of the held frames that the first one wanted needs: those that
// overlap it, and what all of these take from others.
func (c *mp3Cut) needed(frame []byte) []byte {
	missing := newHeldFrame(&c.framer.frame, frame).needs
	overlapping := overlappingFrames * granuleLines / c.framer.frame.Samples
	from := len(c.held)
	for i := len(c.heads) - 1; i >= 0 && (missing > 0 || overlapping > 0); i-- {
		from -= c.heads[i].bytes
		missing -= c.heads[i].data
		if overlapping > 0 {
			missing = max(missing, c.heads[i].needs)
			overlapping--
		}
	}
	return c.held[from:]
}
