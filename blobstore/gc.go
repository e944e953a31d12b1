package blobstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"

	"github.com/dgraph-io/badger/v4"
)

const (
	// gcLiveShare is how much of a value-log file may live when it is collected.
	// Half: a byte is copied at most once for a byte freed.
	gcLiveShare = 0.5
	// gcSmallFiles may lie beside one another, of a quarter of what a file may have;
	// each start begins a file.
	gcSmallFiles = 8
	// gcRowsMax bounds the rows that are moved before the next look at the tree: 16
	// MiB of memory, and files of at least 400 MiB.
	gcRowsMax = 100_000
)

// errDoubted ends a collection: what the tree does not name may yet be in it.
var errDoubted = errors.New("a table is damaged, nothing is collected")

// collection is the state of RunGC.
type collection struct {
	mu      sync.Mutex // one at a time
	counted bool       // the value log was looked through since the start, guarded by mu
	rowsMax int        // gcRowsMax; tests have less
}

// RunGC moves what lives out of value-log files that are mostly garbage and removes
// them, until none is worth it. It returns ctx.Err() when ctx ends first.
//
// Which rows live the tree alone knows, and it is asked each time: there are no
// counters that a crash could leave wrong.
func (s *Store) RunGC(ctx context.Context) error {
	if err := s.gate.enter(); err != nil {
		return err
	}
	defer s.gate.leave()
	s.collect.mu.Lock()
	defer s.collect.mu.Unlock()
	garbage := s.garbage.Load()
	if s.collect.counted && garbage < s.cfg.ValueLogFileBytes/2 {
		return nil
	}
	before, files := s.values.bytes(), 0
	stuck := make(map[uint32]bool)
	for {
		n, more, err := s.collectSome(ctx, stuck)
		if err != nil {
			return fmt.Errorf("value-log gc: %w", err)
		}
		files += n
		if !more {
			break
		}
	}
	s.collect.counted = true
	s.garbage.Add(-garbage)
	if files > 0 {
		s.log.Info("value log collected", "files", files, "reclaimed_bytes", before-s.values.bytes())
	}
	return s.collectOld()
}

// fileUse is what lives in a value-log file.
type fileUse struct{ rows, bytes int64 }

// rowRef is a row that is to be moved.
type rowRef struct {
	key []byte
	at  place
}

// collectSome collects the files that are worth it most, and says how many it removed
// and whether to go on. Files that a row cannot be taken out of become stuck.
func (s *Store) collectSome(ctx context.Context, stuck map[uint32]bool) (removed int, more bool, err error) {
	seen, doubted := s.trust.doubted()
	if doubted {
		return 0, false, errDoubted
	}
	sizes := s.values.finished()
	s.lanes.haveAllTurns() // rows in them that were on their way have come into the tree
	use, err := s.countRows(ctx)
	if err != nil {
		return 0, false, err
	}
	victims := s.worthIt(sizes, use, stuck)
	if use[0].rows > 0 && !stuck[0] {
		victims[0] = true
	}
	if len(victims) == 0 {
		return 0, false, nil
	}
	if err := s.moveRows(ctx, victims, stuck); err != nil {
		return 0, false, err
	}
	if err := s.sync(); err != nil {
		return 0, false, err
	}
	if errMismatch.seen.Load() != seen {
		return 0, false, errDoubted
	}
	for file, whole := range victims {
		if file == 0 || stuck[file] || !whole {
			continue
		}
		if err := s.values.remove(file); err != nil {
			return removed, false, err
		}
		removed++
	}
	return removed, true, nil
}

// worthIt chooses files by how much of them lives, the emptiest first, as many as
// may be moved at a time.
func (s *Store) worthIt(
	sizes map[uint32]int64, use map[uint32]fileUse, stuck map[uint32]bool,
) map[uint32]bool {
	var chosen, small []uint32
	for file, size := range sizes {
		switch {
		case stuck[file]:
		case float64(use[file].bytes) <= gcLiveShare*float64(size):
			chosen = append(chosen, file)
		case size < s.cfg.ValueLogFileBytes/4:
			small = append(small, file)
		}
	}
	if len(small) > gcSmallFiles {
		chosen = append(chosen, small...)
	}
	slices.SortFunc(chosen, func(a, b uint32) int { return cmp.Compare(use[a].bytes, use[b].bytes) })
	victims, rows := make(map[uint32]bool), int64(0)
	for _, file := range chosen {
		if rows += use[file].rows; rows > int64(s.collect.rowsMax) && len(victims) > 0 {
			break
		}
		victims[file] = true
	}
	return victims
}

// countRows counts what lives in each file; number 0 is the value log of Badger,
// from before there was ours.
func (s *Store) countRows(ctx context.Context) (map[uint32]fileUse, error) {
	use := make(map[uint32]fileUse)
	for row, err := range s.longRows(ctx) {
		if err != nil {
			return nil, err
		}
		u := use[row.at.file]
		use[row.at.file] = fileUse{u.rows + 1, u.bytes + int64(row.at.n)}
	}
	return use, nil
}

