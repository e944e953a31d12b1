package blobstore

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// spoolFiles are the files of the log, oldest first.
func spoolFiles(tb testing.TB, dir string) []string {
	tb.Helper()
	all, err := filepath.Glob(filepath.Join(dir, "*"+spoolExt))
	if err != nil {
		tb.Fatal(err)
	}
	return all
}

func must(tb testing.TB, errs ...error) {
	tb.Helper()
	if err := errors.Join(errs...); err != nil {
		tb.Fatal(err)
	}
}

func liveAppend(off int64, p []byte) Op {
	return Op{Kind: OpAppend, ID: numberedID(1), Offset: off, Data: p}
}

// createAll makes n items in one batch.
func createAll(tb testing.TB, s *Spool, n int) []*SpoolItem {
	tb.Helper()
	b := s.Batch()
	items := make([]*SpoolItem, n)
	for k := range items {
		var err error
		if items[k], err = b.Create([]byte("words")); err != nil {
			tb.Fatal(err)
		}
	}
	must(tb, b.Commit())
	return items
}

// Goal: what a thousand items get at one moment costs one write and one fsync,
// as does that they are all gone.
func TestSpoolBatch(t *testing.T) {
	t.Parallel()
	d, dir := newTestDisk(), t.TempDir()
	s := openSpoolOn(t, d, dir, 64<<20)
	createAll(t, s, 1) // and the segment
	writes, syncs := d.counts()
	once := func(what string) {
		t.Helper()
		w, y := d.counts()
		if w-writes != 1 || y-syncs != 1 {
			t.Errorf("%s: %d writes and %d syncs, want one of each", what, w-writes, y-syncs)
		}
		writes, syncs = w, y
	}
	items := createAll(t, s, 1000)
	once("create")
	b := s.Batch()
	for _, i := range items {
		must(t, b.Append(i, liveAppend(0, make([]byte, 1000))))
	}
	must(t, b.Commit())
	once("append")
	if got := s.Stats(); got.Items != 1001 || got.Bytes < 1000*1000 || got.DiskBytes < got.Bytes {
		t.Errorf("stats %+v", got)
	}
	for _, i := range items {
		b.Remove(i)
	}
	must(t, b.Commit())
	once("remove")
	if got := s.Stats(); got.Items != 1 || got.Syncs != uint64(syncs) {
		t.Errorf("stats %+v, the disk counts %d syncs", got, syncs)
	}
	must(t, s.Close())
}

// Goal: who comes while the disk is busy goes with the next write, all together.
func TestSpoolGroupCommit(t *testing.T) {
	t.Parallel()
	d := newTestDisk()
	s := openSpoolOn(t, d, t.TempDir(), 64<<20)
	items := createAll(t, s, 101)
	busy, free := make(chan struct{}), make(chan struct{})
	var once sync.Once
	d.set(func() {
		d.onSync = func() error {
			once.Do(func() { close(busy); <-free })
			return nil
		}
	})
	_, before := d.counts()
	var all sync.WaitGroup
	for k, i := range items {
		all.Go(func() {
			if err := i.Append(liveAppend(0, []byte("x"))); err != nil {
				t.Error(err)
			}
		})
		if k == 0 {
			<-busy
		}
	}
	for waits := 0; waits < len(items)-1; {
		s.mu.Lock()
		waits = len(s.queue)
		s.mu.Unlock()
	}
	close(free)
	all.Wait()
	if _, after := d.counts(); after-before != 2 {
		t.Errorf("%d syncs for %d that came at once, want 2", after-before, len(items))
	}
	must(t, s.Close())
}

