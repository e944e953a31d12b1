package cluster

import (
	"context"
	"time"

	"carillon/blobstore"
)

// doubtWait is the pause between two looks at all tables because of a doubt: each
// reads every block of the databases' tables.
const doubtWait = time.Minute

// gone says whether a blob that this node leads the group of, and does not find,
// is gone. While the catalog refers to it and another member has it, it is not:
// Badger answers for a damaged block of a table as if its keys had never been.
// Then the tables are looked at now and not at the next scrub, and the blob is
// fetched again.
func (n *Node) gone(ctx context.Context, id blobstore.ID) bool {
	if referenced, err := n.referenced(ctx, id); err == nil && !referenced || n.nobodyHas(ctx, id) {
		return true
	}
	n.metrics.corrupt.Inc()
	n.log.Error("a blob that others have is not found here", "blob", id.String())
	now := time.Now().UnixNano()
	last := n.doubted.Load()
	look := now-last > int64(doubtWait) && n.doubted.CompareAndSwap(last, now)
	n.wg.Go(func() { // it outlives the read
		if look && n.checkDatabases() != nil {
			return // the node ends, and fetches everything anew
		}
		if _, err := n.fetchOne(n.ctx, id); err != nil && n.ctx.Err() == nil {
			n.log.Error("blob not fetched again", "blob", id.String(), "error", err)
		}
	})
	return false
}
