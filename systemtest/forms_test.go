package systemtest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestForms plays one item in all its forms, through every node, with the
// programs that ask for them.
func TestForms(t *testing.T) { //nolint:tparallel // the parts share one cluster and follow one another
	t.Parallel()
	c := Start(t, 3, nil)
	s := makeSamples(t)
	c.Node(0).put("acme", "phone", readFile(t, s.phone))
	c.Node(1).put("acme", "long", readFile(t, s.long))
	t.Run("validators", func(t *testing.T) { testFormValidators(t, c.For(t), s) })
	t.Run("players", func(t *testing.T) { testFormPlayers(t, c.For(t), s) })
	t.Run("rates", func(t *testing.T) { testFormRates(t, c.For(t)) })
	t.Run("16 kHz recording", func(t *testing.T) { testFormOfWideCall(t, c.For(t)) })
	t.Run("refusals", func(t *testing.T) { testFormRefusals(t, c.For(t)) })
	t.Run("live", func(t *testing.T) { testFormLive(t, c.For(t)) })
}

// Goal: a form has the same bytes and headers on every node, HEAD as GET, and
// ranges and conditions are right.
func testFormValidators(t *testing.T, c *Cluster, s samples) {
	t.Helper()
	wav := readFile(t, s.long)
	raw := wav[wavHeaderBytes:]
	for _, form := range []struct {
		path, contentType string
		want              []byte
	}{
		{"/media/acme/long.wav", "audio/x-wav", wav},
		{"/media/acme/long.raw?rate=8000&channels=1", "audio/x-raw", raw},
		{"/media/acme/long.r8", "audio/x-raw", raw},
		{"/media/acme/long.ul", "audio/basic", nil},
		{"/media/acme/long.ulaw", "audio/basic", nil},
		{"/media/acme/long.wav?rate=16000", "audio/x-wav", nil},
		{"/media/acme/long?gain=-6", "audio/x-wav", nil},
	} {
		etag, want := "", form.want
		for _, n := range c.nodes {
			resp, got, err := n.do(t.Context(), http.MethodGet, form.path, nil)
			if err != nil {
				t.Fatal(err)
			}
			if want == nil {
				want = got
			}
			if etag == "" {
				etag = resp.Header.Get("Etag")
			}
			what := fmt.Sprintf("node %d: %s", n.index+1, form.path)
			if resp.StatusCode != http.StatusOK || !bytes.Equal(got, want) || resp.ContentLength != int64(len(want)) ||
				resp.Header.Get("Etag") != etag || resp.Header.Get("Content-Type") != form.contentType {
				t.Fatalf("%s: %d, %v, %s", what, resp.StatusCode, resp.Header, difference(got, want))
			}
			head, _, err := n.do(t.Context(), http.MethodHead, form.path, nil)
			if err != nil {
				t.Fatal(err)
			}
			for _, h := range []string{"Etag", "Last-Modified", "Content-Type", "Content-Length", "Accept-Ranges"} {
				if head.Header.Get(h) != resp.Header.Get(h) || head.Header.Get(h) == "" {
					t.Errorf("%s: HEAD has %s: %q", what, h, head.Header.Get(h))
				}
			}
			again, _, err := n.do(t.Context(), http.MethodGet, form.path, nil, "If-None-Match", etag)
			if err != nil || again.StatusCode != http.StatusNotModified {
				t.Errorf("%s: %v, %v with its own ETag", what, err, again)
			}
			_, part, err := n.do(t.Context(), http.MethodGet, form.path, nil, "Range", "bytes=100000-199999")
			if err != nil || !bytes.Equal(part, want[100000:200000]) {
				t.Errorf("%s: range: %v, %s", what, err, difference(part, want[100000:200000]))
			}
		}
	}
}

