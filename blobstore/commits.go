package blobstore

import (
	"fmt"
	"sync"

	"github.com/dgraph-io/badger/v4"
)

// commits numbers the commits of the blobs database and knows up to which all
// of them are there. Lanes commit at the same time, in any order: an iterator
// reads at a number below which nothing can appear any more.
type commits struct {
	mu    sync.Mutex
	moved sync.Cond           // of mu: done grew
	ts    uint64              // the last one given; guarded by mu
	done  uint64              // all up to this one have ended; guarded by mu
	early map[uint64]struct{} // have ended beyond done; guarded by mu
}

func newCommits(ts uint64) *commits {
	c := &commits{ts: ts, done: ts, early: make(map[uint64]struct{})}
	c.moved.L = &c.mu
	return c
}

func (c *commits) begin() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ts++
	return c.ts
}

// end waits until all commits up to ts have ended, and returns up to which they
// have. Those before ts are on their way and wait for nobody.
func (c *commits) end(ts uint64) uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.early[ts] = struct{}{}
	grown := false
	for {
		if _, ok := c.early[c.done+1]; !ok {
			break
		}
		c.done++
		delete(c.early, c.done)
		grown = true
	}
	if grown {
		c.moved.Broadcast()
	}
	for c.done < ts {
		c.moved.Wait()
	}
	return c.done
}

// commit writes a transaction of a caller who has the turn of what it changes.
// When it returns, iterators see it.
func (s *Store) commit(txn *badger.Txn) error {
	ts := s.commits.begin()
	err := txn.CommitAt(ts, nil)
	s.readers.commit(s.db, s.commits.end(ts))
	if err != nil {
		return fmt.Errorf("write blobs database: %w", err)
	}
	return nil
}
