package cluster

import (
	"errors"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

const (
	// snapshotCheckWait is how often a group looks whether it has applied
	// enough since its last snapshot.
	snapshotCheckWait = 5 * time.Second
	// A group that has been quiet for a minute gives its log back if that is
	// worth a snapshot; a node whose disk is full needs it sooner.
	snapshotQuietTicks    = 12
	snapshotQuietBytesMin = 8 << 20
	snapshotShortBytesMin = 1 << 20
	// trailingBytesMax is how much log stays behind a snapshot, so that a
	// follower that was away for a moment needs no snapshot. Raft can only
	// count entries, so the number is worked out from the sizes seen.
	trailingBytesMax = 32 << 20
	// trailingEntriesMin is the least that stays, however large entries are.
	trailingEntriesMin = 64
	// trailingEntriesMax is the most, however small: memory of trailing.
	trailingEntriesMax = 16 << 10
)

// trailing remembers the sizes of the newest entries, to know how many of them
// make trailingBytesMax.
type trailing struct {
	mu    sync.Mutex
	sizes []int32 // guarded by mu: a ring
	next  int     // guarded by mu
}

func (t *trailing) add(bytes int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.sizes) < trailingEntriesMax {
		t.sizes = append(t.sizes, int32(bytes))
		return
	}
	t.sizes[t.next] = int32(bytes)
	t.next = (t.next + 1) % trailingEntriesMax
}

// entries is how many of the newest entries make at most trailingBytesMax.
func (t *trailing) entries() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	sum, n := 0, 0
	for n < len(t.sizes) && sum < trailingBytesMax {
		i := t.next - 1 - n
		if len(t.sizes) < trailingEntriesMax {
			i = len(t.sizes) - 1 - n
		}
		sum += int(t.sizes[(i+trailingEntriesMax)%trailingEntriesMax])
		n++
	}
	return max(uint64(n), trailingEntriesMin)
}

// countApplied is called by the state machine for each command.
func (g *group) countApplied(index uint64, bytes int) {
	g.position.Store(index)
	g.transport.Advance(index)
	g.applied.Add(int64(bytes))
	g.trailing.add(bytes)
}

// snapshotLoop takes a snapshot whenever more than maxBytes of commands were
// applied since the last one. It counts bytes: with entries from 100 bytes to
// 256 KiB, any number of entries is either too few or gigabytes.
func (g *group) snapshotLoop(maxBytes int64, full func() bool) {
	tick := time.NewTicker(snapshotCheckWait)
	defer tick.Stop()
	var quiet int
	var last int64
	for {
		select {
		case <-g.closed:
			return
		case <-tick.C:
		}
		applied := g.applied.Load()
		if quiet++; applied != last {
			quiet, last = 0, applied
		}
		short := full != nil && full()
		switch {
		case applied >= maxBytes && applied >= g.lastSnapshotBytes(),
			applied >= snapshotQuietBytesMin && quiet >= snapshotQuietTicks,
			applied >= snapshotShortBytesMin && short:
			g.snapshot(short)
			quiet, last = 0, g.applied.Load()
		}
	}
}

// lastSnapshotBytes is the size of the newest snapshot: writing as much again
// is worth it only when the log has grown as much. A catalog of a million
// documents would else be written for every thousand uploads.
func (g *group) lastSnapshotBytes() int64 {
	list, err := g.snapshots.List()
	if err != nil || len(list) == 0 {
		return 0
	}
	return list[0].Size
}

func (g *group) snapshot(short bool) {
	before := g.applied.Load()
	trailing := g.trailing.entries()
	if short {
		trailing = trailingEntriesMin
	}
	if err := g.raft.ReloadConfig(raft.ReloadableConfig{
		TrailingLogs:      trailing,
		SnapshotInterval:  time.Hour,
		SnapshotThreshold: neverEntries,
		HeartbeatTimeout:  g.raft.ReloadableConfig().HeartbeatTimeout,
		ElectionTimeout:   g.raft.ReloadableConfig().ElectionTimeout,
	}); err != nil {
		g.log.Error("trailing log not set", "error", err)
	}
	err := g.raft.Snapshot().Error()
	switch {
	case errors.Is(err, raft.ErrNothingNewToSnapshot), err == nil:
		g.applied.Add(-before)
	case errors.Is(err, raft.ErrRaftShutdown):
	default:
		g.log.Error("snapshot failed", "error", err)
	}
}
