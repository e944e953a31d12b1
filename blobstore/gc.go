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
	// gcSmallFiles may lie beside one another, of a sixteenth of what a file may have;
	// each start begins a file. A raft log's are larger.
	gcSmallFiles = 8
	gcSmallShare = 16
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
		return s.collectOld()
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
type fileUse struct {
	rows  int
	bytes int64
}

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
	rows, cut, err := s.livingRows(ctx, victims)
	if err != nil {
		return 0, false, err
	}
	for _, file := range victims { // one at a time, so that a full disk has room for it
		err := s.moveRows(ctx, rows[file])
		if errors.Is(err, ErrCorrupt) {
			s.log.Warn("row cannot be moved, its value-log file stays", "file", file, "error", err)
			stuck[file] = true
			continue
		}
		if err == nil && errMismatch.seen.Load() != seen {
			err = errDoubted
		}
		if err != nil {
			return removed, false, err
		}
		if cut[file] {
			continue
		}
		if err := s.values.remove(file); err != nil {
			return removed, false, err
		}
		removed++
	}
	return removed, len(victims) > 0, nil
}

// worthIt chooses files by how much of them lives, the emptiest first, as many as
// may be moved at a time.
func (s *Store) worthIt(sizes map[uint32]int64, use map[uint32]fileUse, stuck map[uint32]bool) []uint32 {
	var chosen, small []uint32
	for file, size := range sizes {
		switch {
		case stuck[file]:
		case float64(use[file].bytes) <= gcLiveShare*float64(size):
			chosen = append(chosen, file)
		case size < s.cfg.ValueLogFileBytes/gcSmallShare:
			small = append(small, file)
		}
	}
	if len(small) > gcSmallFiles {
		chosen = append(chosen, small...)
	}
	slices.SortFunc(chosen, func(a, b uint32) int { return cmp.Compare(use[a].bytes, use[b].bytes) })
	rows := 0
	for i, file := range chosen {
		if rows += use[file].rows; i > 0 && rows > s.collect.rowsMax {
			return chosen[:i]
		}
	}
	return chosen
}

// countRows counts what lives in each file.
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

// livingRows lists the rows that live in files, as many as may be moved at a time; a file
// that has more is cut.
func (s *Store) livingRows(ctx context.Context, files []uint32) (
	rows map[uint32][]rowRef, cut map[uint32]bool, err error,
) {
	rows, cut = make(map[uint32][]rowRef, len(files)), make(map[uint32]bool)
	wanted := make(map[uint32]bool, len(files)) // there may be thousands, of millions of rows
	for _, file := range files {
		wanted[file] = true
	}
	n := 0
	for row, err := range s.longRows(ctx) {
		switch {
		case err != nil:
			return nil, nil, err
		case !wanted[row.at.file]:
		case n == s.collect.rowsMax:
			cut[row.at.file] = true
		default:
			row.key = slices.Clone(row.key)
			rows[row.at.file] = append(rows[row.at.file], row)
			n++
		}
	}
	return rows, cut, nil
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
	for item, err := range each(it, it.Rewind) {
		var row rowRef
		var long bool
		if err = errors.Join(err, ctx.Err()); err == nil {
			row, long, err = longRow(item)
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

// longRow says where in the value log a row is, if it is there.
func longRow(item *badger.Item) (rowRef, bool, error) {
	row := rowRef{key: item.Key()}
	if item.ValueSize() >= storeValueThreshold {
		return row, false, nil // in Badger's own
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

// moveRows writes rows of a file anew. When it returns the file is not needed for
// them.
func (s *Store) moveRows(ctx context.Context, rows []rowRef) error {
	copies, err := s.copyRows(ctx, rows)
	if err != nil {
		return err
	}
	for i, row := range rows {
		if err := s.movePlace(row, copies[i]); err != nil {
			return err
		}
	}
	return s.sync()
}

// copyRows appends rows as they are, durably: what is damaged stays so, and is
// repaired where it is then. No place may go into the tree before, which could reach
// the disk ahead of the bytes: other than of what Apply writes there is no second copy
// of them in the raft log.
func (s *Store) copyRows(ctx context.Context, rows []rowRef) ([]place, error) {
	copies := make([]place, len(rows))
	buf := take(&s.buffers.chunk)
	defer s.buffers.chunk.Put(buf)
	for i, row := range rows {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		data := (*buf)[:row.at.n]
		if err := s.values.read(row.at.file, row.at.off, data); err != nil {
			return nil, err
		}
		file, off, err := s.values.append(data)
		if err != nil {
			return nil, err
		}
		copies[i] = newPlace(row.at.head(), file, off, len(data))
	}
	return copies, s.values.sync()
}

// movePlace says where a row is now, unless it is another one by now.
func (s *Store) movePlace(row rowRef, to place) error {
	id, err := keyID(row.key)
	if err != nil {
		return err
	}
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
	if err := txn.Set(row.key, to.encode()); err != nil {
		return fmt.Errorf("write blobs database: %w", err)
	}
	return s.commit(txn)
}

// collectOld gives back what was removed of the rows in Badger's own value log, from
// before there was ours, as Badger finds out when it merges tables. It deletes a file
// as soon as what lived in it was written elsewhere, which need not be durable, but
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
