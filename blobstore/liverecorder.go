package blobstore

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"sync"
	"time"
)

// LiveBufferBytesMax bounds what a live recording keeps in memory while the
// cluster takes nothing: over an hour at 16 kbit/s, three minutes at
// 320 kbit/s.
const LiveBufferBytesMax = 8 << 20

// LiveRecorderConfig says what a LiveRecorder records.
type LiveRecorderConfig struct {
	// ID of the blob; zero: a new one.
	ID ID
	// Created goes into the blob's Spec; zero: now.
	Created time.Time
	// BytesMax is the longest recording; 0: BlobBytesMax. Beyond it Write
	// returns ErrTooLarge and takes nothing of its argument.
	BytesMax int64
}

// LiveRecorder is the one gate in for sources: bytes are taken at once and
// made durable behind the source's back, at the Flusher's next tick. It never
// makes the source wait and never gives up while it lives. One goroutine
// writes; the other methods may be called concurrently.
type LiveRecorder struct {
	w    Writer
	cfg  LiveRecorderConfig
	spec Spec
	f    *Flusher

	mu       sync.Mutex
	sha      hash.Hash
	sum      RootSum
	pending  []byte // taken, not offered yet
	flight   []byte // offered, not acknowledged: offered again unchanged
	flying   bool   // an attempt is under way
	queued   bool   // the flusher knows of pending
	begun    bool
	durable  int64
	held     bool        // nothing is offered, see Hold
	waiting  time.Time   // since when a byte waits
	loading  time.Time   // since when one of pending does, or of the gap before it
	back     io.ReaderAt // what was spilled
	gap      int64       // bytes between flight and pending that are only there
	failures int         // attempts in a row
	sealing  bool
	err      error         // fatal
	failed   chan struct{} // closed with err
	moved    chan struct{} // made by whoever waits, closed by progress
}

// NewLiveRecorder returns a LiveRecorder and begins the blob behind the
// caller's back, trying until it succeeds.
func NewLiveRecorder(w Writer, f *Flusher, cfg LiveRecorderConfig) *LiveRecorder {
	if cfg.ID.IsZero() {
		cfg.ID = NewIDFor(w)
	}
	if cfg.Created.IsZero() {
		cfg.Created = time.Now()
	}
	if cfg.BytesMax <= 0 || cfg.BytesMax > BlobBytesMax {
		cfg.BytesMax = BlobBytesMax
	}
	r := &LiveRecorder{
		w: w, cfg: cfg, f: f,
		spec:   Spec{Live: true, Created: cfg.Created.UTC().Truncate(time.Millisecond)},
		sha:    sha256.New(),
		queued: true,
		failed: make(chan struct{}),
	}
	f.mark(r, 0)
	return r
}

// ID is the blob's.
func (r *LiveRecorder) ID() ID { return r.cfg.ID }

// Size is how many bytes were taken.
func (r *LiveRecorder) Size() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.sum.size
}

// Durable is how many bytes the Writer has acknowledged.
func (r *LiveRecorder) Durable() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.durable
}

// Failed is closed when the recording can go on no more; Err then says why.
func (r *LiveRecorder) Failed() <-chan struct{} { return r.failed }

// Err is the fatal error, nil while there is none.
func (r *LiveRecorder) Err() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

// Write implements io.Writer. It takes p whole or not at all: ErrTooLarge over
// the limit of the recording, ErrUnavailable when the buffer is full because
// nothing was acknowledged for long, ErrSealed after Seal, or the fatal error.
func (r *LiveRecorder) Write(p []byte) (int, error) {
	r.mu.Lock()
	switch {
	case r.err != nil:
		defer r.mu.Unlock()
		return 0, r.err
	case r.sealing:
		r.mu.Unlock()
		return 0, ErrSealed
	case r.sum.size+int64(len(p)) > r.cfg.BytesMax:
		r.mu.Unlock()
		return 0, fmt.Errorf("recording over %d bytes: %w", r.cfg.BytesMax, ErrTooLarge)
	case len(r.pending)+len(r.flight)+len(p) > LiveBufferBytesMax:
		r.mu.Unlock()
		return 0, fmt.Errorf("%d bytes wait to be stored: %w", LiveBufferBytesMax, ErrUnavailable)
	}
	if len(r.pending) == 0 && r.gap == 0 && len(p) > 0 {
		r.loading = time.Now()
	}
	if r.durable == r.sum.size && len(p) > 0 {
		r.waiting = r.loading
	}
	r.pending = append(r.pending, p...)
	_, _ = r.sum.Write(p)
	_, _ = r.sha.Write(p)
	queue := !r.queued && !r.flying && len(p) > 0
	r.queued = r.queued || queue
	r.mu.Unlock()
	if queue {
		r.f.mark(r, 1)
	}
	return len(p), nil
}

// fly starts an attempt: it returns what is to be appended, the very same as
// last time if that failed. Not ok: there is nothing to do.
func (r *LiveRecorder) fly() (a LiveAppend, begun, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.queued = false
	if r.err != nil || r.flying || r.held {
		return LiveAppend{}, false, false
	}
	if len(r.flight) == 0 && r.gap > 0 {
		if err := r.refillLocked(); err != nil {
			r.fatalLocked(err)
			return LiveAppend{}, false, false
		}
	} else if len(r.flight) == 0 && len(r.pending) > 0 {
		r.loadLocked()
	}
	if len(r.flight) == 0 && r.begun {
		return LiveAppend{}, false, false
	}
	r.flying = true
	return LiveAppend{r.cfg.ID, r.durable, r.flight}, r.begun, true
}

