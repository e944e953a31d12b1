package cluster

import (
	"bytes"
	"context"
	"testing"

	"carillon/blobstore"
)

// spoiledView is a local view whose bytes are bad from some offset on.
type spoiledView struct{ size int64 }

func (v spoiledView) Info() blobstore.Info {
	return blobstore.Info{Size: v.size, Spec: blobstore.Spec{Live: true}}
}

func (spoiledView) Read(context.Context, int64, []byte) (int, error) { return 0, blobstore.ErrCorrupt }

func (v spoiledView) Wait(context.Context, int64) (blobstore.Info, error) { return v.Info(), nil }

func (spoiledView) Close() error { return nil }

// TestReadingOnElsewhereWaits reads a live blob whose local copy is bad on from
// a replica that is behind it: that must wait, and not end the stream.
func TestReadingOnElsewhereWaits(t *testing.T) {
	nodes := startCluster(t, 3, nil)
	id, w := blobstore.NewID(), nodes[0].Writer()
	first, second := noise(1, 100), noise(2, 100)
	if err := w.Begin(t.Context(), id, blobstore.Spec{Live: true}); err != nil {
		t.Fatal(err)
	}
	if err := w.Append(t.Context(), id, 0, first); err != nil {
		t.Fatal(err)
	}
	s := &steady{n: nodes[1].Node, id: id, View: spoiledView{size: 200}}
	type result struct {
		got []byte
		err error
	}
	done := make(chan result, 1)
	go func() {
		p := make([]byte, 100)
		k, err := s.Read(t.Context(), 100, p)
		done <- result{p[:k], err}
	}()
	eventually(t, "reader at a replica", func() error {
		if _, ok := s.current().(*remote); !ok {
			return blobstore.ErrUnavailable
		}
		return nil
	})
	if err := w.Append(t.Context(), id, 100, second); err != nil {
		t.Fatal(err)
	}
	if r := <-done; r.err != nil || !bytes.Equal(r.got, second) {
		t.Errorf("read %d bytes, %v; want the second hundred", len(r.got), r.err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
