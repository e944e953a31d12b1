package audience

import (
	"io"
	"strconv"
)

// framer puts what a stored sound is framed with between it and a writer that
// may take a part: a metadata block after every ICYInterval bytes of sound, of
// which the first carries the title and the others say that nothing changed, and
// the chunks of HTTP/1.1. It counts sound only, and keeps what is left of a
// frame for the next call.
type framer struct {
	next              io.Writer
	metadata, chunked bool
	left              int    // sound until the next metadata block
	chunk             int    // of the present chunk
	title             []byte // of the block to come
	block             []byte // being sent
}

func newFramer(title string, metadata, chunked bool) *framer {
	f := &framer{metadata: metadata, chunked: chunked, left: ICYInterval}
	if metadata {
		f.title = ICYBlock(title)
	}
	return f
}

func (f *framer) Write(p []byte) (int, error) {
	if !f.metadata && !f.chunked {
		return f.next.Write(p)
	}
	for done := 0; ; {
		if err := f.flush(); err != nil || done == len(p) {
			return done, err
		}
		n := len(p) - done
		if f.metadata {
			n = min(n, f.left)
		}
		if f.chunked && f.chunk == 0 {
			f.chunk, f.block = n, chunkHead(f.block, n)
			continue
		}
		if f.chunked {
			n = min(n, f.chunk)
		}
		n, err := f.next.Write(p[done : done+n])
		done += n
		f.took(n)
		if err != nil {
			return done, err
		}
	}
}

// took counts sound that was written, and says what comes after it.
func (f *framer) took(n int) {
	if f.chunked {
		if f.chunk -= n; f.chunk == 0 {
			f.block = append(f.block, "\r\n"...)
		}
	}
	if !f.metadata {
		return
	}
	if f.left -= n; f.left > 0 {
		return
	}
	if f.chunked { // the sound before it ended its chunk
		f.block = append(chunkHead(f.block, len(f.title)), f.title...)
		f.block = append(f.block, "\r\n"...)
	} else {
		f.block = append(f.block, f.title...)
	}
	f.left, f.title = ICYInterval, []byte{0}
}

func chunkHead(p []byte, n int) []byte {
	return append(strconv.AppendInt(p, int64(n), 16), "\r\n"...)
}

// flush sends what is left of a frame.
func (f *framer) flush() error {
	for len(f.block) > 0 {
		n, err := f.next.Write(f.block)
		f.block = f.block[n:]
		if err != nil {
			return err
		}
	}
	f.block = nil
	return nil
}
