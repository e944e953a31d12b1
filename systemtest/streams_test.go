package systemtest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestStreams listens to continuous streams and live recordings with the
// programs that do so in practice.
func TestStreams(t *testing.T) { //nolint:tparallel // the parts share one cluster and follow one another
	t.Parallel()
	c := Start(t, 3, nil)
	s := makeSamples(t)
	c.Node(0).put("acme", "phone.wav", readFile(t, s.phone))
	c.Node(1).put("acme", "music.mp3", readFile(t, s.music))
	var list struct {
		Items []string `json:"items"`
	}
	c.Node(2).call(http.MethodPut, "/v1/accounts/acme/playlists/moh",
		[]byte(`{"name":"Music on hold","items":["phone.wav","gone","/acme/music.mp3"]}`),
		http.StatusCreated, &list)
	if len(list.Items) != 3 {
		t.Fatalf("playlist %+v", list)
	}
	t.Run("one position", func(t *testing.T) { testOnePosition(t, c.For(t)) })
	t.Run("players", func(t *testing.T) { testStreamPlayers(t, c.For(t)) })
	t.Run("mp3 of wav", func(t *testing.T) { testMP3OfWAV(t, c.For(t), s) })
	t.Run("monitor", func(t *testing.T) { testMonitor(t, c.For(t)) })
	t.Run("auth", func(t *testing.T) { testListenerAuth(t, c.For(t), s) })
}

// hear returns the first n bytes of a stream.
func hear(ctx context.Context, url string, n int) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%w: %s from %s", errRawStatus, resp.Status, url)
	}
	p := make([]byte, n)
	_, err = io.ReadFull(resp.Body, p)
	return p, err
}

