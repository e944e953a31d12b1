package cluster

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	"github.com/hashicorp/raft-wal/types"
)

// DiskStallDefault is how long one write to the log, or one application of
// entries, may take before the node is not to lead: several elections, and
// longer than a healthy disk under load was ever seen to need.
const DiskStallDefault = 5 * time.Second

// stallLooks is how often the groups are looked at within the limit.
const stallLooks = 10

// errStalled: the disk has not finished what it was given.
var errStalled = errors.New("disk does not answer")

// A leader whose disk hangs goes on sending heartbeats: raft sends them beside
// the loop that waits for the disk, so nobody elects another leader and every
// write of the group hangs with it (hashicorp/raft#503, #666). Nothing can be
// asked of that loop either, so the watchdog works from outside: while an
// operation on the disk is older than the limit, the group's messages as leader
// are not sent. The others elect, proposals that wait here are given back to be
// tried with the next leader, and when the disk answers again this node finds
// the higher term and follows.

// stall is the watchdog of one group's disk.
type stall struct {
	limit time.Duration
	// writing and applying are since when an operation is under way, Unix
	// nanoseconds, 0 for none. Each is one at a time: raft has one loop for both.
	writing, applying atomic.Int64
	// slowest is the longest write since somebody looked, in nanoseconds.
	slowest atomic.Int64
	over    atomic.Pointer[chan struct{}] // closed when a stall begins, replaced when it ends
	count   atomic.Int64                  // stalls ever
}

func newStall(limit time.Duration) *stall {
	s := &stall{limit: limit}
	begun := make(chan struct{})
	s.over.Store(&begun)
	return s
}

// enter notes the beginning of an operation and returns what notes its end.
func (s *stall) enter(what *atomic.Int64) func() {
	begun := time.Now()
	what.Store(begun.UnixNano())
	return func() {
		what.Store(0)
		took := int64(time.Since(begun))
		for old := s.slowest.Load(); took > old && !s.slowest.CompareAndSwap(old, took); old = s.slowest.Load() {
			continue
		}
	}
}

// age is how long the oldest operation under way has taken.
func (s *stall) age(now time.Time) time.Duration {
	oldest := time.Duration(0)
	for _, what := range []*atomic.Int64{&s.writing, &s.applying} {
		if begun := what.Load(); begun != 0 {
			oldest = max(oldest, now.Sub(time.Unix(0, begun)))
		}
	}
	return oldest
}

// stalled says whether the disk hangs now.
func (s *stall) stalled() bool {
	select {
	case <-*s.over.Load():
		return true
	default:
		return false
	}
}

// begins is closed when the disk hangs.
func (s *stall) begins() <-chan struct{} { return *s.over.Load() }

// stallLoop looks at the disk under all groups.
func (n *Node) stallLoop() {
	tick := time.NewTicker(n.cfg.DiskStall / stallLooks)
	defer tick.Stop()
	for {
		select {
		case now := <-tick.C:
			for _, g := range n.groups() {
				g.stall.look(g, now)
			}
		case <-n.ctx.Done():
			return
		}
	}
}

func (s *stall) look(g *group, now time.Time) {
	age, was := s.age(now), s.stalled()
	switch {
	case age >= s.limit && !was:
		s.count.Add(1)
		close(*s.over.Load())
		g.log.Error("disk does not answer; this node gives up leading until it does", "for", age.String())
	case age == 0 && was:
		again := make(chan struct{})
		s.over.Store(&again)
		g.log.Warn("disk answers again")
	}
}

// stalledGroup is a group of this node whose disk hangs, and for how long.
func (n *Node) stalledGroup() (string, time.Duration) {
	for _, g := range n.groups() {
		if g.stall.stalled() {
			return g.name, g.stall.age(time.Now())
		}
	}
	return "", 0
}

// refusedGroup is a group of this node whose log the disk does not take, and why.
func (n *Node) refusedGroup() (string, error) {
	for _, g := range n.groups() {
		if err := g.store.Refused(); err != nil {
			return g.name, err
		}
	}
	return "", nil
}

// slowestWrite is the longest write to a log since it was last asked.
func (n *Node) slowestWrite() time.Duration {
	slowest := int64(0)
	for _, g := range n.groups() {
		slowest = max(slowest, g.stall.slowest.Swap(0), int64(g.stall.age(time.Now())))
	}
	return time.Duration(slowest)
}

// stalls counts the stalls of all groups since they were opened.
func (n *Node) stalls() float64 {
	sum := int64(0)
	for _, g := range n.groups() {
		sum += g.stall.count.Load()
	}
	return float64(sum)
}

// watched is a state machine whose applications are watched.
type watched struct {
	raft.BatchingFSM

	stall *stall
}

// ApplyBatch applies entries.
func (w watched) ApplyBatch(logs []*raft.Log) []any {
	defer w.stall.enter(&w.stall.applying)()
	return w.BatchingFSM.ApplyBatch(logs)
}

// diskFS is the file layer below a log; tests put a slow one there.
type diskFS func(group string, below types.VFS) types.VFS

func (f diskFS) of(group string, below types.VFS) types.VFS {
	if f == nil {
		return below
	}
	return f(group, below)
}

// stallError is what a message as leader fails with while the disk hangs.
func (g *group) stallError() error {
	if !g.stall.stalled() {
		return nil
	}
	return hangs(g.name)
}

func hangs(group string) error { return fmt.Errorf("group %s: %w", group, errStalled) }
