package cluster

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"carillon/blobstore"
	"carillon/cluster/placement"
	"carillon/cluster/statefile"
	"carillon/cluster/wire"
)

// A node opens the groups that the placement gives it and closes those that it
// has left. What it held of a group it leaves stays for a grace, and is deleted
// only when the group's leader says that all its members have everything; a
// blob that the catalog refers to and the group does not hold is never deleted.

// DropAfterDefault is how long the data of a group stay on a node that has left
// it: time to notice that leaving was a mistake. Coming back within it moves no
// bytes but what is new.
const DropAfterDefault = time.Hour

// dropCheckWait is how often a node looks for data that it may delete.
const dropCheckWait = 10 * time.Second

// stayState is what a node is to a blob group that it did not found.
type stayState string

const (
	stayMember  stayState = "member"
	stayLeft    stayState = "left"    // its data are here
	stayDropped stayState = "dropped" // and here no more
)

// stay is written beside the log of a group once a node comes to it or leaves
// it. While there is one the node never founds the group: it was a member once,
// and may have forgotten what it voted.
type stay struct {
	Format int       `json:"format"`
	State  stayState `json:"state"`
	Since  time.Time `json:"since"`
	// Kept is how many blobs were not deleted because nobody else has them.
	Kept int `json:"kept,omitempty"`
}

func stayFile(dir, group string) string { return filepath.Join(dir, group+".json") }

// loadStay is nil for a group that this node founded and never left, or never
// had anything to do with.
func loadStay(dir, group string) (*stay, error) {
	var s stay
	err := statefile.Read(stayFile(dir, group), &s)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil //nolint:nilnil // see above
	case err != nil:
		return nil, err
	case s.Format != charterFormat:
		return nil, fmt.Errorf("%s: format %d: %w", stayFile(dir, group), s.Format, blobstore.ErrFormat)
	}
	return &s, nil
}

func (n *Node) saveStay(group string, state stayState, kept int) error {
	if err := os.MkdirAll(n.raftDir(), 0o700); err != nil {
		return fmt.Errorf("raft directory: %w", err)
	}
	return statefile.Write(stayFile(n.raftDir(), group), stay{
		Format: charterFormat, State: state, Since: time.Now().UTC(), Kept: kept,
	})
}

// host opens the groups that this node is to hold and leaves those it has been
// taken out of.
func (n *Node) host(ctx context.Context) {
	p := n.placed.Load()
	for s := range n.charter.Shards {
		wanted := slices.Contains(p.Groups[placement.BlobGroup(s)], n.id)
		switch open := n.shard(s) != nil; {
		case wanted && !open && n.halts.of(placement.BlobGroup(s)) == "":
			if err := n.comeTo(s); err != nil { //nolint:contextcheck // the group outlives the call
				n.log.Error("group not opened", "group", placement.BlobGroup(s), "error", err)
			}
		case open && !wanted:
			if err := n.leave(ctx, s); err != nil {
				n.log.Debug("group not left yet", "group", placement.BlobGroup(s), "error", err)
			}
		}
	}
}

// comeTo opens a group; its leader adds this node to it.
func (n *Node) comeTo(s int) error {
	n.hosting.Lock()
	defer n.hosting.Unlock()
	if n.shard(s) != nil {
		return nil
	}
	if n.ctx.Err() != nil {
		return fmt.Errorf("cluster: %w", blobstore.ErrClosed)
	}
	if mark, err := loadRecovered(n.raftDir(), placement.BlobGroup(s)); err != nil || !mark.Done {
		return errors.Join(err, errUnfinished)
	}
	if err := n.saveStay(placement.BlobGroup(s), stayMember, 0); err != nil {
		return err
	}
	n.log.Info("coming to group", "group", placement.BlobGroup(s))
	return n.openShard(s, n.charter, nil)
}

// leave closes a group once its leader says that this node is no member.
func (n *Node) leave(ctx context.Context, s int) error {
	name := placement.BlobGroup(s)
	v, err := n.leadersView(ctx, name)
	if err != nil {
		return err
	}
	if slices.Contains(v.members(), n.id) {
		return errNotLeft
	}
	n.hosting.Lock()
	defer n.hosting.Unlock()
	g := n.shard(s)
	if g == nil || n.ctx.Err() != nil {
		return nil
	}
	if err := n.saveStay(name, stayLeft, 0); err != nil {
		return err
	}
	n.log.Info("leaving group", "group", name, "members", v.members())
	n.shards[s].Store(nil)
	return g.close()
}

// leadersView is verifiedView for a node that may have been taken out of the
// group and not have heard of it: it asks the members that are wanted.
func (n *Node) leadersView(ctx context.Context, name string) (groupView, error) {
	ctx, cancel := context.WithTimeout(ctx, locateWait)
	defer cancel()
	err := errNotLeader
	for _, id := range slices.Concat(n.wanted(name), n.members(name)) {
		if id == n.id {
			continue
		}
		var v groupView
		if v, err = n.askGroup(ctx, id, name, true); err == nil {
			return v, nil
		}
	}
	return groupView{}, err
}

