package cluster

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"carillon/blobstore"
	"carillon/cluster/placement"
	"carillon/cluster/wire"
)

// On more nodes than replicas a blob group may lose its majority for ever while
// the catalog keeps its own. Then the cluster still agrees on everything, and
// the catalog is where an operator's word about that group is written down. This
// file says what is known of such a group, grouporder.go writes the word down,
// and grouprecover.go obeys it. See RECOVERY.md.

const (
	// witnessWait bounds how long one node may take to say what it holds, the
	// list of what is missing there included: a scan of all references.
	witnessWait = 30 * time.Second
	// missingMax bounds the names in that list: a name takes up to 500 bytes, a
	// frame of the link 4 MiB.
	missingMax = 2000
)

// The states of a group's recovery.
const (
	GroupRecoveryNone  = ""      // nobody has asked for it
	GroupRecoveryAsked = "asked" // written down; the survivor has not obeyed yet
	GroupRecoveryDone  = "done"
)

// GroupRecovery is what is known before a blob group is recovered, or what has
// become of that.
type GroupRecovery struct {
	Group string `json:"group"`
	// Node is the one to go on with: what it holds is what the group holds then.
	Node  string `json:"node"`
	State string `json:"state"` // of the last recovery, see GroupRecoveryDone
	// Quorum says that a majority of the members answers: nothing is lost.
	Quorum  bool           `json:"quorum"`
	Members []GroupWitness `json:"members"`
	// Lost are the nodes that a recovery would give up for ever. While one of
	// them can be started again nothing need be lost.
	Lost []string `json:"lost"`
	// Others are the other groups that have no leader.
	Others []string `json:"other_groups"`
	// Missing are holders of references whose sound is not whole on Node, the
	// first 2000 of MissingCount.
	Missing      []string `json:"missing"`
	MissingCount int      `json:"missing_count"`
	// Refused is why it would not be done now, "" if it would.
	Refused string `json:"refused,omitempty"`
}

// GroupWitness is what a node says of its part of a group.
type GroupWitness struct {
	Node    string `json:"node"`
	Voter   bool   `json:"voter"`
	Answers bool   `json:"answers"`
	Held    bool   `json:"held"` // it has a part of the group
	// Mute is a member that has lost its log and does not vote.
	Mute     bool       `json:"mute,omitempty"`
	Last     uint64     `json:"last_index"`
	LastTerm uint64     `json:"last_term"`
	Applied  uint64     `json:"applied_index"`
	Away     *time.Time `json:"away,omitempty"` // since when

	// Voters and the like are for the node that asks.
	Voters       []string `json:"voters,omitempty"`
	Learners     []string `json:"learners,omitempty"`
	Resync       bool     `json:"resync,omitempty"`
	Missing      []string `json:"missing,omitempty"`
	MissingCount int      `json:"missing_count,omitempty"`
}

// serveWitness says what this node holds of a group, and, if asked, what is
// missing in that.
func (n *Node) serveWitness(ctx context.Context, _ string, req []byte) ([]byte, error) {
	d := wire.NewDecoder(req)
	name, list := d.Text(), d.Bool()
	if err := d.End(); err != nil {
		return nil, err
	}
	if !n.isFormed() {
		return nil, errBehind
	}
	w, err := n.witness(ctx, name, list)
	if err != nil {
		return nil, err
	}
	return json.Marshal(w) //nolint:wrapcheck // cannot fail
}

func (n *Node) witness(ctx context.Context, name string, list bool) (GroupWitness, error) {
	w := GroupWitness{Node: n.id, Answers: true, Resync: n.resync.pending.Load()}
	if g := n.group(name); g != nil {
		v := g.view()
		w.Voters, w.Learners, w.Held = v.Voters, v.Learners, len(v.members()) > 0
		w.Mute = g.transport.IsMuted()
		w.Last, w.Applied = g.raft.LastIndex(), g.raft.AppliedIndex()
		w.LastTerm, _ = strconv.ParseUint(g.raft.Stats()["last_log_term"], 10, 64)
	}
	if !list {
		return w, nil
	}
	if err := (catalog{n}).Fresh(ctx); err != nil {
		return w, err
	}
	missing, err := silentHolders(ctx, n.rows, n.blobs, func(id blobstore.ID) bool {
		return placement.BlobGroup(shardOf(id, n.charter.Shards)) == name
	})
	w.MissingCount, w.Missing = len(missing), missing[:min(len(missing), missingMax)]
	return w, err
}

