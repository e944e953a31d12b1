package systemtest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// envPerf names a directory for profiles of the benchmarks: each measured
// stretch is sampled by Linux perf over all nodes, into NAME.data and a report
// NAME.txt. The appliance has no port for profiles, and needs none here.
const envPerf = "SYSTEMTEST_PERF"

// profile samples the running nodes until the returned function is called. It
// does nothing unless it is asked for.
func (c *Cluster) profile(tb testing.TB, name string) (stop func()) {
	tb.Helper()
	dir := os.Getenv(envPerf)
	if dir == "" {
		return func() {}
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		tb.Fatal(err)
	}
	var pids []string
	for _, n := range c.Live() {
		pids = append(pids, strconv.Itoa(n.PID()))
	}
	data := filepath.Join(dir, name+".data")
	cmd := exec.CommandContext(context.Background(), "perf", "record", "-q", "-F", "499", "-g",
		"-o", data, "-p", strings.Join(pids, ","))
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	return func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait() // perf ends with the signal's status
		report, err := exec.CommandContext(context.Background(), "perf", "report", "-i", data, "--stdio",
			"--no-children", "-g", "none", "--percent-limit", "0.4", "-s", "symbol").CombinedOutput()
		if err != nil {
			tb.Errorf("perf report: %v\n%s", err, report)
		}
		self := append(fmt.Appendf(nil, "self time, all nodes: %s\n", name), report...)
		report, err = exec.CommandContext(context.Background(), "perf", "report", "-i", data, "--stdio",
			"--children", "-g", "none", "--percent-limit", "1.5", "-s", "symbol").CombinedOutput()
		if err != nil {
			tb.Errorf("perf report: %v\n%s", err, report)
		}
		text := append(append(self, "\nwith callees\n"...), report...)
		if err := os.WriteFile(filepath.Join(dir, name+".txt"), text, 0o600); err != nil {
			tb.Error(err)
		}
	}
}
