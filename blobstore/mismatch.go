package blobstore

import (
	"fmt"
	"iter"
	"runtime"
	"runtime/debug"
	"sync/atomic"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/y"
)

// Badger checks a block of a table each time it reads one, and then keeps what it
// found to itself: its iterators end there as if the table did, also those of a
// compaction, which then deletes the table for good. The only thing that happens
// at such a block is that the error is put into words. So that error is ours, and
// counts how often that is; who reads looks at the count before it believes what
// it was told. See DESIGN.md, "Damage".

// mismatches stands for Badger's own error and counts its uses.
type mismatches struct {
	error

	seen atomic.Uint64
}

// Error implements error.
func (m *mismatches) Error() string {
	m.seen.Add(1)
	return m.error.Error()
}

// errMismatch is what Badger says of a block that does not match its checksum, in
// any database of this process.
var errMismatch = countMismatches()

// countMismatches puts our error in the place of Badger's, before any of its code
// runs.
func countMismatches() *mismatches {
	m := &mismatches{error: y.ErrChecksumMismatch}
	y.ErrChecksumMismatch = m //nolint:reassign,gocritic // what this file is about
	return m
}

// trust is up to which mismatch of the process a database was found whole.
type trust struct {
	seen atomic.Uint64
}

// renew says that the database was looked at after so many mismatches.
func (t *trust) renew(seen uint64) { t.seen.Store(seen) }

// doubted says whether there was a mismatch since.
func (t *trust) doubted() (seen uint64, yes bool) {
	seen = errMismatch.seen.Load()
	return seen, seen != t.seen.Load()
}

// lookUp is txn.Get. Badger believes the numbers in a block before it has checked
// them: one that points out of the block ends in a panic. So does one that the disk
// cannot read, as tables are mapped.
func lookUp(txn *badger.Txn, key []byte) (item *badger.Item, err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() { err = badBlock(recover(), err) }()
	return txn.Get(key)
}

// step moves an iterator, as lookUp looks.
func step(move func()) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() { err = badBlock(recover(), err) }()
	move()
	return nil
}

// each yields what an iterator finds, from where start moves it to, to its end or an
// error.
func each(it *badger.Iterator, start func()) iter.Seq2[*badger.Item, error] {
	return func(yield func(*badger.Item, error) bool) {
		for err := step(start); ; err = step(it.Next) {
			if err != nil {
				yield(nil, err)
				return
			}
			if !it.Valid() || !yield(it.Item(), nil) {
				return
			}
		}
	}
}

// badBlock turns a panic of Badger at a damaged block into ErrCorrupt, and counts
// it; any other goes on.
func badBlock(p any, err error) error {
	if p == nil {
		return err
	}
	if _, ok := p.(runtime.Error); !ok {
		panic(p)
	}
	errMismatch.seen.Add(1)
	return fmt.Errorf("a block of a table: %w: %v", ErrCorrupt, p)
}
