package systemtest

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	// testToken is the API token of every test cluster.
	testToken = "systemtest-token-0123456789"
	// logTailBytes of each node are printed when a test fails.
	logTailBytes = 6 << 10
	// requestWait bounds one request of a test to the API: longer than the
	// write_timeout of 10 s, so that the node's own answer is seen.
	requestWait = 15 * time.Second
)

// settings change the configuration of all nodes: a TOML value by key. {node}
// in a value is the node's number.
type settings map[string]string

// Cluster is some appliance processes on loopback that know one another.
type Cluster struct {
	tb    testing.TB
	nodes []*Node
	http  *http.Client
}

// Node is one appliance process, or none between a kill and a restart.
type Node struct {
	*process

	cluster *Cluster
	index   int
	HTTP    string // http://127.0.0.1:…
	Shout   string // 127.0.0.1:…
}

// process is what all views of a node share.
type process struct {
	dir  string
	cmd  *exec.Cmd
	done chan struct{} // closed when the process has ended
	err  error         // of Wait, valid when done is closed
	// spawn starts the process in a place of its own, nil: as usual.
	spawn func(*exec.Cmd) error
	// binary is the version that is started, "": the one under test.
	binary string
}

// For is the same cluster as a subtest sees it: what goes wrong is that one's
// failure.
func (c *Cluster) For(tb testing.TB) *Cluster {
	tb.Helper()
	view := &Cluster{tb: tb, http: c.http}
	for _, n := range c.nodes {
		view.nodes = append(view.nodes, &Node{n.process, view, n.index, n.HTTP, n.Shout})
	}
	return view
}

// Start starts a cluster of n nodes and waits until all are ready. Everything
// ends with the test, and the logs are printed if it failed.
func Start(tb testing.TB, n int, changes settings) *Cluster {
	tb.Helper()
	c := prepare(tb, n, changes)
	for _, node := range c.nodes {
		node.start()
	}
	c.WaitReady()
	return c
}

// prepare is a cluster of which nothing runs yet.
func prepare(tb testing.TB, n int, changes settings) *Cluster {
	tb.Helper()
	c := &Cluster{tb: tb, http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16}}}
	ports := freePorts(tb, 4*n)
	dir := tb.TempDir()
	logs := tb.ArtifactDir()
	var join []string
	for i := range n {
		join = append(join, loopback(ports[4*i+2]))
	}
	for i := range n {
		p := ports[4*i : 4*i+4]
		node := &Node{
			&process{dir: filepath.Join(dir, fmt.Sprintf("node%d", i+1))}, c, i,
			"http://" + loopback(p[0]), loopback(p[1]),
		}
		if err := os.MkdirAll(node.dir, 0o700); err != nil {
			tb.Fatal(err)
		}
		node.configure(p, join, changes)
		c.nodes = append(c.nodes, node)
	}
	tb.Cleanup(func() { c.cleanup(logs) })
	return c
}

// configure writes the node's configuration file.
func (n *Node) configure(ports []int, join []string, changes settings) {
	values := settings{
		"node.data_dir":  fmt.Sprintf("%q", filepath.Join(n.dir, "data")),
		"node.log_level": `"info"`,
		// The directory may be on a disk in memory.
		"storage.reserve_bytes": `"0B"`,
		"http.bind":             fmt.Sprintf("%q", loopback(ports[0])),
		"shout.bind":            fmt.Sprintf("%q", loopback(ports[1])),
		"shout.sources":         `[{ user = "foo", password = "bar", account = "pbx" }]`,
		"shout.icy_port":        "-1", // the port after may be another node's
		"cluster.bind":          fmt.Sprintf("%q", loopback(ports[2])),
		"cluster.peer_bind":     fmt.Sprintf("%q", loopback(ports[3])),
		"cluster.join":          `["` + strings.Join(join, `", "`) + `"]`,
		"cluster.expect":        strconv.Itoa(len(join)),
		"cluster.replicas":      strconv.Itoa(min(3, len(join))),
		"api.tokens":            fmt.Sprintf("[%q]", testToken),
	}
	if shards := os.Getenv("CARILLON_BENCH_SHARDS"); shards != "" {
		values["cluster.shards"] = shards // to see that rates do not depend on it
	}
	maps.Copy(values, changes)
	var text strings.Builder
	for key, value := range values {
		fmt.Fprintf(&text, "%s = %s\n", key, strings.ReplaceAll(value, "{node}", strconv.Itoa(n.index+1)))
	}
	if err := os.WriteFile(n.configFile(), []byte(text.String()), 0o600); err != nil {
		n.cluster.tb.Fatal(err)
	}
}

