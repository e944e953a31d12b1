package blobstore

import (
	"bytes"
	"testing"
)

// Goal: a follower gets no bytes from the ring that were never put there.
// Method: a listener who opens between the commit of an append and its
// publication sees the new size first, and reads at once.
func TestFollowSizeSeenBeforeItsBytes(t *testing.T) {
	var f follow
	old := bytes.Repeat([]byte("o"), 100)
	f.grow(Info{Size: 100}, 0, old)
	f.see(Info{Size: 200})
	got := make([]byte, 100)
	if n := f.readTail(100, got); n > 0 {
		t.Errorf("read %d bytes that are not there yet: %.20q", n, got[:n])
	}
	fresh := bytes.Repeat([]byte("n"), 100)
	f.grow(Info{Size: 200}, 100, fresh)
	if n := f.readTail(100, got); !bytes.Equal(got[:n], fresh) {
		t.Errorf("once there, read %.20q", got[:n])
	}
	if n := f.readTail(0, got); !bytes.Equal(got[:n], old) {
		t.Errorf("what was there before is %.20q", got[:n])
	}
}