// serveHost opens a group when its leader is about to add this node.
func (n *Node) serveHost(ctx context.Context, _ string, req []byte) ([]byte, error) {
	d := wire.NewDecoder(req)
	name := d.Text()
	if err := d.End(); err != nil {
		return nil, err
	}
	if !n.isFormed() {
		return nil, errBehind
	}
	n.refreshPlacement(ctx)
	for s := range n.charter.Shards {
		if placement.BlobGroup(s) == name && slices.Contains(n.placed.Load().Groups[name], n.id) {
			return nil, n.comeTo(s) //nolint:contextcheck // as above
		}
	}
	return nil, errBehind
}

// dropLeft deletes what this node may delete of groups that it has left.
func (n *Node) dropLeft(ctx context.Context, now time.Time) {
	for s := range n.charter.Shards {
		name := placement.BlobGroup(s)
		st, err := loadStay(n.raftDir(), name)
		if err != nil {
			n.log.Error("stay not read", "group", name, "error", err)
			continue
		}
		if n.shard(s) != nil || st == nil || st.State != stayLeft || now.Sub(st.Since) < n.cfg.DropAfter {
			continue
		}
		if err := n.dropGroup(ctx, s); err != nil {
			n.log.Warn("data of a group that was left not deleted", "group", name, "error", err)
		}
	}
}

func (n *Node) dropGroup(ctx context.Context, s int) error {
	name := placement.BlobGroup(s)
	v, err := n.leadersView(ctx, name)
	switch {
	case err != nil:
		return err
	case !v.Whole || len(v.Voters) < min(n.charter.Replicas, len(n.wanted(name))):
		return fmt.Errorf("its members do not hold everything yet: %w", blobstore.ErrUnavailable)
	case slices.Contains(v.members(), n.id):
		return errNotLeft
	}
	if err := (catalog{n}).Fresh(ctx); err != nil {
		return err
	}
	dropped, kept := 0, 0
	for info, err := range n.blobs.Blobs(ctx) {
		if err != nil {
			return fmt.Errorf("list blobs: %w", err)
		}
		if shardOf(info.ID, n.charter.Shards) != s {
			continue
		}
		if n.shard(s) != nil { // it came back
			return nil
		}
		ok, err := n.mayDrop(ctx, v.Leader, info)
		if err != nil {
			return err
		}
		if !ok {
			kept++
			continue
		}
		if err := n.applyHere(blobstore.Op{Kind: blobstore.OpRemove, ID: info.ID}); err != nil {
			return err
		}
		dropped++
	}
	return n.forget(s, dropped, kept)
}

// mayDrop says whether a blob is of no use here: the group's leader holds the
// same, or holds none and nothing refers to it.
func (n *Node) mayDrop(ctx context.Context, leader string, have blobstore.Info) (bool, error) {
	there, err := n.remoteInfo(ctx, statWait, leader, kindStat, have.ID[:])
	switch {
	case err == nil:
		same := !have.Sealed && there.Size >= have.Size || there.Sealed && there.Totals == have.Totals
		if !same {
			n.quarantined(have.ID, "the group holds another")
		}
		return same, nil
	case !errors.Is(err, blobstore.ErrNotFound):
		return false, err
	}
	for _, err := range n.rows.Scan(ctx, blobstore.RefKey(have.ID, ""), "") {
		if err != nil {
			return false, fmt.Errorf("references of %s: %w", have.ID, err)
		}
		n.quarantined(have.ID, "the group does not hold it and the catalog refers to it")
		return false, nil
	}
	return true, nil
}

func (n *Node) quarantined(id blobstore.ID, why string) {
	n.metrics.kept.Inc()
	n.log.Error("blob of a group that this node has left is kept", "blob", id.String(), "reason", why)
}

// forget deletes the log of a group that was left, unless something was kept:
// then it looks again after the grace.
func (n *Node) forget(s, dropped, kept int) error {
	n.hosting.Lock()
	defer n.hosting.Unlock()
	name := placement.BlobGroup(s)
	if n.shard(s) != nil || n.ctx.Err() != nil {
		return nil
	}
	if kept > 0 {
		return n.saveStay(name, stayLeft, kept)
	}
	if err := n.saveStay(name, stayDropped, 0); err != nil {
		return err
	}
	n.log.Info("data of a group that was left deleted", "group", name, "blobs", dropped)
	if err := os.RemoveAll(filepath.Join(n.raftDir(), name)); err != nil {
		return fmt.Errorf("delete log: %w", err)
	}
	return nil
}
