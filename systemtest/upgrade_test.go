package systemtest

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"
)

// buildNewer builds the appliance as a version that reads one more format of log
// commands, and says which the present and the newer one are.
func buildNewer(t *testing.T) (binary string, before, after int) {
	t.Helper()
	source, err := filepath.Abs("../cluster/command/command.go")
	if err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile(`FormatMax = (\d+)`)
	text := readFile(t, source)
	found := line.FindSubmatch(text)
	if found == nil {
		t.Fatalf("no FormatMax in %s", source)
	}
	if before, err = strconv.Atoi(string(found[1])); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	newer, overlay := filepath.Join(dir, "command.go"), filepath.Join(dir, "overlay.json")
	text = line.ReplaceAll(text, fmt.Appendf(nil, "FormatMax = %d", before+1))
	replace, err := json.Marshal(map[string]any{"Replace": map[string]string{source: newer}})
	err = errors.Join(err, os.WriteFile(newer, text, 0o600), os.WriteFile(overlay, replace, 0o600))
	if err != nil {
		t.Fatal(err)
	}
	binary = filepath.Join(dir, "appliance")
	if err := build(binary, "-overlay", overlay, "-ldflags", "-X main.version=newer"); err != nil {
		t.Fatal(err)
	}
	return binary, before, before + 1
}

// formats are the formats that the nodes write, by version.
func (n *Node) formats() (writes, versions map[string]int, err error) {
	var s struct {
		Nodes []struct {
			ID      string
			Version string
			Alive   bool
			Format  struct{ Writes int }
		}
	}
	resp, body, err := n.do(n.cluster.tb.Context(), http.MethodGet, "/v1/cluster", nil)
	if err == nil && resp.StatusCode == http.StatusOK {
		err = json.Unmarshal(body, &s)
	}
	writes, versions = map[string]int{}, map[string]int{}
	for _, node := range s.Nodes {
		if node.Alive {
			writes[node.ID] = node.Format.Writes
			versions[node.Version]++
		}
	}
	return writes, versions, err
}

// TestUpgrade upgrades a cluster node by node to a binary that knows one more
// format, while clients write. The new format starts when all nodes run it, and
// not before; the old binary is refused after that and says what to do; nothing
// that was acknowledged is lost.
func TestUpgrade(t *testing.T) {
	t.Parallel()
	newer, before, after := buildNewer(t)
	c := Start(t, 3, nil)
	up := startUploads(t, c)
	up.progress(t, failoverWait)
	for i, n := range c.nodes {
		n.Stop()
		n.binary = newer
		n.Restart()
		c.WaitReady()
		up.progress(t, failoverWait)
		if i == len(c.nodes)-1 {
			break
		}
		pause(t.Context(), 2*time.Second) // several looks of the leader
		writes, versions, err := c.Node(0).formats()
		if err != nil || versions["newer"] != i+1 {
			t.Fatalf("%d nodes upgraded, status shows %v: %v", i+1, versions, err)
		}
		for id, format := range writes {
			if format != before {
				t.Errorf("node %s writes format %d while %d of 3 nodes are upgraded", id, format, i+1)
			}
		}
	}
	eventually(t, settleWait, "the new format", func() error {
		writes, _, err := c.Node(0).formats()
		for id, format := range writes {
			if format != after {
				err = errors.Join(err, fmt.Errorf("node %s writes format %d", id, format))
			}
		}
		return err
	})
	up.progress(t, failoverWait)
	old := c.Node(1)
	old.Stop()
	old.binary = ""
	old.start()
	select {
	case <-old.done:
	case <-time.After(exitWait):
		t.Fatal("the older binary runs on data of the newer one")
	}
	if exit, ok := errors.AsType[*exec.ExitError](old.err); !ok || exit.ExitCode() != exitNewer {
		t.Errorf("the older binary ended with %v, want exit code %d", old.err, exitNewer)
	}
	contains(t, string(readFile(t, old.logFile())),
		fmt.Sprintf("in format %d, this version reads up to %d, install a newer one", after, before))
	old.binary = newer
	old.Restart()
	c.WaitReady()
	up.progress(t, failoverWait)
	up.stop(t)
	up.verifyAll(t, c)
}
