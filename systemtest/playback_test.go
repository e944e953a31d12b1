package systemtest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestPlayback stores sounds through one node and plays them from the others
// with the programs that do so in practice.
func TestPlayback(t *testing.T) { //nolint:tparallel // the parts share one cluster and follow one another
	t.Parallel()
	c := Start(t, 3, nil)
	s := makeSamples(t)
	t.Run("upload", func(t *testing.T) { testUpload(t, c.For(t), s) })
	t.Run("players", func(t *testing.T) { testPlayers(t, c.For(t), s) })
	t.Run("http", func(t *testing.T) { testHTTP(t, c.For(t), s) })
	t.Run("lookup", func(t *testing.T) { testLookup(t, c.For(t), s) })
	t.Run("replace and delete", func(t *testing.T) { testReplace(t, c.For(t), s) })
	t.Run("listing", func(t *testing.T) { testListing(t, c.For(t), s) })
}

// Goal: an upload in any of HTTP's ways is stored as it was, described by what
// is in it, and can be played from every node the moment it is acknowledged.
func testUpload(t *testing.T, c *Cluster, s samples) {
	t.Helper()
	auth := "Authorization: Bearer " + testToken
	for i, up := range []struct {
		name, file string
		rate       int
		chunked    bool
		headers    []string
	}{
		{"length", s.phone, 8000, false, nil},
		{"expect", s.long, 8000, false, []string{"Expect: 100-continue"}},
		{"chunked", s.long, 8000, true, []string{"Transfer-Encoding: chunked"}},
		{"chunked-expect", s.music, 44100, true, []string{"Transfer-Encoding: chunked", "Expect: 100-continue"}},
		{"mp3", s.speech, 8000, false, nil},
	} {
		t.Run(up.name, func(t *testing.T) {
			want := readFile(t, up.file)
			path := "/media/acme/upload/" + up.name + filepath.Ext(up.file)
			args := []string{"-sS", "-w", "\n%{http_code}", "-H", auth, "-T", up.file}
			for _, h := range up.headers {
				args = append(args, "-H", h)
			}
			out := run(t, "curl", append(args, c.Node(i).HTTP+path)...)
			cut := bytes.LastIndexByte(out, '\n')
			var doc document
			if err := json.Unmarshal(out[:cut], &doc); err != nil || string(out[cut+1:]) != "201" {
				t.Fatalf("%v: %s", err, out)
			}
			if doc.SHA256 != hashOf(want) || doc.Size != int64(len(want)) || doc.Audio.SampleRate != up.rate {
				t.Errorf("document %+v, want %d bytes with hash %s at %d Hz", doc, len(want), hashOf(want), up.rate)
			}
			near(t, "duration", time.Duration(doc.DurationMS)*time.Millisecond, durationOf(t, up.file),
				100*time.Millisecond)
			for _, n := range c.nodes {
				if got := run(t, "curl", "-sSf", n.HTTP+path); hashOf(got) != hashOf(want) {
					t.Errorf("node %d plays %d bytes with another hash, want %d", n.index+1, len(got), len(want))
				}
			}
		})
	}
}

