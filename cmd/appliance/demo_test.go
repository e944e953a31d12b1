package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Goal: the demo tells a story that is true, writes its addresses, and leaves
// nothing behind.
func TestDemo(t *testing.T) {
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	info := filepath.Join(t.TempDir(), "info.json")
	var out bytes.Buffer
	cmd := demoCmd{Exit: true, Info: info}
	if err := cmd.Run(t.Context(), terminal{out: &out}); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	text := out.String()
	for _, want := range []string{
		"three nodes found one another", "stored welcome.wav through node 1",
		"played 2 items from node 2",
		"recorded 4s; node 1 played it live", "stopped node 3", "played all 3 items from nodes 1 and 2",
		"calls/second.mp3", "started node 3 again",
	} {
		if !strings.Contains(text, "✓ ") || !strings.Contains(text, want) {
			t.Errorf("no %q", want)
		}
	}
	if strings.ContainsRune(text, '\x1b') {
		t.Error("colors where no terminal is")
	}
	raw, err := os.ReadFile(info)
	if err != nil {
		t.Fatal(err)
	}
	var got demoInfo
	if err := json.Unmarshal(raw, &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Token) < 20 || len(got.Nodes) != 3 {
		t.Errorf("info: %d nodes", len(got.Nodes))
	}
	address := regexp.MustCompile(`^127\.0\.0\.1:\d+$`)
	for _, n := range got.Nodes {
		if n.ID == "" || !strings.HasPrefix(n.HTTP, "http://127.0.0.1:") || !address.MatchString(n.Shout) ||
			!address.MatchString(n.Peer) || !address.MatchString(n.Gossip) || n.Dir == "" {
			t.Errorf("info of a node: %+v", n)
		}
	}
	if strings.Contains(text, got.Token) {
		t.Error("the token is shown although nobody can use it any more")
	}
	left, err := os.ReadDir(temp)
	if err != nil {
		t.Fatal(err)
	}
	if len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if t.Failed() {
		t.Log(text)
	}
}

// shown calls back with the addresses, when they are shown.
type shown struct {
	bytes.Buffer
	then func(text string)
}

func (w *shown) Write(p []byte) (int, error) {
	if bytes.Contains(p, []byte("icecast://")) {
		w.then(string(p))
	}
	return w.Buffer.Write(p)
}

// Goal: what the demo advises to try can be tried, also without the tour: its
// curl commands work as they stand there, one after the other.
func TestDemoAdvice(t *testing.T) {
	dir := t.TempDir()
	samples, err := sampleAudio()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "song.mp3"), samples[1].sound, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	tried := 0
	try := func(text string) {
		defer stop()
		export := ""
		text = strings.ReplaceAll(text, "\\\n", "")
		for line := range strings.Lines(text) {
			line = strings.TrimSpace(line)
			switch {
			case strings.HasPrefix(line, "export "):
				export = line
				continue
			case strings.HasPrefix(line, "mpg123 ") && strings.Contains(line, "/media/"):
				line = "curl" + strings.TrimPrefix(line, "mpg123")
			case !strings.HasPrefix(line, "curl "):
				continue
			}
			tried++
			line = "curl -sSf -o answer" + strings.TrimPrefix(line, "curl")
			cmd := exec.CommandContext(ctx, "sh", "-c", export+"\n"+line)
			cmd.Dir = dir
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%s: %v\n%s", line, err, out)
			}
		}
	}
	out := &shown{then: try}
	cmd := demoCmd{NoTour: true, Dir: filepath.Join(dir, "demo")}
	if err := cmd.Run(ctx, terminal{out: out}); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	if tried != 4 || strings.Contains(out.String(), demoWelcome) {
		t.Errorf("%d commands tried of\n%s", tried, out.String())
	}
}
