package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"

	"carillon/blobstore"
	"carillon/cluster/command"
	"carillon/cluster/gossip"
	"carillon/cluster/placement"
)

// formatKey is the row that says which format of log commands the cluster writes:
// one that all its members read. The catalog's leader raises it when every member
// has announced a newer one. It never goes back. See DESIGN.md, "Upgrades".
const formatKey = "c1/format" // formatRow

// formatRow is the format that the cluster writes.
type formatRow struct {
	Format byte `json:"format"`
}

// FormatStatus is which formats of log commands a node reads and writes.
type FormatStatus struct {
	Writes int `json:"writes"` // what the cluster writes, as this node knows it
	Reads  int `json:"reads"`  // the newest that this node reads
	// Waits names the members for which the cluster does not write a newer
	// format yet: they are older, or away.
	Waits []string `json:"waits,omitempty"`
}

func parseFormat(s string) byte {
	v, err := strconv.ParseUint(s, 10, 8)
	if err != nil || v < command.FormatMin {
		return command.FormatMin
	}
	return byte(v)
}

// writes is the format that this node writes commands in.
func (n *Node) writes() byte { return cmp.Or(byte(n.format.Load()), command.FormatMin) }

// storedFormat reads the row; 0: there is none.
func (n *Node) storedFormat(ctx context.Context) (format byte, revision uint64, err error) {
	row, err := n.rows.Get(ctx, formatKey)
	if errors.Is(err, blobstore.ErrNotFound) {
		return 0, 0, nil
	}
	if err != nil {
		return 0, 0, fmt.Errorf("format of the cluster: %w", err)
	}
	var r formatRow
	err = decodeClusterRow(row, &r)
	return r.Format, row.Revision, err
}

// refreshFormat takes up what the catalog says. ErrFormat: this node cannot
// take part any more.
func (n *Node) refreshFormat(ctx context.Context, chartered byte) error {
	stored, _, err := n.storedFormat(ctx)
	if err != nil {
		return err
	}
	now := max(stored, chartered, command.FormatMin)
	if now > n.cfg.formatMax {
		return command.TooNew("the log of the cluster", now, n.cfg.formatMax)
	}
	n.format.Store(uint32(now))
	return nil
}

// lowestFormat is the newest format that every member reads, and who is in the
// way of a newer one.
func (n *Node) lowestFormat() (lowest byte, waits []string) {
	lowest, now := n.cfg.formatMax, n.writes()
	for _, id := range n.catalog.view().members() {
		m, ok := n.gossip.Member(id)
		reads := parseFormat(m.Format)
		if !ok || !m.Alive {
			reads = now // it may come back as it was
		}
		if reads < n.cfg.formatMax {
			waits = append(waits, id)
		}
		lowest = min(lowest, reads)
	}
	return lowest, waits
}

// raiseFormat lets the cluster write what all members read.
func (n *Node) raiseFormat(ctx context.Context) error {
	lowest, _ := n.lowestFormat()
	if lowest <= n.writes() {
		return nil
	}
	stored, revision, err := n.storedFormat(ctx)
	if err != nil || stored >= lowest {
		return err
	}
	value, err := encodeClusterRow(formatRow{lowest})
	if err != nil {
		return err
	}
	n.log.Info("all members read a newer format", "format", lowest, "was", n.writes())
	return n.commitStep(ctx, blobstore.Txn{
		If:  []blobstore.Cond{{Key: formatKey, Revision: revision}},
		Put: []blobstore.Row{{Key: formatKey, Value: value}},
	})
}

// foundersFormat is what a new cluster writes: what all its founders read.
func (n *Node) foundersFormat(founders []string) byte {
	lowest := n.cfg.formatMax
	for _, id := range founders {
		m, _ := n.gossip.Member(id)
		lowest = min(lowest, parseFormat(m.Format))
	}
	return lowest
}

// reads says whether a node that gossip knows understands this cluster.
func (n *Node) reads(m gossip.Member) bool { return parseFormat(m.Format) >= n.writes() }

func (n *Node) formatStatus() FormatStatus {
	s := FormatStatus{Writes: int(n.writes()), Reads: int(n.cfg.formatMax)}
	if n.isFormed() && s.Writes < s.Reads {
		_, s.Waits = n.lowestFormat()
	}
	return s
}

// fail ends the node for a reason that its owner must act on.
func (n *Node) fail(err error) {
	select {
	case n.failed <- err:
	default: // one reason to stop is enough
	}
}

// halts are the groups that this node has stopped because their logs hold what
// it does not understand. The node itself goes on, to say so: one that ended
// would be started again and again by its supervisor, and its reason would be
// lost in the log.
type halts struct {
	mu     sync.Mutex
	groups map[string]string // group → why; guarded by mu
}

func (h *halts) add(group, why string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.groups == nil {
		h.groups = make(map[string]string)
	}
	h.groups[group] = why
}

// any is one of them, "" if there is none.
func (h *halts) any() (group, why string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for g, w := range h.groups {
		if group == "" || g < group {
			group, why = g, w
		}
	}
	return group, why
}

func (h *halts) of(group string) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.groups[group]
}

// halt stops a group of this node. It is called by the group's own state
// machine, which the group waits for when it closes.
func (n *Node) halt(group string, err error) {
	n.log.Error("group stopped: its log holds what this version does not understand, install a newer one",
		"group", group, "error", err)
	n.halts.add(group, err.Error())
	n.wg.Go(func() {
		n.hosting.Lock()
		defer n.hosting.Unlock()
		for s, g := range n.hosted() {
			if g.name == group {
				n.shards[s].Store(nil)
				if err := g.close(); err != nil {
					n.log.Warn("stopped group not closed", "group", group, "error", err)
				}
			}
		}
		if group == placement.CatalogGroup && n.isFormed() {
			if err := n.catalog.close(); err != nil {
				n.log.Warn("stopped group not closed", "group", group, "error", err)
			}
		}
	})
}
