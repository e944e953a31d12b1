package systemtest

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	// faultWriters upload all the time, over all nodes.
	faultWriters = 8
	// faultItemBytes is more than one piece of anything, and quick to store.
	faultItemBytes = 48 << 10
	// faultSources record on each node.
	faultSources = 4
	// faultWriteEvery is a writer's rest: what was acknowledged is read again
	// and again, from every node.
	faultWriteEvery = 50 * time.Millisecond
	// faultBetween is how long the traffic runs before and after a kill.
	faultBetween = 2 * time.Second
	// recoverWait: a node that starts seals what it left live; what it cannot
	// seal yet, because a group has no leader, it tries again half a minute later.
	recoverWait = time.Minute
	// inFlight is how long a byte may be on its way to a node that is stopped.
	inFlight = 2 * sourceEvery
	// ackedWithin: every byte is on a majority's disks a second after it came.
	ackedWithin = time.Second
)

// TestKill9 kills each node in turn without warning, the leaders of all groups
// among them, while clients upload and record. What was acknowledged must be
// there on every node, during the outage and after it.
func TestKill9(t *testing.T) { //nolint:tparallel // the parts share one cluster and follow one another
	t.Parallel()
	c := Start(t, 3, nil)
	up := startUploads(t, c)
	for i := range c.nodes {
		t.Run(fmt.Sprintf("node %d", i+1), func(t *testing.T) {
			killOne(t, c.For(t), c.For(t).Node(i), up)
		})
	}
	t.Run("leaders", func(t *testing.T) {
		view := c.For(t)
		for _, group := range []string{"catalog", "blob-0"} {
			killOne(t, view, view.Leader(group), up)
		}
	})
	up.stop(t)
	up.verifyAll(t, c)
	t.Logf("%d uploads acknowledged, %d refused during the outages, the longest wait for an ack was %v",
		len(up.acked), up.failed, up.longest)
}

// killOne kills a node amid traffic, checks the others, and brings it back.
func killOne(t *testing.T, c *Cluster, victim *Node, up *uploads) {
	t.Helper()
	sources := startSources(t, c)
	pause(t.Context(), faultBetween)
	killed := time.Now()
	victim.Kill9()
	up.progress(t, failoverWait) // writes go on without it
	pause(t.Context(), faultBetween)
	up.verify(t, c) // from the live nodes

	for _, s := range sources {
		if s.node != victim.index {
			s.end(t)
		}
	}
	for _, s := range sources {
		if s.node != victim.index {
			s.whole(t, c)
		}
	}
	victim.Restart()
	c.WaitReady()
	for _, s := range sources {
		if s.node == victim.index {
			s.cut(t, c, killed)
		}
	}
	up.progress(t, failoverWait)
	up.verify(t, c) // from all
}

// uploads are writers that never stop, and a memory of what was acknowledged.
type uploads struct {
	cancel   context.CancelFunc
	wg       sync.WaitGroup
	verified map[string]string // by the last verify

	mu      sync.Mutex // guards all below
	acked   map[string]string
	failed  int
	last    time.Time
	longest time.Duration
}

func startUploads(t *testing.T, c *Cluster) *uploads {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	u := &uploads{cancel: cancel, acked: map[string]string{}, last: time.Now()}
	for w := range faultWriters {
		u.wg.Go(func() { u.write(ctx, c, w) })
	}
	t.Cleanup(func() { u.stop(t) })
	return u
}

// write uploads new items, through the next node whenever one fails.
func (u *uploads) write(ctx context.Context, c *Cluster, writer int) {
	body := noise(faultItemBytes, uint64(writer))
	node := writer
	for turn := 0; ctx.Err() == nil; turn++ {
		binary.LittleEndian.PutUint64(body[wavHeaderBytes:], uint64(turn))
		id := fmt.Sprintf("%d-%d.wav", writer, turn)
		resp, _, err := c.Node(node).do(ctx, http.MethodPut, "/media/faults/"+id, body)
		if ctx.Err() != nil {
			return
		}
		if err == nil && (resp.StatusCode == http.StatusCreated || resp.StatusCode == http.StatusOK) {
			u.ack(id, hashOf(body))
			pause(ctx, faultWriteEvery)
			continue
		}
		u.fail()
		node++
		pause(ctx, 5*pollEvery) // a dead node refuses at once
	}
}

func (u *uploads) ack(id, hash string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	now := time.Now()
	u.acked[id], u.longest, u.last = hash, max(u.longest, now.Sub(u.last)), now
}

func (u *uploads) fail() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.failed++
}

func (u *uploads) stop(t *testing.T) {
	t.Helper()
	u.cancel()
	u.wg.Wait()
}

func (u *uploads) snapshot() map[string]string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return maps.Clone(u.acked)
}

// progress waits until uploads are acknowledged again, by every writer's worth.
func (u *uploads) progress(t *testing.T, limit time.Duration) {
	t.Helper()
	before := len(u.snapshot())
	eventually(t, limit, "uploads go on", func() error {
		if n := len(u.snapshot()) - before; n < 2*faultWriters {
			return fmt.Errorf("%d new ones", n)
		}
		return nil
	})
}

