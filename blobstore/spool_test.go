package blobstore_test

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"carillon/blobstore"
)

func openSpool(t *testing.T, dir string, bytesMax int64) *blobstore.Spool {
	t.Helper()
	s, err := blobstore.OpenSpool(blobstore.SpoolConfig{Dir: dir, BytesMax: bytesMax, ItemsMax: 3},
		slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func liveOp(id blobstore.ID, off int64, p string) blobstore.Op {
	return blobstore.Op{Kind: blobstore.OpAppend, ID: id, Offset: off, Data: []byte(p)}
}

func replayed(t *testing.T, i *blobstore.SpoolItem) string {
	t.Helper()
	var all bytes.Buffer
	if err := i.Replay(func(op blobstore.Op) error {
		all.Write(op.Data)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return all.String()
}

// Goal: what was taken is there after a restart, in order, and what a crash
// tore is not; bounds are kept; nothing is deleted that a person must see.
func TestSpool(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := openSpool(t, dir, 4096)
	id := blobstore.NewID()
	first, err := s.Create([]byte("first"))
	if err != nil {
		t.Fatal(err)
	}
	second, err := s.Create([]byte("second"))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(first.Append(liveOp(id, 10, "hello "), liveOp(id, 16, "world")),
		second.Append(liveOp(id, 0, "x")), first.SetMeta([]byte("1st")), first.Finish([]byte("end"))); err != nil {
		t.Fatal(err)
	}
	if err := first.Append(liveOp(id, 21, "!")); !errors.Is(err, blobstore.ErrSealed) {
		t.Errorf("append after the end: %v", err)
	}
	p := make([]byte, 8)
	if n, err := first.ReadAt(p, 13); err != nil || string(p[:n]) != "lo world" {
		t.Errorf("read back %q, %v", p[:n], err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	torn := logOf(t, dir)
	whole, err := os.ReadFile(torn)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(torn, append(whole, whole[17:40]...), 0o600); err != nil {
		t.Fatal(err)
	}
	s = openSpool(t, dir, 4096)
	items := s.Items()
	if len(items) != 2 || string(items[0].Meta()) != "1st" || string(items[1].Meta()) != "second" {
		t.Fatalf("items after the restart: %v", items)
	}
	if end, ok := items[0].End(); !ok || string(end) != "end" || items[0].Damaged() || items[1].Damaged() {
		t.Errorf("end %q, %v", end, ok)
	}
	if start, end := items[0].Extent(); start != 10 || end != 21 || replayed(t, items[0]) != "hello world" {
		t.Errorf("extent %d to %d", start, end)
	}
	if err := items[1].Append(liveOp(id, 1, "yz")); err != nil || replayed(t, items[1]) != "xyz" {
		t.Errorf("after a torn end: %v", err)
	}
	if err := items[1].Append(liveOp(id, 3, string(make([]byte, 4000)))); !errors.Is(err, blobstore.ErrNoSpace) {
		t.Errorf("over the bound: %v", err)
	}
	if err := items[1].Quarantine("a test"); err != nil {
		t.Fatal(err)
	}
	if err := items[0].Remove(); err != nil {
		t.Fatal(err)
	}
	if st := s.Stats(); st.Items != 0 || st.Bytes != 0 || st.Quarantined != 1 {
		t.Errorf("left: %+v", st)
	}
	third, err := s.Create(nil)
	if err != nil || third.Name() <= second.Name() {
		t.Errorf("a name was used again: %v, %v", third.Name(), err)
	}
}

// logOf is the only file of the log.
func logOf(t *testing.T, dir string) string {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(dir, "*.spool"))
	if err != nil || len(all) != 1 {
		t.Fatalf("%v, %v", all, err)
	}
	return all[0]
}

// Goal: a flipped bit in the middle is damage, found at the start and at a read.
func TestSpoolDamage(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := openSpool(t, dir, 1<<20)
	id := blobstore.NewID()
	item, err := s.Create([]byte("m"))
	if err != nil {
		t.Fatal(err)
	}
	if err := item.Append(liveOp(id, 0, "aaaa"), liveOp(id, 4, "bbbb"), liveOp(id, 8, "cccc")); err != nil {
		t.Fatal(err)
	}
	path := logOf(t, dir)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[bytes.Index(b, []byte("bbbb"))] ^= 1
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := item.ReadAt(make([]byte, 4), 4); !errors.Is(err, blobstore.ErrCorrupt) {
		t.Errorf("read of damage: %v", err)
	}
	_ = s.Close()
	s = openSpool(t, dir, 1<<20)
	if items := s.Items(); len(items) != 1 || !items[0].Damaged() || replayed(t, items[0]) != "aaaa" {
		t.Errorf("damage not seen: %v", items)
	}
}

func FuzzSpool(f *testing.F) {
	f.Add([]byte("CSPL\x01\x00\x00\x00\x00\x00\x00\x00\x00M\x00\x00\x00\x00\x00\x00\x00\x00"))
	f.Add([]byte("CSPL\x02"))
	f.Fuzz(func(t *testing.T, b []byte) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "0000000000000001.spool"), b, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := blobstore.OpenSpool(blobstore.SpoolConfig{Dir: dir}, slog.New(slog.DiscardHandler))
		if err != nil {
			if !errors.Is(err, blobstore.ErrFormat) {
				t.Fatal(err)
			}
			return
		}
		for _, i := range s.Items() {
			_ = i.Replay(func(blobstore.Op) error { return nil })
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	})
}
