package cluster

import (
	"context"
	"encoding/binary"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"carillon/cluster/placement"
	"carillon/cluster/wire"
)

// When the process of a leader dies, its machine closes its connections and
// refuses new ones at once, while raft waits for the silence to last: 0.75 to
// 2.25 seconds at an election timeout of 750 ms. A follower that loses a
// connection with its leader therefore looks whether the leader's port refuses,
// asks the other voters to look for themselves, and stands for election when a
// majority sees the same. A leader that is slow, stopped or cut off refuses
// nothing, so a loaded disk causes no election here, and where the port is
// only blocked for some, the others disagree. The vote itself is raft's own.

const (
	// lostQueueMax: ends of connections that wait to be looked at. Each tells of
	// one node, and what is dropped will be told again by the next.
	lostQueueMax = 64
	// refusedWait bounds the look at a port and the question to the others. It
	// is a round trip and a dial; who takes longer has not seen it refused.
	refusedWait = 250 * time.Millisecond
	// refusedTries and refusedPause: what was not answered in time is asked
	// again; after that raft's own timer is as fast.
	refusedTries = 3
	refusedPause = 50 * time.Millisecond
	// standWait is how much later the next voter stands if the one before it
	// was not elected: a vote costs two fsyncs, and two who stand together may
	// split the votes, which costs an election timeout.
	standWait = 200 * time.Millisecond
)

// lostPeer is told by the link of each connection that ended. It never waits.
func (n *Node) lostPeer(id string) {
	select {
	case n.lost <- id:
	default: // the next one tells of it again
	}
}

// takeoverLoop looks at nodes that were lost, one after the other.
func (n *Node) takeoverLoop() {
	for {
		select {
		case id := <-n.lost:
			n.checkLost(id)
		case <-n.ctx.Done():
			return
		}
	}
}

// groupsLedBy are the groups here whose leader, as far as this node knows, is id.
func (n *Node) groupsLedBy(id string) []*group {
	return slices.DeleteFunc(n.groups(), func(g *group) bool { return g.leader() != id })
}

// checkLost stands for election in the groups that a dead node led. The others
// may be slow to say what they see, on machines that have much to do: it asks
// again as long as nobody else leads.
func (n *Node) checkLost(id string) {
	if id == n.id {
		return
	}
	for try := range refusedTries {
		led := n.groupsLedBy(id)
		if len(led) == 0 || try > 0 && !pause(n.ctx, refusedPause) {
			return
		}
		if n.standFor(id, led) {
			return
		}
	}
}

// standFor says whether the matter is settled: the node does not refuse, or a
// majority in each group has seen that it does.
func (n *Node) standFor(id string, led []*group) bool {
	ctx, cancel := context.WithTimeout(n.ctx, refusedWait)
	defer cancel()
	if !n.link.Refused(ctx, id) {
		return true
	}
	seen := n.askRefused(ctx, id, led)
	settled := true
	for _, g := range led {
		rank, agreed := g.rankAfter(id, n.id, seen)
		settled = settled && agreed
		if rank >= 0 && agreed {
			n.log.Info("leader is gone", "group", g.name, "leader", id, "rank", rank)
			n.wg.Go(func() { g.standAfter(n.ctx, id, time.Duration(rank)*standWait) })
		}
	}
	return settled
}

// positions are the newest log entries of a node, by group.
type positions map[string]uint64

// askRefused asks the other voters whether they see the node refuse too, and
// returns the positions of those that do, this node's own included.
func (n *Node) askRefused(ctx context.Context, id string, led []*group) map[string]positions {
	var mu sync.Mutex
	seen := map[string]positions{n.id: n.positions(led)}
	asked := map[string]bool{n.id: true, id: true}
	var wg sync.WaitGroup
	for _, g := range led {
		for _, voter := range g.voters() {
			if asked[voter] {
				continue
			}
			asked[voter] = true
			wg.Go(func() {
				b, err := n.link.Call(ctx, voter, kindRefused, []byte(id))
				if err != nil || len(b) == 0 || b[0] != 1 {
					return
				}
				d := wire.NewDecoder(b[1:])
				theirs := positions{}
				for d.More() {
					name := d.Text()
					theirs[name] = d.Uvarint()
				}
				mu.Lock()
				defer mu.Unlock()
				seen[voter] = theirs
			})
		}
	}
	wg.Wait()
	return seen
}

