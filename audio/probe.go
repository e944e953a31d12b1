package audio

import "io"

// heldBytesMax is what a Prober keeps of the stream between two writes. The
// longest look ahead is an MP3 frame (1441 bytes: 320 kbit/s at 32 kHz, padded)
// and the header behind it; the rest is slack.
const heldBytesMax = 2048

// Prober measures audio that is written to it, whatever the sizes of the
// writes, in constant memory and without touching the sound itself, so that a
// stream is probed while it passes. Write never fails and never blocks. The
// zero value is ready; a Prober is used by one goroutine at a time.
type Prober struct {
	kind probeKind
	wav  wavProbe
	mp3  mp3Probe
	ogg  oggProbe

	total int64
	head  [sniffedBytes]byte // the first bytes
	// skip is what is left of the unit that the last step measured: a frame,
	// a chunk, a page. These bytes are counted and not looked at.
	skip int64
	// held are the bytes from the last step to the end of the last write.
	held  [heldBytesMax]byte
	heldN int
}

var _ io.Writer = (*Prober)(nil)

type probeKind uint8

const (
	kindSniff probeKind = iota
	kindWAV
	kindMP3
	kindOgg
	kindUnknown
)

// NewProber is a Prober at the beginning of a file.
func NewProber() *Prober { return &Prober{} }

// Write takes the next bytes of the file.
func (p *Prober) Write(b []byte) (int, error) {
	n := len(b)
	if p.total < sniffedBytes {
		copy(p.head[p.total:], b)
	}
	p.total += int64(n)
	for len(b) > 0 {
		switch {
		case p.skip > 0:
			b = b[p.pass(len(b)):]
		case p.heldN == 0:
			b = b[p.advance(b, false):]
			if p.skip == 0 && len(b) > 0 {
				p.heldN = copy(p.held[:], b)
				b = nil
			}
		default:
			b = b[p.refill(b):]
		}
	}
	return n, nil
}

// Result is the probe of what came so far, as if the file ended here. It
// returns ErrUnknownFormat, with what it seems to be, when that is no audio
// which Carillon stores; more bytes may still make it so. It changes nothing:
// writing may go on.
func (p *Prober) Result() (Info, error) {
	q := *p
	left := q.held[:q.heldN]
	if q.skip == 0 {
		left = left[q.advance(left, true):]
	}
	info, err := Info{}, ErrUnknownFormat
	switch q.kind {
	case kindWAV:
		info, err = q.wav.result(len(left), q.skip)
	case kindMP3:
		info, err = q.mp3.result(left, q.skip)
	case kindOgg:
		info, err = q.ogg.result(q.total, len(left), q.skip)
	case kindSniff, kindUnknown:
	}
	if err != nil {
		return Info{}, q.unknown()
	}
	return info, nil
}

// pass lets up to n bytes of the present unit go by and says how many.
func (p *Prober) pass(n int) int {
	if int64(n) < p.skip {
		p.skip -= int64(n)
		return n
	}
	n = int(p.skip)
	p.skip = 0
	p.complete()
	return n
}

// refill joins the bytes held back with the new ones, runs the steps that this
// allows and says how many of the new bytes are spent.
func (p *Prober) refill(b []byte) int {
	old := p.heldN
	added := copy(p.held[old:], b)
	p.heldN += added
	used := p.advance(p.held[:p.heldN], false)
	if used >= old {
		p.heldN = 0
		return used - old
	}
	p.heldN = copy(p.held[:], p.held[used:p.heldN])
	return added
}

// advance runs steps over b until one wants more bytes than there are, and
// says how many bytes are spent. Every step asks for a number of bytes that
// depends on the stream alone, never on how much happens to be in b: that is
// what makes the result independent of the sizes of the writes.
func (p *Prober) advance(b []byte, eof bool) int {
	pos := 0
	for {
		take := p.step(b[pos:], eof)
		if take <= 0 {
			return pos
		}
		if rest := int64(len(b) - pos); take > rest {
			p.skip = take - rest
			return len(b)
		}
		pos += int(take)
		p.complete()
	}
}

// step looks at the unit b begins with and returns its length, which may be
// beyond b, or 0 when b is too short to tell.
func (p *Prober) step(b []byte, eof bool) int64 {
	switch p.kind {
	case kindMP3:
		return p.mp3.step(b, eof)
	case kindWAV:
		return p.wav.step(b)
	case kindOgg:
		return p.ogg.step(b)
	case kindUnknown:
		return int64(len(b))
	case kindSniff:
	}
	return p.sniff(b, eof)
}

// complete is called when all bytes of the unit of the last step have passed.
func (p *Prober) complete() {
	switch p.kind {
	case kindMP3:
		p.mp3.complete()
	case kindWAV:
		p.wav.complete()
	case kindOgg:
		p.ogg.complete()
	case kindSniff, kindUnknown:
	}
}

const (
	magicBytes    = 4
	riffHeadBytes = 12
)

// sniff decides on the format. Whatever is neither RIFF nor Ogg may be MP3:
// a stream may begin in the middle of a frame.
func (p *Prober) sniff(b []byte, eof bool) int64 {
	if len(b) < magicBytes {
		return 0
	}
	switch string(b[:magicBytes]) {
	case "RIFF", "RIFX", "RF64", "BW64":
		if len(b) < riffHeadBytes {
			return 0
		}
		if string(b[8:riffHeadBytes]) != "WAVE" {
			p.kind = kindUnknown
			return int64(len(b))
		}
		p.kind = kindWAV
		p.wav.begin(b)
		return riffHeadBytes
	case "OggS":
		p.kind = kindOgg
		return p.ogg.step(b)
	}
	p.kind = kindMP3
	p.mp3.inPlace = true
	return p.mp3.step(b, eof)
}
