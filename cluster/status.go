package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"carillon/cluster/gossip"
)

// NodeStatus is what one node says of itself.
type NodeStatus struct {
	ID      string        `json:"id"`
	Cluster string        `json:"cluster"`
	Version string        `json:"version"`
	Zone    string        `json:"zone,omitempty"`
	Peer    string        `json:"peer"`
	HTTP    string        `json:"http"`
	Shout   string        `json:"shout"`
	Alive   bool          `json:"alive"`
	Ready   bool          `json:"ready"`
	Reason  string        `json:"reason,omitempty"` // why it is not ready
	Applied uint64        `json:"applied"`          // catalog log position
	Blobs   int64         `json:"blobs"`
	Bytes   int64         `json:"bytes"`
	Disk    DiskStatus    `json:"disk"`
	Groups  []GroupStatus `json:"groups"`
}

// GroupStatus is one node's view of a Raft group.
type GroupStatus struct {
	Name    string `json:"name"`
	State   string `json:"state"` // leader, follower, candidate
	Leader  string `json:"leader"`
	Term    uint64 `json:"term"`
	Last    uint64 `json:"last_index"`
	Applied uint64 `json:"applied_index"`
	Voters  int    `json:"voters"`
}

// Status is the cluster as seen from one node.
type Status struct {
	Node    string       `json:"node"` // who answers
	Cluster string       `json:"cluster"`
	Nodes   []NodeStatus `json:"nodes"`
}

// Ready is nil when the node can take any request, else it says why not.
func (n *Node) Ready() error {
	switch {
	case !n.isFormed():
		return fmt.Errorf("waiting for %d members to form the cluster: %w", n.cfg.Expect, ErrNotReady)
	case !n.caughtUp.Load():
		return fmt.Errorf("catching up with the cluster: %w", ErrNotReady)
	case n.catalog.leader() == "":
		return fmt.Errorf("group %s has no leader: %w", catalogGroup, ErrNotReady)
	}
	for _, g := range n.hosted() {
		if g.leader() == "" {
			return fmt.Errorf("group %s has no leader: %w", g.name, ErrNotReady)
		}
	}
	return nil
}

// Gone says whether a node has been away according to gossip. A node that
// gossip never heard of is gone too.
func (n *Node) Gone(id string) bool {
	m, ok := n.gossip.Member(id)
	return !ok || !m.Alive
}

// Members are the nodes that gossip knows, this one included.
func (n *Node) Members() []gossip.Member { return n.gossip.Members() }

func (n *Node) groups() []*group {
	if !n.isFormed() {
		return nil
	}
	out := []*group{n.catalog}
	for _, g := range n.hosted() {
		out = append(out, g)
	}
	return out
}

func (n *Node) groupsLed() int {
	led := 0
	for _, g := range n.groups() {
		if g.leads() {
			led++
		}
	}
	return led
}

// LocalStatus is what this node says of itself.
func (n *Node) LocalStatus() NodeStatus {
	self, _ := n.gossip.Member(n.id)
	stats := n.blobs.Stats()
	s := NodeStatus{
		ID: n.id, Version: n.cfg.Version, Zone: n.cfg.Zone, Peer: self.Peer, HTTP: n.cfg.HTTPURL,
		Shout: n.cfg.ShoutHost, Alive: true, Ready: true, Applied: n.rows.Applied(),
		Blobs: stats.Blobs, Bytes: stats.Bytes, Disk: n.disk.status(), Groups: []GroupStatus{},
	}
	if n.isFormed() {
		s.Cluster = n.charter.Cluster
	}
	if err := n.Ready(); err != nil {
		s.Ready, s.Reason = false, err.Error()
	}
	for _, g := range n.groups() {
		s.Groups = append(s.Groups, g.status())
	}
	return s
}

func (g *group) status() GroupStatus {
	s := GroupStatus{
		Name: g.name, State: "follower", Leader: g.leader(), Term: g.raft.CurrentTerm(),
		Last: g.raft.LastIndex(), Applied: g.raft.AppliedIndex(),
	}
	switch g.raft.State() {
	case raft.Leader:
		s.State = "leader"
	case raft.Candidate:
		s.State = "candidate"
	case raft.Follower:
	case raft.Shutdown:
		s.State = "shutdown"
	}
	for _, srv := range g.raft.GetConfiguration().Configuration().Servers {
		if srv.Suffrage == raft.Voter {
			s.Voters++
		}
	}
	return s
}

func (n *Node) serveStatus(context.Context, string, []byte) ([]byte, error) {
	return json.Marshal(n.LocalStatus()) //nolint:wrapcheck // cannot fail
}

// statusWait bounds how long a status waits for a node that does not answer.
const statusWait = 2 * time.Second

// Status asks every node what it says of itself. A node that does not answer
// is listed as gossip last knew it.
func (n *Node) Status(ctx context.Context) Status {
	ctx, cancel := context.WithTimeout(ctx, statusWait)
	defer cancel()
	members := n.gossip.Members()
	out := Status{Node: n.id, Nodes: make([]NodeStatus, len(members))}
	var wg sync.WaitGroup
	for i, m := range members {
		wg.Go(func() { out.Nodes[i] = n.statusOf(ctx, m) })
	}
	wg.Wait()
	if n.isFormed() {
		out.Cluster = n.charter.Cluster
	}
	return out
}

func (n *Node) statusOf(ctx context.Context, m gossip.Member) NodeStatus {
	if m.ID == n.id {
		return n.LocalStatus()
	}
	s := NodeStatus{
		ID: m.ID, Cluster: m.Cluster, Version: m.Version, Zone: m.Zone, Peer: m.Peer, HTTP: m.HTTP,
		Shout: m.Shout, Alive: m.Alive, Reason: "does not answer", Groups: []GroupStatus{},
	}
	b, err := n.link.Call(ctx, m.ID, kindStatus)
	if err != nil {
		return s
	}
	var answered NodeStatus
	if err := json.Unmarshal(b, &answered); err != nil {
		s.Reason = "answers nonsense"
		return s
	}
	answered.Alive = m.Alive
	return answered
}
