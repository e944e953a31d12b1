package shoutd

import (
	"io"
	"time"

	"carillon/audio"
)

const (
	// leadTime is how much sound a listener of a live recording is ahead when
	// it starts. FreeSWITCH as a source pauses for up to 1.23 s between
	// writes, and bytes are up to a second on the way (paceTick, the cluster's
	// flush tick, tailTick); an empty decoder costs the caller a second of
	// silence.
	leadTime = 3 * time.Second
	// leadWait ends the hold of a listener whose source is too slow: mod_shout
	// gives up 20 s after it asked.
	leadWait = 5 * time.Second
	// leadBytesMax bounds what is held; 128 kbit/s for leadTime.
	leadBytesMax = 48000
	// leadBitRate is assumed when no frame header is found: FreeSWITCH's
	// 16 kbit/s, the slowest.
	leadBitRate = 16000
	// headerSearchBytes is where a frame must begin, if this is MP3.
	headerSearchBytes = audio.FindFrameBytesMin
)

// leadWriter holds back the beginning of a young recording until the listener
// has a lead, then steps out of the way. A recording that is already longer
// comes in larger pieces and is not held at all.
type leadWriter struct {
	next  io.Writer
	held  []byte
	since time.Time
	done  bool
}

func (w *leadWriter) Write(p []byte) (int, error) {
	if !w.done && w.young(p) {
		w.held = append(w.held, p...)
		return len(p), nil
	}
	if err := w.flush(); err != nil {
		return 0, err
	}
	return w.next.Write(p)
}

// young says whether p is to be held, too.
func (w *leadWriter) young(p []byte) bool {
	if w.since.IsZero() {
		w.since = time.Now()
	}
	head := w.held
	if len(head) == 0 {
		head = p
	}
	return len(w.held)+len(p) < leadBytes(head) && time.Since(w.since) < leadWait
}

// flush ends the hold and sends what is held; at the end of a recording
// shorter than the lead it is all there is.
func (w *leadWriter) flush() error {
	w.done = true
	for len(w.held) > 0 {
		n, err := w.next.Write(w.held)
		w.held = w.held[n:]
		if err != nil {
			return err
		}
	}
	w.held = nil
	return nil
}

func leadBytes(head []byte) int {
	return min(bitRateOf(head)/8*int(leadTime.Milliseconds())/1000, leadBytesMax)
}

// bitRateOf is the bit rate of the first frame in p.
func bitRateOf(p []byte) int {
	p = p[:min(len(p), headerSearchBytes)]
	if at, ok := audio.FindFrame(p); ok {
		if h, err := audio.ParseFrameHeader(p[at:]); err == nil {
			return h.BitRate
		}
	}
	return leadBitRate
}
