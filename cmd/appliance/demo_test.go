package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
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

// untilShown calls back when the end of the addresses is shown.
type untilShown struct {
	bytes.Buffer
	then func()
}

func (w *untilShown) Write(p []byte) (int, error) {
	if bytes.Contains(p, []byte("icecast://")) {
		w.then()
	}
	return w.Buffer.Write(p)
}

// Goal: without the tour nothing is advised to be played that nobody has stored.
func TestDemoWithoutTour(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	out := &untilShown{then: stop}
	cmd := demoCmd{NoTour: true, Dir: t.TempDir()}
	if err := cmd.Run(ctx, terminal{out: out}); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	if text := out.String(); strings.Contains(text, demoWelcome) ||
		!strings.Contains(text, "mpg123 http") || !strings.Contains(text, "/media/demo/"+demoSong) {
		t.Error(text)
	}
}
