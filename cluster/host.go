package cluster

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"

	"carillon/blobstore"
	"carillon/cluster/gossip"
	"carillon/cluster/placement"
	"carillon/cluster/snapshot"
	"carillon/cluster/statefile"
)

// form takes up the charter: it is written down first, then the groups that
// this node is a member of are opened. Again with the same charter: success.
func (n *Node) form(c charter) error {
	n.forming.Lock()
	defer n.forming.Unlock()
	if n.charter != nil {
		if n.charter.Cluster != c.Cluster {
			return fmt.Errorf("charter of %s, this node is of %s: %w", c.Cluster, n.charter.Cluster,
				ErrForeignCluster)
		}
		return nil
	}
	if err := c.validate(); err != nil {
		return err
	}
	if err := n.refreshFormat(n.ctx, c.LogFormat); err != nil {
		return err
	}
	if err := statefile.Write(filepath.Join(n.cfg.Dir, charterFile), c); err != nil {
		return err
	}
	if err := n.blobs.CountBy(n.ctx, c.Shards); err != nil {
		return fmt.Errorf("count blobs: %w", err)
	}
	orders, _, err := n.groupOrders(n.ctx)
	if err != nil {
		return err
	}
	if err := n.fence(&c, orders.Lost); err != nil {
		return err
	}
	if err := n.openGroups(c); err != nil {
		return err
	}
	n.charter = &c
	n.placed.Store(c.firstPlacement())
	n.ahead = make([]ahead, c.Shards)
	n.batches = make([]*batcher, c.Shards)
	for s := range n.batches {
		n.batches[s] = newBatcher(n, s)
	}
	close(n.formed)
	n.wg.Go(n.catchUp)
	n.wg.Go(n.placeLoop)
	n.log.Info("member of cluster", "cluster", c.Cluster, "shards", c.Shards)
	return n.gossip.Update(func(m *gossip.Member) { m.Cluster = c.Cluster }) //nolint:wrapcheck // says enough
}

func (n *Node) openGroups(c charter) (err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, n.closeGroups())
		}
	}()
	if err = n.setUnknownAside(&c); err != nil {
		return err
	}
	n.shards = make([]atomic.Pointer[group], c.Shards)
	spec := n.groupSpec(placement.CatalogGroup, &catalogMachine{
		breaker: n.breaker(placement.CatalogGroup), store: n.rows, blobs: n.blobs,
		fetch: func() error { return n.fetchReferenced(n.ctx, nil) },
	})
	if slices.Contains(c.Members, n.id) {
		spec.members = c.Voters
	}
	if n.catalog, err = n.openOrRejoin(spec, &c); err != nil {
		return err
	}
	for s := range c.Shards {
		if err = n.reopenShard(s, c); err != nil {
			return err
		}
	}
	return nil
}

// reopenShard opens a blob group that this node was a member of when it
// stopped, or is to found. It founds only what it never had: a founder that
// left a group and forgot it would found another one of the same name.
func (n *Node) reopenShard(s int, c charter) error {
	name := placement.BlobGroup(s)
	mark, err := loadRecovered(n.raftDir(), name)
	if err != nil {
		return err
	}
	if !mark.Done {
		return n.finishRecovery(s, &c, mark)
	}
	stay, err := loadStay(n.raftDir(), name)
	if err != nil {
		return err
	}
	_, statErr := os.Stat(filepath.Join(n.raftDir(), name))
	switch {
	case stay == nil && slices.Contains(c.Groups[name], n.id):
		return n.openShard(s, &c, c.Groups[name])
	case stay == nil && statErr == nil, stay != nil && stay.State == stayMember:
		return n.openShard(s, &c, nil)
	}
	return nil
}

func (n *Node) raftDir() string { return filepath.Join(n.cfg.Dir, "raft") }

// openShard opens this node's membership in a blob group. members are those of
// the bootstrap, nil when the group's leader is to add this node.
func (n *Node) openShard(s int, c *charter, members []string) error {
	name, shards := placement.BlobGroup(s), c.Shards
	owns := func(id blobstore.ID) bool { return shardOf(id, shards) == s }
	m := &blobMachine{breaker: n.breaker(name), store: n.blobs, owns: owns}
	ctx, stop := context.WithCancel(n.ctx)
	m.pull = func(r *snapshot.Manifest) error { return n.pull(ctx, name, owns, r) }
	spec := n.groupSpec(name, m)
	spec.members = members
	g, err := n.openOrRejoin(spec, c)
	if err != nil {
		stop()
		return err
	}
	g.stop = stop
	n.shards[s].Store(g)
	return nil
}

// shard is this node's membership in the group of a shard, nil if it has none.
// A group may be closed at any moment, when its members change: then it leads
// nothing and takes nothing.
func (n *Node) shard(s int) *group {
	if s >= len(n.shards) {
		return nil
	}
	return n.shards[s].Load()
}

// hosted are the blob groups that this node is a member of, by shard.
func (n *Node) hosted() iter.Seq2[int, *group] {
	return func(yield func(int, *group) bool) {
		for s := range n.shards {
			if g := n.shards[s].Load(); g != nil && !yield(s, g) {
				return
			}
		}
	}
}

func (n *Node) groupSpec(name string, m machine) groupSpec {
	return groupSpec{
		name: name, dir: filepath.Join(n.cfg.Dir, "raft"), nodeID: n.id, fsm: m,
		electionWait: n.cfg.ElectionWait, snapshotMax: SnapshotBytesMax, chatter: n.chatter,
		room: n.disk.take, full: n.disk.full, stall: n.cfg.DiskStall, fs: n.fs, segmentBytes: n.cfg.segmentBytes,
		declines: func() error {
			if n.mayLead(name) {
				return nil
			}
			return errNotLeader
		},
	}
}

func (n *Node) breaker(group string) breaker {
	return breaker{reads: n.cfg.formatMax, fatal: func(err error) {
		if errors.Is(err, blobstore.ErrFormat) {
			n.halt(group, err)
			return
		}
		n.log.Error("state machine stopped", "error", err)
		if errors.Is(err, ErrDamaged) {
			n.damaged("catalog", n.rows.Condemn, err)
			return
		}
		if errors.Is(err, blobstore.ErrUnreadable) { // opened again it is put aside, if it is damaged
			err = fmt.Errorf("%w: %w", ErrDamaged, err)
		}
		n.fail(err)
	}}
}

// closeGroups closes all groups at the same time: each may wait for a
// leadership transfer.
func (n *Node) closeGroups() error {
	n.hosting.Lock()
	defer n.hosting.Unlock()
	var groups []*group
	for _, g := range n.hosted() {
		groups = append(groups, g)
	}
	if n.catalog != nil {
		groups = append(groups, n.catalog)
	}
	errs := make([]error, len(groups))
	var wg sync.WaitGroup
	for i, g := range groups {
		wg.Go(func() { errs[i] = g.close() })
	}
	wg.Wait()
	return errors.Join(errs...)
}