// Goal: who listens anywhere, by SHOUT or HTTP, hears the same at the same
// time. Method: 10 s from each of six places; each two have 4 s in common.
func testOnePosition(t *testing.T, c *Cluster) {
	t.Helper()
	const rate = 8000 // bytes a second: 64 kbit/s
	var urls []string
	for _, n := range c.nodes {
		urls = append(urls, "http://"+n.Shout+"/acme/moh.mp3", n.HTTP+"/media/acme/moh.mp3")
	}
	sounds := make([][]byte, len(urls))
	var wg sync.WaitGroup
	ctx, cancel := context.WithTimeout(t.Context(), toolWait)
	defer cancel()
	for i, url := range urls {
		wg.Go(func() {
			var err error
			if sounds[i], err = hear(ctx, url, 10*rate); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for i, sound := range sounds {
		if len(sound) < 10*rate || !bytes.Contains(sounds[0], sound[5*rate/2:13*rate/2]) &&
			!bytes.Contains(sound, sounds[0][5*rate/2:13*rate/2]) {
			t.Errorf("%s plays other bytes than %s", urls[i], urls[0])
		}
	}
}

// Goal: players take the stream for what it is, and hear no silence: the item
// is noise from its begin to its end, and what joins the items is no gap.
func testStreamPlayers(t *testing.T, c *Cluster) {
	t.Helper()
	var found struct {
		URL        string `json:"stream_url"`
		FreeSWITCH string `json:"freeswitch"`
	}
	c.Node(1).call(http.MethodGet, "/v1/lookup?account=acme&name=phone.wav&stream=extant", nil,
		http.StatusOK, &found)
	if !strings.HasPrefix(found.FreeSWITCH, "shout://") || !strings.HasSuffix(found.FreeSWITCH, ".mp3") {
		t.Fatalf("lookup %+v", found)
	}
	fetch := func(args ...string) []byte {
		// curl ends by its time limit, which is status 28.
		return run(t, "sh", "-c", `curl -s -m 14 "$@" || [ $? = 28 ]`, "sh", strings.Join(args, ""))
	}
	for name, url := range map[string]string{
		"http":  found.URL,
		"shout": "http://" + c.Node(2).Shout + "/acme/phone.wav?stream=extant",
	} {
		mp3 := fetch(url)
		if seconds := float64(len(mp3)) / 4000; seconds < 14 || seconds > 22 {
			t.Errorf("%s: %.1f s of sound in 14 s, want those and the burst", name, seconds)
		}
		for player, args := range map[string][]string{
			"mpg123": {"mpg123", "-q", "-s", "-"},
			"ffmpeg": {"ffmpeg", "-v", "error", "-f", "mp3", "-i", "-", "-f", "s16le", "-"},
		} {
			pcm := output(t, pipedTo(t, mp3, args[0], args[1:]...))
			if quiet := longestQuiet(pcm, 8000); quiet > 50*time.Millisecond {
				t.Errorf("%s: %s hears %v of silence", name, player, quiet)
			}
		}
	}
	icy := run(t, "ffprobe", "-v", "error", "-show_entries", "format_tags=StreamTitle,icy-name", "-of", "json",
		"-icy", "1", "http://"+c.Node(0).Shout+"/acme/moh.mp3")
	if !bytes.Contains(icy, []byte("Music on hold")) {
		t.Errorf("metadata %s", icy)
	}
}

// longestQuiet is the longest run of samples below a hundredth of full scale.
func longestQuiet(pcm []byte, rate int) time.Duration {
	longest, now := 0, 0
	start := rate / 2 * 2 // the decoder's first frame
	for i := start; i+1 < len(pcm); i += 2 {
		v := int16(uint16(pcm[i]) | uint16(pcm[i+1])<<8)
		if now++; v > 300 || v < -300 {
			now = 0
		}
		longest = max(longest, now)
	}
	return time.Duration(longest) * time.Second / time.Duration(rate)
}

// Goal: mod_shout can be sent to a WAV: it comes as MP3, with its length.
func testMP3OfWAV(t *testing.T, c *Cluster, s samples) {
	t.Helper()
	for _, url := range []string{
		"http://" + c.Node(0).Shout + "/acme/phone.mp3", "http://" + c.Node(1).Shout + "/acme/phone.wav",
		c.Node(2).HTTP + "/media/acme/phone.wav.mp3", c.Node(2).HTTP + "/media/acme/phone.mp3?gain=6",
	} {
		mp3 := run(t, "curl", "-sSf", url)
		pcm := output(t, pipedTo(t, mp3, "mpg123", "-q", "-s", "-"))
		near(t, url, time.Duration(len(pcm)/2)*time.Second/8000, durationOf(t, s.phone), 200*time.Millisecond)
	}
	var out struct {
		Format struct {
			Name string `json:"format_name"`
		} `json:"format"`
	}
	probe := run(t, "ffprobe", "-v", "error", "-show_format", "-of", "json",
		"http://"+c.Node(1).Shout+"/acme/phone.mp3")
	if err := json.Unmarshal(probe, &out); err != nil || out.Format.Name != "mp3" {
		t.Errorf("%v: %s", err, probe)
	}
}

// Goal: a recording in progress is heard from now, with the lead, through any
// node, and its listeners end with it.
func testMonitor(t *testing.T, c *Cluster) {
	t.Helper()
	rec := c.Node(0).ticket("acme", "call.mp3")
	sound := phone().frames(600, 3) // 43 s
	src := c.Node(0).liveSource(t, rec, sound[:400*phone().frameBytes])
	eventually(t, settleWait, "sound on all nodes", func() error {
		for _, n := range c.nodes {
			if got := n.recording(rec.ID); got.Size != int64(400*phone().frameBytes) {
				return fmt.Errorf("%w: node %d has %d bytes", errRawBody, n.index+1, got.Size)
			}
		}
		return nil
	})
	var clients []*client
	for _, n := range c.nodes {
		for _, url := range []string{
			"http://" + n.Shout + "/acme/call.mp3?from=now", n.HTTP + "/media/acme/call.mp3?from=now",
			"http://" + n.Shout + "/acme/call.mp3",
		} {
			clients = append(clients, startClient(t, command(t, "curl", "-sSf", url)))
		}
	}
	eventually(t, settleWait, "nine listeners", func() error {
		for _, n := range c.nodes {
			live, err := n.metric(t.Context(), "carillon_shout_listeners_live")
			if err == nil && live != 2 {
				err = fmt.Errorf("%w: %v listeners", errRawBody, live)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if _, err := src.conn.Write(sound[400*phone().frameBytes:]); err != nil {
		t.Fatal(err)
	}
	_ = src.conn.Close()
	burst := 3 * phone().bytesPerSecond()
	for i, client := range clients {
		got := client.wait()
		want := sound
		if i%3 != 2 {
			want = sound[400*phone().frameBytes:]
			if n := len(got); n < len(want)+burst || n > len(want)+burst+3000 {
				t.Errorf("listener %d from now heard %d bytes, %d are new and %d the burst", i, n, len(want), burst)
			}
			got = got[max(0, len(got)-len(want)):]
		}
		if !bytes.Equal(got, want) {
			t.Errorf("listener %d: %s", i, difference(got, want))
		}
	}
}

// Goal: an account that plays by signed URL only does so on both doors.
func testListenerAuth(t *testing.T, c *Cluster, s samples) {
	t.Helper()
	c.Node(0).put("shy", "x.wav", readFile(t, s.phone))
	c.Node(0).call(http.MethodPatch, "/v1/accounts/shy", []byte(`{"listener_auth":{"mode":"token"}}`),
		http.StatusOK, nil)
	var found struct {
		URL string `json:"stream_url"`
	}
	n := c.Node(0)
	n.call(http.MethodGet, "/v1/lookup?account=shy&name=x.wav", nil, http.StatusOK, &found)
	token := strings.Split(found.URL, "/")[4]
	for url, want := range map[string]string{
		"http://" + n.Shout + "/shy/x.mp3":                    "403",
		n.HTTP + "/media/shy/x.wav":                           "403",
		found.URL:                                             "200",
		"http://" + n.Shout + "/shy/x.mp3?token=" + token:     "200",
		"http://" + n.Shout + "/acme/moh?token=" + token:      "403",
		n.HTTP + "/media/shy/x.wav?token=" + token + "x":      "403",
		n.HTTP + "/media/shy/x.wav?rate=16000&token=" + token: "200",
	} {
		got := run(t, "curl", "-s", "-m", "5", "-o", "/dev/null", "-w", "%{http_code}", url)
		if string(got) != want {
			t.Errorf("%s: status %s, want %s", url, got, want)
		}
	}
}

// pipedTo is a client that reads p.
func pipedTo(t *testing.T, p []byte, name string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := command(t, name, args...)
	cmd.Stdin = bytes.NewReader(p)
	return cmd
}
