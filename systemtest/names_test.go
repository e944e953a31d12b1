package systemtest

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

var errNotAlone = errors.New("the node does not say that it is alone")

// hosts is a cluster whose nodes have names, as containers do: what they are
// stands in a file that each process has for its /etc/hosts, in a mount namespace
// of its own.
type hosts struct {
	c     *Cluster
	file  string
	ports []int
	place []int // of each node: which of its addresses it has
}

func startHosts(t *testing.T, n int) *hosts {
	t.Helper()
	if os.Geteuid() != 0 {
		needsKernel(t, fmt.Errorf("mount namespace: %w", syscall.EPERM))
	}
	h := &hosts{
		c: prepare(t, n, nil), file: filepath.Join(t.TempDir(), "hosts"), ports: freePorts(t, 4*n),
		place: make([]int, n),
	}
	for i, node := range h.c.nodes {
		node.spawn = func(cmd *exec.Cmd) error {
			script := `mount --bind "$0" /etc/hosts && exec "$@"`
			cmd.Path, cmd.Args = "/bin/sh", append([]string{"sh", "-c", script, h.file}, cmd.Args...)
			cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
			return cmd.Start()
		}
		p := h.ports[4*i:]
		node.HTTP, node.Shout = "http://"+loopback(p[0]), loopback(p[1])
	}
	return h
}

// name is what a seed says, whatever address the node has.
func (h *hosts) name(i int) string { return fmt.Sprintf("carillon-%d:%d", i+1, h.ports[4*i+2]) }

// move gives a node its next address, and what it is to join. Its name stays where
// it was until tell.
func (h *hosts) move(i int, join ...int) {
	h.place[i]++
	p := h.ports[4*i : 4*i+4]
	names := make([]string, 0, len(h.c.nodes))
	for _, k := range join {
		names = append(names, h.name(k))
	}
	ip := h.ip(i)
	h.c.nodes[i].configure(p, names, settings{
		"cluster.bind":      fmt.Sprintf(`"%s:%d"`, ip, p[2]),
		"cluster.peer_bind": fmt.Sprintf(`"%s:%d"`, ip, p[3]),
		"cluster.expect":    strconv.Itoa(len(h.c.nodes)),
		"cluster.replicas":  strconv.Itoa(len(h.c.nodes)),
	})
}

func (h *hosts) ip(i int) string { return fmt.Sprintf("127.0.%d.%d", h.place[i], i+1) }

// tell writes down where the nodes are, in the file that is mounted.
func (h *hosts) tell(t *testing.T) {
	t.Helper()
	var text strings.Builder
	text.WriteString("127.0.0.1 localhost\n")
	for i := range h.place {
		fmt.Fprintf(&text, "%s carillon-%d\n", h.ip(i), i+1)
	}
	if err := os.WriteFile(h.file, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestNamesThatMove gives seeds as names, and the nodes other addresses under the
// same names, as containers get them: one node while the others run, and then all
// of them, of which only the first has seeds, and starts while its seeds' names
// still lead to where nobody is any more. It must ask for them again.
func TestNamesThatMove(t *testing.T) {
	t.Parallel()
	h := startHosts(t, 3)
	for i := range h.place {
		h.move(i, 0, 1, 2)
	}
	h.tell(t)
	for _, n := range h.c.nodes {
		n.start()
	}
	h.c.WaitReady()
	body := noise(wavHeaderBytes+5000, 1)
	h.c.Node(0).put("faults", "before.wav", body)

	h.c.Node(2).Kill9()
	h.move(2, 0, 1, 2)
	h.tell(t)
	h.c.Node(2).start()
	h.c.WaitReady()
	h.c.Node(2).put("faults", "between.wav", body)

	for _, n := range h.c.nodes {
		n.Stop()
	}
	h.move(0, 0, 1, 2)
	h.c.Node(0).start() // the names of the others lead to where they were
	eventually(t, settleWait, "the first node looks for the others", func() error {
		_, reason, err := h.c.Node(0).do(t.Context(), http.MethodGet, "/readyz", nil)
		if err == nil && !strings.Contains(string(reason), "catching up") {
			err = fmt.Errorf("%w: %s", errNotAlone, reason)
		}
		return err
	})
	h.move(1, 1)
	h.move(2, 2)
	h.c.Node(1).start()
	h.c.Node(2).start()
	h.tell(t)
	h.c.WaitReady()
	h.c.Node(1).put("faults", "after.wav", body)
	hash := hashOf(body)
	readBack(t, h.c, map[string]string{"before.wav": hash, "between.wav": hash, "after.wav": hash})
}
