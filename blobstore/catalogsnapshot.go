package blobstore

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"sync"
)

// The form of a catalog snapshot: magic, version (u16), applied index (u64),
// number of remembered transactions ever (u64); then every row as key and
// value, each behind its length (uvarint); a zero length ends them; then the
// number of rows (u64) and the CRC-32C of everything before (u32). All little
// endian.
const (
	snapshotMagic   = "CARCAT"
	snapshotVersion = 1
	// snapshotBufferBytes is one read or write of a snapshot.
	snapshotBufferBytes = 64 << 10
)

// CatalogSnapshot is the catalog as it was at one log position. It must be
// released; Close of the store waits for that.
type CatalogSnapshot struct {
	gen  *generation
	prog progress
	ts   uint64
	once sync.Once
}

// Snapshot takes a view of the catalog now. It copies nothing.
func (c *CatalogStore) Snapshot() (*CatalogSnapshot, error) {
	c.turn.Lock()
	defer c.turn.Unlock()
	gen, err := c.enter()
	if err != nil {
		return nil, err
	}
	return &CatalogSnapshot{gen: gen, prog: c.progress, ts: gen.readers.begin()}, nil
}

// Applied is the log position of the view.
func (s *CatalogSnapshot) Applied() uint64 { return s.prog.applied }

// Release frees the view. It may be called twice.
func (s *CatalogSnapshot) Release() {
	s.once.Do(func() {
		s.gen.readers.end(s.ts)
		s.gen.gate.leave()
	})
}

// WriteTo streams the view to w.
func (s *CatalogSnapshot) WriteTo(w io.Writer) (int64, error) {
	crc := crc32.New(castagnoli())
	counted := &countingWriter{w: w}
	buf := bufio.NewWriterSize(io.MultiWriter(counted, crc), snapshotBufferBytes)
	head := append([]byte(snapshotMagic), 0, 0)
	binary.LittleEndian.PutUint16(head[len(snapshotMagic):], snapshotVersion)
	head = binary.LittleEndian.AppendUint64(head, s.prog.applied)
	head = binary.LittleEndian.AppendUint64(head, s.prog.count)
	_, _ = buf.Write(head) // an error stays in buf until Flush
	var rows uint64
	err := s.each(func(key, value []byte) error {
		rows++
		var n [2 * binary.MaxVarintLen32]byte
		_, _ = buf.Write(binary.AppendUvarint(n[:0], uint64(len(key))))
		_, _ = buf.Write(key)
		_, _ = buf.Write(binary.AppendUvarint(n[:0], uint64(len(value))))
		_, err := buf.Write(value)
		return err
	})
	if err != nil {
		return counted.n, fmt.Errorf("write catalog snapshot: %w", err)
	}
	_ = buf.WriteByte(0)
	_, _ = buf.Write(binary.LittleEndian.AppendUint64(nil, rows))
	if err := buf.Flush(); err != nil {
		return counted.n, fmt.Errorf("write catalog snapshot: %w", err)
	}
	if _, err := counted.Write(binary.LittleEndian.AppendUint32(nil, crc.Sum32())); err != nil {
		return counted.n, fmt.Errorf("write catalog snapshot: %w", err)
	}
	return counted.n, nil
}

// each calls fn for every row but the applied one, in order of the keys.
func (s *CatalogSnapshot) each(fn func(key, value []byte) error) error {
	err := s.gen.scanAll(s.ts, fn)
	if doubt := s.gen.sure(context.Background()); doubt != nil {
		return doubt // what it ended in may not be the end
	}
	return err
}

// Digest hashes all rows with their revisions, and the remembered outcomes:
// equal on all nodes that have applied the same.
func (c *CatalogStore) Digest() (Digest, error) {
	s, err := c.Snapshot()
	if err != nil {
		return Digest{}, err
	}
	defer s.Release()
	h := sha256.New()
	err = s.each(func(key, value []byte) error {
		h.Write(binary.AppendUvarint(nil, uint64(len(key))))
		h.Write(key)
		h.Write(binary.AppendUvarint(nil, uint64(len(value))))
		h.Write(value)
		return nil
	})
	if err != nil {
		return Digest{}, fmt.Errorf("digest of the catalog: %w", err)
	}
	return Digest(h.Sum(nil)), nil
}

type countingWriter struct {
	w io.Writer
	n int64
}

