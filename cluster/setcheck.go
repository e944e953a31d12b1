package cluster

import (
	"errors"
	"sync"
	"time"

	"carillon/blobstore"
)

const (
	// setCheckWait is how often a node counts its whole catalog anew: seconds
	// of reading for a million documents, once a day. The first comes soon, so
	// that a node that starts with a damaged catalog says so.
	setCheckWait      = 24 * time.Hour
	setCheckFirstWait = 5 * time.Minute
)

// setCheck is what the last full count of the catalog found.
type setCheck struct {
	mu    sync.Mutex
	at    time.Time // of the last count that came to the same; guarded by mu
	fault string    // of the last count; guarded by mu
}

func (c *setCheck) note(at time.Time, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		c.fault = err.Error()
		return
	}
	c.at, c.fault = at, ""
}

func (c *setCheck) result() (checked *time.Time, fault string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.at.IsZero() {
		at := c.at
		checked = &at
	}
	return checked, c.fault
}

// setCheckLoop counts the catalog now and then and compares that with what is
// kept row by row.
func (n *Node) setCheckLoop() {
	timer := time.NewTimer(setCheckFirstWait)
	defer timer.Stop()
	for {
		select {
		case <-n.ctx.Done():
			return
		case <-timer.C:
		}
		n.checkSet()
		timer.Reset(setCheckWait)
	}
}

// checkSet counts once.
func (n *Node) checkSet() {
	begun := time.Now()
	position, err := n.rows.VerifySet(n.ctx)
	switch {
	case n.ctx.Err() != nil:
		return
	case errors.Is(err, blobstore.ErrCorrupt):
		n.log.Error("the catalog is not what was written: replace this node", "error", err)
	case err != nil:
		n.log.Warn("catalog not counted", "error", err)
		return
	default:
		n.log.Debug("catalog counted", "applied", position, "took", time.Since(begun))
	}
	n.setCheck.note(begun.UTC(), err)
}
