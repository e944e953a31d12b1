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
// acknowledged, zero when none does. Of a backlog it is the oldest that was
// there when it began.
func (r *LiveRecorder) Waiting() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.waiting
}

// Unspilled returns a copy of bytes that wait, at most LivePieceBytesMax, from
// off on or from where they begin if that is later, and their offset in the blob.
// What is before off is spilled or is about to be. Empty: there are no more.
func (r *LiveRecorder) Unspilled(off int64) (at int64, p []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	at = max(off, r.durable)
	return at, r.copyLocked(at, LivePieceBytesMax)
}

// Spilled says that what waits up to end can from now on be read from back, at
// its offset in the blob, for as long as it waits.
func (r *LiveRecorder) Spilled(back io.ReaderAt, end int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.back = back
	r.trimLocked(end)
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
func (r *LiveRecorder) trimLocked(spilled int64) {
	k := min(spilled-r.memoryLocked(), int64(len(r.pending)))
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
