package systemtest

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestClosedNetworks forbids playing from everywhere: only a token or a signed
// URL opens then. It runs on a cluster of one, which is one, too.
func TestClosedNetworks(t *testing.T) {
	t.Parallel()
	c := Start(t, 1, settings{"streams.allow": `["192.0.2.0/24"]`}) // nobody's, by RFC 5737
	n := c.Node(0)
	want := phone().frames(200, 1)
	n.put("acme", "closed.mp3", want)
	anonymous := []string{"Authorization", ""}
	for _, path := range []string{"/media/acme/closed.mp3", "/media/acme/none.mp3", "/metrics"} {
		resp, body, err := n.do(t.Context(), http.MethodGet, path, nil, anonymous...)
		if err != nil {
			t.Fatal(err)
		}
		forbidden := resp.StatusCode == http.StatusForbidden || resp.StatusCode == http.StatusUnauthorized
		if !forbidden || strings.HasPrefix(path, "/media/") && len(body) > 0 {
			t.Errorf("%s: status %d with %d bytes", path, resp.StatusCode, len(body))
		}
	}
	conn := dialTCP(t, n.Shout)
	if _, err := io.WriteString(conn, "GET /acme/closed.mp3 HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	wantAnswer(t, conn, http.StatusForbidden)

	var found struct {
		URL string `json:"stream_url"`
	}
	n.call(http.MethodGet, "/v1/lookup?account=acme&name=closed.mp3", nil, http.StatusOK, &found)
	if got := run(t, "curl", "-sSf", found.URL); !bytes.Equal(got, want) {
		t.Errorf("the signed URL plays %s", difference(got, want))
	}
	// One character of the signed part changed.
	at := strings.Index(found.URL, "/play/") + len("/play/") + 12
	flipped := byte('A')
	if found.URL[at] == flipped {
		flipped = 'B'
	}
	forged := found.URL[:at] + string(flipped) + found.URL[at+1:]
	resp, body, err := n.do(t.Context(), http.MethodGet, strings.TrimPrefix(forged, n.HTTP), nil, anonymous...)
	if err != nil || resp.StatusCode != http.StatusForbidden || len(body) > 0 {
		t.Errorf("a forged URL: %v with %d bytes, %v", resp, len(body), err)
	}
}

// TestExposedStart starts a node that others could reach without what protects
// it: it must refuse, and say all that is missing.
func TestExposedStart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ports := freePorts(t, 2)
	file := filepath.Join(dir, "carillon.toml")
	const form = "node.data_dir = %q\nhttp.bind = \":%d\"\nshout.bind = \"0.0.0.0:%d\"\n"
	config := fmt.Sprintf(form, dir, ports[0], ports[1])
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, verb := range [][]string{{"serve"}, {"config", "check"}} {
		_, stderr := appliance(t, exitUsage, append(verb, "--config", file)...)
		contains(t, stderr, "api.tokens", "cluster.secret")
	}
}

// TestPausedListener stops reading in the middle, as a paused playback() does,
// and goes on: nothing is lost.
func TestPausedListener(t *testing.T) {
	t.Parallel()
	const (
		before = 64 << 10
		rest   = 8 * time.Second
	)
	c := Start(t, 3, nil)
	want := phone().frames(4<<20/phone().frameBytes, 1)
	c.Node(0).put("acme", "long.mp3", want)
	listen := func(t *testing.T, addr, path string) {
		t.Helper()
		conn := dialTCP(t, addr)
		if err := conn.SetReadBuffer(receiveBufferBytes); err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.0\r\n\r\n", path); err != nil {
			t.Fatal(err)
		}
		if head, err := readHead(conn); err != nil {
			t.Fatalf("%q, %v", head, err)
		}
		var got bytes.Buffer
		if _, err := io.CopyN(&got, conn, before); err != nil {
			t.Fatal(err)
		}
		pause(t.Context(), rest)
		if _, err := got.ReadFrom(conn); err != nil || !bytes.Equal(got.Bytes(), want) {
			t.Errorf("heard %s, %v", difference(got.Bytes(), want), err)
		}
	}
	t.Run("shout", func(t *testing.T) {
		t.Parallel()
		listen(t, c.Node(1).Shout, "/acme/long.mp3")
	})
	t.Run("http", func(t *testing.T) {
		t.Parallel()
		listen(t, strings.TrimPrefix(c.Node(2).HTTP, "http://"), "/media/acme/long.mp3")
	})
}

// TestManySources is the SHOUT benchmark in small: who comes all at once is
// heard to the last byte.
func TestManySources(t *testing.T) {
	t.Parallel()
	c := Start(t, 3, nil)
	load := shoutLoad{
		sources: 150, listeners: 150, arrival: 500 * time.Millisecond,
		alone: 2 * time.Second, together: 6 * time.Second,
	}
	target, recordings := c.shoutTarget(load)
	s, err := runShout(t.Context(), load, target)
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range s.result.dropped {
		t.Errorf("dropped: %v", err)
	}
	c.checkRecordings(s, recordings)
}
