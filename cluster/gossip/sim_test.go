package gossip

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"carillon/internal/simnet"
)

// simNode opens a node on the host of its name.
func simNode(t *testing.T, n *simnet.Net, id string, seeds ...string) *Gossip {
	t.Helper()
	tr, err := n.Host(id).Gossip(7946)
	if err != nil {
		t.Fatal(err)
	}
	cfg := config(id, key(1), seeds...)
	cfg.Transport, cfg.Profile, cfg.Log = tr, ProfileLAN, slog.New(slog.DiscardHandler)
	g, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func closeAll(t *testing.T, nodes []*Gossip) {
	t.Helper()
	for _, g := range nodes {
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	}
	time.Sleep(SettleTime)
}

// within waits in virtual time and says how long it took.
func within(t *testing.T, limit time.Duration, what string, cond func() bool) {
	t.Helper()
	begin := time.Now()
	for !cond() {
		if time.Since(begin) > limit {
			t.Fatalf("not within %v: %s", limit, what)
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Logf("%s: %v", what, time.Since(begin))
}

func everyone(nodes []*Gossip, want string) func() bool {
	return func() bool {
		for _, g := range nodes {
			if alive(g) != want {
				return false
			}
		}
		return true
	}
}

func fiveSims(t *testing.T, n *simnet.Net) []*Gossip {
	t.Helper()
	seed := n.Host("n0").IP() + ":7946"
	var nodes []*Gossip
	for i := range 5 {
		nodes = append(nodes, simNode(t, n, fmt.Sprintf("n%d", i), seed))
	}
	within(t, 5*time.Second, "five join", everyone(nodes, "n0 n1 n2 n3 n4"))
	return nodes
}

func TestPartitionHeals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		n := simnet.New(seed)
		nodes := fiveSims(t, n)
		defer closeAll(t, nodes)
		n.Partition([]string{"n0", "n1"}, []string{"n2", "n3", "n4"})
		within(t, time.Minute, "two see two", everyone(nodes[:2], "n0 n1"))
		within(t, time.Minute, "three see three", everyone(nodes[2:], "n2 n3 n4"))
		time.Sleep(10 * time.Minute)
		n.HealAll()
		within(t, time.Minute, "all see five", everyone(nodes, "n0 n1 n2 n3 n4"))
	})
}

// TestLossyNetwork: with a fifth of the packets lost nobody is lost for long.
func TestLossyNetwork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := simnet.New(7)
		nodes := fiveSims(t, n)
		defer closeAll(t, nodes)
		for i := range 5 {
			for j := range i {
				n.Drop(fmt.Sprintf("n%d", i), fmt.Sprintf("n%d", j), 0.2)
				n.Delay(fmt.Sprintf("n%d", i), fmt.Sprintf("n%d", j), time.Millisecond, 5*time.Millisecond)
			}
		}
		bad := 0
		for range 600 {
			time.Sleep(time.Second)
			if !everyone(nodes, "n0 n1 n2 n3 n4")() {
				bad++
			}
		}
		if bad > 30 {
			t.Errorf("the view was incomplete in %d of 600 seconds", bad)
		}
	})
}

// TestReturnElsewhere: killed and back at once with another address, while the
// others still hold the old one for alive.
func TestReturnElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := simnet.New(1)
		nodes := fiveSims(t, n)
		defer func() { closeAll(t, nodes) }()
		n.Host("n2").Renumber()
		nodes = append(nodes, nodes[2]) // the old one, to be closed
		nodes[2] = simNode(t, n, "n2", n.Host("n0").IP()+":7946")
		want := n.Host("n2").IP() + ":7946"
		within(t, 20*time.Second, "n2 has moved", func() bool {
			for _, g := range nodes[:5] {
				if m, _ := g.Member("n2"); !m.Alive || m.Addr != want {
					return false
				}
			}
			return true
		})
	})
}

// TestSeedsGone: without any seed the last known addresses are enough.
func TestSeedsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := simnet.New(1)
		nodes := fiveSims(t, n)
		defer func() { closeAll(t, nodes) }()
		// n0 is the seed; it is switched off and never comes back.
		n.Isolate("n0")
		n.Host("n0").Kill()
		if err := nodes[0].Close(); err != nil {
			t.Error(err)
		}
		nodes = nodes[1:]
		within(t, time.Minute, "n0 is dead", everyone(nodes, "n1 n2 n3 n4"))
		n.Partition([]string{"n1", "n2"}, []string{"n3"}, []string{"n4"})
		within(t, time.Minute, "n4 is alone", everyone(nodes[3:], "n4"))
		time.Sleep(10 * time.Minute)
		n.HealAll()
		within(t, time.Minute, "four again", everyone(nodes, "n1 n2 n3 n4"))
		m, ok := nodes[0].Member("n0")
		if !ok || m.Alive || !strings.HasSuffix(m.Addr, ":7946") {
			t.Errorf("the dead seed is remembered as %+v", m)
		}
	})
}
