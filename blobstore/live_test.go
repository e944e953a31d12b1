package blobstore

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// flaky is a Writer in memory that fails as told and records what it got.
type flaky struct {
	mu      sync.Mutex
	data    map[ID][]byte
	begun   map[ID]bool
	uploads map[ID]bool
	sealed  map[ID]Totals
	flying  map[ID]int
	fail    func(call string, n int) error // may be nil; n counts the calls
	calls   int
	appends []LiveAppend // with the bytes as they were
	at      []time.Time  // of the appends
	slow    time.Duration
}

func newFlaky() *flaky {
	return &flaky{
		data: map[ID][]byte{}, begun: map[ID]bool{}, uploads: map[ID]bool{}, sealed: map[ID]Totals{},
		flying: map[ID]int{},
	}
}

func (f *flaky) failing(ctx context.Context, call string) error {
	f.calls++
	if f.fail == nil {
		return ctx.Err()
	}
	return f.fail(call, f.calls)
}

func (f *flaky) Begin(ctx context.Context, id ID, spec Spec) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	err := f.failing(ctx, "begin")
	if err == nil {
		f.begun[id], f.uploads[id] = true, !spec.Live
	}
	return err
}

func (f *flaky) Append(ctx context.Context, id ID, offset int64, p []byte) error {
	f.mu.Lock()
	f.flying[id]++
	two := f.flying[id] > 1 && !f.uploads[id] // chunks of an upload come in any order
	slow := f.slow
	f.mu.Unlock()
	if two {
		panic("two appends of one blob in flight")
	}
	if slow > 0 {
		timer := time.NewTimer(slow)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.flying[id]--
	f.appends = append(f.appends, LiveAppend{id, offset, bytes.Clone(p)})
	f.at = append(f.at, time.Now())
	if err := f.failing(ctx, "append"); err != nil {
		return err
	}
	if !f.begun[id] {
		return ErrNotFound
	}
	have := f.data[id]
	if missing := int(offset) - len(have); missing > 0 && f.uploads[id] {
		have = append(have, make([]byte, missing)...)
	}
	if offset > int64(len(have)) {
		return ErrGap
	}
	if n := min(len(p), len(have)-int(offset)); !bytes.Equal(have[offset:][:n], p[:n]) {
		return ErrConflict
	}
	f.data[id] = append(have[:offset:offset], p...)
	return nil
}

func (f *flaky) Seal(ctx context.Context, id ID, totals Totals) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.failing(ctx, "seal"); err != nil {
		return err
	}
	if TotalsOf(f.data[id]) != totals {
		return ErrCorrupt
	}
	f.sealed[id] = totals
	return nil
}

func (f *flaky) Put(ctx context.Context, id ID, _ Spec, p []byte, totals Totals) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.failing(ctx, "put"); err != nil {
		return err
	}
	f.data[id], f.sealed[id] = bytes.Clone(p), totals
	return nil
}

func (f *flaky) Remove(ctx context.Context, id ID) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.failing(ctx, "remove"); err != nil {
		return err
	}
	delete(f.data, id)
	return nil
}

// All recorders of a process flush at the same multiples of the interval.
func TestFlusherTicksTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, f := newFlaky(), OpenFlusher(0)
		ctx := context.Background()
		recs := make([]*LiveRecorder, 10)
		for i := range recs {
			recs[i] = NewLiveRecorder(w, f, LiveRecorderConfig{})
			if err := recs[i].Begun(ctx); err != nil {
				t.Fatal(err)
			}
		}
		for range 5 {
			for i, r := range recs {
				time.Sleep(time.Duration(i) * time.Millisecond)
				if n, err := r.Write([]byte("some bytes")); n != 10 || err != nil {
					t.Fatal(n, err)
				}
			}
			time.Sleep(FlushInterval)
		}
		synctest.Wait()
		for i, at := range w.at {
			if !at.Equal(at.Truncate(FlushInterval)) {
				t.Errorf("append %d at %v is between ticks", i, at)
			}
		}
		if len(w.appends) != 50 {
			t.Errorf("%d appends, want 50", len(w.appends))
		}
		for _, r := range recs {
			if r.Durable() != 50 || r.Size() != 50 {
				t.Errorf("durable %d of %d", r.Durable(), r.Size())
			}
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
}