func (c *countingWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// Restore replaces everything by the snapshot that r holds. The new catalog
// is built beside the old one and takes its place only when it is whole,
// checked and durable; an error, and a crash at any moment, leaves the old one
// or, after the switch, the new one. Readers see the one or the other.
func (c *CatalogStore) Restore(r io.Reader) error {
	c.turn.Lock()
	defer c.turn.Unlock()
	if c.closing.Load() {
		return ErrClosed
	}
	old := c.current.Load()
	number, err := generationNumber(old.name)
	if err != nil {
		return err
	}
	name := generationPrefix + strconv.FormatUint(number+1, 10)
	dir := filepath.Join(c.cfg.Dir, name)
	if err := c.build(name, r); err != nil {
		return errors.Join(err, os.RemoveAll(dir))
	}
	if err := c.setCurrent(name); err != nil {
		return err
	}
	gen, err := c.openGeneration(name, !c.cfg.Replayed)
	if err != nil {
		return err
	}
	if err := c.adopt(gen); err != nil {
		return errors.Join(err, gen.db.Close())
	}
	c.watches.fireAll()
	c.log.Info("catalog restored", "applied", c.progress.applied)
	c.retired.Go(func() { c.retire(old) })
	return nil
}

// retire waits for those who read the old generation and removes it.
func (c *CatalogStore) retire(old *generation) {
	old.gate.close()
	err := errors.Join(old.db.Close(), os.RemoveAll(filepath.Join(c.cfg.Dir, old.name)))
	if err != nil {
		c.log.Warn("old catalog stays until the next start", "error", err)
	}
}

// build makes a database of the snapshot and closes it, which makes it
// durable.
func (c *CatalogStore) build(name string, r io.Reader) error {
	if err := os.RemoveAll(filepath.Join(c.cfg.Dir, name)); err != nil {
		return fmt.Errorf("restore catalog: %w", err)
	}
	gen, err := c.openGeneration(name, false)
	if err != nil {
		return err
	}
	err = readSnapshot(r, func(prog progress, rows snapshotRows) error {
		ts := max(prog.applied, 1)
		wb := gen.db.NewWriteBatchAt(ts)
		defer wb.Cancel()
		counted, written := tallies{}, tallies{}
		if err := rows(func(key, value []byte) error {
			return errors.Join(collect(key, value, counted, written), wb.Set(key, value))
		}); err != nil {
			return err
		}
		if err := counted.compare(written); err != nil {
			return err
		}
		if err := wb.Set(appliedKey(), prog.encode()); err != nil {
			return err
		}
		return wb.Flush()
	})
	if err := errors.Join(err, gen.db.Close()); err != nil {
		return fmt.Errorf("restore catalog: %w", err)
	}
	return syncPath(c.cfg.Dir)
}

// snapshotRows calls fn for every row, with slices that fn may keep, and
// fails if the snapshot is not whole.
type snapshotRows func(fn func(key, value []byte) error) error

// readSnapshot reads the head of a snapshot and hands the rest to fn.
func readSnapshot(r io.Reader, fn func(progress, snapshotRows) error) error {
	in := &snapshotReader{r: bufio.NewReaderSize(r, snapshotBufferBytes), crc: crc32.New(castagnoli())}
	head := in.take(len(snapshotMagic) + 2 + 8 + 8)
	if in.err != nil {
		return in.err
	}
	le := binary.LittleEndian
	at := len(snapshotMagic)
	if string(head[:at]) != snapshotMagic || le.Uint16(head[at:]) != snapshotVersion {
		return fmt.Errorf("catalog snapshot begins with %q: %w", head[:at+2], ErrFormat)
	}
	prog := progress{applied: le.Uint64(head[at+2:]), count: le.Uint64(head[at+10:])}
	return fn(prog, func(row func(key, value []byte) error) error {
		var rows uint64
		for {
			n := in.length(kindBytes + KeyBytesMax)
			if n == 0 {
				break
			}
			key := in.take(n)
			value := in.take(in.length(catalogValueBytes))
			if in.err != nil {
				break
			}
			if err := checkSnapshotRow(key, value); err != nil {
				return err
			}
			if err := row(key, value); err != nil {
				return err
			}
			rows++
		}
		return in.end(rows)
	})
}

// checkSnapshotRow refuses what this version cannot read.
func checkSnapshotRow(key, value []byte) error {
	if len(key) >= kindBytes && key[0] == layoutVersion {
		switch key[1] {
		case kindRow:
			_, err := decodeRow(value)
			return err
		case kindTally:
			_, err := decodeTally(value)
			return err
		case kindOutcome:
			_, err := decodeOutcome(value)
			if err == nil && len(key) == kindBytes+2 &&
				binary.BigEndian.Uint16(key[kindBytes:]) < outcomesMax {
				return nil
			}
		}
	}
	return fmt.Errorf("snapshot row with key %q: %w", key, ErrFormat)
}

type snapshotReader struct {
	r   *bufio.Reader
	crc hash.Hash32
	err error
}

// take reads n bytes into a new slice; empty after an error.
func (s *snapshotReader) take(n int) []byte {
	if s.err != nil {
		return nil
	}
	p := make([]byte, n)
	if _, err := io.ReadFull(s.r, p); err != nil {
		s.fail(err)
		return nil
	}
	_, _ = s.crc.Write(p) // never fails
	return p
}

func (s *snapshotReader) fail(err error) {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = fmt.Errorf("catalog snapshot is cut short: %w", ErrCorrupt)
	}
	s.err = err
}

// length reads a length of at most limit.
func (s *snapshotReader) length(limit int) int {
	if s.err != nil {
		return 0
	}
	n, err := binary.ReadUvarint(s)
	if err == nil && n > uint64(limit) {
		err = fmt.Errorf("catalog snapshot: length %d: %w", n, ErrCorrupt)
	}
	if err != nil {
		s.fail(err)
		return 0
	}
	return int(n)
}

// ReadByte implements io.ByteReader for the lengths.
func (s *snapshotReader) ReadByte() (byte, error) {
	b, err := s.r.ReadByte()
	if err == nil {
		_, _ = s.crc.Write([]byte{b}) // never fails
	}
	return b, err
}

// end checks count and CRC behind the rows.
func (s *snapshotReader) end(rows uint64) error {
	count := s.take(8)
	want := s.crc.Sum32()
	crc := s.take(4)
	if s.err != nil {
		return s.err
	}
	if n := binary.LittleEndian.Uint64(count); n != rows {
		return fmt.Errorf("catalog snapshot says %d rows, has %d: %w", n, rows, ErrCorrupt)
	}
	if binary.LittleEndian.Uint32(crc) != want {
		return fmt.Errorf("catalog snapshot: checksum: %w", ErrCorrupt)
	}
	return nil
}
