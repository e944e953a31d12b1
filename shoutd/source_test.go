package shoutd

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"carillon/library"
)

const authorization = "Authorization: Basic Zm9vOmJhcg==\r\n"

// TestFreeSWITCHRecords replays the client's bytes of a measured recording:
// the probes on connections of their own, then the stream.
func TestFreeSWITCHRecords(t *testing.T) {
	d := openDoor(t, Config{})
	c := d.dial(t)
	c.send(file(t, "options.txt"))
	c.exactly(answerOptions)
	_ = c.CloseWrite()
	c.ended()

	c = d.dial(t)
	c.send(file(t, "poke.txt"))
	c.refused(methodGet, http.StatusBadRequest)

	c = d.dial(t)
	c.send(file(t, "probe.txt"))
	c.exactly(answerChallenge)
	_ = c.Close()

	capture := file(t, "source.bin")
	head, sound := split(t, capture)
	c = d.dial(t)
	c.send(head)
	c.exactly("HTTP/1.0 200 OK\r\n\r\n")
	s := d.session(t)
	c.send(sound)
	_ = c.CloseWrite()
	c.ended()
	s.endsAs(t, library.EndedClean, sound)

	want := library.SourceRequest{
		Mount: "fs_abc.mp3", User: "foo", Password: "bar", ContentType: "audio/mpeg",
		RemoteAddr: s.request.RemoteAddr,
		ICY: map[string]string{
			"ice-public": "0", "ice-name": "no name", "ice-url": "http://www.freeswitch.org",
			"ice-description": "FreeSWITCH mod_shout Broadcasting Module",
			"ice-audio-info":  "bitrate=24000",
		},
	}
	if diff := cmp.Diff(want, s.request); diff != "" {
		t.Error(diff)
	}
}

// TestKeptConnection sends everything over one connection, as libshout does
// after an answer with keep-alive, also when it does not wait for the 401.
func TestKeptConnection(t *testing.T) {
	for _, probe := range []string{"probe.txt", "probe-240.txt", "probe-put.txt"} {
		for _, pipelined := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s pipelined=%v", probe, pipelined), func(t *testing.T) {
				d := openDoor(t, Config{})
				capture := file(t, "source.bin")
				_, sound := split(t, capture)
				c := d.dial(t)
				if pipelined {
					c.send(file(t, "options.txt") + file(t, probe) + capture)
					c.exactly(answerOptions + answerChallenge + answerSource)
				} else {
					c.send(file(t, "options.txt"))
					c.exactly(answerOptions)
					c.send(file(t, probe))
					c.exactly(answerChallenge)
					c.send(capture)
					c.exactly(answerSource)
				}
				_ = c.CloseWrite()
				d.session(t).endsAs(t, library.EndedClean, sound)
			})
		}
	}
}

// TestLibshoutPut replays a recording by PUT: 100 at once, raw bytes until
// FIN, and no final answer before that, which would turn the FIN into a reset.
func TestLibshoutPut(t *testing.T) {
	d := openDoor(t, Config{})
	head, sound := split(t, file(t, "put.bin"))
	c := d.dial(t)
	c.send(head)
	c.exactly(answerContinue)
	c.send(sound)
	s := d.session(t)
	until(t, "all bytes", func() bool { return s.count() == len(sound) })
	if n := c.br.Buffered(); n != 0 {
		t.Fatalf("%d bytes of answer before the end", n)
	}
	_ = c.CloseWrite()
	c.exactly(answerStored)
	c.ended()
	s.endsAs(t, library.EndedClean, sound)
}

