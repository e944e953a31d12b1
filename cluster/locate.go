package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"carillon/cluster/placement"
	"carillon/cluster/wire"
)

// locateWait bounds one look for a group's leader: a round trip to nodes that
// are well; those that are not are not waited for longer than an election.
const locateWait = 700 * time.Millisecond

// groupView is what a member says of its group.
type groupView struct {
	Leader   string   `json:"leader"` // "" if unknown
	Term     uint64   `json:"term"`
	Voters   []string `json:"voters"`
	Learners []string `json:"learners,omitempty"` // members without a vote
	// Index is how far the leader has applied, Position the last command among
	// that, and Whole whether each member has everything; only a leader that a
	// majority follows says so.
	Index    uint64 `json:"index,omitempty"`
	Position uint64 `json:"position,omitempty"`
	Whole    bool   `json:"whole,omitempty"`
}

func (v groupView) members() []string { return slices.Concat(v.Voters, v.Learners) }

// located remembers where the groups were that this node is no member of.
type located struct {
	mu sync.Mutex
	m  map[string]groupView // guarded by mu
}

func (l *located) get(group string) (groupView, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	v, ok := l.m[group]
	return v, ok
}

func (l *located) set(group string, v groupView) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.m == nil {
		l.m = make(map[string]groupView)
	}
	l.m[group] = v
}

// view is what this member knows of its group.
func (g *group) view() groupView {
	v := groupView{Leader: g.leader(), Term: g.raft.CurrentTerm()}
	for _, s := range g.raft.GetConfiguration().Configuration().Servers {
		if s.Suffrage == raft.Voter {
			v.Voters = append(v.Voters, string(s.ID))
		} else {
			v.Learners = append(v.Learners, string(s.ID))
		}
	}
	return v
}

// verified is what the leader of the group says, after a majority has agreed
// that it leads.
func (g *group) verified() (groupView, error) {
	if err := g.verifyLeads(); err != nil {
		return groupView{}, err
	}
	v := g.view()
	v.Position, v.Index, v.Whole = g.position.Load(), g.raft.AppliedIndex(), true
	for _, id := range v.members() {
		v.Whole = v.Whole && g.hasAll(id)
	}
	return v, nil
}

// hasAll says whether a member holds about all that this leader has. A member
// that has acknowledged nothing has nothing, however short the log is: it may
// still be restoring a snapshot, and with a vote it would stop the group.
func (g *group) hasAll(id string) bool {
	acked := g.transport.Acked(raft.ServerID(id))
	return raft.ServerAddress(id) == g.transport.LocalAddr() ||
		acked != 0 && acked+balanceLagMax >= g.raft.LastIndex()
}

// serveGroup tells what this node knows of a group: with the flag, only if it
// leads it.
func (n *Node) serveGroup(_ context.Context, _ string, req []byte) ([]byte, error) {
	d := wire.NewDecoder(req)
	name, verify := d.Text(), d.Bool()
	if err := d.End(); err != nil {
		return nil, err
	}
	g := n.group(name)
	if g == nil {
		return nil, errBehind
	}
	v := g.view()
	if verify {
		var err error
		if v, err = g.verified(); err != nil {
			return nil, err
		}
	}
	return json.Marshal(v) //nolint:wrapcheck // cannot fail
}

// askGroup asks one node.
func (n *Node) askGroup(ctx context.Context, node, name string, verify bool) (groupView, error) {
	if n.unheard.has(node) {
		return groupView{}, errBehind // it may lead what the group was before
	}
	b, err := n.link.Call(ctx, node, kindGroup, append(wire.AppendText(nil, name), wire.Flag(verify)))
	if err != nil {
		return groupView{}, err //nolint:wrapcheck // sentinels of blobstore or peer
	}
	var v groupView
	if err := json.Unmarshal(b, &v); err != nil {
		return groupView{}, fmt.Errorf("view of group %s: %w", name, wire.ErrMalformed)
	}
	return v, nil
}

// verifiedView is what the leader of a group says of it.
func (n *Node) verifiedView(ctx context.Context, name string) (groupView, error) {
	ctx, cancel := context.WithTimeout(ctx, locateWait)
	defer cancel()
	if g := n.group(name); g != nil && g.leads() {
		return g.verified()
	}
	lead := n.leaderOf(ctx, name, 0)
	if lead == "" {
		return groupView{}, errNotLeader
	}
	v, err := n.askGroup(ctx, lead, name, true)
	if err != nil {
		n.located.set(name, groupView{}) // look again at the next try
	}
	return v, err
}

// locate finds a group that this node is no member of: it asks those that are
// or may be members, all at once, and then everybody. The newest term wins.
func (n *Node) locate(ctx context.Context, name string) groupView {
	ctx, cancel := context.WithTimeout(ctx, locateWait)
	defer cancel()
	last, _ := n.located.get(name)
	first := slices.Concat(last.members(), n.wanted(name))
	slices.Sort(first)
	best := n.newestView(ctx, name, slices.Compact(first))
	if best.Leader == "" {
		var all []string
		for _, m := range n.gossip.Members() {
			if m.Alive && !slices.Contains(first, m.ID) {
				all = append(all, m.ID)
			}
		}
		if v := n.newestView(ctx, name, all); v.Leader != "" || best.Term == 0 {
			best = v
		}
	}
	if best.Term != 0 {
		n.located.set(name, best)
	}
	return best
}

// newestView asks nodes and returns the answer of the newest term, with a
// leader if there is one: as soon as one names a leader that confirms it.
func (n *Node) newestView(ctx context.Context, name string, nodes []string) groupView {
	var mu sync.Mutex
	var best groupView
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for _, id := range nodes {
		if id == n.id {
			continue
		}
		wg.Go(func() {
			v, err := n.askGroup(ctx, id, name, false)
			if err != nil {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			if v.Term > best.Term || v.Term == best.Term && best.Leader == "" {
				best = v
			}
			if v.Leader == id {
				cancel() // the leader itself: nobody knows better
			}
		})
	}
	wg.Wait()
	return best
}

// knownLeader is who leads a group as far as this node knows, "" if nobody.
func (n *Node) knownLeader(name string) string {
	if g := n.group(name); g != nil {
		return g.leader()
	}
	v, _ := n.located.get(name)
	return v.Leader
}

// wanted are the nodes that are to be members of a group.
func (n *Node) wanted(name string) []string {
	p := n.placed.Load()
	if name == placement.CatalogGroup {
		return p.Voters
	}
	return p.Groups[name]
}

// members are the ids of a group's members, as far as this node knows.
func (n *Node) members(name string) []string {
	if g := n.group(name); g != nil {
		// A member that begins with a snapshot has no configuration before it
		// has restored it, and an old one if it was away; but it has a leader.
		v := g.view()
		if v.Leader != "" && !slices.Contains(v.members(), v.Leader) {
			return append(v.members(), v.Leader)
		}
		if len(v.Voters) > 0 {
			return v.members()
		}
	}
	if v, ok := n.located.get(name); ok && v.Term != 0 {
		return v.members()
	}
	return n.wanted(name)
}