// askWitness asks a node, this one included; a node that does not answer says
// nothing.
func (n *Node) askWitness(ctx context.Context, id, name string, list bool) GroupWitness {
	wait := memberCallWait
	if list {
		wait = witnessWait
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	if n.unheard.has(id) {
		return GroupWitness{Node: id}
	}
	if id == n.id {
		if w, err := n.witness(ctx, name, list); err == nil {
			return w
		}
		return GroupWitness{Node: id}
	}
	var w GroupWitness
	b, err := n.link.Call(ctx, id, kindWitness, append(wire.AppendText(nil, name), wire.Flag(list)))
	if err != nil || json.Unmarshal(b, &w) != nil || w.Node != id {
		return GroupWitness{Node: id}
	}
	return w
}

// witnesses asks every node that may hold something of a group: all that the
// catalog or gossip know. Removed ones may: they have been members.
func (n *Node) witnesses(ctx context.Context, name string, rows map[string]placement.Node) []GroupWitness {
	ids := map[string]bool{}
	for id := range rows {
		ids[id] = true
	}
	for _, m := range n.gossip.Members() {
		if m.Cluster == n.charter.Cluster {
			ids[m.ID] = true
		}
	}
	out := make([]GroupWitness, 0, len(ids))
	for _, id := range slices.Sorted(maps.Keys(ids)) {
		out = append(out, GroupWitness{Node: id})
	}
	var wg sync.WaitGroup
	for i := range out {
		wg.Go(func() { out[i] = n.askWitness(ctx, out[i].Node, name, false) })
	}
	wg.Wait()
	for i := range out {
		if away := rows[out[i].Node].Away; away != 0 && !out[i].Answers {
			since := time.UnixMilli(away).UTC()
			out[i].Away = &since
		}
	}
	return out
}

// GroupRecovery tells what is known of a blob group, with node as the one to go
// on with; "" chooses the one that has most. It changes nothing. ErrNotFound:
// there is no such group or node.
func (n *Node) GroupRecovery(ctx context.Context, name, node string) (GroupRecovery, error) {
	out := GroupRecovery{Group: name, Node: node, Lost: []string{}, Others: []string{}, Missing: []string{}}
	if err := n.waitFormed(ctx); err != nil {
		return out, err
	}
	if _, ok := n.shardNamed(name); !ok {
		return out, fmt.Errorf("blob group %s: %w", name, blobstore.ErrNotFound)
	}
	if err := (catalog{n}).Fresh(ctx); err != nil {
		return out, err
	}
	rows, _, err := n.nodeRows(ctx)
	if err != nil {
		return out, err
	}
	all := n.witnesses(ctx, name, rows)
	pool := out.count(all)
	if out.Node == "" && len(pool) > 0 {
		out.Node = pool[0].Node
	}
	if !slices.ContainsFunc(all, func(w GroupWitness) bool { return w.Node == out.Node }) {
		return out, fmt.Errorf("node %q is not one of the cluster: %w", out.Node, blobstore.ErrNotFound)
	}
	orders, _, err := n.groupOrders(ctx)
	if err != nil {
		return out, err
	}
	out.State = orders.Groups[name].state()
	for _, p := range n.Status(ctx).Placement {
		if p.Leader == "" && p.Group != name {
			out.Others = append(out.Others, p.Group)
		}
	}
	there := n.askWitness(ctx, out.Node, name, true)
	out.Missing, out.MissingCount = append(out.Missing, there.Missing...), there.MissingCount
	if err := out.refusal(n, there, pool); err != nil {
		out.Refused = err.Error()
	}
	return out, nil
}

// shardNamed is the shard of a blob group.
func (n *Node) shardNamed(name string) (int, bool) {
	for s := range n.charter.Shards {
		if placement.BlobGroup(s) == name {
			return s, true
		}
	}
	return 0, false
}

// count sorts out who is a member, whether a majority answers, and who would be
// given up. It returns those that may survive, the one with most first: members
// that answer and have a log; if there is none, whoever has a part of the group;
// and if nobody has one, anyone.
//
// Who does not answer and may hold a part of the group is given up, or that part
// could one day speak for the group again. If nobody knows the members any more,
// that is every node that does not answer.
func (r *GroupRecovery) count(all []GroupWitness) (pool []GroupWitness) {
	held := slices.DeleteFunc(slices.Clone(all), func(w GroupWitness) bool { return !w.Held })
	slices.SortStableFunc(held, mostFirst)
	var known GroupWitness
	if len(held) > 0 {
		known = held[0]
	}
	member := func(id string) bool {
		return len(held) == 0 || slices.Contains(known.Voters, id) || slices.Contains(known.Learners, id)
	}
	here := 0
	for i := range all {
		w := &all[i]
		if w.Voter = slices.Contains(known.Voters, w.Node); w.Voter && w.Held && !w.Mute {
			here++
		}
		if member(w.Node) && !w.Answers {
			r.Lost = append(r.Lost, w.Node)
		}
		if member(w.Node) || w.Held {
			r.Members = append(r.Members, *w)
		}
	}
	r.Quorum = 2*here > len(known.Voters)
	pool = slices.DeleteFunc(slices.Clone(held), func(w GroupWitness) bool { return w.Mute || !member(w.Node) })
	if len(pool) == 0 {
		pool = held
	}
	if len(pool) == 0 {
		pool = slices.DeleteFunc(slices.Clone(all), func(w GroupWitness) bool { return !w.Answers })
	}
	return pool
}

// mostFirst orders parts of a group as an election does.
func mostFirst(a, b GroupWitness) int {
	return cmp.Or(cmp.Compare(b.LastTerm, a.LastTerm), cmp.Compare(b.Last, a.Last))
}

// refusal is why the group must not be recovered now.
func (r *GroupRecovery) refusal(n *Node, there GroupWitness, pool []GroupWitness) error {
	if r.Quorum {
		return fmt.Errorf("a majority of the members of %s answers, nothing is to be recovered: %w",
			r.Group, ErrUnsafe)
	}
	if !there.Answers {
		return fmt.Errorf("node %s does not answer: %w", r.Node, ErrUnsafe)
	}
	if there.Resync {
		return fmt.Errorf("node %s fetches everything anew after damage: %w", r.Node, ErrUnsafe)
	}
	for _, id := range r.Lost {
		if !n.Gone(id) && !n.unheard.has(id) {
			return fmt.Errorf("node %s is here and does not answer for %s, start it again or stop it: %w",
				id, r.Group, ErrUnsafe)
		}
	}
	i := slices.IndexFunc(pool, func(w GroupWitness) bool { return w.Node == r.Node })
	switch {
	case i < 0:
		return fmt.Errorf("node %s has no part of %s, node %s has: %w", r.Node, r.Group, pool[0].Node, ErrUnsafe)
	case mostFirst(pool[0], pool[i]) != 0:
		return fmt.Errorf("node %s is at %d of term %d, node %s has more, %d of term %d: %w", r.Node,
			pool[i].Last, pool[i].LastTerm, pool[0].Node, pool[0].Last, pool[0].LastTerm, ErrUnsafe)
	}
	return nil
}

// RecoverGroup lets a blob group that has lost its majority for ever go on with
// what node has of it. lost must name every node that is given up by that, as
// [Node.GroupRecovery] lists them: they are removed from the cluster for ever.
// It returns when that is written down; the survivor obeys, and then placement
// brings the group to its full replicas. Again: success. ErrUnsafe: a majority
// answers, or not all are named, or another node has more.
func (n *Node) RecoverGroup(ctx context.Context, name, node string, lost []string) (GroupRecovery, error) {
	for {
		f, err := n.recoverGroup(ctx, name, node, lost)
		if !errors.Is(err, blobstore.ErrConflict) {
			return f, err
		}
		// The survivor of another group has obeyed meanwhile, or a node went: what was
		// decided on is asked for anew.
	}
}

func (n *Node) recoverGroup(ctx context.Context, name, node string, lost []string) (GroupRecovery, error) {
	f, err := n.GroupRecovery(ctx, name, node)
	if err != nil {
		return f, err
	}
	orders, _, err := n.groupOrders(ctx)
	if err != nil {
		return f, err
	}
	if o := orders.Groups[name]; o.Seq != 0 && !o.Done && o.Node == f.Node {
		return f, nil // it was asked for already
	}
	if f.Refused != "" {
		return f, fmt.Errorf("%s: %w", f.Refused, ErrUnsafe)
	}
	for _, id := range lost {
		if !slices.Contains(f.Lost, id) && !slices.Contains(orders.Lost, id) {
			return f, fmt.Errorf("node %s is not one that is lost to %s: %w", id, name, ErrUnsafe)
		}
	}
	var unnamed []string
	for _, id := range f.Lost {
		if !slices.Contains(lost, id) {
			unnamed = append(unnamed, id)
		}
	}
	if len(unnamed) > 0 {
		return f, fmt.Errorf("%v may hold what no other node has: start them, or name each as lost: %w",
			unnamed, ErrUnsafe)
	}
	if err := n.orderRecovery(ctx, name, f); err != nil {
		return f, err
	}
	f.State = GroupRecoveryAsked
	n.log.Warn("recovery of a group is asked for", "group", name, "peer", f.Node, "lost", f.Lost,
		"missing", f.MissingCount)
	return f, nil
}
