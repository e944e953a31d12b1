package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/hashicorp/raft"

	"carillon/blobstore"
	"carillon/cluster/placement"
)

// Where every node is a voter of every group, as in the usual cluster of three,
// the small sound of a document travels in the catalog's entry: one Raft entry
// and one round of fsyncs instead of two in a row. The catalog's log is then the
// durable copy of these bytes, so it keeps the rules of a blob group's log, too:
// it is cut only after Store.Sync, and Restore fetches what is missing. Every
// member of the catalog stores what an entry carries, so that a group whose
// members change while an entry is on its way lacks nothing.

// carries says whether the catalog may carry a blob of this shard: its voters
// and those of the blob's group are the same nodes, and there are no others.
func (n *Node) carries(id blobstore.ID) bool {
	if !n.isFormed() {
		return false
	}
	g := n.shard(shardOf(id, n.charter.Shards))
	if g == nil {
		return false
	}
	here, there := n.catalog.servers(), g.servers()
	if len(here) == 0 || len(here) != len(there) {
		return false
	}
	for _, s := range here {
		if s.Suffrage != raft.Voter || !slices.ContainsFunc(there, func(o raft.Server) bool {
			return o.ID == s.ID && o.Suffrage == raft.Voter
		}) {
			return false
		}
	}
	return true
}

// servers are the members of the group as its raft knows them. They must not
// be changed.
func (g *group) servers() []raft.Server {
	return g.raft.GetConfiguration().Configuration().Servers
}

// store puts the sound of a transaction on the shelf in a step of its own,
// unless the transaction's entry can carry it.
func (c catalog) store(ctx context.Context, t blobstore.Txn) (carried bool, err error) {
	s := t.Sound
	if s == nil {
		return false, nil
	}
	if err := s.Check(); err != nil {
		return false, err //nolint:wrapcheck // in the words of blobstore
	}
	if err := c.n.waitFormed(ctx); err != nil {
		return false, err
	}
	if c.n.carries(s.ID) {
		return true, nil
	}
	return false, writer(c).Put(ctx, s.ID, s.Spec, s.Data, s.Totals)
}

// fetchersMax is how many blobs are fetched at a time: enough to hide a round
// trip behind another, and 2 MiB of memory.
const fetchersMax = 8

// fetchReferenced brings to this node the small blobs that its catalog refers
// to and that it should hold and does not, as a member of one group or (nil) of
// any: those that were carried by entries which a snapshot stands for. Larger
// ones come by the log of their group. Nothing remains to be done when it
// returns nil.
func (n *Node) fetchReferenced(ctx context.Context, only *group) error {
	if err := n.waitFormed(ctx); err != nil {
		return err
	}
	var (
		wg    sync.WaitGroup
		slots = make(chan struct{}, fetchersMax)
		mu    sync.Mutex
		errs  error
		last  blobstore.ID
	)
	for row, err := range n.rows.Scan(ctx, blobstore.RefPrefix, "") {
		id, perr := refID(row.Key)
		if err = errors.Join(err, perr); err != nil {
			wg.Wait()
			return fmt.Errorf("references: %w", err)
		}
		g := n.shard(shardOf(id, n.charter.Shards))
		if id == last || g == nil || only != nil && g != only {
			continue
		}
		last = id
		if have, err := n.blobs.Stat(ctx, id); err == nil && have.Sealed {
			continue
		}
		slots <- struct{}{}
		wg.Go(func() {
			if err := n.fetchSmall(ctx, id); err != nil {
				mu.Lock()
				errs = errors.Join(errs, fmt.Errorf("fetch blob %s: %w", id, err))
				mu.Unlock()
			}
			<-slots
		})
	}
	wg.Wait()
	if errs != nil {
		return errs
	}
	return n.blobs.Sync() //nolint:wrapcheck // in the words of blobstore
}

// refID is the blob that a reference row keeps alive.
func refID(key string) (blobstore.ID, error) {
	const digits = 2 * len(blobstore.ID{})
	if len(key) < len(blobstore.RefPrefix)+digits {
		return blobstore.ID{}, fmt.Errorf("reference %q: %w", key, blobstore.ErrBadID)
	}
	return blobstore.ParseID(key[len(blobstore.RefPrefix):][:digits]) //nolint:wrapcheck // names the id
}

// fetchSmall fetches a blob that an entry may have carried. One that nobody has
// was removed since.
func (n *Node) fetchSmall(ctx context.Context, id blobstore.ID) error {
	if n.nobodyHas(ctx, id) {
		return nil
	}
	v, err := openRemote(ctx, n, id, nil)
	if errors.Is(err, blobstore.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	info := v.Info()
	if err := v.Close(); err != nil {
		return err //nolint:wrapcheck // a view closes without words
	}
	if !info.Sealed || info.Size > blobstore.ChunkBytesMax {
		return nil
	}
	return n.pullBlob(ctx, info)
}

// nobodyHas says that a blob is gone, as after a recovery what only the lost
// nodes had: this node leads its group and has not got it, and every other member
// says the same of itself. Others take a leader's word for it; the leader itself
// may be behind with what the catalog's entries carried, and must ask.
func (n *Node) nobodyHas(ctx context.Context, id blobstore.ID) bool {
	name := placement.BlobGroup(shardOf(id, n.charter.Shards))
	if !(shelf{n}).leads(id) { // before looking: it may become the leader meanwhile
		return false
	}
	if _, err := n.blobs.Stat(ctx, id); !errors.Is(err, blobstore.ErrNotFound) {
		return false
	}
	for _, node := range n.members(name) {
		if node == n.id {
			continue
		}
		_, err := n.remoteInfo(ctx, statWait, node, kindStat, id[:])
		if !errors.Is(err, errBehind) && !errors.Is(err, blobstore.ErrNotFound) {
			return false
		}
	}
	return true
}
