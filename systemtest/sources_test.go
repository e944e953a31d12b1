package systemtest

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// TestSources records with programs that are no FreeSWITCH and no ffmpeg, and
// what is no MP3: Ogg by ices2, over SHOUTcast by ezstream, WAV and Ogg by PUT,
// all ways of liquidsoap, DarkIce.
func TestSources(t *testing.T) { //nolint:tparallel // the parts share one cluster
	t.Parallel()
	shout := neighbours(t)
	c := Start(t, 1, settings{
		"shout.bind":     fmt.Sprintf("%q", loopback(shout)),
		"shout.icy_port": "0", // the one after
	})
	s := makeSamples(t)
	t.Run("ices2", func(t *testing.T) { sourceIces2(t, c.For(t), shout, s) })
	t.Run("shoutcast", func(t *testing.T) { sourceSHOUTcast(t, c.For(t), shout, s) })
	t.Run("liquidsoap", func(t *testing.T) { sourceLiquidsoap(t, c.For(t), shout, s) })
	t.Run("darkice", func(t *testing.T) { sourceDarkIce(t, c.For(t), shout, s) })
	t.Run("put", func(t *testing.T) { sourcePut(t, c.For(t), shout, s) })
	t.Run("ffmpeg with ogg", func(t *testing.T) { sourceOgg(t, c.For(t), shout, s) })
	t.Run("ffmpeg that keeps back", func(t *testing.T) { sourceDeaf(t, c.For(t), shout, s) })
}

// neighbours is a port that is free together with the next one.
func neighbours(t *testing.T) int {
	t.Helper()
	for range 50 {
		port := freePorts(t, 1)[0]
		var lc net.ListenConfig
		if ln, err := lc.Listen(t.Context(), "tcp", loopback(port+1)); err == nil {
			_ = ln.Close()
			return port
		}
	}
	t.Fatal("no two ports in a row are free")
	return 0
}

// sourceIces2 sends an Ogg file as it is, through libshout, in real time.
func sourceIces2(t *testing.T, c *Cluster, shout int, s samples) {
	t.Helper()
	dir := t.TempDir()
	ogg, list, config := filepath.Join(dir, "a.ogg"), filepath.Join(dir, "list"), filepath.Join(dir, "ices.xml")
	run(t, "sox", s.phone, "-r", "16000", ogg, "trim", "0", "4")
	writeFile(t, list, []byte(ogg+"\n"))
	rec := c.Node(0).ticket("field", "ices.ogg")
	user, password, mount := rec.login(t)
	writeFile(t, config, fmt.Appendf(nil, `<?xml version="1.0"?>
<ices>
  <background>0</background>
  <logpath>%s</logpath><logfile>log</logfile><loglevel>4</loglevel><consolelog>1</consolelog>
  <stream>
    <metadata><name>Field</name><genre>Test</genre><description>by ices2</description></metadata>
    <input><module>playlist</module><param name="type">basic</param>
      <param name="file">%s</param><param name="random">0</param><param name="once">1</param></input>
    <instance>
      <hostname>127.0.0.1</hostname><port>%d</port><username>%s</username><password>%s</password>
      <mount>%s</mount><reconnectdelay>1</reconnectdelay><reconnectattempts>1</reconnectattempts>
    </instance>
  </stream>
</ices>`, dir, list, shout, user, password, mount))
	startClient(t, command(t, "ices2", config))
	sealed := c.Node(0).waitStateWithin(toolWait, rec.ID, "sealed")
	want := readFile(t, ogg)
	_, got, err := c.Node(0).do(t.Context(), http.MethodGet, "/media/field/ices.ogg", nil)
	if err != nil || len(got) < len(want)/2 || !bytes.HasPrefix(got, []byte("OggS")) {
		t.Errorf("recorded %d bytes of %d: %v", len(got), len(want), err)
	}
	if sealed.EndedBy != "source" || sealed.DurationMS < 3000 {
		t.Errorf("sealed as %+v", sealed)
	}
	writeFile(t, filepath.Join(dir, "got.ogg"), got)
	run(t, "sox", filepath.Join(dir, "got.ogg"), "-n", "stat") // it decodes
}

// sourceSHOUTcast sends through libshout's ICY: to the port after the one that
// it is told, with a password line, and titles by admin.cgi.
func sourceSHOUTcast(t *testing.T, c *Cluster, shout int, s samples) {
	t.Helper()
	for _, line := range []string{"bar", "foo:bar"} {
		config := filepath.Join(t.TempDir(), "ez.xml")
		writeFile(t, config, fmt.Appendf(nil, `<ezstream>
<servers><server><protocol>ICY</protocol><hostname>127.0.0.1</hostname><port>%d</port>
<user>source</user><password>%s</password></server></servers>
<streams><stream><mountpoint>/</mountpoint><format>MP3</format>
<stream_name>Radio</stream_name></stream></streams>
<metadata><format_str>%s</format_str></metadata>
<intakes><intake><type>file</type><filename>%s</filename><stream_once>Yes</stream_once></intake></intakes>
</ezstream>`, shout, line, "Song @t@", s.speech))
		source := startClient(t, command(t, "ezstream", "-v", "-c", config))
		live := c.Node(0).liveNamed("pbx", "stream")
		listener := startClient(t, command(t, "curl", "-sSf", "-H", "Icy-MetaData: 1",
			"http://"+loopback(shout)+"/pbx/stream"))
		source.wait()
		stored := c.Node(0).waitState(live.ID, "stored")
		if stored.SHA256 != hashOf(readFile(t, s.speech)) || stored.EndedBy != "source" || stored.Title == "" {
			t.Errorf("stored as %+v", stored)
		}
		// The second time the item of the first is played there.
		heard := listener.wait()
		if line == "bar" && !bytes.Contains(heard, []byte("StreamTitle='"+stored.Title+"';")) {
			t.Errorf("a listener is not told of %q", stored.Title)
		}
		c.plays("/media/pbx/stream", readFile(t, s.speech))
	}
}

