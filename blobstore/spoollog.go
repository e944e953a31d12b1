package blobstore

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
)

// The form of the log. A segment begins with magic, version, its marker, which
// is random, and a CRC. Frames follow, one for each write: marker, serial, the
// length of its records, and a CRC of these three; then records, each a kind,
// the number of its item, its number in the item, its length, the CRC-32C of
// kind and payload, one of all these, and the payload. Numbers are little endian.
//
// The marker is what a frame is found by behind a damaged one: nobody who sends
// us bytes can know it.
const (
	spoolMagic     = "CSPL"
	segmentVersion = 2
	// SpoolFormat is that of the directory: 1 was a file for each item, 2 is a log.
	SpoolFormat = 2

	markerBytes      = 8
	segmentHeadBytes = len(spoolMagic) + 1 + markerBytes + 4
	frameHeadBytes   = markerBytes + 8 + 4 + 4
	recordHeadBytes  = 1 + 8 + 4 + 4 + 4 + 4

	recordNew  = 'N' // an item begins: when, in ms (u64), and the owner's words
	recordMeta = 'M' // the owner's words; the last one counts
	recordOp   = 'O' // one operation, as AppendOps writes it
	recordEnd  = 'E' // the item is whole; the owner's words about that
	recordGone = 'G' // the item is no more

	// spoolMetaBytesMax bounds the owner's words.
	spoolMetaBytesMax = RowBytesMax + 16<<10
)

// Sizes of the log.
const (
	// segmentBytesMax is the unit in which the log gives space back: small
	// beside the spool, and large enough that its two fsyncs more do not count.
	segmentBytesMax = 16 << 20
	segmentBytesMin = 64 << 10
	segmentShare    = 16 // of the spool, for small ones
	// frameBytesMax bounds one write, and the memory for it: a second of a
	// thousand recordings at 32 kbit/s.
	frameBytesMax = 4 << 20
	// collectShare of BytesMax may be dead records before the oldest segment is
	// written anew. Usually it goes as a whole, and nothing is.
	collectShare = 4
)

// spoolDisk is what a Spool needs of a file system.
type spoolDisk interface {
	open(path string, flag int) (spoolFile, error)
	remove(path string) error
	syncDir(dir string) error
	// salvage makes a file readable, without what cannot be read any more, and says
	// how much that is.
	salvage(path string) (lost int64, err error)
}

type spoolFile interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Stat() (fs.FileInfo, error)
	Truncate(size int64) error
	Sync() error
}

type osDisk struct{}

func (osDisk) open(path string, flag int) (spoolFile, error) {
	f, err := os.OpenFile(path, flag, 0o600) //nolint:gosec // below our own directory
	if err != nil {
		return nil, err // not a nil *os.File
	}
	return f, nil
}

func (osDisk) remove(path string) error { return os.Remove(path) }

func (osDisk) syncDir(dir string) error { return syncPath(dir) }

func (osDisk) salvage(path string) (int64, error) { return salvage(path) }

// segment is one file: of the log, or an item of the release before.
type segment struct {
	number uint64
	f      spoolFile
	marker [markerBytes]byte
	size   int64 // written and synced; changes as Spool.segments does
	worn   bool  // a part could not be read when it was loaded
	live   int64 // bytes that items have in it; changes likewise
}

// spoolRecord is where a record of an item lies.
type spoolRecord struct {
	seg    *segment
	at     int64 // of the payload in the file
	off    int64 // of an operation's data in the blob
	n      uint32
	data   uint32 // bytes of the operation's data
	sum    uint32
	number uint32 // in the item
	kind   byte
	bad    bool // cannot be read
}

// bytes is what the record counts for.
func (r *spoolRecord) bytes() int64 { return recordHeadBytes + int64(r.n) }

func recordSum(kind byte, payload []byte) uint32 {
	return crc32.Update(crc32.Checksum([]byte{kind}, castagnoli()), castagnoli(), payload)
}

// read returns the payload, checked. ErrCorrupt: the disk has lost it.
func (r *spoolRecord) read() ([]byte, error) {
	p := make([]byte, r.n)
	if _, err := r.seg.f.ReadAt(p, r.at); err != nil {
		return nil, fmt.Errorf("spool: record at %d: %w: %w", r.at, ErrCorrupt, err)
	}
	if recordSum(r.kind, p) != r.sum {
		return nil, fmt.Errorf("spool: record at %d: checksum: %w", r.at, ErrCorrupt)
	}
	return p, nil
}

// appendRecord adds a record to a frame and returns where its payload lies in it.
func appendRecord(dst []byte, item uint64, r *spoolRecord, payload []byte) (frame []byte, at int64) {
	le, start := binary.LittleEndian, len(dst)
	dst = append(dst, r.kind)
	dst = le.AppendUint64(dst, item)
	dst = le.AppendUint32(dst, r.number)
	dst = le.AppendUint32(dst, uint32(len(payload)))
	dst = le.AppendUint32(dst, r.sum)
	dst = le.AppendUint32(dst, crc32.Checksum(dst[start:], castagnoli()))
	return append(dst, payload...), int64(len(dst))
}

// newFrame leaves room for the head, which writeFrame fills in.
func (s *Spool) newFrame() []byte { return make([]byte, frameHeadBytes) }

