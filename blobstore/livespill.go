package blobstore

import (
	"fmt"
	"io"
	"time"
)

// spilledBytesMax is what a LiveRecorder keeps in memory of what it has spilled:
// the bytes of a minute at 16 kbit/s.
const spilledBytesMax = 128 << 10

// While the Writer takes nothing, the owner of a LiveRecorder may have it spill
// what waits onto a disk: then it survives the process, and memory does not
// grow. The bytes are still offered to the Writer, in order, from memory or
// from where they were spilled to.

// Hold stops offering bytes to the Writer until Release: the owner has not yet
// been able to say that the blob is in use. It is called before the first Write.
func (r *LiveRecorder) Hold() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.held = true
}

// Release ends Hold.
func (r *LiveRecorder) Release() {
	r.mu.Lock()
	r.held, r.queued = false, true
	r.mu.Unlock()
	r.f.mark(r, 0)
}

// Waiting says since when the oldest byte waits that the Writer has not
// acknowledged, zero when none does.
func (r *LiveRecorder) Waiting() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.waiting
}

// Spill hands what waits, and was not handed over before, to keep, in pieces of
// at most LivePieceBytesMax. What keep has taken can from then on be read from
// back, at its offset in the blob. It says how far the recording is kept, there
// or by the Writer. One goroutine at a time may call it.
func (r *LiveRecorder) Spill(keep func(off int64, p []byte) error, back io.ReaderAt) (int64, error) {
	for {
		r.mu.Lock()
		if r.back != back {
			r.back, r.spilled = back, r.durable
		}
		off := max(r.spilled, r.durable)
		p := r.copyLocked(off, LivePieceBytesMax)
		r.mu.Unlock()
		if len(p) == 0 {
			return off, nil
		}
		if err := keep(off, p); err != nil {
			return off, err
		}
		r.mu.Lock()
		r.spilled = off + int64(len(p))
		r.trimLocked()
		r.mu.Unlock()
	}
}

// copyLocked copies up to n bytes at off that are in memory.
func (r *LiveRecorder) copyLocked(off int64, n int) []byte {
	if k := off - r.durable; k < int64(len(r.flight)) {
		return append([]byte(nil), r.flight[k:min(len(r.flight), int(k)+n)]...)
	}
	k := off - r.memoryLocked()
	if k < 0 || k >= int64(len(r.pending)) {
		return nil
	}
	return append([]byte(nil), r.pending[k:min(len(r.pending), int(k)+n)]...)
}

// memoryLocked is the offset of the first byte of pending.
func (r *LiveRecorder) memoryLocked() int64 { return r.durable + int64(len(r.flight)) + r.gap }

// trimLocked lets go of what is spilled, if it is much.
func (r *LiveRecorder) trimLocked() {
	k := min(r.spilled-r.memoryLocked(), int64(len(r.pending)))
	if k <= spilledBytesMax {
		return
	}
	r.gap += k
	r.pending = append([]byte(nil), r.pending[k:]...)
}

// refillLocked loads the next piece of the gap into flight.
func (r *LiveRecorder) refillLocked() error {
	p := make([]byte, min(r.gap, LivePieceBytesMax))
	n, err := r.back.ReadAt(p, r.durable)
	if n == 0 {
		return fmt.Errorf("spilled bytes at %d: %w: %w", r.durable, ErrCorrupt, err)
	}
	r.flight, r.gap = p[:n], r.gap-int64(n)
	return nil
}
