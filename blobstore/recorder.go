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

// chunksInFlight is how many chunks of one upload are on their way to the log
// at once: enough to hide an fsync behind the network, and 1 MiB of memory.
const chunksInFlight = 4

// RecorderConfig says what a Recorder records.
type RecorderConfig struct {
	// ID of the blob; zero: a new one.
	ID ID
	// Created goes into the blob's Spec; zero: now.
	Created time.Time
	// BytesMax is the largest body; 0: BlobBytesMax. Beyond it Write returns
	// ErrTooLarge.
	BytesMax int64
	// Buffers are the pools to take chunks from; nil: own ones.
	Buffers *Buffers
}

// Recorder is the one gate in for bodies: it cuts, counts, limits and hashes.
// A blob of one chunk becomes a single Put; a larger one is appended while it
// arrives. Not more than the chunks in flight is ever in memory. It belongs
// to one goroutine.
type Recorder struct {
	w       Writer
	cfg     RecorderConfig
	spec    Spec
	ctx     func() context.Context // of the chunks in flight
	cancel  context.CancelFunc
	sha     hash.Hash
	sum     RootSum
	buf     *[]byte // the chunk that fills
	fill    int
	begun   bool
	tried   bool // something may be stored
	done    bool
	slots   chan struct{}
	flights sync.WaitGroup

	mu  sync.Mutex
	err error // the first failure of a flight, guarded by mu
}

var (
	_ io.Writer     = (*Recorder)(nil)
	_ io.ReaderFrom = (*Recorder)(nil)
)

// NewRecorder returns a Recorder that writes to w. When ctx ends, so do its
// appends. It must end with Seal or Abort.
func NewRecorder(ctx context.Context, w Writer, cfg RecorderConfig) *Recorder {
	if cfg.ID.IsZero() {
		cfg.ID = NewIDFor(w)
	}
	if cfg.Created.IsZero() {
		cfg.Created = time.Now()
	}
	if cfg.BytesMax <= 0 || cfg.BytesMax > BlobBytesMax {
		cfg.BytesMax = BlobBytesMax
	}
	if cfg.Buffers == nil {
		cfg.Buffers = NewBuffers()
	}
	ctx, cancel := context.WithCancel(ctx)
	return &Recorder{
		w:      w,
		cfg:    cfg,
		spec:   Spec{Created: cfg.Created.UTC().Truncate(time.Millisecond)},
		ctx:    func() context.Context { return ctx },
		cancel: cancel,
		sha:    sha256.New(),
		slots:  make(chan struct{}, chunksInFlight),
	}
}

// ID is the blob's.
func (r *Recorder) ID() ID { return r.cfg.ID }

// Size is how many bytes were taken.
func (r *Recorder) Size() int64 { return r.sum.size }

// Write implements io.Writer. ErrTooLarge: the body exceeds its limit; other
// errors are those of the Writer.
func (r *Recorder) Write(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		room, err := r.room()
		if err != nil {
			return n, err
		}
		k := copy(room, p[n:])
		n += k
		if err := r.take(k); err != nil {
			return n, err
		}
	}
	return n, nil
}

// ReadFrom implements io.ReaderFrom: it takes a body up to its end without
// copying it once more.
func (r *Recorder) ReadFrom(body io.Reader) (int64, error) {
	var total int64
	for {
		room, err := r.room()
		if err != nil {
			return total, err
		}
		n, err := body.Read(room)
		total += int64(n)
		if terr := r.take(n); terr != nil {
			return total, terr
		}
		if errors.Is(err, io.EOF) {
			return total, nil
		}
		if err != nil {
			return total, fmt.Errorf("read body: %w", err)
		}
	}
}

// room returns the free part of a chunk. A full chunk goes out only when more
// is to come, so that a blob of exactly one chunk is still one Put.
func (r *Recorder) room() ([]byte, error) {
	if r.done {
		return nil, ErrClosed
	}
	if err := r.failure(); err != nil {
		return nil, err
	}
	if r.buf != nil && r.fill == len(*r.buf) {
		if err := r.send(); err != nil {
			return nil, err
		}
	}
	if r.buf == nil {
		r.buf = take(&r.cfg.Buffers.chunk)
	}
	return (*r.buf)[r.fill:], nil
}

// take counts the n bytes that were put into room.
func (r *Recorder) take(n int) error {
	if n == 0 {
		return nil
	}
	if r.sum.size+int64(n) > r.cfg.BytesMax {
		err := fmt.Errorf("body over %d bytes: %w", r.cfg.BytesMax, ErrTooLarge)
		r.fail(err)
		return err
	}
	p := (*r.buf)[r.fill : r.fill+n]
	r.fill += n
	_, _ = r.sum.Write(p)
	_, _ = r.sha.Write(p)
	return nil
}

// send appends the chunk in buf behind the caller's back.
func (r *Recorder) send() error {
	ctx := r.ctx()
	if !r.begun {
		return r.start(ctx)
	}
	select {
	case r.slots <- struct{}{}:
	case <-ctx.Done():
		if err := r.failure(); err != nil {
			return err // that is why
		}
		return ctx.Err()
	}
	buf, n, off := r.buf, r.fill, r.sum.size-int64(r.fill)
	r.buf, r.fill = nil, 0
	r.flights.Go(func() {
		if err := r.w.Append(ctx, r.cfg.ID, off, (*buf)[:n]); err != nil {
			r.fail(fmt.Errorf("append to blob: %w", err))
		}
		r.cfg.Buffers.chunk.Put(buf)
		<-r.slots
	})
	return nil
}

