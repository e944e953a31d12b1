package raftnet

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestBeat lets heartbeats out together, at their moments, and at once for
// who asks.
func TestBeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const every = 150 * time.Millisecond
		closed := make(chan struct{})
		groups := []*beat{{every: every, closed: closed}, {every: every, closed: closed}}
		sent := make(chan time.Time, 1)
		send := func(b *beat) {
			go func() {
				b.wait()
				sent <- time.Now()
			}()
			synctest.Wait()
		}
		moment := func() time.Time { // the next one
			now := time.Now()
			return now.Add(every - time.Duration(now.UnixNano()%int64(every)))
		}
		time.Sleep(time.Until(moment()) + every/2)
		want := moment()
		for _, b := range groups {
			send(b)
		}
		for range groups {
			if got := <-sent; !got.Equal(want) {
				t.Errorf("sent at %v, want %v", got, want)
			}
		}
		time.Sleep(every / beatLate)
		begun := time.Now()
		if send(groups[0]); !(<-sent).Equal(begun) {
			t.Error("one that is a little late waits for the next moment")
		}
		time.Sleep(every / 2)
		begun = time.Now()
		send(groups[0])
		send(groups[1])
		done := groups[0].ask() // lets the one go that waits
		if got := <-sent; !got.Equal(begun) {
			t.Errorf("sent %v after somebody asked", got.Sub(begun))
		}
		if send(groups[0]); !(<-sent).Equal(begun) {
			t.Error("a heartbeat waits while somebody asks")
		}
		done()
		send(groups[0])
		select {
		case <-sent:
			t.Error("a heartbeat does not wait when nobody asks any more")
		default:
		}
		close(closed) // both that wait still
		for range groups {
			if got := <-sent; !got.Equal(begun) {
				t.Errorf("sent %v after the end", got.Sub(begun))
			}
		}
	})
}
