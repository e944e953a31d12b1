package systemtest

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"sort"
	"testing"
	"time"
)

// rotWait: a node starts, finds the damage, and fetches everything anew.
const rotWait = 90 * time.Second

// rot is one way to damage one kind of file of a node.
type rot struct {
	file  string // below the data directory
	how   string
	crash bool // the node was killed, not stopped
}

// TestRot damages each kind of file on one node of three, one after the other,
// while the node is down: it comes back by itself, ready, with everything, and
// the others never notice.
func TestRot(t *testing.T) { //nolint:tparallel // the parts share one cluster and follow one another
	t.Parallel()
	c := Start(t, 3, settings{"cluster.shards": "2"})
	hashes := map[string]string{}
	add := func(name string) {
		for i := range 6 {
			id := fmt.Sprintf("%s-%d.wav", name, i)
			body := noise(30<<10+i*120<<10, uint64(len(hashes)))
			hashes[id] = hashOf(body)
			c.Node(i%2).call(http.MethodPut, "/media/faults/"+id, body, http.StatusCreated, nil)
		}
	}
	add("first")
	for round, r := range rots() {
		t.Run(fmt.Sprintf("%s %s crash=%v", filepath.Base(r.file), r.how, r.crash), func(t *testing.T) {
			view := c.For(t)
			n := view.Node(2)
			if r.crash {
				n.Kill9()
			} else {
				n.Stop()
			}
			name := newestFile(t, filepath.Join(n.dir, "data", r.file))
			spoil(t, name, r.how)
			add(fmt.Sprintf("round-%d", round)) // the majority goes on
			n.Restart()
			eventually(t, rotWait, "the node is ready again", func() error { return n.Ready(t.Context()) })
			for id, hash := range hashes {
				if err := n.playsItem(t.Context(), id, hash); err != nil {
					t.Errorf("%s: %v\n%s", id, err, n.diagnose(t, id, hash))
				}
			}
			// A node that is back is handed its share of leaderships, which takes each a moment.
			eventually(t, rotWait, "all nodes are ready", func() error {
				var checked struct {
					Nodes []struct {
						ID, Reason string
						Ready      bool
					}
				}
				n.call(http.MethodGet, "/v1/cluster", nil, http.StatusOK, &checked)
				for _, s := range checked.Nodes {
					if !s.Ready {
						return fmt.Errorf("node %s: %s", s.ID, s.Reason) //nolint:err113 // for the test's log
					}
				}
				return nil
			})
		})
	}
	readBack(t, c, hashes)
}

func rots() []rot {
	var all []rot
	for _, how := range []string{"flip middle", "cut"} {
		for _, file := range []string{
			"blobs/*.sst", "blobs/MANIFEST", "blobs/values/*.vlog",
			"catalog/catalog-*/*.sst", "catalog/catalog-*/MANIFEST",
		} {
			all = append(all, rot{file, how, false})
		}
		for _, file := range []string{
			"blobs/*.mem", "blobs/values/*.vlog", "catalog/catalog-*/*.mem",
			"raft/catalog/wal/*.wal", "raft/blob-0/wal/*.wal", "raft/blob-1/wal/wal-meta.db",
		} {
			all = append(all, rot{file, how, true})
		}
	}
	return append(all, rot{"catalog/CURRENT", "cut", false}, rot{"blobs/MANIFEST", "gone", true},
		rot{"blobs/values/*.vlog", "gone", true},
		rot{"raft/catalog/wal/wal-meta.db", "gone", true})
}

// newestFile is the last by name of those that the pattern names.
func newestFile(t *testing.T, pattern string) string {
	t.Helper()
	all, err := filepath.Glob(pattern)
	if err != nil || len(all) == 0 {
		t.Fatalf("no %s to spoil: %v", pattern, err)
	}
	sort.Strings(all)
	return all[len(all)-1]
}

// spoil changes a file: a bit in the middle of what is not zero, or all from
// there on, or all of it.
func spoil(t *testing.T, name, how string) {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	used := len(b)
	for used > 0 && b[used-1] == 0 {
		used--
	}
	switch how {
	case "flip middle":
		b[used/2] ^= 0x10
	case "cut":
		b = b[:used/2]
	case "gone":
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
		return
	}
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
}
