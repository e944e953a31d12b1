package systemtest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
)

// taken is what `appliance backup --json` prints.
type taken struct {
	Cluster  string `json:"cluster"`
	Position uint64 `json:"position"`
	Rows     int64  `json:"rows"`
	Changed  int64  `json:"changed"`
	Deleted  int64  `json:"deleted"`
	Blobs    int64  `json:"blobs"`
	Fetched  int64  `json:"fetched"`
	Open     int64  `json:"open"`
}

// cli runs a client command against the node.
func (n *Node) cli(t *testing.T, want int, args ...string) (stdout, stderr string) {
	t.Helper()
	return appliance(t, want, append([]string{"--server", n.HTTP, "--token", testToken}, args...)...)
}

// documents are all documents of an account by id, as JSON without what a
// restore may change.
func (n *Node) documents(t *testing.T, account string) map[string]string {
	t.Helper()
	all := map[string]string{}
	for after, more := "", true; more; {
		var page struct {
			Items []map[string]any `json:"items"`
			Next  string           `json:"next"`
		}
		n.call(http.MethodGet, "/v1/accounts/"+account+"/media?limit=200&after="+url.QueryEscape(after), nil,
			http.StatusOK, &page)
		for _, doc := range page.Items {
			id, _ := doc["id"].(string)
			delete(doc, "revision")
			text, err := json.Marshal(doc)
			if err != nil {
				t.Fatal(err)
			}
			all[id], after = string(text), id
		}
		more = len(page.Items) > 0
	}
	return all
}

// revisions of the items of an account.
func (n *Node) revisions(account string, ids []string) map[string]uint64 {
	out := map[string]uint64{}
	for _, id := range ids {
		var doc document
		n.call(http.MethodGet, documentPath(account, id), nil, http.StatusOK, &doc)
		out[id] = doc.Revision
	}
	return out
}

// TestBackupRestore backs a cluster up while it is written to and recorded into,
// again after more has happened, and restores both into empty clusters. Blobs
// that lose their last reference in the middle must not be swept: the sweep is
// set to a second.
func TestBackupRestore(t *testing.T) { //nolint:tparallel // the part needs what was done before
	t.Parallel()
	c := Start(t, 3, settings{"storage.sweep_interval": `"1s"`, "storage.sweep_grace": `"1s"`})
	dir := filepath.Join(t.TempDir(), "backups")
	items := map[string][]byte{}
	for i, size := range []int{wavHeaderBytes + 2, 5_000, 256 << 10, 700 << 10, 3 << 20} {
		id := fmt.Sprintf("greetings/%d ü.wav", i)
		items[id] = noise(size&^1, uint64(i))
		c.Node(i).put("acme", id, items[id])
	}
	c.Node(0).call(http.MethodPatch, documentPath("acme", "greetings/1 ü.wav"),
		[]byte(`{"name":"Grüße","language":"de-de","metadata":{"owner":"42"}}`), http.StatusOK, nil)
	up := startUploads(t, c)
	up.progress(t, failoverWait)
	live := startSources(t, c)
	pause(t.Context(), faultBetween) // so that there is something of each

	first := c.backup(t, dir)
	up.stop(t)
	frozen := up.snapshot() // all of these, and perhaps more, are in the second
	if first.Blobs < int64(len(items)) || first.Fetched != first.Blobs || first.Open == 0 {
		t.Errorf("first backup: %+v", first)
	}
	for _, s := range live {
		s.end(t)
		c.Node(0).waitState(s.rec.ID, "sealed")
	}
	stored := c.Node(1).store(live[0].rec.ID, "acme", "voicemail.mp3")
	for _, id := range slices.Collect(maps.Keys(frozen))[:3] {
		c.Node(2).call(http.MethodDelete, documentPath("faults", id), nil, http.StatusNoContent, nil)
	}
	second := c.backup(t, dir)
	if second.Fetched >= second.Blobs || second.Deleted == 0 || second.Changed >= second.Rows ||
		second.Open != 0 || second.Position <= first.Position {
		t.Errorf("second backup: %+v after %+v", second, first)
	}
	t.Logf("first %+v, second %+v", first, second)
	appliance(t, exitOK, "backup", "verify", "--all", dir)

	acme, faults := c.Node(0).documents(t, "acme"), c.Node(0).documents(t, "faults")
	was := c.Node(0).revisions("acme", slices.Collect(maps.Keys(acme)))
	to := Start(t, 3, nil)
	to.Node(0).cli(t, exitOK, "restore", dir)
	for i, n := range to.nodes {
		if got := n.documents(t, "acme"); !maps.Equal(got, acme) {
			t.Errorf("node %d: account acme restored as %v, was %v", i+1, got, acme)
		}
		if got := n.documents(t, "faults"); !maps.Equal(got, faults) {
			t.Errorf("node %d: account faults: %d documents restored, were %d", i+1, len(got), len(faults))
		}
		for id, want := range items {
			if _, got, err := n.do(t.Context(), http.MethodGet, "/media/acme/"+url.PathEscape(id), nil); err != nil ||
				!bytes.Equal(got, want) {
				t.Errorf("node %d: %s: %d bytes, %v", i+1, id, len(got), err)
			}
		}
	}
	is := to.Node(1).revisions("acme", slices.Collect(maps.Keys(acme)))
	for a := range was {
		for b := range was { // several commits may have become one, but none overtakes another
			if was[a] < was[b] && is[a] > is[b] {
				t.Errorf("%s was before %s, now their revisions are %d and %d", a, b, is[a], is[b])
			}
		}
	}
	if rec := to.Node(2).recording(live[0].rec.ID); rec.State != "stored" {
		t.Errorf("stored recording restored as %+v", rec)
	}
	for id := range faults {
		if frozen[id] == "" {
			continue // cut off by the stop of its writer
		}
		if err := to.Node(1).playsItem(t.Context(), id, frozen[id]); err != nil {
			t.Errorf("restored item %s: %v", id, err)
		}
	}
	_, got, err := to.Node(2).do(t.Context(), http.MethodGet, "/media/acme/voicemail.mp3", nil)
	if err != nil || hashOf(got) != stored.SHA256 {
		t.Errorf("stored voicemail: %d bytes, %v", len(got), err)
	}
	// Not again over what is there; with --merge what is there stays.
	_, stderr := to.Node(0).cli(t, exitError, "restore", dir)
	contains(t, stderr, "not empty")
	to.Node(0).call(http.MethodPut, "/media/acme/"+url.PathEscape("greetings/0 ü.wav"), noise(9_000, 77),
		http.StatusOK, nil)
	to.Node(0).call(http.MethodDelete, documentPath("acme", "greetings/3 ü.wav"), nil, http.StatusNoContent, nil)
	to.Node(1).cli(t, exitOK, "restore", "--merge", dir)
	for id, want := range map[string][]byte{"0": noise(9_000, 77), "3": items["greetings/3 ü.wav"]} {
		path := "/media/acme/" + url.PathEscape("greetings/"+id+" ü.wav")
		_, got, err := to.Node(2).do(t.Context(), http.MethodGet, path, nil)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("after the merge %s has %d bytes, want %d: %v", path, len(got), len(want), err)
		}
	}
	t.Run("live", func(t *testing.T) { restoreLive(t, dir, first, live) })
}

