package raftlog

import (
	"bytes"
	"errors"
	"log/slog"
	"testing"

	"github.com/hashicorp/raft"
)

func openLog(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := Open(dir, Config{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func storeRange(t *testing.T, s *Store, low, high uint64, data byte) {
	t.Helper()
	if err := s.SetUint64([]byte("CurrentTerm"), uint64(data)); err != nil { // as raft does before
		t.Fatal(err)
	}
	for i := low; i <= high; i++ {
		l := &raft.Log{Index: i, Term: uint64(data), Data: bytes.Repeat([]byte{data}, 100)}
		if err := s.StoreLog(l); err != nil {
			t.Fatal(err)
		}
	}
}

func wantRange(t *testing.T, s *Store, low, high uint64, data byte) {
	t.Helper()
	for i := low; i <= high; i++ {
		var l raft.Log
		if err := s.GetLog(i, &l); err != nil || l.Index != i || l.Term != uint64(data) ||
			!bytes.Equal(l.Data, bytes.Repeat([]byte{data}, 100)) {
			t.Fatalf("entry %d: term %d, %d bytes, %v; want term %d", i, l.Term, len(l.Data), err, data)
		}
	}
}

// TestLogOverruled removes the newest entries, as a new leader makes a follower
// do, and reads the others after a restart. raft-wal v0.4.0 seals the segment
// without an index and cannot read what is left in it ("sealed segment has no
// index block"): the simulation found it.
func TestLogOverruled(t *testing.T) {
	dir := t.TempDir()
	s := openLog(t, dir)
	storeRange(t, s, 1, 10, 1)
	if err := s.DeleteRange(6, 10); err != nil {
		t.Fatal(err)
	}
	storeRange(t, s, 6, 8, 2)
	if err := s.DeleteRange(8, 8); err != nil {
		t.Fatal(err)
	}
	storeRange(t, s, 8, 9, 3)
	check := func() {
		t.Helper()
		wantRange(t, s, 1, 5, 1)
		wantRange(t, s, 6, 7, 2)
		wantRange(t, s, 8, 9, 3)
		if last, err := s.LastIndex(); err != nil || last != 9 {
			t.Fatalf("last index %d, %v; want 9", last, err)
		}
	}
	check()
	for range 2 {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = openLog(t, dir)
		check()
	}
	if err := s.DeleteRange(1, 6); err != nil { // a snapshot's truncation
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openLog(t, dir)
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	wantRange(t, s, 7, 7, 2)
	wantRange(t, s, 8, 9, 3)
}

// TestLogTail checks that entries come from memory or from disk alike, and that
// memory stays bounded in bytes.
func TestLogTail(t *testing.T) {
	s := openLog(t, t.TempDir())
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	big := bytes.Repeat([]byte{7}, 256<<10)
	for i := uint64(1); i <= 40; i++ {
		if err := s.StoreLogs([]*raft.Log{{Index: i, Data: big}}); err != nil {
			t.Fatal(err)
		}
		if s.bytes > tailBytesMax {
			t.Fatalf("%d bytes in memory, bound is %d", s.bytes, tailBytesMax)
		}
	}
	for i := uint64(1); i <= 40; i++ {
		var l raft.Log
		if err := s.GetLog(i, &l); err != nil || !bytes.Equal(l.Data, big) {
			t.Fatalf("entry %d: %d bytes, %v", i, len(l.Data), err)
		}
	}
	if s.low != 33 || s.high != 40 {
		t.Errorf("in memory: %d to %d, want 33 to 40", s.low, s.high)
	}
	if err := s.DeleteRange(39, 40); err != nil {
		t.Fatal(err)
	}
	var l raft.Log
	if err := s.GetLog(39, &l); !errors.Is(err, raft.ErrLogNotFound) {
		t.Errorf("deleted entry: %v", err)
	}
}
