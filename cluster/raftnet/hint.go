package raftnet

import (
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// hintLinger is how long a commit waits for the next message to a follower to
// carry it, before it is sent by itself. Under load there always is one.
const hintLinger = time.Millisecond

// hints tells followers of commits at once. Raft tells them with the next
// entries, or after CommitTimeout; a short timeout costs messages for ever, on
// every group, with nothing to say. So the timeout is long, and the leader sends
// an AppendEntries without entries when it has applied something that a
// follower holds and has not been told of.
//
// Such a message is one that raft could have sent: it names the last entry the
// follower acknowledged in this term, and a position not beyond it that is
// committed. Both stay true whatever happens later, and a follower that has
// moved on to another term refuses it.
type hints struct {
	send hintSender

	mu        sync.Mutex
	followers map[raft.ServerID]*follower // guarded by mu
	applied   uint64                      // guarded by mu: by this node
	leads     func() bool

	wake   chan struct{}
	closed chan struct{}
	wg     sync.WaitGroup
}

// hintSender sends one AppendEntries to a follower.
type hintSender func(raft.ServerID, *raft.AppendEntriesRequest) (*raft.AppendEntriesResponse, error)

// follower is what the leader knows of one, from its answers in one term.
type follower struct {
	header  raft.RPCHeader
	term    uint64
	last    uint64 // the newest entry it acknowledged
	lastOf  uint64 // and the term of that entry
	told    uint64 // the commit position it was told
	telling bool   // a hint is on its way
}

func newHints(send hintSender) *hints {
	h := &hints{
		send: send, followers: make(map[raft.ServerID]*follower),
		wake: make(chan struct{}, 1), closed: make(chan struct{}),
		leads: func() bool { return false },
	}
	h.wg.Go(h.run)
	return h
}

// start is given who may say whether this node leads, once raft runs.
func (h *hints) start(leads func() bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.leads = leads
}

// leading says whether this node leads.
func (h *hints) leading() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.leads()
}

// acked is the newest entry that a follower has acknowledged, 0 if unknown.
func (h *hints) acked(id raft.ServerID) uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	if f := h.followers[id]; f != nil {
		return f.last
	}
	return 0
}

// acknowledged notes what a follower's success means.
func (h *hints) acknowledged(id raft.ServerID, r *raft.AppendEntriesRequest) {
	f := &follower{header: r.RPCHeader, term: r.Term, last: r.PrevLogEntry, lastOf: r.PrevLogTerm}
	if n := len(r.Entries); n > 0 {
		f.last, f.lastOf = r.Entries[n-1].Index, r.Entries[n-1].Term
	} else if r.PrevLogEntry == 0 {
		return // a heartbeat: it says nothing of the log
	}
	f.told = min(r.LeaderCommitIndex, f.last)
	h.mu.Lock()
	defer h.mu.Unlock()
	old := h.followers[id]
	if old != nil && old.term == f.term {
		if old.last > f.last {
			f.last, f.lastOf = old.last, old.lastOf
		}
		f.told, f.telling = max(f.told, old.told), old.telling
	}
	h.followers[id] = f
	if min(h.applied, f.last) > f.told {
		h.signal()
	}
}

// advance notes that this node has applied a position.
func (h *hints) advance(index uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.applied = max(h.applied, index)
	h.signal()
}

func (h *hints) signal() {
	select {
	case h.wake <- struct{}{}:
	default: // it is awake already
	}
}

func (h *hints) run() {
	linger := time.NewTimer(hintLinger)
	defer linger.Stop()
	for {
		select {
		case <-h.wake:
		case <-h.closed:
			return
		}
		linger.Reset(hintLinger)
		select {
		case <-linger.C:
		case <-h.closed:
			return
		}
		h.tell()
	}
}

// tell sends what followers have not been told; one message at a time to each.
func (h *hints) tell() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.leads() {
		clear(h.followers)
		return
	}
	for id, f := range h.followers {
		to := min(h.applied, f.last)
		if f.telling || to <= f.told {
			continue
		}
		f.telling = true
		req := &raft.AppendEntriesRequest{
			RPCHeader: f.header, Term: f.term, PrevLogEntry: f.last, PrevLogTerm: f.lastOf, LeaderCommitIndex: to,
		}
		h.wg.Go(func() { h.tellOne(id, f.term, to, req) })
	}
}

func (h *hints) tellOne(id raft.ServerID, term, to uint64, req *raft.AppendEntriesRequest) {
	resp, err := h.send(id, req)
	h.mu.Lock()
	defer h.mu.Unlock()
	f := h.followers[id]
	if f == nil || f.term != term {
		return
	}
	f.telling = false
	if err == nil && resp.Success {
		f.told = max(f.told, to)
	}
	if err == nil && min(h.applied, f.last) > f.told {
		h.signal()
	}
}

// close ends run and waits for messages on their way.
func (h *hints) close() {
	close(h.closed)
	h.wg.Wait()
}
