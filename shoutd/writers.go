package shoutd

import (
	"io"

	"carillon/internal/audience"
)

// icyWriter puts a metadata block after every audience.ICYInterval bytes of sound: the
// first carries the title, the others say that nothing changed. It counts
// sound only, and keeps what is left of a block for the next call.
type icyWriter struct {
	next  io.Writer
	left  int    // sound until the next block
	title []byte // of the block to come
	block []byte // being sent
}

func newICYWriter(next io.Writer, title string) *icyWriter {
	return &icyWriter{next: next, left: audience.ICYInterval, title: audience.ICYBlock(plainText(title))}
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
			w.left, w.block, w.title = audience.ICYInterval, w.title, []byte{0}
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
