package blobstore

import (
	"context"
	"sync"
	"testing"
)

// TestAppliedIsListed lets many apply at the same time and lists all blobs after
// each: what was applied must be there, whatever else is on its way, since a
// manifest is such a list.
func TestAppliedIsListed(t *testing.T) {
	s, err := OpenStore(StoreConfig{Dir: t.TempDir()}, quiet())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	const writers, rounds = 8, 20
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for n := range rounds {
				p := randomBytes(uint64(w*rounds+n), 5<<10)
				a, b := NewID(), NewID() // of two lanes, nearly always
				for _, err := range s.Apply([]Op{
					{Kind: OpPut, ID: a, Data: p, Totals: TotalsOf(p)},
					{Kind: OpPut, ID: b, Data: p, Totals: TotalsOf(p)},
				}) {
					if err != nil {
						t.Error(err)
					}
				}
				seen := 0
				for info, err := range s.Blobs(context.Background()) {
					if err != nil {
						t.Error(err)
					}
					if info.ID == a || info.ID == b {
						seen++
					}
				}
				if seen != 2 {
					t.Errorf("writer %d, round %d: %d of 2 blobs are listed", w, n, seen)
				}
			}
		})
	}
	wg.Wait()
	if got := s.Stats().Blobs; got != 2*writers*rounds {
		t.Errorf("%d blobs, want %d", got, 2*writers*rounds)
	}
}

// TestCommitsEndInOrder ends commits in another order than they began: each
// return says that all before it have ended.
func TestCommitsEndInOrder(t *testing.T) {
	c := newCommits(7)
	first, second, third := c.begin(), c.begin(), c.begin()
	ended := make(chan uint64, 2)
	go func() { ended <- c.end(third) }()
	go func() { ended <- c.end(second) }()
	if got := c.end(first); got < first {
		t.Errorf("the first ended at %d, want %d at least", got, first)
	}
	for range 2 {
		if got := <-ended; got < second {
			t.Errorf("ended at %d while %d was on its way", got, second)
		}
	}
	if c.done != third || len(c.early) != 0 {
		t.Errorf("done %d with %d early, want %d", c.done, len(c.early), third)
	}
}
