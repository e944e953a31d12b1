package systemtest

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

const (
	// answerAtOnce: until the answer to the authenticated SOURCE comes, the
	// caller's audio is lost.
	answerAtOnce = time.Second
	// replayPieces and replayEvery send a body in pieces as the encoder does,
	// though faster than it was spoken.
	replayPieces = 20
	replayEvery  = 50 * time.Millisecond
)

// TestFreeSWITCH replays what a real FreeSWITCH sent, byte by byte, over the
// four connections that libshout makes. See testdata/freeswitch.
func TestFreeSWITCH(t *testing.T) { //nolint:tparallel // the parts share one cluster and follow one another
	t.Parallel()
	c := Start(t, 3, nil)
	for _, r := range []struct {
		file, mount string
		silent      bool
	}{
		{"rec-nobuf-14s.bin", "fs_b.mp3", false},
		{"urec-stereo.bin", "401.200/fs.mp3", false},
		{"urec-16k.bin", "401.200/fs16.mp3", false}, // a channel of 16 kHz
		{"rec-short-default-2s.bin", "401.200/s1.mp3", true},
	} {
		t.Run(r.file, func(t *testing.T) { replaySource(t, c.For(t), r.file, r.mount) })
	}
	t.Run("put", func(t *testing.T) { replayPut(t, c.For(t)) })
}

func wire(t *testing.T, name string) []byte {
	t.Helper()
	return readFile(t, filepath.Join("testdata", "freeswitch", name))
}

// wireConn is one connection of the replayed client.
type wireConn struct {
	*net.TCPConn

	in *bufio.Reader
}

func dialWire(t *testing.T, n *Node) wireConn {
	t.Helper()
	var d net.Dialer
	conn, err := d.DialContext(t.Context(), "tcp", n.Shout)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(toolWait)); err != nil {
		t.Fatal(err)
	}
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		t.Fatalf("connection is a %T", conn)
	}
	return wireConn{tcp, bufio.NewReader(tcp)}
}

// ask sends bytes and returns the answer, whose body is read as well.
func (c wireConn) ask(t *testing.T, request []byte) *reply {
	t.Helper()
	if _, err := c.Write(request); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(c.in, nil)
	if err != nil {
		t.Fatalf("no answer to %.40q: %v", request, err)
	}
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		t.Fatal(err)
	}
	if err := resp.Body.Close(); err != nil {
		t.Fatal(err)
	}
	if slices.Contains(resp.Header.Values("Allow"), "PUT") {
		t.Errorf("the answer to %.20q advertises PUT", request)
	}
	return &reply{resp.StatusCode, resp.Header, resp.ContentLength}
}

// replaySource goes through the sequence with foo:bar, records the body, and
// compares what is played with it.
func replaySource(t *testing.T, c *Cluster, file, mount string) {
	t.Helper()
	n := c.Node(2)
	first := dialWire(t, n)
	resp := first.ask(t, wire(t, "options.txt"))
	if resp.StatusCode != http.StatusOK || resp.ContentLength != 0 {
		t.Errorf("OPTIONS *: status %d, length %d", resp.StatusCode, resp.ContentLength)
	}
	// Not sent after a 200, but by a libshout whose first answer got lost.
	resp = dialWire(t, n).ask(t, wire(t, "poke.txt"))
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusBadRequest {
		t.Errorf("POKE: status %d", resp.StatusCode)
	}
	conn := dialWire(t, n)
	resp = conn.ask(t, wire(t, "probe.txt"))
	if resp.StatusCode != http.StatusUnauthorized || resp.Header.Get("Www-Authenticate") == "" ||
		resp.Header.Get("Connection") != "keep-alive" {
		t.Fatalf("SOURCE without credentials: status %d, headers %v", resp.StatusCode, resp.Header)
	}

	head, body, _ := bytes.Cut(wire(t, file), []byte("\r\n\r\n"))
	// Two were captured under one name.
	head = bytes.Replace(head, []byte("/401.200/fs.mp3 "), []byte("/"+mount+" "), 1)
	start := time.Now()
	if _, err := conn.Write(append(head, "\r\n\r\n"...)); err != nil {
		t.Fatal(err)
	}
	const sufficient = "HTTP/1.0 200 OK\r\n\r\n"
	answer := make([]byte, len(sufficient))
	if _, err := io.ReadFull(conn.in, answer); err != nil || string(answer) != sufficient {
		t.Fatalf("SOURCE: answer %q, %v", answer, err)
	}
	if took := time.Since(start); took > answerAtOnce {
		t.Errorf("SOURCE was answered after %v", took)
	}
	for piece := range slices.Chunk(body, len(body)/replayPieces+1) {
		if _, err := conn.Write(piece); err != nil {
			t.Fatal(err)
		}
		pause(t.Context(), replayEvery)
	}
	if err := conn.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(conn.in); err != nil || len(rest) > 0 {
		t.Errorf("after the end: %q, %v", rest, err)
	}
	rec := c.Node(0).recordingNamed(mount)
	// What a configured account records is stored under its mount at once.
	sealed := c.Node(0).waitState(rec.ID, "stored")
	if sealed.SHA256 != hashOf(body) {
		t.Errorf("stored with %d bytes, FreeSWITCH sent %d", sealed.Size, len(body))
	}
	c.plays("/media/pbx/"+mount, body)
}

// replayPut sends the recording of a libshout that was told to use PUT: no
// length, no chunks, and the body only after 100 Continue.
func replayPut(t *testing.T, c *Cluster) {
	t.Helper()
	head, body, _ := bytes.Cut(wire(t, "rec-put.bin"), []byte("\r\n\r\n"))
	conn := dialWire(t, c.Node(1))
	resp := conn.ask(t, append(head, "\r\n\r\n"...))
	if resp.StatusCode != http.StatusContinue {
		t.Fatalf("PUT with Expect: status %d", resp.StatusCode)
	}
	if _, err := conn.Write(body); err != nil {
		t.Fatal(err)
	}
	if err := conn.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if resp, err := http.ReadResponse(conn.in, nil); err != nil || resp.StatusCode != http.StatusOK {
		t.Errorf("after the body: %v, %v", resp, err)
	} else {
		_ = resp.Body.Close()
	}
	rec := c.Node(0).recordingNamed("401h11.200/fs.mp3")
	c.Node(0).waitState(rec.ID, "stored")
	c.plays("/media/pbx/401h11.200/fs.mp3", body)
}

// recordingNamed finds the newest recording of that name of account pbx.
func (n *Node) recordingNamed(name string) recording {
	tb := n.cluster.tb
	tb.Helper()
	var found recording
	eventually(tb, settleWait, "recording "+name+" is listed", func() error {
		var page struct {
			Items []recording `json:"items"`
		}
		n.call(http.MethodGet, "/v1/recordings?limit=1000&account=pbx", nil, http.StatusOK, &page)
		for _, rec := range page.Items {
			if rec.Name == name {
				found = rec
			}
		}
		if found.ID == "" {
			return errRawBody
		}
		return nil
	})
	return found
}
