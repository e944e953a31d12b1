package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"carillon/blobstore"
	"carillon/cluster/gossip"
	"carillon/internal/simnet"
)

// simSchedules is how many fault schedules a plain `go test` runs; `make sim`
// sets CARILLON_SIM to more.
const simSchedules = 4

// TestSimulation runs whole clusters in virtual time on a simulated network
// that cuts, delays, drops, kills and renumbers, while clients write. Afterwards
// every acknowledged item must be on every node, all catalogs equal, and a live
// blob must hold every byte that was acknowledged.
//
// The seed gives the plan of faults and is printed when a run fails. It does
// not replay the order of goroutines: run a seed many times with
// CARILLON_SIM_SEED.
func TestSimulation(t *testing.T) {
	count, first := envInt(t, "CARILLON_SIM", simSchedules), envInt(t, "CARILLON_SIM_SEED", 1)
	for seed := first; seed < first+count; seed++ {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) { simulate(t, dir, uint64(seed)) })
		})
	}
}

// TestCommitsAreToldAtOnce measures in virtual time how long followers take to
// apply a commit that nothing follows: a hint, not raft's CommitTimeout.
func TestCommitsAreToldAtOnce(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := newSim(t, dir, 1)
		defer s.closeAll()
		for i := range 20 {
			pause(t.Context(), time.Second)
			begun := time.Now()
			txn := blobstore.Txn{Put: []blobstore.Row{{Key: fmt.Sprintf("k%d", i)}}}
			index, err := s.nodes[i%simNodes].Catalog().Commit(t.Context(), txn)
			if err != nil {
				t.Fatal(err)
			}
			for k, n := range s.nodes {
				if err := n.rows.WaitApplied(t.Context(), index); err != nil {
					t.Fatal(err)
				}
				if took := time.Since(begun); took > commitWait/5 {
					t.Errorf("node %d applied commit %d after %v", k, i, took)
				}
			}
		}
	})
}

// TestReadFromHungReplica reads a blob that this node does not hold while the
// leader of its shard is cut off and silent: another replica must answer within
// the patience of a caller, measured in virtual time.
func TestReadFromHungReplica(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := newSim(t, dir, 1)
		defer s.closeAll()
		body := noise(3, 300_000)
		id := mustUpload(t, s.nodes[0], "item", body)
		shard := shardOf(id, s.nodes[0].charter.Shards)
		lead := 0
		for i, n := range s.nodes {
			eventually(t, "item applied", func() error { return hasPrefix(n, id, body) })
			if n.shard(shard).leads() {
				lead = i
			}
		}
		reader := s.nodes[(lead+1)%simNodes]
		if err := reader.applyHere(blobstore.Op{Kind: blobstore.OpRemove, ID: id}); err != nil {
			t.Fatal(err)
		}
		s.net.Isolate(hostName(lead))
		begun := time.Now()
		r, err := reader.Shelf().Open(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		if err = errors.Join(err, r.Close()); err != nil || !bytes.Equal(got, body) {
			t.Errorf("read %d bytes: %v", len(got), err)
		}
		if took := time.Since(begun); took > 2*statWait {
			t.Errorf("took %v", took)
		}
		s.net.HealAll()
	})
}

func envInt(t testing.TB, name string, def int) int {
	t.Helper()
	v := os.Getenv(name)
	if v == "" {
		return def
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < 0 {
		t.Fatalf("%s=%q is no number", name, v)
	}
	return n
}

// sim is one cluster in a bubble.
type sim struct {
	t     *testing.T
	net   *simnet.Net
	rand  *rand.Rand
	dir   string
	nodes []*testNode

	mu    sync.Mutex
	acked map[string][]byte // guarded by mu
	live  map[blobstore.ID][]byte
}

const (
	simNodes = 3
	simSteps = 8
	gossipAt = 7946
	peerAt   = 7947
)

// newSim opens a cluster and waits until it is ready.
func newSim(t *testing.T, dir string, seed uint64) *sim {
	t.Helper()
	s := &sim{
		t: t, net: simnet.New(seed), rand: rand.New(rand.NewPCG(seed, 1)), dir: dir,
		nodes: make([]*testNode, simNodes), acked: map[string][]byte{}, live: map[blobstore.ID][]byte{},
	}
	for i := range s.nodes {
		s.open(i)
	}
	waitReady(t, s.nodes...)
	return s
}

// closeAll empties the bubble, also when a check failed.
func (s *sim) closeAll() {
	for _, n := range s.nodes {
		if n != nil {
			n.close(s.t)
		}
	}
	// memberlist does not wait for its last probe.
	pause(context.Background(), gossip.SettleTime)
}

func simulate(t *testing.T, dir string, seed uint64) {
	t.Helper()
	s := newSim(t, dir, seed)
	defer s.closeAll()
	ctx, stop := context.WithCancel(t.Context())
	var clients sync.WaitGroup
	defer clients.Wait()
	defer stop()
	for w := range simNodes {
		clients.Go(func() { s.upload(ctx, w) })
		clients.Go(func() { s.record(ctx, w) })
	}
	for range simSteps {
		s.fault()
	}
	s.net.HealAll()
	stop()
	clients.Wait()
	s.check()
}

func hostName(i int) string { return "h" + strconv.Itoa(i) }

// open starts node i on its host, on the data it had.
func (s *sim) open(i int) {
	s.t.Helper()
	var seeds []string
	for k := range simNodes {
		seeds = append(seeds, fmt.Sprintf("%s:%d", s.net.Host(hostName(k)).IP(), gossipAt))
	}
	host := s.net.Host(hostName(i))
	packets, err := host.Gossip(gossipAt)
	if err != nil {
		s.t.Fatal(err)
	}
	dir := filepath.Join(s.dir, hostName(i))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		s.t.Fatal(err)
	}
	n := openNode(s.t, dir, Config{
		GossipBind: fmt.Sprintf("%s:%d", host.IP(), gossipAt), PeerBind: fmt.Sprintf("%s:%d", host.IP(), peerAt),
		Advertise: host.IP(), Expect: simNodes, Shards: 2, Replicas: simNodes, Seeds: seeds,
	}, Deps{Network: host, Gossip: packets})
	s.mu.Lock()
	s.nodes[i] = n
	s.mu.Unlock()
}

