package systemtest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// exportWait bounds an export whose node was killed: the lease of 30 s, a look
// at what is open, and the send.
const exportWait = 60 * time.Second

// target is somebody's store that has bad moments.
type target struct {
	*httptest.Server

	mu   sync.Mutex
	got  map[string][]byte // by path, what was answered with 2xx
	seen map[string]int
	head map[string]http.Header
}

func newTarget(t *testing.T) *target {
	t.Helper()
	s := &target{got: map[string][]byte{}, seen: map[string]int{}, head: map[string]http.Header{}}
	s.Server = httptest.NewServer(http.HandlerFunc(s.serve))
	t.Cleanup(s.Close)
	return s
}

// serve stores what is PUT. The first request below /flaky is answered with an
// error, the first below /hang never; below /full all are refused.
func (s *target) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	s.mu.Lock()
	s.seen[r.URL.Path]++
	first := s.seen[r.URL.Path] == 1
	s.head[r.URL.Path] = r.Header
	s.mu.Unlock()
	switch {
	case err != nil || r.Method != http.MethodPut:
		w.WriteHeader(http.StatusBadRequest)
	case strings.HasPrefix(r.URL.Path, "/flaky/") && first:
		w.WriteHeader(http.StatusInternalServerError)
		_, _ = io.WriteString(w, "out of order")
	case strings.HasPrefix(r.URL.Path, "/hang/") && first:
		<-r.Context().Done()
	case strings.HasPrefix(r.URL.Path, "/full/"):
		w.WriteHeader(http.StatusInsufficientStorage)
	default:
		s.mu.Lock()
		s.got[r.URL.Path] = body
		s.mu.Unlock()
		w.WriteHeader(http.StatusCreated)
	}
}

func (s *target) stored(path string) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.got[path]
}

func (s *target) requests(path string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seen[path]
}

// exported is the public form of an export.
type exported struct {
	ID       string `json:"id"`
	Target   string `json:"target"`
	State    string `json:"state"`
	Attempts int    `json:"attempts"`
	Error    string `json:"error"`
	Node     string `json:"node"`
}

func (n *Node) waitExport(limit time.Duration, id, state string) exported {
	tb := n.cluster.tb
	tb.Helper()
	var e exported
	eventually(tb, limit, "export "+id+" "+state, func() error {
		_, answer, err := n.do(tb.Context(), http.MethodGet, "/v1/exports/"+id, nil)
		if err != nil {
			return err
		}
		e = exported{}
		if err := json.Unmarshal(answer, &e); err != nil || e.State != state {
			return fmt.Errorf("it is %s, %w", answer, err)
		}
		return nil
	})
	return e
}

// byID is the node with that id.
func (c *Cluster) byID(id string) *Node {
	c.tb.Helper()
	for _, member := range c.Live()[0].Status().Nodes {
		for _, n := range c.nodes {
			if member.ID == id && n.HTTP == strings.TrimSuffix(member.HTTP, "/") {
				return n
			}
		}
	}
	c.tb.Fatalf("no node %s", id)
	return nil
}

// TestExport sends recordings to a store that fails, fills up, and hangs while
// the node that sends is killed; nothing is lost, and nothing secret is told.
func TestExport(t *testing.T) {
	t.Parallel()
	store := newTarget(t)
	c := Start(t, 3, settings{"outbound.allow": `["0.0.0.0/0", "::/0", "127.0.0.1"]`})
	sound := soundOf(t, "rec-nobuf-14s.bin")
	file := t.TempDir() + "/a.mp3"
	writeFile(t, file, sound)
	record := func(fields string) recording {
		var rec recording
		body := fmt.Sprintf(`{"account":"pbx"%s}`, fields)
		c.Node(0).call(http.MethodPost, "/v1/recordings", []byte(body), http.StatusCreated, &rec)
		if err := switchRecord(t.Context(), rec.RecordURL, file); err != nil {
			t.Fatal(err)
		}
		return c.Node(0).waitState(rec.ID, "sealed")
	}

	// By its ticket, with credentials, and gone from here afterwards.
	rec := record(fmt.Sprintf(`,"store_url":"%s/flaky/a.mp3?sig=s3cret","delete_after":true,`+
		`"store_headers":{"Authorization":"Basic c2VjcmV0czpzM2NyZXQ="}`, store.URL))
	var failed exported
	eventually(t, settleWait, "the first try has failed", func() error {
		failed = c.Node(1).waitExport(settleWait, rec.ExportID, "queued")
		if failed.Attempts == 0 {
			return errSwitch
		}
		return nil
	})
	if !strings.Contains(failed.Error, "out of order") || strings.Contains(fmt.Sprint(failed), "s3cret") {
		t.Errorf("after a failure it is %+v", failed)
	}
	run(t, underTest(), "--server", c.Node(1).HTTP, "--token", testToken, "exports", "retry", rec.ExportID)
	c.Node(2).waitExport(settleWait, rec.ExportID, "done")
	if got := store.stored("/flaky/a.mp3"); !bytes.Equal(got, sound) {
		t.Errorf("the store has %s", difference(got, sound))
	}
	store.mu.Lock()
	if h := store.head["/flaky/a.mp3"]; h.Get("Authorization") == "" || h.Get("Content-Type") != "audio/mpeg" {
		t.Errorf("sent with %v", h)
	}
	store.mu.Unlock()
	if gone := c.Node(2).waitState(rec.ID, "discarded"); gone.EndedBy != "exported" {
		t.Errorf("afterwards it is %+v", gone)
	}

	exportRefused(t, c, store, rec.ID)
	exportOfADeadNode(t, c, store, record(""), sound)
	exportIsListed(t, c)
}

