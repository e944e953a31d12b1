package blobstore

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"math/rand/v2"
	"testing"
)

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// randomBytes makes the content of a test: seed and size say which.
func randomBytes(seed uint64, n int) []byte {
	src := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16)})
	p := make([]byte, n)
	_, _ = src.Read(p) // never fails
	return p
}

func openLocal(t *testing.T) *Local {
	t.Helper()
	l, err := OpenLocal(t.TempDir(), quiet())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

// A body of any size that goes in through the Recorder comes out of a Reader.
func TestRecorderRoundTrip(t *testing.T) {
	l := openLocal(t)
	for i, n := range []int{
		0, 1, BlockBytes, ChunkBytesMax - 1, ChunkBytesMax, ChunkBytesMax + 1, 5*ChunkBytesMax + 77,
	} {
		want := randomBytes(uint64(i), n)
		ctx := context.Background()
		rec := NewRecorder(ctx, l, RecorderConfig{})
		if _, err := io.Copy(rec, bytes.NewReader(want)); err != nil {
			t.Fatal(err)
		}
		id, totals, err := rec.Seal(ctx)
		if err != nil {
			t.Fatalf("%d bytes: %v", n, err)
		}
		if totals != TotalsOf(want) {
			t.Errorf("%d bytes: totals %+v, want %+v", n, totals, TotalsOf(want))
		}
		r, err := l.Open(ctx, id)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes: read %d, equal %v, error %v", n, len(got), bytes.Equal(got, want), err)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
}

// A live recording can be followed while it grows, to its very end.
func TestLiveRecorderIsFollowed(t *testing.T) {
	l := openLocal(t)
	f := OpenFlusher(0)
	ctx := context.Background()
	rec := NewLiveRecorder(l, f, LiveRecorderConfig{})
	if err := rec.Begun(ctx); err != nil {
		t.Fatal(err)
	}
	r, err := l.Open(ctx, rec.ID())
	if err != nil {
		t.Fatal(err)
	}
	r.SetFollow(true)
	var got bytes.Buffer
	read := make(chan error, 1)
	go func() { _, err := r.WriteTo(&got); read <- err }()
	want := randomBytes(7, 3*ChunkBytesMax+123)
	for off := 0; off < len(want); off += 50_000 {
		if _, err := rec.Write(want[off:min(off+50_000, len(want))]); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := rec.Seal(ctx); err != nil {
		t.Fatal(err)
	}
	if err := <-read; err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), want) {
		t.Errorf("followed %d bytes of %d, equal %v", got.Len(), len(want), bytes.Equal(got.Bytes(), want))
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}

func TestCatalogCommit(t *testing.T) {
	l := openLocal(t)
	ctx := context.Background()
	rev, err := l.Commit(ctx, Txn{If: []Cond{{"a", 0}}, Put: []Row{{Key: "a", Value: []byte("1")}}})
	if err != nil {
		t.Fatal(err)
	}
	row, err := l.Get(ctx, "a")
	if err != nil || string(row.Value) != "1" || row.Revision != rev {
		t.Errorf("got %+v, %v", row, err)
	}
}
