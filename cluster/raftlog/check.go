package raftlog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"

	"carillon/blobstore"
)

// raft-wal v0.4.0 checks entries only while it looks for the end of the newest
// segment, and takes what fails there for a torn write: a flipped bit elsewhere
// is applied and sent to others, and one near the end makes it forget entries
// that this node has acknowledged. So each entry has a checksum of its own here,
// all of them are read when a log is opened, and where the log ended is noted
// beside it.

const (
	// checkedCodecID names the codec in the head of each segment; below 2^16 are
	// raft-wal's own.
	checkedCodecID = 0x10000 + 1
	// tailFile notes the last entry: index (u64) and CRC-32C (u32) of that.
	tailFile = "tail"
	tailLen  = 12
)

// ErrDamaged is returned when a log does not hold what was written into it.
var ErrDamaged = errors.New("raft log is damaged")

// checkedCodec is raft-wal's with a CRC-32C (u32, little endian) at the end.
type checkedCodec struct {
	wal.BinaryCodec

	// room is where the entries of one StoreLogs are encoded, one behind the other.
	room []byte
}

// entryOverhead is what an entry takes beside its bytes, at most: six numbers, a time
// and the checksum.
const entryOverhead = 6*binary.MaxVarintLen64 + 32 + crc32.Size

// reserve makes room for entries that will be encoded before the next call. Without
// it raft-wal's buffer for each of them is new memory, which costs more to come by
// than the entry to write.
func (c *checkedCodec) reserve(logs []*raft.Log) {
	n := 0
	for _, l := range logs {
		n += len(l.Data) + len(l.Extensions) + entryOverhead
	}
	if c.room = c.room[:0]; cap(c.room) < n {
		c.room = make([]byte, 0, n)
	}
}

// release gives room up that is too large to be kept.
func (c *checkedCodec) release() {
	if cap(c.room) > roomBytesMax {
		c.room = nil
	}
}

// ID names the codec.
func (*checkedCodec) ID() uint64 { return checkedCodecID }

// Encode writes an entry. What is in w afterwards is overwritten after the next
// reserve, if w is the empty buffer that raft-wal gives us.
func (c *checkedCodec) Encode(l *raft.Log, w io.Writer) error {
	buf := bytes.NewBuffer(c.room[len(c.room):])
	if err := c.BinaryCodec.Encode(l, buf); err != nil {
		return err //nolint:wrapcheck // a codec around a codec
	}
	sum := crc32.Checksum(buf.Bytes(), crc32.MakeTable(crc32.Castagnoli))
	_, _ = buf.Write(binary.LittleEndian.AppendUint32(buf.AvailableBuffer(), sum)) // never fails
	if n := len(c.room) + buf.Len(); n <= cap(c.room) {
		c.room = c.room[:n]
	}
	if out, ok := w.(*bytes.Buffer); ok && out.Len() == 0 {
		*out = *buf
		return nil
	}
	_, err := w.Write(buf.Bytes())
	return err //nolint:wrapcheck // as above
}

// Decode reads an entry.
func (c *checkedCodec) Decode(b []byte, l *raft.Log) error {
	n := len(b) - crc32.Size
	if n < 0 || crc32.Checksum(b[:n], crc32.MakeTable(crc32.Castagnoli)) != binary.LittleEndian.Uint32(b[n:]) {
		return fmt.Errorf("entry of %d bytes: checksum: %w", len(b), ErrDamaged)
	}
	return c.BinaryCodec.Decode(b[:n], l) //nolint:wrapcheck // as above
}

// toError tells damage from what a person can mend.
func toError(err error) error {
	switch {
	case err == nil:
		return nil
	case strings.Contains(err.Error(), "codec"):
		return fmt.Errorf("%w: %w", blobstore.ErrFormat, err)
	case errors.Is(err, os.ErrPermission), strings.Contains(err.Error(), "no space"),
		strings.Contains(err.Error(), "timeout"):
		return err
	}
	return fmt.Errorf("%w: %w", ErrDamaged, err)
}

