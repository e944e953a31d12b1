package cluster

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"carillon/blobstore"
	"carillon/cluster/command"
	"carillon/cluster/placement"
)

// upgraded closes a node and opens it again as another version.
func (n *testNode) upgraded(tb testing.TB, formatMax byte) *testNode {
	tb.Helper()
	n.close(tb)
	cfg := n.cfg
	cfg.formatMax = formatMax
	again := openNode(tb, n.dir, cfg, Deps{})
	tb.Cleanup(func() { again.close(tb) })
	return again
}

// withSeeds lets a node find the others again after all have moved.
func withSeeds(nodes []*testNode, except int) []string {
	var seeds []string
	for i, n := range nodes {
		if i != except {
			seeds = append(seeds, n.GossipAddr())
		}
	}
	return seeds
}

// writing writes rows and blobs through every node, until stopped, and fails
// the test if what was acknowledged is not there at the end.
type writing struct {
	nodes [3]atomic.Pointer[testNode]
	stop  context.CancelFunc
	wg    sync.WaitGroup

	mu    sync.Mutex
	keys  []string
	blobs []blobstore.ID
}

// startWriting writes through three nodes, some of which may be the same.
func startWriting(t *testing.T, nodes []*testNode) *writing {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	w := &writing{stop: stop}
	for i, n := range nodes {
		w.nodes[i].Store(n)
	}
	for i := range w.nodes {
		w.wg.Go(func() {
			for k := 0; ctx.Err() == nil; k++ {
				w.write(ctx, i, k)
			}
		})
	}
	t.Cleanup(func() { stop(); w.wg.Wait() })
	return w
}

// write makes one of each; a node that is closed or has no leader refuses,
// which is its right.
func (w *writing) write(ctx context.Context, i, k int) {
	n := w.nodes[i].Load()
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	key := fmt.Sprintf("t1/%d/%d", i, k)
	if _, err := n.Catalog().Commit(ctx, blobstore.Txn{
		Put:    []blobstore.Row{{Key: key, Value: []byte("v"), Weight: 1}},
		Append: []blobstore.Row{{Key: "te1/", Value: []byte(key)}},
	}); err == nil {
		w.mu.Lock()
		w.keys = append(w.keys, key)
		w.mu.Unlock()
	}
	id, data := blobstore.NewIDFor(n.Writer()), []byte(key)
	if err := n.Writer().Put(ctx, id, blobstore.Spec{}, data, blobstore.TotalsOf(data)); err == nil {
		w.mu.Lock()
		w.blobs = append(w.blobs, id)
		w.mu.Unlock()
	}
	pause(ctx, 2*time.Millisecond)
}

// acked is how much was acknowledged so far.
func (w *writing) acked() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.keys) + len(w.blobs)
}

// more waits until more is acknowledged: writes go on.
func (w *writing) more(t *testing.T) {
	t.Helper()
	before := w.acked()
	eventually(t, "writes go on", func() error { return unless(w.acked() > before+30) })
}

func (w *writing) check(t *testing.T, nodes []*testNode) {
	t.Helper()
	w.stop()
	w.wg.Wait()
	for _, n := range nodes {
		eventually(t, "all that was acknowledged is there", func() error {
			if err := n.Catalog().Fresh(t.Context()); err != nil {
				return err
			}
			for _, key := range w.keys {
				if _, err := n.Catalog().Get(t.Context(), key); err != nil {
					return err
				}
			}
			for _, id := range w.blobs {
				if _, err := n.Shelf().Stat(t.Context(), id); err != nil {
					return err
				}
			}
			return nil
		})
	}
	eventually(t, "all nodes have the same set", func() error {
		s := nodes[0].Status(t.Context())
		return unless(s.SameSet && s.UnderReplicated == 0)
	})
}

// TestRollingUpgrade: a cluster is upgraded node by node, while it is written
// to. It writes the old format until the last node reads the new one; then the
// new one, and a node of the old version is not let in any more.
func TestRollingUpgrade(t *testing.T) {
	const old, next = command.FormatMax, command.FormatMax + 1
	nodes := startCluster(t, 3, func(c *Config) { c.formatMax = old })
	w := startWriting(t, nodes)
	for i := range nodes {
		w.more(t)
		for k, n := range nodes {
			if n.writes() != old {
				t.Fatalf("node %d writes format %d after %d upgrades", k, n.writes(), i)
			}
		}
		nodes[i].cfg.Seeds = withSeeds(nodes, i)
		nodes[i] = nodes[i].upgraded(t, next)
		w.nodes[i].Store(nodes[i])
		waitReady(t, nodes...)
	}
	eventually(t, "the new format is written", func() error {
		for _, n := range nodes {
			if n.writes() != next {
				return fmt.Errorf("%s writes format %d", n.ID(), n.writes())
			}
		}
		return nil
	})
	w.more(t)
	w.check(t, nodes)

	// Back to the old version: refused, with a reason, and nothing is damaged.
	nodes[2].close(t)
	cfg := nodes[2].cfg
	cfg.Dir, cfg.formatMax = nodes[2].dir, old
	refused(t, nodes[2].dir, cfg)
	nodes[2] = nodes[2].upgraded(t, next)
	waitReady(t, nodes...)
}

