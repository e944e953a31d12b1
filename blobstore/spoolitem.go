package blobstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// The form of a spooled item: magic and version, then records, each a kind, its
// length (u32) and its CRC-32C (u32, over kind and payload), all little endian,
// and its payload.
const (
	spoolMagic     = "CSPL"
	spoolVersion   = 1
	spoolHeadBytes = len(spoolMagic) + 1 + 8 // and when it was created, ms
	recordHead     = 1 + 4 + 4

	recordMeta = 'M' // the owner's words; the last one counts
	recordOp   = 'O' // one operation, as AppendOps writes it
	recordEnd  = 'E' // the item is whole; the owner's words about that

	// spoolMetaBytesMax bounds the owner's words.
	spoolMetaBytesMax = RowBytesMax + 16<<10
)

// SpoolItem is one item of a Spool. Its owner appends operations, ends it, and
// removes it once they have been replayed.
type SpoolItem struct {
	s       *Spool
	seq     uint64
	created time.Time

	mu      sync.Mutex
	f       *os.File // nil once removed, guarded by mu
	size    int64    // guarded by mu
	meta    []byte   // guarded by mu
	end     []byte   // guarded by mu
	ended   bool     // guarded by mu
	damaged bool     // guarded by mu
	extents []extent // guarded by mu
}

// extent is where the data of an operation lies in the file.
type extent struct {
	off int64 // in the blob
	at  int64 // of the record
	n   int   // bytes of data
}

// Name is the item's, unique on this node for ever.
func (i *SpoolItem) Name() string { return spoolName(i.seq) }

// Created is when it arrived. Wall clock, UTC, milliseconds.
func (i *SpoolItem) Created() time.Time { return i.created }

// Meta is what the owner wrote last.
func (i *SpoolItem) Meta() []byte {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.meta
}

// End is what the owner wrote at the end, and whether it has.
func (i *SpoolItem) End() ([]byte, bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.end, i.ended
}

// Damaged says that a part in the middle cannot be read: what is before it can.
func (i *SpoolItem) Damaged() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.damaged
}

// Size is what the item takes on the disk.
func (i *SpoolItem) Size() int64 {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.size
}