// Goal: what the players of the field hear through us is what they hear of
// the file itself, sample by sample.
func testPlayers(t *testing.T, c *Cluster, s samples) {
	t.Helper()
	c.Node(0).put("acme", "phone.wav", readFile(t, s.phone))
	c.Node(0).put("acme", "speech.mp3", readFile(t, s.speech))
	c.Node(0).put("acme", "music.mp3", readFile(t, s.music))
	ffmpeg := func(t *testing.T, from string) []byte {
		t.Helper()
		return run(t, "ffmpeg", "-v", "error", "-i", from, "-f", "s16le", "-")
	}
	// What cannot be seeked in is trimmed at its end by less.
	piped := func(t *testing.T, from string) []byte {
		t.Helper()
		if strings.HasPrefix(from, "http") {
			return run(t, "ffmpeg", "-v", "error", "-i", from, "-f", "s16le", "-")
		}
		cmd := command(t, "ffmpeg", "-v", "error", "-i", "-", "-f", "s16le", "-")
		cmd.Stdin = bytes.NewReader(readFile(t, from))
		return output(t, cmd)
	}
	mpg123 := func(t *testing.T, from string) []byte {
		t.Helper()
		return run(t, "mpg123", "-q", "-s", from)
	}
	// The form of mod_shell_stream: URL, -r RATE, -c CHANNELS.
	shell := func(t *testing.T, url string) []byte {
		t.Helper()
		script := `curl -sf "$1" | sox -t wav - -t raw -r "$3" -c "$5" -e signed-integer -b 16 -L -`
		return run(t, "sh", "-c", script, "stream.sh", url, "-r", "8000", "-c", "1")
	}
	node2, node3 := c.Node(1), c.Node(2)
	for _, play := range []struct {
		name, from, file string
		player           func(t *testing.T, from string) []byte
		bare             int // bytes of a header that the player takes away
	}{
		{"ffmpeg wav", node2.HTTP + "/media/acme/phone.wav", s.phone, ffmpeg, 0},
		{"ffmpeg mp3", node3.HTTP + "/media/acme/music.mp3", s.music, ffmpeg, 0},
		{"ffmpeg shout", "http://" + node2.Shout + "/acme/music.mp3", s.music, piped, 0},
		{"mpg123 http", node2.HTTP + "/media/acme/music.mp3", s.music, mpg123, 0},
		{"mpg123 shout", "http://" + node3.Shout + "/acme/music.mp3", s.music, mpg123, 0},
		{"mpg123 shout speech", "http://" + node3.Shout + "/acme/speech.mp3", s.speech, mpg123, 0},
		{"shell_stream", node3.HTTP + "/media/acme/phone.wav", s.phone, shell, wavHeaderBytes},
	} {
		t.Run(play.name, func(t *testing.T) {
			got := play.player(t, play.from)
			want := readFile(t, play.file)
			if play.bare == 0 {
				want = play.player(t, play.file)
			}
			if want = want[play.bare:]; !bytes.Equal(got, want) {
				t.Errorf("%d bytes of samples that differ from the file's %d", len(got), len(want))
			}
		})
	}
	t.Run("curl shout", func(t *testing.T) {
		got := run(t, "curl", "-sSf", "http://"+node2.Shout+"/acme/speech.mp3")
		if !bytes.Equal(got, readFile(t, s.speech)) {
			t.Errorf("%d bytes that differ from the file", len(got))
		}
	})
}

// Goal: ranges, conditions and headers are right and the same on all nodes.
func testHTTP(t *testing.T, c *Cluster, s samples) {
	t.Helper()
	want := readFile(t, s.long)
	doc := c.Node(1).put("acme", "http.wav", want)
	const path = "/media/acme/http.wav"
	etag := `"` + doc.SHA256 + `"`
	size := len(want)
	modified := ""
	for _, n := range c.nodes {
		for _, check := range []struct {
			method, name, value string
			status              int
			body                []byte
		}{
			{http.MethodGet, "", "", 200, want},
			{http.MethodHead, "", "", 200, nil},
			{http.MethodGet, "Range", "bytes=0-99", 206, want[:100]},
			{http.MethodGet, "Range", "bytes=1000000-1999999", 206, want[1000000:2000000]},
			{http.MethodGet, "Range", "bytes=3000000-", 206, want[3000000:]},
			{http.MethodGet, "Range", "bytes=-7", 206, want[size-7:]},
			{http.MethodGet, "Range", fmt.Sprintf("bytes=%d-", size), 416, nil},
			{http.MethodGet, "Range", "lines=1-2", 200, want},
			{http.MethodGet, "If-None-Match", etag, 304, nil},
			{http.MethodHead, "If-None-Match", "*", 304, nil},
			{http.MethodGet, "If-None-Match", `"other"`, 200, want},
			{http.MethodGet, "If-Match", `"other"`, 412, nil},
		} {
			header := []string{check.name, check.value}
			if check.name == "" {
				header = nil
			}
			resp, got, err := n.do(t.Context(), check.method, path, nil, header...)
			if err != nil {
				t.Fatal(err)
			}
			what := fmt.Sprintf("node %d: %s with %s: %s", n.index+1, check.method, check.name, check.value)
			if resp.StatusCode != check.status || !bytes.Equal(got, check.body) {
				t.Errorf("%s: status %d with %d bytes, want %d with %d", what, resp.StatusCode, len(got),
					check.status, len(check.body))
			}
			if check.status != 200 {
				continue
			}
			h := resp.Header
			if modified == "" {
				modified = h.Get("Last-Modified")
			}
			if h.Get("Etag") != etag || h.Get("Last-Modified") != modified || modified == "" ||
				resp.ContentLength != int64(size) || h.Get("Content-Type") != "audio/x-wav" ||
				h.Get("Accept-Ranges") != "bytes" {
				t.Errorf("%s: headers %v with length %d", what, h, resp.ContentLength)
			}
		}
	}
}