// TestPutFramings sends bodies of each kind, whole and cut.
func TestPutFramings(t *testing.T) {
	const head = "PUT /x.mp3 HTTP/1.1\r\n" + authorization
	incomplete := statusFor(library.ErrIncomplete)
	tests := []struct {
		name, request  string
		content        string
		how            library.Ending
		status         int
		final, expects bool // expects: a 100 comes first; final: a 200 without length comes first
	}{
		{name: "length", request: head + "Content-Length: 5\r\n\r\nabcde", content: "abcde", status: 200},
		{
			name: "length and expect", request: head + "Content-Length: 5\r\nExpect: 100-continue\r\n\r\nabcde",
			content: "abcde", status: 200, expects: true,
		},
		{
			name: "length, pipelined rest is not sound", content: "abcde", status: 200,
			request: head + "Content-Length: 5\r\n\r\nabcdeGET / HTTP/1.1\r\n\r\n",
		},
		{
			name: "short length", request: head + "Content-Length: 6\r\n\r\nabcde",
			content: "abcde", how: library.EndedCut, status: incomplete,
		},
		{
			name: "chunked", content: "abcdefghij", status: 200,
			request: head + "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n07;x=y\r\ndefghij\r\n0\r\nT: x\r\n\r\n",
		},
		{
			name: "chunked wins over length", content: "abc", status: 200,
			request: head + "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
		},
		{
			name: "half a chunk", content: "abc", how: library.EndedCut, status: incomplete,
			request: head + "Transfer-Encoding: chunked\r\n\r\n5\r\nabc",
		},
		{
			name: "no last chunk", content: "abc", how: library.EndedCut, status: incomplete,
			request: head + "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
		},
		{
			name: "no end of trailer", content: "abc", how: library.EndedCut, status: incomplete,
			request: head + "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n",
		},
		{
			name: "garbage for a chunk size", content: "abc", how: library.EndedCut, status: 400,
			request: head + "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nxyz\r\n",
		},
		{
			name: "chunk size beyond an int64", content: "", how: library.EndedCut, status: 400,
			request: head + "Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nabc",
		},
		{
			name: "chunk longer than its size", content: "abc", how: library.EndedCut, status: 400,
			request: head + "Transfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n",
		},
		{name: "until FIN", request: head + "\r\nabcde", content: "abcde", final: true},
		{
			// Liquidsoap 2.1 as it was captured, but for its login.
			name: "HTTP/1.0 that expects", content: "abcde", status: 200, expects: true,
			request: "PUT /x.mp3 HTTP/1.0\r\nice-name: a.mp3\r\nExpect: 100-continue\r\n" + authorization +
				"ice-public: 1\r\nUser-Agent: Liquidsoap/2.1.3 (Unix; OCaml 4.13.1)\r\n" +
				"Content-Type: audio/mpeg\r\n\r\nabcde",
		},
		{
			name: "HTTP/1.0 that expects and has a length", content: "abcde", status: 200,
			request: "PUT /x.mp3 HTTP/1.0\r\n" + authorization +
				"Content-Length: 5\r\nExpect: 100-continue\r\n\r\nabcde",
		},
		{
			name: "empty header values", content: "ab", final: true,
			request: head + "icy-name:\r\nContent-Length:\r\nX\r\n folded\r\n\r\nab",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := openDoor(t, Config{})
			c := d.dial(t)
			c.send(tt.request)
			_ = c.CloseWrite()
			if tt.expects {
				c.exactly(answerContinue)
			}
			if tt.final {
				c.exactly(answerPut)
			} else if resp, body := c.answer(methodPut); resp.StatusCode != tt.status || body != "" {
				t.Errorf("answer %d %q, want %d", resp.StatusCode, body, tt.status)
			}
			c.ended()
			d.session(t).endsAs(t, tt.how, tt.content)
		})
	}
}

// TestSourceLength: on a SOURCE a length of 0 is the habit of a prober, any
// other is a promise.
func TestSourceLength(t *testing.T) {
	for _, tt := range []struct {
		header string
		how    library.Ending
	}{
		{"Content-Length: 0\r\n", library.EndedClean},
		{"Content-Length: 5\r\n", library.EndedClean},
		{"Content-Length: 50\r\n", library.EndedCut},
	} {
		t.Run(tt.header, func(t *testing.T) {
			d := openDoor(t, Config{})
			c := d.dial(t)
			c.send("SOURCE /x.mp3 HTTP/1.0\r\n" + authorization + tt.header + "\r\nabcde")
			_ = c.CloseWrite()
			c.exactly(answerSource)
			c.ended()
			d.session(t).endsAs(t, tt.how, "abcde")
		})
	}
}

func TestTicketUsedTwice(t *testing.T) {
	d := openDoor(t, Config{})
	first, second := d.dial(t), d.dial(t)
	capture := file(t, "source.bin")
	_, sound := split(t, capture)
	first.send(capture)
	first.exactly(answerSource)
	second.send(capture)
	second.refused(methodSource, statusFor(library.ErrTicketUsed))
	_ = first.CloseWrite()
	d.session(t).endsAs(t, library.EndedClean, sound)
}

// TestMountDecodedOnce: FreeSWITCH escapes an escape; `%20` in its URL is
// `%20` in the name.
func TestMountDecodedOnce(t *testing.T) {
	d := openDoor(t, Config{})
	for request, mount := range map[string]string{
		file(t, "slashes.txt"): "401.200/a/b/c%20d/fs_x.mp3",
		"SOURCE /fs%3ftoken%3dabc HTTP/1.0\r\n" + authorization + "\r\n":    "fs?token=abc",
		"SOURCE /fs?token=abc HTTP/1.0\r\n" + authorization + "\r\n":        "fs",
		"SOURCE bare HTTP/1.0\r\n" + authorization + "\r\n":                 "bare",
		"SOURCE /ice ICE/1.0\r\n" + authorization + "\r\n":                  "ice",
		"SOURCE /\xff\x00%00 HTTP/1.0\r\n" + authorization + "\r\n":         "",
		"SOURCE http://h:8000/abs HTTP/1.1\r\n" + authorization + "\r\n":    "abs",
		"SOURCE /lf HTTP/1.0\n" + strings.TrimSpace(authorization) + "\n\n": "lf",
	} {
		c := d.dial(t)
		c.send(request)
		if mount == "" {
			c.refused(methodSource, http.StatusBadRequest) // control characters are no request
			continue
		}
		c.exactly(answerSource)
		if s := d.session(t); s.request.Mount != mount {
			t.Errorf("mount %q, want %q", s.request.Mount, mount)
		}
	}
}

