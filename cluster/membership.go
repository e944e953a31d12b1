package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"carillon/blobstore"
	"carillon/cluster/gossip"
	"carillon/cluster/placement"
)

const (
	// membershipWait is how often a node looks whether there is something to do
	// about membership, beside at each change that gossip reports.
	membershipWait = 500 * time.Millisecond
	// promiseWait is how long a node keeps the promise of its first membership,
	// and formWait how long the proposer may take from the first promise to
	// its charter: well inside promiseWait, so that no promise it counts on has
	// been given away again.
	promiseWait = 10 * time.Second
	formWait    = 4 * time.Second
	// settleWait is how long a node that no charter names looks on after it has
	// heard of the first cluster. Gossip tells of members one by one: the old
	// cluster, left behind by a recovery, may come before the recovered one.
	settleWait = time.Second
	// aloneWait is how long a node that is enough for a cluster of its own, and
	// was told of others, looks for theirs first.
	aloneWait = 5 * time.Second
	// memberCallWait bounds one small request between nodes.
	memberCallWait = 2 * time.Second
	// addMemberWait bounds how long a change of a raft configuration may wait
	// for its place in the queue.
	addMemberWait = 5 * time.Second
)

// promise is this node's word to found a cluster with one proposer only. It
// lives in memory: a proposer needs all its promises fresh.
type promise struct {
	mu    sync.Mutex
	to    string    // guarded by mu
	until time.Time // guarded by mu
}

// give promises to a proposer, or says that another has the promise.
func (p *promise) give(to string, now time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.to != to && now.Before(p.until) {
		return fmt.Errorf("proposer %s: %w", p.to, errPromised)
	}
	p.to, p.until = to, now.Add(promiseWait)
	return nil
}

// candidates are nodes as gossip knows them.
func (n *Node) candidates(ids []string) []placement.Candidate {
	out := make([]placement.Candidate, 0, len(ids))
	for _, id := range ids {
		m, _ := n.gossip.Member(id)
		out = append(out, placement.Candidate{ID: id, Zone: m.Zone, Weight: parseWeight(m.Weight)})
	}
	return out
}

// membershipLoop forms or joins the cluster. Gossip only proposes; a missed
// event costs a tick.
func (n *Node) membershipLoop() {
	tick := time.NewTicker(membershipWait)
	defer tick.Stop()
	noted := readWhereabouts(n.cfg.Dir)
	for {
		noted = n.noteWhereabouts(noted)
		if n.isFormed() {
			n.heed()
		} else {
			n.tryForm()
		}
		select {
		case <-n.ctx.Done():
			return
		case <-n.gossip.Changes():
			select {
			case n.kick <- struct{}{}:
			default: // it will look anyway
			}
		case <-tick.C:
		}
	}
}

// tryForm joins a cluster that exists, else founds one if this node is the one
// to do it. The same command line serves first start, restart and growth.
func (n *Node) tryForm() {
	var fresh []string
	clusters := map[string]gossip.Member{}
	for _, m := range n.gossip.Members() {
		switch {
		case !m.Alive:
		case m.Cluster != "":
			clusters[m.Cluster] = m
		default:
			fresh = append(fresh, m.ID)
		}
	}
	if len(clusters) > 0 {
		if err := n.join(clusters); err != nil {
			n.log.Warn("cluster not joined yet", "error", err)
			if errors.Is(err, blobstore.ErrFormat) {
				n.fail(err)
			}
		}
		return
	}
	slices.Sort(fresh)
	if n.cfg.Expect == 1 && len(n.cfg.Seeds) > 0 && time.Since(n.opened) < aloneWait {
		return // the cluster that it was told to join may be a moment away
	}
	if len(fresh) < n.cfg.Expect || fresh[0] != n.id {
		return
	}
	if err := n.found(fresh[:n.cfg.Expect]); err != nil {
		n.log.Info("cluster not founded yet", "error", err)
	}
}

// join takes the charter from a member. If the charter names this node, it is
// a founder that has not heard yet; else the catalog's leader will see it in
// gossip and add it. Where there are several clusters, only what the others
// have become by a recovery may be joined.
func (n *Node) join(clusters map[string]gossip.Member) error {
	if n.heardOf.IsZero() {
		n.heardOf = time.Now()
	}
	for id, m := range clusters {
		c, err := n.askCharter(m.ID)
		if err != nil {
			return fmt.Errorf("peer %s: %w", m.ID, err)
		}
		current := true
		for other := range clusters {
			current = current && (other == id || slices.Contains(c.Former, other))
		}
		switch {
		case !current:
		case !slices.Contains(c.Members, n.id) && time.Since(n.heardOf) < settleWait:
			return nil // the next look joins
		default:
			return n.form(c)
		}
	}
	return fmt.Errorf("nodes of %d clusters are here, none of which has come from the others: %w",
		len(clusters), ErrForeignCluster)
}

// found asks every founder for its promise and, with all of them, writes the
// charter. Two proposers cannot both succeed while they share a founder; that
// is why a majority is not enough here.
func (n *Node) found(founders []string) error {
	begun := time.Now()
	if err := n.promise.give(n.id, begun); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(n.ctx, memberCallWait)
	defer cancel()
	errs := make([]error, len(founders))
	var wg sync.WaitGroup
	for i, id := range founders {
		if id == n.id {
			continue
		}
		wg.Go(func() {
			if _, err := n.link.Call(ctx, id, kindPromise); err != nil {
				errs[i] = fmt.Errorf("founder %s: %w", id, err)
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if time.Since(begun) > formWait {
		return fmt.Errorf("promises took %v: %w", time.Since(begun), blobstore.ErrUnavailable)
	}
	c := newCharter(n.candidates(founders), n.cfg.Shards, n.cfg.Replicas)
	c.LogFormat = n.foundersFormat(founders)
	n.log.Info("founding cluster", "cluster", c.Cluster, "members", c.Members)
	return n.form(c)
}

// pause waits for d or the end of ctx, and says whether d passed.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
