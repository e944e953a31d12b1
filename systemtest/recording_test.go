package systemtest

import (
	"bytes"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const (
	// mp3Frame is the longest frame of the test sounds: what a duration may be
	// wrong by.
	mp3Frame = 72 * time.Millisecond
	// listenLate is when a listener joins from now: well past the 3 s before the
	// live edge where he begins.
	listenLate = 5 * time.Second
)

// TestRecording records from the sources of the field, in real time, and
// listens meanwhile on the two other nodes.
func TestRecording(t *testing.T) {
	t.Parallel()
	c := Start(t, 3, nil)
	s := makeSamples(t)
	for _, source := range []struct {
		name  string
		want  []byte
		start func(t *testing.T, rec recording) *client
	}{
		{"ffmpeg-put", muxed(t, s), func(t *testing.T, rec recording) *client {
			t.Helper()
			return startFFmpeg(t, s, rec)
		}},
		{"ffmpeg-source", muxed(t, s), func(t *testing.T, rec recording) *client {
			t.Helper()
			return startFFmpeg(t, s, rec, "-legacy_icecast", "1")
		}},
		{"ezstream", readFile(t, s.speech), func(t *testing.T, rec recording) *client {
			t.Helper()
			return startEzstream(t, s, rec)
		}},
	} {
		t.Run(source.name, func(t *testing.T) {
			t.Parallel()
			testSource(t, c.For(t), source.name+".mp3", source.want, source.start)
		})
	}
}

// muxed is what ffmpeg makes of the speech without encoding it again.
func muxed(t *testing.T, s samples) []byte {
	t.Helper()
	return run(t, "ffmpeg", "-v", "error", "-i", s.speech, "-c", "copy",
		"-write_xing", "0", "-id3v2_version", "0", "-f", "mp3", "-")
}

// startFFmpeg sends the speech in real time.
func startFFmpeg(t *testing.T, s samples, rec recording, args ...string) *client {
	t.Helper()
	to := strings.Replace(rec.RecordURL, "shout://", "icecast://", 1)
	all := append([]string{
		"-v", "error", "-re", "-i", s.speech, "-c", "copy", "-write_xing", "0", "-id3v2_version", "0",
		// Without it ffmpeg keeps 32 KiB back, which is all there is.
		"-flush_packets", "1", "-content_type", "audio/mpeg", "-f", "mp3",
	}, args...)
	return startClient(t, command(t, "ffmpeg", append(all, to)...))
}

// startEzstream sends the speech through libshout, which takes its time from
// the frames.
func startEzstream(t *testing.T, s samples, rec recording) *client {
	t.Helper()
	u, err := url.Parse(rec.RecordURL)
	if err != nil {
		t.Fatal(err)
	}
	user, password, mount := rec.login(t)
	config := fmt.Sprintf(`<ezstream>
<servers><server><protocol>HTTP</protocol><hostname>%s</hostname><port>%s</port>
<user>%s</user><password>%s</password></server></servers>
<streams><stream><mountpoint>%s</mountpoint><format>MP3</format></stream></streams>
<intakes><intake><type>file</type><filename>%s</filename><stream_once>Yes</stream_once></intake></intakes>
</ezstream>`, u.Hostname(), u.Port(), user, password, mount, s.speech)
	file := filepath.Join(t.TempDir(), "ezstream.xml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	return startClient(t, command(t, "ezstream", "-c", file))
}

// testSource records on node 3 and listens on nodes 1 and 2.
func testSource(t *testing.T, c *Cluster, name string, want []byte,
	start func(t *testing.T, rec recording) *client,
) {
	t.Helper()
	rec := c.Node(2).ticket("live", name)
	source := start(t, rec)
	c.Node(0).waitState(rec.ID, "live")
	path := "/live/" + rec.Name
	get := func(url string) *client { return startClient(t, command(t, "curl", "-sSf", url)) }
	whole := map[string]*client{
		"curl http 1":  get(c.Node(0).HTTP + "/media" + path),
		"curl http 3":  get(c.Node(2).HTTP + "/media" + path),
		"curl shout 2": get("http://" + c.Node(1).Shout + path),
		"curl icy 2": startClient(t, command(t, "ffmpeg", "-v", "error", "-icy", "1",
			"-i", "http://"+c.Node(1).Shout+path, "-c", "copy",
			"-write_xing", "0", "-id3v2_version", "0", "-f", "mp3", "-")),
	}
	decoded := startClient(t, command(t, "mpg123", "-q", "-s", "http://"+c.Node(0).Shout+path))
	pause(t.Context(), listenLate)
	late := map[string]*client{
		"now http 1":  get(c.Node(0).HTTP + "/media" + path + "?from=now"),
		"now shout 2": get("http://" + c.Node(1).Shout + path + "?from=now"),
	}
	if middle := c.Node(1).recording(rec.ID); middle.State != "live" || middle.Size == 0 {
		t.Errorf("in the middle of the recording it is %+v", middle)
	}

	source.wait()
	for who, listener := range whole {
		if got := listener.wait(); !bytes.Equal(got, want) {
			t.Errorf("%s heard something else than the source sent: %s", who, difference(got, want))
		}
	}
	for who, listener := range late {
		got := listener.wait()
		if len(got) == 0 || len(got) >= len(want) || !bytes.HasSuffix(want, got) {
			t.Errorf("%s did not hear the end of what the source sent: %s", who, difference(got, want))
		}
	}
	file := filepath.Join(t.TempDir(), "want.mp3")
	if err := os.WriteFile(file, want, 0o600); err != nil {
		t.Fatal(err)
	}
	if got, of := decoded.wait(), run(t, "mpg123", "-q", "-s", file); !bytes.Equal(got, of) {
		t.Errorf("mpg123 heard %d bytes of samples, of the file they are %d", len(got), len(of))
	}
	sealed := c.Node(1).waitState(rec.ID, "sealed")
	if sealed.Size != int64(len(want)) || sealed.SHA256 != hashOf(want) {
		t.Errorf("sealed with %d bytes, the source sent %d", sealed.Size, len(want))
	}
	near(t, "duration", time.Duration(sealed.DurationMS)*time.Millisecond, durationOf(t, file), mp3Frame)
	c.plays("/media"+path, want)
	storeRecording(t, c, rec, want)
}

// storeRecording makes an item of the recording and plays it.
func storeRecording(t *testing.T, c *Cluster, rec recording, want []byte) {
	t.Helper()
	doc := c.Node(0).store(rec.ID, "box", "msg/"+rec.Name)
	if doc.SHA256 != hashOf(want) || doc.Source != "recording" || doc.Truncated {
		t.Errorf("stored as %+v", doc)
	}
	c.plays("/media/box/msg/"+rec.Name, want)
	c.Node(2).waitState(rec.ID, "stored")
	again := c.Node(1).store(rec.ID, "box", "msg/"+rec.Name)
	if again.Revision != doc.Revision {
		t.Errorf("stored again as revision %d, it was %d", again.Revision, doc.Revision)
	}
}

// plays fails the test unless every running node plays exactly want there.
func (c *Cluster) plays(path string, want []byte) {
	c.tb.Helper()
	for _, n := range c.Live() {
		resp, got, err := n.do(c.tb.Context(), http.MethodGet, path, nil)
		if err != nil {
			c.tb.Errorf("node %d: %v", n.index+1, err)
			continue
		}
		if resp.StatusCode != http.StatusOK || !bytes.Equal(got, want) {
			c.tb.Errorf("node %d: %s: status %d: %s", n.index+1, path, resp.StatusCode, difference(got, want))
		}
	}
}