func TestSourceIsCut(t *testing.T) {
	capture := "SOURCE /x.mp3 HTTP/1.0\r\n" + authorization + "\r\nabc"
	start := func(t *testing.T, cfg Config) (*door, *client, *fakeSession) {
		t.Helper()
		d := openDoor(t, cfg)
		c := d.dial(t)
		c.send(capture)
		c.exactly(answerSource)
		s := d.session(t)
		until(t, "first bytes", func() bool { return s.count() == 3 })
		return d, c, s
	}
	t.Run("reset", func(t *testing.T) {
		_, c, s := start(t, Config{})
		_ = c.SetLinger(0)
		_ = c.Close()
		s.endsAs(t, library.EndedCut, "abc")
	})
	t.Run("silence", func(t *testing.T) {
		d, c, s := start(t, Config{SourceSilence: 100 * time.Millisecond})
		s.endsAs(t, library.EndedCut, "abc")
		c.ended()
		if !strings.Contains(d.log.String(), errSilence.Error()) {
			t.Error(d.log)
		}
	})
	t.Run("discarded", func(t *testing.T) {
		_, c, s := start(t, Config{})
		close(s.done)
		s.endsAs(t, library.EndedCut, "abc")
		c.ended()
	})
	t.Run("close of the server", func(t *testing.T) {
		d, c, s := start(t, Config{})
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		s.endsAs(t, library.EndedCut, "abc")
		c.ended()
		if err := d.Close(); err != nil {
			t.Fatal("second close:", err)
		}
	})
}

// TestSourceTooLarge: the library's limit ends the source, and a client that
// waits for an answer gets one.
func TestSourceTooLarge(t *testing.T) {
	for _, method := range []string{methodSource, methodPut} {
		d := openDoor(t, Config{})
		d.lib.writeErr, d.lib.writeMax = library.ErrTooLarge, 10
		c := d.dial(t)
		c.send(method + " /x.mp3 HTTP/1.1\r\n" + authorization + "Content-Length: 100\r\n\r\n")
		if method == methodSource {
			c.exactly(answerSource)
		}
		c.send("0123456789")
		s := d.session(t)
		until(t, "first bytes", func() bool { return s.count() == 10 })
		c.send("more")
		if method == methodPut {
			c.refused(method, statusFor(library.ErrTooLarge))
		} else {
			c.ended()
		}
		s.endsAs(t, library.EndedCut, "0123456789")
	}
}

// TestSilenceIsCountedFromTheLastByte: a source that sends now and then lives
// for longer than the limit.
func TestSilenceIsCountedFromTheLastByte(t *testing.T) {
	d := openDoor(t, Config{SourceSilence: 300 * time.Millisecond})
	c := d.dial(t)
	c.send("SOURCE /x.mp3 HTTP/1.0\r\n" + authorization + "\r\n")
	c.exactly(answerSource)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for range 8 {
		<-tick.C
		c.send("x")
	}
	_ = c.CloseWrite()
	d.session(t).endsAs(t, library.EndedClean, "xxxxxxxx")
}

func TestSlowLoris(t *testing.T) {
	d := openDoor(t, Config{HeadWait: 150 * time.Millisecond})
	c := d.dial(t)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for _, b := range "SOURCE /x" {
		<-tick.C
		if _, err := c.Write([]byte{byte(b)}); err != nil {
			break
		}
	}
	c.refused(methodSource, http.StatusRequestTimeout)

	c = d.dial(t) // who sends nothing is told nothing
	c.ended()
}

func TestDrain(t *testing.T) {
	d := openDoor(t, Config{})
	c := d.dial(t)
	c.send("SOURCE /x.mp3 HTTP/1.0\r\n" + authorization + "\r\nabc")
	c.exactly(answerSource)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := d.Drain(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal("drain with a live source:", err)
	}
	late := d.dial(t)
	late.send("SOURCE /y.mp3 HTTP/1.0\r\n" + authorization + "\r\n")
	late.refused(methodSource, statusFor(library.ErrUnavailable))
	_ = c.CloseWrite()
	if err := d.Drain(t.Context()); err != nil {
		t.Fatal("drain:", err)
	}
	d.session(t).endsAs(t, library.EndedClean, "abc")
}

