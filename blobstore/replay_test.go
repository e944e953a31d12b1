package blobstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// genOps draws a history of operations on few blobs, with failures of every
// kind in it. Index counts entries of one to three operations.
func genOps(t *rapid.T) []Op {
	ids := []ID{numberedID(1), numberedID(2), numberedID(3)}
	contents := make([][]byte, len(ids))
	for i := range contents {
		contents[i] = randomBytes(uint64(i), 2*ChunkBytesMax+5000)
	}
	sizes := []int{0, 1, 700, 5000, BlockBytes, LivePieceBytesMax, ChunkBytesMax}
	n := rapid.IntRange(1, 40).Draw(t, "ops")
	ops := make([]Op, 0, n)
	index, left := uint64(0), 0
	grown := make([]int64, len(ids)) // what a live blob may have by now
	for len(ops) < n {
		if left == 0 {
			index++
			left = rapid.IntRange(1, 3).Draw(t, "entry")
		}
		left--
		i := rapid.IntRange(0, len(ids)-1).Draw(t, "blob")
		op := Op{ID: ids[i], Index: index, At: time.UnixMilli(int64(1000 + len(ops))).UTC()}
		size := rapid.SampledFrom(sizes).Draw(t, "size")
		switch rapid.SampledFrom([]string{
			"begin", "chunk", "chunk", "piece", "piece", "piece", "other", "seal", "put", "remove", "gap",
		}).Draw(t, "kind") {
		case "begin":
			op.Kind, op.Spec.Live = OpBegin, rapid.Bool().Draw(t, "live")
		case "chunk":
			c := rapid.IntRange(0, 2).Draw(t, "chunk")
			op.Kind, op.Offset = OpAppend, int64(c*ChunkBytesMax)
			op.Data = contents[i][op.Offset:min(int(op.Offset)+max(size, 1), len(contents[i]))]
		case "piece":
			size = min(size, LivePieceBytesMax)
			op.Kind, op.Offset = OpAppend, min(grown[i], int64(len(contents[i])))
			op.Data = contents[i][op.Offset:min(int(op.Offset)+size, len(contents[i]))]
			grown[i] = op.Offset + int64(len(op.Data))
		case "gap":
			op.Kind, op.Offset, op.Data = OpAppend, grown[i]+700, []byte("gap")
		case "other":
			op.Kind, op.Offset = OpAppend, 0
			op.Data = randomBytes(99, max(size, 1))
		case "seal":
			n := grown[i]
			if rapid.Bool().Draw(t, "chunked") {
				n = int64(rapid.SampledFrom([]int{0, size, ChunkBytesMax, ChunkBytesMax + size}).Draw(t, "sealed"))
			}
			op.Kind, op.Totals = OpSeal, TotalsOf(contents[i][:n])
		case "put":
			op.Kind, op.Data, op.Totals = OpPut, contents[i][:size], TotalsOf(contents[i][:size])
		case "remove":
			op.Kind = OpRemove
			grown[i] = 0
		}
		ops = append(ops, op)
	}
	return ops
}

// byEntry cuts a history where entries end.
func byEntry(ops []Op) [][]Op {
	var entries [][]Op
	for i := range ops {
		if i == 0 || ops[i].Index != ops[i-1].Index {
			entries = append(entries, nil)
		}
		last := len(entries) - 1
		entries[last] = append(entries[last], ops[i])
	}
	return entries
}

// state describes everything a reader can see.
func state(tb fataler, s *Store) string {
	var b strings.Builder
	for info, err := range s.Blobs(context.Background()) {
		if err != nil {
			tb.Fatalf("list blobs: %v", err)
		}
		r, err := s.Open(context.Background(), info.ID)
		if err != nil {
			tb.Fatalf("open %v: %v", info.ID, err)
		}
		p, err := io.ReadAll(r)
		if err != nil {
			tb.Fatalf("read %v: %v", info.ID, err)
		}
		if err := r.Close(); err != nil {
			tb.Fatalf("close: %v", err)
		}
		fmt.Fprintf(&b, "%+v %x\n", info, TotalsOf(p).SHA256)
	}
	return b.String()
}

type fataler interface{ Fatalf(string, ...any) }

