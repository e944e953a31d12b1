package blobstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/fb"
	"github.com/dgraph-io/badger/v4/pb"
	"github.com/dgraph-io/badger/v4/table"
	"github.com/dgraph-io/badger/v4/y"
	"google.golang.org/protobuf/proto"
)

// What Badger's VerifyChecksum is for, without Badger: that believes the numbers in a
// block before it has compared the block with its checksum, panics if one of them
// points out of it, and follows a nil pointer to report one that does not match.
//
// A table is a row of blocks and their index. Both end with a checksum of what is
// before it and that checksum's length; the index has its own length in between.
// Lengths are 4 bytes, big endian. Source: badger/v4, table/builder.go.

// tableFooterMax bounds what a table's footer may claim: an index has some 100 bytes
// for a block of 4 KiB.
const tableFooterMax = 1 << 30

// checkTable reads the index of a table and each of its blocks. ErrCorrupt: one of
// them is not what was written.
func checkTable(name string) error {
	f, err := os.Open(name) //nolint:gosec // below our own directory
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	if err != nil {
		return fmt.Errorf("check: %w", err)
	}
	defer func() { _ = f.Close() }() // it was only read
	raw, err := readIndex(f)
	if err != nil {
		return err
	}
	index := fb.GetRootAsTableIndex(raw, 0)
	var at fb.BlockOffset
	var block []byte
	for i := range index.OffsetsLength() {
		index.Offsets(&at, i)
		block = slices.Grow(block[:0], int(at.Len()))[:at.Len()]
		if _, err := f.ReadAt(block, int64(at.Offset())); err != nil {
			return fmt.Errorf("block %d: %w", i, unreadable(err))
		}
		if err := checkBlock(block); err != nil {
			return fmt.Errorf("block %d at %d: %w", i, at.Offset(), err)
		}
	}
	return nil
}

// checkIndex reads only the index.
func checkIndex(name string) error {
	f, err := os.Open(name) //nolint:gosec // below our own directory
	if err != nil {
		return fmt.Errorf("check: %w", err)
	}
	defer func() { _ = f.Close() }() // it was only read
	_, err = readIndex(f)
	return err
}

// readIndex reads the index of a table, which is as it was written.
func readIndex(f *os.File) ([]byte, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("check: %w", err)
	}
	end := info.Size()
	take := func(n int64) []byte {
		if err != nil || n < 0 || n > tableFooterMax || n > end {
			err = errors.Join(err, fmt.Errorf("footer of %d bytes at %d: %w", n, end, ErrCorrupt))
			return make([]byte, lengthBytes)
		}
		p := make([]byte, n)
		end -= n
		if _, rerr := f.ReadAt(p, end); rerr != nil {
			err = unreadable(rerr)
		}
		return p
	}
	length := func() int64 { return int64(binary.BigEndian.Uint32(take(lengthBytes))) }
	sum := take(length())
	index := take(length())
	if err == nil && len(index) < lengthBytes {
		err = fmt.Errorf("no index: %w", ErrCorrupt)
	}
	if err == nil {
		err = compareChecksum(index, sum)
	}
	if err != nil {
		return nil, fmt.Errorf("index: %w", err)
	}
	return index, nil
}

// lengthBytes is the size of a length in a table.
const lengthBytes = 4

func checkBlock(block []byte) error {
	end := len(block) - lengthBytes
	if end < 0 {
		return fmt.Errorf("of %d bytes: %w", len(block), ErrCorrupt)
	}
	n := int64(binary.BigEndian.Uint32(block[end:]))
	if n > int64(end) {
		return fmt.Errorf("checksum of %d bytes: %w", n, ErrCorrupt)
	}
	sumAt := end - int(n)
	return compareChecksum(block[:sumAt], block[sumAt:end])
}

// compareChecksum compares data with a checksum in the form of Badger.
func compareChecksum(data, raw []byte) error {
	var sum pb.Checksum
	if err := proto.Unmarshal(raw, &sum); err != nil {
		return fmt.Errorf("checksum: %w: %w", ErrCorrupt, err)
	}
	if sum.GetAlgo() != pb.Checksum_CRC32C { // y.VerifyChecksum panics at what it does not know
		return fmt.Errorf("checksum of kind %d: %w", sum.GetAlgo(), ErrCorrupt)
	}
	if err := y.VerifyChecksum(data, &sum); err != nil {
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return nil
}

// unreadable says that what a file should hold is gone: it ends too early, or the disk
// cannot read it any more.
func unreadable(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, syscall.EIO) {
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return fmt.Errorf("check: %w", err)
}

// checkTables reads every index and block of the tables in use.
func checkTables(db *badger.DB) error { return eachTable(db, checkTable) }

// checkIndexes reads the indexes of the tables in use, which Badger checks when it
// opens a table and never again.
func checkIndexes(db *badger.DB) error { return eachTable(db, checkIndex) }

func eachTable(db *badger.DB, check func(name string) error) error {
	ids, err := tablesInUse(db)
	for id := range ids {
		name := table.NewFilename(id, db.Opts().Dir)
		if err = check(name); err == nil {
			continue
		}
		now, lerr := tablesInUse(db)
		if _, still := now[id]; lerr == nil && !still {
			err = nil // a compaction has deleted it
			continue
		}
		err = fmt.Errorf("table %s: %w", filepath.Base(name), err)
		break
	}
	if errors.Is(err, ErrCorrupt) {
		errMismatch.seen.Add(1)
	}
	return err
}

// manifestTries is how often the list of tables is read before it is damaged: Badger may
// write at its end at this moment.
const manifestTries = 3

// tablesInUse reads the list of tables. What Badger can say of them it takes from their
// mapped indexes, with a lock in its hand: it may never give it back.
func tablesInUse(db *badger.DB) (ids map[uint64]badger.TableManifest, err error) {
	opts := db.Opts()
	for range manifestTries {
		var f *os.File
		f, err = os.Open(filepath.Join(opts.Dir, badger.ManifestFilename))
		if err != nil {
			break
		}
		m, _, rerr := badger.ReplayManifestFile(f, opts.ExternalMagicVersion, opts)
		_ = f.Close() // it was only read
		if err = rerr; err == nil {
			return m.Tables, nil
		}
	}
	pathErr, system := errors.AsType[*fs.PathError](err)
	if system && !errors.Is(pathErr, syscall.EIO) && !errors.Is(pathErr, fs.ErrNotExist) {
		return nil, fmt.Errorf("check: %w", err)
	}
	return nil, fmt.Errorf("%s: %w: %w", badger.ManifestFilename, ErrCorrupt, err)
}
