package cluster

import (
	"maps"
	"path/filepath"
	"slices"

	"carillon/cluster/statefile"
)

// whereaboutsFile remembers where the others were last, so that a node without
// seeds, as the first one often is, finds them again after a restart, and so
// that nodes that all came back elsewhere find those that are nobody's seed.
const whereaboutsFile = "peers.json"

// whereabouts are gossip addresses by node.
type whereabouts map[string]string

// readWhereabouts reads what was written down when this node last ran. That is
// only a help: a file that cannot be read is as good as none.
func readWhereabouts(dir string) whereabouts {
	var known whereabouts
	if statefile.Read(filepath.Join(dir, whereaboutsFile), &known) != nil || known == nil {
		return whereabouts{}
	}
	return known
}

// addrs are all addresses, of a cluster of any size that we allow.
func (w whereabouts) addrs() []string {
	all := slices.Sorted(maps.Values(w))
	return all[:min(len(all), ExpectMax)]
}

// noteWhereabouts writes down where the others are, if that has changed. Who is
// away stays in it as long as it is a member: it may be the one that does not
// know where we are.
func (n *Node) noteWhereabouts(noted whereabouts) whereabouts {
	now := maps.Clone(noted)
	if members := n.memberIDs(); len(members) > 0 {
		maps.DeleteFunc(now, func(id, _ string) bool { return !members[id] })
	}
	for _, m := range n.gossip.Members() {
		if m.ID != n.id && m.Alive {
			now[m.ID] = m.Addr
		}
	}
	if maps.Equal(now, noted) {
		return noted
	}
	if err := statefile.Write(filepath.Join(n.cfg.Dir, whereaboutsFile), now); err != nil {
		n.log.Warn("addresses of the others not written down", "error", err)
	}
	return now
}

// memberIDs are the members of the catalog, which all nodes of the cluster are,
// as far as this node knows; none before it knows.
func (n *Node) memberIDs() map[string]bool {
	if !n.isFormed() {
		return nil
	}
	ids := map[string]bool{}
	for _, s := range n.catalog.raft.GetConfiguration().Configuration().Servers {
		ids[string(s.ID)] = true
	}
	return ids
}