// verify reads what was acknowledged since the last call from all running
// nodes.
func (u *uploads) verify(t *testing.T, c *Cluster) {
	t.Helper()
	want := u.snapshot()
	fresh := maps.Clone(want)
	for id := range u.verified {
		delete(fresh, id)
	}
	u.verified = want
	readBack(t, c, fresh)
}

// verifyAll reads all that was ever acknowledged, from all nodes.
func (u *uploads) verifyAll(t *testing.T, c *Cluster) {
	t.Helper()
	readBack(t, c, u.snapshot())
}

func readBack(t *testing.T, c *Cluster, want map[string]string) {
	t.Helper()
	var wg sync.WaitGroup
	for _, n := range c.Live() {
		wg.Go(func() {
			for id, hash := range want {
				if err := n.playsItem(t.Context(), id, hash); err != nil {
					t.Errorf("node %d: acknowledged item %s: %v; %s", n.index+1, id, err, n.diagnose(t, id, hash))
					return // one of a kind is enough
				}
			}
		})
	}
	wg.Wait()
	if len(want) == 0 {
		t.Error("nothing was acknowledged")
	}
}

// playsItem returns nil if the node plays exactly what was acknowledged.
func (n *Node) playsItem(ctx context.Context, id, hash string) error {
	resp, body, err := n.do(ctx, http.MethodGet, "/media/faults/"+id, nil)
	if err == nil && (resp.StatusCode != http.StatusOK || hashOf(body) != hash) {
		err = fmt.Errorf("status %d with %d bytes: %w", resp.StatusCode, len(body), errRawBody)
	}
	return err
}

// diagnose says what the nodes know of an item that was not played, and whether
// that gets better.
func (n *Node) diagnose(t *testing.T, id, hash string) string {
	t.Helper()
	var text strings.Builder
	for _, other := range n.cluster.Live() {
		for _, path := range []string{documentPath("faults", id) + "?consistency=local", "/media/faults/" + id} {
			resp, body, err := other.do(t.Context(), http.MethodGet, path, nil)
			if err != nil {
				fmt.Fprintf(&text, "node %d: %s: %v; ", other.index+1, path, err)
				continue
			}
			fmt.Fprintf(&text, "node %d: %s: %d with %d bytes; ", other.index+1, path, resp.StatusCode, len(body))
		}
	}
	start := time.Now()
	err := waitUntil(t.Context(), settleWait, func() error { return n.playsItem(t.Context(), id, hash) })
	fmt.Fprintf(&text, "after %v more: %v", time.Since(start), err)
	return text.String()
}

// faultSource is a source that sends in real time and remembers when.
type faultSource struct {
	loop

	node int
	rec  recording
	conn net.Conn
	stop context.CancelFunc
	done chan struct{}

	mu   sync.Mutex // guards what is below
	sent []sentMark
	err  error
}

// sentMark says that so many bytes had been sent by then.
type sentMark struct {
	at    time.Time
	bytes int64
}

// startSources starts some sources on every node.
func startSources(t *testing.T, c *Cluster) []*faultSource {
	t.Helper()
	var sources []*faultSource
	base := phone().frames(loopFrames, 9)
	for i := range faultSources * len(c.nodes) {
		n := c.Node(i)
		rec := n.ticket("faults", fmt.Sprintf("%d-%d.mp3", time.Now().UnixNano(), i))
		user, token, mount := rec.login(t)
		conn := dialTCP(t, n.Shout)
		if _, err := io.WriteString(conn, sourceHead(mount, user, token)); err != nil {
			t.Fatal(err)
		}
		wantAnswer(t, conn, http.StatusOK)
		ctx, stop := context.WithCancel(t.Context())
		s := &faultSource{
			loop: loop{base, i * phone().frameBytes}, node: n.index, rec: rec, conn: conn, stop: stop,
			done: make(chan struct{}),
		}
		go func() {
			defer close(s.done)
			s.run(ctx)
		}()
		t.Cleanup(func() {
			stop()
			<-s.done
		})
		sources = append(sources, s)
	}
	return sources
}

// run sends what is due ten times a second until the context ends or the
// connection does.
func (s *faultSource) run(ctx context.Context) {
	tick := time.NewTicker(sourceEvery)
	defer tick.Stop()
	began, sent := time.Now(), int64(0)
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		due := int64(time.Since(began).Seconds() * float64(phone().bytesPerSecond()))
		for sent < due {
			n, err := s.conn.Write(s.at(sent, int(due-sent)))
			sent += int64(n)
			s.mark(sent, err)
			if err != nil {
				return
			}
		}
	}
}

func (s *faultSource) mark(sent int64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sent, s.err = append(s.sent, sentMark{time.Now(), sent}), err
}

// end hangs up in order.
func (s *faultSource) end(t *testing.T) {
	t.Helper()
	s.stop()
	<-s.done
	if s.err != nil {
		t.Errorf("source on node %d was cut by another node's death: %v", s.node+1, s.err)
	}
	_ = s.conn.Close()
}