func openStoreIn(tb fataler, dir string) *Store {
	s, err := OpenStore(StoreConfig{Dir: dir, MemtableBytes: 4 << 20, ValueLogFileBytes: 4 << 20}, quiet())
	if err != nil {
		tb.Fatalf("open: %v", err)
	}
	return s
}

func closeStore(tb fataler, s *Store) {
	if err := s.Close(); err != nil {
		tb.Fatalf("close: %v", err)
	}
}

// Any history has the outcomes and the content that the model has, and any
// tail of it, applied again, changes nothing: neither here nor after a start.
func TestApplyAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp("", "blobs") //nolint:usetesting // one for each check, and gone with it
		if err != nil {
			t.Fatalf("%v", err)
		}
		defer func() { _ = os.RemoveAll(dir) }()
		s := openStoreIn(t, dir)
		m, ops := make(model), genOps(t)
		log := &fakeLog{tb: t, dir: filepath.Join(dir, "log"), bytes: 1}
		if err := os.Mkdir(log.dir, 0o700); err != nil {
			t.Fatalf("%v", err)
		}
		syncAt := rapid.IntRange(0, len(ops)).Draw(t, "sync")
		for _, entry := range byEntry(ops) {
			for i, err := range s.Apply(keptIn(log, entry)) {
				if want := m.apply(entry[i]); !errorsMatch(err, want) {
					t.Fatalf("%d bytes at %d by kind %d: %v, want %v",
						len(entry[i].Data), entry[i].Offset, entry[i].Kind, err, want)
				}
			}
			if syncAt--; syncAt == 0 {
				if err := s.Sync(); err != nil {
					t.Fatalf("sync: %v", err)
				}
				log.cut()
			}
		}
		m.check(t, s)
		before := state(t, s)
		entries := byEntry(ops)
		for range 2 {
			for _, entry := range entries[rapid.IntRange(0, len(entries)-1).Draw(t, "from"):] {
				s.Apply(entry)
			}
			if after := state(t, s); after != before {
				t.Fatalf("replay changed\n%s\nto\n%s", before, after)
			}
			closeStore(t, s)
			s = openStoreIn(t, dir)
		}
		m.check(t, s)
		closeStore(t, s)
	})
}

// keptIn has a log hold what operations bring.
func keptIn(log *fakeLog, ops []Op) []Op {
	ops = slices.Clone(ops)
	for i := range ops {
		if len(ops[i].Data) > 0 {
			ops[i].Kept = log.write(ops[i].Data)
		}
	}
	return ops
}

func errorsMatch(got, want error) bool {
	if want == nil {
		return got == nil
	}
	return got != nil && strings.Contains(got.Error(), want.Error())
}

// copyTree copies a database directory, sparse files by what they hold.
func copyTree(tb fataler, from, to string) {
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.MkdirAll(filepath.Join(to, rel), 0o750)
		}
		if d.Name() == "LOCK" {
			return nil
		}
		p, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, rel), p, 0o600)
	})
	if err != nil {
		tb.Fatalf("copy: %v", err)
	}
}

// loseUnsynced makes dir what a power cut may leave: some files as they were
// at the last sync, others as they are now, which is where the danger lies.
func loseUnsynced(t *rapid.T, synced, now, dir string) {
	copyTree(t, now, dir)
	loseFiles(t, synced, dir)
	loseFiles(t, filepath.Join(synced, valuesDir), filepath.Join(dir, valuesDir))
}

