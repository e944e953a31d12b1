package raftnet

import (
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// beat makes the heartbeats of all groups of a node go out at the same moments:
// multiples of a fifth of the election timeout. Raft sends each follower of
// each group a heartbeat of its own, at random times, so an idle node of nine
// groups woke up some hundred times a second to send one and again for its
// answer. Together they share the wake-up, the system call and the packet.
//
// Raft waits one to two tenths of the timeout between heartbeats, so the next
// multiple is where the longest of these waits ends: none comes later than
// without this.
type beat struct {
	every  time.Duration
	closed <-chan struct{}

	mu      sync.Mutex
	asking  int           // guarded by mu: who wants an answer now
	waiting chan struct{} // guarded by mu: closed when somebody asks, nil if none waits
}

// beatsPerElection: raft's heartbeat loop waits two tenths of the election
// timeout at most.
const beatsPerElection = 5

// beatLate is the part of every by which a heartbeat may miss its moment and
// still go at once.
const beatLate = 8

// isHeartbeat says whether raft's heartbeat loop made this message.
func isHeartbeat(r *raft.AppendEntriesRequest) bool {
	return r.PrevLogEntry == 0 && r.LeaderCommitIndex == 0 && len(r.Entries) == 0
}

// wait returns when a heartbeat may go out.
func (b *beat) wait() {
	left := b.left(time.Now())
	if left == 0 {
		return
	}
	b.mu.Lock()
	if b.asking > 0 {
		b.mu.Unlock()
		return
	}
	if b.waiting == nil {
		b.waiting = make(chan struct{})
	}
	asked := b.waiting
	b.mu.Unlock()
	t := time.NewTimer(left)
	defer t.Stop()
	select {
	case <-t.C:
	case <-asked:
	case <-b.closed:
	}
}

// left is the time from now to the next moment, none if one was just now.
func (b *beat) left(now time.Time) time.Duration {
	if b.every <= 0 {
		return 0
	}
	since := time.Duration(now.UnixNano() % int64(b.every))
	if since <= b.every/beatLate {
		return 0
	}
	return b.every - since
}

// ask lets heartbeats go at once until done is called: a reader waits to hear
// that this node leads still.
func (b *beat) ask() (done func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.asking++
	if b.waiting != nil {
		close(b.waiting)
		b.waiting = nil
	}
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.asking--
	}
}