// longRows yields the rows that are not in the tree. A key is valid until the next.
func (s *Store) longRows(ctx context.Context) iter.Seq2[rowRef, error] {
	return func(yield func(rowRef, error) bool) {
		ts := s.readers.begin()
		defer s.readers.end(ts)
		txn := s.db.NewTransactionAt(ts, false)
		defer txn.Discard()
		for _, kind := range []byte{kindChunk, kindPiece} {
			if !longRowsOf(ctx, txn, kind, yield) {
				return
			}
		}
	}
}

func longRowsOf(ctx context.Context, txn *badger.Txn, kind byte, yield func(rowRef, error) bool) bool {
	it := txn.NewIterator(badger.IteratorOptions{Prefix: kindKey(kind, kindBytes)})
	defer it.Close()
	for it.Rewind(); it.Valid(); it.Next() {
		row, long, err := longRow(it.Item())
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			yield(rowRef{}, err)
			return false
		}
		if long && !yield(row, nil) {
			return false
		}
	}
	return true
}

// longRow says where a row is, if it is not in the tree.
func longRow(item *badger.Item) (rowRef, bool, error) {
	row := rowRef{key: item.Key()}
	if n := item.ValueSize(); n >= storeValueThreshold {
		row.at.n = int(n)
		return row, true, nil
	}
	err := item.Value(func(value []byte) error {
		var err error
		row.at, err = decodePlace(value)
		return err
	})
	if err != nil {
		return row, false, fmt.Errorf("place of a row: %w", err)
	}
	return row, row.at.size > 0, nil
}

// moveRows writes the rows of the victims anew, as they are: what is damaged stays
// so, and is repaired where it is then. Victims of more rows than are moved at a time
// become false.
func (s *Store) moveRows(ctx context.Context, victims, stuck map[uint32]bool) error {
	var rows []rowRef
	for row, err := range s.longRows(ctx) {
		if err != nil {
			return err
		}
		if _, ok := victims[row.at.file]; !ok {
			continue
		}
		if len(rows) == s.collect.rowsMax {
			victims[row.at.file] = false
			continue
		}
		row.key = slices.Clone(row.key)
		rows = append(rows, row)
	}
	for _, row := range rows {
		if err := ctx.Err(); err != nil {
			return err
		}
		err := s.moveRow(row)
		if errors.Is(err, ErrCorrupt) {
			s.log.Warn("row cannot be moved, its value-log file stays", "file", row.at.file, "error", err)
			stuck[row.at.file] = true
			continue
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// moveRow writes a row anew unless it is another one by now.
func (s *Store) moveRow(row rowRef) error {
	id, err := keyID(row.key)
	if err != nil {
		return err
	}
	buf := take(&s.buffers.row)
	defer s.buffers.row.Put(buf)
	turn := &s.lanes.of(id).turn
	turn.Lock()
	defer turn.Unlock()
	txn := s.db.NewTransactionAt(newest, true)
	defer txn.Discard()
	item, err := lookUp(txn, row.key)
	if errors.Is(err, badger.ErrKeyNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look up row: %w", err)
	}
	now, long, err := longRow(item)
	if err != nil || !long || now.at != row.at {
		return err
	}
	return s.rewrite(txn, item, now.at, *buf)
}

func (s *Store) rewrite(txn *badger.Txn, item *badger.Item, at place, buf []byte) error {
	head, data, err := s.parts(item, at, buf)
	if err != nil {
		return err
	}
	if err := s.setRow(txn, item.KeyCopy(nil), head, data, item.UserMeta()); err != nil {
		return err
	}
	return s.commit(txn)
}

// parts reads a row that is not in the tree; buf is a full row long.
func (s *Store) parts(item *badger.Item, at place, buf []byte) (head, data []byte, err error) {
	if at.file != 0 {
		data = buf[:at.n]
		return at.head(), data, s.values.read(at.file, at.off, data)
	}
	row, err := item.ValueCopy(buf)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", err, ErrCorrupt)
	}
	return splitRow(item.Key()[1], row)
}

// collectOld gives back what Badger's own value log held before there was ours, as
// Badger finds out what is garbage in it; its newest file stays. It deletes a file as
// soon as what lived in it was written elsewhere, which need not be durable, but
// waits for open iterators.
func (s *Store) collectOld() error {
	for s.old && !s.gate.isClosed() {
		err := s.collectOldFile()
		if errors.Is(err, badger.ErrNoRewrite) || errors.Is(err, badger.ErrRejected) {
			return nil // nothing left, or somebody else is at it
		}
		if err != nil {
			return fmt.Errorf("value-log gc: %w", err)
		}
	}
	return nil
}

func (s *Store) collectOldFile() error {
	txn := s.db.NewTransactionAt(newest, false)
	defer txn.Discard()
	it := txn.NewIterator(badger.IteratorOptions{Prefix: kindKey(kindChunk, kindBytes)})
	defer it.Close() // deletes the file
	if err := s.db.RunValueLogGC(gcLiveShare); err != nil {
		return err
	}
	return s.sync()
}