// Goal: mod_shell_stream's two scripts, and others who decode forms, hear the
// sound that was stored. The module adds -r RATE -c 1, which curl takes for a
// range.
func testFormPlayers(t *testing.T, c *Cluster, s samples) {
	t.Helper()
	want := readFile(t, s.phone)[wavHeaderBytes:]
	url := func(path string) string { return c.Node(2).HTTP + path }
	sox := `curl -sf "$1" | sox -t wav - -t raw -r "$3" -c "$5" -e signed-integer -b 16 -L -`
	for name, got := range map[string][]byte{
		"curl raw": run(t, "sh", "-c",
			"cd "+t.TempDir()+"; curl -sf '"+url("/media/acme/phone.raw?rate=8000")+"' -r 8000 -c 1"),
		"curl raw, comment": run(t, "sh", "-c", "curl -sf "+url("/media/acme/phone.r8")+" # -r 8000 -c 1"),
		"curl and sox":      run(t, "sh", "-c", sox, "s.sh", url("/media/acme/phone.wav"), "-r", "8000", "-c", "1"),
		"ffmpeg wav": run(t, "ffmpeg", "-v", "error", "-i", url("/media/acme/phone.wav?channels=2"),
			"-af", "pan=mono|c0=c0", "-f", "s16le", "-"),
	} {
		if !bytes.Equal(got, want) {
			t.Errorf("%s: %s", name, difference(got, want))
		}
	}
	// G.711 loses; a coder may round to either neighbour.
	ours := run(t, "curl", "-sf", url("/media/acme/phone.ul"))
	theirs := run(t, "ffmpeg", "-v", "error", "-i", s.phone, "-f", "mulaw", "-")
	if len(ours) != len(theirs) {
		t.Fatalf("µ-law: %d bytes, want %d", len(ours), len(theirs))
	}
	for i := range ours {
		if d := int(ours[i]) - int(theirs[i]); (d > 1 || d < -1) && ours[i]&0x7f < 0x7e {
			t.Fatalf("µ-law: %02x at %d, want about %02x", ours[i], i, theirs[i])
		}
	}
}

// Goal: channels of 8, 16, 32 and 48 kHz, mono and stereo, hear the tone that
// was stored, at its pitch, level and length, in each form.
func testFormRates(t *testing.T, c *Cluster) {
	t.Helper()
	tone := func(file string, rate, channels int) []byte {
		run(t, "sox", "-D", "-n", "-r", strconv.Itoa(rate), "-c", strconv.Itoa(channels), "-b", "16", file,
			"synth", "2", "sine", "1000", "vol", "0.5")
		return run(t, "sox", file, "-t", "raw", "-e", "signed-integer", "-b", "16", "-L", "-")
	}
	dir := t.TempDir()
	stored := filepath.Join(dir, "48.wav")
	tone(stored, 48000, 2)
	c.Node(0).put("acme", "tone", readFile(t, stored))
	for _, rate := range []int{8000, 16000, 32000, 48000} {
		for channels := 1; channels <= 2; channels++ {
			want := tone(filepath.Join(dir, "want.wav"), rate, channels)
			query := fmt.Sprintf("?rate=%d&channels=%d", rate, channels)
			as := []string{"-f", "s16le", "-ar", strconv.Itoa(rate), "-ac", strconv.Itoa(channels)}
			for _, form := range []struct {
				ext, decoder string
				options      []string
				noise        float64 // of the whole, in dB: G.711 and MP3 lose
			}{
				{".raw", "cat", nil, -60},
				{".wav", "sox", []string{"-t", "wav", "-", "-t", "raw", "-"}, -60},
				{".ul", "ffmpeg", append([]string{"-v", "error", "-f", "mulaw"}, as[2:]...), -30},
				{".al", "ffmpeg", append([]string{"-v", "error", "-f", "alaw"}, as[2:]...), -30},
				{".mp3", "mpg123", []string{"-q", "-s", "-"}, -30},
			} {
				path := "/media/acme/tone" + form.ext + query
				resp, body, err := c.Node(rate/8000).do(t.Context(), http.MethodGet, path, nil)
				if err != nil || resp.StatusCode != http.StatusOK {
					t.Fatalf("%s: %v, %v", path, resp, err)
				}
				options := form.options
				if form.decoder == "ffmpeg" {
					options = append(append(slices.Clone(options), "-i", "-"), "-f", "s16le", "-")
				}
				cmd := command(t, form.decoder, options...)
				cmd.Stdin = bytes.NewReader(body)
				if got := noiseDB(output(t, cmd), want); got > form.noise {
					t.Errorf("%s: noise at %.1f dB, at most %.1f", path, got, form.noise)
				}
			}
		}
	}
}

