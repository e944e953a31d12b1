package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"carillon/blobstore"
	"carillon/cluster/placement"
	"carillon/cluster/raftlog"
	"carillon/cluster/statefile"
)

// A member whose log is damaged has forgotten what it voted and what it
// acknowledged. It puts the log aside, comes back to the group with an empty one,
// and is mute until it has everything again: it neither votes nor stands for
// election, or it could help into office a member that lacks what this one once
// acknowledged. The leader goes on sending it entries, or a snapshot. What it
// acknowledges meanwhile counts, because it is on its disk.

// rejoinMark is the file beside a group's directory that says so.
func (n *Node) rejoinMark(name string) string { return filepath.Join(n.raftDir(), name+".rejoin") }

// openOrRejoin opens a group. One whose log is damaged it begins anew as above,
// unless there is nobody to get it from.
func (n *Node) openOrRejoin(spec groupSpec, c *charter) (*group, error) {
	if _, err := os.Stat(n.rejoinMark(spec.name)); err == nil {
		spec.members, spec.mute = nil, true
	}
	g, err := openGroup(spec, n.link, n.raft, n.log)
	if !errors.Is(err, raftlog.ErrDamaged) {
		return g, err
	}
	if len(c.Members) < 2 || spec.name != placement.CatalogGroup && c.Replicas < 2 {
		return nil, fmt.Errorf("%w: %w; this node is the only member of group %s: restore a backup",
			ErrUnmendable, err, spec.name)
	}
	mark := resyncMark{Reason: err.Error(), Since: time.Now().UTC()}
	if merr := statefile.Write(n.rejoinMark(spec.name), mark); merr != nil {
		return nil, errors.Join(merr, err)
	}
	aside, aerr := blobstore.SetAside(filepath.Join(spec.dir, spec.name), time.Now())
	if aerr != nil {
		return nil, errors.Join(aerr, err)
	}
	n.log.Error("raft log is damaged: put aside, and fetched anew; this node does not vote until it has it",
		"group", spec.name, "error", err, "aside", aside)
	spec.members, spec.mute = nil, true
	return openGroup(spec, n.link, n.raft, n.log)
}

// unmute lets the groups vote again that have everything.
func (n *Node) unmute(ctx context.Context) {
	for _, g := range n.groups() {
		if !g.transport.IsMuted() {
			continue
		}
		v, err := n.verifiedView(ctx, g.name)
		if err != nil || v.Index == 0 || g.raft.AppliedIndex() < v.Index {
			continue
		}
		if err := statefile.Remove(n.rejoinMark(g.name)); err != nil {
			g.log.Error("mark of a lost log stays", "error", err)
			continue
		}
		g.transport.SetMuted(false)
		g.log.Warn("log is whole again; this node votes", "index", v.Index)
	}
}

// mutedGroup is a group in which this node does not vote yet, or "".
func (n *Node) mutedGroup() string {
	for _, g := range n.groups() {
		if g.transport.IsMuted() {
			return g.name
		}
	}
	return ""
}
