package blobstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// The form of an item in a file of its own: magic, version, when it was created
// in ms, then records, each a kind, its length (u32) and its CRC-32C (u32, over
// kind and payload), all little endian, and its payload.
//
// So the first release kept every item: those that it left are read where they
// are. And so an item lies in quarantine: moved back into the directory of the
// spool it is replayed after the next start.
const (
	ownVersion    = 1
	ownHeadBytes  = len(spoolMagic) + 1 + createdBytes
	ownRecordHead = 1 + 4 + 4
)

// ownFile reads an item of its own.
func (l *spoolLoad) ownFile(seg *segment) error {
	head := make([]byte, ownHeadBytes)
	if _, err := seg.f.ReadAt(head, 0); err != nil {
		return fmt.Errorf("open spool: %w", err)
	}
	i := l.items[seg.number]
	if i == nil {
		i = l.s.loadedItem(seg.number)
		l.items[seg.number] = i
	}
	i.own, seg.live = seg, seg.size
	i.created = fromMillis(int64(binary.LittleEndian.Uint64(head[len(spoolMagic)+1:])))
	var own []loadedRecord
	for at := int64(ownHeadBytes); at < seg.size; {
		r, err := ownRecord(seg, at)
		if err == nil {
			r.number = uint32(len(own))
			own = append(own, r)
			at = r.at + int64(r.n)
			continue
		}
		// The last may be torn; each was synced before the next.
		if i.torn = seg.worn || r.seg != nil && followed(seg, &r); !i.torn {
			l.s.log.Warn("end of a spooled item dropped, a crash cut it", "item", i.Name(),
				"bytes", seg.size-at)
		}
		break
	}
	i.all = append(own, i.all...)
	return nil
}

// followed says whether a whole record follows a bad one.
func followed(seg *segment, r *loadedRecord) bool {
	_, err := ownRecord(seg, r.at+int64(r.n))
	return err == nil
}

// ownRecord reads a record, checked. Of a bad one it says where it lies, if that
// can be known.
func ownRecord(seg *segment, at int64) (loadedRecord, error) {
	head := make([]byte, ownRecordHead)
	if _, err := seg.f.ReadAt(head, at); err != nil {
		return loadedRecord{}, fmt.Errorf("spool: record at %d: %w: %w", at, ErrCorrupt, err)
	}
	r := loadedRecord{spoolRecord: spoolRecord{
		seg: seg, at: at + ownRecordHead, kind: head[0],
		n: binary.LittleEndian.Uint32(head[1:]), sum: binary.LittleEndian.Uint32(head[5:]),
	}}
	if r.n > max(OpBytesMax, spoolMetaBytesMax) || r.at+int64(r.n) > seg.size {
		return r, fmt.Errorf("spool: record at %d of %d bytes: %w", at, r.n, ErrCorrupt)
	}
	payload, err := r.read()
	if err != nil {
		return r, err
	}
	if r.check(payload); r.bad || r.kind == recordNew || r.kind == recordGone {
		return r, fmt.Errorf("spool: record at %d of kind %q: %w", at, r.kind, ErrCorrupt)
	}
	return r, nil
}

func (s *Spool) asidePath(number uint64, ext string) string {
	return filepath.Join(s.cfg.Dir, quarantineDir, spoolName(number)+ext)
}

// Quarantine puts the item aside with the reason beside it: it could not be
// replayed, and a person must decide. It waits no more.
func (i *SpoolItem) Quarantine(reason string) error {
	var err error
	if i.own != nil {
		err = i.s.putFileAside(i.seq, reason)
	} else {
		err = i.s.asideAs(i.seq, reason, i.writeOwn)
	}
	if err != nil {
		return err
	}
	i.s.log.Error("spooled item put aside, look at it", "item", i.Name(), "reason", reason,
		"dir", filepath.Join(i.s.cfg.Dir, quarantineDir))
	return i.Remove()
}

// putFileAside moves a file of the spool into the quarantine.
func (s *Spool) putFileAside(number uint64, reason string) error {
	if err := writeSynced(s.asidePath(number, reasonExt), reason+"\n"); err != nil {
		return err
	}
	if err := os.Rename(s.path(number), s.asidePath(number, spoolExt)); err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	s.mu.Lock()
	s.kept++
	s.mu.Unlock()
	return errors.Join(syncPath(filepath.Join(s.cfg.Dir, quarantineDir)), s.syncDir())
}

// copyFileAside is putFileAside for a segment of which parts are needed.
func (s *Spool) copyFileAside(seg *segment, reason string) error {
	s.log.Error("a part of the spool is damaged, a copy was put aside", "file", spoolName(seg.number))
	return s.asideAs(seg.number, reason, func(w io.Writer) error {
		_, err := io.Copy(w, io.NewSectionReader(seg.f, 0, seg.size))
		return err
	})
}

// asideAs makes a file in the quarantine, durably. One that is there has all
// that there was when it was made, and stays.
func (s *Spool) asideAs(number uint64, reason string, write func(io.Writer) error) error {
	path := s.asidePath(number, spoolExt)
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := writeSynced(s.asidePath(number, reasonExt), reason+"\n"); err != nil {
		return err
	}
	f, err := os.OpenFile(path+".tmp", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600) //nolint:gosec // our own
	if err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	if err = write(f); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(path+".tmp", path)
	}
	if err == nil {
		err = syncPath(filepath.Dir(path))
	}
	if err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	s.mu.Lock()
	s.kept++
	s.mu.Unlock()
	return nil
}

// writeOwn writes the item in the form of a file of its own, damage and all.
func (i *SpoolItem) writeOwn(w io.Writer) error {
	head := append([]byte(spoolMagic), ownVersion)
	head = binary.LittleEndian.AppendUint64(head, uint64(i.created.UnixMilli()))
	if _, err := w.Write(head); err != nil {
		return err
	}
	i.s.mu.Lock()
	n := len(i.records) + len(i.rest)
	i.s.mu.Unlock()
	for k := range n {
		r, payload, err := i.raw(k)
		if err != nil {
			return err
		}
		if r.kind == recordNew && len(payload) >= createdBytes {
			r.kind, payload = recordMeta, payload[createdBytes:]
			if !r.bad {
				r.sum = recordSum(recordMeta, payload)
			}
		}
		record := append(make([]byte, 0, ownRecordHead), r.kind)
		record = binary.LittleEndian.AppendUint32(record, uint32(len(payload)))
		record = binary.LittleEndian.AppendUint32(record, r.sum)
		if _, err := w.Write(append(record, payload...)); err != nil {
			return err
		}
	}
	return nil
}

// raw is a record with its payload as it is, beyond damage too.
func (i *SpoolItem) raw(k int) (spoolRecord, []byte, error) {
	i.s.files.RLock()
	defer i.s.files.RUnlock()
	i.s.mu.Lock()
	if i.gone || i.s.closed {
		i.s.mu.Unlock()
		return spoolRecord{}, nil, fmt.Errorf("spool: %w", ErrClosed)
	}
	all := i.records
	if k >= len(all) {
		k, all = k-len(all), i.rest
	}
	r := all[k]
	i.s.mu.Unlock()
	p := make([]byte, r.n)
	if _, err := r.seg.f.ReadAt(p, r.at); err != nil && !errors.Is(err, io.EOF) {
		return r, nil, err
	}
	return r, p, nil
}
