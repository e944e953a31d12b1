package cluster

import (
	"fmt"

	"carillon/blobstore"
	"carillon/cluster/placement"
)

// Admission happens before a proposal, never in Apply: what is in the log is
// applied by all. Three kinds of changes are told apart.
//
//   - Ordinary ones, uploads and new rows, are refused as soon as one replica
//     that is alive is full. A replica that fell behind for want of space could
//     not take the deletions either that would end it.
//   - Urgent ones, recordings and the rows they need, use the room between the
//     stop line and half of it, and are refused when no majority has that.
//   - Whatever frees space or ends something is always let through: removals,
//     seals, and commits that delete rows.

// Room says whether new bytes of a recording may be taken, ErrNoSpace if not.
// It is cheap enough for every write of every source.
func (n *Node) Room() error {
	if diskLevel(n.disk.worst.Load()) < diskOut || !n.isFormed() {
		return nil
	}
	return n.urgentRoom(placement.CatalogGroup)
}

// Led says whether this node knows a leader for everything: the catalog and the
// blob groups that it is a member of.
func (n *Node) Led() bool {
	if !n.isFormed() || n.catalog.leader() == "" {
		return false
	}
	for s := range n.shards {
		if g := n.shards[s].Load(); g != nil && g.leader() == "" {
			return false
		}
	}
	return true
}

// ordinaryRoom refuses what can wait for an operator.
func (n *Node) ordinaryRoom(group string) error {
	if diskLevel(n.disk.worst.Load()) < diskFull {
		return nil
	}
	for _, id := range n.members(group) {
		if level, alive := n.levelOf(id); alive && level >= diskFull {
			return n.noRoom(id, level)
		}
	}
	return nil
}

// urgentRoom refuses when a majority could not take it.
func (n *Node) urgentRoom(group string) error {
	members := n.members(group)
	out, which := 0, ""
	for _, id := range members {
		if level, alive := n.levelOf(id); !alive || level >= diskOut {
			out++
			if alive {
				which = id
			}
		}
	}
	if which == "" || out <= (len(members)-1)/2 {
		return nil // nobody is alive, or enough are: either way not for want of space
	}
	return n.noRoom(which, diskOut)
}

func (n *Node) noRoom(id string, level diskLevel) error {
	n.metrics.refused.Inc()
	return fmt.Errorf("disk of node %s is %s: %w", id, level, blobstore.ErrNoSpace)
}

// levelOf is how full a node's disk is, and whether it is there.
func (n *Node) levelOf(id string) (diskLevel, bool) {
	if id == n.id {
		return diskLevel(n.disk.level.Load()), true
	}
	m, ok := n.gossip.Member(id)
	return parseDiskLevel(m.Disk), ok && m.Alive
}

// commitRoom decides about a catalog transaction.
func (n *Node) commitRoom(t *blobstore.Txn) error {
	switch {
	case diskLevel(n.disk.worst.Load()) < diskFull || t.Frees || len(t.Delete) > 0 && t.Sound == nil:
		return nil
	case t.Urgent:
		return n.urgentRoom(placement.CatalogGroup)
	}
	return n.ordinaryRoom(placement.CatalogGroup)
}
