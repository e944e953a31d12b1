package blobstore

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"

	"pgregory.net/rapid"
)

// sectorBytes is what a disk writes whole.
const sectorBytes = 512

// testDisk is a directory whose power can be cut: it remembers of every file
// what was synced, and of the directory which names were. It counts, and fails
// as it is told.
type testDisk struct {
	mu     sync.Mutex // guards the rest
	names  map[string]*testFile
	synced map[string]*testFile
	writes int
	syncs  int
	// onSync is called before a file is synced; an error is the disk's.
	onSync func() error
	full   bool // no file grows
	// worn is where a file cannot be read, in bytes from its end.
	worn int64
}

type testFile struct {
	*os.File

	d      *testDisk
	synced []byte
}

func newTestDisk() *testDisk {
	return &testDisk{names: map[string]*testFile{}, synced: map[string]*testFile{}}
}

func (d *testDisk) open(path string, flag int) (spoolFile, error) {
	f, err := os.OpenFile(path, flag, 0o600)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	file := &testFile{File: f, d: d}
	if flag&os.O_CREATE == 0 { // it is there since before
		if file.synced, err = os.ReadFile(path); err != nil {
			return nil, err
		}
		d.synced[path] = file
	}
	d.names[path] = file
	return file, nil
}

func (d *testDisk) remove(path string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.names, path)
	return os.Remove(path)
}

// salvage has zeros where a file cannot be read.
func (d *testDisk) salvage(path string) (int64, error) {
	if d.worn == 0 {
		return 0, nil
	}
	p, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	lost := min(d.worn, int64(len(p)))
	clear(p[int64(len(p))-lost:])
	return lost, os.WriteFile(path, p, 0o600)
}

func (d *testDisk) syncDir(string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.syncs++
	d.synced = maps.Clone(d.names)
	return nil
}

func (f *testFile) WriteAt(p []byte, off int64) (int, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	f.d.writes++
	if f.d.full {
		n, _ := f.File.WriteAt(p[:len(p)/2], off)
		return n, errors.New("no space left on the disk of the test")
	}
	return f.File.WriteAt(p, off)
}

func (f *testFile) Sync() error {
	f.d.mu.Lock()
	hook := f.d.onSync
	f.d.syncs++
	f.d.mu.Unlock()
	if hook != nil {
		if err := hook(); err != nil {
			return err
		}
	}
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	var err error
	f.synced, err = f.content()
	return err
}

func (f *testFile) content() ([]byte, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	p := make([]byte, info.Size())
	_, err = f.ReadAt(p, 0)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return p, err
}

// counts are the writes and the syncs so far.
func (d *testDisk) counts() (writes, syncs int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.writes, d.syncs
}

func (d *testDisk) set(change func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	change()
}

// cut makes dir what a power cut leaves now: each sector that was not synced is
// there or not, and so is each name.
func (d *testDisk) cut(t *rapid.T, dir string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := map[string]bool{}
	for path := range d.names {
		all[path] = true
	}
	for path := range d.synced {
		all[path] = true
	}
	for path := range all {
		now, there := d.names[path]
		old, was := d.synced[path]
		if there != was && !rapid.Bool().Draw(t, "name") {
			continue
		}
		var p []byte
		if there {
			fresh, err := now.content()
			if err != nil {
				t.Fatalf("%v", err)
			}
			p = sectors(t, now.synced, fresh)
		} else {
			p = old.synced
		}
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(path)), p, 0o600); err != nil {
			t.Fatalf("%v", err)
		}
	}
}

// sectors mixes two states of a file.
func sectors(t *rapid.T, old, fresh []byte) []byte {
	if bytes.Equal(old, fresh) {
		return old
	}
	size := len(old)
	if rapid.Bool().Draw(t, "size") {
		size = len(fresh)
	}
	p := make([]byte, size)
	copy(p, old)
	for at := 0; at < size; at += sectorBytes {
		if at < len(fresh) && rapid.Bool().Draw(t, "sector") {
			copy(p[at:min(at+sectorBytes, size)], fresh[at:])
		}
	}
	return p
}

func openSpoolOn(tb fataler, d spoolDisk, dir string, bytesMax int64) *Spool {
	s, err := OpenSpool(SpoolConfig{Dir: dir, BytesMax: bytesMax, disk: d}, quiet())
	if err != nil {
		tb.Fatalf("open spool: %v", err)
	}
	return s
}