// backup takes a backup through the first node.
func (c *Cluster) backup(t *testing.T, dir string) taken {
	t.Helper()
	out, _ := c.Node(0).cli(t, exitOK, "backup", dir, "--json")
	var b taken
	decode(t, out, &b)
	return b
}

// restoreLive restores the backup that was taken while sources were live: what
// there was of them comes back as truncated recordings.
func restoreLive(t *testing.T, dir string, first taken, live []*faultSource) {
	t.Helper()
	to := Start(t, 1, nil)
	to.Node(0).cli(t, exitOK, "restore", dir, "--position", strconv.FormatUint(first.Position, 10))
	for _, s := range live[:2] {
		rec := to.Node(0).waitStateWithin(2*recoverWait, s.rec.ID, "truncated")
		if rec.Size == 0 {
			t.Errorf("live recording %s was restored empty", s.rec.ID)
		}
		s.compare(t, to.Node(0), rec.Size)
	}
}

// TestBackupDamaged damages a backup: verify finds it, restore refuses it, and
// the next backup fetches what is missing again.
func TestBackupDamaged(t *testing.T) {
	t.Parallel()
	c := Start(t, 1, nil)
	dir := filepath.Join(t.TempDir(), "backups")
	body := noise(300<<10, 1)
	c.Node(0).put("acme", "item.wav", body)
	c.backup(t, dir)
	blobs, err := filepath.Glob(filepath.Join(dir, "blobs", "*", "*"))
	if err != nil || len(blobs) != 1 {
		t.Fatalf("blobs in the backup: %v %v", blobs, err)
	}
	damaged := bytes.Clone(body)
	damaged[100_000] ^= 1
	if err := os.WriteFile(blobs[0], damaged, 0o600); err != nil {
		t.Fatal(err)
	}
	out, _ := appliance(t, exitDamaged, "backup", "verify", dir)
	contains(t, out, "SHA-256", "1 problems")
	to := Start(t, 1, nil)
	to.Node(0).cli(t, exitError, "restore", dir)
	if docs := to.Node(0).documents(t, "acme"); len(docs) != 0 {
		t.Errorf("documents of a damaged backup were restored: %v", docs)
	}
	if err := os.Remove(blobs[0]); err != nil {
		t.Fatal(err)
	}
	appliance(t, exitDamaged, "backup", "verify", dir)
	if again := c.backup(t, dir); again.Fetched != 1 {
		t.Errorf("backup after a loss: %+v", again)
	}
	appliance(t, exitOK, "backup", "verify", dir)
	to.Node(0).cli(t, exitError, "restore", dir) // another generation than the one that was begun
	other := Start(t, 1, nil)
	other.Node(0).cli(t, exitOK, "restore", dir)
	_, got, err := other.Node(0).do(t.Context(), http.MethodGet, "/media/acme/item.wav", nil)
	if err != nil || !bytes.Equal(got, body) {
		t.Errorf("restored item of %d bytes: %v", len(got), err)
	}
	// Without a token there is no backup.
	_, stderr := appliance(t, exitDenied, "--server", c.Node(0).HTTP, "backup", dir)
	contains(t, stderr, "token")
}
