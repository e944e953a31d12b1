package placement

import (
	"cmp"
	"hash/fnv"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	// WeightDefault is the capacity of a node that says nothing of it. A node
	// of twice the weight holds twice as many groups.
	WeightDefault = 100
	// WeightMax bounds the ratio between the largest and the smallest node.
	WeightMax = 10_000
	// ReplaceAfterDefault is how long a node may be away before others take its
	// place: longer than a reboot, and than most repairs of a network.
	ReplaceAfterDefault = 10 * time.Minute
	// votersMax: more voters make every commit slower and no loss less
	// likely in practice; further nodes follow as non-voters (design section 3).
	votersMax = 5
	// CatalogGroup is the name of the group every node is a member of.
	CatalogGroup = "catalog"
)

// BlobGroup is the name of the blob group of a shard.
func BlobGroup(shard int) string { return "blob-" + strconv.Itoa(shard) }

// State is what the operator wants of a node.
type State string

// The states of a node.
const (
	Active   State = "active"
	Draining State = "draining" // it gives away what it holds
	Removed  State = "removed"  // it is never to come back
)

// Node is what the cluster keeps of a node, as it lies in the catalog.
type Node struct {
	State  State  `json:"state"`
	Zone   string `json:"zone,omitempty"`
	Weight int    `json:"weight"`
	// Away is when the leader noticed that the node is away, Unix milliseconds;
	// 0 while it is here.
	Away int64 `json:"away,omitempty"`
}

// Lost says whether others are to take the node's place.
func (r Node) Lost(now time.Time, after time.Duration) bool {
	return r.Away != 0 && now.Sub(time.UnixMilli(r.Away)) >= after
}

// Map is where everything is to be.
type Map struct {
	Epoch  uint64              `json:"epoch"` // grows with each change
	Nodes  []string            `json:"nodes"` // that were thought of
	Voters []string            `json:"voters"`
	Groups map[string][]string `json:"groups"` // blob group → members
}

// Equal says whether everything is to be in the same places; epochs do not count.
func (p *Map) Equal(o *Map) bool {
	return slices.Equal(p.Nodes, o.Nodes) && slices.Equal(p.Voters, o.Voters) &&
		maps.EqualFunc(p.Groups, o.Groups, slices.Equal[[]string])
}

// Shape is what never changes of a cluster's placement.
type Shape struct{ Shards, Replicas int }

// Candidate is a node that may be chosen.
type Candidate struct {
	ID, Zone string
	Weight   int
}

// Place works out where everything is to be. What stands now matters in two
// cases: voters of the catalog stay if they can, and when there are fewer nodes
// than replicas, members that are lost keep their place, since nobody can take
// it and they may come back with it.
func Place(
	s Shape, rows map[string]Node, now time.Time, after time.Duration, current *Map,
) *Map {
	var able, lost []Candidate
	p := &Map{
		Epoch: current.Epoch, Nodes: slices.Sorted(maps.Keys(rows)),
		Groups: make(map[string][]string, s.Shards),
	}
	for _, id := range p.Nodes {
		c := Candidate{ID: id, Zone: rows[id].Zone, Weight: rows[id].Weight}
		switch {
		case rows[id].State != Active:
		case rows[id].Lost(now, after):
			lost = append(lost, c)
		default:
			able = append(able, c)
		}
	}
	for shard := range s.Shards {
		name := BlobGroup(shard)
		p.Groups[name] = fill(Choose(name, able, s.Replicas, nil), current.Groups[name], lost, s.Replicas)
	}
	want := VotersOf(len(able) + len(lost))
	p.Voters = fill(Choose(CatalogGroup, able, want, current.Voters), current.Voters, lost, want)
	return p
}

// VotersOf is how many of n nodes vote in the catalog: an even number would
// tolerate no more losses than one less, but two must not hang on one disk.
func VotersOf(n int) int {
	n = min(n, votersMax)
	if n > 2 && n%2 == 0 {
		n--
	}
	return n
}

// fill adds members that are lost while there are too few others.
func fill(chosen, current []string, lost []Candidate, n int) []string {
	for _, c := range lost {
		if len(chosen) < n && slices.Contains(current, c.ID) {
			chosen = append(chosen, c.ID)
		}
	}
	slices.Sort(chosen)
	return chosen
}

// Choose picks n of the nodes for a group by weighted rendezvous hashing
// (Thaler and Ravishankar, 1998): when a node comes or goes, only what it gets
// or had moves. A node of a zone that has fewer of those picked goes first, then
// one that is preferred, then the highest score.
func Choose(group string, nodes []Candidate, n int, preferred []string) []string {
	left := slices.Clone(nodes)
	taken := map[string]int{}
	var out []string
	for len(out) < n && len(left) > 0 {
		best := slices.MinFunc(left, func(a, b Candidate) int {
			return cmp.Or(
				cmp.Compare(taken[a.Zone], taken[b.Zone]),
				preferFirst(preferred, a.ID, b.ID),
				cmp.Compare(b.score(group), a.score(group)),
				cmp.Compare(a.ID, b.ID),
			)
		})
		taken[best.Zone]++
		out = append(out, best.ID)
		left = slices.DeleteFunc(left, func(c Candidate) bool { return c.ID == best.ID })
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
func (c Candidate) score(group string) float64 {
	u := (float64(hashScore(group, c.ID)>>11) + 0.5) / (1 << 53)
	return float64(c.Weight) / -math.Log(u)
}

// Leaders spreads the leadership of the blob groups: each group in turn is
// to be led by that of its members that leads the fewest so far.
func Leaders(p *Map, shards int) []string {
	led := map[string]int{}
	out := make([]string, shards)
	for shard := range shards {
		name := BlobGroup(shard)
		members := p.Groups[name]
		if len(members) == 0 {
			continue
		}
		out[shard] = slices.MinFunc(members, func(a, b string) int {
			return cmp.Or(cmp.Compare(led[a], led[b]), CompareScore(name, a, b))
		})
		led[out[shard]]++
	}
	return out
}

// hashScore is the score of a member for a group.
func hashScore(group, member string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(group + "\x00" + member)) // a hash never fails
	return mix(h.Sum64())
}

// CompareScore orders members for a group, the highest score first.
func CompareScore(group, a, b string) int {
	if sa, sb := hashScore(group, a), hashScore(group, b); sa != sb {
		if sa > sb {
			return -1
		}
		return 1
	}
	return strings.Compare(a, b)
}

// mix spreads FNV's weak high bits (the finalizer of MurmurHash3).
func mix(h uint64) uint64 {
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	h ^= h >> 33
	h *= 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}
