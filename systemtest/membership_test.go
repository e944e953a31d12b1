package systemtest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// membershipItems are stored before the nodes change.
const membershipItems = 24

// moveWait is how long groups may take to move on a machine that is busy.
const moveWait = 90 * time.Second

// TestMembership drains one of four nodes with the command line while clients
// write, removes it, sees it stop and stay out, and then restarts all that are
// left at other addresses at once.
func TestMembership(t *testing.T) {
	t.Parallel()
	c := Start(t, 4, settings{"cluster.drop_after": `"1s"`})
	want := map[string]string{}
	for i := range membershipItems {
		body := noise(failoverItemBytes*(1+i*i), uint64(i)) // small ones and some of many pieces
		id := fmt.Sprintf("item-%d.wav", i)
		c.Node(i).put("members", id, body)
		want[id] = hashOf(body)
	}
	rest := c.without(3)
	up := startUploads(t, rest)
	leaving, id := c.Node(3), c.Node(3).nodeID()
	if _, stderr := c.Node(0).cli(t, 1, "cluster", "remove", id); !strings.Contains(stderr, "drain it first") {
		t.Errorf("removing a node that holds something: %s", stderr)
	}
	out, _ := c.Node(0).cli(t, 0, "cluster", "drain", id, "--wait")
	if !strings.Contains(out, "member of 0 groups") {
		t.Errorf("drained: %s", out)
	}
	_, stderr := c.Node(0).cli(t, 1, "cluster", "drain", c.Node(1).nodeID())
	if !strings.Contains(stderr, "add one first") {
		t.Errorf("draining one of the three that are left: %s", stderr)
	}
	c.itemsPlay(t, want)
	c.Node(0).cli(t, 0, "cluster", "remove", id)
	stays := func(what string) {
		t.Helper()
		eventually(t, moveWait, what, func() error {
			if leaving.Running() {
				return fmt.Errorf("node %s runs", id)
			}
			return nil
		})
		if code := leaving.cmd.ProcessState.ExitCode(); code != 2 {
			t.Errorf("%s: exit code %d", what, code)
		}
	}
	stays("removed node stops")
	leaving.Restart()
	stays("removed node stays out")
	if out, _ := c.Node(0).cli(t, 0, "cluster", "status"); !strings.Contains(out, "removed") {
		t.Errorf("status does not tell of it:\n%s", out)
	}
	up.stop(t)
	up.verifyAll(t, rest)
	newAddresses(t, rest)
	rest.itemsPlay(t, want)
}

// newAddresses stops all nodes and starts them at other ports at once.
func newAddresses(t *testing.T, c *Cluster) {
	t.Helper()
	ports := freePorts(t, 4*len(c.nodes))
	var join []string
	for i, n := range c.nodes {
		n.Stop()
		join = append(join, loopback(ports[4*i+2]))
	}
	for i, n := range c.nodes {
		p := ports[4*i : 4*i+4]
		n.HTTP, n.Shout = "http://"+loopback(p[0]), loopback(p[1])
		n.configure(p, join, settings{"cluster.drop_after": `"1s"`})
		n.Restart()
	}
	c.WaitReady()
}

// itemsPlay reads every item on every node.
func (c *Cluster) itemsPlay(t *testing.T, want map[string]string) {
	t.Helper()
	for _, n := range c.nodes {
		for id, hash := range want {
			resp, body, err := n.do(t.Context(), http.MethodGet, "/media/members/"+id, nil)
			if err != nil || resp.StatusCode != http.StatusOK || hashOf(body) != hash {
				t.Errorf("node %d: %s: %v, %d bytes", n.index+1, id, err, len(body))
			}
		}
	}
}

// nodeID is the id that the node calls itself.
func (n *Node) nodeID() string {
	n.cluster.tb.Helper()
	var s struct {
		Node string `json:"node"`
	}
	resp, body, err := n.do(n.cluster.tb.Context(), http.MethodGet, "/v1/cluster", nil)
	if err != nil || resp.StatusCode != http.StatusOK || json.Unmarshal(body, &s) != nil {
		n.cluster.tb.Fatalf("node %d: status: %v %s", n.index+1, err, body)
	}
	return s.Node
}
