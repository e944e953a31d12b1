package cluster

import (
	"context"
	"slices"
	"time"

	"github.com/hashicorp/raft"

	"carillon/cluster/placement"
	"carillon/cluster/wire"
)

// The leader of a group moves it toward its wanted members, one step at a time:
// add one that is missing as a non-voter, wait until it has everything, let it
// vote, and only when all wanted members vote take out those that are too many.
// Each step is a change of raft's own configuration, agreed on by a majority;
// whoever leads next sees where it stands and goes on.

// move takes the next step for each blob group that this node leads.
func (n *Node) move(ctx context.Context) {
	p := n.placed.Load()
	for _, g := range n.hosted() {
		if !g.leads() || !g.moving.CompareAndSwap(false, true) {
			continue
		}
		n.wg.Go(func() {
			defer g.moving.Store(false)
			if err := n.step(ctx, g, p.Groups[g.name]); err != nil {
				g.log.Warn("members not changed", "error", err)
			}
		})
	}
}

// step takes one step. It returns without one when there is nothing to do or
// something to wait for.
func (n *Node) step(ctx context.Context, g *group, wanted []string) error {
	v := g.view()
	if len(wanted) == 0 || !slices.Contains(v.members(), n.id) {
		return nil
	}
	if waiting, err := n.stepIn(ctx, g, v, wanted); waiting || err != nil {
		return err
	}
	for _, id := range wanted {
		if !slices.Contains(v.Voters, id) {
			return nil // nobody leaves before everybody is here
		}
	}
	return n.stepOut(g, v, wanted)
}

// stepIn adds or promotes a member. It says whether the group is on its way:
// one member at a time.
func (n *Node) stepIn(ctx context.Context, g *group, v groupView, wanted []string) (bool, error) {
	for _, id := range wanted {
		switch {
		case slices.Contains(v.Voters, id), n.Gone(id):
		case !slices.Contains(v.Learners, id):
			return true, n.addLearner(ctx, g, id)
		case g.hasAll(id) && n.saysWhole(ctx, g, id):
			g.log.Info("member has everything and votes", "peer", id)
			return true, g.reconfigure(func(index uint64) raft.IndexFuture {
				return g.raft.AddVoter(raft.ServerID(id), raft.ServerAddress(id), index, addMemberWait)
			})
		default:
			return true, nil
		}
	}
	return false, nil
}

// addLearner adds a node that has opened the group.
func (n *Node) addLearner(ctx context.Context, g *group, id string) error {
	if g.name != placement.CatalogGroup {
		bounded, cancel := context.WithTimeout(ctx, memberCallWait)
		defer cancel()
		if _, err := n.link.Call(bounded, id, kindHost, wire.AppendText(nil, g.name)); err != nil {
			g.log.Info("new member is not prepared yet", "peer", id, "error", err)
			return nil // it may not have heard of the placement
		}
	}
	g.log.Info("adding member", "peer", id)
	return g.reconfigure(func(index uint64) raft.IndexFuture {
		return g.raft.AddNonvoter(raft.ServerID(id), raft.ServerAddress(id), index, addMemberWait)
	})
}

// stepOut takes out one member that is not wanted.
func (n *Node) stepOut(g *group, v groupView, wanted []string) error {
	for _, id := range v.Learners {
		if !slices.Contains(wanted, id) {
			g.log.Info("removing member without a vote", "peer", id)
			return g.remove(id)
		}
	}
	for _, id := range v.Voters {
		if slices.Contains(wanted, id) {
			continue
		}
		if !n.safeWithout(g, v.Voters, id) {
			g.log.Info("member stays until enough of the others are well", "peer", id)
			continue
		}
		if id == n.id {
			return n.handOver(g, wanted)
		}
		g.log.Info("removing member", "peer", id)
		return g.remove(id)
	}
	return nil
}

func (g *group) remove(id string) error {
	return g.reconfigure(func(index uint64) raft.IndexFuture {
		return g.raft.RemoveServer(raft.ServerID(id), index, addMemberWait)
	})
}

// safeWithout says whether a majority of the voters that are left after one has
// gone is well: here, and with everything.
func (n *Node) safeWithout(g *group, voters []string, without string) bool {
	left, well := 0, 0
	for _, id := range voters {
		if id == without {
			continue
		}
		left++
		if id == n.id || !n.Gone(id) && g.hasAll(id) {
			well++
		}
	}
	return well > left/2
}

// handOver gives leadership to a wanted member, which then removes this node.
func (n *Node) handOver(g *group, wanted []string) error {
	if time.Now().UnixNano() < g.handAgain.Load() {
		return nil // a transfer failed a moment ago
	}
	for _, id := range wanted {
		if id == n.id || n.Gone(id) || !g.hasAll(id) {
			continue
		}
		g.log.Info("handing over leadership before leaving", "peer", id)
		err := g.raft.LeadershipTransferToServer(raft.ServerID(id), raft.ServerAddress(id)).Error()
		if err != nil {
			g.handAgain.Store(time.Now().Add(handOverAgain).UnixNano())
		}
		return err //nolint:wrapcheck // the caller says of which group
	}
	return nil
}

// handOverAgain is the pause after a transfer that failed.
const handOverAgain = 3 * time.Second

// reconfigure changes the members if nobody else has changed them meanwhile.
func (g *group) reconfigure(change func(prevIndex uint64) raft.IndexFuture) error {
	f := g.raft.GetConfiguration()
	if err := f.Error(); err != nil {
		return err //nolint:wrapcheck // the caller says of which group
	}
	return change(f.Index()).Error() //nolint:wrapcheck // as above
}
