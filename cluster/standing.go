package cluster

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"carillon/blobstore"
	"carillon/cluster/placement"
	"carillon/cluster/statefile"
)

// removedFile marks the directory of a node that was removed from its cluster.
const removedFile = "removed.json"

const (
	// standingWait is how often a node that hears nothing from the catalog's
	// leader asks others whether it still belongs to them.
	standingWait = 5 * time.Second
	// standingAsked is how many it asks.
	standingAsked = 3
)

// removal is what removedFile holds.
type removal struct {
	Format  int       `json:"format"`
	Cluster string    `json:"cluster"`
	At      time.Time `json:"at"`
}

// checkRemoved is ErrRemoved for the directory of a removed node.
func checkRemoved(dir string) error {
	var r removal
	err := statefile.Read(filepath.Join(dir, removedFile), &r)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return fmt.Errorf("from cluster %s, noticed %s; to join again it needs an empty data directory: %w",
		r.Cluster, r.At.Format(time.RFC3339), ErrRemoved)
}

// checkStanding stops this node when it was removed: its own catalog says so,
// or, since a removed node is told nothing more, another node that it asks.
func (n *Node) checkStanding(ctx context.Context) {
	row, err := n.nodeRow(ctx, n.id)
	if err == nil && row.State == placement.Removed {
		// It stays until it is out of its groups, which may need its vote.
		if n.holdsNothing() {
			n.wasRemoved()
		}
		return
	}
	if n.catalog.leads() || time.Since(n.catalog.raft.LastContact()) < standingWait ||
		time.Since(n.asked) < standingWait {
		return
	}
	n.asked = time.Now()
	asked := 0
	for _, m := range n.gossip.Members() {
		if m.ID == n.id || !m.Alive || m.Cluster != n.charter.Cluster || asked == standingAsked {
			continue
		}
		asked++
		bounded, cancel := context.WithTimeout(ctx, memberCallWait)
		b, err := n.link.Call(bounded, m.ID, kindStanding, []byte(n.id))
		cancel()
		if err == nil && placement.State(b) == placement.Removed {
			n.wasRemoved()
			return
		}
	}
}

func (n *Node) holdsNothing() bool {
	for range n.hosted() {
		return false
	}
	return true
}

// wasRemoved writes down that this node was removed, and stops it.
func (n *Node) wasRemoved() {
	n.markRemoved()
	select {
	case n.failed <- fmt.Errorf("cluster %s: %w", n.charter.Cluster, ErrRemoved):
	default: // one reason to stop is enough
	}
}

// markRemoved writes down that this node was removed: it does not start again.
func (n *Node) markRemoved() {
	err := statefile.Write(filepath.Join(n.cfg.Dir, removedFile), removal{
		Format: charterFormat, Cluster: n.charter.Cluster, At: time.Now().UTC(),
	})
	if err != nil {
		n.log.Error("removal not written down", "error", err)
	}
}

// serveStanding says what this node knows of another one's standing. Removed is
// for ever, so it does not matter how old this node's knowledge is.
func (n *Node) serveStanding(ctx context.Context, _ string, req []byte) ([]byte, error) {
	if !n.isFormed() {
		return nil, errBehind
	}
	row, err := n.nodeRow(ctx, string(req))
	if errors.Is(err, blobstore.ErrNotFound) {
		return nil, nil
	}
	return []byte(row.State), err
}
