package blobstore

import (
	"math/bits"
	"sync"
)

// laneCount is how many turns there are: writers of different blobs meet
// seldom, and every one fits into the bits of a laneSet.
const laneCount = 32

// lane is the turn of the blobs whose ids fall into it: Apply, the merger, and
// the repairs take it for what they read, change and commit. No reader waits for
// more than one commit of it.
type lane struct {
	// turn guards the order of a blob's writes and is held over them, because
	// taking turns at the disk is all it is for. Whoever takes several takes
	// them in ascending order.
	turn sync.Mutex
	// open are the meta rows of live blobs that grow, so that an append need
	// not look up what it wrote a moment ago; guarded by turn.
	open map[ID]*meta
}

type lanes [laneCount]lane

// laneSet has a bit for each lane that is in it.
type laneSet uint32

// allLanes is every lane.
const allLanes = laneSet(1<<laneCount - 1)

func laneOf(id ID) int { return ShardOf(id, laneCount) }

// lanesOf are the lanes of what ops change.
func lanesOf(ops []Op) (set laneSet) {
	for i := range ops {
		set |= laneSet(1) << laneOf(ops[i].ID)
	}
	return set
}

// take waits for the turn of each lane of the set.
func (l *lanes) take(set laneSet) {
	for ; set != 0; set &= set - 1 {
		l[bits.TrailingZeros32(uint32(set))].turn.Lock()
	}
}

// leave gives the turns of a set back.
func (l *lanes) leave(set laneSet) {
	for ; set != 0; set &= set - 1 {
		l[bits.TrailingZeros32(uint32(set))].turn.Unlock()
	}
}

// of is the lane of a blob.
func (l *lanes) of(id ID) *lane { return &l[laneOf(id)] }

// haveTurn waits for the commit that is changing a blob.
func (l *lanes) haveTurn(id ID) {
	turn := &l.of(id).turn
	turn.Lock()
	turn.Unlock() //nolint:gocritic,staticcheck // to have had the turn is all it wants
}

// haveAllTurns waits for the commits that are running.
func (l *lanes) haveAllTurns() {
	for i := range l {
		l[i].turn.Lock()
		l[i].turn.Unlock() //nolint:gocritic,staticcheck // as in haveTurn
	}
}

// remember keeps the meta row of a live blob that grows at hand; the caller has
// the turn, as for recall and forget.
func (l *lanes) remember(id ID, m *meta) {
	a := l.of(id)
	if _, ok := a.open[id]; !ok && len(a.open) >= openMax/laneCount {
		return
	}
	if a.open == nil {
		a.open = make(map[ID]*meta)
	}
	a.open[id] = m
}

// recall is the meta row of a live blob if it is at hand.
func (l *lanes) recall(id ID) *meta { return l.of(id).open[id] }

// forget drops the meta row of a blob.
func (l *lanes) forget(id ID) { delete(l.of(id).open, id) }

// forgetAll drops the meta rows of a set of lanes.
func (l *lanes) forgetAll(set laneSet) {
	for ; set != 0; set &= set - 1 {
		clear(l[bits.TrailingZeros32(uint32(set))].open)
	}
}
