package cluster

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"carillon/blobstore"
)

const (
	// lookWait is how often it is asked whether a database met a damaged block.
	// Until then the catalog answers nothing; this is how soon it is built again.
	lookWait = time.Second
	// indexLookWait is how often the indexes of the tables are read, which nothing
	// checks when they are used: 20 KiB for a table of 2 MiB.
	indexLookWait = time.Minute
)

// lookLoop ends the node once one of its databases is damaged.
func (n *Node) lookLoop() {
	tick := time.NewTicker(lookWait)
	defer tick.Stop()
	indexes := time.Now()
	for {
		select {
		case <-n.ctx.Done():
			return
		case <-tick.C:
		}
		if err := n.lookAtDoubts(); errors.Is(err, blobstore.ErrCorrupt) {
			return
		}
		if time.Since(indexes) < indexLookWait {
			continue
		}
		indexes = time.Now()
		if n.condemnIfDamaged(n.rows.CheckIndexes(), n.blobs.CheckIndexes()) != nil {
			return
		}
	}
}

// lookAtDoubts looks at the databases if a block of a table of either did not
// match its checksum.
func (n *Node) lookAtDoubts() error {
	rows := n.rows.Look(n.ctx)
	doubted, blobs := n.blobs.Look()
	if err := n.condemnIfDamaged(rows, blobs); err != nil || !doubted {
		return err
	}
	n.log.Warn("a block of a table could not be read, and all tables can")
	if !n.isFormed() {
		return nil
	}
	// A compaction may have left out what was in it.
	if missing, err := n.fetchMissing(n.ctx); missing > 0 || err != nil {
		n.log.Warn("fetched what was missing", "blobs", missing, "error", err)
	}
	return nil
}

// checkDatabases reads the tables of both databases.
func (n *Node) checkDatabases() error {
	return n.condemnIfDamaged(n.rows.CheckTables(), n.blobs.CheckTables())
}

// condemnIfDamaged ends the node if a look at one of its databases found damage.
func (n *Node) condemnIfDamaged(rows, blobs error) error {
	switch {
	case errors.Is(rows, blobstore.ErrCorrupt):
		n.damaged("catalog", n.rows.Condemn, rows)
		return rows
	case errors.Is(blobs, blobstore.ErrCorrupt):
		n.damaged("blobs", n.blobs.Condemn, blobs)
		return blobs
	}
	return nil
}

// damaged ends the node because one of its databases is: the process opens it
// again, and puts it aside.
func (n *Node) damaged(what string, condemn func(reason string) error, err error) {
	why := fmt.Sprintf("the database %s is damaged: %v", what, err)
	if !n.condemned.CompareAndSwap(nil, &why) {
		return // one reason to stop is enough
	}
	n.metrics.corrupt.Inc()
	n.log.Error("database is damaged; this node starts again without it", "database", what, "error", err)
	if cerr := condemn(err.Error()); cerr != nil {
		n.log.Error("damaged database not marked", "error", cerr)
	}
	n.fail(fmt.Errorf("%s: %w: %w", what, ErrDamaged, err))
}

// putAside names, from the data directory on, what was damaged, or unknown, and
// lies beside what took its place.
func (n *Node) putAside() []string {
	var all []string
	for _, pattern := range []string{"*damaged-*", "*/*damaged-*"} {
		found, _ := filepath.Glob(filepath.Join(n.cfg.Dir, pattern)) // the pattern is well formed
		for _, path := range found {
			if name, err := filepath.Rel(n.cfg.Dir, path); err == nil {
				all = append(all, name)
			}
		}
	}
	slices.Sort(all)
	return all
}