// noiseDB is how much two signals of 16 bits differ, against the second, a
// twentieth at either end left out. Signals of other lengths differ wholly.
func noiseDB(got, want []byte) float64 {
	if len(got) != len(want) {
		return 0
	}
	sum, difference := 0.0, 0.0
	for at := len(want) / 40 * 2; at < len(want)-len(want)/20; at += 2 {
		g, w := int16(binary.LittleEndian.Uint16(got[at:])), int16(binary.LittleEndian.Uint16(want[at:]))
		sum += float64(w) * float64(w)
		difference += float64(int(g)-int(w)) * float64(int(g)-int(w))
	}
	return 10 * math.Log10(difference/sum+1e-12)
}

// Goal: what a FreeSWITCH channel of 16 kHz recorded is decoded as mpg123 does.
func testFormOfWideCall(t *testing.T, c *Cluster) {
	t.Helper()
	_, body, _ := bytes.Cut(wire(t, "urec-16k.bin"), []byte("\r\n\r\n"))
	doc := c.Node(0).put("acme", "wide.mp3", body)
	if doc.Audio.SampleRate != 16000 || doc.Audio.BitRate != 32000 {
		t.Errorf("it is %+v", doc.Audio)
	}
	file := filepath.Join(t.TempDir(), "wide.mp3")
	writeFile(t, file, body)
	want := run(t, "mpg123", "-q", "-s", file)
	got := run(t, "curl", "-sf", c.Node(1).HTTP+"/media/acme/wide.r16")
	if len(got) != len(want) {
		t.Fatalf("%d bytes, mpg123 decodes %d", len(got), len(want))
	}
	for at := 0; at < len(want); at += 2 {
		g, w := int16(binary.LittleEndian.Uint16(got[at:])), int16(binary.LittleEndian.Uint16(want[at:]))
		if d := int(g) - int(w); d < -1 || d > 1 {
			t.Fatalf("sample %d is %d, mpg123's %d", at/2, g, w)
		}
	}
}

// Goal: what cannot be had is refused with its status, its code in a header
// and an empty body.
func testFormRefusals(t *testing.T, c *Cluster) {
	t.Helper()
	for path, want := range map[string]string{
		"/media/acme/phone.raw?rate=1":              "400 bad_request",
		"/media/acme/phone.r8?rate=16000":           "400 bad_request",
		"/media/acme/phone.wav?channels=9":          "400 bad_request",
		"/media/acme/phone.wav?gain=loud":           "400 bad_request",
		"/media/acme/nothing.raw":                   "404 not_found",
		"/media/acme/phone.xyz":                     "404 not_found",
		"/media/acme/phone.raw?rate=99999999999999": "400 bad_request",
	} {
		for _, method := range []string{http.MethodGet, http.MethodHead} {
			resp, body, err := c.Node(1).do(t.Context(), method, path, nil)
			if err != nil {
				t.Fatal(err)
			}
			got := fmt.Sprintf("%d %s", resp.StatusCode, resp.Header.Get("X-Carillon-Error"))
			if got != want || len(body) > 0 || resp.ContentLength != 0 {
				t.Errorf("%s %s: %s with %d bytes, want %s", method, path, got, len(body), want)
			}
		}
	}
}

// Goal: a recording in progress is not converted, because who asks for it would
// wait for its end in a call; the answer says where it is heard. Once it has
// ended it is converted like any item.
func testFormLive(t *testing.T, c *Cluster) {
	t.Helper()
	rec := c.Node(0).ticket("acme", "live.mp3")
	src := c.Node(0).liveSource(t, rec, phone().frames(100, 1))
	for _, path := range []string{"/media/acme/live.raw", "/media/acme/live.wav", "/media/acme/live.mp3.r8"} {
		resp, body, err := c.Node(1).do(t.Context(), http.MethodGet, path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != http.StatusConflict || len(body) > 0 ||
			resp.Header.Get("X-Carillon-Error") != "recording_live" ||
			!strings.Contains(resp.Header.Get("Link"), "<shout://") {
			t.Errorf("%s: status %d, %v", path, resp.StatusCode, resp.Header)
		}
	}
	_ = src.conn.Close()
	c.Node(1).waitState(rec.ID, "sealed")
}

// liveSource sends the beginning of a recording, and stays.
func (n *Node) liveSource(t *testing.T, rec recording, sound []byte) *loadSource {
	t.Helper()
	src := &loadSource{}
	err := src.connect(t.Context(), shoutTarget{source: func(int) (addr, user, password, mount string) {
		user, password, mount = rec.login(t)
		return n.Shout, user, password, mount
	}}, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = src.conn.Close() })
	if _, err := src.conn.Write(sound); err != nil {
		t.Fatal(err)
	}
	return src
}