func (i *SpoolItem) create(meta []byte) error {
	if err := i.s.take(int64(spoolHeadBytes)); err != nil {
		return err
	}
	f, err := os.OpenFile(i.s.path(i.seq), os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	head := append([]byte(spoolMagic), spoolVersion)
	head = binary.LittleEndian.AppendUint64(head, uint64(i.created.UnixMilli()))
	i.mu.Lock()
	i.f, i.size = f, int64(spoolHeadBytes)
	i.mu.Unlock()
	if _, err := f.WriteAt(head, 0); err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	return i.SetMeta(meta)
}

// SetMeta replaces the owner's words.
func (i *SpoolItem) SetMeta(meta []byte) error {
	return i.write(recordMeta, meta, func(int64) { i.meta = append([]byte(nil), meta...) })
}

// Append adds operations, durable when it returns. ErrNoSpace: the spool is
// full; ErrSealed: the item has ended.
func (i *SpoolItem) Append(ops ...Op) error {
	for k := range ops {
		op := ops[k]
		err := i.write(recordOp, AppendOps(nil, ops[k:k+1]), func(at int64) {
			if len(op.Data) > 0 {
				i.extents = append(i.extents, extent{op.Offset, at, len(op.Data)})
			}
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// Finish says that the item is whole. Again: success.
func (i *SpoolItem) Finish(end []byte) error {
	if _, ended := i.End(); ended {
		return nil
	}
	return i.write(recordEnd, end, func(int64) { i.end, i.ended = append([]byte(nil), end...), true })
}

// write appends one record and syncs it; then is called with the lock held.
func (i *SpoolItem) write(kind byte, payload []byte, then func(at int64)) error {
	if kind != recordOp && len(payload) > spoolMetaBytesMax {
		return fmt.Errorf("spool: words of %d bytes: %w", len(payload), ErrTooLarge)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	switch {
	case i.f == nil:
		return fmt.Errorf("spool: %w", ErrClosed)
	case i.ended && kind != recordMeta:
		return fmt.Errorf("spooled item %s: %w", i.Name(), ErrSealed)
	}
	record := make([]byte, recordHead, recordHead+len(payload))
	record[0] = kind
	binary.LittleEndian.PutUint32(record[1:], uint32(len(payload)))
	binary.LittleEndian.PutUint32(record[5:], recordSum(kind, payload))
	record = append(record, payload...)
	if err := i.s.take(int64(len(record))); err != nil {
		return err
	}
	at := i.size
	_, err := i.f.WriteAt(record, at)
	if err == nil {
		err = i.f.Sync()
	}
	if err != nil { // what is there of it is written over, or dropped by the next start
		_ = i.s.take(-int64(len(record)))
		return fmt.Errorf("spool: %w: %w", ErrNoSpace, err)
	}
	i.size += int64(len(record))
	then(at)
	return nil
}

func recordSum(kind byte, payload []byte) uint32 {
	return crc32.Update(crc32.Checksum([]byte{kind}, castagnoli()), castagnoli(), payload)
}

// load reads an item of a former life. Nil: a crash left nothing of it.
func (s *Spool) load(seq uint64) (*SpoolItem, error) {
	f, err := os.OpenFile(s.path(seq), os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("open spool: %w", err)
	}
	i := &SpoolItem{s: s, seq: seq, f: f}
	info, err := f.Stat()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open spool: %w", err), f.Close())
	}
	head := make([]byte, spoolHeadBytes)
	if _, err := f.ReadAt(head, 0); err != nil || info.Size() < int64(spoolHeadBytes+recordHead) {
		s.log.Warn("spooled item without content dropped", "item", i.Name())
		return nil, errors.Join(f.Close(), os.Remove(s.path(seq)))
	}
	if string(head[:len(spoolMagic)]) != spoolMagic || head[len(spoolMagic)] != spoolVersion {
		err := fmt.Errorf("spooled item %s begins with %q: %w", i.Name(), head[:5], ErrFormat)
		return nil, errors.Join(err, f.Close())
	}
	i.created = fromMillis(int64(binary.LittleEndian.Uint64(head[len(spoolMagic)+1:])))
	i.scan(info.Size())
	if i.size < info.Size() && !i.damaged {
		s.log.Warn("end of a spooled item dropped, a crash cut it", "item", i.Name(), "bytes", info.Size()-i.size)
		if err := errors.Join(f.Truncate(i.size), f.Sync()); err != nil {
			return nil, errors.Join(fmt.Errorf("open spool: %w", err), f.Close())
		}
	}
	return i, nil
}

// scan finds the records. The last may be torn; one in the middle that cannot
// be read is damage, since each was synced before the next.
func (i *SpoolItem) scan(total int64) {
	i.size = int64(spoolHeadBytes)
	for i.size < total {
		kind, payload, err := i.record(i.size)
		if err != nil {
			i.damaged = i.more(total)
			return
		}
		at := i.size
		switch kind {
		case recordMeta:
			i.meta = payload
		case recordEnd:
			i.end, i.ended = payload, true
		case recordOp:
			op, _, err := decodeOp(payload)
			if err != nil {
				i.damaged = true
				return
			}
			if len(op.Data) > 0 {
				i.extents = append(i.extents, extent{op.Offset, at, len(op.Data)})
			}
		}
		i.size += int64(recordHead + len(payload))
	}
}

// more says whether a whole record follows the bad one at size: then that one
// was not the last that was written.
func (i *SpoolItem) more(total int64) bool {
	head := make([]byte, recordHead)
	if _, err := i.f.ReadAt(head, i.size); err != nil {
		return false
	}
	next := i.size + recordHead + int64(binary.LittleEndian.Uint32(head[1:]))
	if next >= total {
		return false
	}
	_, _, err := i.record(next)
	return err == nil
}

// record reads one record, checked.
func (i *SpoolItem) record(at int64) (kind byte, payload []byte, err error) {
	head := make([]byte, recordHead)
	if _, err := i.f.ReadAt(head, at); err != nil {
		return 0, nil, fmt.Errorf("spool: record at %d: %w: %w", at, ErrCorrupt, err)
	}
	n := binary.LittleEndian.Uint32(head[1:])
	if n > max(OpBytesMax, spoolMetaBytesMax) {
		return 0, nil, fmt.Errorf("spool: record at %d of %d bytes: %w", at, n, ErrCorrupt)
	}
	payload = make([]byte, n)
	if _, err := i.f.ReadAt(payload, at+recordHead); err != nil {
		return 0, nil, fmt.Errorf("spool: record at %d: %w: %w", at, ErrCorrupt, err)
	}
	if recordSum(head[0], payload) != binary.LittleEndian.Uint32(head[5:]) {
		return 0, nil, fmt.Errorf("spool: record at %d: checksum: %w", at, ErrCorrupt)
	}
	return head[0], payload, nil
}

// Replay calls fn for each operation in order, and stops at its first error.
// Data is fn's. ErrCorrupt: the disk has lost what was there.
func (i *SpoolItem) Replay(fn func(Op) error) error {
	for at, end := int64(spoolHeadBytes), i.Size(); at < end; {
		i.mu.Lock()
		if i.f == nil {
			i.mu.Unlock()
			return fmt.Errorf("spool: %w", ErrClosed)
		}
		kind, payload, err := i.record(at)
		i.mu.Unlock()
		if err != nil {
			return err
		}
		at += int64(recordHead + len(payload))
		if kind != recordOp {
			continue
		}
		op, _, err := decodeOp(payload)
		if err != nil {
			return fmt.Errorf("spool: %w: %w", ErrCorrupt, err)
		}
		if err := fn(op); err != nil {
			return err
		}
	}
	return nil
}

// ReadAt reads bytes of the blob that operations have appended, checked. It
// returns what there is from off on without a gap; io.EOF for nothing.
func (i *SpoolItem) ReadAt(p []byte, off int64) (int, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	n := 0
	for k := len(i.extents) - 1; k >= 0 && n == 0; k-- { // newest first: readers follow the end
		e := i.extents[k]
		if off < e.off || off >= e.off+int64(e.n) {
			continue
		}
		for ; k < len(i.extents) && n < len(p); k++ {
			e := i.extents[k]
			skip := off + int64(n) - e.off
			if skip < 0 || skip >= int64(e.n) || i.f == nil {
				break
			}
			_, payload, err := i.record(e.at)
			if err != nil {
				return n, err
			}
			n += copy(p[n:], payload[opHeadBytes+int(skip):])
		}
		return n, nil
	}
	return 0, io.EOF
}

// Extent is what the item holds of the blob: the least offset and the end of
// the contiguous bytes from there. Both zero: nothing.
func (i *SpoolItem) Extent() (start, end int64) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for k, e := range i.extents {
		if k == 0 {
			start, end = e.off, e.off
		}
		if e.off == end {
			end += int64(e.n)
		}
	}
	return start, end
}

// Remove deletes the item: it has been replayed, or was taken by nobody.
func (i *SpoolItem) Remove() error {
	if err := i.close(); err != nil {
		return err
	}
	i.s.forget(i, i.Size(), false)
	if err := os.Remove(i.s.path(i.seq)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("spool: %w", err)
	}
	return syncPath(i.s.cfg.Dir)
}

// Quarantine puts the item aside with the reason beside it: it could not be
// replayed, and a person must decide. It waits no more.
func (i *SpoolItem) Quarantine(reason string) error {
	if err := i.close(); err != nil {
		return err
	}
	dir := filepath.Join(i.s.cfg.Dir, quarantineDir)
	if err := writeSynced(filepath.Join(dir, i.Name()+reasonExt), reason+"\n"); err != nil {
		return err
	}
	if err := os.Rename(i.s.path(i.seq), filepath.Join(dir, i.Name()+spoolExt)); err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	i.s.forget(i, i.Size(), true)
	i.s.log.Error("spooled item put aside, look at it", "item", i.Name(), "reason", reason, "dir", dir)
	return errors.Join(syncPath(dir), syncPath(i.s.cfg.Dir))
}

func (i *SpoolItem) close() error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.f == nil {
		return nil
	}
	err := i.f.Close()
	i.f = nil
	if err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	return nil
}
