package blobstore

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// ownItem writes an item as the first release did: a file of its own.
func ownItem(tb testing.TB, s string, number uint64, created time.Time, records ...[]byte) string {
	tb.Helper()
	p := binary.LittleEndian.AppendUint64([]byte("CSPL\x01"), uint64(created.UnixMilli()))
	for _, r := range records {
		p = append(p, r...)
	}
	path := filepath.Join(s, spoolName(number)+spoolExt)
	must(tb, os.WriteFile(path, p, 0o600))
	return path
}

func ownRecordOf(kind byte, payload string) []byte {
	p := binary.LittleEndian.AppendUint32([]byte{kind}, uint32(len(payload)))
	sum := crc32.Checksum([]byte(string(kind)+payload), crc32.MakeTable(crc32.Castagnoli))
	return append(binary.LittleEndian.AppendUint32(p, sum), payload...)
}

func ownOp(off int64, data string) []byte {
	return ownRecordOf('O', string(AppendOps(nil, []Op{liveAppend(off, []byte(data))})))
}

// Goal: what the first release left in its files is read where it is, before
// what comes now, survives restarts, takes words, and goes when it is done with.
func TestSpoolOfFirstRelease(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	created := time.UnixMilli(1_700_000_000_123).UTC()
	bad := ownOp(4, "bbbb")
	bad[len(bad)-1] ^= 1
	ended := ownItem(t, dir, 1, created, ownRecordOf('M', "one"), ownOp(0, "aaaa"), ownOp(4, "bb"),
		ownRecordOf('M', "uno"), ownRecordOf('E', "end"))
	ownItem(t, dir, 2, created, ownRecordOf('M', "two"), ownOp(7, "x"), []byte{'O', 9, 0, 0, 0, 1, 2})
	ownItem(t, dir, 3, created, ownRecordOf('M', "three"), ownOp(0, "aaaa"), bad, ownOp(8, "cccc"))
	ownItem(t, dir, 4, created)
	s := openSpoolOn(t, osDisk{}, dir, 1<<20)
	want := map[string]string{
		"0000000000000001": `"uno" "end" true 0:aaaa 4:bb`,
		"0000000000000002": `"two" "" false 7:x`,
		"0000000000000003": `"three" "" false 0:aaaa damaged`,
	}
	same := func(when string) {
		t.Helper()
		got := spoolStates(t, s)
		for name := range got {
			if len(got) != len(want) || got[name] != want[name] {
				t.Fatalf("%s: %q, want %q", when, got, want)
			}
		}
	}
	same("at the first start")
	items := s.Items()
	if !items[0].Created().Equal(created) || items[0].Size() == 0 || s.Stats().Bytes == 0 {
		t.Errorf("created %v, %+v", items[0].Created(), s.Stats())
	}
	fresh := createAll(t, s, 1)[0]
	if last := s.Items()[3]; last != fresh {
		t.Errorf("%s comes before those that were there", last.Name())
	}
	must(t, items[1].SetMeta([]byte("dos")), items[1].Append(liveAppend(8, []byte("y"))))
	must(t, fresh.Remove())
	want["0000000000000002"] = `"dos" "" false 7:x 8:y`
	same("with new words")
	must(t, s.Close())
	s = openSpoolOn(t, osDisk{}, dir, 1<<20)
	same("after a restart")
	if start, end := s.Items()[1].Extent(); start != 7 || end != 9 {
		t.Errorf("extent %d to %d", start, end)
	}
	items = s.Items()
	must(t, items[0].Remove(), items[1].Remove(), items[2].Quarantine("damaged"))
	if _, err := os.Stat(ended); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("its file is there still: %v", err)
	}
	raw, err := os.ReadFile(s.asidePath(3, spoolExt))
	if err != nil || string(raw[len(raw)-4:]) != "cccc" || s.Stats().Quarantined != 1 {
		t.Errorf("put aside %q, %v, %+v", raw, err, s.Stats())
	}
	must(t, s.Close())
	s = openSpoolOn(t, osDisk{}, dir, 1<<20)
	if st := s.Stats(); st.Items != 0 || st.Bytes != 0 || st.DiskBytes != 0 {
		t.Errorf("left: %+v", st)
	}
	must(t, s.Close())
}

