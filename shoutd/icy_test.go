package shoutd

import (
	"bytes"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"
	"time"
	"unicode"

	"carillon/library"
)

// dialICY connects to the port of SHOUTcast.
func (d *door) dialICY(t *testing.T) *client {
	t.Helper()
	nc, err := (&net.Dialer{Timeout: testWait}).DialContext(t.Context(), "tcp", d.ICYAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nc.Close() })
	_ = nc.SetDeadline(time.Now().Add(testWait))
	tcp, _ := nc.(*net.TCPConn)
	c := *d.dial(t)
	_ = c.Close()
	c.TCPConn = tcp
	c.br.Reset(tcp)
	return &c
}

// TestICYSource goes through the protocol of SHOUTcast 1: password, OK2,
// headers, sound, titles on either port.
func TestICYSource(t *testing.T) {
	d := openDoor(t, Config{ICYAddress: "127.0.0.1:0"})
	for _, line := range []string{"bar\r\n", "foo:bar\n"} {
		d.lib.mu.Lock()
		d.lib.used = map[string]bool{}
		d.lib.mu.Unlock()
		c := d.dialICY(t)
		c.send(line)
		c.exactly("OK2\r\nicy-caps:11\r\n\r\n")
		s := d.session(t)
		c.send("icy-name:Radio \xe4\r\nicy-genre: \r\nicy-url:http://x\r\nicy-br:128\r\n" +
			"content-type:audio/mpeg\r\nicy-pub:0\r\nContent-Length: 5\r\n\r\nsound")
		until(t, "its first bytes", func() bool { return s.count() == len("sound") })
		if _, icy := s.said(); !strings.HasPrefix(icy["icy-name"], "Radio") || icy["icy-br"] != "128" {
			t.Errorf("headers are %q", icy)
		}
		for _, request := range []string{
			"GET /admin.cgi?pass=" + strings.TrimSpace(line) + "&mode=updinfo&song=a%20b HTTP/1.0\r\n\r\n",
			// Liquidsoap sends the password alone.
			"GET /admin.cgi?mode=updinfo&song=M%F6tley&charset=ISO-8859-1&pass=bar HTTP/1.1\r\nHost: x\r\n\r\n",
		} {
			for _, dial := range []func(*testing.T) *client{
				d.dialICY, func(t *testing.T) *client { t.Helper(); return d.dial(t) },
			} {
				m := dial(t)
				m.send(request)
				resp, _ := m.answer(methodGet)
				if resp.StatusCode != http.StatusOK {
					t.Errorf("%.40s: status %d", request, resp.StatusCode)
				}
			}
		}
		c.send(" and more")
		_ = c.CloseWrite()
		c.ended()
		s.endsAs(t, library.EndedClean, "sound and more")
		if titles, _ := s.said(); len(titles) != 4 || titles[0] != "a b" || titles[3] != "Mötley" {
			t.Errorf("titles are %q", titles)
		}
		if s.request.Mount != icyMount || !s.request.PasswordOnly || s.request.RemoteAddr == "" {
			t.Errorf("claimed with %+v", s.request)
		}
	}
}

// TestICYRefused: whoever has no password hears so at once, and what is no
// line is not waited for.
func TestICYRefused(t *testing.T) {
	d := openDoor(t, Config{ICYAddress: "127.0.0.1:0", HeadWait: 200 * time.Millisecond})
	for _, line := range []string{"wrong\r\n", "\r\n", strings.Repeat("x", 500) + "\r\n"} {
		c := d.dialICY(t)
		c.send(line)
		c.exactly(icyDenied)
	}
	for _, junk := range []string{
		"\x16\x03\x01\x02\x00", strings.Repeat("x", 5000), "half a line", "pass\x00word\r\n",
		"GET / HTTP/9.9\r\n\r\n",
	} {
		c := d.dialICY(t)
		c.send(junk)
		if resp, _ := c.answer(methodGet); resp.StatusCode < 400 || resp.StatusCode > 499 {
			t.Errorf("%.20q: status %d", junk, resp.StatusCode)
		}
	}
	for _, head := range []string{"icy-name: x\r\n", strings.Repeat("a: b\r\n", 200)} {
		d.lib.mu.Lock()
		d.lib.used = map[string]bool{}
		d.lib.mu.Unlock()
		c := d.dialICY(t)
		c.send("bar\r\n")
		c.exactly(icyWelcome)
		c.send(head) // without an end, or too many
		c.ended()
		d.session(t).endsAs(t, library.EndedCut, "")
	}
}

// TestICYPortServesHTTP: an encoder that was told the wrong one of two ports
// is served all the same.
func TestICYPortServesHTTP(t *testing.T) {
	d := openDoor(t, Config{ICYAddress: "127.0.0.1:0"})
	head, sound := split(t, file(t, "source.bin"))
	c := d.dialICY(t)
	c.send(head)
	c.exactly(answerSource)
	c.send(sound)
	_ = c.CloseWrite()
	d.session(t).endsAs(t, library.EndedClean, sound)
}

// FuzzPeekLine: a line is found the same however it arrives, nothing is taken,
// and nothing that is let through holds control characters.
func FuzzPeekLine(f *testing.F) {
	for _, s := range []string{
		"bar\r\nicy-name: x\r\n\r\n", "foo:bar\n", "GET / HTTP/1.0\r\n\r\n", "\x16\x03\x01", "\r\n", "a\rb\n",
		strings.Repeat("x", 600) + "\r\n", "SOURCE /x ICE/1.0\r\n\r\n", "",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		in := inputOf(bytes.NewReader(p))
		line, err := in.peekLine(icyLineBytesMax)
		slow, slowErr := inputOf(iotest.OneByteReader(bytes.NewReader(p))).peekLine(icyLineBytesMax)
		if (err == nil) != (slowErr == nil) || !bytes.Equal(line, slow) {
			t.Fatalf("at once %q %v, byte by byte %q %v", line, err, slow, slowErr)
		}
		if err != nil {
			return
		}
		if bytes.ContainsFunc(bytes.ReplaceAll(line, []byte("\r"), nil), func(r rune) bool {
			return r < ' ' && r != '\t'
		}) {
			t.Fatalf("line %q", line)
		}
		taken, err := in.line()
		if err != nil || !bytes.Equal(taken, bytes.TrimSuffix(line, []byte("\r"))) && !bytes.Equal(taken, line) {
			t.Fatalf("peeked %q, took %q, %v", line, taken, err)
		}
	})
}

// FuzzMetadata: whatever a metadata request says, the title is short text that
// can split neither a head nor a log line nor a metadata block.
func FuzzMetadata(f *testing.F) {
	for _, q := range []string{
		"mode=updinfo&mount=/x&song=a%20b", "song=%ff%fe&charset=latin1", "artist=a&title=b", "song=%0d%0aX:%20y",
		"song=%00", "%zz", "song=" + strings.Repeat("x", 2000), "song=';StreamUrl='x", "charset=utf-8&song=%c3",
	} {
		f.Add(q)
	}
	f.Fuzz(func(t *testing.T, query string) {
		r := &request{target: "/admin/metadata?" + query}
		_, q, err := r.path()
		if err != nil {
			return
		}
		title := titleOf(q.Get("song"), q.Get("artist"), q.Get("title"), q.Get("charset"))
		if len(title) > library.TextBytesMax || strings.ContainsFunc(title, unicode.IsControl) ||
			strings.ToValidUTF8(title, "") != title {
			t.Fatalf("%q makes the title %q", query, title)
		}
	})
}