// whole checks that a recording that its node survived holds all that was sent.
func (s *faultSource) whole(t *testing.T, c *Cluster) {
	t.Helper()
	n := c.Live()[0]
	rec := n.waitState(s.rec.ID, "sealed")
	want := s.sent[len(s.sent)-1].bytes
	if rec.Size != want {
		t.Errorf("recording on live node %d holds %d of %d bytes", s.node+1, rec.Size, want)
	}
	for _, n := range c.Live() {
		s.compare(t, n, rec.Size)
	}
}

// cut checks that a recording whose node was killed is kept as truncated, with
// all that was sent more than a second before.
func (s *faultSource) cut(t *testing.T, c *Cluster, killed time.Time) {
	t.Helper()
	s.stop()
	<-s.done
	rec := c.Node(0).waitStateWithin(recoverWait, s.rec.ID, "truncated")
	safe := int64(0)
	for _, mark := range s.sent {
		if mark.at.Before(killed.Add(-ackedWithin)) {
			safe = mark.bytes
		}
	}
	if last := s.sent[len(s.sent)-1].bytes; rec.Size < safe || rec.Size > last {
		t.Errorf("recording of killed node %d holds %d bytes; %d were sent a second before, %d in all",
			s.node+1, rec.Size, safe, last)
	}
	for _, n := range c.Live() {
		s.compare(t, n, rec.Size)
	}
}

// compare plays the recording from a node.
func (s *faultSource) compare(t *testing.T, n *Node, size int64) {
	t.Helper()
	var got []byte
	err := waitUntil(t.Context(), settleWait, func() error {
		resp, body, err := n.do(t.Context(), http.MethodGet, "/media/faults/"+s.rec.Name, nil)
		if err == nil && (resp.StatusCode != http.StatusOK || int64(len(body)) != size) {
			err = fmt.Errorf("status %d with %d bytes, want %d: %w", resp.StatusCode, len(body), size, errRawBody)
		}
		got = body
		return err
	})
	if err = errors.Join(err, s.verify(0, got)); err != nil {
		t.Errorf("node %d: recording of node %d: %v", n.index+1, s.node+1, err)
	}
}

// TestStopAndRestart stops one node in order, works with two, then stops all
// three, in order and by force, and starts them again: everything is there, and
// the same nodes are.
func TestStopAndRestart(t *testing.T) {
	t.Parallel()
	c := Start(t, 3, nil)
	items := map[string][]byte{}
	put := func(n *Node, id string) {
		items[id] = noise(100<<10, uint64(len(items)))
		n.put("acme", id, items[id])
	}
	check := func() {
		t.Helper()
		for id, want := range items {
			for _, n := range c.Live() {
				_, got, err := n.do(t.Context(), http.MethodGet, "/media/acme/"+id, nil)
				if err != nil || !bytes.Equal(got, want) {
					t.Errorf("node %d: %s: %d bytes, %v", n.index+1, id, len(got), err)
				}
			}
		}
	}
	put(c.Node(0), "before.wav")
	before := c.Node(0).Status()
	sources := startSources(t, c)
	pause(t.Context(), faultBetween)
	asked := time.Now()
	c.Node(0).Stop()
	for _, s := range sources {
		if s.node == 0 { // cut by the stop, but nothing is lost that had arrived
			s.cut(t, c.For(t).without(0), asked.Add(ackedWithin-inFlight))
			continue
		}
		s.end(t)
		s.whole(t, c)
	}
	put(c.Node(1), "with two.wav")
	check()
	c.Node(0).Restart()
	c.WaitReady()
	check()
	for _, n := range c.nodes {
		n.Stop()
	}
	for _, n := range c.nodes {
		n.Restart()
	}
	c.WaitReady()
	check()
	put(c.Node(2), "after.wav")
	check()
	for _, n := range c.nodes { // and as when the power fails
		n.Kill9()
	}
	for _, n := range c.nodes {
		n.Restart()
	}
	c.WaitReady()
	check()
	if after := c.Node(0).Status(); after.Node != before.Node || len(after.Nodes) != 3 {
		t.Errorf("after the restart the cluster is %+v, it was %+v", after, before)
	}
}

// without is the cluster as seen when a node is not to be asked.
func (c *Cluster) without(i int) *Cluster {
	view := c.For(c.tb)
	view.nodes = append(view.nodes[:i:i], view.nodes[i+1:]...)
	return view
}

// TestPause stalls each node for a while, as a stalled machine or disk does:
// the others go on, and it comes back by itself.
func TestPause(t *testing.T) {
	t.Parallel()
	c := Start(t, 3, nil)
	up := startUploads(t, c)
	for i := range c.nodes {
		up.progress(t, failoverWait)
		c.Node(i).Pause()
		up.progress(t, 2*failoverWait) // those that the stalled node has taken wait for their time-out
		pause(t.Context(), faultBetween)
		c.Node(i).Resume()
		c.WaitReady()
	}
	up.stop(t)
	up.verifyAll(t, c)
}