func (s *sim) node(i int) *testNode {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.nodes[i]
}

// fault does one thing to the cluster and lets it last for a while.
func (s *sim) fault() {
	a, b := s.rand.IntN(simNodes), s.rand.IntN(simNodes)
	last := time.Duration(500+s.rand.IntN(4000)) * time.Millisecond
	switch kind := s.rand.IntN(7); kind {
	case 0: // one node alone
		s.net.Isolate(hostName(a))
		s.wait(last)
		s.net.HealAll()
	case 1: // a bridge: two nodes see only the third
		s.net.Cut(hostName(a), hostName((a+1)%simNodes))
		s.wait(last)
		s.net.HealAll()
	case 2:
		s.net.CutOneWay(hostName(a), hostName((a+1+b%2)%simNodes))
		s.wait(last)
		s.net.HealAll()
	case 3, 4: // the process dies and comes back, perhaps elsewhere
		old := s.node(a)
		if kind == 3 {
			s.net.Host(hostName(a)).Kill()
		} else {
			s.net.Host(hostName(a)).Renumber()
		}
		old.close(s.t)
		s.wait(last)
		s.open(a)
	case 5:
		s.net.Delay(hostName(a), hostName((a+1)%simNodes), 200*time.Millisecond, 50*time.Millisecond)
		s.wait(last)
		s.net.Delay(hostName(a), hostName((a+1)%simNodes), 0, 0)
	case 6: // nobody sees anybody
		s.net.Partition()
		s.wait(last)
		s.net.HealAll()
	}
	s.wait(time.Duration(s.rand.IntN(3000)) * time.Millisecond)
}

func (s *sim) wait(d time.Duration) { pause(s.t.Context(), d) }

// upload stores items through node w until ctx ends, and keeps what was
// acknowledged.
func (s *sim) upload(ctx context.Context, w int) {
	for i := 0; ctx.Err() == nil; i++ {
		key := fmt.Sprintf("w%d-%d", w, i)
		body := noise(uint64(w*1000+i), 1+(i*7919)%400_000)
		if _, err := upload(ctx, s.node(w), key, body); err == nil {
			s.mu.Lock()
			s.acked[key] = body
			s.mu.Unlock()
		}
		if !pause(ctx, 300*time.Millisecond) {
			return
		}
	}
}

// record grows a live blob through node w, repeating each piece until it is
// acknowledged, as a LiveRecorder does.
func (s *sim) record(ctx context.Context, w int) {
	id := blobstore.NewID()
	spec := blobstore.Spec{Live: true, Created: time.Now()}
	for s.node(w).Writer().Begin(ctx, id, spec) != nil {
		if !pause(ctx, 100*time.Millisecond) {
			return
		}
	}
	var written []byte
	for i := 0; ctx.Err() == nil; i++ {
		piece := noise(uint64(w*100_000+i), 500)
		for s.node(w).Writer().Append(ctx, id, int64(len(written)), piece) != nil {
			if !pause(ctx, 100*time.Millisecond) {
				return
			}
		}
		written = append(written, piece...)
		s.mu.Lock()
		s.live[id] = written
		s.mu.Unlock()
		if !pause(ctx, 250*time.Millisecond) {
			return
		}
	}
}

// check expects everything that was acknowledged, everywhere.
func (s *sim) check() {
	s.t.Helper()
	waitReady(s.t, s.nodes...)
	if len(s.acked) == 0 || len(s.live) == 0 {
		s.t.Fatalf("%d items and %d recordings acknowledged: this proves nothing", len(s.acked), len(s.live))
	}
	for i, n := range s.nodes {
		for key, body := range s.acked {
			eventually(s.t, fmt.Sprintf("node %d", i), func() error { return checkItem(s.t.Context(), n, key, body) })
		}
		for id, want := range s.live {
			eventually(s.t, fmt.Sprintf("recording on node %d", i), func() error { return hasPrefix(n, id, want) })
		}
	}
	sameCatalogs(s.t, s.nodes...)
}

// hasPrefix says whether the node's own copy of a live blob begins with want.
func hasPrefix(n *testNode, id blobstore.ID, want []byte) error {
	v, err := n.blobs.View(context.Background(), id)
	if err != nil {
		return err
	}
	got := make([]byte, len(want))
	for k := 0; k < len(got) && err == nil; {
		var step int
		step, err = v.Read(context.Background(), int64(k), got[k:])
		k += step
	}
	if cerr := v.Close(); err == nil {
		err = cerr
	}
	if err == nil && !bytes.Equal(got, want) {
		err = fmt.Errorf("blob %s has other bytes than acknowledged: %w", id, blobstore.ErrCorrupt)
	}
	return err
}
