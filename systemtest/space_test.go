package systemtest

import (
	"fmt"
	"io/fs"
	"net/http"
	"path/filepath"
	"syscall"
	"testing"
)

const (
	// spaceItems of spaceItemBytes are written, and all but each tenth deleted.
	spaceItems     = 40
	spaceItemBytes = 4 << 20
	// spaceFactorMax is how much of the disk that was used by what was deleted
	// may still be: a log keeps its newest entries for members that were away for
	// a moment, and a value-log file that is half alive stays.
	spaceFactorMax = 0.45
)

// blocks is what the files of a directory take on the disk.
func blocks(t *testing.T, dir string) int64 {
	t.Helper()
	var sum int64
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil //nolint:nilerr // what is gone takes nothing
		}
		if info, err := d.Info(); err == nil {
			if st, ok := info.Sys().(*syscall.Stat_t); ok {
				sum += st.Blocks * 512
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

// TestSpaceIsGivenBack writes, deletes, and measures what the value log and the
// raft log give back.
func TestSpaceIsGivenBack(t *testing.T) {
	t.Parallel()
	c := Start(t, 3, settings{
		"cluster.shards": "1", "storage.value_log_file_bytes": `"16MiB"`, "storage.reserve_bytes": `"0B"`,
		"storage.sweep_interval": `"1s"`, "storage.sweep_grace": `"1s"`, "media.undelete_window": `"0s"`,
	})
	data := func(n *Node, part string) int64 { return blocks(t, filepath.Join(n.dir, "data", part)) }
	empty := data(c.Node(0), ".")
	for i := range spaceItems {
		c.Node(i).call(http.MethodPut, fmt.Sprintf("/media/space/%d.wav", i), noise(spaceItemBytes, uint64(i)),
			http.StatusCreated, nil)
	}
	type used struct{ blobs, raft int64 }
	full := make([]used, len(c.nodes))
	for i, n := range c.nodes {
		full[i] = used{data(n, "blobs"), data(n, "raft")}
	}
	for i := range spaceItems {
		if i%10 != 0 {
			c.Node(i).call(http.MethodDelete, fmt.Sprintf("/media/space/%d.wav", i), nil, http.StatusNoContent, nil)
		}
	}
	const written = spaceItems * spaceItemBytes
	eventually(t, giveBackWait, "space is given back", func() error {
		for i, n := range c.nodes {
			if now := data(n, "."); float64(now-empty) > spaceFactorMax*float64(full[i].blobs+full[i].raft) {
				return fmt.Errorf("node %d uses %d MiB of %d", i+1, now>>20, (full[i].blobs+full[i].raft)>>20)
			}
		}
		return nil
	})
	for i, n := range c.nodes {
		t.Logf("node %d: of %d MiB written, value log %d -> %d MiB, raft logs %d -> %d MiB", i+1, written>>20,
			full[i].blobs>>20, data(n, "blobs")>>20, full[i].raft>>20, data(n, "raft")>>20)
	}
	for i := 0; i < spaceItems; i += 10 {
		body := noise(spaceItemBytes, uint64(i))
		resp, got, err := c.Node(i/10).do(t.Context(), http.MethodGet, fmt.Sprintf("/media/space/%d.wav", i), nil)
		if err != nil || hashOf(got) != hashOf(body) {
			t.Errorf("item %d after the collection: %+v, %v", i, resp, err)
		}
	}
}
