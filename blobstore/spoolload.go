package blobstore

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"os"
	"slices"
	"time"
)

// spoolLoad reads what a former life of the node left.
type spoolLoad struct {
	s      *Spool
	serial uint64
	items  map[uint64]*loadedItem
	// lost: items before this number may have had records that cannot be told any
	// more whose they were; 0: none had.
	lost uint64
}

type loadedItem struct {
	*SpoolItem

	all  []loadedRecord
	torn bool // its own file is damaged behind its records
}

type loadedRecord struct {
	spoolRecord

	words []byte // the payload, if it is no operation
}

// load finds what waits. The last frame may be torn: it was written at once, and
// nobody was told that any of it is kept. A frame before it that cannot be read
// is damage, since each was synced before the next.
func (s *Spool) load() error {
	l := &spoolLoad{s: s, items: make(map[uint64]*loadedItem)}
	numbers, err := spoolNumbers(s.cfg.Dir)
	if err != nil {
		return err
	}
	for _, n := range numbers {
		s.next = max(s.next, n+1)
		if err := l.open(n); err != nil {
			return err
		}
	}
	for k, seg := range slices.Clone(s.segments) {
		after := uint64(math.MaxUint64)
		if k+1 < len(s.segments) {
			after = s.segments[k+1].number
		}
		if err := l.segment(seg, after); err != nil {
			return err
		}
	}
	for _, seg := range slices.Clone(s.own) {
		if err := l.ownFile(seg); err != nil {
			return err
		}
	}
	for n, i := range l.items {
		s.next = max(s.next, n+1)
		i.finish(l.lost)
		s.items[n] = i.SpoolItem
		s.bytes += i.size
	}
	s.serial = l.serial
	s.dropDead()
	return nil
}

// open opens a file and sees whether it is of the log or an item of its own.
// One that a crash left without content goes.
func (l *spoolLoad) open(number uint64) error {
	s := l.s
	gone, err := s.cfg.disk.salvage(s.path(number))
	if err != nil {
		return fmt.Errorf("open spool: %w", err)
	}
	f, err := s.cfg.disk.open(s.path(number), os.O_RDWR)
	if err != nil {
		return fmt.Errorf("open spool: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		return errors.Join(fmt.Errorf("open spool: %w", err), f.Close())
	}
	seg := &segment{number: number, f: f, size: info.Size(), worn: gone > 0}
	head := make([]byte, segmentHeadBytes)
	if seg.size < int64(ownHeadBytes+ownRecordHead) {
		s.log.Warn("file of the spool without content dropped", "file", spoolName(number))
		return errors.Join(f.Close(), s.cfg.disk.remove(s.path(number)))
	}
	if _, err := f.ReadAt(head, 0); err != nil {
		return errors.Join(fmt.Errorf("open spool: %w", err), f.Close())
	}
	version := head[len(spoolMagic)]
	switch {
	case seg.worn && string(head[:len(spoolMagic)]) != spoolMagic:
		l.lost = math.MaxUint64
		return errors.Join(f.Close(), s.putFileAside(number, "its head cannot be read"))
	case string(head[:len(spoolMagic)]) != spoolMagic, version != ownVersion && version != segmentVersion:
		err := fmt.Errorf("spool file %s begins with %q: %w", spoolName(number), head[:5], ErrFormat)
		return errors.Join(err, f.Close())
	case version == ownVersion:
		s.own = append(s.own, seg)
		return nil
	}
	sum := binary.LittleEndian.Uint32(head[segmentHeadBytes-4:])
	if crc32.Checksum(head[:segmentHeadBytes-4], castagnoli()) != sum {
		l.lost = math.MaxUint64
		return errors.Join(f.Close(), s.putFileAside(number, "its head cannot be read"))
	}
	copy(seg.marker[:], head[len(spoolMagic)+1:])
	s.segments = append(s.segments, seg)
	return nil
}

// segment reads one file of the log; after is the number of the next.
func (l *spoolLoad) segment(seg *segment, after uint64) error {
	data := make([]byte, seg.size)
	if _, err := seg.f.ReadAt(data, 0); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("open spool: %w", err)
	}
	lost := false
	for at := segmentHeadBytes; at < len(data); {
		serial, body, ok := l.frameHead(seg, data, at)
		if ok && l.records(seg, data, at+frameHeadBytes, body, false) {
			l.records(seg, data, at+frameHeadBytes, body, true)
			l.serial = serial
			at += frameHeadBytes + body
			continue
		}
		next := l.nextFrame(seg, data, at+1)
		if next < 0 && after == math.MaxUint64 && !seg.worn {
			l.s.log.Warn("end of the spool dropped, a crash cut it", "file", spoolName(seg.number),
				"bytes", len(data)-at)
			return l.cut(seg, int64(at))
		}
		if !ok || !l.records(seg, data, at+frameHeadBytes, body, true) {
			lost = true
		}
		if at = next; next < 0 {
			break
		}
	}
	if !lost {
		return nil
	}
	l.lost = max(l.lost, after)
	return l.s.copyFileAside(seg, "a part cannot be read, and not be told whose it was")
}

