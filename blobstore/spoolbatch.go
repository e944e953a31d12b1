package blobstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// SpoolBatch gathers changes of many items, which become durable together. It
// belongs to one goroutine, and Commit must follow whatever was put into it. The
// changes of an item by several batches at one moment come in any order.
type SpoolBatch struct {
	s       *Spool
	changes []spoolChange
	bytes   int64

	done bool  // writing
	err  error // writing
}

// spoolChange is a record that is to be written.
type spoolChange struct {
	spoolRecord

	item    *SpoolItem
	payload []byte
	left    bool // not written: its item is gone
}

// Batch returns an empty one.
func (s *Spool) Batch() *SpoolBatch { return &SpoolBatch{s: s} }

// Full says that what is in the batch is enough for one write.
func (b *SpoolBatch) Full() bool { return b.bytes >= frameBytesMax }

// Create makes an item, which is in the spool from Commit on. ErrNoSpace: the
// spool is full.
func (b *SpoolBatch) Create(meta []byte) (*SpoolItem, error) {
	s := b.s
	i := &SpoolItem{s: s, seq: s.number(), created: time.Now().UTC().Truncate(time.Millisecond)}
	payload := binary.LittleEndian.AppendUint64(nil, uint64(i.created.UnixMilli()))
	s.mu.Lock()
	full := len(s.items)+s.making >= s.cfg.ItemsMax
	if !full {
		s.making++
	}
	s.mu.Unlock()
	if full {
		return nil, fmt.Errorf("%d items in the spool: %w", s.cfg.ItemsMax, ErrNoSpace)
	}
	if err := b.add(i, spoolRecord{kind: recordNew}, append(payload, meta...)); err != nil {
		s.mu.Lock()
		s.making--
		s.mu.Unlock()
		return nil, err
	}
	return i, nil
}

// SetMeta replaces the owner's words.
func (b *SpoolBatch) SetMeta(i *SpoolItem, meta []byte) error {
	return b.add(i, spoolRecord{kind: recordMeta}, append([]byte(nil), meta...))
}

// Append adds operations to an item. ErrNoSpace: the spool is full, and holds
// those before; ErrSealed: the item has ended; ErrClosed: it is gone.
func (b *SpoolBatch) Append(i *SpoolItem, ops ...Op) error {
	for k := range ops {
		op := &ops[k]
		r := spoolRecord{kind: recordOp, off: op.Offset, data: uint32(len(op.Data))}
		if err := b.add(i, r, AppendOps(nil, ops[k:k+1])); err != nil {
			return err
		}
	}
	return nil
}

// Finish says that the item is whole. Again: success.
func (b *SpoolBatch) Finish(i *SpoolItem, end []byte) error {
	if _, ended := i.End(); ended {
		return nil
	}
	return b.add(i, spoolRecord{kind: recordEnd}, append([]byte(nil), end...))
}

// Remove deletes the item: it has been replayed, or was taken by nobody.
func (b *SpoolBatch) Remove(i *SpoolItem) {
	r := spoolRecord{kind: recordGone, sum: recordSum(recordGone, nil)}
	b.changes = append(b.changes, spoolChange{spoolRecord: r, item: i})
	b.bytes += r.bytes()
}

func (b *SpoolBatch) add(i *SpoolItem, r spoolRecord, payload []byte) error {
	if r.kind != recordOp && len(payload) > spoolMetaBytesMax {
		return fmt.Errorf("spool: words of %d bytes: %w", len(payload), ErrTooLarge)
	}
	if err := i.takes(r.kind); err != nil {
		return err
	}
	r.n, r.sum = uint32(len(payload)), recordSum(r.kind, payload)
	if err := b.s.take(r.bytes()); err != nil {
		return err
	}
	b.changes = append(b.changes, spoolChange{spoolRecord: r, item: i, payload: payload})
	b.bytes += r.bytes()
	return nil
}

// Commit makes what is in the batch durable, with one write and one fsync for
// all batches that wait at the moment, and empties it. ErrNoSpace: the disk did
// not take it, nothing has changed; ErrClosed: the spool is closed, or an item
// is gone, and what concerns other items is durable.
func (b *SpoolBatch) Commit() error {
	if len(b.changes) == 0 {
		return nil
	}
	s := b.s
	s.mu.Lock()
	s.queue = append(s.queue, b)
	s.mu.Unlock()
	s.writing.Lock()
	defer s.writing.Unlock()
	for !b.done { // else somebody else's write had it in
		s.commitQueued()
	}
	err := b.err
	*b = SpoolBatch{s: s}
	return err
}

// commitQueued commits what waits, as much as fits into one frame. The lock
// writing is held.
func (s *Spool) commitQueued() {
	s.mu.Lock()
	n, bytes := 0, int64(0)
	for n < len(s.queue) && (n == 0 || bytes+s.queue[n].bytes <= frameBytesMax) {
		bytes += s.queue[n].bytes
		n++
	}
	group := s.queue[:n:n]
	if s.queue = s.queue[n:]; len(s.queue) == 0 {
		s.queue = nil
	}
	closed := s.closed
	s.mu.Unlock()
	var err error
	var seg *segment
	var base int64
	if closed {
		err = fmt.Errorf("spool: %w", ErrClosed)
		s.refuse(group)
	} else if seg, base, err = s.writeFrame(s.encode(group, bytes)); err != nil {
		s.refuse(group)
	} else {
		s.accept(group, seg, base)
		s.dropDead()
		s.collect()
	}
	for _, b := range group {
		b.done, b.err = true, errors.Join(err, b.err)
	}
}

// encode makes a frame of the batches' changes, and numbers them.
func (s *Spool) encode(group []*SpoolBatch, bytes int64) []byte {
	size := int64(frameHeadBytes) + bytes + int64(len(s.owed)*recordHeadBytes)
	frame := append(make([]byte, 0, size), s.newFrame()...)
	for _, seq := range s.owed {
		r := spoolRecord{kind: recordGone, sum: recordSum(recordGone, nil)}
		frame, _ = appendRecord(frame, seq, &r, nil)
	}
	for _, b := range group {
		for k := range b.changes {
			c := &b.changes[k]
			if c.item.gone || c.item.going {
				c.left = true
				if c.kind != recordGone {
					b.err = fmt.Errorf("spooled item %s: %w", c.item.Name(), ErrClosed)
				}
				continue
			}
			c.item.going = c.kind == recordGone
			c.number = c.item.next
			c.item.next++
			frame, c.at = appendRecord(frame, c.item.seq, &c.spoolRecord, c.payload)
		}
	}
	return frame
}

// refuse takes the changes back.
func (s *Spool) refuse(group []*SpoolBatch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range group {
		for k := range b.changes {
			c := &b.changes[k]
			if c.at != 0 { // encode had it
				c.item.next--
				c.item.going = false
			}
			s.settle(c)
			if c.kind != recordGone {
				s.bytes -= c.bytes()
			}
		}
	}
}

// accept makes the changes visible.
func (s *Spool) accept(group []*SpoolBatch, seg *segment, base int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.owed = nil
	for _, b := range group {
		for k := range b.changes {
			c := &b.changes[k]
			s.settle(c)
			switch {
			case c.kind == recordGone:
				s.release(c.item)
			case c.left:
				s.bytes -= c.bytes()
			default:
				c.seg, c.at = seg, base+c.at
				seg.live += c.bytes()
				c.item.add(c.spoolRecord, c.payload)
				s.items[c.item.seq] = c.item
			}
		}
	}
}

// settle counts an item that is not being made any more.
func (s *Spool) settle(c *spoolChange) {
	if c.kind == recordNew {
		s.making--
	}
}
