package cluster

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"carillon/blobstore"
	"carillon/cluster/placement"
	"carillon/cluster/raftlog"
	"carillon/cluster/statefile"
)

// errUnfinished keeps a group closed whose recovery was interrupted.
var errUnfinished = errors.New("recovery of the group is not finished")

// recoveredSuffix ends the name of the file beside a group's directory that says
// that the group was recovered here.
const recoveredSuffix = ".recovered"

// recovered is what this node has obeyed. It is written before anything is
// changed, so that a node that stopped in between finishes before it opens the
// group, whatever its catalog knows by then.
type recovered struct {
	Format int       `json:"format"`
	Seq    uint64    `json:"seq"`
	Lost   []string  `json:"lost"`
	Since  time.Time `json:"since"`
	Done   bool      `json:"done"`
}

func recoveredFile(dir, group string) string { return filepath.Join(dir, group+recoveredSuffix) }

// loadRecovered is zero for a group that was never recovered here.
func loadRecovered(dir, group string) (recovered, error) {
	var r recovered
	err := statefile.Read(recoveredFile(dir, group), &r)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return recovered{Done: true}, nil
	case err != nil:
		return r, err
	case r.Format != charterFormat:
		return r, fmt.Errorf("%s: format %d: %w", recoveredFile(dir, group), r.Format, blobstore.ErrFormat)
	}
	return r, nil
}

// fence makes this node deaf to nodes that were given up: by the recovery that
// the charter tells of, by the orders it knows, and by those it has obeyed,
// which a catalog that is being built again may not know yet.
func (n *Node) fence(c *charter, orders []string) error {
	lost := slices.Concat(c.Removed, orders)
	files, err := filepath.Glob(filepath.Join(n.raftDir(), "*"+recoveredSuffix))
	if err != nil {
		return fmt.Errorf("recovered groups: %w", err)
	}
	for _, path := range files {
		r, err := loadRecovered(n.raftDir(), strings.TrimSuffix(filepath.Base(path), recoveredSuffix))
		if err != nil {
			return err
		}
		lost = append(lost, r.Lost...)
	}
	n.unheard.set(slices.Compact(sorted(lost)))
	return nil
}

// obeyOrders takes up what is new in the row of recoveries.
func (n *Node) obeyOrders(ctx context.Context) error {
	orders, revision, err := n.groupOrders(ctx)
	if err != nil || revision == n.obeyed {
		return err
	}
	if slices.Contains(orders.Lost, n.id) {
		n.wasRemoved() // it is out of its groups: nobody in them listens to it
		return nil
	}
	if err := n.fence(n.charter, orders.Lost); err != nil {
		return err
	}
	for s := range n.charter.Shards {
		name := placement.BlobGroup(s)
		if o := orders.Groups[name]; o.Node == n.id && !o.Done {
			if err := n.obey(ctx, s, o); err != nil {
				return fmt.Errorf("recover group %s: %w", name, err)
			}
		}
	}
	n.obeyed = revision
	return nil
}

// obey recovers a group here, unless that was done, and says so.
func (n *Node) obey(ctx context.Context, s int, o groupOrder) error {
	name := placement.BlobGroup(s)
	have, err := loadRecovered(n.raftDir(), name)
	if err != nil {
		return err
	}
	if have.Seq < o.Seq || !have.Done {
		if err := n.recoverShard(ctx, s, recovered{
			Format: charterFormat, Seq: max(o.Seq, have.Seq), Lost: o.Lost, Since: time.Now().UTC(),
		}); err != nil {
			return err
		}
	}
	return n.reportRecovered(ctx, name, o.Seq)
}

// recoverShard closes a group, makes this node its only member, and opens it.
func (n *Node) recoverShard(ctx context.Context, s int, mark recovered) error {
	n.hosting.Lock()
	defer n.hosting.Unlock()
	if ctx.Err() != nil {
		return fmt.Errorf("cluster: %w", blobstore.ErrClosed)
	}
	name := placement.BlobGroup(s)
	if err := errors.Join(
		os.MkdirAll(n.raftDir(), 0o700), statefile.Write(recoveredFile(n.raftDir(), name), mark),
	); err != nil {
		return fmt.Errorf("write down what is begun: %w", err)
	}
	if g := n.shard(s); g != nil {
		n.shards[s].Store(nil)
		if err := g.close(); err != nil {
			n.log.Warn("group to recover not closed in order", "group", name, "error", err)
		}
	}
	return n.finishRecovery(s, n.charter, mark) //nolint:contextcheck // the group outlives the call
}

// finishRecovery does what a mark says that was begun, from wherever it stopped.
func (n *Node) finishRecovery(s int, c *charter, mark recovered) error {
	name := placement.BlobGroup(s)
	held, err := n.rewriteGroup(s, c.Shards)
	if errors.Is(err, raftlog.ErrDamaged) {
		// What the log could tell is gone with it. The shelf has what it has.
		n.log.Error("log of a group to recover is damaged; what was applied stays", "group", name, "error", err)
		_, aerr := blobstore.SetAside(filepath.Join(n.raftDir(), name), time.Now())
		held, err = false, aerr
	}
	if err != nil {
		return err
	}
	if err := statefile.Remove(n.rejoinMark(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := n.saveStay(name, stayMember, 0); err != nil {
		return err
	}
	var members []string
	if !held {
		members = []string{n.id} // it begins anew
	}
	if err := n.openShard(s, c, members); err != nil {
		return err
	}
	mark.Done = true
	n.log.Warn("group goes on with this node as its only member", "group", name, "lost", mark.Lost)
	return statefile.Write(recoveredFile(n.raftDir(), name), mark)
}

// rewriteGroup makes this node the only member in the Raft state of a group that
// is closed. It says whether there was any.
func (n *Node) rewriteGroup(s, shards int) (held bool, err error) {
	name := placement.BlobGroup(s)
	dir := filepath.Join(n.raftDir(), name)
	if _, err := os.Stat(filepath.Join(dir, "wal")); errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	failed := new(error)
	m := replaying{&blobMachine{
		breaker: breaker{reads: n.cfg.formatMax, fatal: func(err error) { *failed = err }}, store: n.blobs,
		owns: func(id blobstore.ID) bool { return shardOf(id, shards) == s },
	}, failed}
	state, err := openGroupState(dir, n.groupSpec(name, m.machine))
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, state.store.Close()) }()
	var g RecoverGroup
	if err := state.read(&g); err != nil || !g.Held {
		return false, err
	}
	return true, state.rewrite(dir, m, []string{n.id})
}
