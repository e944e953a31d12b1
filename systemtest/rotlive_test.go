package systemtest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// rotItems are enough for a catalog's table to have many blocks.
const rotItems = 60

// TestRotUnderRunningNode flips bits in the catalog's tables of a running node, as
// a disk does: from then on it never answers that an item is not there, nor with
// another's, whatever it is asked; it builds its catalog again by itself, and says
// so in the status.
func TestRotUnderRunningNode(t *testing.T) {
	t.Parallel()
	c := Start(t, 3, settings{"cluster.shards": "2"})
	hashes := map[string]string{}
	for i := range rotItems {
		id := fmt.Sprintf("rot-%d.wav", i)
		body := noise(wavHeaderBytes+2000, uint64(i))
		hashes[id] = hashOf(body)
		c.Node(i%2).put("faults", id, body)
	}
	n := c.Node(2)
	n.Stop() // this writes the table
	n.start()
	c.WaitReady()
	name := n.nodeID() // who cannot be asked while it starts again
	table := newestFile(t, filepath.Join(n.dir, "data", "catalog", "catalog-*", "*.sst"))
	rotBlocks(t, table)
	for id, hash := range hashes {
		if err := n.knowsItem(t.Context(), id, hash); err != nil {
			t.Errorf("%s: %v", id, err)
		}
	}
	eventually(t, rotWait, "the node is ready again, and says what it put aside", func() error {
		for id, hash := range hashes { // while it starts again, too
			if err := n.knowsItem(t.Context(), id, hash); err != nil {
				t.Errorf("%s: %v", id, err)
			}
		}
		if err := n.Ready(t.Context()); err != nil {
			return err
		}
		var s struct {
			Nodes []struct {
				ID       string
				PutAside []string `json:"put_aside"`
			}
		}
		c.Node(0).call(http.MethodGet, "/v1/cluster", nil, http.StatusOK, &s)
		for _, node := range s.Nodes {
			aside := strings.Join(node.PutAside, " ")
			if node.ID == name && len(node.PutAside) == 1 && strings.HasPrefix(aside, "catalog/damaged-") {
				return nil
			}
		}
		return fmt.Errorf("nothing put aside: %+v", s)
	})
	readBack(t, c, hashes)
}

// rotBlocks flips one bit in each 4 KiB of what a table holds before its index, in
// the text of a document: in the numbers at the end of a block it would end the
// process if a merge came by, see blobstore/DESIGN.md.
func rotBlocks(t *testing.T, name string) {
	t.Helper()
	text := readFile(t, name)
	words := regexp.MustCompile(`[a-z_]{4}`)
	flips := 0
	for at := 1000; at < len(text)/2; at += 4096 {
		if word := words.FindIndex(text[at : len(text)/2]); len(word) > 0 {
			text[at+word[0]] ^= 0x20
			flips++
		}
	}
	if flips == 0 {
		t.Fatalf("no document in %s", name)
	}
	f, err := os.OpenFile(name, os.O_RDWR, 0) // as it is: the node has it mapped
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt(text, 0)
	if err = errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}

// knowsItem asks for an item at each consistency. A node may refuse for a while,
// or be away; what it says must be true.
func (n *Node) knowsItem(ctx context.Context, id, hash string) error {
	for _, consistency := range []string{"local", "fresh"} {
		resp, body, err := n.do(ctx, http.MethodGet, documentPath("faults", id)+"?consistency="+consistency, nil)
		if err != nil {
			continue
		}
		switch resp.StatusCode {
		case http.StatusOK:
			if !strings.Contains(string(body), hash) {
				return fmt.Errorf("%s: another item: %s", consistency, body)
			}
		case http.StatusServiceUnavailable:
		default:
			return fmt.Errorf("%s: status %d: %s", consistency, resp.StatusCode, body)
		}
	}
	resp, body, err := n.do(ctx, http.MethodGet, "/media/faults/"+id, nil)
	if err == nil && resp.StatusCode == http.StatusOK && hashOf(body) != hash {
		return errors.New("other sound")
	}
	if err == nil && resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusServiceUnavailable {
		return fmt.Errorf("played with status %d", resp.StatusCode)
	}
	return nil
}
