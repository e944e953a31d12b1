package systemtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Exit codes of the command line, which are part of its contract.
const (
	exitOK          = 0
	exitError       = 1
	exitUsage       = 2
	exitNotFound    = 3
	exitUnavailable = 4
	exitDenied      = 5
	exitNewer       = 6 // too old for its data or its cluster
	exitDamaged     = 7
)

// TestCLI is a session of an operator against three nodes.
func TestCLI(t *testing.T) { //nolint:tparallel // the parts share one cluster and follow one another
	t.Parallel()
	c := Start(t, 3, nil)
	s := makeSamples(t)
	cli := func(t *testing.T, n *Node, want int, args ...string) (stdout, stderr string) {
		t.Helper()
		return appliance(t, want, append([]string{"--server", n.HTTP, "--token", testToken}, args...)...)
	}

	out, _ := cli(t, c.Node(0), exitOK, "media", "put", s.phone, "acme/vm/greeting.wav", "--name", "Greeting")
	contains(t, out, "created acme/vm/greeting.wav")
	out, _ = cli(t, c.Node(1), exitOK, "media", "put", s.music, "acme/moh/", "--json")
	var doc document
	decode(t, out, &doc)
	if doc.ID != "moh/music.mp3" || doc.SHA256 != hashOf(readFile(t, s.music)) {
		t.Errorf("put --json printed %+v", doc)
	}
	out, _ = cli(t, c.Node(2), exitOK, "media", "put", s.phone, "acme/vm/greeting.wav")
	contains(t, out, "replaced acme/vm/greeting.wav")
	cli(t, c.Node(2), exitError, "media", "put", s.phone, "acme/vm/greeting.wav", "--new")

	out, _ = cli(t, c.Node(2), exitOK, "media", "ls", "acme")
	if out != "moh/music.mp3\nvm/greeting.wav\n" {
		t.Errorf("ls printed %q", out)
	}
	var listed struct {
		Items []document `json:"items"`
	}
	out, _ = cli(t, c.Node(2), exitOK, "media", "ls", "acme", "--prefix", "vm/", "--json")
	if decode(t, out, &listed); len(listed.Items) != 1 || listed.Items[0].ID != "vm/greeting.wav" {
		t.Errorf("ls --json printed %s", out)
	}
	out, _ = cli(t, c.Node(0), exitOK, "media", "info", "acme/vm/greeting.wav")
	contains(t, out, "8000 Hz", hashOf(readFile(t, s.phone)))

	file := filepath.Join(t.TempDir(), "got.mp3")
	cli(t, c.Node(0), exitOK, "media", "get", "acme/moh/music.mp3", file)
	if !bytes.Equal(readFile(t, file), readFile(t, s.music)) {
		t.Error("get wrote other bytes")
	}
	out, _ = cli(t, c.Node(1), exitOK, "media", "get", "acme/moh/music.mp3", "-")
	if out != string(readFile(t, s.music)) {
		t.Error("get to standard output wrote other bytes")
	}
	t.Run("edit", func(t *testing.T) {
		cli(t, c.Node(1), exitOK, "media", "join", "edit/two.wav", "acme/vm/greeting.wav", "pause:500ms",
			"tone:440:1s", "acme/moh/music.mp3", "--rate", "8000", "--channels", "1")
		cli(t, c.Node(2), exitOK, "media", "trim", "edit/two.wav", "edit/part.wav", "--from", "1s", "--to", "1.25s")
		cli(t, c.Node(0), exitOK, "media", "get", "edit/part.wav", file)
		const quarter = 2000 // samples at 8 kHz, of two bytes
		whole, _ := cli(t, c.Node(0), exitOK, "media", "get", "edit/two.wav", "-")
		if part := readFile(t, file); !strings.Contains(whole, string(part[len(part)-2*quarter:])) {
			t.Error("what was cut out is not in the whole")
		}
		var silence struct {
			DurationMS int64 `json:"duration_ms"`
			LeadingMS  int64 `json:"leading_ms"`
		}
		cli(t, c.Node(1), exitOK, "media", "join", "edit/late.wav", "pause:2s", "acme/vm/greeting.wav")
		out, _ = cli(t, c.Node(2), exitOK, "--json", "media", "silence", "edit/late.wav")
		if decode(t, out, &silence); silence.LeadingMS < 2000 || silence.DurationMS <= silence.LeadingMS {
			t.Errorf("silence printed %s", out)
		}
		cli(t, c.Node(0), exitNotFound, "media", "silence", "edit/none")
		cli(t, c.Node(0), exitUsage, "media", "trim", "edit/two.wav")
		cli(t, c.Node(0), exitUsage, "media", "join", "edit/x", "pause:long")
	})
	t.Run("cluster", func(t *testing.T) {
		var state status
		out, _ = cli(t, c.Node(1), exitOK, "cluster", "status", "--json")
		if decode(t, out, &state); len(state.Nodes) != 3 || len(state.Nodes[0].Groups) < 2 {
			t.Errorf("status --json printed %s", out)
		}
		out, _ = cli(t, c.Node(1), exitOK, "cluster", "status")
		for _, n := range state.Nodes {
			contains(t, out, n.ID)
		}
		out, _ = cli(t, c.Node(2), exitOK, "healthcheck")
		contains(t, out, "ready")
		appliance(t, exitOK, "healthcheck", "--config", c.Node(0).configFile())
		appliance(t, exitOK, "config", "check", "--config", c.Node(0).configFile())
		appliance(t, exitOK, "version")
	})
	t.Run("errors", func(t *testing.T) {
		n := c.Node(0)
		_, stderr := cli(t, n, exitNotFound, "media", "get", "acme/none.wav", filepath.Join(t.TempDir(), "x"))
		contains(t, stderr, "acme/none.wav")
		cli(t, n, exitNotFound, "media", "info", "acme/none.wav")
		cli(t, n, exitNotFound, "media", "rm", "acme/none.wav")
		cli(t, n, exitUsage, "media", "info", "acme")
		cli(t, n, exitUsage, "media", "nonsense")
		cli(t, n, exitError, "media", "put", filepath.Join(t.TempDir(), "none"), "acme/x.wav")
		cli(t, n, exitError, "media", "put", c.Node(0).configFile(), "acme/x.wav")
		appliance(t, exitDenied, "--server", n.HTTP, "--token", "wrong-token-0123456789", "media", "ls", "acme")
		appliance(t, exitDenied, "--server", n.HTTP, "cluster", "status")
		free := loopback(freePorts(t, 1)[0])
		appliance(t, exitUnavailable, "--server", "http://"+free, "--token", testToken, "media", "ls", "acme")
		appliance(t, exitUnavailable, "--server", "http://"+free, "healthcheck")
		appliance(t, exitUsage, "config", "check", "--config", s.phone)
	})
	cli(t, c.Node(1), exitOK, "media", "rm", "acme/moh/music.mp3", "acme/vm/greeting.wav")
	out, _ = cli(t, c.Node(1), exitOK, "media", "ls", "acme", "--json")
	if decode(t, out, &listed); len(listed.Items) != 0 {
		t.Errorf("after rm ls printed %s", out)
	}
}

// appliance runs the command line, which must end with that exit code.
func appliance(t *testing.T, want int, args ...string) (stdout, stderr string) {
	t.Helper()
	cmd := command(t, underTest(), args...)
	var out, messages bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &messages
	err := cmd.Run()
	code := exitOK
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		code = exit.ExitCode()
	} else if err != nil {
		t.Fatal(err)
	}
	if code != want {
		t.Errorf("appliance %s: exit code %d, want %d: %s%s", strings.Join(args, " "), code, want, &out, &messages)
	}
	if code != exitOK && messages.Len() == 0 {
		t.Errorf("appliance %s: exit code %d without a word", strings.Join(args, " "), code)
	}
	return out.String(), messages.String()
}

func contains(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("no %q in %q", part, text)
		}
	}
}

func decode(t *testing.T, text string, into any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), into); err != nil {
		t.Fatalf("%v in %.2000s", err, text)
	}
}