// writeFrame writes a frame at the end of the log and syncs it. It returns where
// it lies. ErrNoSpace: the disk did not take it, and nothing has changed. The
// lock writing is held.
func (s *Spool) writeFrame(frame []byte) (*segment, int64, error) {
	err := s.makeRoom()
	if err != nil {
		return nil, 0, fmt.Errorf("spool: %w: %w", ErrNoSpace, err)
	}
	seg, le := s.active, binary.LittleEndian
	s.serial++
	copy(frame, seg.marker[:])
	le.PutUint64(frame[markerBytes:], s.serial)
	le.PutUint32(frame[markerBytes+8:], uint32(len(frame)-frameHeadBytes))
	le.PutUint32(frame[markerBytes+12:], crc32.Checksum(frame[:markerBytes+12], castagnoli()))
	at := seg.size
	if _, err = seg.f.WriteAt(frame, at); err == nil {
		err = s.sync(seg.f)
	}
	if err != nil {
		s.unclean = true
		return nil, 0, fmt.Errorf("spool: %w: %w", ErrNoSpace, err)
	}
	s.mu.Lock()
	seg.size += int64(len(frame))
	s.mu.Unlock()
	return seg, at, nil
}

func (s *Spool) sync(f spoolFile) error {
	s.syncs.Add(1)
	return f.Sync()
}

func (s *Spool) syncDir() error {
	s.syncs.Add(1)
	return s.cfg.disk.syncDir(s.cfg.Dir)
}

// makeRoom sees to it that there is a segment to write to, and that it ends
// where the last frame does.
func (s *Spool) makeRoom() error {
	if s.active != nil && s.unclean {
		if err := s.active.f.Truncate(s.active.size); err != nil {
			return err
		}
	}
	s.unclean = false
	if s.active != nil && s.active.size >= s.segmentBytes {
		s.active = nil
		s.dropDead()
	}
	if s.active != nil {
		return nil
	}
	seg := &segment{number: s.number(), size: int64(segmentHeadBytes)}
	_, _ = rand.Read(seg.marker[:]) // never fails, see crypto/rand.Read
	head := append([]byte(spoolMagic), segmentVersion)
	head = append(head, seg.marker[:]...)
	head = binary.LittleEndian.AppendUint32(head, crc32.Checksum(head, castagnoli()))
	var err error
	if seg.f, err = s.cfg.disk.open(s.path(seg.number), os.O_CREATE|os.O_EXCL|os.O_RDWR); err != nil {
		return err
	}
	// The head is durable before anything is behind it: one that is bad then is
	// damaged, and was not cut by a crash.
	if _, err = seg.f.WriteAt(head, 0); err == nil {
		err = s.sync(seg.f)
	}
	if err == nil {
		err = s.syncDir()
	}
	if err != nil {
		return errors.Join(err, seg.f.Close(), s.cfg.disk.remove(s.path(seg.number)))
	}
	s.mu.Lock()
	s.segments = append(s.segments, seg)
	s.mu.Unlock()
	s.active = seg
	return nil
}

// dropDead removes the segments that nothing is needed of: those of the log
// from the oldest on, one after the other, since the end of an item must not go
// before its beginning. The lock writing is held.
func (s *Spool) dropDead() {
	for _, seg := range append([]*segment(nil), s.own...) {
		if seg.live == 0 && !s.dropFile(seg) {
			return
		}
	}
	for len(s.segments) > 0 && s.segments[0].live == 0 && s.segments[0] != s.active {
		if !s.dropFile(s.segments[0]) {
			return // it is tried again with the next
		}
	}
}

func (s *Spool) dropFile(seg *segment) bool {
	err := s.cfg.disk.remove(s.path(seg.number))
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		err = s.syncDir()
	}
	if err != nil {
		s.log.Warn("a file of the spool that is not needed stays", "file", spoolName(seg.number), "error", err)
		return false
	}
	s.files.Lock()
	_ = seg.f.Close() // all that is in it is gone
	s.files.Unlock()
	s.mu.Lock()
	s.segments, s.own = without(s.segments, seg), without(s.own, seg)
	s.mu.Unlock()
	return true
}

func without(all []*segment, seg *segment) []*segment {
	var rest []*segment
	for _, other := range all {
		if other != seg {
			rest = append(rest, other)
		}
	}
	return rest
}

// collect writes what is needed of the oldest segment anew, so that it can go,
// when much of the log is dead: an item that waits for long keeps what came and
// went after it. The lock writing is held.
func (s *Spool) collect() {
	var dead int64
	for _, seg := range s.segments {
		dead += seg.size - seg.live
	}
	if dead <= s.cfg.BytesMax/collectShare || len(s.segments) == 0 {
		return
	}
	oldest := s.segments[0]
	if oldest == s.active || oldest == s.stuck {
		return
	}
	if err := s.moveFrom(oldest); err != nil {
		s.log.Warn("spool takes more of the disk than it needs", "dead_bytes", dead, "error", err)
		if errors.Is(err, ErrCorrupt) {
			s.stuck = oldest // until its damaged item is put aside
		}
		return
	}
	s.dropDead()
}

// moveFrom copies the records in a segment to the end of the log as they are.
func (s *Spool) moveFrom(seg *segment) error {
	frame := s.newFrame()
	var moved []*spoolRecord
	var places []int64
	flush := func() error {
		to, base, err := s.writeFrame(frame)
		if err != nil {
			return err
		}
		s.mu.Lock()
		for k, r := range moved {
			r.seg.live -= r.bytes()
			r.seg, r.at = to, base+places[k]
			r.seg.live += r.bytes()
		}
		s.mu.Unlock()
		frame, moved, places = s.newFrame(), nil, nil
		return nil
	}
	for _, i := range s.items {
		for _, all := range [][]spoolRecord{i.records, i.rest} {
			for k := range all {
				r := &all[k]
				if r.seg != seg {
					continue
				}
				p, err := r.read()
				if err != nil {
					return err
				}
				var at int64
				frame, at = appendRecord(frame, i.seq, r, p)
				moved, places = append(moved, r), append(places, at)
				if len(frame) < frameBytesMax {
					continue
				}
				if err := flush(); err != nil {
					return err
				}
			}
		}
	}
	return flush()
}
