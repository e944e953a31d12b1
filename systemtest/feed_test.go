package systemtest

import (
	"bufio"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	// feedSecret signs the deliveries of the test.
	feedSecret = "systemtest-webhook-secret"
	// feedWait is until every follower has caught up after the last write: a
	// restart, an election and a takeover of the webhooks.
	feedWait = 90 * time.Second
)

// fedEvent is an event as far as the test looks at it.
type fedEvent struct {
	Position string `json:"position"`
	Kind     string `json:"kind"`
	Account  string `json:"account"`
	ID       string `json:"id"`
	SHA256   string `json:"sha256"`
}

// TestFeedThroughKills: while nodes are killed and come back, followers of all
// three see the same events in the same order, none missing and none twice, and
// a webhook gets them all, in order, however often the node that delivers dies.
func TestFeedThroughKills(t *testing.T) { //nolint:tparallel // the parts share a cluster, in order
	t.Parallel()
	c := Start(t, 3, settings{"outbound.deny": "[]"})
	hook := startReceiver(t)
	body := fmt.Sprintf(`{"url":%q,"secret":%q,"kinds":["media"],"after":"oldest"}`, hook.url, feedSecret)
	c.Node(0).call(http.MethodPut, "/v1/webhooks/test", []byte(body), http.StatusCreated, nil)
	followers := make([]*follower, 3)
	for i := range followers {
		followers[i] = startFollower(t, c, i)
	}
	up := startUploads(t, c)
	for i := range 3 {
		t.Run(fmt.Sprintf("node %d", i+1), func(t *testing.T) {
			view := c.For(t)
			victim := view.Node(i)
			if i == 2 {
				victim = view.Leader("catalog")
			}
			pause(t.Context(), faultBetween)
			victim.Kill9()
			up.progress(t, failoverWait)
			pause(t.Context(), faultBetween)
			victim.Restart()
			view.WaitReady()
			up.progress(t, failoverWait)
		})
	}
	up.stop(t)
	want := up.names()
	for i, f := range followers {
		what := fmt.Sprintf("follower of node %d has all", i+1)
		eventually(t, feedWait, what, func() error { return f.has(want) })
	}
	eventually(t, feedWait, "the webhook has all", func() error { return hook.has(want) })
	// An upload that nobody answered, or that a spool had, may come later still.
	var hooked []fedEvent
	seen := make([][]fedEvent, len(followers))
	eventually(t, feedWait, "all have as many", func() error {
		hooked = hook.all()
		for i, f := range followers {
			seen[i] = f.seen()
			if len(seen[i]) != len(hooked) {
				return fmt.Errorf("follower %d has %d events, the webhook %d", //nolint:err113 // only to be shown
					i+1, len(seen[i]), len(hooked))
			}
		}
		return nil
	})
	first := seen[0]
	for i := range followers {
		sameEvents(t, fmt.Sprintf("follower of node %d", i+1), seen[i], first)
	}
	sameEvents(t, "webhook", hooked, first)
	t.Logf("%d events, %d deliveries, %d of them again, %d reconnections", len(first), hook.deliveries(),
		hook.twice(), followers[0].lost()+followers[1].lost()+followers[2].lost())
}

// names are the items that were acknowledged, with their hashes.
func (u *uploads) names() map[string]string {
	u.mu.Lock()
	defer u.mu.Unlock()
	names := make(map[string]string, len(u.acked))
	for id, hash := range u.acked {
		names["faults/"+id] = hash
	}
	return names
}

func sameEvents(t *testing.T, who string, got, want []fedEvent) {
	t.Helper()
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			t.Fatalf("%s: event %d is %+v, want %+v", who, i, got[i], want[i])
		}
	}
	if len(got) != len(want) {
		t.Fatalf("%s has %d events, want %d", who, len(got), len(want))
	}
}

// collected are events without repetitions.
type collected struct {
	mu     sync.Mutex
	events []fedEvent      // guarded by mu, as all below
	items  map[string]bool // account/id
	again  int             // events that came a second time
	last   string
	known  map[string]bool // positions
}

func newCollected() *collected {
	return &collected{items: map[string]bool{}, known: map[string]bool{}}
}

