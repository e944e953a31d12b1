package audience

import (
	"errors"
	"io"
	"net"
	"time"

	"carillon/internal/outlet"
)

const (
	// patience is how long a listener of a stored sound who reads fast has a
	// goroutine while he takes nothing, so that he is served at the speed he reads.
	// Who plays in real time takes no byte for seconds, for the kernel says that
	// there is room when a third of its buffer is free.
	patience = 500 * time.Millisecond
	// patienceFirst is that of one of whom nothing is known yet: most play in real
	// time, and all who arrive within it have a goroutine.
	patienceFirst = 50 * time.Millisecond
	// soon: who had room again within that may read fast. Later looks at him are a
	// Period apart and say little.
	soon = Period
)

// NarrowBytes is the kernel's buffer that a listener of a stored sound comes with.
const NarrowBytes = outlet.NarrowBytes

// errLimit is returned by a limitedWriter that has all that it wants.
var errLimit = errors.New("enough")

// Source is a sound at an offset. When the writer takes less than it was given
// and returns an error, WriteTo returns that and the bytes that were taken.
// blobstore.Reader is one.
type Source interface {
	io.WriterTo
	io.Seeker
	io.Closer
}

// Stored is one connection that hears a sound which is there already, as fast as
// he takes it. Its answer's head was sent.
type Stored struct {
	Conn  *net.TCPConn
	Close func() error // in place of Conn.Close, unless nil
	// From is closed when the listener has left, or goes on as Then says. What
	// it reads may last as long as Audience.Context.
	From Source
	// Offset is where it begins.
	Offset int64
	// Until says how far to go, and is asked again when that is reached; who is
	// there or beyond has all. Nil: to the end of From.
	Until func(at int64) int64
	// Title, Metadata, Chunked: as in Listener; the title does not change.
	Title             string
	Metadata, Chunked bool
	// Full: he has no room, and was waited for, so that nothing is read for him yet.
	Full bool
	// Stall ends who takes nothing at all for so long.
	Stall time.Duration
	// Then, unless nil, is whom the listener goes on as when he has all, from
	// the offset that he has reached.
	Then *Listener
	// Left is called once, when the connection is closed, unless the listener
	// goes on; it must not wait.
	Left func(bytes int64, why error)
}

// reading is a listener of a stored sound. He has a goroutine while there is
// something to write; a loop looks after him while he waits.
type reading struct {
	Stored

	audience *Audience
	out      *tap
	frame    *framer
	at       int64
	// patience is how long he has a goroutine while he takes nothing.
	patience time.Duration
	// since is when he began to wait, and step the slots until the next look at him.
	since time.Time
	step  int
	// deadline is when he has taken nothing for too long; queued is what the
	// kernel held for him when he last took something.
	deadline time.Time
	queued   int
}

// Play takes over a listener of a stored sound. From then on the connection is
// the Audience's, also when Play fails.
func (a *Audience) Play(s Stored) error {
	r := &reading{
		Stored: s, audience: a, at: s.Offset, frame: newFramer(s.Title, s.Metadata, s.Chunked),
		patience: patienceFirst, step: firstLook,
	}
	out, err := newTap(a.stopped, s.Conn)
	if err == nil {
		r.out, r.frame.next = out, out
		if s.Full {
			r.wait()
			return nil
		}
		if !a.start(r.pour) {
			err = ErrClosed
		}
	}
	if err != nil {
		r.leave(err)
	}
	return err
}

// pour writes until the listener has all, leaves, or does not read on soon.
func (r *reading) pour() {
	for !r.ended(r.write()) {
		if r.patience == 0 {
			r.wait()
			return
		}
		ready, err := r.out.Await(min(r.patience, r.Stall))
		switch {
		case err != nil:
			r.leave(err)
			return
		case !ready:
			r.wait()
			return
		}
		r.hurry()
	}
}

// hurry is for who has room soon: if it is not his kernel that took all, he reads
// fast, and gets more at a time, and is waited for.
func (r *reading) hurry() {
	r.patience, r.step = patienceFirst, firstLook
	if r.out.Wide() || r.out.Fast(r.out.written) {
		r.patience = patience
		r.widen()
	}
}