// Goal: the log gives space back: whole segments when all in them is done with,
// and others when an old item keeps much that is dead. Restarts change nothing.
func TestSpoolSegments(t *testing.T) {
	t.Parallel()
	const bytesMax = 1 << 20
	dir := t.TempDir()
	s := openSpoolOn(t, newTestDisk(), dir, bytesMax)
	old := createAll(t, s, 1)[0]
	must(t, old.Append(liveAppend(0, []byte("an old item"))))
	for k := range 200 { // of 30 KB each
		i, err := s.Create(nil)
		if err != nil {
			t.Fatal(err)
		}
		must(t, i.Append(liveAppend(0, make([]byte, 30_000))), i.Remove())
		if st := s.Stats(); st.DiskBytes > bytesMax/collectShare+2*segmentBytesMin+st.Bytes {
			t.Fatalf("after %d: %+v", k, st)
		}
		if k%50 == 20 {
			want := spoolState(t, s)
			must(t, s.Close())
			s = openSpoolOn(t, newTestDisk(), dir, bytesMax)
			if got := spoolState(t, s); got != want {
				t.Fatalf("after a restart %s, not %s", got, want)
			}
		}
	}
	old = s.Items()[0]
	p := make([]byte, 100)
	if n, err := old.ReadAt(p, 3); err != nil || string(p[:n]) != "old item" {
		t.Errorf("%q, %v", p[:n], err)
	}
	must(t, old.Append(liveAppend(11, []byte("!"))), old.Remove())
	if n := len(spoolFiles(t, dir)); n > 1 {
		t.Errorf("%d files for nothing", n)
	}
	must(t, s.Close())
	if files := spoolFiles(t, dir); len(files) != 0 {
		t.Errorf("left: %v", files)
	}
	s = openSpoolOn(t, newTestDisk(), dir, bytesMax)
	if i := createAll(t, s, 1)[0]; i.Name() <= old.Name() {
		t.Errorf("%s came after %s", i.Name(), old.Name())
	}
	must(t, s.Close())
}

// Goal: a crash between the collection of a segment and its end leaves records
// twice, which count once.
func TestSpoolCollectedTwice(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := openSpoolOn(t, newTestDisk(), dir, 1<<20)
	for range 3 {
		i := createAll(t, s, 1)[0]
		must(t, i.Append(liveAppend(0, make([]byte, 70_000)), liveAppend(70_000, []byte("x"))))
	}
	want := spoolState(t, s)
	before := s.Stats()
	s.writing.Lock()
	err := s.moveFrom(s.segments[0])
	s.writing.Unlock()
	must(t, err, s.Close())
	s = openSpoolOn(t, newTestDisk(), dir, 1<<20)
	if got := spoolState(t, s); got != want || s.Stats().Bytes != before.Bytes {
		t.Errorf("%s\nnot\n%s; %+v, not %+v", got, want, s.Stats(), before)
	}
	must(t, s.Close())
}

// Goal: a disk that takes nothing refuses, and changes nothing; what is done
// with goes all the same, so that a full disk gets room, and does not come back.
func TestSpoolDiskFull(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d := newTestDisk()
	s := openSpoolOn(t, d, dir, 1<<20)
	first := createAll(t, s, 1)[0]
	must(t, first.Append(liveAppend(0, make([]byte, segmentBytesMin-500))))
	d.set(func() { d.full = true })
	before, stats := spoolState(t, s), s.Stats()
	if err := first.Append(liveAppend(65_036, make([]byte, 5000))); !errors.Is(err, ErrNoSpace) {
		t.Errorf("append to a full disk: %v", err)
	}
	if _, err := s.Create([]byte("second")); !errors.Is(err, ErrNoSpace) {
		t.Errorf("create on a full disk: %v", err)
	}
	if after := s.Stats(); spoolState(t, s) != before || after.Bytes != stats.Bytes {
		t.Errorf("%s\nbecame\n%s; %+v, %+v", before, spoolState(t, s), stats, after)
	}
	d.set(func() { d.full = false })
	// What is left of the refused is not taken for damage when others follow.
	second := createAll(t, s, 1)[0]
	must(t, first.Append(liveAppend(65_036, []byte("x"))), second.Append(liveAppend(0, make([]byte, 1000))))
	want := spoolState(t, s)
	must(t, s.Close())
	d = newTestDisk()
	s = openSpoolOn(t, d, dir, 1<<20)
	if got := spoolState(t, s); got != want || s.Stats().Quarantined != 0 {
		t.Errorf("%s\nnot\n%s; %+v", got, want, s.Stats())
	}
	third := createAll(t, s, 1)[0]
	first, second = s.Items()[0], s.Items()[1]
	d.set(func() { d.full = true })
	if err := first.Remove(); !errors.Is(err, ErrNoSpace) {
		t.Errorf("remove on a full disk: %v", err)
	}
	if items := s.Items(); len(items) != 2 || items[0].Name() != second.Name() {
		t.Errorf("the item waits still: %v", items)
	}
	d.set(func() { d.full = false })
	must(t, third.Append(liveAppend(0, []byte("x"))), s.Close())
	s = openSpoolOn(t, newTestDisk(), dir, 1<<20)
	if items := s.Items(); len(items) != 2 || items[0].Name() != second.Name() {
		t.Errorf("the item is back: %v", items)
	}
	must(t, s.Close())
}

