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
	"slices"
	"strings"
	"testing"
	"time"
)

// drillFile is what an operator follows. Its commands are what the test runs.
const drillFile = "../cluster/RECOVERY.md"

// drillCommands are the lines of the shell blocks of a section, in order.
func drillCommands(t *testing.T, section string) []string {
	t.Helper()
	var commands []string
	_, text, ok := strings.Cut(string(readFile(t, drillFile)), "\n## "+section+"\n")
	if !ok {
		t.Fatalf("no section %q", section)
	}
	text, _, _ = strings.Cut(text, "\n## ")
	for _, block := range regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(text, -1) {
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
	for i, line := range drillCommands(t, "The drill") {
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
	oldStayOut(t, c, late, "recovered without this node", 0, 2)
	readBack(t, after, items)
}

// putItems stores items of many sizes through all nodes in turn, and returns
// their hashes by name.
func (c *Cluster) putItems() map[string]string {
	items := map[string]string{}
	for i := range membershipItems {
		body := noise(failoverItemBytes*(1+i*i), uint64(i))
		name := fmt.Sprintf("item-%d.wav", i)
		c.Node(i%len(c.nodes)).put("faults", name, body)
		items[name] = hashOf(body)
	}
	return items
}

// TestRecoverTwoDrill loses three of five nodes for ever and goes on with two, as
// RECOVERY.md says for several survivors. With four replicas of five nodes they
// have everything between them, and neither has it all.
func TestRecoverTwoDrill(t *testing.T) {
	t.Parallel()
	c := Start(t, 5, settings{"cluster.replicas": "4"})
	items := c.putItems()
	caughtUp(t, c)
	two := &Cluster{tb: t, http: c.http, nodes: []*Node{c.Node(1), c.Node(3)}}
	ids := []string{two.Node(0).nodeID(), two.Node(1).nodeID()}
	for _, i := range []int{0, 2, 4} {
		c.Node(i).Kill9()
	}
	for _, n := range two.nodes {
		n.Stop()
	}
	facts := []string{filepath.Join(t.TempDir(), "0.json"), filepath.Join(t.TempDir(), "1.json")}
	cluster := map[string]bool{}
	lines := drillCommands(t, "Several survivors")
	for step, line := range lines {
		for i, n := range two.nodes {
			id := ""
			if step > 0 {
				id = regexp.MustCompile(`"cluster": "([0-9a-f]+)"`).FindStringSubmatch(string(readFile(t, facts[i])))[1]
			}
			out := n.drill(t, strings.NewReplacer("FIRST", ids[0], "SECOND", ids[1], "$FACTS", facts[i],
				"$OTHERS", facts[1-i]).Replace(line), id)
			t.Logf("node %d: %s\n%s", n.index+1, line, out)
			if m := regexp.MustCompile(`recovered as cluster ([0-9a-f]+)`).FindStringSubmatch(out); m != nil {
				cluster[m[1]] = true
			}
		}
	}
	if len(lines) != 2 || len(cluster) != 1 {
		t.Fatalf("%d commands made the clusters %v", len(lines), cluster)
	}
	for _, n := range two.nodes {
		n.Restart()
	}
	two.WaitReady()
	readBack(t, two, items)
	late := map[string]string{}
	for i, n := range two.nodes {
		body := noise(failoverItemBytes*30, uint64(500+i))
		name := fmt.Sprintf("late-%d.wav", i)
		n.put("faults", name, body)
		late[name] = hashOf(body)
	}
	oldStayOut(t, c, late, "recovered without this node", 0, 2, 4)
	readBack(t, two, items)
	readBack(t, two, late)
}

// placementOf are the members of each group, and its leader if it has one.
func (n *Node) placementOf() map[string]groupPlace {
	n.cluster.tb.Helper()
	var s struct {
		Placement []groupPlace `json:"placement"`
	}
	n.call(http.MethodGet, "/v1/cluster", nil, http.StatusOK, &s)
	out := map[string]groupPlace{}
	for _, p := range s.Placement {
		out[p.Group] = p
	}
	return out
}

// aliveNodes counts the nodes that this one takes for alive.
func (n *Node) aliveNodes() int {
	n.cluster.tb.Helper()
	var s struct {
		Nodes []struct {
			Alive bool `json:"alive"`
		} `json:"nodes"`
	}
	n.call(http.MethodGet, "/v1/cluster", nil, http.StatusOK, &s)
	alive := 0
	for _, node := range s.Nodes {
		if node.Alive {
			alive++
		}
	}
	return alive
}

type groupPlace struct {
	Group    string `json:"group"`
	Leader   string `json:"leader"`
	Wanted   int    `json:"wanted"`
	Holding  int    `json:"holding"`
	Replicas []struct {
		Node string `json:"node"`
	} `json:"replicas"`
}

// TestGroupRecoveryDrill kills two of five nodes for ever: the catalog goes on,
// the groups that had both do not. It follows the second drill of RECOVERY.md for
// each of them. What a survivor had plays from every node, all groups come to
// their full replicas, and the lost nodes stay out.
func TestGroupRecoveryDrill(t *testing.T) {
	t.Parallel()
	c := Start(t, 5, nil)
	items := c.putItems()
	caughtUp(t, c)
	byID := map[string]*Node{}
	for _, n := range c.nodes {
		byID[n.nodeID()] = n
	}
	members := c.Node(0).placementOf()["blob-0"].Replicas
	lost := []*Node{byID[members[0].Node], byID[members[1].Node]}
	rest := &Cluster{tb: t, http: c.http}
	for _, n := range c.nodes {
		if n != lost[0] && n != lost[1] {
			rest.nodes = append(rest.nodes, n)
		}
	}
	lost[0].Kill9()
	lost[1].Kill9()
	operator := rest.Node(0)
	var stuck []string
	eventually(t, settleWait, "groups without a leader", func() error {
		stuck = stuck[:0]
		if alive := operator.aliveNodes(); alive != len(rest.nodes) {
			return fmt.Errorf("%d nodes are taken for alive", alive)
		}
		for name, p := range operator.placementOf() {
			if alive := slices.DeleteFunc(slices.Clone(p.Replicas), func(r struct {
				Node string `json:"node"`
			},
			) bool {
				return byID[r.Node] == lost[0] || byID[r.Node] == lost[1]
			}); p.Leader == "" && len(alive) < 2 {
				stuck = append(stuck, name)
			} else if p.Leader == "" {
				return fmt.Errorf("%s elects", name)
			}
		}
		if len(stuck) == 0 {
			return errors.New("all groups are led")
		}
		return nil
	})
	for _, group := range stuck {
		drillGroup(t, operator, group)
	}
	eventually(t, moveWait, "full replicas", func() error {
		for name, p := range operator.placementOf() {
			if p.Holding < p.Wanted || p.Leader == "" {
				return fmt.Errorf("%s has %d of %d copies", name, p.Holding, p.Wanted)
			}
		}
		return nil
	})
	rest.WaitReady()
	readBack(t, rest, items)
	late := map[string]string{}
	for i, n := range rest.nodes {
		body := noise(failoverItemBytes*30, uint64(500+i))
		name := fmt.Sprintf("late-%d.wav", i)
		n.put("faults", name, body)
		late[name] = hashOf(body)
	}
	oldStayOut(t, c, late, "was removed", lost[0].index, lost[1].index)
	readBack(t, rest, items)
	readBack(t, rest, late)
}

// drillGroup follows the drill for one group: what the first command names is
// what the second is given.
func drillGroup(t *testing.T, n *Node, group string) {
	t.Helper()
	rest := ""
	for i, line := range drillCommands(t, "Groups") {
		line = strings.ReplaceAll(line, "GROUP", group)
		if before, _, ok := strings.Cut(line, " --node SURVIVOR"); ok {
			line = before + " " + rest
		}
		out := n.drill(t, line, "")
		t.Logf("%d. %s\n%s", i, line, out)
		if m := regexp.MustCompile(`add: (--node .* --yes)`).FindStringSubmatch(out); m != nil {
			rest = m[1]
		}
	}
	if rest == "" {
		t.Fatalf("the drill does not name what is lost to %s", group)
	}
}

// oldStayOut starts the lost nodes again with their old data: each ends by
// itself, says why, and does not start a second time.
func oldStayOut(t *testing.T, c *Cluster, late map[string]string, why string, lost ...int) {
	t.Helper()
	for _, i := range lost {
		c.Node(i).start()
	}
	for _, i := range lost {
		for range 2 {
			ended(t, c.Node(i))
			c.Node(i).start()
		}
		ended(t, c.Node(i))
		text := string(readFile(t, c.Node(i).logFile()))
		contains(t, text, why)
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