func TestConnectionLimit(t *testing.T) {
	d := openDoor(t, Config{ConnectionsMax: 1})
	first := d.dial(t)
	first.send(file(t, "options.txt"))
	first.exactly(answerOptions)
	for range refusalsMax + 5 {
		c := d.dial(t)
		c.send(file(t, "source.bin"))
		resp, body := c.answer(methodSource)
		if resp.StatusCode != http.StatusServiceUnavailable || body != "" {
			t.Fatalf("answer %d %q", resp.StatusCode, body)
		}
	}
	_ = first.Close()
	until(t, "room again", func() bool {
		c := d.dial(t)
		c.send(file(t, "options.txt"))
		resp, _ := c.answer(methodOptions)
		return resp.StatusCode == http.StatusOK
	})
}

// TestLogIsEscaped: what a client sends cannot begin a line of the log.
func TestLogIsEscaped(t *testing.T) {
	d := openDoor(t, Config{})
	c := d.dial(t)
	c.send("SOURCE /a%0alevel=ERROR%1b[2J HTTP/1.0\r\nAuthorization: Basic " +
		"eApsZXZlbD1FUlJPUjp5\r\n\r\n")
	c.refused(methodSource, statusFor(library.ErrUnauthorized))
	for line := range strings.Lines(d.log.String()) {
		if !strings.HasPrefix(line, "time=") {
			t.Errorf("log line %q", line)
		}
	}
}

func TestMetadataUpdate(t *testing.T) {
	d := openDoor(t, Config{})
	const update = "GET /admin/metadata?mode=updinfo&mount=/x.mp3&song=a%20b HTTP/1.0\r\n"
	c := d.dial(t)
	c.send(update + authorization + "\r\n")
	c.refused(methodGet, http.StatusUnauthorized) // no such source is live
	src := d.dial(t)
	src.send("SOURCE /x.mp3 HTTP/1.0\r\n" + authorization + "\r\n")
	src.exactly(answerSource)
	c = d.dial(t)
	c.send(update + "\r\n")
	c.refused(methodGet, http.StatusUnauthorized)
	c = d.dial(t)
	c.send(update + authorization + "\r\n")
	if resp, body := c.answer(methodGet); resp.StatusCode != http.StatusOK || body != updated {
		t.Errorf("answer %d %q", resp.StatusCode, body)
	}
	if titles, _ := d.session(t).said(); len(titles) != 1 || titles[0] != "a b" {
		t.Errorf("titles are %q", titles)
	}
}

// Goal: an update that names no mount is taken if one source can be meant, and
// refused, not guessed, if there are several.
func TestMetadataUpdateOfOneOfTwo(t *testing.T) {
	d := openDoor(t, Config{})
	update := func(query string) int {
		t.Helper()
		c := d.dial(t)
		c.send("GET /admin.cgi?mode=updinfo&song=a&pass=bar" + query + " HTTP/1.0\r\n\r\n")
		resp, _ := c.answer(methodGet)
		return resp.StatusCode
	}
	begin := func(mount string) *fakeSession {
		t.Helper()
		c := d.dial(t)
		c.send("SOURCE /" + mount + " HTTP/1.0\r\n" + authorization + "\r\n")
		c.exactly(answerSource)
		return d.session(t)
	}
	one := begin("x.mp3")
	if status := update(""); status != http.StatusOK {
		t.Errorf("of the only source: status %d", status)
	}
	two := begin("y.mp3")
	if status := update(""); status != http.StatusUnauthorized {
		t.Errorf("of one of two: status %d", status)
	}
	if status := update("&mount=/y.mp3"); status != http.StatusOK {
		t.Errorf("of the second: status %d", status)
	}
	for i, s := range []*fakeSession{one, two} {
		if titles, _ := s.said(); len(titles) != 1 {
			t.Errorf("source %d: titles are %q", i, titles)
		}
	}
}

// TestDeafSource: libavformat closes with our answer unread, if it has got one,
// and that is a reset; it has said all that it had to say. Of others a reset is
// a cut.
func TestDeafSource(t *testing.T) {
	for agent, how := range map[string]library.Ending{
		"Lavf/59.27.100": library.EndedClean, "libshout/2.4.6": library.EndedCut,
	} {
		d := openDoor(t, Config{DeafWait: time.Millisecond})
		c := d.dial(t)
		c.send("SOURCE /x.mp3 HTTP/1.0\r\nUser-Agent: " + agent + "\r\n" + authorization + "\r\n")
		s := d.session(t)
		if p, err := c.br.Peek(len(answerSource)); err != nil || string(p) != answerSource {
			t.Fatalf("answer %q, %v", p, err)
		}
		c.send("sound")
		until(t, "the sound", func() bool { return s.count() == len("sound") })
		_ = c.SetLinger(0)
		_ = c.Close()
		s.endsAs(t, how, "sound")
	}
}
