package cluster

import (
	"cmp"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"carillon/blobstore"
	"carillon/cluster/gossip"
	"carillon/cluster/placement"
	"carillon/cluster/wire"
)

const (
	// statusWait bounds how long a status waits for a node that does not answer.
	statusWait = 2 * time.Second
	// holdsLagMax is how many entries a replica may be behind its leader and
	// still count as one that holds everything: the nodes are asked one after
	// the other, while writes go on.
	holdsLagMax = 64
)

// Status asks every node what it says of itself and puts the answers together.
// A node that does not answer is listed as gossip last knew it.
func (n *Node) Status(ctx context.Context) Status {
	ctx, cancel := context.WithTimeout(ctx, statusWait)
	defer cancel()
	members := n.gossip.Members()
	out := Status{Node: n.id, Nodes: make([]NodeStatus, len(members)), Placement: []PlacementStatus{}}
	each(members, func(i int, m gossip.Member) { out.Nodes[i] = n.statusOf(ctx, m) })
	if !n.isFormed() {
		return out
	}
	n.addStanding(ctx, &out)
	out.Cluster = n.charter.Cluster
	out.lags()
	out.Position = out.comparable()
	each(out.Nodes, func(i int, s NodeStatus) { out.Nodes[i].Set = n.setOf(ctx, s, out.Position) })
	out.compare()
	out.place(n.charter.Shards, n.charter.Replicas)
	return out
}

// addStanding adds what the catalog says of the nodes, also of those that gossip
// does not know or has forgotten: they still have a place.
func (n *Node) addStanding(ctx context.Context, out *Status) {
	rows, _, err := n.nodeRows(ctx)
	if err != nil {
		n.log.Warn("status without the wishes of the operator", "error", err)
		return
	}
	for i := range out.Nodes {
		s := &out.Nodes[i]
		row, known := rows[s.ID]
		delete(rows, s.ID)
		if s.State = "joining"; known {
			s.State, s.Weight = string(row.State), row.Weight
		}
	}
	for _, id := range slices.Sorted(maps.Keys(rows)) {
		out.Nodes = append(out.Nodes, NodeStatus{
			ID: id, Cluster: n.charter.Cluster, Zone: rows[id].Zone, State: string(rows[id].State),
			Weight: rows[id].Weight, Reason: noAnswer, Groups: []GroupStatus{},
		})
	}
}

// each calls fn for all elements at once and waits.
func each[T any](all []T, fn func(i int, v T)) {
	var wg sync.WaitGroup
	for i, v := range all {
		wg.Go(func() { fn(i, v) })
	}
	wg.Wait()
}