// spoolState describes all that waits.
func spoolState(tb fataler, s *Spool) string {
	var b bytes.Buffer
	for _, i := range s.Items() {
		end, ended := i.End()
		fmt.Fprintf(&b, "%s %d %q %q %v %v:", i.Name(), i.Created().UnixMilli(), i.Meta(), end, ended, i.Damaged())
		err := i.Replay(func(op Op) error {
			fmt.Fprintf(&b, " %d+%d %x", op.Offset, len(op.Data), TotalsOf(op.Data).Root)
			return nil
		})
		if err != nil {
			tb.Fatalf("replay %s: %v", i.Name(), err)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// spoolStep makes one random change, which may be of many items.
func spoolStep(t *rapid.T, s *Spool) error {
	items := s.Items()
	some := func() *SpoolItem { return rapid.SampledFrom(items).Draw(t, "item") }
	b := s.Batch()
	for range rapid.IntRange(1, 5).Draw(t, "changes") {
		what := rapid.SampledFrom([]string{"new", "op", "op", "op", "meta", "end", "gone"}).Draw(t, "change")
		if len(items) == 0 {
			what = "new"
		}
		var err error
		switch what {
		case "new":
			var i *SpoolItem
			if i, err = b.Create(randomBytes(1, rapid.IntRange(0, 2000).Draw(t, "meta"))); err == nil {
				err = b.Append(i, Op{Kind: OpAppend, Data: []byte("new"), ID: numberedID(1)})
			}
		case "op":
			i, n := some(), rapid.SampledFrom([]int{1, 100, 700, 5000, 70_000}).Draw(t, "bytes")
			_, end := i.Extent()
			err = b.Append(i, Op{Kind: OpAppend, ID: numberedID(1), Offset: end, Data: randomBytes(uint64(n), n)})
		case "meta":
			err = b.SetMeta(some(), []byte("other words"))
		case "end":
			err = b.Finish(some(), []byte("the end"))
		case "gone":
			b.Remove(some())
		}
		if err != nil && !errors.Is(err, ErrSealed) && !errors.Is(err, ErrNoSpace) {
			return errors.Join(err, b.Commit())
		}
	}
	return b.Commit()
}

// cutDuringStep cuts the power at one of the syncs of a change, or after it, and
// compares what a start finds then.
func cutDuringStep(t *rapid.T, d *testDisk, s *Spool, after string) {
	before, refused := spoolState(t, s), s.unclean
	fails, at := rapid.Bool().Draw(t, "fails"), rapid.IntRange(1, 3).Draw(t, "at")
	made, first := false, at == 1
	d.set(func() {
		d.onSync = func() error {
			if at--; at == 0 {
				d.cut(t, after)
				made = true
			}
			if at <= 0 && fails {
				return errors.New("the disk of the test is tired")
			}
			return nil
		}
	})
	err := spoolStep(t, s) // if not its own, then a sync of the collection fails
	d.set(func() { d.onSync = nil })
	now := spoolState(t, s)
	switch {
	case made && fails && first && !errors.Is(err, ErrNoSpace):
		t.Fatalf("the disk failed: %v", err)
	case errors.Is(err, ErrNoSpace) && now != before:
		t.Fatalf("refused, but\n%s\nbecame\n%s", before, now)
	case !made:
		d.cut(t, after)
	}
	d = newTestDisk()
	cut := openSpoolOn(t, d, after, 1<<20)
	got := spoolState(t, cut)
	// What the disk refused may have reached it all the same, and is there until the next
	// frame is.
	there := errors.Is(err, ErrNoSpace) || refused && (made || s.unclean)
	if got != before && got != now && !there {
		t.Fatalf("after the cut\n%s\nneither\n%s\nnor\n%s", got, before, now)
	}
	// What it left of the torn end does no harm later.
	if err := spoolStep(t, cut); err != nil && !errors.Is(err, ErrClosed) {
		t.Fatalf("%v", err)
	}
	got = spoolState(t, cut)
	again := after + "again"
	if err := os.Mkdir(again, 0o700); err != nil {
		t.Fatalf("%v", err)
	}
	d.cut(t, again)
	next := openSpoolOn(t, newTestDisk(), again, 1<<20)
	if after := spoolState(t, next); after != got {
		t.Fatalf("after a second cut\n%s\nnot\n%s", after, got)
	}
	if err := errors.Join(cut.Close(), next.Close()); err != nil {
		t.Fatalf("%v", err)
	}
}

// Goal: what was taken is there after a power cut at any moment, whatever the
// disk made of the rest; what was being written is there whole or not at all,
// though it concerned many items; a disk that failed is no exception.
func TestSpoolPowerCut(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		root, err := os.MkdirTemp("", "spool") //nolint:usetesting // one for each check, and gone with it
		if err != nil {
			t.Fatalf("%v", err)
		}
		defer func() { _ = os.RemoveAll(root) }()
		dir := filepath.Join(root, "0")
		d := newTestDisk()
		s := openSpoolOn(t, d, dir, 1<<20) // segments of 64 KiB
		for round := range rapid.IntRange(1, 4).Draw(t, "rounds") {
			for range rapid.IntRange(0, 12).Draw(t, "steps") {
				if err := spoolStep(t, s); err != nil && !errors.Is(err, ErrClosed) {
					t.Fatalf("%v", err)
				}
			}
			after := filepath.Join(root, strconv.Itoa(round+1))
			if err := os.Mkdir(after, 0o700); err != nil {
				t.Fatalf("%v", err)
			}
			cutDuringStep(t, d, s, after)
			if now := spoolState(t, s); rapid.Bool().Draw(t, "restart") {
				if err := s.Close(); err != nil {
					t.Fatalf("%v", err)
				}
				d = newTestDisk()
				s = openSpoolOn(t, d, dir, 1<<20)
				if got := spoolState(t, s); got != now {
					t.Fatalf("after a restart\n%s\nnot\n%s", got, now)
				}
			}
		}
		if err := s.Close(); err != nil {
			t.Fatalf("%v", err)
		}
	})
}
