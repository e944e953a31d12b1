package cluster

import (
	"slices"
	"time"

	"github.com/hashicorp/raft"
)

// balanceWait is how long a node leads a blob group before it hands it to the
// member whose turn it is. It lets a cluster that has just lost a node come to
// rest, and keeps a node that comes and goes from moving leadership each time.
const balanceWait = 5 * time.Second

// balanceLagMax is how many entries the next leader may be behind: a transfer
// stops proposals until it has them, or fails. balanceAgain is the pause after
// one that failed.
const (
	balanceLagMax = 64
	balanceAgain  = time.Minute
)

// balance spreads leadership, as [placement.Leaders] says, so that every node leads its
// share and new blobs are written where their leader is. Each leader decides for
// itself; a transfer stops proposals for the moment it takes, and the proposers
// try again.
func (n *Node) balance() {
	for shard, g := range n.hosted() {
		if !g.leads() || time.Since(time.Unix(0, g.since.Load())) < balanceWait {
			continue
		}
		target := n.preferredLeader(shard, g)
		if target == "" || target == n.id ||
			g.transport.Acked(raft.ServerID(target))+balanceLagMax < g.raft.LastIndex() {
			continue
		}
		f := g.raft.LeadershipTransferToServer(raft.ServerID(target), raft.ServerAddress(target))
		if err := f.Error(); err != nil {
			g.since.Store(time.Now().Add(balanceAgain).UnixNano()) // not again at once
			g.log.Info("leadership not transferred", "peer", target, "error", err)
			continue
		}
		g.log.Info("leadership transferred", "peer", target)
	}
}

// preferredLeader is the voter whose turn it is to lead a shard, or "" if it is
// away or does not vote yet.
func (n *Node) preferredLeader(shard int, g *group) string {
	target := n.placed.Load().leaders[shard]
	if n.Gone(target) || !slices.Contains(g.voters(), target) {
		return ""
	}
	return target
}
