package raftlog

import (
	"bytes"
	"log/slog"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"github.com/hashicorp/raft"
)

// Goal: the data of each large entry lies where the log says, whatever else is written with
// it, in each of its files and after a start, and nothing is said of what was overruled.
func TestKept(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	open := func() *Store {
		s, err := Open(dir, Config{SegmentBytes: 256 << 10}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := open()
	rnd := rand.New(rand.NewPCG(1, 2))
	term, next := uint64(300), uint64(1) // numbers of several bytes
	var all []*raft.Log
	store := func(n int) {
		t.Helper()
		if err := s.SetUint64([]byte(keyTerm), term); err != nil { // as raft does before
			t.Fatal(err)
		}
		var logs []*raft.Log
		for range n {
			data := make([]byte, rnd.IntN(3*placeBytesMin))
			for i := range data {
				data[i] = byte(rnd.Uint32())
			}
			logs = append(logs, &raft.Log{
				Index: next, Term: term, Type: raft.LogCommand, Data: data, Extensions: data[:min(7, len(data))],
			})
			next++
		}
		if err := s.StoreLogs(logs); err != nil {
			t.Fatal(err)
		}
		all = append(all, logs...)
	}
	files := map[string]bool{}
	check := func(logs []*raft.Log) {
		t.Helper()
		for _, l := range logs {
			kept, ok := s.Kept(l)
			if ok != (len(l.Data) >= placeBytesMin) {
				t.Errorf("entry %d of %d bytes: %v", l.Index, len(l.Data), ok)
			}
			if !ok {
				continue
			}
			text, err := os.ReadFile(kept.File.Path)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.HasPrefix(text[kept.Offset:], l.Data) {
				t.Errorf("entry %d of %d bytes is not at %d", l.Index, len(l.Data), kept.Offset)
			}
			if len(text) != int(kept.File.Bytes) && len(text) < 256<<10 {
				t.Errorf("a file of %d bytes, said to be of %d", len(text), kept.File.Bytes)
			}
			files[kept.File.Path] = true
		}
	}
	for range 40 {
		store(1 + rnd.IntN(5))
	}
	check(all)
	if len(files) < 5 {
		t.Errorf("all in %d files", len(files))
	}
	from := next - 3
	if err := s.DeleteRange(from, next-1); err != nil {
		t.Fatal(err)
	}
	overruled := slices.Clone(all[len(all)-3:])
	all, next, term = all[:len(all)-3], from, term+1
	store(3)
	for _, l := range overruled {
		if kept, ok := s.Kept(l); ok {
			t.Errorf("overruled entry %d is at %+v", l.Index, kept)
		}
	}
	check(all)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open()
	defer func() { _ = s.Close() }()
	if kept, ok := s.Kept(all[0]); ok {
		t.Errorf("entry of an earlier start is at %+v", kept)
	}
	first := len(all)
	for range 20 {
		store(1 + rnd.IntN(5))
	}
	check(all[first:])
	for len(all)-first < placesMax+1 {
		store(50)
	}
	if kept, ok := s.Kept(all[first]); ok {
		t.Errorf("entry of long ago is at %+v", kept)
	}
	check(all[len(all)-placesMax:])
}