// sourcePut sends files to the SHOUT port, with a length and in chunks, whose
// headers are empty or odd.
func sourcePut(t *testing.T, c *Cluster, shout int, s samples) {
	t.Helper()
	ogg := filepath.Join(t.TempDir(), "a.ogg")
	run(t, "sox", s.phone, ogg)
	for file, kind := range map[string]string{
		s.phone: "audio/x-wav", ogg: "application/ogg", s.music: "audio/mpeg",
	} {
		for _, from := range []string{file, "-"} {
			rec := c.Node(0).ticket("field", "put"+filepath.Ext(file))
			user, password, mount := rec.login(t)
			cmd := command(t, "curl", "-sS", "-u", user+":"+password, "-T", from, "-w", "%{http_code}",
				"-H", "Content-Type: "+kind, "-H", "ice-name;", "-H", "ice-bitrate: Quality 4", "-H", "X-Odd: \xff",
				"http://"+loopback(shout)+mount)
			in, err := os.Open(file)
			if err != nil {
				t.Fatal(err)
			}
			cmd.Stdin = in
			out := output(t, cmd)
			_ = in.Close()
			if string(out) != strconv.Itoa(http.StatusOK) {
				t.Errorf("%s from %s: status %s", kind, from, out)
			}
			sealed := c.Node(0).waitState(rec.ID, "sealed")
			if sealed.SHA256 != hashOf(readFile(t, file)) {
				t.Errorf("%s from %s: sealed as %+v", kind, from, sealed)
			}
			c.plays("/media/field/"+rec.Name, readFile(t, file))
		}
	}
}

// sourceDeaf: an ffmpeg that sends nothing for seconds, and never reads an
// answer, ends in order all the same.
func sourceDeaf(t *testing.T, c *Cluster, shout int, s samples) {
	t.Helper()
	rec := c.Node(0).ticket("field", "deaf.mp3")
	u, err := url.Parse(rec.RecordURL)
	if err != nil {
		t.Fatal(err)
	}
	u.Scheme, u.Host = "icecast", loopback(shout)
	run(t, "ffmpeg", "-v", "error", "-re", "-t", "4", "-i", s.speech, "-c", "copy", "-write_xing", "0",
		"-flush_packets", "0", "-content_type", "audio/mpeg", "-f", "mp3", "-legacy_icecast", "1", u.String())
	if sealed := c.Node(0).waitState(rec.ID, "sealed"); sealed.EndedBy != "source" || sealed.DurationMS < 3900 {
		t.Errorf("sealed as %+v", sealed)
	}
}

// sourceOgg encodes Vorbis while it sends, by PUT and by SOURCE.
func sourceOgg(t *testing.T, c *Cluster, shout int, s samples) {
	t.Helper()
	for _, legacy := range []string{"0", "1"} {
		rec := c.Node(0).ticket("field", "ff.ogg")
		u, err := url.Parse(rec.RecordURL)
		if err != nil {
			t.Fatal(err)
		}
		u.Scheme, u.Host = "icecast", loopback(shout)
		run(t, "ffmpeg", "-v", "error", "-re", "-t", "3", "-i", s.phone, "-c:a", "libvorbis", "-f", "ogg",
			"-content_type", "application/ogg", "-ice_name", "", "-legacy_icecast", legacy, u.String())
		sealed := c.Node(0).waitState(rec.ID, "sealed")
		near(t, "duration", time.Duration(sealed.DurationMS)*time.Millisecond, 3*time.Second, 100*time.Millisecond)
		_, got, err := c.Node(0).do(t.Context(), http.MethodGet, "/media/field/ff.ogg", nil)
		if err != nil || hashOf(got) != sealed.SHA256 {
			t.Errorf("it plays %d bytes, %v", len(got), err)
		}
		file := filepath.Join(t.TempDir(), "got.ogg")
		writeFile(t, file, got)
		run(t, "sox", file, "-n", "stat") // it decodes
	}
}

// liveNamed waits until a recording of that name is live.
func (n *Node) liveNamed(account, name string) recording {
	tb := n.cluster.tb
	tb.Helper()
	var found recording
	eventually(tb, settleWait, "recording "+name+" is live", func() error {
		var page struct {
			Items []recording `json:"items"`
		}
		n.call(http.MethodGet, "/v1/recordings?limit=1000&account="+account, nil, http.StatusOK, &page)
		for _, rec := range page.Items {
			if rec.Name == name && rec.State == "live" {
				found = rec
				return nil
			}
		}
		return fmt.Errorf("none of %d", len(page.Items))
	})
	return found
}
