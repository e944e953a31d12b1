package blobstore

import (
	"slices"
	"sync"
)

// setHistoryMax is how many past tallies are remembered, so that nodes can be
// compared at a position that the slowest of them has reached. At 100 commits
// a second it is 40 seconds; one takes 64 bytes.
const setHistoryMax = 4096

// setHistory knows what all rows came to at the newest positions.
type setHistory struct {
	mu   sync.Mutex
	past []setAt // in order of their positions; guarded by mu
	now  setAt   // guarded by mu
}

type setAt struct {
	position uint64
	tally    Tally
}

// reset forgets everything but the present.
func (h *setHistory) reset(at setAt) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.past, h.now = append(h.past[:0], at), at
}

// add notes what came of the entries of a batch, and how far it went.
func (h *setHistory) add(news []setAt, position uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(news) > 0 {
		h.now.tally = news[len(news)-1].tally
		h.past = append(h.past, news...)
		if len(h.past) > 2*setHistoryMax {
			h.past = slices.Delete(h.past, 0, len(h.past)-setHistoryMax)
		}
	}
	h.now.position = position
}

func (h *setHistory) at(position uint64) (Tally, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if position > h.now.position {
		return Tally{}, false
	}
	i, exact := slices.BinarySearchFunc(h.past, position, func(s setAt, p uint64) int {
		switch {
		case s.position < p:
			return -1
		case s.position > p:
			return 1
		}
		return 0
	})
	if exact {
		return h.past[i].tally, true
	}
	if i == 0 {
		return Tally{}, false
	}
	return h.past[i-1].tally, true
}

func (h *setHistory) present() setAt {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.now
}

// Set is what all rows come to, and the log position that this is true at.
func (c *CatalogStore) Set() (Tally, uint64) {
	now := c.history.present()
	return now.tally, now.position
}

// SetAt is what all rows came to at a log position that was passed not long
// ago; false if it was not reached yet, or is not remembered any more.
func (c *CatalogStore) SetAt(position uint64) (Tally, bool) { return c.history.at(position) }