// tail notes how far a log goes. It is not synced: what it says was synced in
// the log before, so it can only be behind after a power cut.
type tail struct {
	mu sync.Mutex
	f  *os.File
}

func openTail(dir string) (*tail, error) {
	f, err := os.OpenFile(filepath.Join(dir, tailFile), os.O_CREATE|os.O_RDWR, 0o600) //nolint:gosec // our own
	if err != nil {
		return nil, fmt.Errorf("note of the log's end: %w", err)
	}
	return &tail{f: f}, nil
}

// last is the noted index, 0 for none.
func (t *tail) last() uint64 {
	var b [tailLen]byte
	if _, err := t.f.ReadAt(b[:], 0); err != nil {
		return 0
	}
	sum := crc32.Checksum(b[:8], crc32.MakeTable(crc32.Castagnoli))
	if binary.LittleEndian.Uint32(b[8:]) != sum {
		return 0
	}
	return binary.LittleEndian.Uint64(b[:])
}

// note writes the index; lowered says that the log is about to become shorter,
// so that it must not be found longer here after a power cut.
func (t *tail) note(index uint64, lowered bool) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	b := binary.LittleEndian.AppendUint64(make([]byte, 0, tailLen), index)
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
	_, err := t.f.WriteAt(b, 0)
	if err == nil && lowered {
		err = t.f.Sync()
	}
	if err != nil {
		return fmt.Errorf("note of the log's end: %w", err)
	}
	return nil
}

// check reads every entry of a log that was just opened.
func (s *Store) check(log *slog.Logger) error {
	first, err := s.FirstIndex()
	if err != nil {
		return toError(err)
	}
	last, err := s.LastIndex()
	if err != nil {
		return toError(err)
	}
	if (first == 0) != (last == 0) {
		return fmt.Errorf("it begins at %d and ends at %d: %w", first, last, ErrDamaged)
	}
	if noted := s.tail.last(); noted > last {
		return fmt.Errorf("it ends at %d, and was at %d: %w", last, noted, ErrDamaged)
	}
	var l raft.Log
	for i := first; i != 0 && i <= last; i++ {
		if err := s.WAL.GetLog(i, &l); err != nil {
			return fmt.Errorf("entry %d of %d to %d: %w: %w", i, first, last, ErrDamaged, err)
		}
		if l.Index != i {
			return fmt.Errorf("entry %d says that it is %d: %w", i, l.Index, ErrDamaged)
		}
	}
	log.Debug("log checked", "first", first, "last", last)
	return s.checkTerm(l.Term)
}

// Follows says whether the log goes on where a snapshot ends, 0 for none: ErrDamaged if
// entries between them are gone, which raft would panic for.
func (s *Store) Follows(snapshot uint64) error {
	first, err := s.FirstIndex()
	if err != nil {
		return toError(err)
	}
	if first > snapshot+1 {
		return fmt.Errorf("it begins at %d, and the snapshot before it ends at %d: %w", first, snapshot, ErrDamaged)
	}
	return nil
}

// checkTerm reads what raft keeps beside the log. A damaged meta store may have
// lost it without a word, or panic (see Open); a node that has forgotten
// its term could vote twice in one.
func (s *Store) checkTerm(lastTerm uint64) error {
	for _, key := range []string{keyVoteTerm, keyTerm} {
		term, err := s.GetUint64([]byte(key))
		if err != nil {
			return fmt.Errorf("%s: %w: %w", key, ErrDamaged, err)
		}
		if key == keyTerm && term < lastTerm {
			return fmt.Errorf("its last entry is of term %d, and its term %d: %w", lastTerm, term, ErrDamaged)
		}
	}
	if _, err := s.Get([]byte(keyVote)); err != nil {
		return fmt.Errorf("last vote: %w: %w", ErrDamaged, err)
	}
	return nil
}