func (n *Node) positions(groups []*group) positions {
	p := make(positions, len(groups))
	for _, g := range groups {
		p[g.name] = g.raft.LastIndex()
	}
	return p
}

// serveRefused looks at another node's port for a voter that lost it.
func (n *Node) serveRefused(ctx context.Context, _ string, req []byte) ([]byte, error) {
	if id := string(req); id == n.id || !n.link.Refused(ctx, id) {
		return []byte{0}, nil
	}
	b := []byte{1}
	for _, g := range n.groups() {
		b = binary.AppendUvarint(wire.AppendText(b, g.name), g.raft.LastIndex())
	}
	return b, nil
}

// rankAfter is whose turn this node is to lead after the one that died: 0 is
// the first, -1 never. A majority must have seen the death, else it is not agreed.
// The voter with the longest log is first, since the others would not vote for a
// shorter one.
func (g *group) rankAfter(dead, self string, seen map[string]positions) (rank int, agreed bool) {
	voters := g.voters()
	if !slices.Contains(voters, self) {
		return -1, true
	}
	agree := slices.DeleteFunc(slices.Clone(voters), func(v string) bool { return seen[v] == nil || v == dead })
	if len(agree) <= len(voters)/2 {
		return -1, false
	}
	slices.SortStableFunc(agree, func(a, b string) int {
		if pa, pb := seen[a][g.name], seen[b][g.name]; pa != pb {
			if pa > pb {
				return -1
			}
			return 1
		}
		return placement.CompareScore(g.name, a, b)
	})
	return slices.Index(agree, self), true
}

// voters are the ids of the group's voting members.
func (g *group) voters() []string {
	var ids []string
	for _, s := range g.raft.GetConfiguration().Configuration().Servers {
		if s.Suffrage == raft.Voter {
			ids = append(ids, string(s.ID))
		}
	}
	return ids
}

// standAfter makes this node stand for election unless another one leads by
// then. Raft is told what a leader tells the one it hands over to: it asks for
// votes at once, and the others give them although they still know a leader.
func (g *group) standAfter(ctx context.Context, dead string, wait time.Duration) {
	if wait > 0 && !pause(ctx, wait) {
		return
	}
	if l := g.leader(); l != dead && l != "" || g.raft.State() == raft.Leader {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, refusedWait)
	defer cancel()
	self := []byte(g.transport.LocalAddr())
	header := raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: self, Addr: self}
	stand := &raft.TimeoutNowRequest{RPCHeader: header}
	if _, err := g.transport.Ask(ctx, raft.RPC{Command: stand}); err != nil {
		g.log.Info("could not stand for election", "error", err)
	}
}

// turns tells those who wait for a leader that there may be another one.
type turns struct {
	seen chan raft.Observation

	mu   sync.Mutex
	next chan struct{} // guarded by mu: closed at the next change
}

// turnsQueueMax: changes are rare, and one wakes everybody.
const turnsQueueMax = 4

func (t *turns) observe(r *raft.Raft) {
	t.seen, t.next = make(chan raft.Observation, turnsQueueMax), make(chan struct{})
	r.RegisterObserver(raft.NewObserver(t.seen, false, func(o *raft.Observation) bool {
		_, ok := o.Data.(raft.LeaderObservation)
		return ok
	}))
}

func (t *turns) tell() {
	t.mu.Lock()
	defer t.mu.Unlock()
	close(t.next)
	t.next = make(chan struct{})
}

func (t *turns) changed() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.next
}

// pauseForLeader waits for d, or until a group of this node has another leader;
// false when ctx ended.
func (n *Node) pauseForLeader(ctx context.Context, name string, d time.Duration) bool {
	var changed <-chan struct{}
	if g := n.group(name); g != nil {
		changed = g.turns.changed()
		if d > retryWaitMin && g.leader() != "" {
			d = min(d, retryWaitMax/4) // it may be known here and not there
		}
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-changed:
		return true
	case <-ctx.Done():
		return false
	}
}
