package blobstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
)

// Reader is the one gate out: a blob as a file. It is sealed bytes with an
// end, or, when following, a live blob that ends when its source does. One
// goroutine at a time may use it; Close may be called from another, and ends
// a Read that waits.
type Reader struct {
	// ctx is held because io.Reader has no place for one: it is the context of
	// the request that the blob was opened for, and ends the waits of Read.
	ctx     context.Context //nolint:containedctx // see above
	cancel  context.CancelFunc
	view    View
	buffers *Buffers // nil: allocate
	off     int64
	follow  bool
	closing sync.Mutex
	closed  atomic.Bool
}

var (
	_ io.ReadSeekCloser = (*Reader)(nil)
	_ io.WriterTo       = (*Reader)(nil)
)

// NewReader returns a Reader at the start of view, which it closes. Reads end
// with ctx.Err() when ctx ends.
func NewReader(ctx context.Context, view View) *Reader {
	r := &Reader{view: view}
	r.ctx, r.cancel = context.WithCancel(ctx)
	if pooled, ok := view.(interface{ Buffers() *Buffers }); ok {
		r.buffers = pooled.Buffers()
	}
	return r
}

// Outlive lets what is read from now on last as long as ctx, and no longer only as
// long as the request that the blob was opened for. The view must not keep a context.
func (r *Reader) Outlive(ctx context.Context) error {
	r.closing.Lock()
	defer r.closing.Unlock()
	if r.closed.Load() {
		return ErrClosed
	}
	r.cancel()
	r.ctx, r.cancel = context.WithCancel(ctx)
	return nil
}

// Info is the blob as last seen.
func (r *Reader) Info() Info { return r.view.Info() }

// SetFollow says what the end of a blob that is not sealed means: io.EOF, or,
// when on, waiting for more until the blob is sealed.
func (r *Reader) SetFollow(on bool) { r.follow = on }

// Read implements io.Reader. A blob that is removed while it is followed ends
// with ErrNotFound.
func (r *Reader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if err := r.await(); err != nil {
		return 0, err
	}
	n, err := r.view.Read(r.ctx, r.off, p)
	r.off += int64(n)
	return n, r.closedOr(err)
}

// await returns nil when there is a byte at the offset, io.EOF when there
// will be none.
func (r *Reader) await() error {
	if r.closed.Load() {
		return ErrClosed
	}
	info := r.view.Info()
	for info.Size <= r.off {
		if info.Sealed || !r.follow {
			return io.EOF
		}
		var err error
		if info, err = r.view.Wait(r.ctx, r.off); err != nil {
			return r.closedOr(err)
		}
	}
	return nil
}

// closedOr names the cause of a wait that Close ended.
func (r *Reader) closedOr(err error) error {
	if err != nil && r.closed.Load() {
		return ErrClosed
	}
	return err
}

// Seek implements io.Seeker. The end is what can be read now.
func (r *Reader) Seek(offset int64, whence int) (int64, error) {
	if r.closed.Load() {
		return 0, ErrClosed
	}
	switch whence {
	case io.SeekStart:
	case io.SeekCurrent:
		offset += r.off
	case io.SeekEnd:
		offset += r.view.Info().Size
	default:
		return 0, fmt.Errorf("seek whence %d: %w", whence, errSeek)
	}
	if offset < 0 {
		return 0, fmt.Errorf("seek to %d: %w", offset, errSeek)
	}
	r.off = offset
	return offset, nil
}

var errSeek = errors.New("invalid seek")

// WriteTo implements io.WriterTo: it copies to the end, which when following
// is the end of the source. While it waits for more it holds no buffer.
func (r *Reader) WriteTo(w io.Writer) (int64, error) { return r.copyTo(w, -1) }

// WriteRange writes n bytes at off, or io.ErrUnexpectedEOF when the blob ends
// before. It leaves the offset behind them.
func (r *Reader) WriteRange(w io.Writer, off, n int64) (int64, error) {
	if off < 0 || n < 0 {
		return 0, fmt.Errorf("range of %d at %d: %w", n, off, errSeek)
	}
	r.off = off
	written, err := r.copyTo(w, n)
	if err == nil && written < n {
		err = io.ErrUnexpectedEOF
	}
	return written, err
}

// copyTo copies up to limit bytes, -1 for all.
func (r *Reader) copyTo(w io.Writer, limit int64) (int64, error) {
	var written int64
	for limit < 0 || written < limit {
		if err := r.await(); err != nil {
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return written, err
		}
		left := r.view.Info().Size - r.off
		if limit >= 0 {
			left = min(left, limit-written)
		}
		n, err := r.copySome(w, left)
		written += n
		if err != nil {
			return written, err
		}
	}
	return written, nil
}

// copySome copies at most left bytes through one buffer. A follower gives the
// buffer back before it waits; others keep it to their end.
func (r *Reader) copySome(w io.Writer, left int64) (int64, error) {
	buf, free := r.buffer(left)
	defer free()
	var written int64
	for written < left {
		p := buf[:min(int64(len(buf)), left-written)]
		if extra := r.off % BlockBytes; left-written > int64(len(p)) && int64(len(p)) > extra {
			p = p[:int64(len(p))-extra] // end at a block's end, so that no block is checked twice
		}
		n, err := r.view.Read(r.ctx, r.off, p)
		if err != nil {
			return written, r.closedOr(err)
		}
		r.off += int64(n)
		m, err := w.Write(p[:n])
		written += int64(m)
		if err != nil {
			return written, err
		}
	}
	return written, nil
}

// buffer returns what suits left bytes, and how to give it back.
func (r *Reader) buffer(left int64) ([]byte, func()) {
	if r.buffers == nil {
		size := int64(readBufferBytes)
		if r.follow {
			size = followBufferBytes
		}
		return make([]byte, min(size, left)), func() {}
	}
	pool := &r.buffers.read
	switch {
	case left <= tailBufferBytes:
		pool = &r.buffers.tail
	case r.follow || left <= followBufferBytes:
		pool = &r.buffers.follow
	}
	buf := take(pool)
	return *buf, func() { pool.Put(buf) }
}

// Close ends a waiting Read and frees the view. It may be called twice.
func (r *Reader) Close() error {
	r.closing.Lock()
	defer r.closing.Unlock()
	if r.closed.Swap(true) {
		return nil
	}
	r.cancel()
	return r.view.Close()
}
