package cluster

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"carillon/blobstore"
)

// testWait bounds every wait of these tests; it is only reached by a failure.
const testWait = 30 * time.Second

// testNode is one node with its shelf, in one directory.
type testNode struct {
	*Node
	dir   string
	cfg   Config
	blobs *blobstore.Store
	rows  *blobstore.CatalogStore
}

// openNode opens or re-opens the node of a directory.
func openNode(tb testing.TB, dir string, cfg Config, deps Deps) *testNode {
	tb.Helper()
	return openNodeAt(tb, "one boot", dir, cfg, deps)
}

// openNodeAt is openNode at a boot of the machine.
func openNodeAt(tb testing.TB, boot, dir string, cfg Config, deps Deps) *testNode {
	tb.Helper()
	log := testLog(tb, filepath.Base(dir))
	blobs, err := blobstore.OpenStore(blobstore.StoreConfig{Dir: filepath.Join(dir, "blobs")}, log)
	if err != nil {
		tb.Fatal(err)
	}
	rows, err := blobstore.OpenCatalog(blobstore.CatalogConfig{
		Dir: filepath.Join(dir, "catalog"), Replayed: true, BootID: boot,
	}, log)
	if err != nil {
		tb.Fatal(err)
	}
	cfg.Dir = dir
	if cfg.Disk.ReserveBytes == 0 {
		cfg.Disk.ReserveBytes = -1 // tests may be on a disk in memory
	}
	deps.Blobs, deps.Catalog, deps.Log, deps.Metrics = blobs, rows, log, prometheus.NewRegistry()
	n, err := Open(cfg, deps)
	if err != nil {
		tb.Fatal(err)
	}
	return &testNode{Node: n, dir: dir, cfg: cfg, blobs: blobs, rows: rows}
}

// close stops node and shelf; twice is fine.
func (n *testNode) close(tb testing.TB) {
	tb.Helper()
	for _, c := range []io.Closer{n.Node, n.rows, n.blobs} {
		if err := c.Close(); err != nil {
			tb.Errorf("close %s: %v", filepath.Base(n.dir), err)
		}
	}
}

// testLog prints warnings of a node to the test's log when CARILLON_TEST_LOG is set.
func testLog(tb testing.TB, name string) *slog.Logger {
	tb.Helper()
	if os.Getenv("CARILLON_TEST_LOG") == "" {
		return slog.New(slog.DiscardHandler)
	}
	options := &slog.HandlerOptions{Level: slog.LevelInfo}
	return slog.New(slog.NewTextHandler(os.Stderr, options)).With("dir", name)
}

// testSegmentBytes is a file of a raft log: of several in each test, so that sound stays in
// them.
const testSegmentBytes = 256 << 10

// startCluster opens size nodes on loopback and waits until all are ready.
func startCluster(tb testing.TB, size int, change func(*Config)) []*testNode {
	tb.Helper()
	return startClusterWith(tb, size, change, nil)
}

// startClusterWith is startCluster with other parts below the nodes.
func startClusterWith(tb testing.TB, size int, change func(*Config), parts func(*Deps)) []*testNode {
	tb.Helper()
	root := tb.TempDir()
	nodes := make([]*testNode, size)
	var seeds []string
	for i := range nodes {
		cfg := Config{
			GossipBind: "127.0.0.1:0", PeerBind: "127.0.0.1:0", Expect: size, Shards: 3, Replicas: 3,
			ElectionWait: 300 * time.Millisecond, Seeds: seeds, segmentBytes: testSegmentBytes,
		}
		if change != nil {
			change(&cfg)
		}
		dir := filepath.Join(root, fmt.Sprintf("n%d", i))
		if err := os.Mkdir(dir, 0o700); err != nil {
			tb.Fatal(err)
		}
		var deps Deps
		if parts != nil {
			parts(&deps)
		}
		nodes[i] = openNode(tb, dir, cfg, deps)
		seeds = append(seeds, nodes[i].GossipAddr())
		tb.Cleanup(func() { nodes[i].close(tb) })
	}
	waitReady(tb, nodes...)
	return nodes
}

