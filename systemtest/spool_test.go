package systemtest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"testing"
	"time"
)

// spooledWait: processes start, elect, and the spool is looked at each second.
const spooledWait = time.Minute

// TestSpooledUploads kills two nodes of three, uploads to the third, kills that
// one too and starts it again, then the others: everything arrives, the later
// of two writes of one item stays, and conditional writes were refused.
func TestSpooledUploads(t *testing.T) {
	t.Parallel()
	c := Start(t, 3, settings{"storage.spool_wait": `"1s"`})
	last := c.Node(2)
	c.Node(0).Kill9()
	c.Node(1).Pause()
	want := map[string][]byte{}
	for i, id := range []string{"short.wav", "long.wav", "short.wav"} {
		body := noise(20<<10, uint64(i))
		if id == "long.wav" {
			body = noise(900<<10, uint64(i))
		}
		want[id] = body
		spooledPut(t, last, id, body)
	}
	resp, answer, err := last.do(t.Context(), http.MethodPut, "/media/acme/cond.wav", noise(100, 9),
		"If-None-Match", "*")
	if err == nil && resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("conditional write: status %d: %s", resp.StatusCode, answer)
	}
	stdout, _ := appliance(t, 0, "--server", last.HTTP, "--token", testToken, "cluster", "status")
	contains(t, stdout, "3 items", "wait in the spool")
	last.Kill9()
	last.Restart()
	eventually(t, spooledWait, "the spool survives", func() error {
		n, err := last.metric(t.Context(), "carillon_cluster_spool_items")
		if err == nil && n != 3 {
			err = fmt.Errorf("%v items in the spool, want 3", n)
		}
		return err
	})
	c.Node(0).Restart()
	c.Node(1).Resume()
	c.WaitReady()
	for id, body := range want {
		for _, n := range c.nodes {
			eventually(t, spooledWait, id+" arrives", func() error {
				resp, got, err := n.do(t.Context(), http.MethodGet, "/media/acme/"+id, nil)
				if err == nil && !bytes.Equal(got, body) {
					err = fmt.Errorf("node %d: status %d with %d bytes, want %d", n.index+1, resp.StatusCode,
						len(got), len(body))
				}
				return err
			})
		}
	}
	eventually(t, spooledWait, "the spool empties", func() error {
		var list struct{ Items []json.RawMessage }
		last.call(http.MethodGet, "/v1/spool", nil, http.StatusOK, &list)
		if len(list.Items) != 0 {
			return fmt.Errorf("%s", list.Items)
		}
		return nil
	})
}

// spooledPut uploads without a leader and checks the answer and its status URL.
func spooledPut(t *testing.T, n *Node, id string, body []byte) {
	t.Helper()
	resp, answer, err := n.do(t.Context(), http.MethodPut, "/media/acme/"+id, body)
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		State     string `json:"state"`
		StatusURL string `json:"status_url"`
	}
	err = json.Unmarshal(answer, &doc)
	if err != nil || resp.StatusCode != http.StatusAccepted || doc.State != "spooled" {
		t.Fatalf("status %d: %s", resp.StatusCode, answer)
	}
	var entry struct{ State, Item string }
	n.call(http.MethodGet, doc.StatusURL[len(n.HTTP):], nil, http.StatusOK, &entry)
	if entry.State != "spooled" || entry.Item != id {
		t.Errorf("status URL says %+v", entry)
	}
}

// TestSpooledRecordings loses two nodes of three while ffmpeg records on the
// third, and records once more without any leader; then the third dies too.
// Both recordings arrive, byte for byte, when the nodes are back.
func TestSpooledRecordings(t *testing.T) {
	t.Parallel()
	c := Start(t, 3, nil)
	s := makeSamples(t)
	want := muxed(t, s)
	last := c.Node(2)
	going, beginning := last.ticket("acme", "going.mp3"), last.ticket("acme", "beginning.mp3")
	first := startFFmpeg(t, s, going)
	eventually(t, spooledWait, "the first recording is live", func() error {
		if r := last.recording(going.ID); r.State != "live" || r.Size == 0 {
			return fmt.Errorf("%s with %d bytes", r.State, r.Size)
		}
		return nil
	})
	c.Node(0).Kill9()
	c.Node(1).Pause()
	second := startFFmpeg(t, s, beginning)
	first.wait()
	second.wait()
	if r := last.recording(beginning.ID); r.State != "live" || r.Size != int64(len(want)) {
		t.Errorf("without a leader the second recording is %s with %d bytes of %d", r.State, r.Size, len(want))
	}
	eventually(t, spooledWait, "both are spooled to their end", func() error {
		var list struct{ Items []struct{ Complete bool } }
		last.call(http.MethodGet, "/v1/spool", nil, http.StatusOK, &list)
		if len(list.Items) != 2 || !list.Items[0].Complete || !list.Items[1].Complete {
			return fmt.Errorf("%+v", list)
		}
		return nil
	})
	last.Kill9()
	last.Restart()
	c.Node(0).Restart()
	c.Node(1).Resume()
	c.WaitReady()
	for _, ticket := range []recording{going, beginning} {
		eventually(t, recoverWait, "recording "+ticket.Name+" is whole", func() error {
			r := c.Node(0).recording(ticket.ID)
			if r.State != "sealed" && r.State != "truncated" || r.Size != int64(len(want)) {
				return fmt.Errorf("%s with %d bytes of %d", r.State, r.Size, len(want))
			}
			return nil
		})
		for _, n := range c.nodes {
			resp, got, err := n.do(t.Context(), http.MethodGet, "/media/acme/"+ticket.Name, nil)
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("node %d plays %d bytes of %d: %+v, %v", n.index+1, len(got), len(want), resp, err)
			}
		}
	}
}
