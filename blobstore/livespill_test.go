package blobstore_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"sync"
	"testing"
	"time"

	"carillon/blobstore"
)

// stuck is a store that takes nothing while it is told so.
type stuck struct {
	*blobstore.Local

	mu   sync.Mutex
	stop bool
}

func (s *stuck) refuse() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stop {
		return blobstore.ErrUnavailable
	}
	return nil
}

func (s *stuck) set(stop bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stop = stop
}

func (s *stuck) Append(ctx context.Context, id blobstore.ID, off int64, p []byte) error {
	if err := s.refuse(); err != nil {
		return err
	}
	return s.Local.Append(ctx, id, off, p)
}

func (s *stuck) AppendLive(ctx context.Context, all []blobstore.LiveAppend, done func(int, error)) {
	if err := s.refuse(); err != nil {
		for i := range all {
			done(i, err)
		}
		return
	}
	s.Local.AppendLive(ctx, all, done)
}

// Goal: what waits can be spilled again and again, memory stays small however
// much there is, and the Writer gets every byte in order when it takes some.
func TestLiveSpill(t *testing.T) {
	t.Parallel()
	local, err := blobstore.OpenLocal(t.TempDir(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = local.Close() }()
	w := &stuck{Local: local}
	f := blobstore.OpenFlusher(5 * time.Millisecond)
	defer func() { _ = f.Close() }()
	spool := openSpool(t, t.TempDir(), 64<<20)
	item, err := spool.Create([]byte("m"))
	if err != nil {
		t.Fatal(err)
	}
	r := blobstore.NewLiveRecorder(w, f, blobstore.LiveRecorderConfig{})
	want := bytes.Repeat([]byte("0123456789abcdef"), (blobstore.LiveBufferBytesMax+4<<20)/16)
	var spilled int64
	spill := func() {
		t.Helper()
		for at, p := r.Unspilled(spilled); len(p) > 0; at, p = r.Unspilled(spilled) {
			err := item.Append(blobstore.Op{Kind: blobstore.OpAppend, ID: r.ID(), Offset: at, Data: p})
			if err != nil {
				t.Fatal(err)
			}
			spilled = at + int64(len(p))
			r.Spilled(item, spilled)
		}
	}
	for off := 0; off < len(want); off += 512 << 10 {
		w.set(off >= 1<<20)
		if _, err := r.Write(want[off : off+512<<10]); err != nil {
			t.Fatalf("at %d: %v", off, err)
		}
		if off >= 1<<20 {
			if r.Waiting().IsZero() {
				t.Fatal("nothing waits")
			}
			if spill(); spilled != int64(off+512<<10) {
				t.Fatalf("spilled to %d of %d", spilled, off+512<<10)
			}
		}
	}
	w.set(false)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	totals, err := r.Seal(ctx)
	if err != nil || totals.Size != int64(len(want)) || !r.Waiting().IsZero() {
		t.Fatalf("%+v, %v, waiting since %v", totals, err, r.Waiting())
	}
	b, err := local.Open(ctx, r.ID())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = b.Close() }()
	if got, err := io.ReadAll(b); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}