// Without a majority for a minute nothing is lost and nothing offered twice
// in another form; afterwards the backlog goes out at once, and the Seal that
// waited succeeds.
func TestLiveRecorderOutlivesAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, f := newFlaky(), OpenFlusher(0)
		start := time.Now()
		w.fail = func(string, int) error {
			if d := time.Since(start); d > time.Second && d < time.Minute {
				return ErrUnavailable
			}
			return nil
		}
		r := NewLiveRecorder(w, f, LiveRecorderConfig{})
		want := randomBytes(1, 300_000)
		for off := 0; off < len(want); off += 3000 {
			if _, err := r.Write(want[off : off+3000]); err != nil {
				t.Fatal(err)
			}
			time.Sleep(300 * time.Millisecond)
		}
		totals, err := r.Seal(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took > 65*time.Second {
			t.Errorf("sealed after %v", took)
		}
		if totals != TotalsOf(want) || w.sealed[r.ID()] != totals || !bytes.Equal(w.data[r.ID()], want) {
			t.Errorf("stored %d bytes of %d", len(w.data[r.ID()]), len(want))
		}
		byOffset := map[int64][]byte{}
		for _, a := range w.appends {
			if old, ok := byOffset[a.Offset]; ok && !bytes.Equal(old, a.Data) {
				t.Errorf("offset %d was offered as %d and as %d bytes", a.Offset, len(old), len(a.Data))
			}
			byOffset[a.Offset] = a.Data
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
}

// The buffer is bounded: then Write says so, and goes on when there is room.
func TestLiveRecorderBufferBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, f := newFlaky(), OpenFlusher(0)
		down := true
		w.fail = func(string, int) error {
			if down {
				return ErrUnavailable
			}
			return nil
		}
		r := NewLiveRecorder(w, f, LiveRecorderConfig{BytesMax: LiveBufferBytesMax + 10})
		p := make([]byte, 1<<20)
		for range LiveBufferBytesMax / len(p) {
			if _, err := r.Write(p); err != nil {
				t.Fatal(err)
			}
		}
		if n, err := r.Write([]byte{1}); n != 0 || !errors.Is(err, ErrUnavailable) {
			t.Errorf("full buffer took %d, %v", n, err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		w.mu.Lock()
		down = false
		w.mu.Unlock()
		for r.Durable() < LiveBufferBytesMax {
			time.Sleep(time.Second)
		}
		if _, err := r.Write(make([]byte, 11)); !errors.Is(err, ErrTooLarge) {
			t.Errorf("beyond the limit: %v", err)
		}
		if n, err := r.Write(make([]byte, 10)); n != 10 || err != nil {
			t.Errorf("to the limit: %d, %v", n, err)
		}
		if _, err := r.Seal(ctx); err != nil {
			t.Error(err)
		}
		cancel()
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
}

// A sentinel that trying again cannot cure ends the recording; the others
// that share the flusher go on.
func TestLiveRecorderFatal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, f := newFlaky(), OpenFlusher(0)
		bad := NewLiveRecorder(w, f, LiveRecorderConfig{})
		good := NewLiveRecorder(w, f, LiveRecorderConfig{})
		synctest.Wait()
		w.mu.Lock()
		w.data[bad.ID()] = []byte("other bytes")
		w.mu.Unlock()
		for _, r := range []*LiveRecorder{bad, good} {
			if _, err := r.Write([]byte("these bytes")); err != nil {
				t.Fatal(err)
			}
		}
		<-bad.Failed()
		if err := bad.Err(); !errors.Is(err, ErrConflict) {
			t.Errorf("failed with %v", err)
		}
		if _, err := bad.Write([]byte{1}); !errors.Is(err, ErrConflict) {
			t.Errorf("write: %v", err)
		}
		if _, err := bad.Seal(context.Background()); !errors.Is(err, ErrConflict) {
			t.Errorf("seal: %v", err)
		}
		if _, err := good.Seal(context.Background()); err != nil {
			t.Errorf("the other: %v", err)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
}

// An append that hangs is given up and offered again; the clock goes on for
// the others, and closing the flusher ends everything.
func TestLiveRecorderHangingWriter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, f := newFlaky(), OpenFlusher(0)
		w.slow = time.Hour
		r := NewLiveRecorder(w, f, LiveRecorderConfig{})
		if err := r.Begun(context.Background()); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Write([]byte("bytes")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2*flushWait + 2*time.Second)
		w.mu.Lock()
		n := len(w.appends)
		w.mu.Unlock()
		if n < 2 {
			t.Errorf("offered %d times", n)
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if _, err := r.Seal(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("seal: %v", err)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
		<-r.Failed()
	})
}

// A Recorder keeps at most its window in flight and forgets nothing when the
// Writer fails in the middle.
func TestRecorderFailure(t *testing.T) {
	w := newFlaky()
	w.fail = func(call string, n int) error {
		if call == "append" && n > 3 {
			return ErrUnavailable
		}
		return nil
	}
	r := NewRecorder(context.Background(), w, RecorderConfig{})
	_, err := r.ReadFrom(bytes.NewReader(make([]byte, 30*ChunkBytesMax)))
	if !errors.Is(err, ErrUnavailable) {
		t.Errorf("read from: %v", err)
	}
	if _, _, err := r.Seal(context.Background()); !errors.Is(err, ErrUnavailable) {
		t.Errorf("seal: %v", err)
	}
	if err := r.Abort(context.Background()); err != nil { // waits for what is in flight
		t.Errorf("abort: %v", err)
	}
	if len(w.appends) > 3+2*chunksInFlight {
		t.Errorf("%d appends after the failure", len(w.appends))
	}
	if _, ok := w.data[r.ID()]; ok {
		t.Error("the aborted blob is still there")
	}
}