// widen gives him a buffer that is seldom filled, unless he goes on with what the
// others hear: what lies there is not counted as being behind.
func (r *reading) widen() {
	if r.Then == nil {
		r.out.Widen()
	}
}

// resume goes on with a listener who waited and has room. Who plays in real time
// is not waited for any more, and gets a third of a wide buffer every ten seconds.
func (r *reading) resume(now time.Time) {
	if now.Sub(r.since) <= soon {
		r.hurry()
	} else {
		r.patience, r.step = 0, slots
		r.widen()
	}
	if !r.audience.start(r.pour) {
		r.leave(ErrClosed)
	}
}

// ended says that nothing is left to do after a write.
func (r *reading) ended(err error) bool {
	switch {
	case err == nil:
		r.done()
	case errors.Is(err, outlet.ErrNoRoom):
		return false
	default:
		r.leave(err)
	}
	return true
}

// write writes on from where it was.
func (r *reading) write() error {
	if r.Until == nil {
		return r.writeTo(r.frame)
	}
	for {
		to := max(r.Until(r.at), r.at+int64(r.frame.chunk)) // not within a chunk
		if r.at == to {
			return r.frame.flush()
		}
		err := r.writeTo(&limitedWriter{next: r.frame, left: to - r.at})
		if err != nil && !errors.Is(err, errLimit) {
			return err
		}
		if err == nil && r.at < to {
			return io.ErrUnexpectedEOF
		}
	}
}

func (r *reading) writeTo(w io.Writer) error {
	if _, err := r.From.Seek(r.at, io.SeekStart); err != nil {
		return err
	}
	n, err := r.From.WriteTo(w)
	r.at += n
	if err != nil {
		return err
	}
	return r.frame.flush()
}

// wait leaves the listener to a loop until there is room.
func (r *reading) wait() {
	if queued := r.out.Queued(); r.deadline.IsZero() || r.out.took || queued < r.queued {
		r.progress(queued)
	}
	r.since = time.Now()
	if !r.audience.loop().wait(r) {
		r.leave(ErrClosed)
	}
}

func (r *reading) progress(queued int) {
	r.queued, r.out.took = queued, false
	r.deadline = time.Now().Add(r.Stall)
}

// stalled says that a listener without room has taken nothing for too long.
// Room is announced late, so a slow reader who took less is no stalled one.
func (r *reading) stalled(now time.Time) bool {
	if now.Before(r.deadline) {
		return false
	}
	queued := r.out.Queued()
	if queued >= r.queued {
		return true
	}
	r.progress(queued)
	return false
}

// done lets him go on as Then says, or read the tail.
func (r *reading) done() {
	if r.Then == nil {
		linger(r.Conn)
		r.leave(nil)
		return
	}
	next := *r.Then
	next.Conn, next.Close, next.Offset, next.MetaLeft = r.Conn, r.Close, r.at, r.frame.left
	next.sent = r.out.written
	_ = r.From.Close()
	_ = r.audience.Add(next)
}

func (r *reading) leave(why error) {
	if r.Close != nil {
		_ = r.Close()
	} else {
		_ = r.Conn.Close()
	}
	_ = r.From.Close()
	written := int64(0)
	if r.out != nil {
		written = r.out.written
	}
	r.audience.metrics.bytes.Add(float64(written))
	r.audience.metrics.ended(why)
	if r.Left != nil {
		r.Left(written, why)
	}
}

// limitedWriter ends a WriteTo at an offset.
type limitedWriter struct {
	next io.Writer
	left int64
}

func (w *limitedWriter) Write(p []byte) (int, error) {
	if w.left == 0 {
		return 0, errLimit
	}
	n, err := w.next.Write(p[:min(int64(len(p)), w.left)])
	w.left -= int64(n)
	if err == nil && w.left == 0 { // now, not with the next bytes, which may be long in coming
		err = errLimit
	}
	return n, err
}