func (c *collected) add(e fedEvent) (repeated bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known[e.Position] {
		c.again++
		return true
	}
	c.known[e.Position], c.last = true, e.Position
	c.events = append(c.events, e)
	c.items[e.Account+"/"+e.ID] = true
	return false
}

func (c *collected) all() []fedEvent {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]fedEvent(nil), c.events...)
}

// has says what of the acknowledged is not there.
func (c *collected) has(names map[string]string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	missing := 0
	for path := range names {
		if !c.items[path] {
			missing++
		}
	}
	if missing > 0 {
		return fmt.Errorf("%d of %d are missing, %d events are there", missing, len(names), len(c.events))
	}
	return nil
}

// follower reads the feed of one node, and goes on there after every loss.
type follower struct {
	*collected
	t    *testing.T
	node *Node

	losses int // guarded by collected.mu
}

func startFollower(t *testing.T, c *Cluster, i int) *follower {
	t.Helper()
	f := &follower{collected: newCollected(), t: t, node: c.Node(i)}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		position := "oldest"
		for ctx.Err() == nil {
			position = f.read(ctx, position)
			f.mu.Lock()
			f.losses++
			f.mu.Unlock()
			pause(ctx, 100*time.Millisecond)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
	return f
}

func (f *follower) seen() []fedEvent { return f.all() }

func (f *follower) lost() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.losses
}

// read follows until the connection ends and returns where it was.
func (f *follower) read(ctx context.Context, position string) string {
	url := f.node.HTTP + "/v1/events?kind=media&after=oldest"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		f.t.Error(err)
		return position
	}
	req.Header.Set("Authorization", "Bearer "+testToken)
	if position != "oldest" {
		req.Header.Set("Last-Event-ID", position)
	}
	resp, err := f.node.cluster.http.Do(req)
	if err != nil {
		return position
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		if text, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusServiceUnavailable {
			f.t.Errorf("follow after %s: %d %s", position, resp.StatusCode, text)
		}
		return position
	}
	var id, data string
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		switch line := lines.Text(); {
		case strings.HasPrefix(line, "id: "):
			id = line[4:]
		case strings.HasPrefix(line, "data: {\"position\""):
			data = line[6:]
		case line == "":
			if id != "" {
				position = id
			}
			var e fedEvent
			if data == "" {
				continue
			}
			if err := json.Unmarshal([]byte(data), &e); err != nil || e.Position != id {
				f.t.Errorf("event %s: %s: %v", id, data, err)
			}
			if f.add(e) {
				f.t.Errorf("event %s came twice", e.Position)
			}
			id, data = "", ""
		}
	}
	return position
}

// receiver is the far end of a webhook. It fails now and then.
type receiver struct {
	*collected
	url string

	got int // guarded by collected.mu
}

func startReceiver(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{collected: newCollected()}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if err := r.take(req); err != nil {
			t.Errorf("delivery: %v", err)
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	}))
	t.Cleanup(srv.Close)
	r.url = srv.URL + "/in"
	return r
}

// take checks the signature as a receiver is told to, and notes the events.
func (r *receiver) take(req *http.Request) error {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		if _, broken := errors.AsType[net.Error](err); broken || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil // the sender was killed
		}
		return err
	}
	mac := hmac.New(sha256.New, []byte(feedSecret))
	_, _ = fmt.Fprintf(mac, "%s.%s", req.Header.Get("Carillon-Timestamp"), body)
	if want := "v1=" + hex.EncodeToString(mac.Sum(nil)); !hmac.Equal([]byte(want),
		[]byte(req.Header.Get("Carillon-Signature"))) {
		return fmt.Errorf("signature %q", req.Header.Get("Carillon-Signature"))
	}
	var delivery struct {
		Webhook string     `json:"webhook"`
		Events  []fedEvent `json:"events"`
	}
	if err := json.Unmarshal(body, &delivery); err != nil {
		return err
	}
	r.mu.Lock()
	r.got++
	r.mu.Unlock()
	for _, e := range delivery.Events {
		r.add(e)
	}
	return nil
}

func (r *receiver) deliveries() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.got
}

// twice is how many events were delivered again.
func (r *receiver) twice() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.again
}
