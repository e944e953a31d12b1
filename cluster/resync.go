package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"carillon/blobstore"
	"carillon/cluster/placement"
	"carillon/cluster/statefile"
)

const (
	// resyncFile says that the blobs database was given up, and why.
	resyncFile = "resync"
	// resyncWait is the pause between two tries to fetch what is missing.
	resyncWait = time.Second
)

// ErrDamaged is why a node stops whose database cannot be read any more: opened
// again, it puts that aside and fetches everything anew.
var ErrDamaged = errors.New("database is damaged")

// A node whose blobs database is damaged puts it aside and begins with an empty
// one. Its log is whole, and brings again what came since the last snapshot; the
// rest it fetches from the other replicas, blob by blob, as the catalog refers to
// them. Until it has everything it leads no blob group, since a leader may say
// that there is no such blob, and it is not ready. See DESIGN.md, "Damage".

// resync is that state of a node.
type resync struct {
	pending atomic.Bool
	missing atomic.Int64 // as counted last

	mu     sync.Mutex
	reason string // guarded by mu
	fault  string // guarded by mu
}

type resyncMark struct {
	Reason string    `json:"reason"`
	Since  time.Time `json:"since"`
}

// MarkResync notes in a node's data directory, before its blobs database is put
// aside, that everything is to be fetched anew. ErrUnmendable: there is nobody to
// fetch it from, the database must stay as it is.
func MarkResync(dir, reason string) error {
	c, err := loadCharter(dir)
	if err != nil {
		return err
	}
	if c != nil && (len(c.Members) < 2 || c.Replicas < 2) {
		return fmt.Errorf("%w: %s; this node holds the only copies: restore a backup, or move the directory "+
			"blobs away to go on without what was in it", ErrUnmendable, reason)
	}
	return statefile.Write(filepath.Join(dir, resyncFile), resyncMark{Reason: reason, Since: time.Now().UTC()})
}

// load reads the mark.
func (r *resync) load(dir string) error {
	var m resyncMark
	err := statefile.Read(filepath.Join(dir, resyncFile), &m)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("mark of a re-sync: %w", err)
	}
	r.reason = m.Reason
	r.pending.Store(true)
	return nil
}

func (r *resync) setFault(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fault = ""; err != nil {
		r.fault = err.Error()
	}
}

// why says what is being done, for people.
func (r *resync) why() error {
	if !r.pending.Load() {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	text := fmt.Sprintf("fetching %d blobs anew after damage (%s)", r.missing.Load(), r.reason)
	if r.fault != "" {
		text += ": " + r.fault
	}
	return fmt.Errorf("%s: %w", text, ErrNotReady)
}

// resyncLoop fetches everything after damage, and looks once for what is missing
// after a start that followed a crash: a write-ahead file of Badger ends, without
// a word, where it is damaged.
func (n *Node) resyncLoop() {
	if n.waitFormed(n.ctx) != nil {
		return
	}
	for again := n.resync.pending.Load() || n.blobs.Unclean(); again && n.ctx.Err() == nil; {
		n.standAside()
		missing, err := n.fetchMissing(n.ctx)
		n.resync.setFault(err)
		switch {
		case err != nil:
			n.log.Info("not everything is here yet", "missing", n.resync.missing.Load(), "error", err)
		case n.caughtUpCatalog():
			again = false
			if missing > 0 || n.resync.pending.Load() {
				n.log.Warn("fetched what was missing", "blobs", missing)
			}
		}
		if again && !pause(n.ctx, resyncWait) {
			return
		}
	}
	if !n.resync.pending.Load() {
		return
	}
	if err := statefile.Remove(filepath.Join(n.cfg.Dir, resyncFile)); err != nil {
		n.log.Error("mark of the re-sync stays", "error", err)
	}
	n.resync.pending.Store(false)
	n.log.Warn("everything was fetched anew after damage")
}

func (n *Node) caughtUpCatalog() bool { return n.catalog.whole.Load() }

// standAside gives leadership of blob groups away while blobs are missing here.
func (n *Node) standAside() {
	if !n.resync.pending.Load() {
		return
	}
	for _, g := range n.hosted() {
		if g.raft.State() != raft.Leader || len(g.voters()) < 2 {
			continue
		}
		if err := g.raft.LeadershipTransfer().Error(); err != nil {
			g.log.Info("leadership not given away yet", "error", err)
		}
	}
}

// mayLead says whether this node may answer for a group as its leader.
func (n *Node) mayLead(name string) bool {
	return name == placement.CatalogGroup || !n.resync.pending.Load()
}

// fetchMissing brings here every blob that the catalog refers to, that belongs
// here, and that is not whole here though it is elsewhere. It returns how many
// that were.
func (n *Node) fetchMissing(ctx context.Context) (int, error) {
	var missing []blobstore.ID
	var last blobstore.ID
	for row, err := range n.rows.Scan(ctx, blobstore.RefPrefix, "") {
		id, perr := refID(row.Key)
		if err = errors.Join(err, perr); err != nil {
			return 0, fmt.Errorf("references: %w", err)
		}
		if id == last || n.shard(shardOf(id, n.charter.Shards)) == nil {
			continue
		}
		last = id
		if have, err := n.blobs.Stat(ctx, id); err != nil || !have.Sealed {
			missing = append(missing, id)
		}
	}
	n.resync.missing.Store(int64(len(missing)))
	var (
		wg    sync.WaitGroup
		slots = make(chan struct{}, fetchersMax)
		count atomic.Int64
		mu    sync.Mutex
		first error
	)
	for _, id := range missing {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			fetched, err := n.fetchOne(ctx, id)
			if err != nil {
				mu.Lock()
				defer mu.Unlock()
				if first == nil {
					first = fmt.Errorf("blob %s: %w", id, err)
				}
				return
			}
			n.resync.missing.Add(-1)
			if fetched {
				count.Add(1)
			}
		})
	}
	wg.Wait()
	if first != nil {
		return int(count.Load()), first
	}
	return int(count.Load()), n.blobs.Sync() //nolint:wrapcheck // in the words of blobstore
}

// fetchOne fetches a blob as far as another replica has it, if that is further
// than this one.
func (n *Node) fetchOne(ctx context.Context, id blobstore.ID) (bool, error) {
	if n.nobodyHas(ctx, id) {
		return false, nil
	}
	v, err := openRemote(ctx, n, id, nil)
	if errors.Is(err, blobstore.ErrNotFound) {
		return false, nil // removed since
	}
	if err != nil {
		return false, err
	}
	info := v.Info()
	if err := v.Close(); err != nil {
		return false, err //nolint:wrapcheck // a view closes without words
	}
	have, err := n.blobs.Stat(ctx, id)
	if err == nil && have.Sealed == info.Sealed && have.Size >= info.Size {
		return false, nil
	}
	return true, n.pullBlob(ctx, info)
}
