package systemtest

import (
	"fmt"
	"io/fs"
	"net/http"
	"path/filepath"
	"testing"
)

// asteriskSounds is Debian's asterisk-core-sounds-en-wav.
const asteriskSounds = "/usr/share/asterisk/sounds/en_US_f_Allison"

// TestPromptImport imports a real package of prompts, with the catalog's leader
// killed in the middle. The import goes on by itself, nothing is there by half,
// and what it reported is on all nodes, also on the one that was away.
func TestPromptImport(t *testing.T) {
	t.Parallel()
	var files []string
	err := filepath.WalkDir(asteriskSounds, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && filepath.Ext(path) == ".wav" {
			files = append(files, path)
		}
		return err
	})
	if err != nil || len(files) < 500 {
		t.Fatalf("%d sounds, %v: install what .ci/run lists", len(files), err)
	}
	c := Start(t, 3, nil)
	leader := c.Leader("catalog")
	at := c.Node(leader.index + 1)
	args := func(n *Node) []string {
		return []string{
			"--server", n.HTTP, "--token", testToken, "--json", "prompts", "import", asteriskSounds,
			"--language", "en-us", "--account", "tel", "--jobs", "2",
		}
	}
	importing := startClient(t, command(t, underTest(), args(at)...))
	eventually(t, settleWait, "a part of the prompts", func() error {
		if n := promptCount(at); n < 20 {
			return fmt.Errorf("%d prompts", n)
		}
		return nil
	})
	leader.Kill9()
	left := len(files) - promptCount(at)
	var report struct {
		Counts map[string]int `json:"counts"`
	}
	decode(t, string(importing.wait()), &report)
	// Whoever was sending when the leader died may find its own write there.
	if got := report.Counts["created"] + report.Counts["unchanged"]; got != len(files) || left == 0 {
		t.Errorf("import reported %v of %d files, %d of them after the leader was killed",
			report.Counts, len(files), left)
	}
	leader.Restart()
	c.WaitReady()
	for i := range 3 {
		n := c.Node(i)
		if got := promptCount(n); got != len(files) {
			t.Errorf("node %d has %d prompts of %d", i+1, got, len(files))
		}
		for _, file := range []string{
			"vm-undelete.wav", "digits/1.wav", files[len(files)-1][len(asteriskSounds)+1:],
		} {
			want := readFile(t, filepath.Join(asteriskSounds, file))
			path := "/media/tel/en-us/" + file[:len(file)-len(".wav")]
			resp, got, err := n.do(t.Context(), http.MethodGet, path, nil)
			if err != nil || resp.StatusCode != http.StatusOK || hashOf(got) != hashOf(want) {
				t.Errorf("node %d: %s: %v, %v, %d bytes", i+1, path, resp, err, len(got))
			}
		}
	}
	again := startClient(t, command(t, underTest(), args(leader)...))
	decode(t, string(again.wait()), &report)
	if report.Counts["unchanged"] != len(files) {
		t.Errorf("second import reported %v", report.Counts)
	}
}

// promptCount is how many prompts a node knows.
func promptCount(n *Node) int {
	n.cluster.tb.Helper()
	var languages struct {
		Items []struct {
			Prompts int `json:"prompts"`
		} `json:"items"`
	}
	n.call(http.MethodGet, "/v1/accounts/tel/languages", nil, http.StatusOK, &languages)
	if len(languages.Items) == 0 {
		return 0
	}
	return languages.Items[0].Prompts
}