func (n *Node) configFile() string { return filepath.Join(n.dir, "carillon.toml") }
func (n *Node) logFile() string    { return filepath.Join(n.dir, "log") }

// start runs `appliance serve`. Its log goes to a file, which later starts
// append to.
func (n *Node) start() {
	tb := n.cluster.tb
	tb.Helper()
	log, err := os.OpenFile(n.logFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = log.Close() }() // the process has its own
	// The context of the test ends before its clean-up, and would kill.
	binary := cmp.Or(n.binary, underTest())
	n.cmd = exec.CommandContext(context.Background(), binary, "serve", "--config", n.configFile())
	n.cmd.Env = cleanEnvironment()
	n.cmd.Stdout, n.cmd.Stderr = log, log
	spawn := n.spawn
	if spawn == nil {
		spawn = (*exec.Cmd).Start
	}
	if err := spawn(n.cmd); err != nil {
		tb.Fatal(err)
	}
	cmd, done := n.cmd, make(chan struct{})
	n.done = done
	go func() {
		defer close(done)
		n.err = cmd.Wait()
	}()
}

// cleanEnvironment is ours without the settings of some other cluster.
func cleanEnvironment() []string {
	var env []string
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "CARILLON_") {
			env = append(env, e)
		}
	}
	return env
}

// Running says whether there is a process.
func (n *Node) Running() bool {
	select {
	case <-n.done:
		return false
	default:
		return true
	}
}

// PID of the process.
func (n *Node) PID() int { return n.cmd.Process.Pid }

// Kill9 ends the process without any warning.
func (n *Node) Kill9() {
	n.cluster.tb.Helper()
	n.signal(syscall.SIGKILL)
	<-n.done
}

// Stop asks the process to end and waits until it has.
func (n *Node) Stop() {
	tb := n.cluster.tb
	tb.Helper()
	n.signal(syscall.SIGTERM)
	select {
	case <-n.done:
	case <-time.After(exitWait):
		tb.Fatalf("node %d: still there %v after SIGTERM", n.index+1, exitWait)
	}
	if n.err != nil {
		tb.Errorf("node %d: stopped with %v, want status 0", n.index+1, n.err)
	}
}

// Restart starts the process again, with the same command line.
func (n *Node) Restart() {
	n.cluster.tb.Helper()
	if n.Running() {
		n.cluster.tb.Fatalf("node %d runs already", n.index+1)
	}
	n.start()
}

// Pause stops the process from running, as a stalled machine does.
func (n *Node) Pause() { n.signal(syscall.SIGSTOP) }

// Resume lets it run again.
func (n *Node) Resume() { n.signal(syscall.SIGCONT) }

func (n *Node) signal(s syscall.Signal) {
	n.cluster.tb.Helper()
	if err := n.cmd.Process.Signal(s); err != nil {
		n.cluster.tb.Fatalf("node %d: signal %v: %v", n.index+1, s, err)
	}
}

// Ready is nil when the node says that it is ready.
func (n *Node) Ready(ctx context.Context) error {
	if !n.Running() {
		return fmt.Errorf("node %d has ended: %w", n.index+1, n.err)
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	resp, body, err := n.do(ctx, http.MethodGet, "/readyz", nil)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("node %d: status %d: %s", n.index+1, resp.StatusCode, body)
	}
	return nil
}