// loadLocked moves the next piece from pending to flight. Usually that is all
// of it, and the two buffers change places.
func (r *LiveRecorder) loadLocked() {
	n := min(len(r.pending), LivePieceBytesMax)
	if n == len(r.pending) && cap(r.pending) <= 2*LivePieceBytesMax {
		r.flight, r.pending = r.pending, r.flight[:0]
		return
	}
	// A backlog: it shrinks from its front, and with its last piece its
	// memory goes.
	r.flight = append(r.flight[:0], r.pending[:n]...)
	if r.pending = r.pending[n:]; len(r.pending) == 0 {
		r.pending = nil
	}
}

// offer begins the blob if it has not begun, and appends.
func (r *LiveRecorder) offer(ctx context.Context, a LiveAppend, begun bool) error {
	ctx, cancel := context.WithTimeout(ctx, flushWait)
	defer cancel()
	if !begun {
		if err := r.w.Begin(ctx, a.ID, r.spec); err != nil {
			return fmt.Errorf("begin recording: %w", err)
		}
		r.hasBegun()
	}
	if len(a.Data) == 0 {
		return nil
	}
	if err := r.w.Append(ctx, a.ID, a.Offset, a.Data); err != nil {
		return fmt.Errorf("append to recording: %w", err)
	}
	return nil
}

// landed ends an attempt.
func (r *LiveRecorder) landed(err error) {
	if err != nil && isFatal(err) {
		r.fatal(err)
		return
	}
	r.mu.Lock()
	r.flying = false
	ticks := uint64(1)
	if err != nil {
		r.failures++
		ticks = uint64(min(1<<min(r.failures-1, 8), retryTicksMax))
	} else {
		r.failures, r.begun = 0, true
		r.durable += int64(len(r.flight))
		r.flight = r.flight[:0]
		if r.waiting = r.loading; r.durable == r.sum.size {
			r.waiting = time.Time{}
		}
		if r.sealing || r.gap > 0 || len(r.pending) >= LivePieceBytesMax {
			ticks = 0
		}
		r.progressLocked()
	}
	again := r.gap > 0 || len(r.flight) > 0 || len(r.pending) > 0 || !r.begun
	r.queued = again
	r.mu.Unlock()
	if again {
		r.f.mark(r, ticks)
	}
}

func (r *LiveRecorder) hasBegun() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.begun = true
	r.progressLocked()
}

func (r *LiveRecorder) progressLocked() {
	if r.moved != nil {
		close(r.moved)
		r.moved = nil
	}
}

// fatal ends the recording.
func (r *LiveRecorder) fatal(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fatalLocked(err)
}

func (r *LiveRecorder) fatalLocked(err error) {
	r.flying = false
	if r.err != nil {
		return
	}
	r.err = err
	r.pending, r.flight = nil, nil
	close(r.failed)
	r.progressLocked()
}

// wait returns when cond holds, which is called with the lock held, or with
// the fatal error or ctx.Err().
func (r *LiveRecorder) wait(ctx context.Context, cond func() bool) error {
	for {
		r.mu.Lock()
		err, over := r.err, r.err != nil || cond()
		if r.moved == nil {
			r.moved = make(chan struct{})
		}
		moved := r.moved
		r.mu.Unlock()
		if over {
			return err
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Begun returns once the blob exists.
func (r *LiveRecorder) Begun(ctx context.Context) error {
	return r.wait(ctx, func() bool { return r.begun })
}

// Seal takes no more bytes, waits until all are acknowledged and seals the
// blob, trying until ctx ends. It may then be called again.
func (r *LiveRecorder) Seal(ctx context.Context) (Totals, error) {
	r.mu.Lock()
	r.sealing = true
	totals := Totals{Size: r.sum.size, SHA256: Digest(r.sha.Sum(nil)), Root: r.sum.Sum32()}
	now := r.err == nil && !r.flying && int64(len(r.pending)+len(r.flight))+r.gap > 0
	r.mu.Unlock()
	if now {
		r.f.mark(r, 0)
	}
	if err := r.wait(ctx, func() bool { return r.begun && r.durable == totals.Size }); err != nil {
		return Totals{}, err
	}
	for failures := 0; ; failures++ {
		err := r.trySeal(ctx, totals)
		switch {
		case err == nil:
			return totals, nil
		case isFatal(err):
			r.fatal(err)
			return Totals{}, err
		}
		pause := r.f.interval * time.Duration(min(1<<min(failures, 8), retryTicksMax))
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return Totals{}, errors.Join(ctx.Err(), err)
		}
	}
}

func (r *LiveRecorder) trySeal(ctx context.Context, totals Totals) error {
	ctx, cancel := context.WithTimeout(ctx, flushWait)
	defer cancel()
	return r.w.Seal(ctx, r.cfg.ID, totals)
}

// Drop ends the recording without sealing it; what was acknowledged stays.
func (r *LiveRecorder) Drop() { r.fatal(ErrClosed) }
