package blobstore

import (
	"context"
	"errors"
	"fmt"

	"github.com/dgraph-io/badger/v4"
)

// gcDiscardRatio is the share of a value-log file that must be garbage before
// it is rewritten. Half: a byte is copied at most once for a byte freed.
const gcDiscardRatio = 0.5

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
	_, before := s.db.Size()
	files := 0
	for ctx.Err() == nil && !s.gate.isClosed() {
		err := s.collectFile()
		if errors.Is(err, badger.ErrNoRewrite) {
			break
		}
		if err != nil {
			return fmt.Errorf("value-log gc: %w", err)
		}
		files++
	}
	if files > 0 {
		_, after := s.db.Size()
		s.log.Info("value log collected", "files", files, "bytes_before", before, "bytes_after", after)
	}
	return ctx.Err()
}

func (s *Store) collectFile() error {
	txn := s.db.NewTransactionAt(newest, false)
	defer txn.Discard()
	it := txn.NewIterator(badger.IteratorOptions{Prefix: kindKey(0, kindBytes)})
	defer it.Close() // deletes the file
	if err := s.db.RunValueLogGC(gcDiscardRatio); err != nil {
		return err
	}
	return s.sync()
}
