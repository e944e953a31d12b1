package peer

import (
	"fmt"
	"net"
	"sync"
	"time"
)

const (
	// copyBytesMax: what is at most this long is copied into the outbox, so
	// that its sender need not wait for the write; what is longer is sent from
	// where it lies.
	copyBytesMax = 8 << 10
	// outboxBytesMax bounds what waits in one outbox before senders wait: one
	// full frame and some, so that a stalled connection holds little.
	outboxBytesMax = 1 << 20
	// arenaKeepBytesMax bounds the buffer that an outbox keeps between writes.
	arenaKeepBytesMax = 128 << 10
	// writeWait is how long one write (at most outboxBytesMax and a frame) may
	// take: 5 MiB at 2 Mbit/s.
	writeWait = 20 * time.Second
)

// outbox is the way out of one call connection: senders add frames, one
// goroutine writes all that wait with one writev.
type outbox struct {
	conn net.Conn
	// version is what the frames of this connection say.
	version byte
	wake    chan struct{} // capacity 1: there is something to write
	dead    chan struct{} // closed by the connection

	mu    sync.Mutex // guards what follows
	next  batch
	space chan struct{} // closed at the next take; nil if nobody waits

	spare batch // of the writing goroutine
	iov   net.Buffers
}

// batch is what one write sends. Headers and small bodies lie in arena.
type batch struct {
	arena  []byte
	frames []outFrame
	bytes  int
}

// outFrame is a range of the arena, then foreign pieces. A frame with foreign
// pieces has a written channel (capacity 1) that takes one token when the
// pieces are no longer in use.
type outFrame struct {
	off, end int
	pieces   [][]byte
	written  chan struct{}
}

func newOutbox(conn net.Conn, version byte, dead chan struct{}) *outbox {
	return &outbox{conn: conn, version: version, wake: make(chan struct{}, 1), dead: dead}
}

// send adds a frame. With written nil the pieces are copied; else they are
// referred to until written has a token or withdraw returned true. It waits
// for room until done is closed. Nothing was added unless it returns true.
func (o *outbox) send(done <-chan struct{}, h header, pieces [][]byte, written chan struct{}) bool {
	h.version = o.version
	for {
		o.mu.Lock()
		if o.next.bytes < outboxBytesMax {
			o.next.add(h, pieces, written)
			o.mu.Unlock()
			select {
			case o.wake <- struct{}{}:
			default:
			}
			return true
		}
		if o.space == nil {
			o.space = make(chan struct{})
		}
		space := o.space
		o.mu.Unlock()
		select {
		case <-space:
		case <-done:
			return false
		case <-o.dead:
			return false
		}
	}
}

// trySend adds a frame without a body if there is room.
func (o *outbox) trySend(h header) {
	h.version = o.version
	o.mu.Lock()
	room := o.next.bytes < outboxBytesMax
	if room {
		o.next.add(h, nil, nil)
	}
	o.mu.Unlock()
	if room {
		select {
		case o.wake <- struct{}{}:
		default:
		}
	}
}

// withdraw takes back a frame that is not being written yet.
func (o *outbox) withdraw(written chan struct{}) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	for i, f := range o.next.frames {
		if f.written == written {
			o.next.frames = append(o.next.frames[:i], o.next.frames[i+1:]...)
			return true
		}
	}
	return false
}

func (b *batch) add(h header, pieces [][]byte, written chan struct{}) {
	off := len(b.arena)
	var head [headerBytes]byte
	h.put(head[:])
	b.arena = append(b.arena, head[:]...)
	b.bytes += headerBytes + int(h.length)
	if written == nil {
		for _, p := range pieces {
			b.arena = append(b.arena, p...)
		}
		pieces = nil
		if n := len(b.frames); n > 0 && b.frames[n-1].written == nil && b.frames[n-1].end == off {
			b.frames[n-1].end = len(b.arena)
			return
		}
	}
	b.frames = append(b.frames, outFrame{off: off, end: len(b.arena), pieces: pieces, written: written})
}

// reset forgets the frames and keeps the memory, within limits.
func (b *batch) reset() {
	clear(b.frames)
	b.frames, b.arena, b.bytes = b.frames[:0], b.arena[:0], 0
	if cap(b.arena) > arenaKeepBytesMax {
		b.arena = nil
	}
}

// run writes until the connection is dead or a write fails.
func (o *outbox) run() error {
	for {
		select {
		case <-o.wake:
		case <-o.dead:
			return nil
		}
		if err := o.flush(); err != nil {
			return err
		}
	}
}

func (o *outbox) flush() error {
	for {
		o.mu.Lock()
		if len(o.next.frames) == 0 {
			o.mu.Unlock()
			return nil
		}
		o.next, o.spare = o.spare, o.next
		if o.space != nil {
			close(o.space)
			o.space = nil
		}
		o.mu.Unlock()
		err := o.write(&o.spare)
		for _, f := range o.spare.frames {
			if f.written != nil {
				f.written <- struct{}{}
			}
		}
		o.spare.reset()
		if err != nil {
			return err
		}
	}
}

func (o *outbox) write(b *batch) error {
	if err := o.conn.SetWriteDeadline(time.Now().Add(writeWait)); err != nil {
		return fmt.Errorf("write frames: %w", err)
	}
	iov := o.iov[:0]
	for _, f := range b.frames {
		iov = append(iov, b.arena[f.off:f.end])
		for _, p := range f.pieces {
			if len(p) > 0 {
				iov = append(iov, p)
			}
		}
	}
	o.iov = iov
	var err error
	if secure, ok := o.conn.(*secureConn); ok {
		_, err = secure.writeAll(iov...)
	} else {
		_, err = (&iov).WriteTo(o.conn)
	}
	clear(o.iov)
	if err != nil {
		return fmt.Errorf("write frames: %w", err)
	}
	return nil
}
