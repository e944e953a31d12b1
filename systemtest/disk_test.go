package systemtest

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	// smallDiskBytes is each node's disk: two groups' logs, the room below the
	// stop line, and some 100 MiB of sound.
	smallDiskBytes = 512 << 20
	// smallStop and smallResume are the least that two groups allow.
	smallStop   = "192MiB"
	smallResume = "230MiB"
	// fillItemBytes fills a disk in some ten to fifty steps.
	fillItemBytes = 4 << 20
	// fillItemsMax is more than fits.
	fillItemsMax = 200
	// giveBackWait: sweep, its grace, snapshots and the collection.
	giveBackWait = 3 * time.Minute
)

// smallDisks mounts a file system for each node and returns the settings that
// put the nodes on them.
func smallDisks(t *testing.T, nodes int) (root string, changes settings) {
	t.Helper()
	root = t.TempDir()
	for i := range nodes {
		dir := filepath.Join(root, strconv.Itoa(i+1))
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		size := fmt.Sprintf("size=%d", smallDiskBytes)
		if err := syscall.Mount("carillon-test", dir, "tmpfs", 0, size); err != nil {
			needsKernel(t, fmt.Errorf("mount a small disk: %w", err))
		}
		t.Cleanup(func() {
			if err := syscall.Unmount(dir, 0); err != nil {
				t.Errorf("unmount %s: %v", dir, err)
			}
		})
	}
	return root, settings{
		"node.data_dir":                fmt.Sprintf("%q", filepath.Join(root, "{node}", "data")),
		"cluster.shards":               "1",
		"storage.value_log_file_bytes": `"16MiB"`,
		"storage.warn_free":            `"` + smallResume + `"`, "storage.warn_free_percent": "0",
		"storage.stop_free": `"` + smallStop + `"`, "storage.stop_free_percent": "0",
		"storage.resume_free": `"` + smallResume + `"`, "storage.resume_free_percent": "0",
		"storage.reserve_bytes": `"0B"`, "storage.sweep_interval": `"1s"`, "storage.sweep_grace": `"5s"`,
	}
}

// TestFullDisk fills three small disks over the API until 507: the nodes live,
// what was acknowledged plays everywhere, a recording goes on, deleting works
// and gives the space back, and writing resumes by itself.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	_, changes := smallDisks(t, 3)
	c := Start(t, 3, changes)
	hashes := make(map[string]string)
	// A disk that was filled may have room again a moment later, when the log's
	// snapshot gives its own space back: then there is more to fill.
	eventually(t, giveBackWait, "the status says that a disk is full", func() error {
		fillUntil507(t, c, hashes)
		stdout, _ := appliance(t, exitOK, "--server", c.Node(0).HTTP, "--token", testToken, "cluster", "status")
		if !strings.Contains(stdout, "disk is ") {
			return fmt.Errorf("no disk is full in:\n%s", stdout)
		}
		return nil
	})
	for _, n := range c.nodes {
		for id, hash := range hashes {
			if err := n.playsItem(t.Context(), id, hash); err != nil {
				t.Fatalf("play while full: %v", err)
			}
		}
		if !n.Running() {
			t.Fatalf("node %d died of its full disk: %v", n.index+1, n.err)
		}
	}
	// A recording uses what uploads may not.
	ticket := c.Node(1).ticket("acme", "late.mp3")
	recordFor(t, ticket, 3*time.Second)
	if done := c.Node(1).waitState(ticket.ID, "sealed"); done.Size == 0 {
		t.Error("nothing of the recording was kept")
	}
	for id := range hashes {
		c.Node(2).call(http.MethodDelete, "/media/faults/"+id+"?hard=true", nil, http.StatusNoContent, nil)
		if len(hashes) > 3 {
			delete(hashes, id)
		}
		if len(hashes) == 3 {
			break
		}
	}
	eventually(t, giveBackWait, "writes resume", func() error {
		resp, body, err := c.Node(0).do(t.Context(), http.MethodPut, "/media/faults/again.wav",
			noise(fillItemBytes, 7), "Content-Type", "audio/wav")
		if err == nil && resp.StatusCode/100 != 2 {
			err = fmt.Errorf("status %d: %.200s", resp.StatusCode, body)
		}
		return err
	})
	readBack(t, c, hashes)
}

// fillUntil507 uploads until every node refuses for want of space, and adds to
// hashes those of what was acknowledged.
func fillUntil507(t *testing.T, c *Cluster, hashes map[string]string) {
	t.Helper()
	refused := 0
	for i := 0; refused < 2*len(c.nodes); i++ {
		if i == fillItemsMax {
			t.Fatalf("%d items of %d bytes fit on a disk of %d", i, fillItemBytes, smallDiskBytes)
		}
		body, id := noise(fillItemBytes, uint64(i)), fmt.Sprintf("fill-%d.wav", i)
		if hashes[id] != "" {
			continue
		}
		resp, answer, err := c.Node(i).do(t.Context(), http.MethodPut, "/media/faults/"+id, body)
		switch {
		case err != nil:
			t.Fatalf("item %d: %v", i, err)
		case resp.StatusCode == http.StatusCreated:
			refused = 0
			sum := sha256.Sum256(body)
			hashes[id] = hex.EncodeToString(sum[:])
		case resp.StatusCode == http.StatusInsufficientStorage && strings.Contains(string(answer), "no_space"):
			refused++
		default:
			t.Fatalf("item %d: status %d: %s", i, resp.StatusCode, answer)
		}
	}
	t.Logf("%d items of %d MiB until 507", len(hashes), fillItemBytes>>20)
}

// recordFor records into a ticket for so long and ends in order.
func recordFor(t *testing.T, ticket recording, length time.Duration) {
	t.Helper()
	run(t, "ffmpeg", "-nostdin", "-hide_banner", "-loglevel", "error", "-re", "-f", "lavfi",
		"-i", fmt.Sprintf("sine=frequency=440:sample_rate=8000:duration=%d", int(length.Seconds())),
		"-c:a", "libmp3lame", "-b:a", "16k", "-f", "mp3", "-content_type", "audio/mpeg",
		strings.Replace(ticket.RecordURL, "shout://", "icecast://", 1))
}
