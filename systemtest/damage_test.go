package systemtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const (
	// damageItems are stored before anything is damaged.
	damageItems = 40
	// damagedBits are flipped in one file.
	damagedBits = 8
	// damageWait is how long a damaged node may take to be ready or to end.
	damageWait = 30 * time.Second
)

// damage is a kind of file, and how its node ends before it is damaged.
type damage struct {
	name, pattern string
	kill          bool // else it is stopped in order: that writes other files
}

func damages() []damage {
	return []damage{
		{"value log", "blobs/values/*.vlog", false},
		{"value log in use", "blobs/values/*.vlog", true},
		{"table", "blobs/*.sst", false},
		{"write-ahead file", "blobs/*.mem", true},
		{"list of tables", "blobs/MANIFEST", false},
		{"catalog table", "catalog/catalog-*/*.sst", false},
		{"catalog write-ahead file", "catalog/catalog-*/*.mem", true},
		{"catalog list of tables", "catalog/catalog-*/MANIFEST", false},
		{"raft log of the catalog", "raft/catalog/wal/*.wal", true},
		{"raft log of a shard", "raft/blob-*/wal/*.wal", false},
		{"raft meta", "raft/catalog/wal/wal-meta.db", true},
		{"charter", "cluster.json", false},
		{"identity", "node.json", false},
	}
}

// TestDamage flips bits in one node's files and cuts them off, one kind after
// another: the node heals from the others or refuses to start and says why,
// nobody ever plays wrong bytes, and everything acknowledged stays.
func TestDamage(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	c := Start(t, 3, nil)
	items := map[string]string{}
	store := func(n int) {
		for range n {
			id := fmt.Sprintf("%d.wav", len(items))
			body := noise(wavHeaderBytes+2*rnd.IntN(200<<10), uint64(len(items)))
			live := c.Live()
			live[len(items)%len(live)].put("faults", id, body)
			items[id] = hashOf(body)
		}
	}
	store(damageItems)
	for i, d := range damages() {
		victim := c.Node(rnd.IntN(len(c.nodes)))
		id := victim.nodeID()
		if d.kill {
			victim.Kill9()
		} else {
			victim.Stop()
		}
		data := filepath.Join(victim.dir, "data")
		run(t, "cp", "-a", data, data+".whole")
		what := damageOne(t, rnd, data, d, i%2 == 1)
		victim.start()
		verdict := victim.afterDamage(t.Context())
		t.Logf("node %d: %s: %s: %s", victim.index+1, d.name, what, verdict)
		readBack(t, c, items) // from all that run
		store(2)              // and it goes on
		// A node that is back is handed its share of leaderships, which takes each a moment.
		healed := waitUntil(t.Context(), damageWait, func() error {
			if !victim.Running() {
				return nil
			}
			return victim.Ready(t.Context())
		})
		if !victim.Running() || healed != nil {
			if victim.Running() {
				t.Errorf("%s: %s: node %d neither heals nor says why: %s", d.name, what, victim.index+1, verdict)
				victim.Kill9()
			}
			run(t, "rm", "-rf", data)
			run(t, "mv", data+".whole", data)
			victim.start()
		} else if now := victim.nodeID(); now != id {
			t.Fatalf("%s: %s: node %s calls itself %s", d.name, what, id, now)
		} else {
			run(t, "rm", "-rf", data+".whole")
		}
		c.WaitReady()
	}
	readBack(t, c, items)
}

// damageOne flips bits of a file of that kind, or cuts it in the middle of what
// is in it.
func damageOne(t *testing.T, rnd *rand.Rand, data string, d damage, cut bool) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(data, d.pattern))
	if err != nil || len(files) == 0 {
		t.Fatalf("no file %s: %v", d.pattern, err)
	}
	var path string
	var text []byte
	for _, i := range rnd.Perm(len(files)) { // one with something in it
		path, text = files[i], readFile(t, files[i])
		if len(bytes.TrimRight(text, "\x00")) > 64 {
			break
		}
	}
	used := len(bytes.TrimRight(text, "\x00"))
	if used == 0 {
		t.Fatalf("nothing in %s", path)
	}
	name, _ := filepath.Rel(data, path)
	if cut {
		if err := os.Truncate(path, int64(used/2)); err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("%s cut at %d of %d", name, used/2, used)
	}
	var at []int
	for range damagedBits {
		i := rnd.IntN(used)
		text[i] ^= 1 << rnd.IntN(8)
		at = append(at, i)
	}
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%s with bits flipped at %v of %d", name, at, used)
}

// afterDamage waits until the node is ready or has ended, and says which, with
// its last words.
func (n *Node) afterDamage(ctx context.Context) string {
	err := waitUntil(ctx, damageWait, func() error {
		if !n.Running() {
			return nil
		}
		return n.Ready(ctx)
	})
	text, _ := os.ReadFile(n.logFile())
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	last := lines[len(lines)-1]
	switch {
	case err != nil:
		return "not ready: " + err.Error()
	case n.Running():
		return "heals"
	}
	if exit, ok := errors.AsType[*exec.ExitError](n.err); ok && exit.ExitCode() > 0 {
		return fmt.Sprintf("refuses with exit code %d: %.300s", exit.ExitCode(), last)
	}
	return fmt.Sprintf("ended with %v: %.300s", n.err, last)
}
