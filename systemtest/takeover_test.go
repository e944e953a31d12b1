package systemtest

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"syscall"
	"testing"
	"time"
)

// startSource logs in with the ticket and returns the connection, on which
// sound may be sent.
func startSource(t *testing.T, n *Node, rec recording) wireConn {
	t.Helper()
	conn, err := trySource(t, n, rec)
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// trySource is startSource that may be refused.
func trySource(t *testing.T, n *Node, rec recording) (wireConn, error) {
	t.Helper()
	user, password, mount := rec.login(t)
	conn := dialWire(t, n)
	request := "SOURCE " + mount + " HTTP/1.0\r\nAuthorization: Basic " +
		base64.StdEncoding.EncodeToString([]byte(user+":"+password)) +
		"\r\nUser-Agent: libshout/2.4.6\r\nContent-Type: audio/mpeg\r\n\r\n"
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	const sufficient = "HTTP/1.0 200 OK\r\n\r\n"
	answer := make([]byte, len(sufficient))
	if k, err := io.ReadFull(conn.in, answer); err != nil || string(answer) != sufficient {
		return conn, fmt.Errorf("node %d: answer %q: %w", n.index+1, answer[:k], errors.Join(err, conn.Close()))
	}
	return conn, nil
}

func send(t *testing.T, conn wireConn, sound []byte) {
	t.Helper()
	if _, err := conn.Write(sound); err != nil {
		t.Fatal(err)
	}
}

// durable waits until the other nodes have that much of a live recording.
func (n *Node) durable(id string, size int) {
	n.cluster.tb.Helper()
	eventually(n.cluster.tb, settleWait, "the sound is durable", func() error {
		if rec := n.recording(id); rec.Size != int64(size) {
			return fmt.Errorf("it has %d bytes of %d", rec.Size, size)
		}
		return nil
	})
}

// TestTakeover: an encoder whose node is killed, and one whose connection only
// the node believes in, go on with their recording at other nodes.
func TestTakeover(t *testing.T) {
	t.Parallel()
	c := Start(t, 3, nil)
	one, two, three := phone().frames(60, 1), phone().frames(50, 2), phone().frames(40, 3)
	rec := c.Node(0).ticket("radio", "show.mp3")
	first := startSource(t, c.Node(0), rec)
	send(t, first, one)
	c.Node(1).durable(rec.ID, len(one))
	// The first is open still: as long as it was heard a moment ago nobody else
	// is let in, then its connection is taken for dead.
	var second wireConn
	eventually(t, settleWait, "the first gives way", func() (err error) {
		second, err = trySource(t, c.Node(1), rec)
		return err
	})
	send(t, second, append(two, three[:50]...))
	if _, err := first.in.ReadByte(); err == nil {
		t.Error("the first source is not told to go")
	}
	all := append(append([]byte{}, one...), two...)
	c.Node(2).durable(rec.ID, len(all)+50)
	c.Node(1).Kill9()

	third := startSource(t, c.Node(2), rec) // a frame was cut off; its node is not known to be dead yet
	send(t, third, three)
	_ = third.CloseWrite()
	c.Node(0).waitState(rec.ID, "sealed")
	all = append(all, three...)
	c.plays("/media/radio/show.mp3", all)
	var sealed struct {
		Segments []struct {
			Offset int64  `json:"offset"`
			Node   string `json:"node"`
		} `json:"segments"`
		EndedBy string `json:"ended_by"`
	}
	c.Node(0).call(http.MethodGet, "/v1/recordings/"+rec.ID, nil, http.StatusOK, &sealed)
	if len(sealed.Segments) != 3 || sealed.Segments[1].Offset != int64(len(one)) ||
		sealed.Segments[2].Offset != int64(len(one)+len(two)) || sealed.EndedBy != "source" {
		t.Errorf("sealed as %+v", sealed)
	}
	c.Node(1).Restart()
	c.WaitReady()
	c.plays("/media/radio/show.mp3", all)
}

// TestDrain: a node that is told to stop keeps its sources to their end, takes
// no new ones, and cuts, and keeps, what goes on for longer than it may wait.
func TestDrain(t *testing.T) {
	t.Parallel()
	c := Start(t, 3, settings{"node.stop_grace": `"20s"`})
	sound := phone().frames(100, 1)
	n := c.Node(0)
	rec := n.ticket("pbx", "call.mp3")
	source := startSource(t, n, rec)
	send(t, source, sound[:len(sound)/2])
	n.signal(syscall.SIGTERM)
	eventually(t, settleWait, "new sources are refused", func() error {
		conn := dialWire(t, n)
		_, _ = io.WriteString(conn, "SOURCE /x.mp3 HTTP/1.0\r\nAuthorization: Basic Zm9vOmJhcg==\r\n\r\n")
		resp, err := http.ReadResponse(conn.in, nil)
		if err != nil {
			return err
		}
		_ = resp.Body.Close()
		_ = conn.Close()
		if resp.StatusCode != http.StatusServiceUnavailable {
			return fmt.Errorf("status %d", resp.StatusCode)
		}
		return nil
	})
	// The others record meanwhile, and play what is recorded there.
	other := c.Node(1).ticket("pbx", "other.mp3")
	if err := switchRecordBytes(t, other, sound); err != nil {
		t.Error(err)
	}
	pause(t.Context(), 2*time.Second)
	if !n.Running() {
		t.Fatal("the node has left its source behind")
	}
	send(t, source, sound[len(sound)/2:])
	_ = source.CloseWrite()
	select {
	case <-n.done:
	case <-time.After(exitWait):
		t.Fatal("the node does not end when its last source has")
	}
	sealed := c.Node(2).waitState(rec.ID, "sealed")
	if sealed.SHA256 != hashOf(sound) || sealed.EndedBy != "source" {
		t.Errorf("sealed as %+v", sealed)
	}
	c.plays("/media/pbx/call.mp3", sound)
	n.Restart()
	c.WaitReady()
	c.plays("/media/pbx/call.mp3", sound)
}

// TestDrainCuts: the grace is over before the call.
func TestDrainCuts(t *testing.T) {
	t.Parallel()
	c := Start(t, 3, settings{"node.stop_grace": `"2s"`})
	sound := phone().frames(100, 1)
	n := c.Node(1)
	rec := n.ticket("pbx", "call.mp3")
	source := startSource(t, n, rec)
	send(t, source, sound)
	n.Stop()
	cut := c.Node(0).waitState(rec.ID, "truncated")
	if cut.SHA256 != hashOf(sound) || cut.EndedBy != "cut" {
		t.Errorf("cut as %+v", cut)
	}
	c.plays("/media/pbx/call.mp3", sound)
	// The encoder finds its recording at another node.
	again := startSource(t, c.Node(2), rec)
	send(t, again, sound)
	_ = again.CloseWrite()
	c.Node(0).waitState(rec.ID, "sealed")
	c.plays("/media/pbx/call.mp3", append(append([]byte{}, sound...), sound...))
}

func switchRecordBytes(t *testing.T, rec recording, sound []byte) error {
	t.Helper()
	file := t.TempDir() + "/sound"
	writeFile(t, file, sound)
	return switchRecord(t.Context(), rec.RecordURL, file)
}
