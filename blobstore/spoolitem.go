package blobstore

import (
	"errors"
	"fmt"
	"io"
	"time"
)

// SpoolItem is one item of a Spool. Its owner appends operations, ends it, and
// removes it once they have been replayed.
type SpoolItem struct {
	s       *Spool
	seq     uint64
	created time.Time
	own     *segment // an item of the release before has a file of its own
	next    uint32   // number of the next record; guarded by Spool.writing
	going   bool     // the end of it is being written; guarded by Spool.writing

	// Guarded by Spool.mu, and written with Spool.writing held, too.
	records []spoolRecord // in order
	rest    []spoolRecord // what is beyond a damaged part, and this
	size    int64
	meta    []byte
	end     []byte
	ended   bool
	damaged bool
	gone    bool
}

// Name is the item's, unique on this node for ever.
func (i *SpoolItem) Name() string { return spoolName(i.seq) }

// Created is when it arrived. Wall clock, UTC, milliseconds.
func (i *SpoolItem) Created() time.Time { return i.created }

// Meta is what the owner wrote last.
func (i *SpoolItem) Meta() []byte {
	i.s.mu.Lock()
	defer i.s.mu.Unlock()
	return i.meta
}

// End is what the owner wrote at the end, and whether it has.
func (i *SpoolItem) End() ([]byte, bool) {
	i.s.mu.Lock()
	defer i.s.mu.Unlock()
	return i.end, i.ended
}

// Damaged says that a part in the middle cannot be read: what is before it can.
func (i *SpoolItem) Damaged() bool {
	i.s.mu.Lock()
	defer i.s.mu.Unlock()
	return i.damaged
}

// Size is what the item takes of the spool.
func (i *SpoolItem) Size() int64 {
	i.s.mu.Lock()
	defer i.s.mu.Unlock()
	return i.size
}

// takes says whether a record of that kind may be added.
func (i *SpoolItem) takes(kind byte) error {
	i.s.mu.Lock()
	defer i.s.mu.Unlock()
	switch {
	case i.gone || i.s.closed:
		return fmt.Errorf("spool: %w", ErrClosed)
	case i.ended && kind != recordMeta:
		return fmt.Errorf("spooled item %s: %w", i.Name(), ErrSealed)
	}
	return nil
}

// add counts a record that is durable. The lock Spool.mu is held.
func (i *SpoolItem) add(r spoolRecord, payload []byte) {
	switch r.kind {
	case recordNew:
		i.meta = payload[createdBytes:]
	case recordMeta:
		i.meta = payload
	case recordEnd:
		i.end, i.ended = payload, true
	}
	i.records = append(i.records, r)
	i.size += r.bytes()
}

// createdBytes is the time before the words of a recordNew.
const createdBytes = 8

// SetMeta replaces the owner's words.
func (i *SpoolItem) SetMeta(meta []byte) error {
	b := i.s.Batch()
	if err := b.SetMeta(i, meta); err != nil {
		return err
	}
	return b.Commit()
}

// Append adds operations, durable when it returns. ErrNoSpace: the spool is
// full; ErrSealed: the item has ended.
func (i *SpoolItem) Append(ops ...Op) error {
	b := i.s.Batch()
	return errors.Join(b.Append(i, ops...), b.Commit())
}

// Finish says that the item is whole. Again: success.
func (i *SpoolItem) Finish(end []byte) error {
	b := i.s.Batch()
	if err := b.Finish(i, end); err != nil {
		return err
	}
	return b.Commit()
}

// read returns a record of the item with its payload. io.EOF: there are no more.
func (i *SpoolItem) read(k int) (spoolRecord, []byte, error) {
	s := i.s
	s.files.RLock() // the segment stays until it is read
	defer s.files.RUnlock()
	s.mu.Lock()
	gone := i.gone || s.closed
	var r spoolRecord
	if k < len(i.records) {
		r = i.records[k]
	}
	s.mu.Unlock()
	switch {
	case gone:
		return r, nil, fmt.Errorf("spool: %w", ErrClosed)
	case r.seg == nil:
		return r, nil, io.EOF
	}
	p, err := r.read()
	return r, p, err
}

// Replay calls fn for each operation in order, and stops at its first error.
// Data is fn's. ErrCorrupt: the disk has lost what was there.
func (i *SpoolItem) Replay(fn func(Op) error) error {
	for k := 0; ; k++ {
		r, payload, err := i.read(k)
		if errors.Is(err, io.EOF) && r.seg == nil {
			return nil
		}
		if err != nil {
			return err
		}
		if r.kind != recordOp {
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
}

// ReadAt reads bytes of the blob that operations have appended, checked. It
// returns what there is from off on without a gap; io.EOF for nothing.
func (i *SpoolItem) ReadAt(p []byte, off int64) (int, error) {
	k := i.find(off)
	if k < 0 {
		return 0, io.EOF
	}
	n := 0
	for ; n < len(p); k++ {
		r, payload, err := i.read(k)
		if errors.Is(err, io.EOF) && r.seg == nil {
			break
		}
		if err != nil {
			return n, err
		}
		skip := off + int64(n) - r.off
		if r.data > 0 && skip < 0 {
			break
		}
		if skip < int64(r.data) {
			n += copy(p[n:], payload[opHeadBytes+int(skip):])
		}
	}
	return n, nil
}

// find is the newest record that has the byte at off, -1 for none: readers
// follow the end.
func (i *SpoolItem) find(off int64) int {
	i.s.mu.Lock()
	defer i.s.mu.Unlock()
	for k := len(i.records) - 1; k >= 0; k-- {
		if r := &i.records[k]; off >= r.off && off < r.off+int64(r.data) {
			return k
		}
	}
	return -1
}

// Extent is where the last bytes of the blob lie that the item holds in one
// piece. Where it has a gap, what is before that was taken by the cluster. Both
// zero: nothing.
func (i *SpoolItem) Extent() (start, end int64) {
	i.s.mu.Lock()
	defer i.s.mu.Unlock()
	for k := range i.records {
		r := &i.records[k]
		switch {
		case r.data == 0:
		case end == 0 || r.off > end || r.off < start:
			start, end = r.off, r.off+int64(r.data)
		default:
			end = max(end, r.off+int64(r.data))
		}
	}
	return start, end
}

// Remove deletes the item: it has been replayed, or was taken by nobody. After
// an error it waits no more, and may come back at the next start.
func (i *SpoolItem) Remove() error {
	b, s := i.s.Batch(), i.s
	b.Remove(i)
	err := b.Commit()
	if err == nil || errors.Is(err, ErrClosed) {
		return err
	}
	// A full disk must not keep what is to make room: its segments go all the
	// same, and the log hears of it when it can.
	s.writing.Lock()
	defer s.writing.Unlock()
	s.mu.Lock()
	if !i.gone {
		s.release(i)
		s.owed = append(s.owed, i.seq)
	}
	s.mu.Unlock()
	s.dropDead()
	return err
}