// waitReady waits until every given node is ready.
func waitReady(tb testing.TB, nodes ...*testNode) {
	tb.Helper()
	for _, n := range nodes {
		eventually(tb, "node ready", func() error { return n.Ready() })
	}
}

// eventually waits until f returns nil.
func eventually(tb testing.TB, what string, f func() error) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testWait)
	defer cancel()
	err := f()
	for err != nil && pause(ctx, 10*time.Millisecond) {
		err = f()
	}
	if err != nil {
		tb.Fatalf("%s: %v", what, err)
	}
}

// noise is size bytes that depend on seed only.
func noise(seed uint64, size int) []byte {
	b := make([]byte, size)
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16)})
	_, _ = r.Read(b)
	return b
}

// upload stores body as a blob and a catalog row that refers to it, in one
// step if it is small, as the library does.
func upload(ctx context.Context, n *testNode, key string, body []byte) (blobstore.ID, error) {
	return uploadAs(ctx, n, blobstore.ID{}, key, body)
}

// uploadAs is upload of a blob whose id the caller has chosen, if it has.
func uploadAs(
	ctx context.Context, n *testNode, as blobstore.ID, key string, body []byte,
) (blobstore.ID, error) {
	rec := blobstore.NewRecorder(ctx, n.Writer(), blobstore.RecorderConfig{ID: as, BytesMax: 1 << 30})
	if _, err := rec.Write(body); err != nil {
		return blobstore.ID{}, err
	}
	defer rec.Release()
	id := rec.ID()
	txn := blobstore.Txn{Put: []blobstore.Row{{Key: key, Value: id[:]}, {Key: blobstore.RefKey(id, key)}}}
	whole, ok, err := rec.Whole()
	if ok {
		txn.Sound = &whole
	} else if err == nil {
		_, _, err = rec.Seal(ctx)
	}
	if err == nil {
		_, err = n.Catalog().Commit(ctx, txn)
	}
	return id, err
}

// mustUpload is upload that must succeed.
func mustUpload(t *testing.T, n *testNode, key string, body []byte) blobstore.ID {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testWait)
	defer cancel()
	id, err := upload(ctx, n, key, body)
	if err != nil {
		t.Fatalf("upload %s: %v", key, err)
	}
	return id
}

// checkItem reads the row and the blob on a node and compares the bytes.
func checkItem(ctx context.Context, n *testNode, key string, want []byte) error {
	if err := n.Catalog().Fresh(ctx); err != nil {
		return err
	}
	row, err := n.Catalog().Get(ctx, key)
	if err != nil {
		return fmt.Errorf("row %s: %w", key, err)
	}
	var id blobstore.ID
	copy(id[:], row.Value)
	r, err := n.Shelf().Open(ctx, id)
	if err != nil {
		return fmt.Errorf("open %s: %w", key, err)
	}
	got, err := io.ReadAll(r)
	if err == nil && !bytes.Equal(got, want) {
		err = fmt.Errorf("item %s: %d bytes with hash %x, want %d with %x", key,
			len(got), sha256.Sum256(got), len(want), sha256.Sum256(want))
	}
	if cerr := r.Close(); err == nil {
		err = cerr
	}
	return err
}

// digests compares the catalogs of all nodes once they have applied the same.
func sameCatalogs(t *testing.T, nodes ...*testNode) {
	t.Helper()
	eventually(t, "equal catalogs", func() error {
		var seen []string
		for _, n := range nodes {
			d, err := n.rows.Digest()
			if err != nil {
				return err
			}
			seen = append(seen, fmt.Sprintf("%d:%x", n.rows.Applied(), d))
		}
		for _, s := range seen {
			if s != seen[0] {
				return fmt.Errorf("catalogs differ: %s", strings.Join(seen, " "))
			}
		}
		return nil
	})
	for _, n := range nodes {
		if _, err := n.rows.VerifySet(t.Context()); err != nil {
			t.Errorf("set of %s: %v", n.ID(), err)
		}
	}
}
