package blobstore

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// slowWriter takes so long for an append.
type slowWriter struct {
	Writer

	takes time.Duration
}

func (slowWriter) Begin(context.Context, ID, Spec) error { return nil }

func (w slowWriter) Append(context.Context, ID, int64, []byte) error {
	<-time.After(w.takes)
	return nil
}

// Goal: a byte that came while another was under way has waited since it came,
// and not since the other has landed: by that the promised second is kept.
func TestWaitingSince(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := OpenFlusher(0)
		r := NewLiveRecorder(slowWriter{takes: 600 * time.Millisecond}, f, LiveRecorderConfig{})
		must(t, r.Begun(t.Context()))
		write := func() time.Time {
			if _, err := r.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
			return time.Now()
		}
		first := write()
		for r.waits(1) { // until it is under way
			<-time.After(time.Millisecond)
		}
		second := write()
		if got := r.Waiting(); !got.Equal(first) {
			t.Errorf("waiting since %v, not %v", got, first)
		}
		<-time.After(100 * time.Millisecond)
		write()
		for r.Durable() == 0 {
			<-time.After(time.Millisecond)
		}
		if got := r.Waiting(); !got.Equal(second) {
			t.Errorf("waiting since %v, not %v", got, second)
		}
		for r.Durable() < 3 {
			<-time.After(time.Millisecond)
		}
		if got := r.Waiting(); !got.IsZero() {
			t.Errorf("waiting since %v, but nothing waits", got)
		}
		must(t, f.Close())
	})
}

// waits says whether so many bytes were not offered yet.
func (r *LiveRecorder) waits(n int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.pending) == n
}