// exportOfADeadNode kills the node that sends.
func exportOfADeadNode(t *testing.T, c *Cluster, store *target, rec recording, sound []byte) {
	t.Helper()
	var e exported
	body := fmt.Sprintf(`{"url":"%s/hang/b.mp3"}`, store.URL)
	c.Node(1).call(http.MethodPost, "/v1/recordings/"+rec.ID+"/store", []byte(body), http.StatusAccepted, &e)
	eventually(t, settleWait, "the export hangs", func() error {
		if store.requests("/hang/b.mp3") == 0 {
			return errSwitch
		}
		return nil
	})
	e = c.Node(0).waitExport(settleWait, e.ID, "running")
	sender := c.byID(e.Node)
	sender.Kill9()
	var other *Node
	for _, n := range c.Live() {
		other = n
	}
	done := other.waitExport(exportWait, e.ID, "done")
	if got := store.stored("/hang/b.mp3"); !bytes.Equal(got, sound) || done.Node == e.Node {
		t.Errorf("the store has %s, sent by %s", difference(got, sound), done.Node)
	}
	if n := store.requests("/hang/b.mp3"); n != 2 {
		t.Errorf("%d requests, want 2", n)
	}
	sender.Restart()
	c.WaitReady()
}

// exportRefused names targets that no node may be made to call.
func exportRefused(t *testing.T, c *Cluster, store *target, id string) {
	t.Helper()
	for _, to := range []string{
		"http://169.254.169.254/latest/meta-data", "http://127.0.0.2/x", "http://[::1]/x", "ftp://x/y",
		"http://[fe80::1]/x", "file:///etc/passwd",
	} {
		body := fmt.Sprintf(`{"url":%q}`, to)
		resp, answer, err := c.Node(0).do(t.Context(), http.MethodPost, "/v1/recordings/"+id+"/store", []byte(body))
		if err != nil || resp.StatusCode != http.StatusBadRequest {
			t.Errorf("%s: %v %s, %v", to, resp, answer, err)
		}
	}
	if n := store.requests("/x"); n != 0 {
		t.Errorf("a forbidden target was called %d times", n)
	}
}

// exportIsListed looks at what the command line and the metrics say.
func exportIsListed(t *testing.T, c *Cluster) {
	t.Helper()
	n := c.Node(0)
	out := string(run(t, underTest(), "--server", n.HTTP, "--token", testToken, "exports", "ls"))
	if strings.Count(out, " done ") != 2 || strings.Contains(out, "s3cret") {
		t.Errorf("exports ls:\n%s", out)
	}
	eventually(t, settleWait, "no export is open", func() error {
		open, err := n.metric(t.Context(), "carillon_library_exports_open")
		if err == nil && open != 0 {
			err = fmt.Errorf("%v are open", open)
		}
		return err
	})
	for _, node := range c.nodes {
		if text := string(readFile(t, node.logFile())); strings.Contains(text, "s3cret") ||
			strings.Contains(text, "c2VjcmV0czpzM2NyZXQ") {
			t.Errorf("node %d has logged a secret of an export", node.index+1)
		}
	}
}