// cut drops the torn end of the last segment.
func (l *spoolLoad) cut(seg *segment, size int64) error {
	if err := errors.Join(seg.f.Truncate(size), l.s.sync(seg.f)); err != nil {
		return fmt.Errorf("open spool: %w", err)
	}
	seg.size = size
	return nil
}

// frameHead reads the head of a frame: its serial and the bytes of its records.
func (l *spoolLoad) frameHead(seg *segment, data []byte, at int) (serial uint64, body int, ok bool) {
	if len(data)-at < frameHeadBytes {
		return 0, 0, false
	}
	head, le := data[at:at+frameHeadBytes], binary.LittleEndian
	serial, body = le.Uint64(head[markerBytes:]), int(le.Uint32(head[markerBytes+8:]))
	ok = bytes.Equal(head[:markerBytes], seg.marker[:]) && serial > l.serial &&
		crc32.Checksum(head[:markerBytes+12], castagnoli()) == le.Uint32(head[markerBytes+12:])
	return serial, body, ok
}

// nextFrame finds the head of a frame from at on, -1 for none.
func (l *spoolLoad) nextFrame(seg *segment, data []byte, at int) int {
	for at < len(data) {
		k := bytes.Index(data[at:], seg.marker[:])
		if k < 0 {
			break
		}
		at += k
		if _, _, ok := l.frameHead(seg, data, at); ok {
			return at
		}
		at++
	}
	return -1
}

// records reads the records of a frame, and with take counts them. It says
// whether all are good or, with take, whether it is known whose all of them are.
func (l *spoolLoad) records(seg *segment, data []byte, at, body int, take bool) bool {
	end := min(at+body, len(data))
	cut := end < at+body
	for at < end {
		if end-at < recordHeadBytes {
			return false
		}
		head, le := data[at:at+recordHeadBytes], binary.LittleEndian
		if crc32.Checksum(head[:recordHeadBytes-4], castagnoli()) != le.Uint32(head[recordHeadBytes-4:]) {
			return false
		}
		r := loadedRecord{spoolRecord: spoolRecord{
			seg: seg, at: int64(at + recordHeadBytes), kind: head[0], number: le.Uint32(head[9:]),
			n: le.Uint32(head[13:]), sum: le.Uint32(head[17:]),
		}}
		if int64(end) < r.at+int64(r.n) {
			return false
		}
		payload := data[r.at : r.at+int64(r.n)]
		r.check(payload)
		if r.bad && !take {
			return false
		}
		if take {
			l.take(le.Uint64(head[1:]), r, payload)
		}
		at = int(r.at) + int(r.n)
	}
	return !cut
}

// check looks at a payload, and keeps what is needed of it.
func (r *loadedRecord) check(payload []byte) {
	r.bad = recordSum(r.kind, payload) != r.sum
	switch r.kind {
	case recordOp:
		op, n, err := decodeOp(payload)
		r.bad = r.bad || err != nil || n != len(payload)
		r.off, r.data = op.Offset, uint32(len(op.Data))
	case recordNew:
		r.bad = r.bad || len(payload) < createdBytes
		r.words = payload
	case recordMeta, recordEnd, recordGone:
		r.words = payload
	default: // a kind of a later release comes with a later format
		r.bad = true
	}
}

func (l *spoolLoad) take(item uint64, r loadedRecord, payload []byte) {
	if r.kind == recordGone && !r.bad {
		delete(l.items, item)
		return
	}
	r.words = bytes.Clone(r.words) // the segment's memory goes
	i := l.items[item]
	if i == nil {
		i = l.s.loadedItem(item)
		l.items[item] = i
	}
	if r.kind == recordNew && !r.bad {
		i.created = fromMillis(int64(binary.LittleEndian.Uint64(payload)))
	}
	i.all = append(i.all, r)
}

func (s *Spool) loadedItem(number uint64) *loadedItem {
	return &loadedItem{SpoolItem: &SpoolItem{
		s: s, seq: number, created: time.Now().UTC().Truncate(time.Millisecond), // unless it is known
	}}
}

// finish puts the records of an item in order: those that were collected come
// late, and twice if a crash followed. lost: see spoolLoad.
func (i *loadedItem) finish(lost uint64) {
	slices.SortStableFunc(i.all, func(a, b loadedRecord) int {
		switch {
		case a.number != b.number:
			return cmp.Compare(a.number, b.number)
		case a.bad == b.bad:
			return 0
		case a.bad:
			return 1
		}
		return -1
	})
	i.all = slices.CompactFunc(i.all, func(a, b loadedRecord) bool { return a.number == b.number })
	for k := range i.all {
		r := &i.all[k]
		if r.seg != i.own {
			r.seg.live += r.bytes()
		}
		i.next = r.number + 1
		if i.damaged = i.damaged || r.bad || r.number != uint32(k); i.damaged {
			i.rest = append(i.rest, r.spoolRecord)
			i.size += r.bytes()
			continue
		}
		i.add(r.spoolRecord, r.words)
	}
	// Whether the last records of an item are there only its end can say.
	i.damaged = i.damaged || i.torn || i.seq < lost && !i.ended && i.own == nil
	i.all = nil
}