// WaitReady waits until every running node is ready.
func (c *Cluster) WaitReady() {
	c.tb.Helper()
	eventually(c.tb, readyWait, "cluster ready", func() error {
		for _, n := range c.nodes {
			if n.Running() {
				if err := n.Ready(c.tb.Context()); err != nil {
					return err
				}
			} else if n.err != nil && n.cmd.ProcessState.ExitCode() > 0 {
				c.tb.Fatalf("node %d has ended: %v", n.index+1, n.err)
			}
		}
		return nil
	})
}

// Node returns the node of that number, counted round and round.
func (c *Cluster) Node(i int) *Node { return c.nodes[i%len(c.nodes)] }

// Live are the nodes with a process.
func (c *Cluster) Live() []*Node {
	var live []*Node
	for _, n := range c.nodes {
		if n.Running() {
			live = append(live, n)
		}
	}
	return live
}

// Usage adds up the running processes.
func (c *Cluster) Usage() usage {
	c.tb.Helper()
	var pids []int
	for _, n := range c.Live() {
		pids = append(pids, n.PID())
	}
	return usageOf(c.tb, pids...)
}

// reply is an answer whose body has been read.
type reply struct {
	StatusCode    int
	Header        http.Header
	ContentLength int64
}

// do sends a request with the token. Header is pairs of name and value.
func (n *Node) do(ctx context.Context, method, path string, body []byte, header ...string) (
	*reply, []byte, error,
) {
	ctx, cancel := context.WithTimeout(ctx, requestWait)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, n.HTTP+path, bytes.NewReader(body))
	if err != nil {
		return nil, nil, err
	}
	req.Header.Set("Authorization", "Bearer "+testToken)
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := n.cluster.http.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	var answer bytes.Buffer
	_, err = answer.ReadFrom(resp.Body)
	return &reply{resp.StatusCode, resp.Header, resp.ContentLength}, answer.Bytes(), err
}

// call sends a request that must be answered with want, and decodes the JSON
// answer into out, unless that is nil.
func (n *Node) call(method, path string, body []byte, want int, out any) {
	tb := n.cluster.tb
	tb.Helper()
	resp, answer, err := n.do(tb.Context(), method, path, body)
	if err != nil {
		tb.Fatalf("node %d: %v", n.index+1, err)
	}
	if resp.StatusCode != want {
		tb.Fatalf("node %d: %s %s: status %d, want %d: %s", n.index+1, method, path, resp.StatusCode, want, answer)
	}
	if out == nil {
		return
	}
	if err := json.Unmarshal(answer, out); err != nil {
		tb.Fatalf("node %d: %s %s: %v in %s", n.index+1, method, path, err, answer)
	}
}

// cleanup ends every process and shows the logs of a failed test.
func (c *Cluster) cleanup(logs string) {
	c.http.CloseIdleConnections()
	for _, n := range c.nodes {
		if n.cmd == nil || n.done == nil {
			continue
		}
		if err := n.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			c.tb.Errorf("node %d: %v", n.index+1, err)
		}
		<-n.done
	}
	for _, n := range c.nodes {
		text, err := os.ReadFile(n.logFile())
		if err != nil {
			continue
		}
		name := filepath.Join(logs, fmt.Sprintf("node%d.log", n.index+1))
		_ = os.WriteFile(name, text, 0o600)
		if i := bytes.Index(text, []byte("DATA RACE")); i >= 0 {
			c.tb.Errorf("node %d: data race:\n%.8000s", n.index+1, text[i:])
		}
		if i := bytes.Index(text, []byte("\npanic: ")); i >= 0 {
			c.tb.Errorf("node %d: panic:\n%.8000s", n.index+1, text[i:])
		}
		if bytes.Contains(text, []byte(testToken)) {
			c.tb.Errorf("node %d has logged the API token", n.index+1)
		}
		if c.tb.Failed() {
			c.tb.Logf("node %d at %s (%s):\n%s", n.index+1, n.HTTP, name, text[max(0, len(text)-logTailBytes):])
		}
	}
}
