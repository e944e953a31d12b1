package cluster

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"time"
)

// Placement says which nodes are to hold which group. It is worked out by the
// catalog's leader from the rows of the nodes, kept in a row of the catalog,
// and moved toward by the leader of each group (moves.go) and by the nodes that
// open and close their groups (host.go).

const (
	// WeightDefault is the capacity of a node that says nothing of it. A node
	// of twice the weight holds twice as many groups.
	WeightDefault = 100
	// WeightMax bounds the ratio between the largest and the smallest node.
	WeightMax = 10_000
	// ReplaceAfterDefault is how long a node may be away before others take its
	// place: longer than a reboot, and than most repairs of a network.
	ReplaceAfterDefault = 10 * time.Minute
)

// nodeState is what the operator wants of a node.
type nodeState string

const (
	nodeActive   nodeState = "active"
	nodeDraining nodeState = "draining" // it gives away what it holds
	nodeRemoved  nodeState = "removed"  // it is never to come back
)

// nodeRow is what the cluster keeps of a node, under nodeKey.
type nodeRow struct {
	State  nodeState `json:"state"`
	Zone   string    `json:"zone,omitempty"`
	Weight int       `json:"weight"`
	// Away is when the leader noticed that the node is away, Unix milliseconds;
	// 0 while it is here.
	Away int64 `json:"away,omitempty"`
}

// lost says whether others are to take the node's place.
func (r nodeRow) lost(now time.Time, after time.Duration) bool {
	return r.Away != 0 && now.Sub(time.UnixMilli(r.Away)) >= after
}

// placement is where everything is to be.
type placement struct {
	Epoch  uint64              `json:"epoch"` // grows with each change
	Nodes  []string            `json:"nodes"` // that were thought of
	Voters []string            `json:"voters"`
	Groups map[string][]string `json:"groups"` // blob group → members
}

func (p *placement) equal(o *placement) bool {
	return slices.Equal(p.Nodes, o.Nodes) && slices.Equal(p.Voters, o.Voters) &&
		maps.EqualFunc(p.Groups, o.Groups, slices.Equal[[]string])
}

// shape is what never changes of a cluster's placement.
type shape struct{ shards, replicas int }

// candidate is a node that may be chosen.
type candidate struct {
	id, zone string
	weight   int
}

// place works out where everything is to be. What stands now matters in two
// cases: voters of the catalog stay if they can, and when there are fewer nodes
// than replicas, members that are lost keep their place, since nobody can take
// it and they may come back with it.
func place(
	s shape, rows map[string]nodeRow, now time.Time, after time.Duration, current *placement,
) *placement {
	var able, lost []candidate
	p := &placement{
		Epoch: current.Epoch, Nodes: slices.Sorted(maps.Keys(rows)),
		Groups: make(map[string][]string, s.shards),
	}
	for _, id := range p.Nodes {
		c := candidate{id: id, zone: rows[id].Zone, weight: rows[id].Weight}
		switch {
		case rows[id].State != nodeActive:
		case rows[id].lost(now, after):
			lost = append(lost, c)
		default:
			able = append(able, c)
		}
	}
	for shard := range s.shards {
		name := blobGroup(shard)
		p.Groups[name] = fill(choose(name, able, s.replicas, nil), current.Groups[name], lost, s.replicas)
	}
	want := votersOf(len(able) + len(lost))
	p.Voters = fill(choose(catalogGroup, able, want, current.Voters), current.Voters, lost, want)
	return p
}

// votersOf is how many of n nodes vote in the catalog: an even number would
// tolerate no more losses than one less, but two must not hang on one disk.
func votersOf(n int) int {
	n = min(n, catalogVotersMax)
	if n > 2 && n%2 == 0 {
		n--
	}
	return n
}

// fill adds members that are lost while there are too few others.
func fill(chosen, current []string, lost []candidate, n int) []string {
	for _, c := range lost {
		if len(chosen) < n && slices.Contains(current, c.id) {
			chosen = append(chosen, c.id)
		}
	}
	slices.Sort(chosen)
	return chosen
}

// choose picks n of the nodes for a group by weighted rendezvous hashing
// (Thaler and Ravishankar, 1998): when a node comes or goes, only what it gets
// or had moves. A node of a zone that has fewer of those picked goes first, then
// one that is preferred, then the highest score.
func choose(group string, nodes []candidate, n int, preferred []string) []string {
	left := slices.Clone(nodes)
	taken := map[string]int{}
	var out []string
	for len(out) < n && len(left) > 0 {
		best := slices.MinFunc(left, func(a, b candidate) int {
			return cmp.Or(
				cmp.Compare(taken[a.zone], taken[b.zone]),
				preferFirst(preferred, a.id, b.id),
				cmp.Compare(b.score(group), a.score(group)),
				cmp.Compare(a.id, b.id),
			)
		})
		taken[best.zone]++
		out = append(out, best.id)
		left = slices.DeleteFunc(left, func(c candidate) bool { return c.id == best.id })
	}
	slices.Sort(out)
	return out
}

func preferFirst(preferred []string, a, b string) int {
	pa, pb := slices.Contains(preferred, a), slices.Contains(preferred, b)
	switch {
	case pa && !pb:
		return -1
	case pb && !pa:
		return 1
	}
	return 0
}

// score of a candidate for a group: its hash as a number u in (0, 1), and
// weight / -ln(u), by which a node is first with a probability in proportion to
// its weight (Schindelhauer and Schomaker, 2005).
func (c candidate) score(group string) float64 {
	u := (float64(hashScore(group, c.id)>>11) + 0.5) / (1 << 53)
	return float64(c.weight) / -math.Log(u)
}

// leadersOf spreads the leadership of the blob groups: each group in turn is
// to be led by that of its members that leads the fewest so far.
func leadersOf(p *placement, shards int) []string {
	led := map[string]int{}
	out := make([]string, shards)
	for shard := range shards {
		name := blobGroup(shard)
		members := p.Groups[name]
		if len(members) == 0 {
			continue
		}
		out[shard] = slices.MinFunc(members, func(a, b string) int {
			return cmp.Or(cmp.Compare(led[a], led[b]), compareScore(name, a, b))
		})
		led[out[shard]]++
	}
	return out
}
