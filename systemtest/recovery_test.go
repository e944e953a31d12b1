package systemtest

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// drillFile is what an operator follows. Its commands are what the test runs.
const drillFile = "../cluster/RECOVERY.md"

// drillCommands are the lines of the shell blocks, in order.
func drillCommands(t *testing.T) []string {
	t.Helper()
	var commands []string
	for _, block := range regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(
		string(readFile(t, drillFile)), -1) {
		for line := range strings.Lines(block[1]) {
			if line = strings.TrimSpace(line); line != "" {
				commands = append(commands, line)
			}
		}
	}
	return commands
}

// add starts a node with an empty data directory that knows the given one only.
func (c *Cluster) add(t *testing.T, known *Node, changes settings) *Node {
	t.Helper()
	ports := freePorts(t, 4)
	join := regexp.MustCompile(`(?m)^cluster.bind = "(.*)"$`).FindStringSubmatch(
		string(readFile(t, known.configFile())))
	n := &Node{
		&process{dir: filepath.Join(t.TempDir(), "added")}, c, len(c.nodes),
		"http://" + loopback(ports[0]), loopback(ports[1]),
	}
	if err := os.MkdirAll(n.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	values := settings{"cluster.expect": "3", "cluster.replicas": "3"}
	maps.Copy(values, changes)
	n.configure(ports, []string{join[1]}, values)
	logs := t.ArtifactDir()
	t.Cleanup(func() { (&Cluster{tb: c.tb, http: c.http, nodes: []*Node{n}}).cleanup(logs) })
	n.start()
	return n
}

// drill runs a command of RECOVERY.md for the survivor. What systemd does there
// the test does here; everything else goes to a shell as it is.
func (n *Node) drill(t *testing.T, line, id string) string {
	t.Helper()
	switch line {
	case "systemctl stop carillon":
		n.Stop()
		return ""
	case "systemctl start carillon":
		n.Restart()
		eventually(t, readyWait, "survivor ready", func() error { return n.Ready(t.Context()) })
		return ""
	}
	cmd := command(t, "/bin/sh", "-euc", strings.ReplaceAll(line, "--cluster ID", "--cluster "+id))
	cmd.Env = append(cleanEnvironment(), "PATH="+filepath.Dir(underTest())+":"+os.Getenv("PATH"),
		"CONFIG="+n.configFile(), "CARILLON_TOKEN="+testToken, "CARILLON_SERVER="+n.HTTP)
	var out, messages bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &messages
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s: %v: %s%s", line, err, &out, &messages)
	}
	return out.String()
}

// TestRecoveryDrill loses two of three nodes for ever and follows RECOVERY.md
// from its first command to its last. What was acknowledged and had come to the
// survivor is there, on it and on two new nodes; the old ones stay out.
func TestRecoveryDrill(t *testing.T) {
	t.Parallel()
	c := Start(t, 3, nil)
	up := startUploads(t, c)
	up.progress(t, failoverWait)
	up.stop(t)
	items := up.snapshot()
	c.Node(0).put("acme", "big.wav", noise(2<<20, 5))
	rec := c.Node(2).ticket("acme", "open.mp3")
	survivor := c.Node(1)
	caughtUp(t, c)
	c.Node(0).Kill9()
	c.Node(2).Kill9()
	resp, _, err := survivor.do(t.Context(), http.MethodPut, "/media/faults/late.wav", noise(4_000, 9))
	if err == nil && (resp.StatusCode == http.StatusCreated || resp.StatusCode == http.StatusOK) {
		t.Errorf("a node without a majority acknowledged a write: %d", resp.StatusCode)
	}
	id := ""
	for i, line := range drillCommands(t) {
		if strings.HasPrefix(line, "CONFIG=") || strings.HasPrefix(line, "export ") {
			continue // set for every command
		}
		out := survivor.drill(t, line, id)
		t.Logf("%d. %s\n%s", i, line, out)
		if m := regexp.MustCompile(`of cluster ([0-9a-f]+)`).FindStringSubmatch(out); m != nil && id == "" {
			id = m[1]
		}
	}
	if id == "" {
		t.Fatal("the drill has shown no cluster id")
	}
	after := &Cluster{tb: t, http: c.http, nodes: []*Node{survivor}}
	readBack(t, after, items) // alone already
	after.nodes = append(after.nodes, c.add(t, survivor, nil), c.add(t, survivor, nil))
	after.WaitReady()
	late := map[string]string{}
	for i, n := range after.nodes {
		body := noise(faultItemBytes, uint64(1000+i))
		name := fmt.Sprintf("late-%d.wav", i)
		n.put("faults", name, body)
		late[name] = hashOf(body)
	}
	readBack(t, after, items)
	readBack(t, after, late)
	for i, n := range after.nodes {
		if _, got, err := n.do(t.Context(), http.MethodGet, "/media/acme/big.wav", nil); err != nil ||
			hashOf(got) != hashOf(noise(2<<20, 5)) {
			t.Errorf("node %d: large item has %d bytes: %v", i, len(got), err)
		}
	}
	if state := survivor.recording(rec.ID).State; state != "waiting" {
		t.Errorf("ticket is %q after the recovery", state)
	}
	oldStayOut(t, c, late)
	readBack(t, after, items)
}

// oldStayOut starts the lost nodes again with their old data: each ends by
// itself, says why, and does not start a second time.
func oldStayOut(t *testing.T, c *Cluster, late map[string]string) {
	t.Helper()
	for _, i := range []int{0, 2} {
		c.Node(i).start()
	}
	for _, i := range []int{0, 2} {
		for range 2 {
			ended(t, c.Node(i))
			c.Node(i).start()
		}
		ended(t, c.Node(i))
		text := string(readFile(t, c.Node(i).logFile()))
		contains(t, text, "recovered without this node")
		for name := range late {
			if strings.Contains(text, name) {
				t.Errorf("node %d knows of %s", i+1, name)
			}
		}
	}
}

// ended waits until a node that was left behind has ended with exitUsage.
func ended(t *testing.T, n *Node) {
	t.Helper()
	select {
	case <-n.done:
	case <-time.After(exitWait):
		t.Fatalf("node %d runs on with the data of the former cluster", n.index+1)
	}
	if exit, ok := errors.AsType[*exec.ExitError](n.err); !ok || exit.ExitCode() != exitUsage {
		t.Errorf("node %d ended with %v, want exit code %d", n.index+1, n.err, exitUsage)
	}
}

// caughtUp waits until all nodes have the same log, in every group.
func caughtUp(t *testing.T, c *Cluster) {
	t.Helper()
	eventually(t, settleWait, "all nodes as far", func() error {
		seen := map[string]uint64{}
		for _, n := range c.Node(0).Status().Nodes {
			for _, g := range n.Groups {
				if last, ok := seen[g.Name]; ok && last != g.Last {
					return fmt.Errorf("group %s is at %d and %d", g.Name, last, g.Last)
				}
				seen[g.Name] = g.Last
			}
		}
		return nil
	})
}