// refused opens a node and expects that its version is too old.
func refused(t *testing.T, dir string, cfg Config) {
	t.Helper()
	log := testLog(t, "refused")
	blobs, err := blobstore.OpenStore(blobstore.StoreConfig{Dir: filepath.Join(dir, "blobs")}, log)
	if err != nil {
		t.Fatal(err)
	}
	rows, err := blobstore.OpenCatalog(blobstore.CatalogConfig{
		Dir: filepath.Join(dir, "catalog"), Replayed: true, BootID: "one boot",
	}, log)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := Open(cfg, Deps{Blobs: blobs, Catalog: rows, Log: log}); !errors.Is(err, blobstore.ErrFormat) ||
		!strings.Contains(err.Error(), "install a newer one") {
		t.Errorf("older version: %v", err)
		if err == nil {
			_ = n.Close()
		}
	}
	if err := errors.Join(rows.Close(), blobs.Close()); err != nil {
		t.Fatal(err)
	}
}

// TestUpgradeWaits: while one member is away, or old, the format stays, and
// the status says for whom.
func TestUpgradeWaits(t *testing.T) {
	const old, next = command.FormatMax, command.FormatMax + 1
	nodes := startCluster(t, 3, func(c *Config) { c.formatMax = old })
	nodes[0].cfg.Seeds = withSeeds(nodes, 0)
	nodes[0] = nodes[0].upgraded(t, next)
	waitReady(t, nodes...)
	s := nodes[0].LocalStatus().Format
	if s.Writes != old || s.Reads != next || len(s.Waits) != 2 {
		t.Errorf("%+v", s)
	}
	nodes[1].close(t)
	nodes[2].cfg.Seeds = withSeeds(nodes, 2)
	nodes[2] = nodes[2].upgraded(t, next)
	waitReady(t, nodes[0], nodes[2])
	eventually(t, "only the one that is away is waited for", func() error {
		s := nodes[0].LocalStatus().Format
		return unless(s.Writes == old && len(s.Waits) == 1 && s.Waits[0] == nodes[1].ID())
	})
}

// TestUnknownCommandStopsTheGroup: a node that meets a command that it does not
// understand applies nothing of it, stops that group, stays to say why, and
// goes on when it is upgraded; the others never notice.
func TestUnknownCommandStopsTheGroup(t *testing.T) {
	const old, next = command.FormatMax, command.FormatMax + 1
	nodes := startCluster(t, 3, func(c *Config) { c.formatMax = old })
	for i := range 2 {
		nodes[i].cfg.Seeds = withSeeds(nodes, i)
		nodes[i] = nodes[i].upgraded(t, next)
		waitReady(t, nodes...)
	}
	nodes[2].close(t)
	waitReady(t, nodes[:2]...)
	// A fault that the rule excludes: what the third member does not understand
	// gets into the logs.
	row := blobstore.Txn{Put: []blobstore.Row{{Key: "t1/next", Value: []byte("v")}}}
	commands := map[string][]byte{placement.CatalogGroup: command.EncodeTxn(next, command.TxnID{1}, row)}
	for s := range nodes[0].charter.Shards {
		commands[placement.BlobGroup(s)] = command.EncodeBlobs(next, nil)
	}
	for group, cmd := range commands {
		if _, _, err := nodes[0].propose(t.Context(), group, cmd); err != nil {
			t.Fatal(group, err)
		}
	}
	nodes[2].cfg.Seeds = withSeeds(nodes, 2)
	nodes[2] = nodes[2].upgraded(t, old)
	w := startWriting(t, []*testNode{nodes[0], nodes[1], nodes[0]})
	eventually(t, "the old node stops its groups", func() error {
		s := nodes[2].LocalStatus()
		if s.Ready || !strings.Contains(s.Reason, "is stopped") ||
			!strings.Contains(s.Reason, "install a newer one") {
			return fmt.Errorf("ready %v: %s", s.Ready, s.Reason)
		}
		return unless(s.Groups[0].Fault != "" || s.Groups[len(s.Groups)-1].Fault != "")
	})
	select {
	case err := <-nodes[2].Failed():
		t.Errorf("the node ended: %v", err)
	default:
	}
	w.more(t)
	nodes[2] = nodes[2].upgraded(t, next)
	waitReady(t, nodes...)
	w.check(t, nodes)
}

// TestOldNodeIsNotLetIn: a node of an older version that comes to a cluster of
// a newer one ends with the reason, and the cluster does not take it in.
func TestOldNodeIsNotLetIn(t *testing.T) {
	const old, next = command.FormatMax, command.FormatMax + 1
	nodes := startCluster(t, 1, func(c *Config) { c.formatMax, c.Replicas = next, 1 })
	cfg := nodes[0].cfg
	cfg.formatMax, cfg.Seeds = old, []string{nodes[0].GossipAddr()}
	late := openNode(t, t.TempDir(), cfg, Deps{})
	defer late.close(t)
	select {
	case err := <-late.Failed():
		if !errors.Is(err, blobstore.ErrFormat) || !strings.Contains(err.Error(), "install a newer one") {
			t.Errorf("it ended with %v", err)
		}
	case <-time.After(testWait): // only reached by a failure
		t.Fatal("it goes on")
	}
	if members := nodes[0].catalog.view().members(); len(members) != 1 {
		t.Errorf("members %v", members)
	}
}