// Goal: a log of a later release is refused and left as it is, and so is this
// one's by the release before, which reads the version where it is.
func TestSpoolFormat(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := openSpoolOn(t, osDisk{}, dir, 1<<20)
	createAll(t, s, 1)
	must(t, s.Close())
	file := spoolFiles(t, dir)[0]
	p, err := os.ReadFile(file)
	must(t, err)
	if string(p[:5]) != "CSPL\x02" {
		t.Errorf("the log begins with %q", p[:5])
	}
	later := append([]byte("CSPL\x03"), p[5:]...)
	must(t, os.WriteFile(file, later, 0o600))
	if _, err := OpenSpool(SpoolConfig{Dir: dir}, quiet()); !errors.Is(err, ErrFormat) {
		t.Errorf("a later log: %v", err)
	}
	must(t, os.WriteFile(file, p, 0o600),
		os.WriteFile(filepath.Join(dir, formatFile), []byte("carillon spool 3\n"), 0o600))
	if _, err := OpenSpool(SpoolConfig{Dir: dir}, quiet()); !errors.Is(err, ErrFormat) {
		t.Errorf("a later directory: %v", err)
	}
}

// logBytes is a segment of the log, written by hand: each frame is its records.
func logBytes(frames ...[]byte) []byte {
	le := binary.LittleEndian
	sum := func(p []byte) uint32 { return crc32.Checksum(p, crc32.MakeTable(crc32.Castagnoli)) }
	p := []byte("CSPL\x02marker!!")
	p = le.AppendUint32(p, sum(p))
	for k, records := range frames {
		head := le.AppendUint64([]byte("marker!!"), uint64(k+1))
		head = le.AppendUint32(head, uint32(len(records)))
		p = append(p, le.AppendUint32(head, sum(head))...)
		p = append(p, records...)
	}
	return p
}

func logRecord(kind byte, item uint64, number uint32, payload string) []byte {
	le := binary.LittleEndian
	sum := func(p []byte) uint32 { return crc32.Checksum(p, crc32.MakeTable(crc32.Castagnoli)) }
	p := le.AppendUint64([]byte{kind}, item)
	p = le.AppendUint32(p, number)
	p = le.AppendUint32(p, uint32(len(payload)))
	p = le.AppendUint32(p, sum([]byte(string(kind)+payload)))
	return append(le.AppendUint32(p, sum(p)), payload...)
}

// Goal: a log of this release is read by all later ones.
func TestSpoolLogForm(t *testing.T) {
	t.Parallel()
	const item = 0x6500000000001
	dir := t.TempDir()
	created := string(binary.LittleEndian.AppendUint64(nil, 1_700_000_000_123))
	p := logBytes(
		slices.Concat(logRecord('N', item, 0, created+"words"), logRecord('N', item+1, 0, created+"more"),
			logRecord('O', item, 1, string(AppendOps(nil, []Op{liveAppend(5, []byte("bytes"))})))),
		slices.Concat(logRecord('M', item, 2, "others"), logRecord('E', item, 3, "end"),
			logRecord('G', item+1, 1, "")),
	)
	must(t, os.WriteFile(filepath.Join(dir, spoolName(item-1)+spoolExt), p, 0o600))
	s := openSpoolOn(t, osDisk{}, dir, 1<<20)
	got := spoolStates(t, s)
	if want := `"others" "end" true 5:bytes`; len(got) != 1 || got[spoolName(item)] != want {
		t.Errorf("%q, want %q", got, want)
	}
	if i := s.Items()[0]; i.Created().UnixMilli() != 1_700_000_000_123 {
		t.Errorf("created %v", i.Created())
	}
	must(t, s.Close())
}

// Whatever lies in a log, however its checksums are, stops no start, and what is
// read of it can be replayed and put aside.
func FuzzSpoolLog(f *testing.F) {
	f.Add(slices.Concat(logRecord('N', 1, 0, "12345678words"), logRecord('O', 1, 1, "")), []byte{}, false)
	f.Add(logRecord('N', 1, 0, "1234567"), logRecord('G', 1, 1, ""), true)
	op := string(AppendOps(nil, []Op{liveAppend(1, nil)}))
	f.Add(logRecord('E', 7, 3, "end"), logRecord('O', 7, 3, op), false)
	f.Fuzz(func(t *testing.T, first, second []byte, torn bool) {
		dir := t.TempDir()
		p := logBytes(first, second)
		if torn {
			p = append(logBytes(first), second...)
		}
		must(t, os.WriteFile(filepath.Join(dir, "0000000000000009.spool"), p, 0o600),
			os.WriteFile(filepath.Join(dir, formatFile), []byte("carillon spool 2"), 0o600)) // not synced
		s := openSpoolOn(t, newTestDisk(), dir, 0)
		for _, i := range s.Items() {
			must(t, i.Replay(func(Op) error { return nil }))
			_, _ = i.ReadAt(make([]byte, 10), 0)
			must(t, i.writeOwn(io.Discard))
		}
		must(t, s.closeFiles())
	})
}
