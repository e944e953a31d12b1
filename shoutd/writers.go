package shoutd

import (
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	// tailTick is the least time between two small writes to a live listener.
	// With the source's pause, paceTick and the cluster's flush tick it must
	// stay below leadTime, or mod_shout underruns.
	tailTick = 750 * time.Millisecond
	// tailPieceBytes: a piece of at least so much means that the listener is
	// behind; blobstore.Reader gives less only at the end.
	tailPieceBytes = 4 << 10
	// icyInterval is Icecast's own metadata interval.
	icyInterval = 16000
	// icyBlockUnit and icyBlockUnitsMax are the format's: one length byte
	// counts units of 16 bytes.
	icyBlockUnit     = 16
	icyBlockUnitsMax = 255
)

// tailWriter makes a live listener wait between small pieces. It is woken for
// every append otherwise, and has a lead to spend.
type tailWriter struct {
	next  io.Writer
	gone  <-chan struct{} // closed when the listener left
	timer *time.Timer
}

func (w *tailWriter) Write(p []byte) (int, error) {
	n, err := w.next.Write(p)
	if err != nil || len(p) >= tailPieceBytes {
		return n, err
	}
	if w.timer == nil {
		w.timer = time.NewTimer(tailTick)
	} else {
		w.timer.Reset(tailTick)
	}
	select {
	case <-w.timer.C:
	case <-w.gone:
		w.timer.Stop()
	}
	return n, nil
}

// icyWriter puts a metadata block after every icyInterval bytes of sound: the
// first carries the title, the others say that nothing changed. It counts
// sound only, and keeps what is left of a block for the next call.
type icyWriter struct {
	next  io.Writer
	left  int    // sound until the next block
	title []byte // of the block to come
	block []byte // being sent
}

func newICYWriter(next io.Writer, title string) *icyWriter {
	return &icyWriter{next: next, left: icyInterval, title: icyBlock(title)}
}

func (w *icyWriter) Write(p []byte) (int, error) {
	done := 0
	for {
		if err := w.flush(); err != nil || done == len(p) {
			return done, err
		}
		n, err := w.next.Write(p[done:min(len(p), done+w.left)])
		done += n
		w.left -= n
		if w.left == 0 {
			w.left, w.block, w.title = icyInterval, w.title, []byte{0}
		}
		if err != nil {
			return done, err
		}
	}
}

// flush sends what is left of a block.
func (w *icyWriter) flush() error {
	for len(w.block) > 0 {
		n, err := w.next.Write(w.block)
		w.block = w.block[n:]
		if err != nil {
			return err
		}
	}
	return nil
}

// icyBlock is the metadata block for a title. A `';` in the title would end it
// for every player, so its quotes become typographic ones.
func icyBlock(title string) []byte {
	title = strings.ReplaceAll(plainText(title), "'", "’")
	const frame = len("StreamTitle='';")
	for len(title)+frame > icyBlockUnit*icyBlockUnitsMax {
		_, size := utf8.DecodeLastRuneInString(title)
		title = title[:len(title)-size]
	}
	text := fmt.Sprintf("StreamTitle='%s';", title)
	units := (len(text) + icyBlockUnit - 1) / icyBlockUnit
	block := make([]byte, 1+units*icyBlockUnit)
	block[0] = byte(units)
	copy(block[1:], text)
	return block
}
