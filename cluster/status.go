package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/raft"

	"carillon/cluster/gossip"
	"carillon/cluster/placement"
)

// Ready is nil when the node can take any request, else it says why not.
func (n *Node) Ready() error {
	group, why := n.halts.any()
	stalled, stalledFor := n.stalledGroup()
	refused, refusal := n.refusedGroup()
	muted := n.mutedGroup()
	damage := n.condemned.Load()
	switch {
	case damage != nil:
		return fmt.Errorf("%s; starting again without it: %w", *damage, ErrNotReady)
	case group != "":
		return fmt.Errorf("group %s is stopped: %s: %w", group, why, ErrNotReady)
	case !n.isFormed():
		return fmt.Errorf("waiting for %d members to form the cluster: %w", n.cfg.Expect, ErrNotReady)
	case stalledFor > 0:
		return fmt.Errorf("disk of group %s does not answer for %v: %w", stalled, stalledFor.Round(time.Second),
			ErrNotReady)
	case refusal != nil:
		return fmt.Errorf("disk refuses the log of group %s, restart this node when it does not: %w: %w", refused,
			refusal, ErrNotReady)
	case muted != "":
		return fmt.Errorf("fetching the log of group %s anew after damage: %w", muted, ErrNotReady)
	case n.resync.pending.Load():
		return n.resync.why()
	case !n.caughtUp.Load():
		return fmt.Errorf("catching up with the cluster: %w", ErrNotReady)
	case n.catalog.leader() == "":
		return fmt.Errorf("group %s has no leader: %w", placement.CatalogGroup, ErrNotReady)
	}
	for _, g := range n.hosted() {
		if g.leader() == "" && slices.Contains(g.voters(), n.id) {
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
		Blobs: stats.Blobs, Bytes: stats.Bytes, Disk: n.disk.status(), Spool: n.spoolStatus(),
		Scrub: n.scrubStatus(), Groups: []GroupStatus{},
		PutAside: n.putAside(), Set: n.setStatus(), Format: n.formatStatus(), Join: n.fetching.status(time.Now()),
	}
	s.Growth = n.growth.status(s.Disk)
	if n.isFormed() {
		s.Cluster = n.charter.Cluster
	}
	if err := n.Ready(); err != nil {
		s.Ready, s.Reason = false, err.Error()
	}
	if !n.isFormed() {
		return s
	}
	s.Groups = append(s.Groups, n.catalog.status())
	for shard, g := range n.hosted() {
		gs, count := g.status(), n.blobs.Count(shard)
		gs.Blobs, gs.Bytes = count.Blobs, count.Bytes
		s.Groups = append(s.Groups, gs)
	}
	return n.withHalted(s)
}

// withHalted adds what is not hosted any more.
func (n *Node) withHalted(s NodeStatus) NodeStatus {
	for shard := range n.charter.Shards {
		if why := n.halts.of(placement.BlobGroup(shard)); why != "" {
			s.Groups = append(s.Groups, GroupStatus{
				Name: placement.BlobGroup(shard), State: "stopped", Fault: why, Members: []MemberStatus{},
			})
		}
	}
	s.Groups[0].Fault = n.halts.of(placement.CatalogGroup)
	return s
}

func (g *group) status() GroupStatus {
	s := GroupStatus{
		Name: g.name, State: "follower", Leader: g.leader(), Term: g.raft.CurrentTerm(),
		Last: g.raft.LastIndex(), Applied: g.raft.AppliedIndex(), Members: []MemberStatus{},
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
		voter := srv.Suffrage == raft.Voter
		if voter {
			s.Voters++
		}
		s.Members = append(s.Members, MemberStatus{Node: string(srv.ID), Voter: voter})
	}
	return s
}

func (n *Node) serveStatus(context.Context, string, []byte) ([]byte, error) {
	return json.Marshal(n.LocalStatus()) //nolint:wrapcheck // cannot fail
}
