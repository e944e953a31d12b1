package blobstore

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/dgraph-io/badger/v4"
)

const (
	// gcDiscardRatio is the share of a value-log file that must be garbage
	// before it is rewritten. Half: a byte is copied at most once for a byte
	// freed.
	gcDiscardRatio = 0.5
	// kindFiller are rows that fill a memtable, see settle.
	kindFiller = 'g'
	// fillerRowBytes stays below the value threshold, fillerBatchRows below
	// what a transaction takes.
	fillerRowBytes  = storeValueThreshold - 512
	fillerBatchRows = 64
	// settleRounds is how many memtables it takes at most until the first
	// merge: one more than levelZeroTables.
	settleRounds = levelZeroTables + 1
	// flushPoll is how often the flush of a memtable is looked for.
	flushPoll = 20 * time.Millisecond
)

// RunGC rewrites value-log files until none is worth it. It returns ctx.Err()
// when ctx ends first; a file that was begun is finished.
//
// Badger deletes a file as soon as what lived in it was written elsewhere,
// which without SyncWrites is not yet durable. It waits, however, for open
// iterators; so one is kept open until the new copies are synced.
func (s *Store) RunGC(ctx context.Context) error {
	if err := s.gate.enter(); err != nil {
		return err
	}
	defer s.gate.leave()
	before, err := s.valueLogBytes()
	if err != nil {
		return err
	}
	if garbage := s.garbage.Swap(0); garbage >= s.cfg.ValueLogFileBytes/2 {
		if err := s.settle(ctx); err != nil {
			s.garbage.Add(garbage)
			return err
		}
	} else {
		s.garbage.Add(garbage)
	}
	files := 0
	for ctx.Err() == nil && !s.gate.isClosed() {
		err := s.collectFile()
		if errors.Is(err, badger.ErrNoRewrite) || errors.Is(err, badger.ErrRejected) {
			break // nothing left, or somebody else is at it
		}
		if err != nil {
			return fmt.Errorf("value-log gc: %w", err)
		}
		files++
	}
	after, err := s.valueLogBytes()
	if err != nil {
		return err
	}
	if files > 0 {
		s.log.Info("value log collected", "files", files, "reclaimed_bytes", before-after)
	}
	return ctx.Err()
}

func (s *Store) collectFile() error {
	txn := s.db.NewTransactionAt(newest, false)
	defer txn.Discard()
	it := txn.NewIterator(badger.IteratorOptions{Prefix: kindKey(kindFiller, kindBytes)})
	defer it.Close() // deletes the file
	if err := s.db.RunValueLogGC(gcDiscardRatio); err != nil {
		return err
	}
	return s.sync()
}

// valueLogBytes is what the value log takes on disk now; Badger's own count
// is a minute old.
func (s *Store) valueLogBytes() (int64, error) {
	entries, err := os.ReadDir(s.cfg.Dir)
	if err != nil {
		return 0, fmt.Errorf("value-log gc: %w", err)
	}
	var total int64
	for _, e := range entries {
		if filepath.Ext(e.Name()) != ".vlog" {
			continue
		}
		if info, err := e.Info(); err == nil { // gone meanwhile: no bytes
			total += info.Size()
		}
	}
	return total, nil
}

// settle makes Badger find out what is garbage. It counts that when it merges
// tables, and with rows as small as ours a memtable of deletions may take
// months to fill: so it is filled up with rows that mean nothing, which costs
// a few writes and no reader a stall, as its own way (DropPrefix) would.
func (s *Store) settle(ctx context.Context) error {
	for range settleRounds {
		if err := s.rotateMemtable(ctx); err != nil {
			return err
		}
		s.readers.release(s.db)
		if err := s.db.Flatten(1); err != nil {
			return fmt.Errorf("value-log gc: %w", err)
		}
		for _, l := range s.db.Levels() {
			if l.Level > 0 && l.NumTables > 0 {
				return nil
			}
		}
	}
	return nil
}

// rotateMemtable writes filler until the memtable in use is another one, and
// waits until the old one is flushed.
func (s *Store) rotateMemtable(ctx context.Context) error {
	first, _, err := s.memtableFiles()
	if err != nil {
		return err
	}
	batches := s.cfg.MemtableBytes/(fillerRowBytes*fillerBatchRows) + 1
	for n := range batches {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := s.writeFiller(n); err != nil {
			return err
		}
		if last, _, err := s.memtableFiles(); err != nil || last != first {
			break // an error comes again below
		}
	}
	tick := time.NewTicker(flushPoll)
	defer tick.Stop()
	for {
		_, count, err := s.memtableFiles()
		if err != nil || count <= 1 {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// memtableFiles returns the name of the newest write-ahead file and how many
// there are.
func (s *Store) memtableFiles() (last string, count int, err error) {
	entries, err := os.ReadDir(s.cfg.Dir)
	if err != nil {
		return "", 0, fmt.Errorf("value-log gc: %w", err)
	}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".mem") {
			last, count = max(last, e.Name()), count+1
		}
	}
	return last, count, nil
}

// writeFiller writes a batch of filler and deletes it again. It needs no turn:
// nobody else has such rows, and what two collections leave is the same.
func (s *Store) writeFiller(batch int64) error {
	value := make([]byte, fillerRowBytes)
	for _, write := range []bool{true, false} {
		txn := s.db.NewTransactionAt(newest, true)
		for n := range int64(fillerBatchRows) {
			key := binary.BigEndian.AppendUint64(kindKey(kindFiller, kindBytes+8),
				uint64(batch*fillerBatchRows+n))
			err := txn.Delete(key)
			if write {
				err = txn.Set(key, value)
			}
			if err != nil {
				txn.Discard()
				return fmt.Errorf("value-log gc: %w", err)
			}
		}
		if err := s.commit(txn); err != nil {
			return err
		}
	}
	return nil
}