// Goal: a lookup answers with a URL that plays without a token, and 404 at once.
func testLookup(t *testing.T, c *Cluster, s samples) {
	t.Helper()
	want := readFile(t, s.phone)
	c.Node(2).put("acme", "greeting.wav", want)
	for i, n := range c.nodes {
		var found struct {
			URL        string `json:"stream_url"`
			FreeSWITCH string `json:"freeswitch"`
			Type       string `json:"type"`
			SHA256     string `json:"sha256"`
		}
		n.call(http.MethodGet, "/v1/lookup?account=acme&name=greeting.wav", nil, http.StatusOK, &found)
		if found.SHA256 != hashOf(want) || found.Type != "audio/x-wav" || found.FreeSWITCH == "" {
			t.Errorf("node %d: lookup %+v", i+1, found)
		}
		if got := run(t, "curl", "-sSf", found.URL); !bytes.Equal(got, want) {
			t.Errorf("node %d: %s plays %d bytes, want %d", i+1, found.URL, len(got), len(want))
		}
		start := time.Now()
		n.call(http.MethodGet, "/v1/lookup?account=acme&name=nothing.wav", nil, http.StatusNotFound, nil)
		if took := time.Since(start); took > 2*time.Second {
			t.Errorf("node %d: a lookup of nothing took %v", i+1, took)
		}
	}
}

// Goal: a replaced item is the new one on all nodes, a deleted one is gone.
func testReplace(t *testing.T, c *Cluster, s samples) {
	t.Helper()
	const path = "/media/acme/replaced.wav"
	before, after := readFile(t, s.phone), readFile(t, s.long)
	c.Node(0).put("acme", "replaced.wav", before)
	var doc document
	c.Node(1).call(http.MethodPut, path, after, http.StatusOK, &doc)
	for _, n := range c.nodes {
		// The nodes that did not take the write hear of it within a commit wait;
		// consistency=linearizable does not wait for chance.
		_, got, err := n.do(t.Context(), http.MethodGet, path+"?consistency=linearizable", nil)
		if err != nil || !bytes.Equal(got, after) {
			t.Errorf("node %d: %d bytes, want the new %d: %v", n.index+1, len(got), len(after), err)
		}
	}
	c.Node(2).call(http.MethodDelete, path, nil, http.StatusNoContent, nil)
	for _, n := range c.nodes {
		eventually(t, settleWait, "deleted item gone", func() error {
			resp, got, err := n.do(t.Context(), http.MethodGet, path, nil)
			if err == nil && (resp.StatusCode != http.StatusNotFound || len(got) > 0) {
				err = fmt.Errorf("node %d: status %d with %d bytes", n.index+1, resp.StatusCode, len(got))
			}
			return err
		})
	}
	c.Node(0).call(http.MethodDelete, path, nil, http.StatusNotFound, nil)
}

// Goal: a listing in pages is complete, in order, and the same everywhere.
func testListing(t *testing.T, c *Cluster, s samples) {
	t.Helper()
	body := readFile(t, s.phone)
	var want []string
	for i := range 5 {
		id := fmt.Sprintf("dir/%d.wav", i)
		want = append(want, id)
		c.Node(i).put("lister", id, body)
	}
	for _, n := range c.nodes {
		// A node that did not take the last write is a moment behind.
		eventually(t, settleWait, "complete listing", func() error {
			if got := n.list("lister", "dir/", 2); !slices.Equal(got, want) {
				return fmt.Errorf("node %d lists %v, want %v", n.index+1, got, want)
			}
			return nil
		})
	}
}

// list returns the ids of an account, read in pages of limit.
func (n *Node) list(account, prefix string, limit int) []string {
	n.cluster.tb.Helper()
	var ids []string
	for after := ""; ; {
		var page struct {
			Items []document `json:"items"`
			Next  string     `json:"next"`
		}
		query := url.Values{"limit": {strconv.Itoa(limit)}, "prefix": {prefix}, "after": {after}}
		n.call(http.MethodGet, "/v1/accounts/"+account+"/media?"+query.Encode(), nil, http.StatusOK, &page)
		for _, d := range page.Items {
			ids = append(ids, d.ID)
		}
		if page.Next == "" {
			return ids
		}
		if page.Next <= after {
			n.cluster.tb.Fatalf("listing goes from %q to %q", after, page.Next)
		}
		after = page.Next
	}
}
