package systemtest

import (
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const (
	// envBackupItems is how many items TestBackupOfMany has.
	envBackupItems = "CARILLON_BACKUP_ITEMS"
	// manyClients store items at once.
	manyClients = 32
)

// TestBackupOfMany backs up a cluster of many small items, again without a
// change, and restores it into an empty cluster; it logs how fast each is.
func TestBackupOfMany(t *testing.T) {
	t.Parallel()
	count := 400
	if text := os.Getenv(envBackupItems); text != "" {
		var err error
		if count, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	rate := func(what string, f func()) {
		t.Helper()
		begun := time.Now()
		f()
		took := time.Since(begun)
		t.Logf("%s of %d items: %.1f s, %.0f a second", what, count, took.Seconds(), float64(count)/took.Seconds())
	}
	from, to := Start(t, 3, nil), Start(t, 3, nil)
	body := func(i int) []byte { return noise(64, uint64(i)) }
	name := func(i int) string { return fmt.Sprintf("%d.wav", i) }
	var next atomic.Int64
	rate("upload", func() {
		var wg sync.WaitGroup
		for range manyClients {
			wg.Go(func() {
				for i := int(next.Add(1)) - 1; i < count; i = int(next.Add(1)) - 1 {
					from.Node(i%3).put("many", name(i), body(i))
				}
			})
		}
		wg.Wait()
	})
	dir := filepath.Join(t.TempDir(), "backups")
	// The command line as long as it takes.
	cli := func(n *Node, args ...string) []byte {
		t.Helper()
		args = append([]string{"--server", n.HTTP, "--token", testToken, "--json"}, args...)
		cmd := exec.CommandContext(t.Context(), underTest(), args...)
		cmd.Env = cleanEnvironment()
		return output(t, cmd)
	}
	var first, second taken
	rate("backup", func() { decode(t, string(cli(from.Node(0), "backup", dir)), &first) })
	rate("backup without a change", func() { decode(t, string(cli(from.Node(0), "backup", dir)), &second) })
	if first.Fetched != int64(count) || second.Fetched != 0 || second.Blobs != first.Blobs {
		t.Errorf("first %+v, second %+v", first, second)
	}
	rate("restore", func() { cli(to.Node(0), "restore", dir) })
	for i := 0; i < count; i += max(1, count/100) {
		node := to.Node(i % 3)
		resp, got, err := node.do(t.Context(), http.MethodGet, "/media/many/"+url.PathEscape(name(i)), nil)
		if err != nil || resp.StatusCode != http.StatusOK || hashOf(got) != hashOf(body(i)) {
			t.Fatalf("item %d: %d bytes, %v", i, len(got), err)
		}
	}
}
