package streamserver

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"carillon/audio/mpeg"
	"carillon/internal/web"
	"carillon/library"
)

// listen asks for a stream over a connection of its own.
func (n *node) listen(t *testing.T, request string) (*http.Response, net.Conn) {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", n.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(conn, request+"\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close() // first: Body.Close reads to the end
		_ = resp.Body.Close()
	})
	return resp, conn
}

// Goal: an item asked for as extant, a playlist and the URL of a lookup are MP3
// without an end, with metadata for who asks, and other forms of them are
// refused with a pointer.
func TestContinuousStreams(t *testing.T) {
	lib := openLibrary(t)
	n := newNode(t, lib, web.Config{})
	store(t, lib, "song.wav", wav(t, 40_000))
	if _, _, err := lib.PutPlaylist(t.Context(), library.Playlist{
		Account: "acc", ID: "moh", Name: "Hold", Items: []string{"song.wav"},
	}, "", ""); err != nil {
		t.Fatal(err)
	}
	found, err := lib.Lookup(t.Context(), library.LookupRequest{Account: "acc", Name: "moh"})
	if err != nil {
		t.Fatal(err)
	}
	signed := found.StreamURL[len("http://127.0.0.1:8080"):]
	for _, path := range []string{
		"/media/acc/song.wav?stream=extant", "/media/acc/song.mp3?stream=extant",
		"/media/acc/moh", "/media/acc/moh.mp3", signed,
	} {
		for _, version := range []string{"1.0", "1.1"} {
			resp, conn := n.listen(t, "GET "+path+" HTTP/"+version) //nolint:bodyclose // listen does
			chunked := fmt.Sprint(resp.TransferEncoding) == "[chunked]"
			if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "audio/mpeg" ||
				resp.ContentLength != -1 || chunked != (version == "1.1") || resp.Header.Get("Icy-Metaint") != "" {
				t.Fatalf("%s: %+v", path, resp)
			}
			p := make([]byte, 12_000) // three seconds at 32 kbit/s
			if _, err := io.ReadFull(resp.Body, p); err != nil {
				t.Fatal(err)
			}
			if h, err := mpeg.ParseHeader(p); err != nil || h.SampleRate != 8000 || h.BitRate != 32000 {
				t.Errorf("%s: begins with %x, %v", path, p[:4], err)
			}
			_ = conn.Close()
		}
	}
	resp, _ := n.listen(t, "GET /media/acc/moh HTTP/1.1\r\nIcy-MetaData: 1") //nolint:bodyclose // listen does
	p := make([]byte, 16_000+1+32)
	if _, err := io.ReadFull(resp.Body, p); err != nil || resp.Header.Get("Icy-Metaint") != "16000" ||
		resp.Header.Get("Icy-Name") != "Hold" || string(p[16_001:16_001+23]) != "StreamTitle='song.wav';" {
		t.Errorf("%v, %v, %q", err, resp.Header, p[16_000:])
	}
	for path, status := range map[string]int{
		"/media/acc/moh.raw": 409, "/media/acc/song.wav?stream=other": 400, "/media/acc/moh.wav": 409,
		"/media/acc/moh?rate=44100": 400, "/media/acc/none?stream=extant": 404, "/media/acc/moh?rate=1": 400,
	} {
		resp, _ = n.listen(t, "GET "+path+" HTTP/1.1") //nolint:bodyclose // listen does
		if resp.StatusCode != status || resp.ContentLength != 0 {
			t.Errorf("%s: status %d with %d bytes, want %d", path, resp.StatusCode, resp.ContentLength, status)
		}
	}
	resp, _ = n.listen(t, "HEAD /media/acc/moh HTTP/1.1") //nolint:bodyclose // listen does
	if resp.StatusCode != http.StatusOK {
		t.Errorf("HEAD: %d", resp.StatusCode)
	}
}

// Goal: the listener beyond what a mount may have is refused.
func TestListenersMax(t *testing.T) {
	lib := openLibrary(t)
	n := newNode(t, lib, web.Config{})
	store(t, lib, "song.wav", wav(t, 40_000))
	for i := range 21 {
		resp, _ := n.listen(t, "GET /media/acc/song.wav?stream=extant HTTP/1.1") //nolint:bodyclose // listen does
		want := http.StatusOK
		if i == 20 {
			want = http.StatusServiceUnavailable
		}
		if resp.StatusCode != want {
			t.Errorf("listener %d: status %d", i+1, resp.StatusCode)
		}
	}
}

// Goal: what an account's settings ask of its listeners is asked for.
func TestListenerAuth(t *testing.T) {
	lib := openLibrary(t)
	n := newNode(t, lib, web.Config{})
	store(t, lib, "a.wav", wav(t, 4000))
	set := func(mode string) {
		t.Helper()
		if _, err := lib.UpdateAccount(t.Context(), "acc", "", func(s *library.AccountSettings) error {
			s.ListenerAuth = library.ListenerAuth{Mode: mode}
			if mode == library.ListenBasic {
				s.ListenerAuth.User, s.ListenerAuth.Password = "kim", "a secret of some length"
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	set(library.ListenToken)
	found, err := lib.Lookup(t.Context(), library.LookupRequest{Account: "acc", Name: "a.wav"})
	if err != nil {
		t.Fatal(err)
	}
	signed := found.StreamURL[len("http://127.0.0.1:8080"):]
	// kim and the password
	const right = "\r\nAuthorization: Basic a2ltOmEgc2VjcmV0IG9mIHNvbWUgbGVuZ3Ro"
	const wrong = "\r\nAuthorization: Basic a2ltOndyb25n"
	check := func(what, request string, status int) {
		t.Helper()
		resp, _ := n.listen(t, "GET "+request) //nolint:bodyclose // listen does
		if resp.StatusCode != status {
			t.Errorf("%s: status %d, want %d", what, resp.StatusCode, status)
		}
		if status == 401 && resp.Header.Get("Www-Authenticate") != `Basic realm="carillon"` {
			t.Errorf("%s: %v", what, resp.Header)
		}
	}
	check("token mode, plain", "/media/acc/a.wav HTTP/1.1", 403)
	check("token mode, signed", signed+" HTTP/1.1", 200)
	check("token mode, API token", "/media/acc/a.wav HTTP/1.1\r\nAuthorization: Bearer "+testToken, 200)
	set(library.ListenBasic)
	check("basic mode, plain", "/media/acc/a.wav HTTP/1.1", 401)
	check("basic mode, wrong", "/media/acc/a.wav HTTP/1.1"+wrong, 401)
	check("basic mode, right", "/media/acc/a.wav HTTP/1.1"+right, 200)
	check("basic mode, signed", signed+" HTTP/1.1", 200)
	n.allow.Store(false)
	check("basic mode, right, elsewhere", "/media/acc/a.wav HTTP/1.1"+right, 200)
	set("")
	check("no mode, elsewhere", "/media/acc/a.wav HTTP/1.1", 403)
	n.allow.Store(true)
	check("no mode", "/media/acc/a.wav HTTP/1.1", 200)
}
