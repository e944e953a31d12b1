package blobstore

import (
	"context"
	"errors"
	"testing"
)

// attentive is a view of zeros that reads as long as its context lasts.
type attentive struct{ size int64 }

func (v attentive) Info() Info { return Info{Size: v.size, Sealed: true} }

func (v attentive) Wait(context.Context, int64) (Info, error) { return v.Info(), nil }

func (v attentive) Read(ctx context.Context, _ int64, p []byte) (int, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (v attentive) Close() error { return nil }

// Goal: a Reader that outlives the request it was opened for ends with the other
// context, goes on where it was, and ends with Close all the same.
func TestReaderOutlives(t *testing.T) {
	t.Parallel()
	request, answered := context.WithCancel(t.Context())
	listener, left := context.WithCancel(t.Context())
	defer left()
	r := NewReader(request, attentive{size: 100})
	var p [10]byte
	read := func() (int, error) { return r.Read(p[:]) }
	if n, err := read(); n != len(p) || err != nil {
		t.Fatalf("%d bytes, %v", n, err)
	}
	if err := r.Outlive(listener); err != nil {
		t.Fatal(err)
	}
	answered()
	if n, err := read(); n != len(p) || err != nil || r.off != 2*int64(len(p)) {
		t.Errorf("after the request: %d bytes, %v, now at %d", n, err, r.off)
	}
	left()
	if _, err := read(); !errors.Is(err, context.Canceled) {
		t.Errorf("after the listener: %v", err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if err := r.Outlive(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("closed: %v", err)
	}
	if _, err := read(); !errors.Is(err, ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}
