package raftlog

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/hashicorp/raft"
)

// Goal: a process that ends between the last write into a segment and the note that the log goes
// on in the next one writes on at its next start, and has everything; one that ends within that
// write has everything before it. Method: the notes beside the log are put back to what they were
// before the last write, which is at one of these lengths the last into its segment.
func TestEndsWhileSegmentIsSealed(t *testing.T) {
	t.Parallel()
	const entriesMax = 6
	for _, torn := range []bool{false, true} {
		for entries := uint64(2); entries <= entriesMax; entries++ {
			t.Run(fmt.Sprintf("torn %v, %d", torn, entries), func(t *testing.T) {
				t.Parallel()
				endWithin(t, entries, torn)
			})
		}
	}
}

func endWithin(t *testing.T, entries uint64, torn bool) {
	t.Helper()
	dir := t.TempDir()
	open := func() *Store {
		t.Helper()
		s, err := Open(dir, Config{SegmentBytes: 64 << 10}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	entry := func(index uint64) *raft.Log {
		return &raft.Log{Index: index, Term: 7, Data: make([]byte, placeBytesMin)}
	}
	store := func(s *Store, low, high uint64) {
		t.Helper()
		for i := low; i <= high; i++ {
			if err := s.StoreLog(entry(i)); err != nil {
				t.Fatalf("entry %d: %v", i, err)
			}
		}
	}
	s := open()
	if err := s.SetUint64([]byte(keyTerm), 7); err != nil {
		t.Fatal(err)
	}
	store(s, 1, entries-1)
	closeLog(t, s)
	notes := map[string][]byte{tailFile: nil, "wal-meta.db": nil}
	for name := range notes {
		notes[name] = readFile(t, filepath.Join(dir, name))
	}
	s = open()
	store(s, entries, entries)
	kept, _ := s.Kept(entry(entries))
	closeLog(t, s)
	for name, text := range notes {
		writeFile(t, filepath.Join(dir, name), text)
	}
	last := entries
	if torn {
		text := readFile(t, kept.File.Path)
		text[kept.Offset] ^= 1
		writeFile(t, kept.File.Path, text)
		last--
	}
	for range 2 {
		s = open()
		wantLast(t, s, last)
		store(s, last+1, last+5)
		last += 5
		closeLog(t, s)
	}
	s = open()
	wantLast(t, s, last)
	closeLog(t, s)
}

func wantLast(t *testing.T, s *Store, last uint64) {
	t.Helper()
	if got, err := s.LastIndex(); err != nil || got != last {
		t.Errorf("the log ends at %d, %v; want %d", got, err, last)
	}
	for i := uint64(1); i <= last; i++ {
		var l raft.Log
		if err := s.GetLog(i, &l); err != nil || l.Index != i || len(l.Data) != placeBytesMin {
			t.Errorf("entry %d: %d of %d bytes, %v", i, l.Index, len(l.Data), err)
		}
	}
}

func closeLog(t *testing.T, s *Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func readFile(t *testing.T, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func writeFile(t *testing.T, name string, text []byte) {
	t.Helper()
	if err := os.WriteFile(name, text, 0o600); err != nil {
		t.Fatal(err)
	}
}