// Goal: the bounds hold for what is being made, too, and a refused change takes
// no room.
func TestSpoolBounds(t *testing.T) {
	t.Parallel()
	s, err := OpenSpool(SpoolConfig{Dir: t.TempDir(), BytesMax: 1000, ItemsMax: 2}, quiet())
	if err != nil {
		t.Fatal(err)
	}
	b := s.Batch()
	first, err := b.Create(nil)
	must(t, err)
	_, err = b.Create(nil)
	must(t, err)
	if _, err := b.Create(nil); !errors.Is(err, ErrNoSpace) {
		t.Errorf("a third item: %v", err)
	}
	if err := b.Append(first, liveAppend(0, make([]byte, 900))); !errors.Is(err, ErrNoSpace) {
		t.Errorf("over the bytes: %v", err)
	}
	must(t, b.Append(first, liveAppend(0, make([]byte, 300))), b.Commit())
	if p := bytes.Repeat([]byte("x"), spoolMetaBytesMax+1); !errors.Is(first.SetMeta(p), ErrTooLarge) {
		t.Error("words without bound were taken")
	}
	for _, i := range s.Items() {
		must(t, i.Remove())
	}
	if st := s.Stats(); st.Bytes != 0 || st.Items != 0 || s.making != 0 {
		t.Errorf("%+v, %d being made", st, s.making)
	}
	must(t, s.Close(), s.Close())
	if err := first.Append(liveAppend(0, nil)); !errors.Is(err, ErrClosed) {
		t.Errorf("append after Close: %v", err)
	}
}

// Goal: no flipped bit goes by unseen: an item has all that it was given, or
// says that it has not, or lies in quarantine with the part of the log that
// nobody can read any more; and no other start is refused.
func TestSpoolEveryBit(t *testing.T) {
	t.Parallel()
	made := t.TempDir()
	s := openSpoolOn(t, osDisk{}, made, 1<<20)
	items := createAll(t, s, 2)
	for k, i := range items {
		must(t, i.Append(liveAppend(0, []byte{'a' + byte(k)})))
	}
	must(t, items[0].Finish([]byte("end")), items[1].SetMeta([]byte("M")))
	want := spoolStates(t, s)
	must(t, s.Close())
	file := spoolFiles(t, made)[0]
	whole, err := os.ReadFile(file)
	must(t, err)
	for at := range whole {
		dir := t.TempDir()
		bad := bytes.Clone(whole)
		bad[at] ^= 1 << (at % 8)
		must(t, os.WriteFile(filepath.Join(dir, filepath.Base(file)), bad, 0o600),
			os.WriteFile(filepath.Join(dir, formatFile), []byte("carillon spool 2"), 0o600)) // not synced
		s, err := OpenSpool(SpoolConfig{Dir: dir}, quiet())
		if err != nil {
			if at >= len(spoolMagic)+1 || !errors.Is(err, ErrFormat) {
				t.Fatalf("byte %d: %v", at, err)
			}
			continue
		}
		aside := s.Stats().Quarantined > 0
		got := spoolStates(t, s)
		for name, state := range want {
			if got[name] != state && (got[name] != "" || !aside) && !strings.HasSuffix(got[name], "damaged") {
				t.Fatalf("byte %d of %d: item %s is %q, not %q", at, len(whole), name, got[name], state)
			}
		}
		must(t, s.closeFiles())
	}
}

