package cluster

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"carillon/blobstore"
	"carillon/cluster/placement"
	"carillon/cluster/statefile"
)

// asideMark is in the name of every directory that was put aside.
const asideMark = ".damaged-"

// setUnknownAside puts aside what lies among the groups of this node and is none
// that the charter knows, as after a directory was copied from elsewhere: nobody
// would ever look at it, and a group of that name would one day take it for its
// own. Nothing is deleted.
func (n *Node) setUnknownAside(c *charter) error {
	entries, err := os.ReadDir(n.raftDir())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("look for unknown groups: %w", err)
	}
	known := map[string]bool{placement.CatalogGroup: true}
	for s := range c.Shards {
		known[placement.BlobGroup(s)] = true
	}
	for _, e := range entries {
		if !e.IsDir() || known[e.Name()] || strings.Contains(e.Name(), asideMark) {
			continue
		}
		aside, err := blobstore.SetAside(filepath.Join(n.raftDir(), e.Name()), time.Now())
		if err != nil {
			return fmt.Errorf("unknown group %s: %w", e.Name(), err)
		}
		n.log.Error("the cluster has no such group: put aside", "group", e.Name(), "aside", aside)
	}
	return nil
}

// checkOrphan refuses a directory that has the logs of groups and no charter:
// the node would found or join a cluster with the logs of another.
func checkOrphan(dir string) error {
	if _, err := os.Stat(filepath.Join(dir, "raft", placement.CatalogGroup)); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return fmt.Errorf("%s is gone, but the node has been in a cluster: %w; another node of the cluster has the "+
		"same file", filepath.Join(dir, charterFile), unmendable(statefile.ErrDamaged))
}