// start begins the blob with its first chunk and waits for that: it is soon
// known whether the cluster takes the upload.
func (r *Recorder) start(ctx context.Context) error {
	r.tried = true
	p := (*r.buf)[:r.fill]
	var err error
	if j, ok := r.w.(Joiner); ok {
		err = j.Start(ctx, r.cfg.ID, r.spec, p)
	} else if err = r.w.Begin(ctx, r.cfg.ID, r.spec); err == nil {
		err = r.w.Append(ctx, r.cfg.ID, 0, p)
	}
	if err != nil {
		err = fmt.Errorf("begin blob: %w", err)
		r.fail(err)
		return err
	}
	r.begun, r.fill = true, 0
	return nil
}

func (r *Recorder) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err == nil {
		r.err = err
		r.cancel() // the others are in vain
	}
}

func (r *Recorder) failure() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

// Whole returns the body as a Sound for a Txn, if it fits into one chunk, and
// stores nothing. The Sound's data is valid until Release. False: it does not
// fit, and Seal is due. After an error Abort is.
func (r *Recorder) Whole() (Sound, bool, error) {
	if r.done {
		return Sound{}, false, ErrClosed
	}
	if err := r.failure(); err != nil || r.begun {
		return Sound{}, false, err
	}
	var p []byte
	if r.buf != nil {
		p = (*r.buf)[:r.fill]
	}
	return Sound{ID: r.cfg.ID, Spec: r.spec, Data: p, Totals: r.totals()}, true, nil
}

// Release frees what the Recorder holds after Whole. It may be called at any
// time, and again; what is stored already stays.
func (r *Recorder) Release() {
	if !r.done {
		r.finish()
	}
}

func (r *Recorder) totals() Totals {
	return Totals{Size: r.sum.size, SHA256: Digest(r.sha.Sum(nil)), Root: r.sum.Sum32()}
}

// Seal stores what is left, waits for the chunks in flight and seals the
// blob. After an error Abort is still due.
func (r *Recorder) Seal(ctx context.Context) (ID, Totals, error) {
	if r.done {
		return ID{}, Totals{}, ErrClosed
	}
	if err := r.failure(); err != nil {
		return ID{}, Totals{}, err
	}
	totals := r.totals()
	var err error
	if !r.begun {
		err = r.put(ctx, totals)
	} else {
		err = r.sealBegun(ctx, totals)
	}
	if err != nil {
		return ID{}, Totals{}, err
	}
	r.finish()
	return r.cfg.ID, totals, nil
}

func (r *Recorder) put(ctx context.Context, totals Totals) error {
	var p []byte
	if r.buf != nil {
		p = (*r.buf)[:r.fill]
	}
	r.tried = true
	if err := r.w.Put(ctx, r.cfg.ID, r.spec, p, totals); err != nil {
		return fmt.Errorf("put blob: %w", err)
	}
	return nil
}

// sealBegun seals a blob of several chunks, together with the last of them.
func (r *Recorder) sealBegun(ctx context.Context, totals Totals) error {
	stop := context.AfterFunc(ctx, r.cancel)
	r.flights.Wait()
	stop()
	if err := r.failure(); err != nil {
		return err
	}
	var p []byte
	if r.buf != nil {
		p = (*r.buf)[:r.fill]
	}
	if err := r.seal(ctx, p, totals); err != nil {
		return fmt.Errorf("seal blob: %w", err)
	}
	return nil
}

func (r *Recorder) seal(ctx context.Context, last []byte, totals Totals) error {
	if len(last) == 0 {
		return r.w.Seal(ctx, r.cfg.ID, totals)
	}
	off := totals.Size - int64(len(last))
	if j, ok := r.w.(Joiner); ok {
		return j.Finish(ctx, r.cfg.ID, off, last, totals)
	}
	if err := r.w.Append(ctx, r.cfg.ID, off, last); err != nil {
		return err
	}
	return r.w.Seal(ctx, r.cfg.ID, totals)
}

// finish frees what the Recorder holds.
func (r *Recorder) finish() {
	r.done = true
	r.cancel()
	r.flights.Wait()
	if r.buf != nil {
		r.cfg.Buffers.chunk.Put(r.buf)
		r.buf = nil
	}
}

// Abort gives the blob up and removes what was stored of it. After Seal
// succeeded it does nothing; it may be called twice.
func (r *Recorder) Abort(ctx context.Context) error {
	if r.done {
		return nil
	}
	r.finish()
	if !r.tried {
		return nil
	}
	if err := r.w.Remove(ctx, r.cfg.ID); err != nil {
		return fmt.Errorf("remove aborted blob: %w", err)
	}
	return nil
}

// resealBufferBytes is what Reseal reads at a time.
const resealBufferBytes = readBufferBytes

// Reseal seals an open blob with what is there: a recording whose node died.
// It returns the totals, those it has when it is sealed already. ErrCorrupt:
// it grew meanwhile, its source lives; try again when it does not.
func Reseal(ctx context.Context, w Writer, s Shelf, id ID) (Totals, error) {
	r, err := s.Open(ctx, id)
	if err != nil {
		return Totals{}, fmt.Errorf("reseal: %w", err)
	}
	defer func() { _ = r.Close() }() // it was only read
	if info := r.Info(); info.Sealed {
		return info.Totals, nil
	}
	var sum RootSum
	sha := sha256.New()
	buf := make([]byte, resealBufferBytes)
	if _, err := io.CopyBuffer(io.MultiWriter(&sum, sha), struct{ io.Reader }{r}, buf); err != nil {
		return Totals{}, fmt.Errorf("reseal: %w", err)
	}
	totals := Totals{Size: sum.Size(), SHA256: Digest(sha.Sum(nil)), Root: sum.Sum32()}
	if err := w.Seal(ctx, id, totals); err != nil {
		return Totals{}, fmt.Errorf("reseal: %w", err)
	}
	return totals, nil
}