func (n *Node) statusOf(ctx context.Context, m gossip.Member) NodeStatus {
	if m.ID == n.id {
		return n.LocalStatus()
	}
	s := NodeStatus{
		ID: m.ID, Cluster: m.Cluster, Version: m.Version, Zone: m.Zone, Peer: m.Peer, HTTP: m.HTTP,
		Shout: m.Shout, Alive: m.Alive, Reason: noAnswer, Groups: []GroupStatus{},
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

// noAnswer is the reason of a node that says nothing of itself.
const noAnswer = "does not answer"

func (s *NodeStatus) answered() bool { return s.Alive && len(s.Groups) > 0 }

// setStatus is what this node's catalog comes to now.
func (n *Node) setStatus() SetStatus {
	tally, position := n.rows.Set()
	s := setOf(tally, position)
	s.Checked, s.Fault = n.setCheck.result()
	return s
}

func setOf(t blobstore.Tally, position uint64) SetStatus {
	return SetStatus{Position: position, Items: t.Items, Bytes: t.Bytes, Rows: t.Rows, Root: t.Sum.String()}
}

// setOf is what a node's catalog came to at the position, if it knows.
func (n *Node) setOf(ctx context.Context, s NodeStatus, position uint64) SetStatus {
	if !s.answered() || s.Set.Position == position {
		return s.Set
	}
	set := s.Set
	if s.ID == n.id {
		if tally, ok := n.rows.SetAt(position); ok {
			set = setOf(tally, position)
		}
	} else {
		req := binary.BigEndian.AppendUint64(nil, position)
		if b, err := n.link.Call(ctx, s.ID, kindSet, req); err == nil {
			_ = json.Unmarshal(b, &set) // what cannot be read leaves the node out of the comparison
		}
	}
	set.Checked, set.Fault = s.Set.Checked, s.Set.Fault
	return set
}

// serveSet says what the catalog came to at a position.
func (n *Node) serveSet(_ context.Context, _ string, req []byte) ([]byte, error) {
	if len(req) != 8 {
		return nil, fmt.Errorf("position of %d bytes: %w", len(req), wire.ErrMalformed)
	}
	position := binary.BigEndian.Uint64(req)
	tally, ok := n.rows.SetAt(position)
	if !ok {
		return nil, fmt.Errorf("position %d: %w", position, blobstore.ErrNotFound)
	}
	return json.Marshal(setOf(tally, position)) //nolint:wrapcheck // cannot fail
}

// lags works out how far each node is behind the one that has most.
func (s *Status) lags() {
	var last uint64
	for i := range s.Nodes {
		last = max(last, s.Nodes[i].Applied)
	}
	for i := range s.Nodes {
		if s.Nodes[i].answered() {
			s.Nodes[i].Lag = last - min(s.Nodes[i].Applied, last)
		}
	}
}

func (s *NodeStatus) group(name string) *GroupStatus {
	for i := range s.Groups {
		if s.Groups[i].Name == name {
			return &s.Groups[i]
		}
	}
	return nil
}

// comparable is the position that every node that is ready has reached; a node
// that joins does not hold up the comparison of the others.
func (s *Status) comparable() uint64 {
	var lowest uint64
	found := false
	for _, wantReady := range []bool{true, false} {
		for i := range s.Nodes {
			n := &s.Nodes[i]
			if n.answered() && n.Ready == wantReady && (!found || n.Set.Position < lowest) {
				lowest, found = n.Set.Position, true
			}
		}
		if found {
			break
		}
	}
	return lowest
}

// compare marks the nodes whose set is not the one that most have.
func (s *Status) compare() {
	votes := map[string]int{}
	best, reached := "", 0
	for i := range s.Nodes {
		set := s.Nodes[i].Set
		if !s.Nodes[i].answered() || set.Position != s.Position {
			continue
		}
		reached++
		votes[set.Root]++
		if votes[set.Root] > votes[best] {
			best = set.Root
		}
	}
	s.SameSet = reached > 0
	for i := range s.Nodes {
		set := &s.Nodes[i].Set
		if s.Nodes[i].answered() && set.Position == s.Position && set.Root != best {
			set.Differs, s.SameSet = true, false
		}
		if set.Fault != "" {
			s.SameSet = false
		}
	}
}

// place gathers what the nodes say of each blob group.
func (s *Status) place(shards, wanted int) {
	for shard := range shards {
		p := s.placement(placement.BlobGroup(shard), wanted)
		if p.Holding < p.Wanted {
			s.UnderReplicated += p.Blobs
		}
		if p.Holding == 0 {
			s.Unavailable += p.Blobs
		}
		s.Placement = append(s.Placement, p)
	}
}

func (s *Status) placement(group string, wanted int) PlacementStatus {
	p := PlacementStatus{Group: group, Wanted: wanted, Replicas: []ReplicaStatus{}}
	// The leader of the newest term knows best; without one, whoever has most.
	var best *GroupStatus
	for i := range s.Nodes {
		g := s.Nodes[i].group(group)
		if g == nil {
			continue
		}
		if g.State == "leader" && (p.Leader == "" || g.Term > best.Term) {
			p.Leader, best = s.Nodes[i].ID, g
		}
		if p.Leader == "" && (best == nil || g.Applied > best.Applied) {
			best = g
		}
	}
	if best == nil {
		return p
	}
	p.Blobs, p.Bytes = best.Blobs, best.Bytes
	for _, m := range best.Members {
		r := ReplicaStatus{Node: m.Node, Voter: m.Voter}
		if g := s.replica(m.Node, group); g != nil {
			r.Blobs, r.Bytes = g.Blobs, g.Bytes
			r.Lag = best.Applied - min(g.Applied, best.Applied)
			r.Holds = r.Lag <= holdsLagMax
		}
		if r.Holds {
			p.Holding++
		}
		p.Replicas = append(p.Replicas, r)
	}
	slices.SortFunc(p.Replicas, func(a, b ReplicaStatus) int { return cmp.Compare(a.Node, b.Node) })
	return p
}

// replica is what a node that answers says of a group.
func (s *Status) replica(node, group string) *GroupStatus {
	for i := range s.Nodes {
		if s.Nodes[i].ID == node && s.Nodes[i].answered() {
			return s.Nodes[i].group(group)
		}
	}
	return nil
}