// Goal: what a disk cannot read any more at the end of the log is not taken for what a crash
// cut: who waits there is damaged, or in quarantine.
func TestSpoolWorn(t *testing.T) {
	t.Parallel()
	for _, worn := range []int64{1, 1 << 20} {
		d, dir := newTestDisk(), t.TempDir()
		s := openSpoolOn(t, d, dir, 1<<20)
		items := createAll(t, s, 1)
		must(t, items[0].Append(liveAppend(0, []byte("aaaa"))), items[0].Append(liveAppend(4, []byte("bbbb"))))
		must(t, s.closeFiles()) // the process has ended
		d.worn = worn
		s = openSpoolOn(t, d, dir, 1<<20)
		d.worn = 0
		switch items := s.Items(); {
		case worn > 1 && s.Stats().Quarantined == 0:
			t.Errorf("%d bytes lost: no copy of them lies in quarantine", worn)
		case worn == 1 && (len(items) != 1 || !items[0].Damaged()): // it can be told whose that was
			t.Errorf("%d bytes lost: %v", worn, spoolStates(t, s))
		}
		more := createAll(t, s, 1) // and it goes on
		must(t, more[0].Append(liveAppend(0, []byte("cccc"))), s.Close())
		s = openSpoolOn(t, d, dir, 1<<20)
		if got := spoolStates(t, s)[more[0].Name()]; !strings.HasSuffix(got, "0:cccc") {
			t.Errorf("what came after is %q", got)
		}
		must(t, s.Close())
	}
}

// spoolStates describes the items by name.
func spoolStates(tb testing.TB, s *Spool) map[string]string {
	tb.Helper()
	all := map[string]string{}
	for _, i := range s.Items() {
		var b strings.Builder
		end, ended := i.End()
		fmt.Fprintf(&b, "%q %q %v", i.Meta(), end, ended)
		must(tb, i.Replay(func(op Op) error {
			fmt.Fprintf(&b, " %d:%s", op.Offset, op.Data)
			return nil
		}))
		if i.Damaged() {
			b.WriteString(" damaged")
		}
		all[i.Name()] = b.String()
	}
	return all
}

// Goal: a damaged item is put aside with all that can be read of it, in a form
// that can be moved back; what waits beside it is not touched.
func TestSpoolPutAside(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := openSpoolOn(t, osDisk{}, dir, 1<<20)
	items := createAll(t, s, 2)
	for _, i := range items {
		must(t, i.Append(liveAppend(0, []byte("aaaa"))), i.Append(liveAppend(4, []byte("bbbb"))),
			i.Append(liveAppend(8, []byte("cccc"))))
	}
	must(t, items[1].SetMeta([]byte("second")))
	want := spoolStates(t, s)[items[1].Name()]
	must(t, s.Close())
	file := spoolFiles(t, dir)[0]
	p, err := os.ReadFile(file)
	must(t, err)
	p[bytes.Index(p, []byte("bbbb"))] ^= 1
	must(t, os.WriteFile(file, p, 0o600))
	s = openSpoolOn(t, osDisk{}, dir, 1<<20)
	items = s.Items()
	if len(items) != 2 || !items[0].Damaged() || items[1].Damaged() {
		t.Fatalf("%v", spoolStates(t, s))
	}
	must(t, items[0].Quarantine("damaged"), items[1].Quarantine("as a test"))
	for _, i := range items {
		raw, err := os.ReadFile(s.asidePath(i.seq, spoolExt))
		if err != nil || !bytes.Contains(raw, []byte("aaaa")) || !bytes.Contains(raw, []byte("cccc")) {
			t.Errorf("put aside: %q, %v", raw, err)
		}
		must(t, os.Rename(s.asidePath(i.seq, spoolExt), s.path(i.seq)))
	}
	if st := s.Stats(); st.Items != 0 || st.Quarantined != 2 {
		t.Errorf("%+v", st)
	}
	must(t, s.Close())
	s = openSpoolOn(t, osDisk{}, dir, 1<<20)
	items = s.Items()
	if len(items) != 2 || !items[0].Damaged() || spoolStates(t, s)[items[1].Name()] != want {
		t.Errorf("moved back: %v, want %s", spoolStates(t, s), want)
	}
	must(t, s.Close())
}