// loseFiles does so to the files of one directory.
func loseFiles(t *rapid.T, synced, dir string) {
	old, err := os.ReadDir(synced)
	if err != nil {
		t.Fatalf("%v", err)
	}
	atSync := make(map[string]bool)
	for _, e := range old {
		atSync[e.Name()] = true
	}
	current, err := os.ReadDir(dir)
	if err != nil {
		t.Fatalf("%v", err)
	}
	for _, e := range current {
		ext := filepath.Ext(e.Name())
		if ext != ".vlog" && ext != ".mem" || !rapid.Bool().Draw(t, "lose "+ext) {
			continue // tables and the manifest are synced when they are made
		}
		path := filepath.Join(dir, e.Name())
		if !atSync[e.Name()] {
			// Its name is there, its bytes are not; or they are fewer, or not even the name.
			lose := zeroFile
			if filepath.Base(dir) == valuesDir {
				lose = rapid.SampledFrom([]func(string) error{zeroFile, os.Remove, halveFile}).Draw(t, "new")
			}
			if err := lose(path); err != nil {
				t.Fatalf("%v", err)
			}
			continue
		}
		p, err := os.ReadFile(filepath.Join(synced, e.Name()))
		if err != nil {
			t.Fatalf("%v", err)
		}
		if rapid.Bool().Draw(t, "torn") {
			p = torn(t, p, path)
		}
		if err := os.WriteFile(path, p, 0o600); err != nil {
			t.Fatalf("%v", err)
		}
	}
}

// torn is the file at path with a hole in what was written since old: pages
// reach the disk in any order.
func torn(t *rapid.T, old []byte, path string) []byte {
	p, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v", err)
	}
	first, last := len(p), 0
	for i := range p {
		if i >= len(old) || p[i] != old[i] {
			first, last = min(first, i), i+1
		}
	}
	if first >= last {
		return p
	}
	from := rapid.IntRange(first, last-1).Draw(t, "hole from")
	clear(p[from:rapid.IntRange(from+1, last).Draw(t, "hole to")])
	return p
}

// zeroFile keeps the file's head, which is written when it is made, and zeros
// the rest.
func zeroFile(path string) error {
	p, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	const headBytes = 20
	clear(p[min(headBytes, len(p)):])
	return os.WriteFile(path, p, 0o600)
}

// halveFile cuts a file in two.
func halveFile(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	return os.Truncate(path, info.Size()/2)
}

func collectIn(t *rapid.T, s *Store) {
	s.garbage.Add(s.cfg.ValueLogFileBytes)
	if err := errors.Join(s.RunGC(context.Background()), s.Sync()); err != nil {
		t.Fatalf("collect: %v", err)
	}
}

// After a power cut that lost any part of what was written since the last
// Sync, replaying the log from there restores the state exactly: bytes that
// were durable are never lost, and nothing is damaged for good.
func TestReplayAfterLostWrites(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		root, err := os.MkdirTemp("", "blobs") //nolint:usetesting // one for each check, and gone with it
		if err != nil {
			t.Fatalf("%v", err)
		}
		defer func() { _ = os.RemoveAll(root) }()
		live, synced, cut := filepath.Join(root, "live"), filepath.Join(root, "synced"), filepath.Join(root, "cut")
		s := openStoreIn(t, live)
		log := &fakeLog{tb: t, dir: root, bytes: 1}
		entries := byEntry(genOps(t))
		from := rapid.IntRange(0, len(entries)-1).Draw(t, "sync")
		for _, e := range entries[:from] {
			s.Apply(keptIn(log, e))
		}
		if err := s.Sync(); err != nil {
			t.Fatalf("sync: %v", err)
		}
		log.cut()
		copyTree(t, live, synced)
		collectAt := rapid.IntRange(0, len(entries)-from).Draw(t, "collect")
		for i, e := range entries[from:] {
			s.Apply(keptIn(log, e))
			if i == collectAt { // it syncs, too
				collectIn(t, s)
				if err := os.RemoveAll(synced); err != nil {
					t.Fatalf("%v", err)
				}
				copyTree(t, live, synced)
			}
		}
		want := state(t, s)
		loseUnsynced(t, synced, live, cut)
		closeStore(t, s)

		s = openStoreIn(t, cut)
		for _, e := range entries[from:] {
			for i, err := range s.Apply(e) {
				if !IsOutcome(err) {
					t.Fatalf("replay of kind %d: %v", e[i].Kind, err)
				}
			}
		}
		if got := state(t, s); got != want {
			t.Fatalf("after the replay\n%s\nwant\n%s", got, want)
		}
		closeStore(t, s)
		// Merging what came back does not lose it either.
		s = openStoreIn(t, cut)
		if got := state(t, s); got != want {
			t.Fatalf("after another start\n%s\nwant\n%s", got, want)
		}
		closeStore(t, s)
	})
}
