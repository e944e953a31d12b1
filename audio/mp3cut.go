package audio

import (
	"errors"
	"io"

	"carillon/audio/mpeg"
)

// NewMP3Cut returns an MP3 of what r yields, whose probe info is, from sample
// from to sample to (its end, when that is negative), counted as Trim does. The
// frames are left as they are: nothing is decoded, so nothing is lost. Before the
// first come the two granules that overlap it and fill the filters (one frame of
// MPEG-1, two of the others), and before those the frames whose bytes they need
// (their reservoir: two as FreeSWITCH records, nine at most), so that all sounds
// bit by bit as in the whole. A header frame tells players to leave out what is
// more than was asked for; to those that do not know it, and where it cannot be
// had (to an item whose frames have several rates, to one that grows), the cut
// begins and ends up to so many frames too far out. What is no frame of sound is
// left out. Errors are those of r.
func NewMP3Cut(r io.Reader, info Info, from, to int64) io.Reader {
	end := info.Samples - info.EncoderPadding
	c := &mp3Cut{framer: newMP3Framer(r), info: info, from: max(from, 0) + info.EncoderDelay, to: -1}
	if to >= 0 {
		c.to = to + info.EncoderDelay
	}
	if info.Samples > 0 && (c.to < 0 || c.to > end) {
		c.to = end
	}
	return c
}

type mp3Cut struct {
	framer mp3Framer
	info   Info
	// from and to count as the frames do, with what the encoder added.
	from, to int64
	at       int64 // of the next frame
	index    int64 // of the next frame, in frames
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
	begin := c.at
	c.at += c.samples(h)
	switch {
	case c.to >= 0 && begin >= c.to:
		c.done = true
	case c.begun:
		c.ready = frame
	case c.at > c.from:
		c.begun = true
		lead, count := c.needed(frame)
		c.ready = append(c.header(frame, count), lead...)
		c.ready = append(c.ready, frame...)
		c.held = nil
	default:
		c.hold(h, frame)
	}
	c.index++
	return nil
}

// samples is the length of a frame at the rate of the item.
func (c *mp3Cut) samples(h *mpeg.Header) int64 {
	if c.info.SampleRate == 0 {
		return int64(h.Samples)
	}
	return int64(h.Samples) * int64(c.info.SampleRate) / int64(h.SampleRate)
}

// header is the frame that tells what to leave out, or nil.
func (c *mp3Cut) header(frame []byte, lead int) []byte {
	h := &c.framer.frame
	length := int64(h.Samples)
	if c.to < 0 || h.SampleRate != c.info.SampleRate || c.info.Samples != c.info.Frames*length {
		return nil
	}
	first := c.index - int64(lead)
	frames := (c.to-1)/length - first + 1
	told := infoHeader{
		name: "Info", frames: frames,
		delay:   c.from - first*length - decoderDelay,
		padding: (first+frames)*length - c.to + decoderDelay,
	}
	if c.info.VBR {
		told.name = "Xing"
	}
	var silent []byte
	if told.delay < 0 && lead == 0 && newHeldFrame(h, frame).needs == 0 {
		// Players leave out the delay of a decoder at least. It is put there.
		silent = silentFrame(h, frame)
		told.frames++
		told.delay += length
	}
	header := newInfoFrame([mpeg.HeaderBytes]byte(frame), told)
	if header == nil {
		return nil
	}
	return append(header, silent...)
}

// silentFrame is a frame like another, in which nothing is coded.
func silentFrame(h *mpeg.Header, frame []byte) []byte {
	b := make([]byte, len(frame))
	copy(b, frame[:mpeg.HeaderBytes])
	if h.CRC {
		b[1] |= 1 // has none
	}
	return b
}

// heldFrame is how long a frame is, how much of it others may need, and how much
// it needs of others.
type heldFrame struct{ bytes, data, needs int }

func newHeldFrame(h *mpeg.Header, frame []byte) heldFrame {
	var side [16]byte // what is looked at, and what mpeg.BitReader wants behind it
	copy(side[:], frame[min(h.SideEnd()-h.SideBytes(), len(frame)):])
	bits := mpeg.BitReader{Bytes: side[:]}
	needs := bits.Take(8)
	if h.Version == mpeg.V1 {
		needs = needs<<1 | bits.Take(1)
	}
	return heldFrame{bytes: len(frame), data: max(len(frame)-h.SideEnd(), 0), needs: needs}
}

// hold keeps a frame, and forgets those that neither it nor the next can need.
func (c *mp3Cut) hold(h *mpeg.Header, frame []byte) {
	c.held = append(c.held, frame...)
	c.heads = append(c.heads, newHeldFrame(h, frame))
	between := 0 // of the first and those that overlap
	for _, head := range c.heads[1:max(len(c.heads)-overlappingFrames, 1)] {
		between += head.data
	}
	for len(c.heads) > overlappingFrames && between >= mpeg.ReservoirBytesMax {
		c.held = c.held[:copy(c.held, c.held[c.heads[0].bytes:])]
		c.heads = c.heads[1:]
		between -= c.heads[0].data
	}
}

// overlappingFrames are the frames with two granules, at most.
const overlappingFrames = 2

// needed are those of the held frames that the first one wanted needs: those that
// overlap it, and what all of these take from others. It returns how many.
func (c *mp3Cut) needed(frame []byte) (lead []byte, count int) {
	missing := newHeldFrame(&c.framer.frame, frame).needs
	overlapping := overlappingFrames * mpeg.GranuleLines / c.framer.frame.Samples
	from := len(c.held)
	for i := len(c.heads) - 1; i >= 0 && (missing > 0 || overlapping > 0); i-- {
		from -= c.heads[i].bytes
		count++
		missing -= c.heads[i].data
		if overlapping > 0 {
			missing = max(missing, c.heads[i].needs)
			overlapping--
		}
	}
	return c.held[from:], count
}
